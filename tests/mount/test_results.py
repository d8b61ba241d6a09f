"""ppfs(5), results/ and failures/: waiting, being interrupted, polling, reading."""
import errno
import os
import select
import signal
import threading

import pytest
from ppfsmount import wait_until
from test_result_files import big


def err(e):
    return errno.errorcode[e.value.errno]


# --- waiting -----------------------------------------------------------------------------------------------------

def test_open_waits(m):
    m.put("x", m.gate("x"))
    reader = m.reader(m.results / "x")
    assert os.listdir(m.results) == [] and os.listdir(m.jobs) == ["x"]
    m.open_gate("x")
    assert reader.communicate() == (b"through x\n", b"") and reader.returncode == 0


@pytest.mark.parametrize("state", ["queued", "held", "waiting", "running", "draft"])
def test_open_waits_in_every_state(m1, state):
    m = m1
    m.put("first", m.gate("first"))
    m.pid_of("first")
    if state == "running":
        name = "first"
    else:
        name = "x"
        if state == "draft":
            (m.jobs / "x").touch()
        else:
            m.put("x", {"queued": "", "held": "#ppfs: hold=1\n",
                        "waiting": "#ppfs: after=first\n"}[state] + "print('x')\n")
    assert m.state(name) == state
    reader = m.reader(m.results / name)
    if state == "draft":
        m.put("x", "print('x')\n")
    m.open_gate("first")
    if state == "held":
        (m.info / "x/hold").write_text("0")
    out, complaint = reader.communicate()
    assert complaint == b"" and out in (b"x\n", b"through first\n")


def test_stat_does_not_wait(m):
    m.put("x", m.gate("x"))
    assert (m.results / "x").stat().st_size == 0
    assert (m.results / "x").exists()
    m.open_gate("x")
    m.wait("x")
    assert (m.results / "x").stat().st_size == len(b"through x\n")


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_open_is_interrupted(m, sig):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    reader = m.reader(m.results / "x")
    reader.send_signal(sig)
    assert reader.wait(30) == -sig
    reader.communicate()
    assert m.state("x") == "running"  # that nobody waits does not matter to it
    m.open_gate("x")
    assert m.result("x") == b"through x\n"


def test_timeout_command(m):
    m.put("x", m.gate("x"))
    p = m.sh("timeout 0.3 cat $M/results/x", check=False)
    assert p.returncode == 124 and p.stdout == b""
    m.open_gate("x")
    assert m.sh("timeout 30 cat $M/results/x").stdout == b"through x\n"


@pytest.mark.parametrize("what", ["results/x", "info/x/wait", "info/x/stdout", "info/.wait", "info/x/stderr"])
def test_every_wait_is_interrupted(m, what):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    reader = m.reader(m.mnt / what)
    reader.send_signal(signal.SIGINT)
    assert reader.wait(30) == -signal.SIGINT
    reader.communicate()
    m.open_gate("x")
    m.result("x")


def test_unmounting_ends_no_wait_with_a_lie(m):
    """A client that waits holds the mount busy: fusermount3 -u says so, a lazy one lets the wait go on."""
    m.put("x", m.gate("x"))
    m.pid_of("x")
    reader = m.reader(m.results / "x")
    with pytest.raises(AssertionError, match="busy"):
        m.unmount()
    m.open_gate("x")
    assert reader.communicate() == (b"through x\n", b"")


def test_many_readers_of_one_result(m):
    m.put("x", m.gate("x"))
    readers = [m.reader(m.results / "x") for _ in range(20)]
    m.works()  # nothing else is held up by them
    m.open_gate("x")
    for p in readers:
        assert p.communicate() == (b"through x\n", b"")


def test_many_readers_of_many_results(m):
    names = ["j%d" % i for i in range(50)]
    answers = {}

    def read(name):
        answers[name] = m.result(name)

    (m.jobs / ".options").write_text("hold=1\n")
    for name in names:
        m.put(name, "#!/bin/sh\necho %s\n" % name)
    os.unlink(m.jobs / ".options")
    threads = [threading.Thread(target=read, args=(name,)) for name in names for _ in range(2)]
    for t in threads:
        t.start()
    for name in names:
        (m.info / name / "hold").write_text("0\n")
    for t in threads:
        t.join()
    assert answers == {name: name.encode() + b"\n" for name in names}


def test_job_that_waits_for_another(m1):
    """With one slot: the one that waits lends its slot out."""
    m = m1
    m.put("inner", "#ppfs: hold=1\nprint('from the inside')\n")
    m.put("outer", "#!/bin/sh\necho 0 > %s/info/inner/hold\ncat %s/results/inner\n" % (m.mnt, m.mnt))
    assert m.result("outer") == b"from the inside\n"


def test_jobs_that_submit_jobs(m1):
    """A chain three deep on one slot, each waits for the one it made."""
    m = m1
    script = "#!/bin/sh\nM=%s\n" % m.mnt
    inner = script + "echo bottom\n"
    middle = script + "cat > $M/jobs/c <<'C'\n" + inner + "C\ncat $M/results/c; echo middle\n"
    outer = script + "cat > $M/jobs/b <<'B'\n" + middle + "B\ncat $M/results/b; echo top\n"
    m.put("a", outer)
    assert m.result("a") == b"bottom\nmiddle\ntop\n"


# --- without waiting ---------------------------------------------------------------------------------------------

def test_nonblocking_read(m):
    m.put("x", m.gate("x"))
    fd = os.open(m.results / "x", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(fd, 100)
    m.open_gate("x")
    m.wait("x")
    assert os.read(fd, 100) == b"through x\n"
    assert os.read(fd, 100) == b""
    os.close(fd)


def test_nonblocking_open_of_an_ended_job(m):
    m.put("x", "print(1)\n")
    m.wait("x")
    fd = os.open(m.results / "x", os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(fd, 100) == b"1\n"
    os.close(fd)


@pytest.mark.parametrize("how", ["poll", "epoll level", "epoll edge", "select"])
def test_poll(m, how):
    for name in ("x", "y"):
        m.put(name, m.gate(name))
    fds = {name: os.open(m.results / name, os.O_RDONLY | os.O_NONBLOCK) for name in ("x", "y")}
    if how == "select":
        def ready(timeout):
            return select.select(list(fds.values()), [], [], timeout)[0]
    elif how == "poll":
        poller = select.poll()
        for fd in fds.values():
            poller.register(fd, select.POLLIN)

        def ready(timeout):
            return [fd for fd, what in poller.poll(timeout * 1000) if what & select.POLLIN]
    else:
        poller = select.epoll()
        for fd in fds.values():
            poller.register(fd, select.EPOLLIN | (select.EPOLLET if "edge" in how else 0))

        def ready(timeout):
            return [fd for fd, what in poller.poll(timeout) if what & select.EPOLLIN]
    assert ready(0) == []
    opener = threading.Timer(0.05, m.open_gate, ["x"])
    opener.start()
    assert ready(30) == [fds["x"]]
    opener.join()
    assert os.read(fds["x"], 100) == b"through x\n"
    with pytest.raises(BlockingIOError):
        os.read(fds["y"], 100)
    m.open_gate("y")
    assert fds["y"] in wait_until(lambda: [fd for fd in ready(5) if fd == fds["y"]], "y to be ready")
    assert os.read(fds["y"], 100) == b"through y\n"
    for fd in fds.values():
        os.close(fd)


@pytest.mark.parametrize("end, name", [("fail", "EIO"), ("timeout", "ETIMEDOUT"), ("cancel", "ECANCELED")])
def test_poll_of_a_job_that_does_not_succeed(m, end, name):
    m.put("x", {"fail": "#!/bin/sh\nread line < %s/fifo\nexit 1\n" % m.work,
                "timeout": "#!/bin/sh\n#ppfs: timeout=1\nsleep 1000\n",
                "cancel": "#!/bin/sh\nsleep 1000\n"}[end])
    os.mkfifo(m.work / "fifo")
    fd = os.open(m.results / "x", os.O_RDONLY | os.O_NONBLOCK)
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if end == "fail":
        m.is_running("x")
        (m.work / "fifo").write_text("go\n")
    elif end == "cancel":
        os.unlink(m.jobs / "x")
    assert poller.poll(30000)
    with pytest.raises(OSError) as e:
        os.read(fd, 100)
    assert err(e) == name
    os.close(fd)


# --- errors ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("path", ["x", "G/x", "..x", "x/y"])
def test_unknown_name(m, path):
    for directory in (m.results, m.failures, m.info, m.jobs):
        with pytest.raises(FileNotFoundError):
            open(directory / path)


def test_failed(m):
    m.put("x", "#!/bin/sh\nread line < %s/fifo\necho nope >&2\nexit 3\n" % m.work)
    os.mkfifo(m.work / "fifo")
    reader = m.reader(m.results / "x")
    (m.work / "fifo").write_text("go\n")
    out, complaint = reader.communicate()
    assert reader.returncode == 1 and out == b"" and b"Input/output error" in complaint
    text = m.failed("x")
    assert "nope" in text and os.listdir(m.failures) == ["x"] and os.listdir(m.jobs) == []
    assert (m.failures / "x").stat().st_size == len(text.encode())


def test_timed_out(m):
    m.put("x", "#!/bin/sh\n#ppfs: timeout=1s\nsleep 1000\n")
    assert "time" in m.failed("x", errno.ETIMEDOUT).split("\n")[0]


@pytest.mark.parametrize("looked", [False, True])
@pytest.mark.parametrize("end, name", [("fail", "EIO"), ("timeout", "ETIMEDOUT"), ("cancel", "ECANCELED")])
def test_what_did_not_succeed_has_no_result(m, end, name, looked):
    """Scripts, make and Python do not take it for one, also when it was looked at while it ran."""
    gate = m.gate("x")
    m.put("x", {"fail": gate + "exit 1\n", "timeout": "#ppfs: timeout=%s\nimport time; time.sleep(100)\n" % ("500ms" if looked else "1ms"),
                "cancel": gate}[end])
    if looked:
        assert os.path.exists(m.results / "x")
    if end == "fail":
        m.open_gate("x")
    elif end == "cancel":
        os.unlink(m.jobs / "x")
    assert m.wait("x") == ("cancelled" if end == "cancel" else "failed")
    assert m.sh("[ -e $M/results/x ]", check=False).returncode == 1
    assert m.sh("[ -s $M/results/x ] || [ -f $M/results/x ]", check=False).returncode == 1
    assert not os.path.exists(m.results / "x") and not os.path.isfile(m.results / "x")
    for look in ((m.results / "x").stat, (m.results / "x").read_bytes):
        with pytest.raises(OSError) as e:
            look()
        assert err(e) == name
    (m.work / "Makefile").write_text("%s/results/x:\n\t@echo made again\n" % m.mnt)
    assert m.sh("make 2> complaint").stdout == b"made again\n"
    os.rmdir(m.info / "x")
    assert not (m.results / "x").exists()


def test_success_has_no_failure(m):
    m.put("x", "print(1)\n")
    m.result("x")
    with pytest.raises(FileNotFoundError):
        open(m.failures / "x")
    assert m.why("x") == ""


def test_results_are_read_only(m):
    m.put("x", "print(1)\n")
    m.result("x")
    mode = (m.results / "x").stat().st_mode
    assert not mode & 0o222 and mode & 0o400
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        with pytest.raises(OSError) as e:
            os.open(m.results / "x", flags)
        assert err(e) in ("EACCES", "EPERM", "EROFS")
    with pytest.raises(OSError):
        os.rename(m.results / "x", m.results / "y")
    with pytest.raises(OSError):
        os.mkdir(m.results / "G")
    assert m.result("x") == b"1\n"


# --- forgetting --------------------------------------------------------------------------------------------------

def test_rm_forgets(m):
    m.put("x", "print(1)\n")
    m.put("f", "raise SystemExit(1)\n")
    m.result("x")
    m.failed("f")
    os.unlink(m.results / "x")
    os.unlink(m.failures / "f")
    for name in ("x", "f"):
        for directory in (m.jobs, m.results, m.failures, m.info):
            assert not (directory / name).exists()
            assert name not in os.listdir(directory)
    m.unmount()
    m.start()
    assert os.listdir(m.results) == os.listdir(m.failures) == []


def test_rm_of_a_pending_result(m):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    with pytest.raises(OSError):
        os.unlink(m.results / "x")
    with pytest.raises(OSError):
        os.unlink(m.failures / "x")
    m.open_gate("x")
    assert m.result("x") == b"through x\n"


@pytest.mark.parametrize("size", [10, 3_000_000])
def test_rm_while_open_keeps_the_bytes(m, size):
    script, data = big(size)
    m.put("x", script)
    m.wait("x")
    with open(m.results / "x", "rb", buffering=0) as f, open(m.results / "x", "rb", buffering=0) as g:
        os.unlink(m.results / "x")
        assert os.listdir(m.results) == []
        m.put("x", "print('another')\n")
        assert m.result("x") == b"another\n"
        assert f.readall() == data
        assert os.fstat(g.fileno()).st_size == size
        f.close()
        assert g.readall() == data
    os.unlink(m.results / "x")
    spool = [p for p in m.statedir.rglob("*") if p.is_file() and "spool" in p.parts]
    wait_until(lambda: not [p for p in spool if p.exists() and p.stat().st_size == size], "the spool file to go")


def test_replaced_while_open_keeps_the_bytes(m):
    script, data = big(500_000)
    m.put("x", script)
    m.wait("x")
    with open(m.results / "x", "rb", buffering=0) as f:
        m.put("x", "print('another')\n")
        assert m.result("x") == b"another\n"
        assert f.readall() == data


def test_rewritten_while_somebody_waits(queue):
    """Who waits for a name gets what it means in the end, however often it is written again, in place or by rename."""
    m = queue
    m.put("x", "print('first')\n")
    readers = [m.reader(m.results / "x")]
    for i in range(6):
        m.put(".x" if i % 2 else "x", "print('no %d')\n" % i)
        if i % 2:
            os.rename(m.jobs / ".x", m.jobs / "x")
        readers.append(m.reader(m.results / "x"))
    (m.node / "cpus").write_text("1")
    for reader in readers:
        assert reader.communicate(timeout=40) == (b"no 5\n", b"")
    assert (m.node / "done").read_text() == "1\n"


def test_rewritten_and_removed_while_somebody_waits(queue):
    m = queue
    m.put("x", "print('first')\n")
    reader = m.reader(m.results / "x")
    m.put("x", "print('second')\n")
    m.put("x", "print('third')\n")
    (m.jobs / "x").unlink()
    out, complaint = reader.communicate(timeout=40)
    assert out == b"" and b"canceled" in complaint.lower()


def test_rm_star(m):
    for i in range(200):
        m.put("j%d" % i, {"call": "abs", "args": [i]})
    (m.info / ".wait").read_text()
    m.sh("rm $M/results/*")
    assert os.listdir(m.results) == [] and (m.info / ".progress").read_text().startswith("done 0 failed 0")
