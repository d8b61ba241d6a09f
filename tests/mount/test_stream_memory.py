"""However many streams a user writes large calls to, the daemon holds few of them; those that never end are in nobody's way."""
import contextlib
import ctypes
import json
import os
import pickle
import shutil
import struct
import subprocess

import pytest

import streamframes
from ppfsmount import high_water, sanitized, wait_until
from streamframes import CALL, MAGIC, PART, STARTED, frame, frames, large_frame

LARGE = 70 << 20
HELD = 128 << 20  # USER_HELD of sched/calls/stream_memory.h
SLACK = 50 << 20
STREAMS = 6
SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000  # ptrace(2), waitpid(2)
WRITER = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from streamframes import CALL, MAGIC, large_frame
for n in range(%d):
    body = bytes(4) + pickle.dumps((len, (bytes(%d + n),), {}), 4)
    with open("%%s/s%%d" %% (sys.argv[2], n), "wb", buffering=0) as f:
        f.write(MAGIC + large_frame(CALL, 1, body))
""" % (STREAMS, LARGE)
HALF = MAGIC + frame(PART, 1, bytes(256 << 10)) * (LARGE >> 18)


@pytest.fixture
def shared(new_user, new_mount):
    mount = new_mount(cpus=0, options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    return mount.start()


@pytest.fixture
def one(new_mount):
    """The same with a slot."""
    mount = new_mount(cpus=1, options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    return mount.start()


def hold(mount, since, most):
    assert sanitized() or high_water(mount.pids()["daemon"]) - since < most


def begin(m, name, what):
    fd = os.open(m.jobs / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    view = memoryview(what)
    while view:
        view = view[os.write(fd, view):]
    return fd


def results(m, name):
    return [(i, body) for kind, i, body in frames((m.results / name).read_bytes()) if kind != STARTED]


def results_of(value):
    return pickle.dumps(value, 5)


def whole_call(size):
    return large_frame(CALL, 1, bytes(4) + pickle.dumps((len, (bytes(size),), {}), 4))


def test_large_calls_in_many_streams_of_a_user(shared, alice, mallory):
    m = shared
    before = high_water(m.pids()["daemon"])
    shutil.copy(streamframes.__file__, m.work)
    p = mallory.popen(["/usr/bin/python3", "-c", WRITER, m.work, m.jobs], stderr=subprocess.PIPE)
    assert p.communicate()[1] == b"" and p.returncode == 0
    alices = alice.popen(["/bin/sh", "-c", 'echo \'{"call": "abs", "args": [-3]}\' > $M/jobs/a.jsonl && cat $M/results/a.jsonl'],
                         env={"M": str(m.mnt)}, stdout=subprocess.PIPE)
    wait_until(lambda: (m.info / "a.jsonl").is_dir(), "alice's stream")
    hold(m, before, HELD + LARGE + SLACK)
    m.kill_daemon()
    wait_until(lambda: m.state("s%d" % (STREAMS - 1)) == "running", "the streams to be there again")
    (m.node / "cpus").write_text("1\n")
    assert alices.communicate()[0] == b"3\n"
    for n in range(STREAMS):
        (ident, body), = results(m, "s%d" % n)
        assert ident == 1 and body == results_of(LARGE + n)


def test_calls_that_never_end(queue):
    m = queue
    before = high_water(m.pids()["daemon"])
    fds = [begin(m, "half%d" % n, HALF) for n in range(4)]
    fds += [begin(m, "half%d.jsonl" % n, b'{"call": "len", "args": ["' + b"x" * (12 << 20)) for n in range(12)]
    whole = begin(m, "whole", MAGIC + whole_call(LARGE))
    hold(m, before, HELD + LARGE + SLACK)
    (m.node / "cpus").write_text("2\n")
    os.close(whole)
    assert results(m, "whole") == [(1, results_of(LARGE))]
    os.write(fds[0], frame(CALL, 1, b""))
    for n, fd in enumerate(fds):
        if n < 4:
            (m.jobs / ("half%d" % n)).unlink()
        os.close(fd)
    for n in range(12):
        assert b"error" in (m.results / ("half%d.jsonl" % n)).read_bytes()


def test_lines_are_gathered_again_when_their_end_comes(queue):
    """What an earlier daemon took of them is in the log, and nobody knows whether a newline is there."""
    m, size, count = queue, 14 << 20, 16
    before = high_water(m.pids()["daemon"])
    fds = [begin(m, "s%d.jsonl" % n, b'{"call": "len", "args": ["' + b"x" * (size + n)) for n in range(count)]
    hold(m, before, HELD + SLACK)
    m.kill_daemon()
    wait_until(lambda: m.state("s%d.jsonl" % (count - 1)) == "running", "the streams to be there again")
    (m.node / "cpus").write_text("2\n")
    for fd in fds:
        os.write(fd, b'"]}\n')
    for n, fd in reversed(list(enumerate(fds))):
        with open(m.results / ("s%d.jsonl" % n)) as f:
            assert json.loads(f.readline()) == size + n
        os.close(fd)


def test_a_call_that_waits_for_a_later_one_of_its_stream(m):
    """The first has gone to a worker: it does not count, however much the others hold."""
    (m.work / "meet.py").write_text("import os, time\ndef wait(path, pad):\n    while not os.path.exists(path):\n"
                                    "        time.sleep(0.01)\ndef touch(path, pad):\n    open(path, 'w').close()\n")
    path = b"V" + bytes(m.work / "met") + b"\n"
    calls = [bytes(4) + b"cmeet\n" + name + b"\n(" + path + b"S'" + b"x" * (1 << 20) + b"'\nt}\x87." for name in (b"wait", b"touch")]
    fds = [begin(m, "half%d" % n, HALF) for n in range(3)]
    m.put("s", MAGIC + b"".join(large_frame(CALL, n, body) for n, body in enumerate(calls, 1)))
    assert sorted(i for i, _ in results(m, "s")) == [1, 2]
    for n, fd in enumerate(fds):
        (m.jobs / ("half%d" % n)).unlink()
        os.close(fd)


@contextlib.contextmanager
def without_its_disk(pid):
    """All threads but the loop's are stopped, as a disk does that takes nothing."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    tids = [int(t) for t in os.listdir("/proc/%d/task" % pid) if int(t) != pid]
    assert tids and not any(ptrace(SEIZE, t, None, None) or ptrace(INTERRUPT, t, None, None) for t in tids)
    try:
        for t in tids:
            assert os.waitpid(t, WALL)[0] == t
        yield
    finally:
        for t in tids:
            ptrace(DETACH, t, None, None)


def test_answers_that_the_disk_does_not_take(new_mount, alice, mallory):
    m, size, count = new_mount(cpus=2, options=["-o", "allow_other"]), 12 << 20, 30
    m.start()
    before = high_water(m.pids()["daemon"])
    (m.work / "s").write_bytes(MAGIC + streamframes.call(1, bytes, size))
    with without_its_disk(m.pids()["daemon"]):
        assert mallory.sh("for n in {1..%d}; do cat %s > $M/jobs/s$n; done" % (count, m.work / "s"), M=m.mnt).stderr == ""
        wait_until(lambda: high_water(m.pids()["daemon"]) - before > 40 << 20, "his answers to come")
        p = alice.sh("""exec 3> $M/jobs/a.jsonl 4< <(exec cat $M/results/a.jsonl 2>&-)
                        for n in {1..200}; do echo '{"call": "abs", "args": [-3]}' >&3; read -r x <&4; echo $x; done""", M=m.mnt)
        assert (p.stdout, p.stderr) == ("3\n" * 200, "")
        assert sanitized() or high_water(m.pids()["daemon"]) - before < (64 << 20) + 4 * size + SLACK
    for n in range(1, count + 1):
        assert results(m, "s%d" % n) == [(1, results_of(bytes(size)))]


ANSWERS = (128 + 64) << 20  # USER_ANSWERS and USER_BEHIND of stream_memory.h: what is answered, and what is on the way to the disk
SLOTS = 8


def large_answers(kind, size, go, begun):
    """A stream of SLOTS calls that answer, or print, so many bytes each, all at once."""
    what = "(lambda os, time, sys: [open(%r, 'a').write('x'), [time.sleep(.01) for _ in iter(lambda: os.path.exists(%r), True)], %s][2])" \
           "(*map(__import__, ('os', 'time', 'sys')))" % (begun, go, "sys.stdout.write('x' * %d)" % size if kind == "prints" else "'x' * %d" % size)
    if kind == "lines":
        return (json.dumps({"call": "eval", "args": [what]}) + "\n").encode() * SLOTS
    if kind == "programs":
        script = "printf x >> %s; until [ -e %s ]; do sleep .01; done; head -c %d /dev/zero | tr '\\0' x" % (begun, go, size)
        return (json.dumps({"run": ["sh", "-c", script]}) + "\n").encode() * SLOTS
    options = b'{"priority": -1}' if kind == "options" else b""
    body = bytes(2) + len(options).to_bytes(2, "little") + options + pickle.dumps((eval, (what,), {}), 4)
    return MAGIC + b"".join(frame(CALL, n, body) for n in range(1, SLOTS + 1))


def sizes(path):
    """Of the lines, or by (kind, id) of the frames, without having them all in memory."""
    found = {}
    with open(path, "rb") as f:
        if path.suffix == ".jsonl":
            return [len(line) for line in f]
        assert f.read(16) == MAGIC
        while header := f.read(16):
            size, kind, ident = struct.unpack("<IB3xQ", header)
            kind = 33 if kind == PART else kind
            found[kind, ident] = found.get((kind, ident), 0) + len(f.read(size))
    return found


@pytest.mark.limit(180)
@pytest.mark.parametrize("kind, size", [("frames", 70 << 20), ("lines", 40 << 20), ("options", 70 << 20), ("prints", 50 << 20),
                                        ("programs", 70 << 20)])
def test_large_answers_of_many_slots_of_a_user(new_mount, alice, mallory, kind, size):
    m = new_mount(cpus=SLOTS + 1, options=["-o", "allow_other"])
    m.work.chmod(0o777)
    m.start()
    begun, go, name = m.work / "begun", m.work / "go", "s.jsonl" if kind in ("lines", "programs") else "s"
    (m.work / "s").write_bytes(large_answers(kind, size, str(go), str(begun)))
    assert mallory.sh("cat $W/s > $M/jobs/%s" % name, M=m.mnt, W=m.work).stderr == ""
    wait_until(lambda: begun.exists() and len(begun.read_text()) == SLOTS, "all of them to run")
    before = high_water(m.pids()["daemon"])
    go.touch()
    wait_until(lambda: high_water(m.pids()["daemon"]) - before > size, "answers to come")
    p = alice.sh("echo '{\"call\": \"abs\", \"args\": [-3]}' > $M/jobs/a.jsonl && cat $M/results/a.jsonl", M=m.mnt)
    assert (p.stdout, p.stderr) == ("3\n", "")
    found = sizes(m.results / name)
    if name == "s.jsonl":
        assert found == [size + 3] * SLOTS
    else:
        out = {i: n for (k, i), n in found.items() if k == (35 if kind == "prints" else 33)}
        assert out.keys() == set(range(1, SLOTS + 1)) and all(size <= n < size + (1 << 20) for n in out.values())
    hold(m, before, ANSWERS + 2 * size + SLACK)


UNREAD = """
import os, socket, stat, struct, time
ref = 1 << 48  # of the first lease
what = {what}
for fd in range(3, 256):
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            continue
    except OSError:
        continue
    link = socket.socket(fileno=os.dup(fd))
    for n in range({count}):
        link.sendall(what(n))
open("{mark}", "w").close()
time.sleep(600)
"""
ASKS = 'lambda n: struct.pack("<IB3xQ", 32, 37, ref | 1) + bytes.fromhex("%s")'
TELLS = 'lambda n: struct.pack("<IB3xQ", 0, 44, ref | 1)'
SAYS = 'lambda n: struct.pack("<IB3xQ", 4, 35, ref | n + 1) + b"N..." + bytes(time.sleep(0.01) or 0)'


def unread(m, mallory, what, count, calls=b"", before=b"", lists=()):
    """How much the daemon has grown when a call has said so much over its worker's link, and has read nothing of what that is told."""
    code = UNREAD.format(what=what, count=count, mark=mallory.home / "mark")
    (mallory.home / "s").write_bytes(MAGIC + before + streamframes.naming(1, exec, code, {}, lists=lists) + calls)
    daemon = m.pids()["daemon"]
    since = high_water(daemon)
    p = mallory.popen(["/bin/sh", "-c", "cat s > $M/jobs/s; sed -n 1p $M/info/s/wait"], env={"M": str(m.mnt)})
    wait_until(lambda: (mallory.home / "mark").exists() or p.poll() is not None, "the call to have said it, or to be ended")
    grown = high_water(daemon) - since
    mallory.sh("rm -f $M/jobs/s", M=m.mnt)
    p.wait()
    assert daemon == m.pids()["daemon"]
    m.put("after.sh", "#!/bin/sh\necho there\n")
    assert m.result("after.sh") == b"there\n"
    return grown


def test_a_call_that_asks_for_a_value_again_and_again(mallory, one):
    digest, func = streamframes.sent(bytes(60 << 10))
    assert unread(one, mallory, ASKS % digest.hex(), 4000, before=func, lists=[digest]) < 16 << 20 or sanitized()


def test_a_call_that_prints_and_reads_nothing(mallory, one):
    assert unread(one, mallory, TELLS, 1000000) < 8 << 20 or sanitized()


def test_a_call_that_answers_for_others_and_does_not_read_them(mallory, one):
    """They are sent ahead of what it answers."""
    calls = b"".join(large_frame(CALL, 2 + n, bytes(4) + pickle.dumps((len, (bytes(1 << 20),), {}), 4)) for n in range(200))
    assert unread(one, mallory, SAYS, 200, calls=calls) < 96 << 20 or sanitized()
