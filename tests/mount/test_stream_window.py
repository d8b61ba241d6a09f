"""A stream goes on behind a call that takes long, however many calls that are; what was answered behind it is neither kept in
memory nor run again."""
import collections
import json
import operator
import os
import struct

import pytest

from ppfsmount import database_of, sanitized, wait_until
from streamframes import CALL, ERROR, MAGIC, RESULT, call, frame, frames, lines

MANY = 20000  # more than twice STREAM_PENDING
MODULE = """
import os, time
def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)
    return 'waited'
def touch(path):
    open(path, 'w').close()
def note(log, n, size):
    f = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(f, b'%d\\n' % n)
    os.close(f)
    return str(n) + 'x' * size
def once(mark, size):
    try:
        open(mark, 'x').close()
    except FileExistsError:
        return 'again'
    return 'x' * size
"""


@pytest.fixture
def w(m):
    (m.work / "window.py").write_text(MODULE)
    m.go, m.ran = m.work / "go", m.work / "ran"
    return m


def json_call(name, *args):
    return {"call": name, "args": list(args)}


def runs(m):
    return collections.Counter(m.ran.read_text().split()) if m.ran.exists() else collections.Counter()


def notes(m, size):
    return [json_call("window.note", str(m.ran), n, size) for n in range(MANY)]


def peak_kib(pid):
    return int(next(line.split()[1] for line in open("/proc/%d/status" % pid) if line.startswith("VmHWM")))


def test_the_last_line_runs_while_the_first_one_does(w):
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *[json_call("operator.neg", n) for n in range(MANY)],
                           json_call("window.touch", str(w.go))))
    out = [json.loads(line) for line in (w.results / "s.jsonl").read_bytes().splitlines()]
    assert out == ["waited"] + [-n for n in range(MANY)] + [None]


def test_the_last_frame_runs_while_the_first_one_does(w):
    first = frame(CALL, 1, bytes(4) + b"cwindow\nwait\n(V" + os.fsencode(w.go) + b"\nt}\x87.")
    last = frame(CALL, MANY + 2, bytes(4) + b"cwindow\ntouch\n(V" + os.fsencode(w.go) + b"\nt}\x87.")
    w.put("s", MAGIC + first + b"".join(call(n, operator.neg, n) for n in range(2, MANY + 2)) + last)
    out = frames((w.results / "s").read_bytes())
    assert [k for k, _, _ in out if k == ERROR] == []
    assert sorted(i for k, i, _ in out if k == RESULT) == list(range(1, MANY + 3))


def test_lines_that_wait_are_on_the_disk(w):
    """80 MB of answers wait for the first one. A kill -9 costs few of them then, and none while they are given out."""
    size = 4000
    before = peak_kib(w.pids()["daemon"])
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *notes(w, size)))
    wait_until(lambda: len(runs(w)) == MANY, "all lines but the first to have run")
    assert sanitized() or peak_kib(w.pids()["daemon"]) - before < 60 << 10
    for _ in range(2):
        w.kill_daemon()
        w.go.touch()
    out = [json.loads(line) for line in (w.results / "s.jsonl").read_bytes().splitlines()]
    assert out == ["waited"] + [str(n) + "x" * size for n in range(MANY)]
    assert sum(runs(w).values()) - MANY < MANY / 2


def test_lines_that_wait_go_out_though_nobody_reads(w):
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *[json_call("operator.mul", "x", 1000)] * 9000))
    wait_until(lambda: w.why("s.jsonl").startswith("9000 calls are answered"), "all lines but the first to be answered")
    w.go.touch()
    wait_until(lambda: w.state("s.jsonl") == "done", "the stream to end")
    assert len((w.results / "s.jsonl").read_bytes().splitlines()) == 9001


def test_large_lines_that_wait(w):
    sizes = [100, 10000, 20000, 70000, 300000, 3 << 20] * 12
    calls = [json_call("window.note", str(w.ran), n, size) for n, size in enumerate(sizes)]
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *calls))
    wait_until(lambda: len(runs(w)) == len(sizes), "all lines but the first to have run")
    w.kill_daemon()
    w.go.touch()
    out = [json.loads(line) for line in (w.results / "s.jsonl").read_bytes().splitlines()]
    assert out == ["waited"] + [str(n) + "x" * size for n, size in enumerate(sizes)]


def test_a_large_line_of_which_a_part_was_written_down(w):
    """It is written down over many turns. Over a kill -9 in between it runs again, and nothing of its first answer is left."""
    size, count = 24 << 20, 4
    marks = [w.work / ("mark%d" % n) for n in range(count)]
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *[json_call("window.once", str(mark), size) for mark in marks]))
    log = database_of(w.statedir).with_name(database_of(w.statedir).name + "-wal")
    wait_until(lambda: log.stat().st_size > 3 << 20, "some of an answer on the disk")
    w.kill_daemon()
    wait_until(lambda: w.why("s.jsonl").startswith("%d calls are answered" % count), "all lines but the first to be answered")
    w.go.touch()
    first, *out = [json.loads(line) for line in (w.results / "s.jsonl").read_bytes().splitlines()]
    assert first == "waited" and len(out) == count and "again" in out and set(out) <= {"again", "x" * size}


def test_every_second_line_waits(w):
    """Many short runs of answered lines: those between them are jobs of their own, which come later."""
    count = 9000
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)),
                           *[json_call("window.note", str(w.ran), n, 10) if n % 2 else
                             dict(json_call("operator.neg", n), priority=-1) for n in range(count)]))
    wait_until(lambda: len(runs(w)) == count // 2, "every second line to have run")
    w.go.touch()
    out = [json.loads(line) for line in (w.results / "s.jsonl").read_bytes().splitlines()]
    assert out == ["waited"] + [str(n) + "x" * 10 if n % 2 else -n for n in range(count)]


def test_frames_that_are_answered_do_not_run_again(w):
    first = frame(CALL, MANY + 1, bytes(4) + b"cwindow\nwait\n(V" + os.fsencode(w.go) + b"\nt}\x87.")
    rest = b"".join(frame(CALL, n + 1, bytes(4) + b"cwindow\nnote\n(V" + os.fsencode(w.ran) + b"\nI%d\nI0\nt}\x87." % n)
                    for n in range(MANY))
    w.put("s", MAGIC + first + rest)
    with open(w.results / "s", "rb", buffering=0) as f:
        seen, at, count = f.read(16), 16, 0
        while count < MANY:
            seen += f.read(1 << 20)
            while at + 16 <= len(seen):
                size, kind = struct.unpack_from("<IB", seen, at)
                at += 16 + size
                count += kind == RESULT
    w.kill_daemon()
    w.go.touch()
    out = frames((w.results / "s").read_bytes())
    assert sorted(i for k, i, _ in out if k == RESULT) == list(range(1, MANY + 2))
    assert set(runs(w).values()) == {1} and len(runs(w)) == MANY


def test_a_cancelled_stream_leaves_no_answers(w):
    w.put("s.jsonl", lines(json_call("window.wait", str(w.go)), *notes(w, 1000)))
    wait_until(lambda: len(runs(w)) == MANY, "all lines but the first to have run")
    database = database_of(w.statedir)
    wait_until(lambda: database.stat().st_size > 8 << 20, "answers on the disk")
    (w.jobs / "s.jsonl").unlink()
    wait_until(lambda: database.stat().st_size < 4 << 20, "the database to shrink")
