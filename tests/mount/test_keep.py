"""ppfs(5) keep=, ppfs(1) --keep: ended jobs are forgotten after a time, and only those of which that was asked."""
import os
import subprocess

import pytest
from ppfsmount import wait_until
from processes import in_fuse

JOB = "#!/bin/sh\necho x\n"
BAD = "#!/bin/sh\nexit 1\n"


def there(m):
    """The names in info/, of jobs."""
    return {name for name in os.listdir(m.info) if not name.startswith(".")}


def put(m, name, text, *options):
    m.put(name, text.replace("\n", "\n#ppfs: %s\n" % " ".join(options), 1) if options else text)


def forgotten(m, *names):
    wait_until(lambda: not there(m) & set(names), "%s to be forgotten" % ", ".join(names))


def test_of_a_job(m):
    put(m, "stays", JOB)
    put(m, "held", JOB, "keep=1ms", "hold=1")
    put(m, "long", JOB, "keep=1h")
    put(m, "ever", JOB, "keep=0")
    put(m, "done", JOB, "keep=1ms")
    put(m, "failed", BAD, "keep=1ms")
    put(m, "cancelled", JOB, "keep=1ms", "hold=1")
    m.put("json", {"call": "abs", "args": [-1], "keep": "1ms"})
    os.unlink(m.jobs / "cancelled")
    forgotten(m, "done", "failed", "cancelled", "json")
    for name in ("stays", "long", "ever"):
        m.wait(name)
    assert there(m) == {"stays", "held", "long", "ever"}
    assert "done" not in os.listdir(m.results) and "failed" not in os.listdir(m.failures)
    (m.info / "held/hold").write_text("0")
    forgotten(m, "held")


def test_of_a_group_and_streams(m):
    os.makedirs(m.jobs / "G/H")
    (m.jobs / "G/.options").write_text("keep=1500us\n")
    assert (m.jobs / "G/.options").read_text() == "keep=1500us\n"
    (m.jobs / "G/H/.options").write_text("keep=0\n")
    assert (m.jobs / "G/H/.options").read_text() == "keep=0\n"
    m.put("G/x", JOB)
    m.put("G/s.jsonl", '{"call": "abs", "args": [-1]}\n')
    m.put("G/H/x", JOB)
    m.wait("G/H/x")
    wait_until(lambda: m.sh("cat $M/info/G/.wait").stdout == b"done 1 failed 0\n", "the others to be forgotten")
    assert os.listdir(m.results / "G") == ["H"] and m.result("G/H/x") == b"x\n"


def test_of_arrays(m):
    """What waits for an array hears of an element that failed, however short that was to be kept."""
    for name in ("fifo0", "fifo1"):
        os.mkfifo(m.work / name)
    put(m, "A", "#!/bin/sh\nread line < %s/fifo$PPFS_INDEX; exit $line\n" % m.work, "array=0-1", "keep=1ms")
    put(m, "then", JOB, "after=A")
    (m.work / "fifo0").write_text("1\n")
    assert m.wait("A/0") == "failed"
    put(m, "other", JOB, "keep=1ms")
    forgotten(m, "other")
    assert m.state("A/0") == "failed"
    (m.work / "fifo1").write_text("0\n")
    assert m.wait("then") == "failed" and "A" in m.why("then")
    put(m, "B", "#!/bin/sh\n", "array=0-2", "keep=1ms")
    m.sh("cat $M/info/B/.wait")
    wait_until(lambda: m.sh("ls $M/info/B", check=False).stdout == b"", "its elements to be forgotten")


def test_one_that_runs_again_is_kept_anew(m):
    put(m, "x", BAD, "keep=1ms", "hold=1")
    put(m, "y", BAD, "keep=1h")
    m.wait("y")
    m.sh("mv $M/jobs/x $M/jobs/.x; mv $M/failures/y $M/jobs/y; sed -i s/keep=1ms/keep=1h/ $M/jobs/.x; mv $M/jobs/.x $M/jobs/x; "
         "echo 0 > $M/info/x/hold")
    assert m.wait("x") == m.wait("y") == "failed"
    put(m, "z", JOB, "keep=1ms")
    forgotten(m, "z")
    assert there(m) == {"x", "y"}


def test_what_is_read_stays(m):
    put(m, "read", JOB, "keep=1ms", "hold=1")
    reader = m.popen("bash", "-c", "exec 3< $0; echo open; read; cat <&3", m.results / "read", stdin=subprocess.PIPE)
    wait_until(lambda: in_fuse(reader.pid), "the open to wait")
    (m.info / "read/hold").write_text("0")
    assert reader.stdout.readline() == b"open\n"
    put(m, "other", JOB, "keep=1ms")
    forgotten(m, "other")
    assert m.state("read") == "done"
    assert reader.communicate(b"\n")[0] == b"x\n"


def test_over_a_kill(m):
    put(m, "x", JOB, "keep=2s")
    m.wait("x")
    m.kill_daemon()
    forgotten(m, "x")


def test_of_the_mount(new_mount):
    m = new_mount().start()
    for name in ("a", "b"):
        put(m, name, JOB)
    put(m, "ever", JOB, "keep=0")
    put(m, "held", JOB, "hold=1")
    for name in ("a", "b", "ever"):
        m.wait(name)
    m.unmount()
    m.options = ("--keep", "1500ms")
    m.start()
    forgotten(m, "a", "b")
    put(m, "c", BAD)
    put(m, "mine", JOB, "keep=1h")
    m.wait("mine")
    forgotten(m, "c")
    (m.info / "held/hold").write_text("0")
    forgotten(m, "held")
    assert there(m) == {"ever", "mine"}
    m.unmount()
    m.options = ("--keep", "1h")
    m.start()
    put(m, "d", JOB)
    m.wait("d")
    m.unmount()
    m.options = ()
    m.start()
    put(m, "e", JOB)
    put(m, "f", JOB, "keep=1ms")
    forgotten(m, "f")
    assert there(m) == {"ever", "mine", "d", "e"}


@pytest.mark.parametrize("value", ["", "x", "-1", "1w", "99999d", "0s"])
def test_what_is_no_time(m, value):
    put(m, "x", JOB, "keep=" + value)
    assert m.wait("x") == "failed" and "keep" in m.why("x")
    p = m.run("--keep", value)
    assert p.returncode == 2 and "--keep needs a time" in p.stderr and p.stderr.count("\n") == 1
