"""Strangers at the port of a real ppfs and of a real ppfs-node: they learn nothing, and nobody else notices them."""
import contextlib
import resource
import socket
import ssl
import subprocess
import threading

import pytest
from noderig import key_of, listens, nodes_of, value
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
        node = new_node("--name", "remote_end", join=m).up(m)  # behind them, and let in
        m.put("j.sh", "#!/bin/sh\necho done\n")
        assert m.result("j.sh") == b"done\n"
        assert set(nodes_of(m)) == {"local", "remote_end"}
    wait_until(lambda: refusals(log_of(m)), "the refusal to be logged")
    assert len(refusals(log_of(m))) == 1, log_of(m)
    assert node.process.poll() is None


@pytest.mark.parametrize("end", ["ppfs", "node"])
def test_who_has_no_key(ml, new_node, end):
    m = ml
    if end == "ppfs":
        address, log = listens(m), lambda: log_of(m)
    else:
        node = new_node("--listen", "127.0.0.1:0", "--name", "listening", key=m.statedir / "join.key")
        address, log = node.address(), node.log
    with connect(address) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := plain.recv(4096):
                answer += piece
        if end == "ppfs":
            assert len(answer) <= 7 and answer[:1] in (b"", b"\x15")  # nothing, or a TLS alert
        else:  # whom it takes for a ppfs it asks for TLS, and names its key by a number
            assert answer[:1] == b"\x16" and len(answer) < 600 and b"listening" not in answer
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
        new_node("--name", "remote_end", join=m).up(m)


@pytest.fixture
def rogue(base):
    """The address of a TLS server with a certificate of its own making that lets everybody in; and whom it talked to."""
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2", "-keyout", base / "rogue.key",
             "-out", base / "rogue.pem"]
    subprocess.run(words, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(base / "rogue.pem", base / "rogue.key")
    met, told = [], []

    def serve():
        with contextlib.suppress(OSError):
            while True:
                conn, _ = server.accept()
                met.append(conn)
                with contextlib.suppress(OSError), context.wrap_socket(conn, server_side=True) as channel:
                    told.append(channel.recv(4096))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield "127.0.0.1:%d" % server.getsockname()[1], met, told
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_rogue_server_with_a_certificate_is_told_nothing(ml, new_node, rogue):
    m = ml
    address, met, told = rogue
    node = new_node("--name", "remote_end", "--join", address, join=m).up(m)  # it joins one that is right, and the rogue
    wait_until(lambda: len(met) >= 2, "the rogue to be tried again")
    (m.mnt / "nodes" / address).mkdir()
    seen = len(met)
    wait_until(lambda: len(met) >= seen + 4, "ppfs to have tried it as well")
    assert not any(told)
    assert value(m, address, "state") == "down" and value(m, address, "python") == ""
    for log in (node.log(), log_of(m)):
        assert len([line for line in log.splitlines() if address in line]) == 1, log
    m.put("j.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert m.result("j.sh") == b"remote_end\n"


def overhear(to):
    """A server whose one connection is carried to that address. Gives its address and what its client said, as it grows."""
    server = socket.create_server(("127.0.0.1", 0))
    said = bytearray()

    def carry(source, destination, notes=None):
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if notes is not None:
                    notes.extend(piece)
                destination.sendall(piece)
        with contextlib.suppress(OSError):
            destination.shutdown(socket.SHUT_WR)

    def serve():
        near, remote_end = server.accept()[0], connect(to)
        server.close()
        remote_end.settimeout(None)
        back = threading.Thread(target=carry, args=(remote_end, near), daemon=True)
        back.start()
        carry(near, remote_end, said)
        back.join()
        near.close()
        remote_end.close()

    threading.Thread(target=serve, daemon=True).start()
    return "127.0.0.1:%d" % server.getsockname()[1], said


def test_who_repeats_what_a_node_said_gets_nowhere(ml, new_node):
    """All of it, and each beginning of it: a record of the wire is no key."""
    m = ml
    address, said = overhear(listens(m))
    node = new_node("--name", "remote_end", key=key_of(m), join=address).up(m)
    m.put("j.sh", "#!/bin/sh\necho done\n")
    assert m.result("j.sh") == b"done\n" and len(said) > 500
    tape = bytes(said)
    for size in (len(tape), len(tape) // 2, 300, 100, 5, 1):
        with connect(listens(m)) as conn, contextlib.suppress(ConnectionResetError, BrokenPipeError):
            conn.sendall(tape[:size])
            conn.shutdown(socket.SHUT_WR)
            while conn.recv(4096):
                pass
    wait_until(lambda: refusals(log_of(m)), "the refusal to be logged")
    assert len(refusals(log_of(m))) == 1, log_of(m)
    assert nodes_of(m) == ["local", "remote_end"] and value(m, "remote_end", "state") == "up"
    assert log_of(m).count("nodes/remote_end is up") == 1 and node.process.poll() is None
