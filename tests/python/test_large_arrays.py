"""Large arrays of calls: the executor sends them without a copy, and a worker of this machine maps them."""
import os
import pickle
import queue

import pytest

import ppfs
from ppfs._pickle.pieces import ALIGNED, call_pieces
from ppfs._pickle.serialize import Serializer
from ppfsmount import need_module, sanitized, wait_until

numpy = need_module("numpy")
LARGE = 5 << 20  # bytes, enough for a worker to get them in a file


def functions():
    """Functions that no worker could import from here: they travel by value."""
    def place(array):
        """Whether the array lies in the file of a call; at which offset, and whether it may be written to."""
        at = array.__array_interface__["data"][0]
        with open("/proc/self/maps") as maps:
            for line in maps:
                first, last = (int(end, 16) for end in line.split()[0].split("-"))
                if first <= at < last:
                    return "memfd:ppfs-call" in line, at % 64, array.flags.writeable, array.flags.aligned

    def files():
        with open("/proc/self/maps") as maps:
            return "memfd:ppfs-call" in maps.read()

    def spoil(*arrays, **more):
        """What is first in each; then changes it."""
        out = [float(array.flat[0]) for array in (*arrays, *more.values())]
        for array in (*arrays, *more.values()):
            array.flat[0] = 99
        return out
    return place, files, spoil


place, files, spoil = functions()


@pytest.fixture(params=["plain", "packed", "limited"])
def ex(request, m, monkeypatch):
    """packed: workers find modules where this process does. limited: calls wait in this process."""
    if request.param == "plain":
        monkeypatch.setattr("ppfs._pickle.serialize.extra_path", lambda: ())
    with ppfs.Executor(str(m.mnt), max_workers=1 if request.param == "limited" else None) as executor:
        yield executor


def test_a_worker_maps_it_and_lets_it_go(ex):
    data = numpy.ones(LARGE // 8)
    assert ex.submit(place, data).result() == (True, 0, True, True)
    assert ex.submit(files).result() is False
    data.flags.writeable = False
    assert ex.submit(place, data + 1).result() == (True, 0, True, True)
    again = data.copy()
    again.flags.writeable = False
    assert ex.submit(place, again).result() == (True, 0, False, True)


@pytest.mark.parametrize("size", [100, LARGE // 16, LARGE])
def test_each_call_has_the_arrays_of_its_submit_and_its_own(ex, size):
    """The array is changed as soon as submit() returns."""
    data, other = numpy.zeros(size // 8), numpy.zeros((size // 4, 2), dtype="f4", order="F")
    futures = []
    for i in range(8):
        data = data.copy() if i % 2 else data
        data[0], other[0, 0] = i, -i
        futures.append(ex.submit(spoil, data, some=other))
        data[0] = other[0, 0] = 1000
    assert [f.result() for f in futures] == [[i, -i] for i in range(8)]


def test_a_callback_may_change_the_array_at_once(ex):
    """It runs in the thread that brings the answers, which cannot wait until a large array is written."""
    futures = queue.Queue()

    def go_on(_):
        data = numpy.ones(40 * LARGE // 8)
        futures.put(ex.submit(lambda array: (array.min(), array.max()), data))
        data[:] = 7
    for _ in range(3):
        ex.submit(abs, -1).add_done_callback(go_on)
        assert futures.get().result() == (1, 1)


def test_from_a_callback(ex):
    """There nobody waits until it is written."""
    data, futures = numpy.zeros(LARGE // 8), []

    def again(_):
        futures.append(ex.submit(spoil, data))
        data[-1] = data[0] = 1000
    first = ex.submit(abs, -1)
    first.add_done_callback(again)
    wait_until(lambda: futures, "the callback")
    assert futures[0].result() == [0]


def test_chunks_and_parts(ex):
    arrays = [numpy.full(LARGE // 8, i, dtype="i8")[::step] for i in range(4) for step in (1, 2)]
    assert list(ex.map(spoil, arrays, chunksize=3)) == [[i] for i in range(4) for _ in (1, 2)]


def test_only_arrays_are_mapped(ex):
    """What others make of a buffer that is not bytes is not known."""
    buffer = pickle.PickleBuffer(bytearray(2 * LARGE))
    kinds = ex.submit(lambda *whats: [type(what).__name__ for what in whats], numpy.ones(LARGE // 8), buffer, bytearray(LARGE),
                      b"x" * LARGE, "x" * LARGE).result()
    assert kinds == ["ndarray", "bytearray", "bytearray", "bytes", "str"]


@pytest.mark.parametrize("options", [{"priority": 3}, {"env": {"A": "1"}}, {"memory": "2G"}])
def test_with_options(ex, options):
    if "memory" in options and sanitized():
        pytest.skip("the sanitizer needs more")
    assert ex.options(**options).submit(spoil, numpy.full(LARGE // 8, 5)).result() == [5]


def test_the_daemon_dies_meanwhile(m, ex):
    futures = []
    for i in range(20):
        if i in (5, 12):
            m.kill_daemon()
        futures.append(ex.submit(spoil, numpy.full(LARGE // 8, i)))
    assert [f.result() for f in futures] == [[i] for i in range(20)]


def test_more_at_once_than_may_be_sent_ahead(ex):
    data = numpy.zeros(LARGE // 8)
    assert list(ex.map(spoil, [data + i for i in range(80)])) == [[i] for i in range(80)]


def test_cancelled_while_they_wait(ex, tmp_path):
    """What was sent ahead and is taken back keeps no room from those that follow."""
    gates = [tmp_path / "one", tmp_path / "two"]
    for gate in gates:
        os.mkfifo(gate)
    waits = [ex.submit(lambda path: open(path).read(), str(gate)) for gate in gates]
    data = numpy.zeros(LARGE // 8)
    futures = [ex.submit(spoil, data + i) for i in range(24)]
    assert all(future.cancel() for future in futures[::2])
    for gate in gates:
        gate.write_text("go")
    assert [f.result() for f in waits] == ["go"] * 2
    more = [ex.submit(spoil, data + i) for i in range(24)]
    assert [f.result() for f in futures[1::2]] == [[i] for i in range(1, 24, 2)]
    assert [f.result() for f in more] == [[i] for i in range(24)]


def test_joblib(m):
    joblib = need_module("joblib")
    ppfs.joblib.register(str(m.mnt))
    with joblib.parallel_backend("ppfs"):
        out = joblib.Parallel(batch_size=1)(joblib.delayed(place)(numpy.full(LARGE // 8, i)) for i in range(3))
    assert out == [(True, 0, True, True)] * 3


@pytest.mark.parametrize("packs", [False, True])
@pytest.mark.parametrize("before", range(0, 130, 7))
def test_the_pieces_are_a_pickle_whose_arrays_are_aligned(before, packs):
    arrays = [numpy.arange(20000 + i) for i in range(3)]
    what = ((*arrays, "text", numpy.arange(3)), {"by": arrays[0]})
    pieces = call_pieces(Serializer(None, ()), what, before, packs)
    whole = b"".join(pieces)
    assert sum(piece is not None and len(piece) >= arrays[0].nbytes for piece in pieces) == 3, "each once, and no copy"
    for array in arrays:
        assert (before + whole.index(array.tobytes()[8:]) - 8) % ALIGNED == 0
    args, kwargs = pickle.loads(whole)
    if packs:
        args, kwargs = pickle.loads(args[0], buffers=args[1:])
    assert [part.tolist() for part in args[:3]] == [array.tolist() for array in arrays]
    assert args[3] == "text" and args[4].tolist() == [0, 1, 2] and kwargs["by"] is args[0]
