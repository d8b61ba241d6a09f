"""A state directory that is full: writers are told, nothing is lost, and it goes on when there is room again."""
import errno
import itertools
import json
import os
import subprocess
import time

import pytest
from ppfsmount import PENDING, need_programs, text_of, umount2, wait_until

FULL = (errno.ENOSPC, errno.EDQUOT)


@pytest.fixture
def small(new_mount):
    """A mount (not started) whose state directory is a file system of a few MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    m = new_mount(cpus=0)
    m.statedir.mkdir(mode=0o700)
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", str(m.statedir)],
                       capture_output=True, text=True)
    if p.returncode != 0:
        pytest.skip("cannot mount a tmpfs: %s" % p.stderr)
    yield m
    try:
        m.finish()
    finally:
        while umount2(m.statedir, 2) == 0:
            pass


@pytest.fixture(params=["tmpfs", "ext4"])
def tight(request, new_mount):
    """The same of both kinds: one that has room for all it has once given, and one that needs blocks for its own."""
    if request.param == "tmpfs":
        yield request.getfixturevalue("small")
        return
    if os.geteuid() != 0:
        pytest.skip("needs root to mount an image")
    need_programs("mkfs.ext4")
    m = new_mount(cpus=0)
    m.statedir.mkdir(mode=0o700)
    image = m.base / "image"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    p = subprocess.run(["mount", "-o", "loop", str(image), str(m.statedir)], capture_output=True, text=True)
    if p.returncode != 0:
        pytest.skip("cannot mount an image: %s" % p.stderr)
    os.rmdir(m.statedir / "lost+found")
    m.statedir.chmod(0o700)
    yield m
    try:
        m.finish()
    finally:
        while umount2(m.statedir, 2) == 0:
            pass


class Balloon:
    """A file of another's that takes the room away."""

    def __init__(self, m):
        self.path = m.statedir / "balloon"

    def inflate(self, leave=0):
        with open(self.path, "ab", buffering=0) as f:
            for size in (1 << 16, 1 << 12):
                try:
                    while os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize > leave + size:
                        f.write(b"b" * size)
                except OSError as e:
                    assert e.errno in FULL
        if leave == 0:
            with open(self.path, "ab", buffering=0) as f:
                try:
                    while f.write(b"b" * 4096) == 4096:
                        pass
                except OSError as e:
                    assert e.errno in FULL

    def burst(self):
        os.unlink(self.path)


def fill(m, prefix, size, most=50_000):
    """Submits jobs until one is refused for want of room; the names of those that were acknowledged."""
    names = []
    for i in range(most):
        name = "%s%d" % (prefix, i)
        try:
            m.put(name, "#!/bin/sh\necho %s\n#" % name + "x" * size + "\n")
            names.append(name)
        except OSError as e:
            assert e.errno in FULL, e
            return names, name
    raise AssertionError("%d jobs of %d bytes went into a full file system" % (most, size))


def has_them(m, names):
    """Every job is there with its bytes. One whose release found no room is a draft until there is some."""
    assert set(names) <= set(os.listdir(m.jobs))
    for name in names[:3] + names[-3:]:
        assert m.state(name) in (*PENDING, "draft")
        assert name in (m.jobs / name).read_text()


def ended(m, count, size):
    """The names of jobs that have ended, whose results have that size."""
    names = ["e%d" % i for i in range(count)]
    for name in names:
        m.put(name, "#!/bin/sh\nhead -c %d /dev/zero\n" % size)
    for name in names:
        assert len(m.result(name)) == size
    return names


@pytest.mark.limit(120)
@pytest.mark.parametrize("size", [200, 20_000, 200_000])
def test_jobs_fill_the_disk(small, size):
    m = small.start()
    names, refused = fill(m, "x", size)
    assert names, "not one job fitted"
    # what was acknowledged is there, what was refused is not queued
    has_them(m, names)
    assert (m.jobs / names[0]).stat().st_size > size
    names += fill(m, "more", size)[0]  # the log has become smaller meanwhile
    # cancelling makes room
    cancelled = [name for name in names if m.state(name) in PENDING][:len(names) // 2]
    kept = [name for name in names if name not in cancelled]
    for name in cancelled:
        os.unlink(m.jobs / name)
        os.rmdir(m.info / name)  # a cancelled job keeps what it was until it is forgotten
    wait_until(lambda: try_put(m, "again", "#!/bin/sh\necho again\n#" + "x" * size + "\n"), "room for another job")
    (m.node / "cpus").write_text("2")
    assert m.result("again") == b"again\n"
    for name in kept:
        assert m.result(name) == name.encode() + b"\n"
    assert set(kept) <= set(os.listdir(m.results)) and os.listdir(m.failures) == []
    assert refused not in os.listdir(m.results)


@pytest.mark.limit(120)
@pytest.mark.parametrize("size", [40_000, 200_000])
@pytest.mark.parametrize("again", [False, True])
def test_a_write_finds_no_room(small, size, again):
    """What was refused makes the file another than its writer meant: closed so, it is never queued. Written again, it is."""
    m = small.start()
    head, tail = b"#!/bin/sh\necho head\n#" + b"x" * size + b"\n", b"echo tail\n#" + b"y" * size + b"\n"
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(fd, head) == len(head)
        balloon = Balloon(m)
        balloon.inflate()
        tails = 0
        while try_pwrite(fd, tail, len(head) + tails * len(tail)):  # the ballast and what the database has spare go first
            tails += 1
            assert tails < 200
        balloon.burst()
        if again:
            wait_until(lambda: try_pwrite(fd, tail, len(head) + tails * len(tail)), "room for the rest")
    finally:
        e = closed(fd)
    (m.node / "cpus").write_text("1")
    m.put("y", "#!/bin/sh\necho y\n")
    assert m.result("y") == b"y\n"
    if again:
        assert e == 0 and m.result("x") == b"head\n" + (tails + 1) * b"tail\n"
    else:
        assert e in FULL and "x" in os.listdir(m.jobs) and "x" not in os.listdir(m.results)
        wait_until(lambda: m.why("x"), "why it stays a draft")
        assert m.state("x") == "draft" and "write" in m.why("x") and "space" in m.why("x")
        os.truncate(m.jobs / "x", 0)
        m.put("x", "#!/bin/sh\necho whole\n")
        assert m.result("x") == b"whole\n"


def try_pwrite(fd, bytes_, at):
    try:
        return os.pwrite(fd, bytes_, at) == len(bytes_)
    except OSError as e:
        assert e.errno in FULL
        return False


def closed(fd):
    """The errno of close()."""
    try:
        os.close(fd)
        return 0
    except OSError as e:
        return e.errno


def try_put(m, name, text):
    try:
        return m.put(name, text)
    except OSError as e:
        assert e.errno in FULL
        return None


@pytest.mark.limit(120)
def test_full_from_outside(small):
    """Somebody else took all the room: nothing is lost, reading works, removal works, and it goes on by itself."""
    m = small.start()
    m.put("before", "#!/bin/sh\necho before\n")
    m.put("other", "#!/bin/sh\necho other\n")
    for name in ("before", "other"):  # a release that is refused meanwhile would give the ballast up, to the balloon
        wait_until(lambda name=name: m.state(name) == "queued", "%s to be queued" % name)
    balloon = Balloon(m)
    balloon.inflate()
    names, _ = fill(m, "x", 1000)
    has_them(m, ["before", "other", *names])
    assert (m.jobs / "before").read_text() == "#!/bin/sh\necho before\n"
    os.unlink(m.jobs / "other")
    assert "other" not in os.listdir(m.jobs)
    balloon.burst()
    m.put("after", "#!/bin/sh\necho after\n")  # at once
    (m.node / "cpus").write_text("2")
    assert m.result("before") == b"before\n" and m.result("after") == b"after\n"
    for name in names:
        assert m.result(name) == name.encode() + b"\n"


@pytest.mark.parametrize("leave", [0, 80_000])
@pytest.mark.parametrize("size", [10, 60_000])
def test_rm_is_never_refused(tight, leave, size):
    """Nor when what the ballast left is taken as well."""
    m = tight
    m.cpus = 2
    m.start()
    names = ended(m, 30, size)
    balloon = Balloon(m)
    balloon.inflate(leave)
    for name in names[:10]:
        os.unlink(m.results / name)
    balloon.inflate()
    for name in names[10:]:
        os.unlink(m.results / name)
        balloon.inflate()
    assert os.listdir(m.results) == []
    balloon.burst()
    wait_until(lambda: try_works(m), "room again")


@pytest.mark.parametrize("killed", [False, True])
def test_starts_on_a_full_disk(tight, killed):
    """And what is there is read and removed."""
    m = tight
    m.cpus = 2
    m.start()
    names = ended(m, 20, 10_000)
    balloon = Balloon(m)
    for part in names[:10], names[10:]:
        if killed:
            m.kill_all()
        else:
            m.unmount()
        balloon.inflate()
        m.start()
        for name in part:
            assert (m.results / name).stat().st_size == 10_000
            os.unlink(m.results / name)
    assert os.listdir(m.results) == []
    m.unmount()
    balloon.burst()
    m.start().works()


def test_no_room_to_start(small):
    """It says so, and nothing of moving the database away."""
    m = small.start()
    m.put("x", "#!/bin/sh\necho x\n")
    m.unmount()
    os.unlink(m.statedir / "ballast")
    balloon = Balloon(m)
    balloon.inflate()
    p = m.run()
    assert (p.returncode, p.stderr) == (1, "ppfs: %s cannot be used, for its disk is full: make room there, and try again\n"
                                        % (m.statedir / "ppfs.db"))
    balloon.burst()
    m.start()
    assert m.state("x") == "queued"


@pytest.mark.limit(120)
def test_results_find_no_room(small):
    """Jobs end while the disk is full: each ends in exactly one place, whole, when there is room."""
    m = small.start()
    names = ["x%d" % i for i in range(30)]
    for name in names:
        m.put(name, "#!/bin/sh\necho %s >> %s/ran\nhead -c 50000 /dev/zero | tr '\\0' x\n" % (name, m.work))
    balloon = Balloon(m)
    balloon.inflate(leave=300_000)
    try_write(m.node / "cpus", "2")
    wait_until(lambda: (m.work / "ran").exists(), "jobs to run")
    wait_until(lambda: os.statvfs(m.statedir).f_bavail == 0 or not os.listdir(m.jobs) or stuck(m),
               "the disk to be full")
    balloon.burst()
    assert (m.info / ".wait").read_text().split()[0] == "done"
    done, failed = set(os.listdir(m.results)), set(os.listdir(m.failures))
    assert done | failed == set(names) and not done & failed
    for name in done:
        assert m.result(name) == b"x" * 50_000
    for name in failed:
        assert "room" in m.why(name) or "space" in m.why(name), m.why(name)
    m.works()


def stuck(m):
    """Little room is left and jobs wait for more."""
    return os.statvfs(m.statedir).f_bavail * os.statvfs(m.statedir).f_frsize < 200_000


def refused(path, text):
    try:
        path.write_text(text)
        return False
    except OSError as e:
        assert e.errno in FULL
        return True


def try_write(path, text):
    try:
        path.write_text(text)
    except OSError as e:
        assert e.errno in FULL


@pytest.mark.limit(120)
def test_output_larger_than_the_disk(small):
    """One job writes more than there ever can be: it fails and says so, or waits for room and can be cancelled."""
    m = small.start()
    (m.node / "cpus").write_text("2")
    m.put("x", "#!/bin/sh\nhead -c 50000000 /dev/zero\n")
    wait_until(lambda: m.state("x") == "failed" or stuck(m), "the disk to be full")
    if m.state("x") != "failed":
        try:
            os.unlink(m.jobs / "x")
        except FileNotFoundError:
            pass  # it failed meanwhile
        assert m.wait("x") in ("cancelled", "failed")
    else:
        assert "room" in m.why("x") or "space" in m.why("x"), m.why("x")
    os.rmdir(m.info / "x")
    wait_until(lambda: try_put(m, "y", "#!/bin/sh\necho y\n"), "room for a job after the large one")
    assert m.result("y") == b"y\n"
    wait_until(lambda: try_works(m), "everything to work again")


def try_works(m):
    try:
        m.works()
        return True
    except OSError as e:
        assert e.errno in FULL
        return False


@pytest.mark.limit(180)
def test_killed_with_a_full_disk(small):
    """kill -9 of everything while nothing can be written; then it starts, when there is room at the latest."""
    m = small.start()
    m.put("done", "#!/bin/sh\necho done\n")
    (m.node / "cpus").write_text("1")
    m.result("done")
    (m.node / "cpus").write_text("0")
    names, _ = fill(m, "x", 3000)
    balloon = Balloon(m)
    balloon.inflate()
    m.may_restart = True
    for round_ in range(5):
        if round_ % 2:
            m.kill_daemon()
        else:
            m.kill_all()
            p = m.run()
            if p.returncode != 0:
                assert p.returncode == 1 and p.stderr.count("\n") == 1, p.stderr
                assert "room" in p.stderr or "space" in p.stderr or "full" in p.stderr, p.stderr
                balloon.burst()
                m.start()
                balloon.inflate()
            else:
                m.started()
        has_them(m, names)
    balloon.burst()
    (m.node / "cpus").write_text("2")
    for name in names:
        assert m.result(name) == name.encode() + b"\n"
    assert m.result("done") == b"done\n"
    assert (m.info / ".wait").read_text() == "done %d failed 0\n" % (len(names) + 1)


def test_statfs_shows_the_room_there_is(small):
    m = small.start()
    before = os.statvfs(m.mnt)
    assert before.f_blocks * before.f_frsize <= 8 << 20
    Balloon(m).inflate()
    assert os.statvfs(m.mnt).f_bavail == 0


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


def try_rename(old, new):
    try:
        os.rename(old, new)
        return True
    except OSError as e:
        assert e.errno in FULL
        return False


@pytest.mark.limit(120)
def test_a_large_file_whose_name_found_no_room(small):
    """It is looked at as it gets a name that runs: a hole in it needs no room then, and without the name it stays a draft."""
    m = small.start()
    balloon = Balloon(m)
    with open(m.jobs / ".x", "wb", buffering=0) as f:
        f.write(b"#!/bin/sh\n#")
        f.truncate(4 << 20)
    with open(m.jobs / ".later", "wb", buffering=0) as f:
        balloon.inflate()
        while try_rename(m.jobs / ".x", m.jobs / "x"):  # the ballast and what the database has spare go first
            os.rename(m.jobs / "x", m.jobs / ".x")
        os.fsync(f.fileno())  # done when what was begun before it is
    assert m.state(".x") == "draft"
    balloon.burst()
    wait_until(lambda: try_rename(m.jobs / ".x", m.jobs / "x"), "room for a name")
    wait_until(lambda: m.state("x") in PENDING, "x to be read")
