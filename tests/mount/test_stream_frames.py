"""Streams of frames, as ppfs-stream(5) describes them: what is answered, cancelled, refused."""
import errno
import hashlib
import json
import math
import os
import pickle
import signal
import struct
import subprocess

import pytest
from ppfsmount import high_water, sanitized, wait_until
from streamframes import CALL, CANCEL, CANCELLED, ERROR, FUNC, MAGIC, OUTPUT, PART, RESULT, STARTED, WINDOW, answers, call, frame, frames, lines


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
        assert sanitized() or high_water(m.pids()["daemon"]) < 200 << 20
        f.write(frame(CANCEL, 1) + frame(CANCEL, 2))
    out = frames((m.results / "s").read_bytes())
    assert sum(k == RESULT for k, _, _ in out) == 300
    os.unlink(m.results / "s")
    wait_until(lambda: os.listdir(m.statedir / "spool") == [], "the files of the stream to go")


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
