"""Values of streams: large arguments that calls name by their hashes, as ppfs-stream(5) describes them."""
import functools
import hashlib
import operator
import os
import pickle
import sqlite3
import subprocess

import pytest
from ppfsmount import sanitized, wait_until
from streamframes import (CALL, CANCEL, CANCELLED, ERROR, FUNC, MAGIC, RESULT, Named, call, frame, frames, large_frame,
                          naming, sent)

OPTIONS = [b"", b'{"priority": 3}']


def ended(m, name="s"):
    """{id: (kind, body)} of the stream's answers."""
    return {i: (kind, body) for kind, i, body in frames((m.results / name).read_bytes()) if kind in (RESULT, ERROR, CANCELLED)}


def values(m, name="s"):
    return {i: pickle.loads(body) for i, (kind, body) in ended(m, name).items() if kind == RESULT}


def files(m):
    """What is in the spool besides logs."""
    return sorted(name for name in os.listdir(m.statedir / "spool") if not name.endswith("--1"))


def rows(m):
    """The files that functions and values have. Only while nothing is mounted."""
    with sqlite3.connect(m.statedir / "ppfs.db") as db:
        ids = [row[0] for row in db.execute("SELECT data FROM functions WHERE typeof(data)='integer'")]
    db.close()
    return sorted("%d-0-1" % i for i in ids)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("size", [10, 500_000])
def test_each_call_has_an_object_of_its_own(m, size, options):
    digest, func = sent(list(range(size)))
    m.put("s", MAGIC + func + b"".join(naming(i, list.pop, Named(digest), lists=[digest], options=options) for i in range(1, 9)))
    assert values(m) == {i: size - 1 for i in range(1, 9)}
    assert len(files(m)) == (size > 10)


@pytest.mark.parametrize("options", OPTIONS)
def test_several_values_and_a_large_function(m, options):
    data = [os.urandom(n) for n in (300_000, 1 << 20, 70_000, 5)]
    sends = [sent(d) for d in data]
    function = sent(functools.partial(operator.eq, tuple(data)))
    args = tuple(Named(digest) for digest, _ in sends)
    calls = [naming(i, None, args, lists=[digest for digest, _ in sends], function=function[0], options=options) for i in (1, 2, 3)]
    nothing = naming(4, len, b"abc", lists=[sends[0][0]], options=options)
    twice = naming(5, operator.is_, args[0], args[0], lists=[sends[0][0]], options=options)
    m.put("s", MAGIC + b"".join(func for _, func in [*sends, function]) + b"".join(calls) + nothing + twice)
    assert values(m) == {1: True, 2: True, 3: True, 4: 3, 5: True}
    assert len(files(m)) == 4


def test_values_stay_for_the_next_stream(m):
    """Whoever knows the hash gets it: that is the hash of the content."""
    digest, func = sent(b"x" * 300_000)
    m.put("s", MAGIC + func + naming(1, len, Named(digest), lists=[digest]))
    assert values(m) == {1: 300_000}
    os.unlink(m.results / "s")
    m.kill_daemon()
    m.put("t", MAGIC + naming(1, len, Named(digest), lists=[digest]) + naming(2, len, Named(digest), lists=[digest], options=OPTIONS[1]))
    assert values(m, "t") == {1: 300_000, 2: 300_000}


def refusal(answer):
    kind, body = answer
    assert kind == ERROR and body[0] == 2, answer
    return body[8:].decode()


@pytest.mark.parametrize("options", OPTIONS)
def test_what_names_no_value(m, options):
    digest, func = sent([1, 2])
    unknown = hashlib.sha256(b"?").digest()
    calls = [(Named(unknown), [unknown]), (Named(digest), []), (Named(unknown), [digest]), (Named(b"short"), [digest]), (Named(7), [digest]),
             (Named("x" * 32), [digest]), (Named(digest), [unknown, digest]), (Named(digest), [digest])]
    m.put("s", MAGIC + func + b"".join(naming(i, len, arg, lists=lists, options=options) for i, (arg, lists) in enumerate(calls)))
    out = ended(m)
    assert pickle.loads(out[7][1]) == 2
    words = [refusal(out[i]) for i in range(7)]
    assert "not known" in words[0] or "is not there" in words[0], words
    assert "lists none" in words[1] and "does not list" in words[2]
    assert all("not the 32 bytes of a hash" in w for w in words[3:6])
    assert words[6].split("\n")[0] == words[0].split("\n")[0]


@pytest.mark.parametrize("head", [b"\0\1\0\0", b"\1\1\0\0" + bytes(32), b"\0\xff\0\0" + bytes(254 * 32), b"\0\1\2\0{}" + bytes(31)])
def test_a_list_that_is_cut_off(m, head):
    m.put("s", MAGIC + frame(CALL, 1, head) + call(2, abs, -1))
    out = ended(m)
    assert out[1][0] == ERROR and b"cut off" in out[1][1] and pickle.loads(out[2][1]) == 1


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_bytes_of_another_hash_are_not_taken(m, size):
    """Else whoever is first could give others what they did not send."""
    digest, func = sent(b"x" * size)
    blob = pickle.dumps(b"y" * size, 5)
    use = naming(1, bytes.upper, Named(digest), lists=[digest])
    m.put("s", MAGIC + large_frame(FUNC, 0, digest + blob) + use)
    assert refusal(ended(m)[1]) and files(m) == []
    m.put("t", MAGIC + large_frame(FUNC, 0, digest + blob) + func + use)
    assert values(m, "t") == {1: b"X" * size}
    assert len(files(m)) == (size > 10)
    assert "its hash is not that of its bytes" in m.log()


def test_one_that_is_too_large(m):
    blob = pickle.dumps(bytes(65 << 20), 5)
    digest = hashlib.sha256(blob).digest()
    m.put("s", MAGIC + large_frame(FUNC, 0, digest + blob) + naming(1, len, Named(digest), lists=[digest]) + call(2, abs, -1))
    out = ended(m)
    assert refusal(out[1]) and pickle.loads(out[2][1]) == 1 and files(m) == []


@pytest.mark.limit(120)
def test_cancelled_at_any_moment(m):
    digest, func = sent(bytes(3 << 20))
    other, more = sent(bytes(2 << 20))
    out = [MAGIC, func]
    for i in range(1, 200):
        out.append(naming(i, len, Named(digest if i % 3 else other), lists=[digest, other][:2 if i % 5 else 1], options=OPTIONS[i % 40 == 0]))
        if i % 2:
            out.append(frame(CANCEL, i))
        if i == 20:
            out.append(more)
    out.append(naming(1000, len, Named(digest), lists=[digest]))
    with open(m.jobs / "s", "wb", buffering=0) as f:
        for piece in out:
            f.write(piece)
    answers = ended(m)
    assert answers.keys() == {*range(1, 200), 1000} and pickle.loads(answers[1000][1]) == 3 << 20
    for i, (kind, body) in answers.items():
        if kind == RESULT:
            assert pickle.loads(body) == (3 << 20 if i % 3 or i == 1000 else 2 << 20)
        elif kind == ERROR:
            # It lists the other, which was not there yet, or needs it and does not list it.
            assert refusal((kind, body)) and (i < 20 if i % 5 else i % 3 == 0), (i, body)
        else:
            assert i % 2
    m.works()


@pytest.mark.limit(120)
def test_a_stream_that_is_removed_while_its_values_come(m):
    """Nothing is left of it, at the latest after the next start."""
    for i in range(10):
        with open(m.jobs / "s", "wb", buffering=0) as f:
            f.write(MAGIC + sent(os.urandom(200_000))[1] + b"".join(sent(os.urandom(1 << 20))[1] for _ in range(i)))
            os.unlink(m.jobs / "s")
    m.works()
    m.unmount()
    m.gone()
    m.start()
    m.works()
    m.unmount()
    m.gone()
    assert set(files(m)) == set(rows(m))
    m.start()


@pytest.mark.limit(200)
def test_the_oldest_go(m):
    """Of more than 256 MiB; with their files."""
    size = (60 << 20) if not sanitized() else (64 << 20) - 100
    kept = []
    for i in range(6):
        digest, func = sent(bytes([i]) * size)
        kept.append(digest)
        with open(m.jobs / "s", "wb", buffering=0) as f:
            for piece in (MAGIC, func, naming(1, len, Named(digest), lists=[digest])):
                view = memoryview(piece)
                while view:
                    view = view[f.write(view[:1 << 20]):]
        assert values(m) == {1: size}
        os.unlink(m.results / "s")
        wait_until(lambda: len(files(m)) * size <= 256 << 20, "the oldest files to go")
    assert 3 <= len(files(m)) <= 4
    m.put("s", MAGIC + b"".join(naming(i + 1, len, Named(d), lists=[d]) for i, d in enumerate(kept)))
    out = ended(m)
    assert refusal(out[1]) and refusal(out[2]) and pickle.loads(out[6][1]) == size == pickle.loads(out[5][1])


def send(user, m, what, size=60 << 20):
    """A stream of the user's that brings a value and ends; returns the value's hash."""
    digest, func = sent(what * size)
    (m.work / "stream").write_bytes(MAGIC + func + naming(1, len, Named(digest), lists=[digest]))
    assert user.sh("cp %s $M/jobs/s" % (m.work / "stream"), M=m.mnt).stderr == ""
    assert values(m) == {1: size}
    os.unlink(m.results / "s")
    return digest


@pytest.mark.limit(200)
def test_what_one_user_has_takes_no_values_of_another(shared, alice, mallory):
    """Of more than 256 MiB mallory's go, for he has most, however new; root's open stream, the oldest, keeps only root's."""
    m = shared
    with open(m.jobs / "open", "wb", buffering=0) as f:
        f.write(MAGIC)
        hers = send(alice, m, b"a", 40 << 20)
        his = [send(mallory, m, b"%d" % n) for n in range(4)]
        wait_until(lambda: len(files(m)) <= 4, "the oldest of mallory's to go")
        for user, name, known in (alice, "t", [hers]), (mallory, "u", his):
            (m.work / "stream").write_bytes(MAGIC + b"".join(naming(i, len, Named(h), lists=[h]) for i, h in enumerate(known)))
            assert user.sh("cp %s $M/jobs/%s" % (m.work / "stream", name), M=m.mnt).stderr == ""
        assert values(m, "t") == {0: 40 << 20}
        assert refusal(ended(m, "u")[0]) and values(m, "u")[3] == 60 << 20
