"""Streams: a job file of many calls. JSON Lines, and the binary frames of ppfs-stream(5)."""
import errno
import hashlib
import json
import math
import os
import pickle
import signal
import struct
import subprocess
import threading

import pytest
from ppfsmount import sanitized, wait_until
from streamframes import CALL, CANCEL, CANCELLED, ERROR, FUNC, MAGIC, OUTPUT, PART, RESULT, STARTED, call, frame, frames

WINDOW = 8192  # STREAM_WINDOW in sched/db/store.h


def lines(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


def answers(m, name):
    return (m.results / name).read_text().splitlines()


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
    assert sanitized() or peak(m.pids()["daemon"]) < 2 * 6 * 20_000_000


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
        return peak(m.pids()["daemon"])
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


# --- frames ------------------------------------------------------------------------------------------------------

def test_calls_by_value_and_by_hash(m):
    fn = pickle.dumps(math.hypot)
    digest = hashlib.sha256(fn).digest()
    hashed = frame(CALL, 2, struct.pack("<BBH", 1, 0, 0) + digest + pickle.dumps(((3, 4), {})))
    m.put("s", MAGIC + frame(FUNC, 0, digest + fn) + call(1, pow, 2, 10) + hashed + call(3, int, "x") + frame(200, 9, b"skipped") + call(4, abs, -1))
    out = {ident: (kind, body) for kind, ident, body in frames((m.results / "s").read_bytes())}
    assert [pickle.loads(out[i][1]) for i in (1, 2, 4)] == [1024, 5.0, 1]
    kind, body = out[3]
    size = struct.unpack_from("<I", body, 4)[0]
    assert kind == ERROR and body[0] == 1 and isinstance(pickle.loads(body[8:8 + size]), ValueError)
    assert body[8 + size:].startswith(b"ValueError: invalid literal")


def test_large_bodies_both_ways(m):
    data = os.urandom(3 << 20)
    m.put("s", MAGIC + call(1, bytes, data) + call(2, len, data))
    out = {ident: pickle.loads(body) for kind, ident, body in frames((m.results / "s").read_bytes()) if kind == RESULT}
    assert out == {1: data, 2: len(data)}


def test_frames_cut_anywhere(m):
    data = MAGIC + b"".join(call(i, abs, -i) for i in range(1, 50))
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(data[:16])
        for at in range(16, len(data), 7):
            f.write(data[at:at + 7])
    assert sorted(pickle.loads(body) for kind, _, body in frames((m.results / "s").read_bytes()) if kind == RESULT) == list(range(1, 50))


def test_a_worker_that_dies_fails_its_call_alone(m):
    m.put("s", MAGIC + call(1, os.kill, 0, signal.SIGKILL) + b"".join(call(i, abs, -i) for i in range(2, 100)))
    out = {ident: kind for kind, ident, _ in frames((m.results / "s").read_bytes()) if kind in (RESULT, ERROR)}
    assert out.pop(1) == ERROR and set(out.values()) == {RESULT} and len(out) == 98


def test_output_started_and_cancel(m):
    import time
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, print, "said") + call(2, time.sleep, 1000))
        data = b""
        with open(m.results / "s", "rb", buffering=0) as r:
            while not (data and any(k == STARTED and i == 2 for k, i, _ in frames(data))):
                data += r.read(1 << 16)
            f.write(frame(CANCEL, 2) + call(3, abs, -3))
            f.close()
            data += r.readall()
    out = frames(data)
    assert (OUTPUT, 1, b"\x01said\n") in out and (CANCELLED, 2, b"") in out
    assert [pickle.loads(b) for k, i, b in out if k == RESULT and i == 3] == [3]


@pytest.mark.parametrize("bad", [frame(40, 1), frame(FUNC, 0, b"short"), b"\xff" * 40, frame(CALL, 1, b"\x09"), frame(PART, 1, b"x") + frame(CALL, 2, b"")])
def test_what_is_no_frame_ends_the_stream_only(m, bad):
    m.put("s", MAGIC + call(7, abs, -7) + bad)
    out = frames((m.results / "s").read_bytes())
    assert any(k == ERROR for k, _, _ in out)
    m.works()


def test_many_calls_over_kills(m):
    n = WINDOW + 1000
    m.put("s", MAGIC + b"".join(call(i, abs, -i) for i in range(1, n + 1)))
    m.kill_daemon()
    out = frames((m.results / "s").read_bytes())
    assert sorted(i for k, i, _ in out if k == RESULT) == list(range(1, n + 1))


def test_cancel_behind_a_full_window(m):
    """More calls stand between the call that runs and its CANCEL; another is cancelled before it is looked at."""
    import time
    last, late = WINDOW + 2000, WINDOW + 1500
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, time.sleep, 1000) + call(2, time.sleep, 1000) + b"".join(call(i, abs, -i) for i in range(3, last)))
        f.write(frame(CANCEL, late) + frame(CANCEL, 1) + frame(CANCEL, 4) + frame(CANCEL, 2) + call(last, abs, -last))
    out = {ident: kind for kind, ident, _ in frames((m.results / "s").read_bytes()) if kind in (RESULT, ERROR, CANCELLED)}
    assert sorted(i for i, k in out.items() if k == CANCELLED) == [1, 2, 4, late] and len(out) == last


def test_cancels_behind_a_full_window_after_a_kill(m):
    """What was marked in memory only is found again, in a log of small and of large pieces."""
    import time
    big = os.urandom(1 << 20)
    first = WINDOW + 1000
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, time.sleep, 1000) + call(2, time.sleep, 1000) + b"".join(call(i, abs, -i) for i in range(3, first)))
        for i in range(first, first + 10):
            f.write(call(i, len, big))
        f.write(frame(CANCEL, first + 5) + frame(CANCEL, 2))
        m.kill_daemon()
        f.write(frame(CANCEL, 1))
    out = {ident: kind for kind, ident, _ in frames((m.results / "s").read_bytes()) if kind in (RESULT, ERROR, CANCELLED)}
    assert sorted(i for i, k in out.items() if k == CANCELLED) == [1, 2, first + 5] and len(out) == first + 9


def test_a_cancel_before_its_call_means_nothing(m):
    import time
    last = WINDOW + 1000
    m.put("s", MAGIC + call(1, time.sleep, 0.5) + call(2, time.sleep, 0.5) + b"".join(call(i, abs, -i) for i in range(3, last))
          + frame(CANCEL, last) + call(last, abs, -last))
    out = {ident: kind for kind, ident, _ in frames((m.results / "s").read_bytes()) if kind in (RESULT, ERROR, CANCELLED)}
    assert set(out.values()) == {RESULT} and len(out) == last


def test_large_prints_of_a_program(m):
    m.put("x.jsonl", lines({"run": ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x; head -c 200000 /dev/zero | tr '\\0' y >&2"]}, {"call": "len", "args": ["a" * 100000], "priority": 1}))
    assert [json.loads(line) for line in answers(m, "x.jsonl")] == ["x" * 300000, 100000]
    assert (m.info / "x.jsonl" / "stderr").read_text() == "y" * 200000


def test_large_pieces_between_small_ones(m):
    """The logs are rows and pieces of a file by turns; the kernel may cut writes anywhere."""
    sizes = [10, 300000, 50, 70000, 65536, 65537, 1 << 20, 3, 400000] * 3
    data = [os.urandom(n) for n in sizes]
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC)
        for i, d in enumerate(data, 1):
            f.write(call(i, bytes, d))
        assert f.tell() == os.fstat(f.fileno()).st_size
    out = {ident: pickle.loads(body) for kind, ident, body in frames((m.results / "s").read_bytes()) if kind == RESULT}
    assert out == dict(enumerate(data, 1))
    whole = (m.results / "s").read_bytes()
    with open(m.results / "s", "rb") as f:
        for at in (0, 15, 16, 299000, 70000, len(whole) - 10):
            f.seek(at)
            assert f.read(100000) == whole[at:at + 100000]
    assert (m.info / "s" / "spec").read_bytes().startswith(MAGIC)


def test_fsync_of_a_stream(m):
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, abs, -1))
        os.fsync(f.fileno())
        f.write(call(2, len, bytes(1 << 20)))
        os.fsync(f.fileno())
    assert sorted(pickle.loads(b) for k, _, b in frames((m.results / "s").read_bytes()) if k == RESULT) == [1, 1 << 20]


def test_a_stream_that_waits_takes_large_pieces(m):
    (m.jobs / ".options").write_text("hold=1\n")
    data = os.urandom(1 << 20)
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, bytes, data))
        f.write(call(2, abs, -2))
        f.write(call(3, len, data))
    assert m.state("s") == "held"
    with pytest.raises(OSError) as e:
        open(m.jobs / "s", "r+b")
    assert e.value.errno == errno.ETXTBSY
    (m.info / "s" / "hold").write_text("0")
    out = {ident: pickle.loads(body) for kind, ident, body in frames((m.results / "s").read_bytes()) if kind == RESULT}
    assert out == {1: data, 2: 2, 3: len(data)}


def test_what_is_behind_the_window_is_not_in_memory(m):
    """300 MB of calls wait behind one that runs."""
    import time
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, time.sleep, 1000) + call(2, time.sleep, 1000))
        for i in range(3, 303):
            f.write(call(i, len, bytes(1 << 20)))
        assert sanitized() or peak(m.pids()["daemon"]) < 200 << 20
        f.write(frame(CANCEL, 1) + frame(CANCEL, 2))
    out = frames((m.results / "s").read_bytes())
    assert sum(k == RESULT for k, _, _ in out) == 300
    os.unlink(m.results / "s")
    wait_until(lambda: os.listdir(m.statedir / "spool") == [], "the files of the stream to go")


def peak(pid):
    for line in open("/proc/%d/status" % pid):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return 0


def test_shell_pipeline(m):
    subprocess.run("""seq 1 1000 | sed 's/.*/{"call":"abs","args":[-&]}/' > %s; tail -n 1 %s | grep -qx 1000""" % (m.jobs / "p.jsonl", m.results / "p.jsonl"),
                   shell=True, check=True)


def test_calls_that_were_sent_ahead_go_to_a_slot_that_is_free(m1):
    """They are quick at first, so that all of the slow ones are with the worker before anyone knows better."""
    m = m1
    call = {"call": "eval", "args": ["[__import__('time').sleep(0.02), __import__('os').getpid()][1]"]}
    with open(m.jobs / "t.jsonl", "w") as f:
        f.write('{"call": "abs", "args": [1]}\n' * 300)
        f.flush()
        with open(m.results / "t.jsonl") as answers:
            for _ in range(300):
                assert answers.readline() == "1\n"
            f.write((json.dumps(call) + "\n") * 40)
            f.flush()
            answers.readline()
        (m.node / "cpus").write_text("2\n")
    pids = m.result("t.jsonl").split()[300:]
    assert len(pids) == 40 and len(set(pids)) == 2
