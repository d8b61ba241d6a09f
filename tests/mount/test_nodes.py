"""ppfs(5), nodes/local/: the slots of this machine, changed while jobs run."""
import errno
import os
import platform
import re

import pytest
from ppfsmount import PENDING, wait_until
from processes import alive


def value(m, what):
    return (m.node / what).read_text().removesuffix("\n")


def running(m, names):
    return [name for name in names if m.state(name) == "running"]


def test_what_there_is(m):
    assert set(os.listdir(m.mnt / "nodes")) == {"local", ".listen", ".discover", ".keys"}
    assert {"cpus", "state", "running", "done", "failed", "seconds", "python", "address",
            "seen", "why"} <= set(os.listdir(m.node))
    assert (m.node / "why").read_text() == ""  # all is well
    assert (m.node / "resources").read_text() == ""  # there are none
    for name in set(os.listdir(m.node)) - {"why", "resources"}:
        assert re.fullmatch(r"[^\n]*\n", (m.node / name).read_text()), name
    assert value(m, "cpus") == "2" and value(m, "state") == "up" and value(m, "running") == "0"
    m.put("x", "print(1)\n")
    m.result("x")
    version = platform.python_version()  # pytest runs under the Python that jobs are built with
    assert value(m, "python") == version


def test_counters(m):
    m.put("a", "#!/bin/sh\nsleep 0.2\n")
    m.put("b", "raise SystemExit(1)\n")
    m.result("a")
    m.failed("b")
    assert value(m, "done") == "1" and value(m, "failed") == "1"
    assert float(value(m, "seconds")) >= 0.2
    m.put("r", m.gate("r"))
    m.pid_of("r")
    assert value(m, "running") == "1"
    m.open_gate("r")
    m.result("r")
    assert value(m, "running") == "0" and value(m, "done") == "2"


def test_cpus_grow_while_jobs_run(m1):
    m = m1
    names = ["a", "b", "c", "d"]
    for name in names:
        m.put(name, m.gate(name))
    m.pid_of("a")
    assert running(m, names) == ["a"] and all(m.why(n) for n in names[1:])
    m.sh("echo 3 > $M/nodes/local/cpus")
    for name in "abc":
        m.pid_of(name)
    assert running(m, names) == ["a", "b", "c"] and value(m, "running") == "3" and value(m, "cpus") == "3"
    for name in names:
        m.open_gate(name)
        m.result(name)


def test_cpus_shrink_while_jobs_run(new_mount):
    """What runs may end; nothing new starts before there is a slot."""
    m = new_mount(cpus=3).start()
    for name in "abc":
        m.put(name, m.gate(name))
        m.pid_of(name)
    (m.node / "cpus").write_text("1\n")
    m.put("d", m.gate("d"))
    for name in "ab":
        m.open_gate(name)
        m.result(name)
    assert m.state("c") == "running" and m.state("d") == "queued"
    m.open_gate("c")
    m.result("c")
    m.pid_of("d")
    m.open_gate("d")
    m.result("d")
    assert m.times("d")["started"] >= m.times("c")["ended"]
    wait_until(lambda: len(m.pids()["workers"]) <= 1, "the superfluous workers to leave")


def test_cpus_to_zero_and_back(m):
    m.put("x", m.gate("x"))
    pid = m.pid_of("x")
    (m.node / "cpus").write_text("0")
    m.put("y", "print('y')\n")
    assert alive(pid) and m.state("x") == "running"
    m.open_gate("x")
    assert m.result("x") == b"through x\n"
    assert m.state("y") in PENDING and m.why("y")
    (m.node / "cpus").write_text("2")
    assert m.result("y") == b"y\n"


def test_cpus_back_and_forth_under_load(m):
    for i in range(300):
        m.put("j%d" % i, {"call": "abs", "args": [-i]})
        if i % 10 == 0:
            (m.node / "cpus").write_text("%d\n" % (i // 10 % 5))
    (m.node / "cpus").write_text("2\n")
    assert (m.info / ".wait").read_text() == "done 300 failed 0\n"


def test_many_slots(m):
    (m.node / "cpus").write_text("40")
    names = ["j%d" % i for i in range(40)]
    for name in names:
        m.put(name, m.gate(name))
    for name in names:
        m.pid_of(name)
    assert len(running(m, names)) == 40
    for name in names:
        m.open_gate(name)
    assert (m.info / ".wait").read_text() == "done 40 failed 0\n"


@pytest.mark.parametrize("text", ["-1", "many", "1000000", "", "1 2", "1.5"])
def test_cpus_rubbish(m, text):
    if text:
        with pytest.raises(OSError) as e:
            (m.node / "cpus").write_text(text + "\n")
        assert errno.errorcode[e.value.errno] == "EINVAL"
    else:
        (m.node / "cpus").write_text("")  # nothing written, nothing changed
    assert value(m, "cpus") == "2"


def test_drain(m):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    m.sh("echo drain > $M/nodes/local/state")
    assert value(m, "state") == "drain"
    m.put("y", "print('y')\n")
    m.open_gate("x")
    assert m.result("x") == b"through x\n"
    assert m.state("y") == "queued" and m.why("y")
    m.sh("echo up > $M/nodes/local/state")
    assert m.result("y") == b"y\n" and value(m, "state") == "up"


def test_state_rubbish(m):
    with pytest.raises(OSError) as e:
        (m.node / "state").write_text("sideways\n")
    assert errno.errorcode[e.value.errno] == "EINVAL"
    assert value(m, "state") == "up"


@pytest.mark.parametrize("what", ["running", "done", "failed", "seconds", "python", "address", "seen"])
def test_the_rest_is_read_only(m, what):
    with pytest.raises(OSError) as e:
        (m.node / what).write_text("1\n")
    assert e.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def test_local_cannot_be_removed(m):
    with pytest.raises(OSError):
        os.rmdir(m.node)
    with pytest.raises(OSError):
        os.unlink(m.node / "cpus")
    m.works()


def test_slots_are_used_in_parallel(m):
    """Two jobs that each wait for the other's file: they end only when both run at once."""
    for me, other in (("a", "b"), ("b", "a")):
        m.put(me, "#!/bin/sh\ntouch %s/%s\nwhile [ ! -e %s/%s ]; do sleep 0.01; done\n" % (m.work, me, m.work, other))
    assert m.result("a") == m.result("b") == b""


def test_what_was_set_holds_over_the_death_of_a_daemon(m):
    (m.node / "cpus").write_text("3\n")
    (m.node / "state").write_text("drain\n")
    m.kill_daemon()
    assert (m.node / "cpus").read_text() == "3\n" and (m.node / "state").read_text() == "drain\n"
