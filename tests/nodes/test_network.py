"""The tests' own network does what the other tests believe of it."""
import contextlib
import socket
import threading
import time

import netns
import pytest
from ppfsmount import wait_until
from relay import Relay

ECHO = """
import socket, sys
s = socket.create_server((sys.argv[1], 7777))
print("up", flush=True)
while True:
    c = s.accept()[0]
    while data := c.recv(65536):
        c.sendall(data)
"""


@contextlib.contextmanager
def echo_server():
    """HOST:PORT of something that says everything back."""
    server = socket.create_server(("127.0.0.1", 0))
    held = []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                held.append(server.accept()[0])
                threading.Thread(target=echo, args=(held[-1],), daemon=True).start()

    def echo(conn):
        with contextlib.suppress(OSError):
            while data := conn.recv(65536):
                conn.sendall(data)
            conn.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield "127.0.0.1:%d" % server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        for conn in held:
            conn.close()


def dial(address, timeout=20):
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), timeout)


def ask(conn, data=b"x"):
    conn.sendall(data)
    got = b""
    while len(got) < len(data):
        piece = conn.recv(65536)
        assert piece
        got += piece
    return got


def silent(conn):
    """Nothing comes for a moment."""
    conn.settimeout(0.3)
    try:
        return conn.recv(1) is None
    except TimeoutError:
        return True
    finally:
        conn.settimeout(20)


def test_relay_carries_and_counts():
    with echo_server() as to, Relay(to) as relay, dial(relay.address) as conn:
        data = bytes(range(256)) * 8000
        threading.Thread(target=conn.sendall, args=(data,), daemon=True).start()
        got = b""
        while len(got) < len(data):
            got += conn.recv(1 << 20)
        assert got == data
        assert relay.count() == (1, 1, len(data), len(data))


def test_relay_delays_each_way():
    with echo_server() as to, Relay(to, 0.1, 0.2) as relay, dial(relay.address) as conn:
        before = time.monotonic()
        ask(conn)
        assert time.monotonic() - before >= 0.3  # at least: no bound above
        relay.delay(0, 0)
        assert ask(conn, b"y") == b"y"


def test_relay_freezes_and_thaws():
    with echo_server() as to, Relay(to) as relay, dial(relay.address) as conn:
        for way, moved in (("both", (0, 0)), ("up", (0, 0)), ("down", (1, 0))):
            assert ask(conn) == b"x"
            before = relay.count()
            relay.freeze(way)
            conn.sendall(b"y")
            assert silent(conn)
            after = relay.count()
            assert (after[2] - before[2], after[3] - before[3]) == moved
            relay.thaw()
            assert conn.recv(1) == b"y"


@pytest.mark.parametrize("how", ["cut", "reset"])
def test_relay_cuts_and_refuses(how):
    with echo_server() as to, Relay(to) as relay:
        conn = dial(relay.address)
        ask(conn)
        getattr(relay, how)()
        try:
            assert conn.recv(1) == b"" and how == "cut"
        except ConnectionResetError:
            assert how == "reset"
        conn.close()
        assert ask(dial(relay.address)) == b"x"
        relay.refuse()
        with pytest.raises(ConnectionRefusedError):
            dial(relay.address)
        relay.accept()
        assert ask(dial(relay.address)) == b"x"


def test_relay_hands_on_the_end():
    with echo_server() as to, Relay(to) as relay, dial(relay.address) as conn:
        conn.sendall(b"z")
        conn.shutdown(socket.SHUT_WR)
        assert conn.recv(10) == b"z" and conn.recv(10) == b""


# --- namespaces -------------------------------------------------------------------------------------------------
TALK = """
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], 7777), 1)
    s.sendall(b"hello"); s.settimeout(1)
    print(s.recv(5).decode())
except OSError as e:
    print("no")
"""


def server_on(host):
    import subprocess
    process = subprocess.Popen([*host.wrap, "/usr/bin/python3", "-c", ECHO, host.address], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "up\n"
    return process


@contextlib.contextmanager
def two_hosts(*programs):
    reason = netns.why_not(*programs)
    if reason:
        pytest.skip(reason)
    with netns.Net(2) as net:
        server = server_on(net.hosts[1])
        try:
            yield net, *net.hosts
        finally:
            server.kill()
            server.wait()
            server.stdout.close()


def talk(a, b):
    return a.run("/usr/bin/python3", "-c", TALK, b.address).strip()


def reaches(a, b):
    """A wire that has just been plugged in carries nothing for a while, and a busy machine answers late."""
    wait_until(lambda: talk(a, b) == "hello", "%s to reach %s" % (a.name, b.name))


def test_hosts_reach_each_other_until_one_is_unplugged():
    with two_hosts() as (net, a, b):
        reaches(a, b)
        net.unplug(b)
        assert talk(a, b) == "no"
        net.plug(b)
        reaches(a, b)


def test_a_deaf_host_can_still_speak():
    with two_hosts("nft") as (net, a, b):
        net.deaf(b, a)
        assert talk(a, b) == "no"
        net.hear(b)
        reaches(a, b)
        # One way only: what b sends to a still comes.
        net.deaf(b, a)
        hears = a.run("/usr/bin/python3", "-c", """
import socket, subprocess, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((%r, 7778)); s.settimeout(20)
subprocess.run(["nsenter", "--net=/run/netns/%s", "/usr/bin/python3", "-c",
                "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'hi', (%r, 7778))"], check=True)
print(s.recv(10).decode())""" % (a.address, b.name, a.address)).strip()
        assert hears == "hi"


def test_namespaces_are_gone_afterwards():
    reason = netns.why_not()
    if reason:
        pytest.skip(reason)
    with netns.Net(1) as net:
        names = [net.switch, net.hosts[0].name]
    left = netns._run("ip", "netns", "list")
    assert not [n for n in names if n in left]
