"""A disk that is full under streams: no answer is lost, no call runs twice."""
import itertools
import json
import os
import subprocess
import time

import pytest
from fulldisk import Balloon, FULL, refused, try_write
from ppfsmount import wait_until
from processes import text_of


MAGIC = b"\x89ppfs\r\n\x1a\x01" + bytes(7)


def frame_of(kind, ident, body):
    import struct
    return struct.pack("<IB3xQ", len(body), kind, ident) + body


def call_of(ident, what):
    import pickle
    return frame_of(3, ident, bytes(4) + pickle.dumps(what))


def answers_of(data):
    """{id: (kind, body)} of a stream of binary frames; no id twice."""
    import struct
    at, found, parts = 16, {}, b""
    while at < len(data):
        size, kind, ident = struct.unpack_from("<IB3xQ", data, at)
        parts += data[at + 16:at + 16 + size]
        at += 16 + size
        if kind != 1:
            if kind in (33, 34, 36):
                assert ident not in found
                found[ident] = kind, parts
            parts = b""
    return found


def test_a_stream_fills_the_disk(small):
    """What was accepted is answered, what found no room was refused; large pieces are files, not rows."""
    m = small.start()
    accepted = 0
    with open(m.jobs / "s", "wb", buffering=0) as f:
        f.write(MAGIC)
        with pytest.raises(OSError) as e:
            while accepted < 1000:
                data = memoryview(call_of(accepted + 1, (len, (b"x" * 200000,), {})))
                while data:  # the piece that finds no room may be the end of a frame: what is cut is dropped
                    data = data[f.write(data):]
                accepted += 1
        assert e.value.errno in FULL and accepted > 10
    wait_until(lambda: try_write(m.node / "cpus", "2") or (m.node / "cpus").read_text() == "2\n", "the ballast to be given up")
    found = answers_of((m.results / "s").read_bytes())
    assert found.keys() == set(range(1, accepted + 1)) and {kind for kind, _ in found.values()} == {33}


def test_answers_of_a_stream_find_no_room(small):
    """They are tried again until there is room, and then each is there once."""
    m = small.start()
    n = 60
    m.put("s", MAGIC + b"".join(call_of(i, (bytes, (300000,), {})) for i in range(1, n + 1)))
    (m.node / "cpus").write_text("2")
    wait_until(lambda: os.statvfs(m.statedir).f_bavail == 0, "the disk to be full")  # the log is on it, and may say nothing
    p = subprocess.run(["mount", "-o", "remount,size=64m", str(m.statedir)], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr
    found = answers_of((m.results / "s").read_bytes())
    assert found.keys() == set(range(1, n + 1))
    assert {len(body) > 300000 for _, body in found.values()} == {True}


@pytest.mark.limit(120)
@pytest.mark.parametrize("full", ["all the time", "for a moment"])
def test_calls_that_run_while_nothing_can_be_kept_run_once(small, full):
    """What they answer and print meanwhile is there when there is room again, each once."""
    m = small.start()
    (m.node / "cpus").write_text("2")
    numbers = itertools.count()
    balloon, ran, go = Balloon(m), m.work / "ran", m.work / "go"
    run = "import os, time\nwith open(%r, 'a') as f: f.write('%%d\\n')\nprint('says %%d')\nwhile not os.path.exists(%r): time.sleep(.02)\nopen(%r, 'a').write('x\\n')\n" % (str(ran), str(go), str(m.work / "ended"))
    m.put("x.jsonl", "".join(json.dumps({"call": "exec", "args": [run % (i, i), {}]}) + "\n" for i in range(6)))
    wait_until(lambda: len(text_of(ran).split()) == 2, "two calls to run")
    balloon.inflate()
    wait_until(lambda: refused(m.jobs / (".draft%d" % next(numbers)), "x" * 50000), "a commit to fail")
    if full == "for a moment":
        balloon.burst()
        wait_until(lambda: not refused(m.jobs / ".draft0", "small"), "room again")
        wait_until(lambda: "6 are under way" in m.why("x.jsonl"), "the stream to be read anew")
    go.touch()
    if full == "all the time":
        wait_until(lambda: len(text_of(m.work / "ended").split()) >= 2, "what runs to end")
        balloon.burst()
    assert (m.results / "x.jsonl").read_text() == "null\n" * 6
    assert sorted(text_of(ran).split()) == [str(i) for i in range(6)]
    assert sorted((m.info / "x.jsonl" / "stdout").read_text().split("\n")) == [""] + ["says %d" % i for i in range(6)]


JOBS = {  # a form of calls that have jobs of their own: (the name of the stream, the text of a Python call as one of it)
    "lines": ("s.jsonl", lambda i, text: json.dumps({"call": "eval", "args": [text], "cpus": 1, "timeout": "100s"}).encode() + b"\n"),
    "programs": ("s.jsonl", lambda i, text: json.dumps({"run": ["/usr/bin/python3", "-c", "import sys; sys.stdout.write(" + text.replace("print(", "print(file=sys.stderr, ") + ")"]}).encode() + b"\n"),
    "frames": ("s", lambda i, text: frame_of(3, i, options_of({"cpus": 1, "retries": 1}) + pickled(eval, text))),
}


def options_of(options):
    text = json.dumps(options).encode()
    return bytes([0, 0, len(text) & 255, len(text) >> 8]) + text


def pickled(function, *args):
    import pickle
    return pickle.dumps((function, args, {}))


def strings_of(m, name):
    """{number of a call: the string that it answered}"""
    import pickle
    data = (m.results / name).read_bytes()
    if name.endswith(".jsonl"):
        return dict(enumerate(map(json.loads, data.split(b"\n")[:-1])))
    return {i: pickle.loads(body) if kind == 33 else (kind, body) for i, (kind, body) in answers_of(data).items()}


@pytest.mark.limit(120)
@pytest.mark.parametrize("full", ["all the time", "for a moment"])
@pytest.mark.parametrize("form", JOBS)
@pytest.mark.parametrize("size", [10, 300_000])
def test_jobs_of_calls_that_run_while_nothing_can_be_kept_run_once(small, form, full, size):
    """Calls with options, and programs: what they answer and print meanwhile is there when there is room again, once."""
    m = small.start()
    (m.node / "cpus").write_text("2")
    name, call = JOBS[form]
    numbers, n = itertools.count(), 6 if size < 1000 or full != "all the time" else 2
    balloon, ran, ended, go = Balloon(m), m.work / "ran", m.work / "ended", m.work / "go"
    what = ("[open(%r, 'a').write('%%d\\n'), print(*['says %%d']), [__import__('time').sleep(.02) for _ in iter(lambda: __import__('os').path.exists(%r), True)],"
            " open(%r, 'a').write('x\\n'), chr(48 + %%d) * %d][4]" % (str(ran), str(go), str(ended), size))
    m.put(name, (MAGIC if name == "s" else b"") + b"".join(call(i, what % (i, i, i)) for i in range(n)))
    wait_until(lambda: len(text_of(ran).split()) == 2, "two calls to run")
    balloon.inflate()
    wait_until(lambda: refused(m.jobs / (".draft%d" % next(numbers)), "x" * 50000), "a commit to fail")
    if full == "for a moment":
        balloon.burst()
        wait_until(lambda: not refused(m.jobs / ".draft0", "small"), "room again")
        wait_until(lambda: "%d are under way" % n in m.why(name), "the stream to be read anew")
    go.touch()
    if full == "all the time":
        wait_until(lambda: len(text_of(ended).split()) >= 2, "what runs to end")
        time.sleep(2.5)  # a commit is tried again each second
        balloon.burst()
    assert strings_of(m, name) == {i: chr(48 + i) * size for i in range(n)}
    assert sorted(text_of(ran).split()) == [str(i) for i in range(n)]
    if name != "s":
        said = (m.info / name / ("stderr" if form == "programs" else "stdout")).read_text()
        assert sorted(said.split("\n")) == [""] + ["says %d" % i for i in range(n)]


def remount(m, size):
    p = subprocess.run(["mount", "-o", "remount,size=" + size, str(m.statedir)], capture_output=True, text=True)
    assert p.returncode == 0, p.stderr


@pytest.mark.limit(120)
@pytest.mark.parametrize("form, size, n", [("frames", 2 << 20, 40), ("lines", 2 << 20, 40), ("frames", 40 << 20, 3)])
def test_answers_however_large_that_cannot_be_kept_are_not_computed_again(small, form, size, n):
    """While the disk is full commits fail again and again; more than 64 MiB of answers wait for room."""
    m = small.start()
    (m.node / "cpus").write_text("2")
    ran = m.work / "ran"
    what = ["[open(%r, 'a').write('%d\\n'), print('says'), chr(48 + %d) * %d][2]" % (str(ran), i, i, size) for i in range(n)]
    name = {"frames": "s", "lines": "s.jsonl"}[form]
    if form == "lines":
        m.put(name, "".join(json.dumps({"call": "eval", "args": [w]}) + "\n" for w in what))
    else:
        m.put(name, MAGIC + b"".join(call_of(i, (eval, (w,), {})) for i, w in enumerate(what)))
    wait_until(lambda: os.statvfs(m.statedir).f_bavail == 0 and text_of(ran), "the disk to be full")
    before = None
    while before != (before := text_of(ran)):
        time.sleep(2.5)  # a commit is tried again each second
    remount(m, "400m")
    data = (m.results / name).read_bytes()
    if form == "lines":
        assert [(line[1], len(line)) for line in data.split(b"\n")[:-1]] == [(48 + i, size + 2) for i in range(n)]
    else:
        found = answers_of(data)
        assert {i: (kind, body[-9:-6], len(body) > size) for i, (kind, body) in found.items()} == \
            {i: (33, bytes([48 + i]) * 3, True) for i in range(n)}
    assert sorted(map(int, text_of(ran).split())) == list(range(n))
