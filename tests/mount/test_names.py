"""ppfs(5), jobs/: the life of a name: draft, queued, replaced, cancelled; and many writers."""
import errno
import os
import signal
import subprocess

import pytest
from ppfsmount import PENDING, wait_until
from processes import alive


def err(e):
    return errno.errorcode[e.value.errno]


# --- drafts ------------------------------------------------------------------------------------------------------

def test_dot_file_is_a_draft_until_renamed(m):
    m.put(".x.tmp", "#!/bin/sh\necho committed\n")
    m.works()
    assert m.state(".x.tmp") == "draft"
    assert os.listdir(m.jobs) == [".x.tmp"]
    os.rename(m.jobs / ".x.tmp", m.jobs / "x")
    assert m.result("x") == b"committed\n"
    assert os.listdir(m.jobs) == []


def test_empty_file_stays_a_draft(queue):
    m = queue
    (m.jobs / "x").touch()
    assert os.listdir(m.jobs) == ["x"] and m.state("x") == "draft" and (m.jobs / "x").stat().st_size == 0
    (m.node / "cpus").write_text("2")
    m.works()
    assert m.state("x") == "draft"
    with open(m.jobs / "x", "w") as f:
        f.write("print('now')\n")
    assert m.result("x") == b"now\n"


def test_draft_is_cut_by_its_name(m):
    """truncate(2) writes without opening: what was closed before is closed again."""
    m.put(".x", "print('kept')\nprint('cut')\n")
    os.truncate(m.jobs / ".x", 14)
    assert m.state(".x") == "draft"
    os.rename(m.jobs / ".x", m.jobs / "x")
    assert m.result("x") == b"kept\n"


def test_draft_is_removed_by_rm(m):
    m.put(".x", "print(1)\n")
    (m.jobs / "y").touch()
    for name in (".x", "y"):
        os.unlink(m.jobs / name)
        assert not (m.jobs / name).exists() and not (m.info / name).exists()
    with pytest.raises(FileNotFoundError):
        open(m.results / "y")


def test_queued_at_the_last_close(m):
    """Two descriptors, a dup and a flush in between: the job goes when the last one closes."""
    a = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT)
    b = os.open(m.jobs / "x", os.O_WRONLY | os.O_APPEND)
    c = os.dup(a)
    os.write(a, b"print(1)\n")
    os.close(a)
    assert m.state("x") == "draft"
    os.write(b, b"print(2)\n")
    os.close(b)
    assert m.state("x") == "draft"
    m.works()
    assert m.state("x") == "draft"
    os.close(c)
    assert m.result("x") == b"1\n2\n"


# --- names -------------------------------------------------------------------------------------------------------

def test_o_excl(queue):
    m = queue
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL

    def submit(name, text=b"print('first')\n"):
        fd = os.open(m.jobs / name, flags)
        os.write(fd, text)
        os.close(fd)

    submit("x")
    submit("bad", b"raise SystemExit(1)\n")
    for state in ("queued", "ended"):
        assert state == "ended" or m.state("x") in PENDING
        for name in ("x", "bad"):
            with pytest.raises(FileExistsError):
                submit(name)
        (m.node / "cpus").write_text("1")
        assert m.result("x") == b"first\n"
        m.failed("bad")
    os.unlink(m.results / "x")
    submit("x", b"print('second')\n")
    assert m.result("x") == b"second\n"
    os.unlink(m.failures / "bad")
    submit("bad", b"print('good')\n")
    assert m.result("bad") == b"good\n"


def test_o_excl_while_running(m):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    with pytest.raises(FileExistsError):
        os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    m.open_gate("x")
    m.result("x")


def test_queued_job_is_replaced_at_close(queue):
    m = queue
    m.put("x", "print('old')\n")
    with open(m.jobs / "x", "w") as f:
        f.write("print('new')\n")
        f.flush()
        assert m.state("x") in PENDING  # still the old one
    assert (m.jobs / "x").read_text() == "print('new')\n"
    (m.node / "cpus").write_text("2")
    assert m.result("x") == b"new\n"
    assert (m.node / "done").read_text() == "1\n"


def test_append_to_a_queued_job(queue):
    m = queue
    m.put("x", "print('one')\n")
    with open(m.jobs / "x", "a") as f:
        f.write("print('two')\n")
    (m.node / "cpus").write_text("2")
    assert m.result("x") == b"one\ntwo\n"


def test_old_job_may_run_while_it_is_being_replaced(queue):
    """Until the new one is closed the old one is the job; then the new one takes the name."""
    m = queue
    m.put("x", m.gate("x"))
    f = open(m.jobs / "x", "w")
    f.write("print('new')\n")
    f.flush()
    (m.node / "cpus").write_text("1")
    pid = m.pid_of("x")
    f.close()
    assert m.result("x") == b"new\n"
    wait_until(lambda: not alive(pid), "the replaced job to be dead")


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC,
                                   os.O_WRONLY | os.O_CREAT | os.O_APPEND])
def test_running_is_text_busy(m, flags):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    with pytest.raises(OSError) as e:
        os.open(m.jobs / "x", flags)
    assert err(e) == "ETXTBSY"
    with pytest.raises(OSError) as e:
        os.truncate(m.jobs / "x", 0)
    assert err(e) == "ETXTBSY"
    m.open_gate("x")
    assert m.result("x") == b"through x\n"


def test_name_of_an_ended_job_is_taken_over(m):
    m.put("x", "print('old')\n")
    m.result("x")
    with open(m.jobs / "x", "w") as f:
        f.write("print('new')\n")
        f.flush()
        assert (m.results / "x").read_bytes() == b"old\n"  # the old result goes at close
    assert m.result("x") == b"new\n"
    m.put("x", "raise SystemExit(3)\n")
    m.failed("x")
    assert os.listdir(m.results) == [] and os.listdir(m.failures) == ["x"]
    m.put("x", "print('again')\n")
    assert m.result("x") == b"again\n"
    assert os.listdir(m.results) == ["x"] and os.listdir(m.failures) == []


def test_a_name_many_times(m):
    """Written again at once, whether the one before waits, runs or has ended: each reader sees the newest."""
    for i in range(60):
        try:
            m.put("x", "#!/bin/sh\necho %d\n" % i)
        except OSError as e:
            assert e.errno == errno.ETXTBSY
            m.wait("x")
            m.put("x", "#!/bin/sh\necho %d\n" % i)
        if i % 3:
            assert m.result("x") == b"%d\n" % i
    assert m.result("x") == b"59\n"


def test_reading_gives_the_bytes_back(m):
    text = m.gate("x") + "# " + "filler " * 20000 + "\n"
    m.put("x", text)
    m.pid_of("x")
    assert (m.jobs / "x").read_text() == text
    assert (m.jobs / "x").stat().st_size == len(text)
    m.open_gate("x")
    m.result("x")
    assert os.listdir(m.jobs) == []
    with pytest.raises(FileNotFoundError):
        (m.jobs / "x").read_text()
    assert (m.info / "x/spec").read_text() == text


def test_rename_of_a_queued_job(queue):
    m = queue
    m.put("x", "print('renamed')\n")
    os.rename(m.jobs / "x", m.jobs / "y")
    assert os.listdir(m.jobs) == ["y"]
    (m.node / "cpus").write_text("1")
    assert m.result("y") == b"renamed\n"
    with pytest.raises(FileNotFoundError):
        open(m.results / "x")


def test_rename_of_a_draft_over_a_job(queue):
    m = queue
    m.put("x", "print('old')\n")
    m.put(".x", "print('new')\n")
    os.rename(m.jobs / ".x", m.jobs / "x")
    assert os.listdir(m.jobs) == ["x"] and (m.jobs / "x").read_text() == "print('new')\n"
    (m.node / "cpus").write_text("1")
    assert m.result("x") == b"new\n"
    m.put(".x", "print('newer')\n")
    os.rename(m.jobs / ".x", m.jobs / "x")
    assert m.result("x") == b"newer\n"


def test_rename_over_a_running_job(m):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    m.put(".x", "print('new')\n")
    with pytest.raises(OSError) as e:
        os.rename(m.jobs / ".x", m.jobs / "x")
    assert err(e) == "ETXTBSY"
    m.open_gate("x")
    assert m.result("x") == b"through x\n" and os.listdir(m.jobs) == [".x"]


def test_links_and_devices_are_refused(m):
    m.put(".x", "print(1)\n")
    for make in (lambda: os.symlink("x", m.jobs / "s"), lambda: os.link(m.jobs / ".x", m.jobs / "l"),
                 lambda: os.mkfifo(m.jobs / "f")):
        with pytest.raises(OSError) as e:
            make()
        assert err(e) in ("EPERM", "ENOSYS", "EOPNOTSUPP")
    assert os.listdir(m.jobs) == [".x"]


# --- rm cancels --------------------------------------------------------------------------------------------------

def test_rm_cancels_the_whole_tree(m):
    m.put("x", m.tree_job())
    pids = m.tree_pids()
    reader = m.reader(m.results / "x")
    os.unlink(m.jobs / "x")
    assert os.listdir(m.jobs) == []
    wait_until(lambda: not any(map(alive, pids)), "the whole tree to be dead")
    out, complaint = reader.communicate()
    assert reader.returncode == 1 and b"canceled" in complaint.lower() and out == b""
    assert m.state("x") == "cancelled"
    assert os.listdir(m.results) == os.listdir(m.failures) == []
    with pytest.raises(OSError) as e:
        open(m.results / "x")
    assert err(e) == "ECANCELED"
    m.works()
    os.rmdir(m.info / "x")
    with pytest.raises(FileNotFoundError):
        open(m.results / "x")


@pytest.mark.parametrize("size", [0, 200000], ids=["small", "large"])
def test_what_a_cancelled_job_printed_is_kept(m, size):
    """As of one that ran out of its time: what it wrote, the signal, its usage, and the counts."""
    m.put("x", "import sys, time\nsum(range(3000000))\nsys.stdout.write('x' * %d)\nprint('said', flush=True)\n"
          "print('and complained', file=sys.stderr, flush=True)\ntime.sleep(1000)\n" % size)
    with open(m.info / "x/stderr") as f:
        assert f.readline() == "and complained\n"
    os.unlink(m.jobs / "x")
    assert m.wait("x") == "cancelled"  # of which the end is known by then
    assert (m.info / "x/stdout").read_text() == "x" * size + "said\n" and m.get("x", "stderr") == "and complained"
    assert m.get("x", "exit") == "SIGKILL" and "SIGKILL" in m.why("x")
    assert float(m.get("x", "usage").split()[1]) > 0
    assert (m.info / ".wait").read_text() == "done 0 failed 0 cancelled 1\n"
    assert (m.info / ".progress").read_text() == "done 0 failed 0 running 0 waiting 0 of 1 cancelled 1\n"
    os.rmdir(m.info / "x")
    assert (m.info / ".wait").read_text() == "done 0 failed 0\n"
    m.put("x", "print('again')\n")
    assert m.result("x") == b"again\n"


def test_cancelled_and_written_again_at_once(m):
    """The old one's end comes when its name is another's: nothing of it is seen there."""
    for i in range(20):
        m.put("x", "import time\nprint('old', flush=True)\ntime.sleep(1000)\n")
        with open(m.info / "x/stdout") as f:
            assert f.readline() == "old\n"
        os.unlink(m.jobs / "x")
        m.put("x", "print('new')\n")
        assert m.result("x") == b"new\n" and m.get("x", "exit") == "0"
        os.unlink(m.results / "x")


def test_rm_cancels_a_queued_job(m1):
    m = m1
    m.put("first", m.gate("first"))
    m.pid_of("first")
    m.put("x", "#!/bin/sh\ntouch %s/ran\n" % m.work)
    os.unlink(m.jobs / "x")
    assert m.state("x") == "cancelled"
    m.open_gate("first")
    m.result("first")
    m.works()
    assert not (m.work / "ran").exists()


@pytest.mark.parametrize("what", [
    (eval, ("__import__('time').sleep(1000)",)),
    (eval, ("[open('/dev/null') for _ in iter(int, 1)]",)),
    (eval, ("(lambda s: (s.signal(s.SIGTERM, s.SIG_IGN), __import__('time').sleep(1000)))(__import__('signal'))",)),
], ids=["asleep", "busy", "ignores SIGTERM"])
def test_rm_cancels_a_call(m, what):
    m.put("x", what)
    m.is_running("x")
    os.unlink(m.jobs / "x")
    assert m.wait("x") == "cancelled"
    m.works()


def test_what_was_cancelled_can_be_run_again(m):
    gate = m.gate("x")
    m.put("x", gate)
    m.pid_of("x")
    (m.jobs / "x").unlink()
    assert m.wait("x") == "cancelled" and (m.info / "x/spec").read_text() == gate
    (m.work / "x.pid").unlink()
    m.sh("cp $M/info/x/spec $M/jobs/x")
    m.pid_of("x")


def test_cancelled_name_is_free_again(m):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    os.unlink(m.jobs / "x")
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.write(fd, b"print('second')\n")
    os.close(fd)
    assert m.result("x") == b"second\n"


# --- several writers ---------------------------------------------------------------------------------------------

def test_many_writers_at_once(m):
    script = "for i in $(seq 60); do printf '#!/bin/sh\\necho %s-%s\\n' $0 $i > $M/jobs/$0-$i; done"
    writers = [m.popen("/bin/sh", "-c", script, "w%d" % w) for w in range(4)]
    for p in writers:
        assert (p.communicate(), p.returncode) == ((b"", b""), 0)
    assert (m.info / ".wait").read_text() == "done 240 failed 0\n"
    for w in range(4):
        for i in range(1, 61):
            assert m.result("w%d-%d" % (w, i)) == b"w%d-%d\n" % (w, i)


def test_one_exclusive_winner(m):
    """Of many who create the same name with O_EXCL exactly one wins, each time."""
    script = ("import os, sys\nfor i in range(40):\n try: fd = os.open(os.environ['M'] + '/jobs/n%d' % i, os.O_CREAT | "
              "os.O_EXCL | os.O_WRONLY)\n except FileExistsError: continue\n os.write(fd, b'print(%d)\\n' % i)\n"
              " os.close(fd)\n"
              " print(i)\n")
    racers = [m.popen("/usr/bin/python3", "-c", script) for _ in range(4)]
    won = []
    for p in racers:
        out, complaint = p.communicate()
        assert (complaint, p.returncode) == (b"", 0)
        won += out.split()
    assert sorted(map(int, won)) == list(range(40))
    assert (m.info / ".wait").read_text() == "done 40 failed 0\n"


def test_fsync(m):
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"print('synced')\n")
    os.fsync(fd)
    os.close(fd)
    assert m.result("x") == b"synced\n"
    directory = os.open(m.jobs, os.O_RDONLY)
    try:
        os.fsync(directory)  # what a careful writer does after its rename
    finally:
        os.close(directory)


def test_writes_out_of_order(m):
    """pwrite, holes and truncation build the file that is run."""
    fd = os.open(m.jobs / "x", os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, b"print('end')\n#rubbish", 100_000)
    os.pwrite(fd, b"print('start')\n#", 0)
    hole = 100_000 - 16
    while hole:
        hole -= os.pwrite(fd, b" " * min(hole, 4096), 16 + 100_000 - 16 - hole)
    os.pwrite(fd, b"\n", 99_999)
    os.ftruncate(fd, 100_013)
    assert os.pread(fd, 15, 0) == b"print('start')\n"
    assert os.fstat(fd).st_size == 100_013
    os.close(fd)
    assert m.result("x") == b"start\nend\n"


def test_interrupted_writer_tells_the_truth(m):
    """A writer ended by a signal between two jobs leaves whole jobs only."""
    p = m.popen("/bin/sh", "-c", "i=0; while :; do i=$((i+1)); printf '#!/bin/sh\\necho %d\\n' $i > $M/jobs/j$i; done")
    wait_until(lambda: len(os.listdir(m.results)) > 20, "some jobs")
    p.send_signal(signal.SIGTERM)
    p.communicate()
    (m.info / ".wait").read_text()
    left = os.listdir(m.jobs)
    assert len(left) <= 1 and all(m.state(name) == "draft" for name in left)
    for name in os.listdir(m.results):
        assert m.result(name) == b"%d\n" % int(name[1:])
    assert os.listdir(m.failures) == []


def test_quick_fire_from_the_shell(m):
    p = subprocess.run(["/bin/sh", "-c",
                        "for i in 1 2 3 4 5 6 7 8 9; do echo \"print($i)\" > $M/jobs/$i; cat $M/results/$i; rm "
                        "$M/results/$i; done"], env=m.client_env(), cwd=m.work, capture_output=True, text=True)
    assert (p.returncode, p.stderr) == (0, "") and p.stdout.split() == list("123456789")
    assert os.listdir(m.results) == []
