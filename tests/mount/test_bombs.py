"""Jobs whose processes make others faster than one after another can be killed. Bounded, so that a machine that tests survives:
they have a user of their own, who may have so many at once and no more, and end by themselves after a while."""
import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from ppfsmount import wait_until

MANY = 250  # so many that killing one after the other does not end, each in a session of its own
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a bomb a user of its own")
TASKS = 60
BOMB = """
import os, resource, sys, time
end = time.monotonic() + 30
with open("group.new", "w") as f: f.write(str(os.getpgrp()))
os.chmod("group.new", 0o666)
os.rename("group.new", "group")
if os.fork() == 0:
    resource.setrlimit(resource.RLIMIT_NPROC, (TASKS, TASKS))
    os.setgid(54321)
    os.setuid(54321)
    while time.monotonic() < end:
        try: os.fork() or %s
        except BlockingIOError: time.sleep(0.0002)
    os._exit(0)
"""
WAIT = "time.sleep(60)\n"
LAST = "time.sleep(0.5)\n"


def in_group(group):
    """The processes of that group that are no zombies."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid, "rb") as f:
                fields = f.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in b"ZX":
            found.append(pid)
    return found


def code(more="0", tasks=TASKS):
    return (BOMB % more).replace("TASKS", str(tasks))


def bomb(m, name, options="", more="0", last=WAIT, tasks=TASKS):
    """Starts it; its process group, once there are many."""
    m.work.chmod(0o777)
    m.put(name, options + code(more, tasks) + last)
    group = int(wait_until(lambda: (m.work / "group").exists() and (m.work / "group").read_text(), "the bomb to begin"))
    return group


def wait_for_the_end(m, group):
    """Of all but a worker, whose group it was where the bomb was in a call."""
    workers = [str(pid) for pid in m.pids()["workers"]]
    wait_until(lambda: not set(in_group(group)).difference(workers), "the bomb's processes to go", 10)


@pytest.mark.parametrize("end", ["timeout", "cancel", "over", "unmount"])
def test_a_bomb_ends_with_its_job(m, end):
    group = bomb(m, "x", "#ppfs: timeout=1\n" if end == "timeout" else "", last=LAST if end == "over" else WAIT)
    if end != "over":
        wait_until(lambda: len(in_group(group)) > TASKS / 2, "the bomb to be many")
    if end == "timeout":
        m.failed("x", errno.ETIMEDOUT)
    elif end == "cancel":
        os.unlink(m.jobs / "x")
        wait_until(lambda: m.state("x") == "cancelled", "the job to be cancelled")
    elif end == "over":
        assert m.wait("x") == "done"
    else:
        m.unmount()
    wait_for_the_end(m, group)
    if end != "unmount":
        m.works()


def test_a_bomb_of_many_sessions_ends_with_its_job(m):
    bomb(m, "x", "#ppfs: timeout=1\n", more="os.setsid()")
    m.failed("x", errno.ETIMEDOUT)
    wait_until(lambda: len(m.marked()) <= 8, "the bomb's processes to go", 10)
    m.works()


@pytest.mark.parametrize("end", ["timeout", "over"])
def test_a_bomb_in_a_call(m, end):
    m.work.chmod(0o777)
    m.put("x", {"call": "exec", "args": ["global os, resource, sys, time, end" + code() + (LAST if end == "over" else WAIT)],
                "timeout": "1s" if end == "timeout" else "30s"})
    if end == "timeout":
        m.failed("x", errno.ETIMEDOUT)
    else:
        assert m.wait("x") == "done"
    wait_for_the_end(m, int((m.work / "group").read_text()))
    m.works()


def test_who_joins_a_neighbour_does_not_take_it_along(m):
    """A process of a job in the process group of another: killing the first spares the second."""
    m.put("victim", "import os, time\nopen('victim.new', 'w').write(str(os.getpid()))\nos.rename('victim.new', 'victim')\n"
          "while not os.path.exists('go'): time.sleep(0.01)\nprint('whole')\n")
    wait_until(lambda: (m.work / "victim").exists() and (m.work / "victim").read_text(), "the victim's number")
    group = int((m.work / "victim").read_text())
    m.put("x", "import os, time\nif os.fork() == 0:\n    os.setpgid(0, %d)\n    open('joined', 'w')\n    time.sleep(60)\n"
          "time.sleep(60)\n" % group)
    wait_until((m.work / "joined").exists, "the intruder to join")
    assert len(in_group(group)) == 2
    os.unlink(m.jobs / "x")
    wait_until(lambda: len(in_group(group)) == 1, "the intruder to go")
    (m.work / "go").touch()
    assert m.result("victim") == b"whole\n"


# --- with a cgroup for each worker ---------------------------------------------------------------------------------

def removed(others):
    try:
        os.rmdir(others + "/w-7")
        os.rmdir(others)
    except OSError:
        return False
    return True


def cgroup_name(pid):
    return "ppfs-%d-%d" % (os.stat("/proc/self/ns/pid").st_ino, pid)


def cgroups(m):
    """The directory with the cgroups of the workers, None where none can be made."""
    name = cgroup_name(m.pids()["forkserver"])
    for line in open("/proc/self/mountinfo"):
        if " - cgroup2 " in line:
            for top, _, _ in os.walk(line.split()[4]):
                if os.path.basename(top) == name:
                    return top
    return None


@pytest.fixture
def own_cgroups(m):
    m.put("first", "print(1)\n")
    assert m.result("first") == b"1\n"
    if not cgroups(m):
        pytest.skip("no cgroup can be made here")
    return m


def many(m):
    return len(m.marked())


@pytest.mark.parametrize("end", ["timeout", "over", "unmount", "forkserver"])
def test_a_bomb_that_nobody_can_count_ends_with_its_job(own_cgroups, end):
    m, top = own_cgroups, cgroups(own_cgroups)
    bomb(m, "x", "#ppfs: timeout=1\n" if end == "timeout" else "", "os.setsid()", LAST if end == "over" else WAIT, MANY)
    if end in ("unmount", "forkserver"):
        wait_until(lambda: many(m) > MANY / 2, "the bomb to be many")
    if end == "timeout":
        m.failed("x", errno.ETIMEDOUT)
    elif end == "over":
        assert m.wait("x") == "done"
    elif end == "unmount":
        m.unmount()
    else:
        os.kill(m.pids()["forkserver"], signal.SIGKILL)
        wait_until(lambda: m.pids()["forkserver"] and not os.path.exists(top), "another fork server")
        os.unlink(m.jobs / "x")
    wait_until(lambda: many(m) <= 8, "the bomb's processes to go", 10)
    if end != "unmount":
        m.works()
        m.unmount()
    wait_until(lambda: not os.path.exists(top), "its cgroups to be removed")


def test_a_bomb_of_a_call_that_nobody_can_count(own_cgroups):
    """It costs neither its worker nor the calls that come after it."""
    m = own_cgroups
    m.work.chmod(0o777)
    calls = [{"call": "exec", "args": ["global os, resource, sys, time, end" + code("os.setsid()", MANY) + LAST]},
             {"call": "operator.neg", "args": [1]}]
    m.put("x.jsonl", "".join(json.dumps(c) + "\n" for c in calls))
    assert m.result("x.jsonl") == b"null\n-1\n"
    wait_until(lambda: many(m) <= 8, "the bomb's processes to go", 10)
    m.works()


def test_a_worker_made_in_its_cgroup_is_a_process_like_any_other(own_cgroups):
    """It is there from its first moment on, and libc knows the number of its thread."""
    look = ("(lambda os, time, threading: [open('/proc/self/cgroup').read(), ~time.pthread_getcpuclockid(threading.get_ident()) >> 3,"
            " os.getpid()])(*map(__import__, ['os', 'time', 'threading']))")
    own_cgroups.put("x", json.dumps({"call": "eval", "args": [look]}))
    cgroup, thread, process = json.loads(own_cgroups.result("x"))
    assert "/%s/w-" % cgroup_name(own_cgroups.pids()["forkserver"]) in cgroup
    assert thread == process


def test_cgroups_that_a_dead_ppfs_left(own_cgroups):
    where = os.path.dirname(cgroups(own_cgroups))
    left = os.path.join(where, cgroup_name(999999999))
    os.makedirs(left + "/w-7")
    # One of another pid namespace says nothing by its number: its ppfs may be alive.
    others = os.path.join(where, "ppfs-7-999999999")
    os.makedirs(others + "/w-7")
    worker = subprocess.Popen(["sleep", "1000"])
    try:
        Path(others, "w-7/cgroup.procs").write_text(str(worker.pid))
        os.kill(own_cgroups.pids()["forkserver"], signal.SIGKILL)
        wait_until(lambda: not os.path.exists(left), "another fork server to remove it")
        own_cgroups.put("y", "print(2)\n")
        assert own_cgroups.result("y") == b"2\n"
        assert worker.poll() is None
    finally:
        worker.kill()
        worker.wait()
        wait_until(lambda: removed(others), "its cgroup to be empty")
