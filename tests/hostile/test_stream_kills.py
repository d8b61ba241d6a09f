"""A binary stream under kill -9 of the daemon and of workers: large and small bodies both ways, values that calls name,
calls with options, calls that print, CANCELs at any time. Every call has exactly one answer, and it is the right one;
whoever read along over the deaths has seen exactly the bytes that the file has at the end. No file stays that no row names.

PPFS_ROUNDS, PPFS_SEED: as in test_crash.py; a quarter of the rounds are killed here.
"""
import hashlib
import io
import os
import pickle
import random
import sqlite3
import struct
import threading
import time

import pytest
from ppfsmount import wait_until
from processes import alive, kill

ROUNDS = max(int(os.environ.get("PPFS_ROUNDS", 200)) // 4, 3)
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
MAGIC = b"\x89ppfs\r\n\x1a\x01" + bytes(7)
PART, FUNC, CALL, CANCEL, RESULT, ERROR, OUTPUT, CANCELLED, STARTED = 1, 2, 3, 4, 33, 34, 35, 36, 37
BODY_MAX = 256 << 10
ECHO = pickle.dumps(bytes)
DIGEST = hashlib.sha256(ECHO).digest()


def frame(kind, ident, body=b""):
    out = []
    while len(body) > BODY_MAX:
        out += [struct.pack("<IB3xQ", BODY_MAX, PART, ident), body[:BODY_MAX]]
        body = body[BODY_MAX:]
    return b"".join([*out, struct.pack("<IB3xQ", len(body), kind, ident), body])


def call(ident, what, options=b"", digest=None):
    head = struct.pack("<BBH", digest is not None, 0, len(options)) + options + (digest or b"")
    return frame(CALL, ident, head + pickle.dumps(what))


class Naming(pickle.Pickler):
    def persistent_id(self, what):
        return what[1] if type(what) is tuple and what[:1] == ("value",) else None


def call_of_value(ident, value, options=b""):
    """bytes(value), both by their hashes."""
    file = io.BytesIO()
    Naming(file).dump(((("value", value),), {}))
    head = struct.pack("<BBH", 1, 1, len(options)) + options + value + DIGEST
    return frame(CALL, ident, head + file.getvalue())


def frames(data):
    assert data[:16] == MAGIC
    at, out, whole = 16, [], b""
    while at < len(data):
        size, kind, ident = struct.unpack_from("<IB3xQ", data, at)
        assert size <= BODY_MAX and at + 16 + size <= len(data)
        whole += data[at + 16:at + 16 + size]
        at += 16 + size
        if kind != PART:
            out.append((kind, ident, whole))
            whole = b""
    assert whole == b""
    return out


class Writer(threading.Thread):
    """Writes calls until told to stop; remembers what each must answer, and which were cancelled."""

    def __init__(self, m, rng):
        super().__init__()
        self.rng, self.path = rng, m.jobs / "s"
        self.stop = threading.Event()
        self.wanted, self.cancelled, self.error = {}, set(), None
        self.values = []  # (hash, data)

    def value(self, ident, data, options):
        """A call with a value; now and then it is a new one, which comes first."""
        func = b""
        if not self.values or self.rng.random() < 0.3:
            blob = pickle.dumps(data)
            self.values.append((hashlib.sha256(blob).digest(), data))
            func = frame(FUNC, 0, self.values[-1][0] + blob)
        digest, self.wanted[ident] = self.rng.choice(self.values[-20:])
        return func + call_of_value(ident, digest, options)

    def one(self, ident):
        rng = self.rng
        what, size = rng.randrange(9), int(700000 * rng.random() ** 3)
        data = rng.randbytes(size)
        if what > 5:
            return self.value(ident, data, b'{"priority": 2}' if what == 6 else b"")
        if what == 0:
            seconds = rng.random() * 0.03
            self.wanted[ident] = None
            return call(ident, (time.sleep, (seconds,), {}))
        if what == 1:
            self.wanted[ident] = None
            return call(ident, (print, ("said",), {}), options=b'{"priority": 1}')
        self.wanted[ident] = data
        if what == 2:
            return call(ident, ((data,), {}), digest=DIGEST)
        if what == 3:
            return call(ident, ((data,), {}), options=b'{"priority": 2}', digest=DIGEST)
        return call(ident, (bytes, (data,), {}))

    def run(self):
        rng = self.rng
        try:
            with open(self.path, "wb", buffering=0) as f:
                f.write(MAGIC + frame(FUNC, 0, DIGEST + ECHO))
                ident = 0
                while not self.stop.is_set():
                    batch = []
                    for _ in range(rng.choice((1, 1, 5, 40))):
                        ident += 1
                        batch.append(self.one(ident))
                        if rng.random() < 0.1:
                            victim = max(1, ident - int(200 * rng.random() ** 2))
                            self.cancelled.add(victim)
                            batch.append(frame(CANCEL, victim))
                    view = memoryview(b"".join(batch))
                    while view:
                        view = view[f.write(view[:rng.choice((100, 5000, 1 << 20))]):]
                    time.sleep(rng.random() * 0.1)
                ident += 1  # one at least is surely cancelled
                self.wanted[ident] = None
                self.cancelled.add(ident)
                f.write(call(ident, (time.sleep, (0,), {})) + frame(CANCEL, ident))
        except BaseException as e:
            self.error = e


class Reader(threading.Thread):
    def __init__(self, m):
        super().__init__()
        self.path, self.data, self.error = m.results / "s", bytearray(), None

    def run(self):
        try:
            with open(self.path, "rb", buffering=0) as f:
                while more := f.read(1 << 20):
                    self.data += more
        except BaseException as e:
            self.error = e


@pytest.mark.limit(120 + 4 * ROUNDS)
def test_a_stream_over_kills(new_mount):
    print("PPFS_ROUNDS=%d PPFS_SEED=%d" % (ROUNDS * 4, SEED))
    rng = random.Random(SEED)
    m = new_mount().start()
    m.may_restart = True
    writer = Writer(m, random.Random(SEED + 1))
    writer.start()
    wait_until(lambda: (m.jobs / "s").exists() and os.stat(m.jobs / "s").st_size > 16, "the stream to begin")
    reader = Reader(m)
    reader.start()
    killed = 0
    while killed < ROUNDS:
        time.sleep(rng.random() ** 2 * 0.4)
        pids = m.pids()
        victims = pids["workers"] if rng.random() < 0.25 else [pids["daemon"]]
        victim = rng.choice(victims) if victims else 0
        if victim and kill(victim):
            wait_until(lambda: not alive(victim), "the victim to be dead")
            killed += 1
        assert writer.error is None and reader.error is None, (writer.error, reader.error)
    writer.stop.set()
    writer.join()
    reader.join()
    assert writer.error is None and reader.error is None, (writer.error, reader.error)

    data = (m.results / "s").read_bytes()
    assert bytes(reader.data) == data, "who read along has seen something else"
    answers, excused = {}, 0
    for kind, ident, body in frames(data):
        if kind in (RESULT, ERROR, CANCELLED):
            assert ident not in answers, "call %d has two answers" % ident
            answers[ident] = kind, body
        else:
            assert kind in (OUTPUT, STARTED) and ident not in answers
    assert answers.keys() == writer.wanted.keys(), "lost: %s" % sorted(writer.wanted.keys() - answers.keys())[:5]
    for ident, (kind, body) in answers.items():
        if kind == RESULT:
            assert pickle.loads(body) == writer.wanted[ident], "call %d has a wrong answer" % ident
        elif kind == CANCELLED:
            assert ident in writer.cancelled, "call %d was never cancelled" % ident
        else:  # its worker was killed, or it was running at three deaths
            assert b"SIGKILL" in body or b"three deaths" in body, body[:300]
            excused += 1
    cancelled = sum(kind == CANCELLED for kind, _ in answers.values())
    print("%d calls, %d cancelled, %d bytes, %d died with their worker" % (len(answers), cancelled, len(data), excused))
    assert cancelled > 0 and excused <= 3 * ROUNDS
    no_file_without_a_row(m)


def no_file_without_a_row(m):
    """What a death left behind is swept at the next start."""
    m.unmount()
    m.gone()
    m.start()
    m.works()
    m.unmount()
    m.gone()
    db = sqlite3.connect(m.statedir / "ppfs.db")
    ids = [row[0] for row in db.execute("SELECT data FROM functions WHERE typeof(data)='integer'")]
    db.close()
    files = {name for name in os.listdir(m.statedir / "spool") if not name.endswith("--1")}
    assert files == {"%d-0-1" % i for i in ids}
    m.start()
