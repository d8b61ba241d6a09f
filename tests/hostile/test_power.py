"""The power goes, at any moment: what a client was told by fsync(), and with --sync full by close() and rename(), is there when the
disk is mounted again, whatever the disk has of the rest (powerloss.py); it can always be mounted, and runs no job of which
the file is not whole.

PPFS_CUTS says how many such moments are tried for each option (4), PPFS_SEED which.
"""
import os
import random
import time

import ppfsmount
import pytest
from powerloss import Recorder
from ppfsmount import need_programs

CUTS = int(os.environ.get("PPFS_CUTS", 4))
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
LINE = b'{"call": "len", "args": ["%s"]}\n'
FULL = "full"


class Writer:
    """Writes jobs that are held, and what it was told of them: .written {name: bytes}, .told [(when, name, how many bytes, whether
    it is a job)]."""

    def __init__(self, m, sync, rng):
        self.m, self.sync, self.rng = m, sync, rng
        self.written, self.told, self.results = {}, [], {}

    def tell(self, name, job, size=None):
        self.told.append((time.time(), name, len(self.written[name]) if size is None else size, job))

    def bytes_of(self, name, size):
        text = b"#!/bin/sh\n#ppfs: hold=1\necho %s\n#" % name.encode()
        return text + b"x" * (size - len(text)) if size > len(text) else text

    def put(self, name, size, draft=False):
        path = self.m.jobs / ("." + name if draft else name)
        data = self.written[name] = self.bytes_of(name, size)
        with open(path, "wb", buffering=0) as f:
            for at in range(0, len(data), 100_000):
                f.write(data[at:at + 100_000])
            if self.sync != FULL and not draft:
                os.fsync(f.fileno())
                self.tell(name, job=False)
        if draft:
            os.rename(path, self.m.jobs / name)
        if self.sync == FULL:
            self.tell(name, job=True)

    def batch(self, name):
        os.mkdir(self.m.jobs / ("." + name))
        inside = ["%s/%d" % (name, i) for i in range(3)]
        for one in inside:
            self.written[one] = self.bytes_of(one, 100)
            (self.m.jobs / ("." + one)).write_bytes(self.written[one])
        os.rename(self.m.jobs / ("." + name), self.m.jobs / name)
        for one in inside if self.sync == FULL else ():
            self.tell(one, job=True)

    def stream(self, name):
        self.written[name] = b""
        with open(self.m.jobs / name, "wb", buffering=0) as f:
            for _ in range(3):
                piece = LINE % (b"y" * self.rng.choice((10, 1000, 200_000)))
                self.written[name] += piece
                f.write(piece)
                os.fsync(f.fileno())
                self.tell(name, job=True)

    def result(self, name, size):
        """One that runs, and is read."""
        self.written[name] = b"#!/bin/sh\nhead -c %d /dev/zero\n" % size
        (self.m.jobs / name).write_bytes(self.written[name])
        self.results[name] = self.m.result(name)
        assert len(self.results[name]) == size
        if self.sync == FULL:
            self.tell(name, job=True)

    def run(self):
        for i in range(8):
            for size in (10, 3000):
                self.put("a%d-%d" % (i, size), size)
            self.put("d%d" % i, 1000, draft=True)
            self.put("large%d" % i, 250_000)
            self.result("r%d" % i, self.rng.choice((10, 300_000)))
            if i % 4 == 0:
                self.batch("G%d" % i)
                self.stream("s%d.jsonl" % i)
            for k in range(20):  # so that the log is copied into the database
                self.put("m%d-%d" % (i, k), 60_000)


def look(m, w, when):
    """Compares what is there with what was told until then."""
    told = {}
    for at, name, size, job in w.told:
        if at < when:
            told[name] = size, job
    for name, (size, job) in told.items():
        assert os.path.exists(m.info / name), "%s is not there" % name
        with open(m.info / name / "spec", "rb") as f:
            assert f.read(size) == w.written[name][:size], "%s has other bytes" % name
        assert not job or m.state(name) != "draft", "%s is a draft" % name
    for name, data in w.written.items():
        try:
            if m.state(name) not in ("draft", "failed") and not name.endswith(".jsonl"):
                assert (m.info / name / "spec").read_bytes() == data, "%s is a job, and its file is not whole" % name
        except FileNotFoundError:
            assert name not in told
        if name in w.results and os.path.exists(m.info / name) and m.state(name) != "draft":
            assert m.result(name) == w.results[name]
    return len(told)


@pytest.mark.limit(120 + 10 * CUTS)
@pytest.mark.parametrize("sync", [FULL, "normal"])
def test_what_was_told_survives_a_power_loss(new_mount, base, sync):
    need_programs("strace")
    print("PPFS_CUTS=%d PPFS_SEED=%d" % (CUTS, SEED))
    rng = random.Random(SEED)
    m = new_mount(options=["--sync", sync]).start()
    m.works()
    w = Writer(m, sync, rng)
    with Recorder(m.statedir, m.pids()["daemon"]) as recorder:
        w.run()
    syncs = [i for i, call in enumerate(recorder.calls) if "sync" in call[2]]
    assert len(syncs) > 20 and len(w.told) > 50
    cuts = sorted(rng.choice(syncs) if rng.random() < 0.5 else rng.randrange(len(recorder.calls)) for _ in range(CUTS))
    disk, done, seen = recorder.disk(SEED), 0, 0
    for n, cut in enumerate(cuts):
        for call in recorder.calls[done:cut + 1]:
            disk.do(call)
        done = cut + 1
        where = base / ("cut%d" % n)
        where.mkdir()
        how = rng.choice(("nothing", "some", "some", "all"))
        other = ppfsmount.Mount(where, options=["--sync", sync])
        disk.after_loss(how, other.statedir)
        print("cut %d behind call %d of %d (%s), of what was not synced: %s" % (n, cut, len(recorder.calls), recorder.calls[cut][2], how))
        other.start()
        try:
            seen += look(other, w, recorder.calls[cut][1])
        finally:
            other.finish()
    print("%d calls, %d of them syncs; %d told, looked for %d times" % (len(recorder.calls), len(syncs), len(w.told), seen))
    assert seen
