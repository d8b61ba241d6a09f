"""What a node that says what it likes can do to the ppfs and to other nodes with the same key."""
import errno
import socket
import struct
import threading

import pytest
from noderig import make_key, nodes_of, value
from ppfsmount import high_water, sanitized, wait_until
from rogue import MOUNT_SIDE, WELCOME, Rogue, network_process
from streamframes import MAGIC, call, naming, sent


@pytest.fixture
def rm(new_mount, base):
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "600"], env=network_process(base)).start()


@pytest.fixture
def come(rm, base):
    """Takes the names that so many say, each from another address, and returns those that they get."""
    def come(*names):
        new = [Rogue(base, "10.0.%d.%d" % divmod(len(come.there) + i, 250)) for i in range(len(names))]
        for rogue, name in zip(new, names):
            rogue.about(name)
        come.there += new
        return [rogue.hear(WELCOME).decode() for rogue in new]
    come.there = []
    return come


def test_thousands_of_one_name_are_numbered_and_cost_no_more_than_others(rm, come):
    """With a look at all names for each number that is tried this takes minutes, in which nothing else is done."""
    count = 300 if sanitized() else 2500
    names = come(*["x"] * count)
    assert sorted(names) == sorted(["x"] + ["x-%d" % n for n in range(2, count + 1)])
    come.there[names.index("x-7")].socket.close()
    come.there[names.index("x-9")].send(41, b"")  # GOODBYE
    wait_until(lambda: value(rm, "x-9", "state") == "down", "it to leave")
    assert come("x") == ["x-9"]
    rm.put("s.sh", "#!/bin/sh\necho hello")
    (rm.node / "cpus").write_text("1\n")
    for rogue in come.there:
        rogue.socket.close()
    assert rm.result("s.sh") == b"hello\n"


def up_nodes(m):
    return [name for name in nodes_of(m)[1:] if value(m, name, "state") == "up"]


def test_names_with_numbers(rm, base):
    """Who has a name already says that it is alive, or the next one would wait ten seconds for that."""
    long = "n" * 63
    there = []

    def one(name):
        rogue = Rogue(base, "10.0.0.%d" % len(there))
        rogue.about(name)
        there.append(rogue)
        return rogue.hear(WELCOME, there[:-1]).decode()
    assert one("local") == "local-2"
    assert [one(name) for name in ("a-2", "a", "a", "a-02", "a-2", "a-2", long, long)] == [
        "a-2", "a", "a-3", "a-02", "a-2-2", "a-2-3", long, "n" * 50 + "-2"]


NODE_SIDE = """\
    # Writes down what discovery is to show of the node, and how the node greets whom it dials.
    while True:
        m = s.recv(65536)
        if not m:
            sys.exit()
        kind, number = struct.unpack_from("<II", m)
        if kind == 2:
            key = m[200:216]
        elif kind == 6:
            open(here + "/shown", "wb").write(m)
        elif kind == 8:
            s.send(struct.pack("<I", 15) + bytes(len(m) - 4))
        elif kind == 5:
            ours, theirs = socket.socketpair()
            m = bytearray(len(m))
            struct.pack_into("<III", m, 0, 12, number, number)
            m[152:168], m[168:200] = key, b"b" * 32
            s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
            theirs.close()
            hello = ours.recv(80, socket.MSG_WAITALL)
            open(here + "/said", "wb").write(hello[32:48])
            ours.close()
"""


def test_discovery_does_not_show_how_a_node_greets(new_node, base):
    """Who has the same key and greets so ends the node's session."""
    with socket.create_server(("127.0.0.1", 0)) as there:
        new_node("--discover=239.255.77.70%lo:60079", "--join", "127.0.0.1:%d" % there.getsockname()[1], key=make_key(base / "key"),
                 env=network_process(base, NODE_SIDE))
        wait_until(lambda: (base / "said").exists() and len((base / "said").read_bytes()) == 16, "it to greet")
        assert len((base / "shown").read_bytes()) > 216 and (base / "said").read_bytes() not in (base / "shown").read_bytes()


def test_thousands_that_leave_at_once_are_soon_forgotten_and_crowd_no_log(rm, come, base):
    """With a look at all of them for each one that goes the mount stands still for seconds."""
    count = 200 if sanitized() else 1000
    come(*["x%d" % n for n in range(count)])
    for rogue in come.there:
        rogue.send(245, b"")  # BYE: lost, not gone for good
    wait_until(lambda: not up_nodes(rm), "all of them to be lost")
    wait_until(lambda: len(nodes_of(rm)) == 33, "but 32 of them to be forgotten")
    there = nodes_of(rm)
    back = Rogue(base, "10.9.9.9")
    back.about(there[1])
    assert back.hear(WELCOME).decode() == there[1]
    assert value(rm, there[1], "state") == "up" and nodes_of(rm) == there
    lines = rm.log().splitlines()
    assert sum(" is up: " in line or " is gone: " in line for line in lines) <= 600
    assert sanitized() or sum("(no more of nodes for a minute)" in line for line in lines) == 1


def test_thousands_that_wait_for_names_of_others(rm, come, base):
    """Ten times a second each looks at who has its name: with a look at all names that is all the daemon does."""
    count = 150 if sanitized() else 2000
    names = come(*["x%d" % n for n in range(count)])
    wait = [Rogue(base, "10.1.%d.%d" % divmod(n, 250)) for n in range(count)]
    for rogue, name in zip(wait, names):
        rogue.about(name)
    for rogue in come.there:
        rogue.send(245, b"")  # BYE
    assert all(rogue.hear(WELCOME).decode() in (name, name + "-2") for rogue, name in zip(wait, names))


ANSWERS = """
            elif kind == 5:
                ours, theirs = socket.socketpair()
                m = bytearray(size)
                struct.pack_into("<III", m, 0, 12, number, 100000 + number)
                m[152:168], m[168:200] = key, b"b" * 32
                s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
                theirs.close()
                dialled = ours
"""


def test_who_is_dialled_and_finds_no_place_is_told_of(new_mount, base):
    """As many as may be with one key say nothing, for the five seconds that they have."""
    rm = new_mount(cpus=0, options=["--listen", "127.0.0.1:0"], env=network_process(base, MOUNT_SIDE.rstrip() + ANSWERS)).start()
    wait_until(lambda: (base / "door").exists(), "the door to be there")
    silent = []

    def ended(there):
        try:
            while there.recv(4096, socket.MSG_DONTWAIT):
                pass
            return True
        except BlockingIOError:
            return False

    def fill():
        """More than there are places for; how many had been sent away."""
        gone = [there for there in silent if ended(there)]
        for there in gone:
            silent.remove(there)
            there.close()
        for n in range(300 - len(silent)):
            silent.append(socket.socket(socket.AF_UNIX))
            silent[-1].connect(str(base / "door"))
            silent[-1].sendall(socket.inet_aton("10.0.%d.%d" % divmod(n, 250)))
        return len(gone)

    def why():
        fill()
        return value(rm, name, "why")
    with socket.create_server(("127.0.0.1", 0)) as there:
        wait_until(fill, "one to find no place")
        name = "127.0.0.1:%d" % there.getsockname()[1]
        (rm.mnt / "nodes" / name).mkdir()
        wait_until(lambda: "was reached and cannot be greeted now: as many" in why(), "the reason to be given")
    assert "cannot be greeted now" in rm.log()


CALL_VALUES, NEED = 8, 37


@pytest.mark.parametrize("size, count", [(60 << 10, 4000), (300 << 10, 2000)])
def test_a_node_that_asks_for_a_value_again_and_again(rm, base, size, count):
    rogue = Rogue(base, "10.0.0.1")
    rogue.about("x", uid=1, python=wait_until(lambda: value(rm, "local", "python"), "the workers' Python to be known"))
    rogue.hear(WELCOME)
    digest, func = sent(bytes(size))
    rm.put("s", MAGIC + func + naming(1, len, b"", lists=[digest]))
    rogue.hear(CALL_VALUES)  # of the first work, whose ref is 0
    since = high_water(rm.pids()["daemon"])
    ask = struct.pack("<IB3xQ", 32, NEED, 1) + digest
    try:
        for _ in range(count):
            rogue.socket.sendall(ask)
    except OSError:  # it was let go
        pass
    wait_until(lambda: "makes no sense" in value(rm, "x", "why") or "makes no sense" in rm.log(), "it to be let go")
    assert high_water(rm.pids()["daemon"]) - since < 96 << 20 or sanitized()


START, KILL, PART = 1, 12, 34


def test_a_node_that_is_told_to_wait_with_answers_and_does_not(rm, base):
    """No answer is as large as one may be, and all together would fill the memory."""
    leases, piece = 16, bytes(64 << 10)
    rogue = Rogue(base, "10.0.0.1")
    rogue.about("x", cpus=leases, uid=1, python=wait_until(lambda: value(rm, "local", "python"), "the workers' Python to be known"))
    rogue.hear(WELCOME)
    rm.put("s", MAGIC + b"".join(call(n + 1, len, b"") for n in range(leases * 100)))
    for _ in range(leases):
        rogue.hear(START)
    wait_until(lambda: value(rm, "x", "running") == str(leases), "all of its slots to be taken")
    since = high_water(rm.pids()["daemon"])
    with pytest.raises(OSError):
        for _ in range(100 << 20 >> 16):
            for ref in range(leases):
                rogue.socket.sendall(struct.pack("<IB3xQ", len(piece), PART, ref << 32 | 1) + piece)
    wait_until(lambda: "was told to wait" in value(rm, "x", "why"), "it to be let go")
    assert high_water(rm.pids()["daemon"]) - since < 640 << 20 or sanitized()


def test_a_job_ends_when_a_node_does_not_tell_its_end(new_mount, base):
    """It is told to kill it, and goes on saying that it is there."""
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "1"], env=network_process(base)).start()
    python = wait_until(lambda: value(m, "local", "python"), "the workers' Python to be known")
    rogue = Rogue(base, "10.0.0.1")
    lives = threading.Event()

    def live():
        while not lives.wait(0.1):
            rogue.about("x", uid=1, python=python)
    thread = threading.Thread(target=live)
    thread.start()
    try:
        rogue.hear(WELCOME)
        m.put("t", "#!/bin/sh\n#ppfs: timeout=0.2\n:")
        rogue.hear(START)
        rogue.hear(KILL)
        assert "it ran longer than 0.2 s" in m.failed("t", errno.ETIMEDOUT) and value(m, "x", "state") == "up"
        m.put("u", "#!/bin/sh\n:")
        rogue.hear(START)
    finally:
        lives.set()
        thread.join()
