"""Calls of a stream that have options: each is a job of its own, that is listed nowhere."""
import hashlib
import json
import os
import pickle
import struct
import time

import pytest
from ppfsmount import wait_until
from streamframes import CALL, CANCEL, CANCELLED, ERROR, FUNC, MAGIC, OUTPUT, RELEASE, RESULT, STARTED, call, frame, frames
from streamframes import WINDOW, answers, lines


def test_options_of_a_call(m):
    m.put("s", MAGIC + call(1, time.sleep, 1000, options=b'{"timeout": "200ms"}') + call(2, os.getenv, "K", options=b'{"env": {"K": "v"}}')
          + call(3, abs, -1, options=b'{"shoe": 1}'))
    out = {ident: (kind, body) for kind, ident, body in frames((m.results / "s").read_bytes())}
    assert out[1][0] == ERROR and out[1][1][0] == 4
    assert pickle.loads(out[2][1]) == "v"
    assert out[3][0] == ERROR and b"shoe" in out[3][1]


def test_a_call_with_options_is_told_to_have_started(m):
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, time.sleep, 1000, options=b'{"priority": 1}') + call(2, abs, "x", options=b'{"env": {"A": "b"}}'))
        data = b""
        with open(m.results / "s", "rb", buffering=0) as r:
            while not {(STARTED, 1), (ERROR, 2)} <= {(k, i) for k, i, _ in frames(data or MAGIC)}:
                data += r.read(1 << 16)
        f.write(frame(CANCEL, 1))
    out = frames((m.results / "s").read_bytes())
    assert [(k, i) for k, i, _ in out if i == 1] == [(STARTED, 1), (CANCELLED, 1)]
    body = next(b for k, i, b in out if (k, i) == (ERROR, 2))
    assert isinstance(pickle.loads(body[8:8 + struct.unpack_from("<I", body, 4)[0]]), TypeError)


SAY = "import sys; sys.stdout.write('o' * %d); sys.stderr.write('e' * %d)"


@pytest.mark.parametrize("size", [5, 300000])
def test_what_a_call_with_options_prints(m, size):
    said = call(1, exec, SAY % (size, size), options=b'{"priority": 1}')
    failed = call(2, exec, SAY % (size, size) + "; 1/0", options=b'{"priority": 1}')
    m.put("s", MAGIC + said + failed)
    out = frames((m.results / "s").read_bytes())
    for ident in (1, 2):
        for number, letter in ((1, b"o"), (2, b"e")):
            assert b"".join(b[1:] for k, i, b in out if k == OUTPUT and i == ident and b[0] == number) == letter * size
    kinds = [(k, i) for k, i, _ in out]
    assert kinds.index((RESULT, 1)) > max(n for n, x in enumerate(kinds) if x == (OUTPUT, 1))
    body = next(b for k, i, b in out if (k, i) == (ERROR, 2))
    end = 8 + struct.unpack_from("<I", body, 4)[0]
    assert body[0] == 1 and isinstance(pickle.loads(body[8:end]), ZeroDivisionError)
    assert body[end:].startswith(b"ZeroDivisionError: division by zero\nTraceback")


def test_prints_come_while_the_call_runs(m):
    """As those of other calls do; also the stderr of a program in a line, whose stdout is its answer."""
    go = m.work / "go"
    wait = "import os, sys, time\nprint('out', flush=True); print('err', file=sys.stderr, flush=True)\n" \
           "while not os.path.exists(%r): time.sleep(0.01)\n" % str(go)
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, exec, wait, options=b'{"env": "A:b"}'))
        with open(m.results / "s", "rb", buffering=0) as r:
            data = b""
            while not {(OUTPUT, b"\x01out\n"), (OUTPUT, b"\x02err\n")} <= {(k, b) for k, _, b in frames(data or MAGIC)}:
                data += r.read(1 << 16)
        m.put("x.jsonl", lines({"run": ["sh", "-c", "echo err >&2; until [ -e %s ]; do sleep 0.01; done; echo out" % go]},
                               {"call": "exec", "args": [wait], "priority": 1}))
        wait_until(lambda: b"err" in live(m.info / "x.jsonl" / "stderr"), "the program to be heard")
        assert (RESULT, 1) not in [(k, i) for k, i, _ in frames(data)]
        go.touch()
    assert [b for k, _, b in frames((m.results / "s").read_bytes()) if k == OUTPUT].count(b"\x01out\n") == 1
    assert [json.loads(line) for line in answers(m, "x.jsonl")] == ["out\n", None]
    assert (m.info / "x.jsonl" / "stderr").read_text() == "err\nerr\n"


def test_a_program_that_fails(m):
    m.put("x.jsonl", lines({"run": ["sh", "-c", "echo out; echo err >&2; exit 3"]}))
    assert "status 3" in json.loads(answers(m, "x.jsonl")[0])["error"]
    assert [(m.info / "x.jsonl" / name).read_text() for name in ("stdout", "stderr")] == ["out\n", "err\n"]


def live(path):
    """What is there of a file that is still being written."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return b""
    finally:
        os.close(fd)


def test_prints_that_the_disk_must_follow(m):
    """More than is kept on its way to the disk, from two calls at once, one of which prints after the other's end."""
    size = 40_000_000
    say = "import sys\nfor i in range(40): sys.stdout.write('o' * 1000000)"
    m.put("s", MAGIC + call(1, exec, say, options=b'{"priority": 1}') + call(2, exec, say, options=b'{"priority": 2}'))
    total = {1: 0, 2: 0}
    for kind, ident, body in frames((m.results / "s").read_bytes()):
        if kind == OUTPUT:
            total[ident] += len(body) - 1
    assert total == {1: size, 2: size}


def test_large_bodies_of_a_call_with_options(m):
    data = os.urandom(2 << 20)
    fn = pickle.dumps(len)
    digest = hashlib.sha256(fn).digest()
    options = b'{"priority": 2}'
    hashed = frame(CALL, 2, struct.pack("<BBH", 1, 0, len(options)) + options + digest + pickle.dumps(((data,), {})))
    m.put("s", MAGIC + frame(FUNC, 0, digest + fn) + call(1, bytes, data, options=options) + hashed)
    out = {ident: pickle.loads(body) for kind, ident, body in frames((m.results / "s").read_bytes()) if kind == RESULT}
    assert out == {1: data, 2: len(data)}
    assert [name for name in os.listdir(m.statedir / "spool") if not name.endswith("--1")] == []


# --- hold ----------------------------------------------------------------------------------------------------------

HOLD = b'{"hold": 1}'


def ends(m, name="s"):
    """{id: kind} of the answers, once the stream has ended."""
    return {i: k for k, i, _ in frames((m.results / name).read_bytes()) if k in (RESULT, ERROR, CANCELLED)}


def ends_up_to_now(m, name="s"):
    """The same of a stream that goes on."""
    fd, data = os.open(m.results / name, os.O_RDONLY | os.O_NONBLOCK), b""
    try:
        while True:
            data += os.read(fd, 1 << 20)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
    return {i: k for k, i, _ in frames(data) if k in (RESULT, ERROR, CANCELLED)}


def sentence(m, ident, name="s"):
    """Why a call failed, as text."""
    return next(b[8:].decode() for k, i, b in frames((m.results / name).read_bytes()) if (k, i) == (ERROR, ident))


def test_a_held_call_is_released(m):
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, abs, -1, options=HOLD) + call(2, abs, -2) + call(3, abs, -3, options=HOLD))
        with open(m.results / "s", "rb", buffering=0) as r:
            data = b""
            while (RESULT, 2) not in [(k, i) for k, i, _ in frames(data or MAGIC)]:
                data += r.read(1 << 16)
            f.write(frame(RELEASE, 2) + frame(RELEASE, 77) + frame(RELEASE, 3))
            while (RESULT, 3) not in [(k, i) for k, i, _ in frames(data or MAGIC)]:
                data += r.read(1 << 16)
            assert (RESULT, 1) not in [(k, i) for k, i, _ in frames(data)]
        f.write(frame(RELEASE, 1))
    assert ends(m) == {1: RESULT, 2: RESULT, 3: RESULT}


def test_what_is_held_when_the_writer_closes_fails(m):
    m.put("s", MAGIC + call(1, abs, -1, options=HOLD) + call(2, abs, -2))
    assert ends(m) == {1: ERROR, 2: RESULT} and "held" in sentence(m, 1)
    m.put("t", MAGIC + call(1, abs, -1, options=HOLD) + b"x" * 16 + call(2, abs, -2))
    assert ends(m, "t") == {1: ERROR, 0: ERROR} and "held" in sentence(m, 1, "t")


def test_a_release_survives_the_daemon(m):
    """And comes before the close, though the calls are met again after it."""
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, abs, -1, options=HOLD) + call(2, abs, -2, options=HOLD) + call(3, time.sleep, 0.3))
        f.write(frame(RELEASE, 2))
        m.kill_daemon()
        f.write(frame(RELEASE, 1))
    assert ends(m) == {1: RESULT, 2: RESULT, 3: RESULT}


def test_a_release_behind_a_full_window(m):
    """A held call keeps the window full: its RELEASE is found all the same, and so is one of a call behind it."""
    other = WINDOW + 100
    last = other + WINDOW + 100
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC + call(1, abs, -1, options=HOLD) + b"".join(call(i, abs, -i) for i in range(2, other)))
        f.write(call(other, abs, -1, options=HOLD) + call(other + 1, abs, -1, options=HOLD))
        f.write(b"".join(call(i, abs, -i) for i in range(other + 2, last)) + frame(RELEASE, other))
        f.write(frame(RELEASE, other + 1) + frame(CANCEL, other + 1) + frame(RELEASE, 1))
        wait_until(lambda: len(ends_up_to_now(m)) == last - 1, "all answers, before the close")
    out = ends(m)
    assert len(out) == last - 1 and {i for i in out if out[i] != RESULT} == {other + 1} and out[other + 1] == CANCELLED


def test_a_release_before_its_call_means_nothing(m):
    m.put("s", MAGIC + frame(RELEASE, 1) + call(1, abs, -1, options=HOLD))
    assert ends(m) == {1: ERROR}


def test_a_large_held_call(m):
    """Its body goes through the disk thread: it is released, or the stream closed, before it is a job."""
    data = os.urandom(2 << 20)
    m.put("s", MAGIC + call(1, len, data, options=HOLD) + frame(RELEASE, 1) + call(2, len, data, options=HOLD))
    assert ends(m) == {1: RESULT, 2: ERROR}
    wait_until(lambda: [n for n in os.listdir(m.statedir / "spool") if not n.endswith("--1")] == [], "its files to go")


def test_hold_is_not_for_lines(m):
    m.put("x.jsonl", lines({"call": "abs", "args": [-1], "hold": 1}, {"call": "abs", "args": [-2], "hold": 0}))
    out = [json.loads(line) for line in answers(m, "x.jsonl")]
    assert "hold=1 is not for a line" in out[0]["error"] and out[1] == 2


def test_a_line_that_can_never_start(m):
    """After its own stream, what waits for that, directly or through another stream: it fails and says so, and the stream ends."""
    (m.jobs / "G").mkdir()
    m.put("G/gate", m.gate("G/gate"))
    with open(m.jobs / "G" / "x.jsonl", "w", buffering=1) as x:
        x.write(lines({"call": "abs", "args": [-1], "after": "gate"}, {"call": "abs", "args": [-2], "after": "x.jsonl"},
                      {"call": "abs", "args": [-3], "after": ["/G"]}))
        m.put("G/behind", "#!/bin/sh\n#ppfs: after=x.jsonl\necho behind\n")
        m.put("G/y", MAGIC + call(1, abs, -1, options=b'{"after": "x.jsonl"}') + call(2, abs, -2))
        wait_until(lambda: ends_up_to_now(m, "G/y") == {2: RESULT}, "what is behind the call that waits")
        x.write(lines({"call": "abs", "args": [-4], "after": "behind"}, {"call": "abs", "args": [-5], "after": "y"}))
    m.open_gate("G/gate")
    out = [json.loads(line) for line in answers(m, "G/x.jsonl")]
    assert out[0] == 1 and len(out) == 5
    for answer, sentence in zip(out[1:], ("after=x.jsonl: a call cannot wait for its own stream", "after=/G: that is a group",
                                          "after=behind: that job waits for this call or its stream",
                                          "after=y: that job waits for this call or its stream")):
        assert sentence in answer["error"]
    assert m.result("G/behind") == b"behind\n" and ends(m, "G/y") == {1: RESULT, 2: RESULT}


def test_a_job_written_again_behind_what_waits_for_it(m):
    m.put("gate", m.gate("gate"))
    m.put("a", "#!/bin/sh\n#ppfs: after=gate\necho a\n")
    m.put("s", MAGIC + call(1, abs, -1, options=b'{"after": "a"}') + call(2, abs, -2))
    wait_until(lambda: ends_up_to_now(m) == {2: RESULT}, "what is behind the call that waits")
    m.put("a", "#!/bin/sh\n#ppfs: after=s\necho a\n")
    assert "after=s: that job waits for this one" in m.failed("a")
    assert ends(m) == {1: ERROR, 2: RESULT} and "a did not succeed" in sentence(m, 1)


def test_a_stream_that_its_group_holds(m):
    """One echo lets it go, with those of its calls that have options."""
    (m.jobs / "G").mkdir()
    m.put("G/.options", "hold=1 env=A:b")
    m.put("G/s", MAGIC + call(1, os.getenv, "A", options=b'{"priority": 1}') + call(2, abs, -2))
    assert m.state("G/s") == "held"
    (m.info / "G" / "s" / "hold").write_text("0")
    assert ends(m, "G/s") == {1: RESULT, 2: RESULT}
