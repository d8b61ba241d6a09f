"""ppfs(5), info/NAME/: everything known about one job, one value a file."""
import errno
import os
import re
import select
import shutil
import threading

import pytest
from ppfsmount import wait_until

FILES = {"state", "why", "wait", "stdout", "stderr", "spec", "exit", "attempt", "node", "times", "usage", "priority",
         "hold", "events"}


def test_what_there_is(m):
    m.put("x", "#!/bin/sh\necho out; echo err >&2\n")
    m.result("x")
    assert FILES <= set(os.listdir(m.info / "x"))
    for name in FILES:
        text = (m.info / "x" / name).read_text()
        if name not in ("wait", "events"):
            assert (m.info / "x" / name).stat().st_size == len(text), "%s does not have its true size" % name
    for name in ("state", "exit", "attempt", "node", "priority", "hold", "wait"):
        assert re.fullmatch(r"[^\n]+\n", (m.info / "x" / name).read_text()), name
    assert "x" in os.listdir(m.info)


def test_values_of_a_job_that_succeeded(m):
    m.put("x", "#!/bin/sh\necho out; echo err >&2\n")
    m.result("x")
    assert m.state("x") == "done" and m.wait("x") == "done" and m.why("x") == ""
    assert m.get("x", "stdout") == "out" and m.get("x", "stderr") == "err"
    assert m.get("x", "exit") == "0" and m.get("x", "attempt") == "1" and m.get("x", "node") == "local"
    assert m.get("x", "priority") == "0" and m.get("x", "hold") == "0"


def test_times(m):
    m.put("x", "#!/bin/sh\nsleep 0.05\n")
    m.result("x")
    t = m.times("x")
    assert t["created"] <= t["queued"] <= t["started"] < t["ended"]
    assert t["ended"] - t["started"] >= 0.05
    assert abs(t["created"] - os.stat(m.statedir).st_mtime) < 3600


def test_usage(m):
    m.put("x", "sum(i * i for i in range(3_000_000))\nb = b'x' * 50_000_000\n")
    m.result("x")
    lines = (m.info / "x/usage").read_text().splitlines()
    usage = {line.split()[0]: float(line.split()[1]) for line in lines}
    assert usage["user"] > 0.02 and usage["system"] >= 0
    assert usage["maxrss"] > 40_000


def test_usage_of_a_program_is_its_own(m):
    m.put("x", "#!/bin/sh\ni=0; while [ $i -lt 100000 ]; do i=$((i+1)); done\n")
    m.put("y", (sum, (range(3_000_000),)))
    m.result("x")
    m.result("y")
    for name in ("x", "y"):
        assert float((m.info / name / "usage").read_text().split()[1]) > 0.01, name


def test_usage_of_a_stream_is_not_told(m):
    m.put("s.jsonl", '{"call": "sum", "args": [[1, 2]]}\n')
    assert m.result("s.jsonl") == b"3\n"
    assert m.get("s.jsonl", "usage") == ""


def test_states_on_the_way(m1):
    m = m1
    m.put(".d", "print(1)\n")
    m.put("r", m.gate("r"))
    m.pid_of("r")
    m.put("q", "print(1)\n")
    m.put("h", "#ppfs: hold=1\nprint(1)\n")
    m.put("w", "#ppfs: after=r\nprint(1)\n")
    m.put("c", "print(1)\n")
    os.unlink(m.jobs / "c")
    assert {name: m.state(name) for name in (".d", "r", "q", "h", "w", "c")} == {
        ".d": "draft", "r": "running", "q": "queued", "h": "held", "w": "waiting", "c": "cancelled"}
    for name in ("q", "h", "w"):
        assert re.fullmatch(r"[^\n]+", m.why(name)), "%s does not say why it waits" % name
    assert "r" in m.why("w")
    assert m.get("r", "node") == "local" and m.get("r", "attempt") == "1" and m.get("r", "exit") == ""
    assert m.get("q", "node") == "" and m.get("q", "exit") == ""
    m.open_gate("r")
    m.result("q")
    m.result("w")
    os.unlink(m.jobs / "h")


def test_exit_of_a_job_that_was_killed(m):
    m.put("x", "#!/bin/sh\nkill -TERM $$\n")
    m.failed("x")
    assert m.get("x", "exit") == "SIGTERM" and "SIGTERM" in m.why("x")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_is_live(m, stream):
    """A reader follows a running job line by line, and sees the end when it has ended."""
    redirect = ">&2" if stream == "stderr" else ""
    m.put("x",
          "#!/bin/bash\nwhile read -r line; do [ \"$line\" = end ] && exit; echo \"got $line\" %s\n"
          "done < <(tail -f -n +1 %s/in)\n"
          % (redirect, m.work))
    (m.work / "in").touch()
    m.is_running("x")
    reader = m.popen("cat", m.info / "x" / stream)
    for i in range(5):
        with open(m.work / "in", "a") as f:
            f.write("line %d\n" % i)
        assert reader.stdout.readline() == b"got line %d\n" % i
        assert m.state("x") == "running"
    late = m.popen("cat", m.info / "x" / stream)
    assert late.stdout.readline() == b"got line 0\n"  # every reader starts at the beginning
    with open(m.work / "in", "a") as f:
        f.write("end\n")
    assert reader.stdout.read() == b"" and reader.wait() == 0
    assert late.stdout.read() == b"".join(b"got line %d\n" % i for i in range(1, 5))
    m.wait("x")
    assert (m.info / "x" / stream).read_text() == "".join("got line %d\n" % i for i in range(5))


@pytest.mark.parametrize("kind", ["call", "python"])
def test_output_of_python_is_live(m, kind):
    os.mkfifo(m.work / "fifo")
    line = "print('before'); open('%s').read(); print('after')" % (m.work / "fifo")
    m.put("x", (exec, (line,)) if kind == "call" else line + "\n")
    reader = m.popen("cat", m.info / "x/stdout")
    assert reader.stdout.readline() == b"before\n"
    assert m.state("x") == "running"
    (m.work / "fifo").write_text("")
    assert reader.stdout.read() == b"after\n"


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("tail", ["tail -f", "tail -F", "tail -f -n 1"])
def test_tail_follows(m, tail, early):
    """Line by line, whether or not there is one when it begins."""
    os.mkfifo(m.work / "fifo")
    m.put("x", "#!/bin/sh\nwhile read -r line; do echo $line; done < %s/fifo\n" % m.work)
    m.is_running("x")
    with open(m.work / "fifo", "w", buffering=1) as f:
        if not early:
            f.write("one\n")
            wait_until(lambda: (m.info / "x/stdout").stat().st_size == 4, "the first line")
        reader = m.popen(*tail.split(), m.info / "x/stdout")
        if early:
            f.write("one\n")
        assert reader.stdout.readline() == b"one\n"
        for word in ("two", "three"):
            f.write(word + "\n")
            assert reader.stdout.readline() == word.encode() + b"\n"
    m.result("x")
    reader.kill()
    reader.communicate()


def test_what_takes_a_part_of_live_output(m):
    """head does not complain; what goes by the size has what is there, what reads to the end follows."""
    os.mkfifo(m.work / "fifo")
    m.put("x", "#!/bin/sh\necho one\necho two\ncat %s/fifo\n" % m.work)
    wait_until(lambda: (m.info / "x/stdout").stat().st_size == 8, "two lines")
    out = m.info / "x/stdout"
    assert m.sh("head -n 1 $M/info/x/stdout; wc -c < $M/info/x/stdout; tar -cf - -C $M/info x/stdout | tar -xOf -").stdout == b"one\n8\none\ntwo\n"
    copied = threading.Thread(target=shutil.copy, args=(out, m.work / "copied"))
    copied.start()
    followers = [m.reader(out), m.popen("cp", out, m.work / "cp")]
    with open(out, "rb") as f, open(m.work / "sent", "wb") as to:
        with pytest.raises(OSError):
            os.sendfile(to.fileno(), f.fileno(), 0, 8)
        assert f.seek(4) == 4 and os.read(f.fileno(), 4) == b"two\n"
    (m.work / "fifo").write_text("three\n")
    assert followers[0].communicate() == (b"one\ntwo\nthree\n", b"") and followers[1].wait() == 0
    copied.join()
    for name in ("copied", "cp"):
        assert (m.work / name).read_text() == "one\ntwo\nthree\n"
    assert (m.info / "x/stdout").read_bytes() == b"one\ntwo\nthree\n"


def test_info_of_a_job_that_was_replaced(m):
    """What the kernel remembers of the old one does not hide the new one's files."""
    for i in range(10):
        m.put("x", "print(%d)\n" % i)
        wait_until(lambda: m.result("x") == b"%d\n" % i, "the new job")
        assert m.state("x") == "done"
        (m.jobs / "x").write_bytes((m.info / "x/spec").read_bytes())
        for what in ("wait", "attempt", "times", "usage", "exit"):
            assert m.get("x", what), what
        assert m.wait("x") == "done"


def test_much_output_is_live(m):
    """A reader that is as fast as the job, and faster than the disk, is given all of it."""
    for i in range(6):
        name = "x%d" % i
        m.put(name, "#!/bin/sh\nfor i in $(seq 100); do head -c 100000 /dev/zero | tr '\\0' x; done\n")
        reader = m.popen("cat", m.info / name / "stdout")
        assert len(reader.communicate()[0]) == 100 * 100000 and reader.returncode == 0


def test_output_before_the_job_runs(m):
    """Reading the output of a job that still waits follows it from its start."""
    m.put("x", "#ppfs: hold=1\nprint('at last')\n")
    reader = m.reader(m.info / "x/stdout")
    (m.info / "x/hold").write_text("0")
    assert reader.communicate() == (b"at last\n", b"")


def test_wait(m):
    m.put("good", m.gate("good"))
    m.put("bad", m.gate("bad") + "exit 1\n")
    m.put("gone", m.gate("gone"))
    readers = {name: m.reader(m.info / name / "wait") for name in ("good", "bad", "gone")}
    m.open_gate("good")
    m.open_gate("bad")
    os.unlink(m.jobs / "gone")
    answers = {name: p.communicate()[0] for name, p in readers.items()}
    assert answers == {"good": b"done\n", "bad": b"failed\n", "gone": b"cancelled\n"}


def test_wait_for_all(m):
    os.makedirs(m.jobs / "G/H")
    m.put("top", m.gate("top"))
    m.put("G/x", "print(1)\n")
    m.put("G/H/bad", m.gate("G/H/bad") + "exit 1\n")
    m.put(".draft", "print(1)\n")  # a draft is nothing unfinished
    everything, group = m.reader(m.info / ".wait"), m.reader(m.info / "G/.wait")
    m.open_gate("G/H/bad")
    assert group.communicate() == (b"done 1 failed 1\n", b"")
    assert everything.poll() is None
    m.open_gate("top")
    assert everything.communicate() == (b"done 2 failed 1\n", b"")
    assert (m.info / "G/H/.wait").read_text() == "done 0 failed 1\n"


def test_poll_waits_for_all(m):
    """Of a group and of everything; a group that is removed is ready too."""
    os.mkdir(m.jobs / "G")
    m.put("G/x", m.gate("G/x"))
    poll, files = select.poll(), {}
    for where in ("G/.wait", ".wait"):
        fd = os.open(m.info / where, os.O_RDONLY | os.O_NONBLOCK)
        files[fd] = where
        poll.register(fd, select.POLLIN)
    try:
        assert poll.poll(0) == []
        for fd in files:
            with pytest.raises(BlockingIOError):
                os.read(fd, 100)
        m.open_gate("G/x")
        ready = set()
        while len(ready) < 2:
            found = poll.poll(40_000)
            assert found, "one of them never was ready"
            ready |= {fd for fd, _ in found}
        assert [os.read(fd, 100) for fd in files] == 2 * [b"done 1 failed 0\n"]
    finally:
        for fd in files:
            os.close(fd)


def test_many_wait_for_all(queue):
    """They are woken once, at the end, be it that the last job is removed."""
    m = queue
    os.mkdir(m.jobs / "G")
    for i in range(40):
        m.put("G/j%d" % i, {"call": "abs", "args": [i]})
    readers = [m.reader(m.info / where) for where in ("G/.wait", ".wait") * 10]
    os.unlink(m.jobs / "G/j39")
    (m.node / "cpus").write_text("2")
    for p in readers:
        out, complaint = p.communicate()
        assert out.startswith(b"done 39 failed 0") and complaint == b""


def test_wait_ends_with_a_group_that_opens_empty(m):
    """It counts as unfinished until it has been looked through."""
    for i in range(30):
        os.mkdir(m.jobs / ".G")
        reader = m.popen("/bin/sh", "-c", "cat $M/info/.wait")
        os.rename(m.jobs / ".G", m.jobs / "G")
        (m.info / ".wait").read_text()
        assert reader.communicate()[1] == b""
        os.rmdir(m.jobs / "G")


def test_wait_for_nothing(m):
    assert (m.info / ".wait").read_text() == "done 0 failed 0\n"


def test_progress(m):
    m.put("a", "print(1)\n")
    m.put("b", "raise SystemExit(1)\n")
    m.result("a")
    m.failed("b")
    m.put("r", m.gate("r"))
    m.pid_of("r")
    m.put("h", "#ppfs: hold=1\nprint(1)\n")
    line = (m.info / ".progress").read_text()
    assert re.match(r"done 1 failed 1\b[^\n]*\n$", line)
    words = line.split()
    assert words[words.index("running") + 1] == "1"
    os.mkdir(m.jobs / "G")
    assert (m.info / "G/.progress").read_text().startswith("done 0 failed 0")
    m.open_gate("r")
    m.result("r")
    os.unlink(m.jobs / "h")


def test_spec_round_trip(m):
    text = "#!/bin/sh\n#ppfs: priority=4\necho $RANDOM > /dev/null; echo again\n"
    m.put("x", text)
    assert m.result("x") == b"again\n"
    assert (m.info / "x/spec").read_text() == text
    m.sh("cp $M/info/x/spec $M/jobs/x")
    assert m.result("x") == b"again\n" and (m.info / "x/spec").read_text() == text
    m.sh("cp $M/info/x/spec $M/jobs/y; tail -n 1 $M/info/x/spec > /dev/null")
    assert m.result("y") == b"again\n"


def test_spec_of_a_large_job(m):
    text = "#!/bin/sh\necho large\n#" + "x" * 1_000_000 + "\n"
    m.put("x", text)
    m.result("x")
    m.sh("cp $M/info/x/spec $M/jobs/y")
    assert m.result("y") == b"large\n" and (m.info / "y/spec").read_text() == text


@pytest.mark.parametrize("how", ["echo 7 > $M/info/x/priority", "printf 7 > $M/info/x/priority",
                                 "echo 7 | tee $M/info/x/priority > /dev/null",
                                 "echo 7 >> $M/info/x/priority"])
def test_priority_is_writable(queue, how):
    m = queue
    m.put("a", "#!/bin/sh\necho a >> %s/order\n" % m.work)
    m.put("x", "#!/bin/sh\necho x >> %s/order\n" % m.work)
    m.sh(how)
    assert m.get("x", "priority") == "7"
    (m.node / "cpus").write_text("1")
    m.result("a")
    m.result("x")
    assert (m.work / "order").read_text() == "x\na\n"


@pytest.mark.parametrize("what", ["priority", "hold"])
@pytest.mark.parametrize("text", ["much", "1.5", "7 8", "0x10", "99999999999999999999"])
def test_rubbish_is_refused(m, what, text):
    m.put("x", "#ppfs: hold=1\nprint(1)\n")
    before = m.get("x", what)
    with pytest.raises(OSError) as e:
        (m.info / "x" / what).write_text(text + "\n")
    assert errno.errorcode[e.value.errno] == "EINVAL"
    assert m.get("x", what) == before
    os.unlink(m.jobs / "x")


@pytest.mark.parametrize("state", ["running", "draft"])
def test_what_would_change_nothing_is_refused(m, state):
    """The priority of what runs already, or of a draft, which gets its own when it is queued; a size, times."""
    m.put("x", m.gate("x")) if state == "running" else (m.jobs / "x").touch()
    assert m.is_running("x") if state == "running" else m.state("x") == "draft"
    for what, value in (("priority", "7"), ("hold", "1")):
        with pytest.raises(OSError) as e:
            (m.info / "x" / what).write_text(value)
        assert e.value.errno == errno.EBUSY and m.get("x", what) == "0"
    for change in (lambda: os.truncate(m.info / "x/priority", 5), lambda: os.utime(m.info / "x/state", (1, 1)),
                   lambda: os.utime(m.node / "cpus", (1, 1))):
        with pytest.raises(OSError):
            change()
    m.open_gate("x")
    m.wait("x") if state == "running" else os.unlink(m.jobs / "x")


def test_negative_priority(queue):
    m = queue
    m.put("x", "#ppfs: priority=-3\nprint(1)\n")
    assert m.get("x", "priority") == "-3"
    (m.info / "x/priority").write_text("-5\n")
    assert m.get("x", "priority") == "-5"


def test_priority_of_an_ended_job(m):
    m.put("x", "print(1)\n")
    m.result("x")
    for what in ("priority", "hold"):
        with pytest.raises(OSError):
            (m.info / "x" / what).write_text("1\n")


def test_hold_is_writable(queue):
    m = queue
    m.put("x", "print('x')\n")
    (m.info / "x/hold").write_text("1\n")
    assert m.state("x") == "held" and m.get("x", "hold") == "1"
    (m.node / "cpus").write_text("1")
    m.works()
    assert m.state("x") == "held"
    (m.info / "x/hold").write_text("0\n")
    assert m.result("x") == b"x\n"


@pytest.mark.parametrize("what", sorted(FILES - {"priority", "hold"}))
def test_the_rest_is_read_only(m, what):
    m.put("x", "print(1)\n")
    m.result("x")
    with pytest.raises(OSError) as e:
        (m.info / "x" / what).write_text("done\n")
    assert e.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def test_rmdir_forgets_an_ended_job(m):
    m.put("x", "print(1)\n")
    m.result("x")
    os.rmdir(m.info / "x")
    assert os.listdir(m.results) == [] and not (m.info / "x").exists()
    m.put("y", m.gate("y"))
    m.pid_of("y")
    with pytest.raises(OSError):
        os.rmdir(m.info / "y")
    m.open_gate("y")
    assert m.result("y") == b"through y\n"


def test_info_of_a_draft(m):
    m.put(".x", "print(1)\n")
    assert m.state(".x") == "draft" and (m.info / ".x/spec").read_text() == "print(1)\n"


def test_info_of_jobs_in_groups(m):
    os.makedirs(m.jobs / "G/H")
    m.put("G/H/x", "print('deep')\n")
    assert m.wait("G/H/x") == "done" and m.get("G/H/x", "stdout") == "deep"


def test_a_reader_of_output_sees_it_all_at_the_end(m):
    """The last lines before the end are not lost to one who follows: 40 rounds, as this is a race."""
    for i in range(40):
        name = "x%d" % i
        m.put(name, "#!/bin/sh\necho one\necho two\necho three\n")
        p = m.popen("cat", m.info / name / "stdout")
        assert p.communicate() == (b"one\ntwo\nthree\n", b"")


def test_info_while_jobs_come_and_go(m):
    """Listing info/ and reading every state while jobs are made, end and are forgotten: each entry is whole or gone."""
    p = m.popen("/bin/sh", "-c",
                "for i in $(seq 150); do echo 'print(1)' > $M/jobs/j$i; cat $M/results/j$i; rm $M/results/j$i; done")
    seen = set()
    while p.poll() is None:
        for name in [n for n in os.listdir(m.info) if not n.startswith(".")]:
            try:
                state = m.state(name)
            except FileNotFoundError:
                continue
            assert state in ("draft", "queued", "running", "done"), state
            seen.add(state)
    out, complaint = p.communicate()
    assert complaint == b"" and out == b"1\n" * 150 and seen
    wait_until(lambda: os.listdir(m.results) == [], "the results to be gone")
