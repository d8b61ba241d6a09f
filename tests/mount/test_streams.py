"""Streams: a job file of many calls. JSON Lines, and the binary frames of ppfs-stream(5)."""
import errno
import json
import os
import signal
import subprocess
import threading

import pytest
from ppfsmount import high_water, sanitized, wait_until
from streamframes import answers, lines


# --- JSON Lines --------------------------------------------------------------------------------------------------

def test_lines_in_order(m):
    m.put("x.jsonl", lines({"call": "time.sleep", "args": [0.2]}, *({"call": "abs", "args": [-i]} for i in range(500))))
    assert answers(m, "x.jsonl") == ["null"] + [str(i) for i in range(500)]
    assert m.state("x.jsonl") == "done" and os.listdir(m.jobs) == []
    assert (m.results / "x.jsonl").stat().st_size == len((m.results / "x.jsonl").read_bytes())


def test_bad_lines_are_answers_and_stop_nothing(m):
    m.put("x.jsonl", "nonsense\n\n" + lines({"call": "int", "args": ["x"]}, {"call": "abs", "args": [-1], "shoe": 3}, {"run": ["false"]},
                                            {"call": "os._exit", "args": [3]}, {"call": "abs", "args": [-2]}) + '{"call": "abs", "args": [-3]}')
    out = [json.loads(line) for line in answers(m, "x.jsonl")]
    assert [o["line"] if isinstance(o, dict) else o for o in out] == [1, 3, 4, 5, 6, 2, 3]
    assert "not valid JSON" in out[0]["error"] and "ValueError" in out[1]["error"] and "shoe" in out[2]["error"]
    assert "exit status 3" in out[4]["error"]


def test_programs_and_options(m):
    m.put("x.jsonl", lines({"run": ["tr", "a-z", "A-Z"], "stdin": "hi\n"}, {"call": "os.getenv", "args": ["KEY"], "env": {"KEY": "value"}},
                           {"run": ["sleep", "100"], "timeout": "200ms"}, {"call": "len", "args": ["abc"], "priority": 3}))
    out = [json.loads(line) for line in answers(m, "x.jsonl")]
    assert out[0] == "HI\n" and out[1] == "value" and "timed out" in out[2]["error"] and out[3] == 3
    assert [name for name in os.listdir(m.info) if name[0] != "."] == ["x.jsonl"]


def test_answers_come_while_it_is_written(m):
    with open(m.jobs / "x.jsonl", "w") as f:
        f.write(lines({"call": "abs", "args": [-1]}))
        f.flush()
        with open(m.results / "x.jsonl") as r:
            assert r.readline() == "1\n"
            assert m.state("x.jsonl") == "running" and os.listdir(m.jobs) == ["x.jsonl"]
            f.write('{"call": "abs", ')
            f.flush()
            f.write('"args": [-2]}\n')
            f.flush()
            assert r.readline() == "2\n"
            with open(m.results / "x.jsonl") as again:
                assert again.readline() == "1\n"
            f.close()
            assert r.readline() == ""
    assert m.state("x.jsonl") == "done"


def test_appended_by_a_second_writer(m):
    with open(m.jobs / "x.jsonl", "a") as f:
        f.write(lines({"call": "abs", "args": [-1]}))
        f.flush()
        with open(m.jobs / "x.jsonl", "a") as g:
            g.write(lines({"call": "abs", "args": [-2]}))
        with pytest.raises(OSError) as e:
            open(m.jobs / "x.jsonl", "w")
        assert e.value.errno == errno.ETXTBSY
    assert answers(m, "x.jsonl") == ["1", "2"]


@pytest.mark.parametrize("size", [1, 300_000])
@pytest.mark.parametrize("held", [False, True])
def test_only_its_end_can_be_written(m, size, held):
    """A write at another place is refused, not swallowed: before its end, over it, and behind it."""
    name = "G/x.jsonl"
    os.mkdir(m.jobs / "G")
    if held:
        (m.jobs / "G/.options").write_text("hold=1\n")
    first, last = lines({"call": "abs", "args": [-1]}), lines({"call": "abs", "args": [-2]})
    fd = os.open(m.jobs / name, os.O_WRONLY | os.O_CREAT)
    os.write(fd, (first + " " * (size - 1) + "\n").encode())
    end = os.fstat(fd).st_size
    for offset, bytes_ in ((0, first.encode()), (5, b"x" * size), (end - 1, b"xx"), (end + 1, b"x" * size), (0, b"x" * (end + size))):
        with pytest.raises(OSError) as e:
            os.pwrite(fd, bytes_, offset)
        assert e.value.errno == errno.ESPIPE
    with pytest.raises(OSError) as e:
        os.ftruncate(fd, 3)
    os.write(fd, last.encode())
    os.close(fd)
    if held:
        (m.info / name / "hold").write_text("0\n")
    assert answers(m, name) == ["1", "2"]


def test_large_output_of_programs(m):
    """As text, in pieces: characters of several bytes, what must be escaped; what is no text; what one printed that failed."""
    text = ("a\u00e4\u20ac\U0001f600\"\\\n\x01" * 60_000)[:-1] + "\u00e4"
    (m.work / "text").write_text(text)
    (m.work / "cut").write_bytes(text.encode()[:-1])
    (m.work / "zeros").write_bytes(bytes(20_000_000))
    m.put("x.jsonl", lines({"run": ["cat", "text"]}, {"run": ["cat", "cut"]}, {"run": ["sh", "-c", "cat text; exit 3"]}, {"run": ["cat", "/dev/null"]},
                           {"run": ["cat", "zeros"]}, {"call": "builtins.eval", "args": ["'x' * 3_000_000"], "priority": 1}))
    out = [json.loads(line) for line in answers(m, "x.jsonl")]
    assert out[0] == text and "not UTF-8" in out[1]["error"] and "exit status 3" in out[2]["error"]
    assert out[3:] == ["", "\0" * 20_000_000, "x" * 3_000_000]
    assert (m.info / "x.jsonl/stdout").read_text() == text
    assert sanitized() or high_water(m.pids()["daemon"]) < 2 * 6 * 20_000_000


def test_priority_of_a_stream_that_runs(m1):
    """What is written into it takes effect at once: nobody has a slot yet."""
    m = m1
    files = {}
    for name in ("a", "b"):
        files[name] = open(m.jobs / (name + ".jsonl"), "w")
        print(file=files[name], flush=True)
        m.is_running(name + ".jsonl")
    (m.node / "cpus").write_text("0")
    for name, f in files.items():
        f.write(lines(*({"call": "os.system", "args": ["echo %s >> %s/order" % (name, m.work)]} for _ in range(20))))
        f.close()
    (m.info / "b.jsonl/priority").write_text("5\n")
    assert m.get("b.jsonl", "priority") == "5"
    (m.node / "cpus").write_text("1")
    for name in ("a", "b"):
        answers(m, name + ".jsonl")
    assert (m.work / "order").read_text().split() == ["b"] * 20 + ["a"] * 20


def test_a_draft_that_is_renamed(m):
    m.put(".x", lines(*({"call": "abs", "args": [-i]} for i in range(20000))))
    os.rename(m.jobs / ".x", m.jobs / "x.jsonl")
    assert answers(m, "x.jsonl") == [str(i) for i in range(20000)]


def test_reader_that_does_not_wait(m):
    with open(m.jobs / "x.jsonl", "w") as f:
        f.write(lines({"call": "abs", "args": [-1]}))
        f.flush()
        fd = os.open(m.results / "x.jsonl", os.O_RDONLY | os.O_NONBLOCK)
        assert wait_until(lambda: nonblocking(fd), "the answer") == b"1\n"
        with pytest.raises(BlockingIOError):
            os.read(fd, 100)
    assert wait_until(lambda: nonblocking(fd) == b"", "its end")
    os.close(fd)


def nonblocking(fd):
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        return None


def test_removed_while_it_runs(m):
    m.put("x.jsonl", lines({"call": "abs", "args": [-1]}, {"call": "time.sleep", "args": [1000]}))
    with open(m.results / "x.jsonl") as r:
        assert r.readline() == "1\n"
        os.unlink(m.jobs / "x.jsonl")
        with pytest.raises(OSError) as e:
            r.readline()
        assert e.value.errno == errno.ECANCELED
    assert m.state("x.jsonl") == "cancelled"
    m.works()


def test_the_daemon_is_killed_again_and_again(m):
    """Every call is answered once and in order, though the daemon dies."""
    n = 3000
    text = lines(*({"call": "pow", "args": [i, 2]} for i in range(n)))

    def write():
        with open(m.jobs / "x.jsonl", "w", buffering=1000) as f:
            for line in text.splitlines(True):
                f.write(line)
    writer = threading.Thread(target=write)
    writer.start()
    for _ in range(2):  # a call that was running at a third death would fail, as promised
        m.kill_daemon()
    writer.join()
    assert answers(m, "x.jsonl") == [str(i * i) for i in range(n)]


def test_a_call_at_which_ppfs_dies_three_times(m):
    m.put("x.jsonl", lines({"call": "abs", "args": [-1]}, {"call": "time.sleep", "args": [3]}, {"call": "abs", "args": [-2]}))
    for _ in range(3):
        wait_until(lambda: suspected(m), "the call to be written down as running")
        m.kill_daemon()
    out = [json.loads(line) for line in answers(m, "x.jsonl")]
    assert out[0] == 1 and out[2] == 2 and "three deaths" in out[1]["error"]


def suspected(m):
    """A call that has run for some 25 ms; /proc tells that better than a pause would."""
    return any(b"ppfs-worker" in open("/proc/%d/cmdline" % pid, "rb").read() and "sleep" in open("/proc/%d/wchan" % pid).read() for pid in m.pids()["workers"]) and settled(m)


def settled(m):
    import time
    began = time.monotonic()
    return wait_until(lambda: time.monotonic() - began > 0.3, "the timer of the scheduler")


def test_unmounted_half_way(m):
    m.put("x.jsonl", lines(*({"call": "time.sleep", "args": [0.001]} for i in range(500)), {"call": "abs", "args": [-7]}))
    m.unmount()
    m.gone()
    m.start()
    assert answers(m, "x.jsonl") == ["null"] * 500 + ["7"]


def test_a_stream_and_a_job_share_one_slot(m):
    (m.node / "cpus").write_text("1")
    m.put("x.jsonl", lines(*({"call": "time.sleep", "args": [0.01]} for i in range(2000))))
    m.put("job", "print('not last')\n")
    assert m.result("job") == b"not last\n"
    assert m.state("x.jsonl") == "running"
    os.unlink(m.jobs / "x.jsonl")


def test_several_readers_at_once(m):
    """One is ahead, one comes late, one begins again and again, one has stopped: each sees the whole, nobody waits."""
    n = 20000
    whole = "".join("%d\n" % i for i in range(n))
    seen = {}

    def read(key):
        seen[key] = (m.results / "x.jsonl").read_text()
    with open(m.jobs / "x.jsonl", "w", buffering=5000) as f:
        f.write(lines({"call": "abs", "args": [0]}))
        f.flush()
        stopped = open(m.results / "x.jsonl")
        assert stopped.readline() == "0\n"
        threads = [threading.Thread(target=read, args=(i,)) for i in range(3)]
        for t in threads:
            t.start()
        for i in range(1, n):
            f.write(lines({"call": "abs", "args": [-i]}))
            if i % 5000 == 0:
                with open(m.results / "x.jsonl") as again:
                    assert [again.readline() for _ in range(100)] == whole.splitlines(True)[:100]
    for t in threads:
        t.join()
    read("late")
    assert set(seen.values()) == {whole} and len(seen) == 4
    assert stopped.read() == whole[2:]
    stopped.close()


def test_tail_and_jq_write_while_they_run(m):
    """tail -f log | jq: lines come one at a time, each is answered before the next is there."""
    log = m.work / "log"
    log.write_text("")
    p = subprocess.Popen("tail -n +1 -f log | jq --unbuffered -c '{call: \"math.sqrt\", args: [.n]}' > %s" % (m.jobs / "t.jsonl"),
                         shell=True, cwd=m.work, start_new_session=True)
    try:
        results = None
        for i in range(5):
            with open(log, "a") as f:
                f.write('{"n": %d}\n' % (i * i))
            if results is None:
                wait_until(lambda: (m.results / "t.jsonl").exists() or state_of(m, "t.jsonl") == "running", "the stream")
                results = open(m.results / "t.jsonl")
            assert results.readline() == "%.1f\n" % i
        results.close()
    finally:
        os.killpg(p.pid, signal.SIGTERM)
        p.wait()
    assert answers(m, "t.jsonl") == ["%.1f" % i for i in range(5)]


def state_of(m, name):
    try:
        return m.state(name)
    except OSError:
        return ""


@pytest.mark.limit(240)
def test_many_lines_in_constant_memory(m):
    """The daemon holds a window of them, not all: once the database's page cache is full, 200,000 lines take no more. When it is
    full depends on how fast others read and write."""
    def run(name, n):
        def write():
            with open(m.jobs / name, "w", buffering=1 << 16) as f:
                for i in range(n):
                    f.write('{"call": "abs", "args": [-%d]}\n' % i)
        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: state_of(m, name), "the stream")
        with open(m.results / name) as f:
            assert [int(line) for line in f] == list(range(n))
        writer.join()
        return high_water(m.pids()["daemon"])
    run("a.jsonl", 200000)
    peaks = [run("b.jsonl", 200000)]
    for name in () if sanitized() else ("c.jsonl", "d.jsonl", "e.jsonl"):
        peaks.append(run(name, 200000))
        if peaks[-1] < peaks[-2] + (8 << 20):
            return
    assert sanitized(), peaks


def test_more_streams_than_slots(queue):
    """All of them want the slot in the same turn: who gets it keeps it for its call."""
    for name in "abc":
        queue.put(name + ".jsonl", lines({"call": "abs", "args": [-1]}, {"call": "abs", "args": [-2]}))
    (queue.node / "cpus").write_text("1")
    assert [answers(queue, name + ".jsonl") for name in "abc"] == [["1", "2"]] * 3
