"""Strangers at the port of a real ppfs and of a real ppfs-node: they learn nothing, and nobody else notices them."""
import contextlib
import resource
import socket
import ssl

import pytest
from noderig import listens, nodes_of
from ppfsmount import wait_until


def connect(address):
    host, _, port = address.rpartition(":")
    return socket.create_connection(("127.0.0.1" if host in ("0.0.0.0", "[::]") else host, int(port)), 20)


def refusals(text):
    return [line for line in text.splitlines() if "refused 127.0.0.1" in line]


def log_of(m):
    return (m.statedir / "ppfs.log").read_text()


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < 2100:
        pytest.skip("a thousand connections need more descriptors than the %d that are allowed here" % hard)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_thousand_connections_at_once(ml, new_node, many_files):
    m = ml
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(connect(listens(m)))
        node = new_node("--name", "far", join=m).up(m)  # behind them, and let in
        m.put("j.sh", "#!/bin/sh\necho done\n")
        assert m.result("j.sh") == b"done\n"
        assert set(nodes_of(m)) == {"local", "far"}
    wait_until(lambda: refusals(log_of(m)), "the refusal to be logged")
    assert len(refusals(log_of(m))) == 1, log_of(m)
    assert node.process.poll() is None


@pytest.mark.parametrize("end", ["ppfs", "node"])
def test_who_has_no_key(ml, new_node, end):
    m = ml
    if end == "ppfs":
        address, log = listens(m), lambda: log_of(m)
    else:
        node = new_node("--listen", "127.0.0.1:0", "--name", "listening", key=m.statedir / "key")
        address, log = node.address(), node.log
    with connect(address) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plain.recv(4096):
                answer += piece
        assert len(answer) <= 7 and answer[:1] in (b"", b"\x15")  # nothing, or a TLS alert
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with connect(address) as conn, pytest.raises((ssl.SSLError, ConnectionResetError)):
        context.wrap_socket(conn)
    wait_until(lambda: refusals(log()), "the refusal to be logged")
    assert len(refusals(log())) == 1, log()
    if end == "node":  # and it still serves
        (m.mnt / "nodes" / address).mkdir()
        node.up(m, address)
    else:
        new_node("--name", "far", join=m).up(m)
