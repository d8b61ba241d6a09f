"""The files of jobs that calls with options become: put together on the disk, a few of a user at a time."""
import os
import pickle
import shutil
import subprocess

import pytest

import streamframes
from ppfsmount import sanitized, wait_until
from streamframes import CANCEL, CANCELLED, ERROR, MAGIC, RESULT, STARTED, Named, call, frame, frames, naming, sent
from test_quotas import high_water

VALUE = 16 << 20
LISTED = 5
CALLS = 8
SLACK = 50 << 20
OPTIONS = b'{"priority": 3}'
WRITER = """
import os, struct, sys
sys.path.insert(0, sys.argv[1])
from streamframes import MAGIC, Named, frame, naming, sent
digest, func = sent(b"v" * %d)
with open(sys.argv[2], "wb", buffering=0) as f:
    view = memoryview(MAGIC + func)
    while view:
        view = view[f.write(view[:1 << 20]):]
    for n in range(%d):
        os.write(f.fileno(), naming(n, len, Named(digest), lists=[digest] * %d, options=b'{"priority": %%d}' %% n))
""" % (VALUE, CALLS, LISTED)


def bodies(m):
    """Bytes of the files of calls, as far as they are there: the value's is the smallest id."""
    names = sorted((n for n in os.listdir(m.statedir / "spool") if n.endswith("-0-1")), key=lambda n: int(n.split("-")[0]))
    return sum((m.statedir / "spool" / n).stat().st_size for n in names[1:])


@pytest.fixture
def parked(new_user, new_mount):
    """A mount for all users, without a slot."""
    mount = new_mount(cpus=0, options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    shutil.copy(streamframes.__file__, mount.work)
    return mount.start()


def write(user, m, name):
    p = user.popen(["/usr/bin/python3", "-c", WRITER, m.work, m.jobs / name], stderr=subprocess.PIPE)
    assert p.communicate()[1] == b"" and p.returncode == 0


def test_calls_that_name_much_are_not_in_memory(parked, alice, mallory):
    m = parked
    before = high_water(m.pids()["daemon"])
    write(mallory, m, "s")
    alices = alice.popen(["/bin/sh", "-c", 'echo \'{"call": "abs", "args": [-3], "priority": 0}\' > $M/jobs/a.jsonl && cat $M/results/a.jsonl'],
                         env={"M": str(m.mnt)}, stdout=subprocess.PIPE)
    wait_until(lambda: bodies(m) >= VALUE * LISTED * CALLS, "the files of all calls")
    assert sanitized() or high_water(m.pids()["daemon"]) - before < 2 * VALUE + SLACK
    (m.node / "cpus").write_text("2\n")
    assert alices.communicate()[0] == b"3\n"
    answers = {i: (kind, body) for kind, i, body in frames((m.results / "s").read_bytes()) if kind != STARTED}
    assert answers == {n: (RESULT, pickle.dumps(VALUE, 5)) for n in range(CALLS)}
    wait_until(lambda: bodies(m) == 0, "the files to go")


def test_one_that_names_too_much_is_refused_before_it_is_made(m):
    digest, func = sent(b"v" * VALUE)
    m.put("s", MAGIC + func + naming(1, len, Named(digest), lists=[digest] * 128, options=OPTIONS) + call(2, abs, -1))
    out = {i: (kind, body) for kind, i, body in frames((m.results / "s").read_bytes())}
    assert out[1][0] == ERROR and b"larger than 2 GiB" in out[1][1] and pickle.loads(out[2][1]) == 1


def test_cancelled_while_they_wait_for_their_files(parked, mallory):
    """What is being made then goes too, and what comes behind it is made."""
    m = parked
    digest, func = sent(b"v" * VALUE)
    ids = range(1, 41)
    stream = [MAGIC, func, *(naming(n, len, Named(digest), lists=[digest] * LISTED, options=OPTIONS) for n in ids),
              *(frame(CANCEL, n) for n in ids[:-1])]
    with open(m.jobs / "s", "wb", buffering=0) as f:
        for piece in stream:
            view = memoryview(piece)
            while view:
                view = view[f.write(view[:1 << 20]):]
    (m.node / "cpus").write_text("1\n")
    out = {i: kind for kind, i, body in frames((m.results / "s").read_bytes()) if kind != STARTED}
    assert out == {**{n: CANCELLED for n in ids[:-1]}, ids[-1]: RESULT}
    wait_until(lambda: bodies(m) == 0, "the files to go")


def test_files_of_calls_count_for_their_user(new_user, new_mount, mallory):
    m = new_mount(cpus=1, options=["-o", "allow_other"])
    m.work.chmod(0o777)
    (m.work.parent / "quota").write_text("* bytes=80M\n")
    m.start("--quota", m.work.parent / "quota")
    digest, func = sent(b"v" * VALUE)
    names = [naming(n, len, Named(digest), lists=[digest] * n, options=OPTIONS) for n in (1, LISTED, 2)]
    (m.work / "stream").write_bytes(MAGIC + func + b"".join(names))
    assert mallory.sh("cp %s $M/jobs/s" % (m.work / "stream"), M=m.mnt).stderr == ""
    out = {i: (kind, body) for kind, i, body in frames(m.result("s")) if kind != STARTED}
    assert [out[n][0] for n in (1, 2)] == [RESULT] * 2 and out[LISTED][0] == ERROR
    assert b"would have more bytes than the quota allows" in out[LISTED][1]
