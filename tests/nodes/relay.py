"""A TCP relay that can be slow, frozen and cut: the network between a ppfs and a node, as bad as a test wants it.

It is a process of its own, so that the test's own Python does not slow it down, and its bytes go through pipes, by
splice, so that it takes as little of the processors as can be from what is tested. As a program: relay.py HOST:PORT
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
import fcntl
import os
import selectors
import socket
import struct
import subprocess
import sys
import time

CHUNK = 1024 * 1024
NOW = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK
HELD = 16 * 1024 * 1024  # bytes a direction holds before it stops reading: more than 20 ms of a fast link


class Way:
    """One direction of a connection: what was read, and when it is due."""

    def __init__(self, name, origin, destination):
        self.name = name
        self.origin, self.destination = origin, destination
        self.held = collections.deque()  # (due, bytes); 0 bytes: the end
        self.pipes = collections.deque()  # [read end, write end, bytes in it]; what is read goes into the last one
        self.size = 0
        self.ended = False  # the origin has sent all
        self.carried = 0  # bytes written so far

    def add_pipe(self):
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, CHUNK)  # room for 256 pieces, of whatever size they came in
        self.pipes.append([*pipe, 0])

    def fill(self):
        """Reads from the origin once; the bytes it got."""
        if not self.pipes:
            self.add_pipe()
        for again in (True, False):
            try:
                size = os.splice(self.origin.fileno(), self.pipes[-1][1], CHUNK, flags=NOW)
                self.pipes[-1][2] += size
                return size
            except BlockingIOError:
                if not again or not self.pipes[-1][2]:
                    raise
            self.add_pipe()  # that one is full

    def drain(self, size):
        """Writes up to size bytes to the destination; those that it took."""
        pipe = self.pipes[0]
        size = os.splice(pipe[0], self.destination.fileno(), min(size, pipe[2]), flags=NOW)
        pipe[2] -= size
        if not pipe[2] and len(self.pipes) > 1:
            self.close_pipe()
        return size

    def close_pipe(self):
        read, write, _ = self.pipes.popleft()
        os.close(read)
        os.close(write)

    def close(self):
        self.held.clear()
        while self.pipes:
            self.close_pipe()


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
        self.ways = {}  # socket: (the way it is the origin of, the way it is the destination of)
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
        for sock, origin, destination in ((dialler, up, down), (server, down, up)):
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.ways[sock] = (origin, destination)
        self.accepted += 1

    def close(self, sock, reset=False):
        """Both ends of the connection that the socket belongs to."""
        if sock not in self.ways:
            return
        for way in self.ways[sock]:
            way.close()
        for end in (sock, self.ways[sock][0].destination):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.ways.pop(end, None)
            end.close()

    def read(self, way):
        try:
            size = way.fill()
        except BlockingIOError:
            return
        except OSError:
            self.close(way.origin)
            return
        way.ended = not size
        self.bytes[way.name] += size
        way.size += size
        way.held.append((time.monotonic() + self.delays[way.name], size))

    def write(self, way, now):
        """Writes what is due."""
        try:
            while way.held and way.held[0][0] <= now:
                due, size = way.held[0]
                if not size:
                    way.held.popleft()
                    way.destination.shutdown(socket.SHUT_WR)
                    continue
                n = way.drain(size)
                way.size -= n
                way.carried += n
                if n < size:
                    way.held[0] = (due, size - n)
                else:
                    way.held.popleft()
        except BlockingIOError:
            return
        except OSError:
            self.close(way.origin)
            return
        if self.limit and way.origin in self.ways and sum(w.carried for w in self.ways[way.origin]) >= self.limit:
            self.close(way.origin)
        if way.ended and not way.held and way.origin in self.ways:
            other = self.ways[way.origin][1]
            if other.ended and not other.held:
                self.close(way.origin)

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
        for sock, (origin, destination) in self.ways.items():
            events = 0
            if origin.name not in self.frozen and not origin.ended and origin.size < HELD:
                events |= selectors.EVENT_READ
            if destination.name not in self.frozen and destination.held:
                if destination.held[0][0] <= now:
                    events |= selectors.EVENT_WRITE
                else:
                    due = min(due or destination.held[0][0], destination.held[0][0])
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
            for origin, _ in list(self.ways.values()):
                if origin.origin in self.ways and origin.name not in self.frozen and origin.held:
                    self.write(origin, now)
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
