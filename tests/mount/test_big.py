"""Much of everything: jobs in one directory, bytes in and out. How many is set by PPFS_BIG."""
import hashlib
import json
import os
import pickle
import re
import threading
import zlib

import pytest
from ppfsmount import sanitized, wait_until
from processes import text_of

BIG = int(os.environ.get("PPFS_BIG", 20_000 if sanitized() else 100_000))

MAKER = """import os, sys
jobs, first, last = os.environ['M'] + '/jobs/', int(sys.argv[1]), int(sys.argv[2])
for i in range(first, last):
    fd = os.open(jobs + 'j%d' % i, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b'{"call": "abs", "args": [%d]}' % -i)
    os.close(fd)
"""


def high_water(pid):
    """Most memory the process ever had, in bytes."""
    return int(re.search(r"VmHWM:\s*(\d+)", text_of("/proc/%d/status" % pid)).group(1)) << 10


@pytest.mark.limit(400)
def test_a_hundred_thousand_jobs_in_one_directory(queue):
    m = queue
    makers = [m.popen("/usr/bin/python3", "-c", MAKER, str(BIG * i // 2), str(BIG * (i + 1) // 2)) for i in range(2)]
    for p in makers:
        assert p.communicate() == (b"", b"")
    wanted = {"j%d" % i for i in range(BIG)}

    # it lists correctly, and other requests are answered before the listing is through
    answered = [0, 0]
    done = threading.Event()

    def others():
        while not done.is_set():
            (m.mnt / "version").read_text()
            m.put(".other", "print(1)\n")
            os.unlink(m.jobs / ".other")
            answered[0] += 1

    t = threading.Thread(target=others)
    t.start()
    try:
        before = answered[0]
        lister = m.popen("ls", "-U", m.jobs)
        names = [n for n in lister.communicate()[0].decode().split("\n") if n]
        answered[1] = answered[0] - before
    finally:
        done.set()
        t.join()
    names = [n for n in names if not n.startswith(".")]
    assert len(names) == len(set(names)) == BIG and set(names) == wanted
    assert answered[1] > 5, "only %d requests were answered during the listing" % answered[1]

    # entries that come and go while it is read disturb no other entry
    seen = []
    with os.scandir(m.jobs) as entries:
        for i, entry in enumerate(entries):
            seen.append(entry.name)
            if i % 1000 == 0:
                m.put("new%d" % i, "print(1)\n")
                os.unlink(m.jobs / ("new%d" % i))
            if i == BIG // 2:
                os.unlink(m.jobs / "j0")
                os.unlink(m.jobs / ("j%d" % (BIG - 1)))
    stable = [n for n in seen if n in wanted and n not in ("j0", "j%d" % (BIG - 1))]
    assert len(stable) == len(set(stable)) == BIG - 2

    assert len(os.listdir(m.info)) >= BIG - 2
    if not sanitized():
        assert high_water(m.pids()["daemon"]) < 150 << 20

    # a new one with priority is the next to run, after a new start as well
    m.unmount()
    m.start()
    m.put("first", "#ppfs: priority=1\nprint('first')\n")
    (m.node / "cpus").write_text("1")
    assert m.result("first") == b"first\n"
    (m.node / "cpus").write_text("0")
    progress = (m.info / ".progress").read_text().split()
    assert int(progress[1]) < BIG and progress[3] == "0"


@pytest.mark.limit(300)
def test_many_jobs_run(m):
    count = 2000 if sanitized() else 5000
    p = m.popen("/usr/bin/python3", "-c", MAKER, "0", str(count))
    assert p.communicate() == (b"", b"")
    assert (m.info / ".wait").read_text() == "done %d failed 0\n" % count
    for i in range(0, count, 7):
        assert json.loads(m.result("j%d" % i)) == i
    assert len(os.listdir(m.results)) == count and os.listdir(m.jobs) == []
    m.sh("find $M/results -type f -delete")
    assert os.listdir(m.results) == [n for n in os.listdir(m.info) if not n.startswith(".")] == []


@pytest.mark.limit(120)
def test_pickle_argument_of_100_mb(m):
    data = os.urandom(1 << 20) * 100
    assert m.call("x", (zlib.crc32, (data,))) == zlib.crc32(data)
    with open(m.info / "x/spec", "rb") as f:
        assert pickle.load(f)[1][0] == data


@pytest.mark.limit(120)
def test_pickle_result_of_100_mb(m):
    assert m.call("x", (bytes, (100_000_000,))) == bytes(100_000_000)


@pytest.mark.limit(180)
def test_100_mb_there_and_back(m):
    data = os.urandom(1 << 20) * 100
    assert m.call("x", (bytes.__add__, (data, b"!"))) == data + b"!"
    if not sanitized():
        assert high_water(m.pids()["daemon"]) < 250 << 20
    os.unlink(m.results / "x")
    m.works()


@pytest.mark.limit(240)
def test_stdout_of_300_mb(m):
    size = 300_000_000
    m.put("x", "#!/bin/sh\nhead -c %d /dev/zero | tr '\\0' x\n" % size)
    digest, total = hashlib.sha256(), 0
    with open(m.results / "x", "rb", buffering=0) as f:
        while piece := f.read(1 << 20):
            digest.update(piece)
            total += len(piece)
    assert total == size and digest.digest() == hashlib.sha256(b"x" * size).digest()
    assert (m.results / "x").stat().st_size == size
    if not sanitized():
        assert high_water(m.pids()["daemon"]) < 200 << 20, "the daemon held the output in memory"
    os.unlink(m.results / "x")
    left = sum(p.stat().st_size for p in m.statedir.rglob("*") if p.is_file())
    assert left < 50_000_000, "%d bytes are left in the state directory" % left


@pytest.mark.limit(120)
def test_large_script(m):
    m.put("x", "#!/bin/sh\necho large\n" + "# filler\n" * 3_000_000)
    assert m.result("x") == b"large\n"
    m.put("y", "print('large')\n" + "# filler\n" * 1_800_000)
    assert m.result("y") == b"large\n"
    m.put("z", "print('larger')\n" + "# filler\n" * 1_900_000)
    wait_until(lambda: m.state("z") == "failed", "z to be refused")
    assert m.why("z").startswith("Python source may have 16 MiB at most")


@pytest.mark.limit(120)
def test_deep_groups_and_many_groups(m):
    for i in range(300):
        os.mkdir(m.jobs / ("G%d" % i))
        m.put("G%d/x" % i, {"call": "abs", "args": [-i]})
    assert (m.info / ".wait").read_text() == "done 300 failed 0\n"
    assert sorted(os.listdir(m.results)) == sorted("G%d" % i for i in range(300))
    assert json.loads(m.result("G299/x")) == 299


def test_a_job_that_waits_costs_no_descriptor(queue):
    """More queued jobs than the daemon may have files open."""
    m = queue
    m.unmount()
    m.start(preexec_fn=limit_files)
    data = "#!/bin/sh\necho $PPFS_JOB\n#" + "x" * 70_000 + "\n"
    for i in range(150):
        m.put("j%d" % i, data)
    (m.node / "cpus").write_text("2")
    assert (m.info / ".wait").read_text() == "done 150 failed 0\n"
    assert m.result("j149") == b"j149\n"


def limit_files():
    import resource
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
