"""Clocks that jump, and clocks that differ: only discovery, which compares two machines' clocks, may notice.

The clock of this machine is never touched: libfaketime answers for CLOCK_REALTIME of one process and what it starts, and a
time namespace has a CLOCK_MONOTONIC of its own."""
import ctypes
import os
import re
import signal
import socket
import struct
import subprocess
import time
import uuid
from pathlib import Path

import pytest
from noderig import key_of, node_dir, nodes_of, value
from ppfsmount import lacking, sanitized, wait_until
from processes import alive, kill
from test_network_process import NET, net_of

LIBRARIES = [Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib")]
JUMPS = ("+1h", "-1h", "+1d", "-1d", "+0")


class Clock:
    """The wall clock of those processes that are started with env.

    What libfaketime shares between them is made here: by itself it makes one named after the process, leaves it behind, and
    ends each later process that gets the same number."""

    def __init__(self, path, library):
        self.path = path
        self.set("+0")
        name = "ppfs-clock-%s" % uuid.uuid4().hex
        self.semaphore, self.memory = b"/%s-sem" % name.encode(), Path("/dev/shm") / name
        self.memory.write_bytes(struct.pack("QQ6q", 0, 0, *[0, -1] * 3))  # no calls were counted, no clock has started
        libc = ctypes.CDLL(None)
        libc.sem_open.restype = ctypes.c_void_p
        assert libc.sem_open(self.semaphore, os.O_CREAT | os.O_EXCL, 0o666, 1)
        self.env = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(path), "FAKETIME_NO_CACHE": "1",
                    "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
                    "FAKETIME_SHARED": "%s /%s" % (self.semaphore.decode(), name)}

    def close(self):
        ctypes.CDLL(None).sem_unlink(self.semaphore)
        self.memory.unlink()

    def set(self, offset):
        """"+1h": from now on an hour ahead of the machine's."""
        new = self.path.with_suffix(".new")
        new.write_text(offset + "\n")
        new.rename(self.path)  # whoever reads it finds all of it

    def network(self):
        """The environment of one whose network process has this clock as it is when that starts: it may open no file later."""
        program = self.path.with_suffix(".net")
        program.write_text("#!/bin/sh\nexport LD_PRELOAD=%s FAKETIME=\"$(cat %s)\" FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n"
                           "export FAKETIME_SHARED='%s'\nexec %s\n"
                           % (self.env["LD_PRELOAD"], self.path, self.env["FAKETIME_SHARED"], NET))
        program.chmod(0o755)
        return {**self.env, "PPFS_NET": str(program)}

    def set_network(self, offset, pid):
        """The same for the network process of pid, which is started again."""
        self.set(offset)
        kill(net_of(pid))


@pytest.fixture
def new_clock(base):
    if sanitized():
        pytest.skip("libfaketime and AddressSanitizer both want to be loaded first")
    found = next((p for d in LIBRARIES for p in sorted(d.glob("**/faketime/libfaketime.so.1"))), None)
    if not found:
        lacking("libfaketime.so.1, of the package faketime,")
    clocks = []

    def make(name):
        clocks.append(Clock(base / name, found))
        return clocks[-1]
    yield make
    for clock in clocks:
        clock.close()


@pytest.fixture
def cell(new_clock, new_mount, new_node):
    """(mount without slots, node "far", its clock, the node's clock)"""
    here, there = new_clock("clock-here"), new_clock("clock-there")
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "3"], env=here.env).start()
    node = new_node("--name", "far", "--silence", "3", join=m, env=there.env)
    return m, node.up(m), here, there


def told(m):
    """What the daemon's log says, without its times."""
    return [line.partition(": ")[2] for line in m.log().splitlines()]



def answered(m, stream):
    return int(re.match(r"\d+|$", m.why(stream)).group() or 1 << 60)


@pytest.mark.parametrize("whose", ["ppfs", "node"])
def test_nothing_notices_that_a_clock_jumps(cell, whose):
    m, node, here, there = cell
    m.put("g", m.gate("g"))
    m.put("limited", m.gate("limited").replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: timeout=30m\n"))
    m.pid_of("g")
    m.pid_of("limited")
    (node_dir(m, "far") / "cpus").write_text("3\n")
    wait_until(lambda: "3 slots from now on" in node.log(), "the node to hear of it")
    m.put("calls.jsonl", '{"call": "select.select", "args": [[], [], [], 0.01]}\n' * 600)  # time.sleep fails under libfaketime
    before, log = told(m), node.log()
    for jump in JUMPS:
        (here if whose == "ppfs" else there).set(jump)
        some = answered(m, "calls.jsonl") + 100
        wait_until(lambda: answered(m, "calls.jsonl") > some, "a hundred more calls after %s" % jump)
        assert value(m, "far", "state") == "up"
    assert m.result("calls.jsonl") == b"[[], [], []]\n" * 600
    for name in ("g", "limited"):
        assert m.state(name) == "running"
        m.open_gate(name)
        assert m.result(name) == b"through %s\n" % name.encode() and m.get(name, "attempt") == "1"
    assert told(m) == before and node.log() == log  # no link was lost, nobody came back
    assert value(m, "far", "done") == "602" and value(m, "far", "failed") == "0"


def test_silence_is_noticed_though_the_clock_was_set_back(cell):
    m, node, here, there = cell
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    (m.work / "g.pid").unlink()
    node.signal(signal.SIGSTOP)
    heard = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > heard, "two heartbeats to have been missed")
    here.set("-1h")
    wait_until(lambda: value(m, "far", "state") == "down", "the silence to be noticed")
    there.set("-1h")
    node.signal(signal.SIGCONT)
    wait_until(lambda: not alive(pid), "the old attempt to be killed")
    m.pid_of("g")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"


def test_a_time_limit_is_of_the_time_that_goes_by(cell):
    m, node, here, there = cell
    m.put("first", m.gate("first"))
    m.pid_of("first")
    m.put("limited", "#!/bin/sh\n#ppfs: timeout=1s\necho $$ > %s/limited.pid\nsleep 1000\n" % m.work)
    m.pid_of("limited")
    for clock in (here, there):
        clock.set("-1d")
    assert "timed out" in m.failed("limited", 110)
    m.open_gate("first")
    assert m.wait("first") == "done"


@pytest.mark.parametrize("jump", ["+1d", "-1d"])
def test_a_pause_before_a_retry_is_of_the_time_that_goes_by(new_clock, new_mount, jump):
    clock = new_clock("clock")
    m = new_mount(env=clock.env).start()
    m.put("x", "#!/bin/sh\n#ppfs: retries=3\necho $PPFS_ATTEMPT >> %s/runs\n[ $PPFS_ATTEMPT = 3 ]\n" % m.work)
    wait_until(lambda: m.state("x") == "waiting" and m.get("x", "attempt") == "2", "the second attempt to fail")
    clock.set(jump)
    seconds = re.fullmatch(r"attempt 2 failed \(.*\); the next one starts in (\d+) s", m.why("x"))
    assert m.state("x") != "waiting" or int(seconds.group(1)) <= 2
    assert m.wait("x") == "done"
    assert (m.work / "runs").read_text() == "1\n2\n3\n"


def test_a_pause_that_a_jump_made_endless_ends_when_ppfs_starts_again(new_clock, new_mount):
    clock = new_clock("clock")
    m = new_mount(env=clock.env).start()
    clock.set("+1d")
    m.kill_daemon()  # the next one knows that day only
    m.put("x", "#!/bin/sh\n#ppfs: retries=9\n[ -e %s/go ]\n" % m.work)
    wait_until(lambda: m.state("x") == "waiting" and m.get("x", "attempt") == "3", "the third attempt to fail")
    m.unmount()
    clock.set("+0")
    (m.work / "go").touch()
    m.start()
    seconds = re.search(r"starts in (\d+) s", m.why("x"))
    assert not seconds or int(seconds.group(1)) <= 60
    m.put("y", "#!/bin/sh\necho now\n")
    assert m.result("y") == b"now\n"


def test_times_are_those_of_the_clock(new_clock, new_mount):
    clock = new_clock("clock")
    m = new_mount(env=clock.env).start()
    clock.set("-30d")
    m.put("x", "#!/bin/sh\n")
    assert m.wait("x") == "done"
    age = (m.work.stat().st_mtime - (m.results / "x").stat().st_mtime) / 86400
    assert 29 < age < 31
    assert all(abs(t - (m.results / "x").stat().st_mtime) < 3600 for t in m.times("x").values())


# --- discovery --------------------------------------------------------------------------------------------------------

@pytest.fixture
def group():
    """("239.255.77.70%lo:PORT", a function that counts the packets that were sent there)"""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", 0))
        port = s.getsockname()[1]
    ear = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    ear.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    ear.bind(("239.255.77.70", port))
    ear.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP,
                   struct.pack("4s4si", socket.inet_aton("239.255.77.70"), bytes(4), socket.if_nametoindex("lo")))
    ear.setblocking(False)
    kinds = []

    def heard(kind):
        try:
            while True:
                kinds.append(ear.recv(200)[9])
        except BlockingIOError:
            return kinds.count(kind)

    with ear:
        yield "239.255.77.70%%lo:%d" % port, heard


@pytest.mark.parametrize("ahead", ["+1h", "-1h"])
def test_discovery_refuses_what_is_of_another_time_and_says_so_once(new_clock, new_mount, new_node, group, ahead):
    where, heard = group
    clock = new_clock("clock")
    clock.set(ahead)
    m = new_mount(cpus=0).start()
    node = new_node("--discover=" + where, "--name", "found", key=key_of(m), env=clock.network())
    wait_until(lambda: "listen" in node.log() or heard(3), "the node to have come")
    (m.mnt / "nodes" / ".discover").write_text(where + "\n")
    wait_until(lambda: heard(1) >= 3, "three queries")
    wait_until(lambda: node.log().count("clock") == 1, "the node to say why it does not answer")
    assert "more than 30 s apart" in node.log()
    assert nodes_of(m) == ["local"]
    clock.set_network("+0", node.pid)
    node.up(m)
    m.put("who.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert m.result("who.sh") == b"found\n"
    clock.set_network(ahead, node.pid)  # what has been found stays
    new_node("--discover=" + where, "--name", "second", key=key_of(m)).up(m)  # when it comes everybody is asked
    node.up(m)
    assert nodes_of(m) == ["local", "found", "second"]
    m.put("again.sh", "#!/bin/sh\n#ppfs: node=found\necho $PPFS_NODE\n")
    assert m.result("again.sh") == b"found\n"


# --- CLOCK_MONOTONIC --------------------------------------------------------------------------------------------------

def test_machines_were_not_started_at_the_same_time(ml, new_node):
    """A node far ahead of us, one that was started just now, and we."""
    m = ml
    probe = ["unshare", "-T", "--monotonic", "1000000", "--fork", "true"]
    if os.geteuid() or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("no time namespaces here (they need root and unshare -T)")
    uptime = int(float(Path("/proc/uptime").read_text().split()[0]))
    nodes = [new_node("--name", "far%d" % i, join=m, cpus=1, wrap=["unshare", "-T", "--monotonic", shift, "--fork"])
             for i, shift in enumerate(("1000000", str(1 - uptime)))]
    for node in nodes:
        node.up(m)
        m.put("g" + node.name, m.gate("g" + node.name).replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: node=%s\n" % node.name))
        m.pid_of("g" + node.name)
        (node_dir(m, node.name) / "cpus").write_text("2\n")
    before = told(m)
    m.put("calls.jsonl", '{"call": "time.sleep", "args": [0.02]}\n' * 400)
    assert m.result("calls.jsonl") == b"null\n" * 400
    for node in nodes:
        m.open_gate("g" + node.name)
        assert m.wait("g" + node.name) == "done" and m.get("g" + node.name, "attempt") == "1"
        assert int(value(m, node.name, "done")) > 20
    assert told(m) == before
