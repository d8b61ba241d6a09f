"""A TCP relay that can be slow, frozen and cut: the network between a ppfs and a node, as bad as a test wants it.

It is a process of its own, so that the test's own Python does not slow it down. As a program: relay.py HOST:PORT
prints its address, then obeys one command a line on stdin and answers "ok" (or the numbers asked for):

    delay UP DOWN          seconds for what is read from now on; up: from the dialler to HOST:PORT
    freeze up|down|both    nothing moves that way, and both ends see an open connection, as when a cable is pulled
    thaw
    cut                    closes every connection (freeze both first, and the ends will not hear of it)
    reset                  the same by RST
    limit BYTES            a connection that has carried so many, both ways together, is closed; 0: none is
    refuse | accept        whether there is anybody to connect to
    count                  connections open, accepted so far, bytes up, bytes down
"""
import collections
import selectors
import socket
import struct
import subprocess
import sys
import time

CHUNK = 256 * 1024
HELD = 16 * 1024 * 1024  # bytes a direction holds before it stops reading: more than 20 ms of a fast link


class Way:
    """One direction of a connection: what was read, and when it is due."""

    def __init__(self, name, source, sink):
        self.name = name
        self.source, self.sink = source, sink
        self.held = collections.deque()  # (due, memoryview)
        self.size = 0
        self.ended = False  # the source has sent all
        self.carried = 0  # bytes written so far


class Relay:
    """The relay as a test uses it: starts the process, and has one method a command."""

    def __init__(self, to, up=0.0, down=0.0, wrap=()):
        self.process = subprocess.Popen([*wrap, "/usr/bin/python3", __file__, to], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, bufsize=1)
        self.address = self.process.stdout.readline().strip()
        assert self.address, "the relay did not start"
        if up or down:
            self.delay(up, down)

    def say(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        answer = self.process.stdout.readline().split()
        assert answer, "the relay has died"
        return answer

    def delay(self, up, down):
        self.say("delay", up, down)

    def freeze(self, way="both"):
        self.say("freeze", way)

    def thaw(self):
        self.say("thaw")

    def cut(self):
        self.say("cut")

    def reset(self):
        self.say("reset")

    def limit(self, size):
        self.say("limit", size)

    def refuse(self):
        self.say("refuse")

    def accept(self):
        self.say("accept")

    def count(self):
        """(open, accepted, bytes up, bytes down)"""
        return tuple(map(int, self.say("count")))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# --- the process ------------------------------------------------------------------------------------------------
class Server:
    def __init__(self, to):
        host, _, port = to.rpartition(":")
        self.to = (host.strip("[]"), int(port))
        self.selector = selectors.DefaultSelector()
        self.delays = {"up": 0.0, "down": 0.0}
        self.frozen = set()
        self.limit = 0
        self.ways = {}  # socket: (the way it is the source of, the way it is the sink of)
        self.accepted = 0
        self.bytes = {"up": 0, "down": 0}
        self.listener = None
        self.address = ("127.0.0.1", 0)
        self.listen()

    def listen(self):
        if self.listener:
            return
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen(256)
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()

    def refuse(self):
        if self.listener:
            self.listener.close()
        self.listener = None

    def connect(self):
        try:
            dialler, _ = self.listener.accept()
        except BlockingIOError:
            return
        try:
            server = socket.create_connection(self.to)
        except OSError:
            dialler.close()
            return
        up, down = Way("up", dialler, server), Way("down", server, dialler)
        for sock, source, sink in ((dialler, up, down), (server, down, up)):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ways[sock] = (source, sink)
        self.accepted += 1

    def close(self, sock, reset=False):
        """Both ends of the connection that the socket belongs to."""
        if sock not in self.ways:
            return
        for end in (sock, self.ways[sock][0].sink):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.ways.pop(end, None)
            end.close()

    def read(self, way):
        try:
            data = way.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.close(way.source)
            return
        way.ended = not data
        if data:
            self.bytes[way.name] += len(data)
            way.size += len(data)
        way.held.append((time.monotonic() + self.delays[way.name], memoryview(data)))

    def write(self, way, now):
        """Writes what is due."""
        try:
            while way.held and way.held[0][0] <= now:
                due, data = way.held[0]
                if not data:
                    way.held.popleft()
                    way.sink.shutdown(socket.SHUT_WR)
                    continue
                n = way.sink.send(data)
                way.size -= n
                way.carried += n
                if n < len(data):
                    way.held[0] = (due, data[n:])
                else:
                    way.held.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.close(way.source)
            return
        if self.limit and way.source in self.ways and sum(w.carried for w in self.ways[way.source]) >= self.limit:
            self.close(way.source)
        if way.ended and not way.held and way.source in self.ways:
            other = self.ways[way.source][1]
            if other.ended and not other.held:
                self.close(way.source)

    def command(self, word, *rest):
        if word == "delay":
            self.delays = {"up": float(rest[0]), "down": float(rest[1])}
        elif word == "freeze":
            self.frozen |= {"up", "down"} if rest[0] == "both" else {rest[0]}
        elif word == "thaw":
            self.frozen = set()
        elif word in ("cut", "reset"):
            for sock in list(self.ways):
                self.close(sock, word == "reset")
        elif word == "limit":
            self.limit = int(rest[0])
        elif word == "refuse":
            self.refuse()
        elif word == "accept":
            self.listen()
        elif word == "count":
            return "%d %d %d %d" % (len(self.ways) // 2, self.accepted, self.bytes["up"], self.bytes["down"])
        else:
            return "what?"
        return "ok"

    def interests(self, now):
        """What to wait for: {file: events}, and for how long."""
        wanted = {sys.stdin: selectors.EVENT_READ}
        due = None
        if self.listener and len(self.frozen) < 2:
            wanted[self.listener] = selectors.EVENT_READ
        for sock, (source, sink) in self.ways.items():
            events = 0
            if source.name not in self.frozen and not source.ended and source.size < HELD:
                events |= selectors.EVENT_READ
            if sink.name not in self.frozen and sink.held:
                if sink.held[0][0] <= now:
                    events |= selectors.EVENT_WRITE
                else:
                    due = min(due or sink.held[0][0], sink.held[0][0])
            if events:
                wanted[sock] = events
        return wanted, None if due is None else due - now

    def run(self):
        print("%s:%d" % self.address, flush=True)
        registered = {}
        while True:
            wanted, timeout = self.interests(time.monotonic())
            for file in [f for f in registered if f not in wanted]:
                self.selector.unregister(file)
                del registered[file]
            for file, events in wanted.items():
                if file not in registered:
                    self.selector.register(file, events)
                elif registered[file] != events:
                    self.selector.modify(file, events)
                registered[file] = events
            for key, events in self.selector.select(timeout):
                if key.fileobj is sys.stdin:
                    line = sys.stdin.readline()
                    if not line:
                        return
                    print(self.command(*line.split()), flush=True)
                elif key.fileobj is self.listener:
                    self.connect()
                elif events & selectors.EVENT_READ and key.fileobj in self.ways:
                    self.read(self.ways[key.fileobj][0])
            now = time.monotonic()
            for source, _ in list(self.ways.values()):
                if source.source in self.ways and source.name not in self.frozen and source.held:
                    self.write(source, now)
            for file in [f for f in registered if f is not sys.stdin and f.fileno() < 0]:
                self.forget(file, registered)

    def forget(self, file, registered):
        """A closed socket that the selector still knows by its object."""
        for fd, key in list(self.selector.get_map().items()):
            if key.fileobj is file:
                self.selector.unregister(fd)
        del registered[file]


if __name__ == "__main__":
    Server(sys.argv[1]).run()
