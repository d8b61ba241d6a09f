"""Large arguments that many calls have: they are sent by their hash, and no call notices."""
import array
import functools
import gc
import hashlib
import os
import pickle
import threading
import weakref

import pytest

import ppfs
from ppfs._stream import frames as stream
from ppfs._pickle.serialize import Serializer
from ppfsmount import need_module, wait_until

numpy = need_module("numpy")
SIZE = 1 << 20


def functions():
    """Functions that no worker could import from here: they travel by value."""
    def spoil(data, *rest, **more):
        """What was first in it; then changes it."""
        first = data[0]
        data[0] = 99
        return first

    def sizes(*args, **kwargs):
        return [len(part) for part in (*args, *kwargs.values())]

    def aliases(*args, key=None):
        """Which of them are the same object as the first."""
        return [what is args[0] for what in (*args, key)]
    return spoil, sizes, aliases


spoil, sizes, aliases = functions()


def objects_sent(ex):
    """Values, and not the functions that take them."""
    return [blob for blob in ex.sent if len(blob) > 64 * 1024]


@pytest.fixture(params=["plain", "packed"])
def ex(request, m, monkeypatch):
    """An executor that remembers what it has sent in FUNC frames. packed: workers find modules where this process does."""
    if request.param == "plain":
        monkeypatch.setattr("ppfs._pickle.serialize.extra_path", lambda: ())
    monkeypatch.setattr("ppfs._stream.channel.Channel.announce", announce)
    with ppfs.Executor(str(m.mnt)) as executor:
        executor.sent = []
        executor._core.open().note_sent = executor.sent
        yield executor


real_announce = ppfs._stream.channel.Channel.announce


def announce(self, digest, blob):
    with self.lock:
        if digest not in self.announced and hasattr(self, "note_sent"):
            self.note_sent.append(blob)
        real_announce(self, digest, blob)


def make(kind):
    data = numpy.random.default_rng(1).integers(0, 50, SIZE, dtype=numpy.uint8)
    return {"array": lambda: data.astype(float)[:SIZE // 8], "bytes": data.tobytes, "bytearray": lambda: bytearray(data.tobytes()),
            "text": lambda: data.tobytes().decode("latin-1"), "list": data.tolist, "view": lambda: data.reshape(-1, 2)[:, 0],
            "fortran": lambda: numpy.asfortranarray(data.reshape(1024, -1)), "array.array": lambda: array.array("B", data.tobytes()),
            "dict": lambda: dict(enumerate(data.tolist()[:50000]))}[kind]()


KINDS = ["array", "bytes", "bytearray", "text", "list", "view", "fortran", "array.array", "dict"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_in_many_calls(ex, kind):
    data = make(kind)
    calls = 100 if kind in ("array", "bytes") else 10
    assert list(ex.map(sizes, [data] * calls)) == [[len(data)]] * calls
    assert len(objects_sent(ex)) == 1
    written = os.lseek(ex._core.channel._send_queue.fd, 0, os.SEEK_CUR)
    assert written < 3 * (len(pickle.dumps(data, 5)) + 10000), written


@pytest.mark.parametrize("kind", ["array", "bytearray", "list"])
def test_changed_between_two_calls(ex, kind):
    data = make(kind)
    want = []
    futures = []
    for i in range(12):
        if i % 3 == 0:
            data[0] = i
        want.append(i - i % 3)
        futures.append(ex.submit(spoil, data))
    assert [f.result() for f in futures] == want, "each call has the value of its submit, and none that another has spoilt"


def test_changed_each_time(ex):
    """Then it goes whole: to send each value by its hash would cost more."""
    data = make("array")
    futures = []
    for i in range(40):
        data[0] = i
        futures.append(ex.submit(spoil, data))
    assert [f.result() for f in futures] == list(range(40))
    assert len(objects_sent(ex)) <= 2


def test_used_once(ex):
    """Objects that come and go in the same memory are not taken for one another."""
    for kind in ("array", "bytes"):
        futures = [ex.submit(len, make(kind)[i:]) for i in range(20)]
        assert [f.result() for f in futures] == [len(make(kind)) - i for i in range(20)]
    assert objects_sent(ex) == []


def test_by_keyword_and_three_in_one_call(ex):
    one, two, three = make("array"), make("bytes"), make("text")
    futures = [ex.submit(sizes, one, i * "x", two, key=three, other=one) for i in range(10)]
    assert [f.result() for f in futures] == [[len(one), i, len(two), len(three), len(one)] for i in range(10)]
    assert len(objects_sent(ex)) == 3


def test_one_object_stays_one_object(ex):
    data = make("array")
    futures = [ex.submit(aliases, data, data, 1, key=data) for _ in range(5)]
    assert [f.result() for f in futures] == [[True, True, False, True]] * 5
    holder = [data, 1]
    futures = [ex.submit(lambda a, b: b[0] is a, data, holder) for _ in range(5)]
    assert [f.result() for f in futures] == [True] * 5


def test_objects_that_share_parts(ex):
    """One that may share parts with another argument goes whole, with it."""
    many = [[i] for i in range(20000)]
    futures = [ex.submit(lambda a, b: a[5] is b, many, many[5]) for _ in range(5)]
    assert [f.result() for f in futures] == [True] * 5
    assert objects_sent(ex) == []


@pytest.mark.parametrize("options", [{"priority": 3}, {"env": {"KEY": "value"}}, {"timeout": "50s"}])
def test_with_options(ex, options):
    data = make("array")
    view = ex.options(**options)
    assert [f.result() for f in [view.submit(spoil, data) for _ in range(6)]] == [data[0]] * 6
    assert len(objects_sent(ex)) == 1


def test_in_chunks(ex):
    data = make("bytes")
    assert list(ex.map(sizes, [data] * 60, map(str, range(60)), chunksize=7)) == [[len(data), len(str(i))] for i in range(60)]
    assert len(objects_sent(ex)) == 1


def test_callables_with_a_state(ex):
    data = make("array")
    adder = functools.partial(numpy.add, 1)
    assert all((f.result() == data + 1).all() for f in [ex.submit(adder, data) for _ in range(5)])
    assert len(objects_sent(ex)) == 1


@pytest.mark.parametrize("serializer", ["cloudpickle", "dill", "pickle", None])
def test_serializers(m, serializer):
    if serializer in ("cloudpickle", "dill"):
        need_module(serializer)
    data = make("array")
    with ppfs.Executor(str(m.mnt), serializer=serializer) as ex:
        fn = functools.partial(numpy.take, axis=0) if serializer == "pickle" else spoil
        assert [f.result() for f in [ex.submit(fn, data, 0) for _ in range(5)]] == [data[0]] * 5
        assert os.lseek(ex._core.channel._send_queue.fd, 0, os.SEEK_CUR) < 3 * data.nbytes


def test_functions_and_objects_by_value(run):
    """What is defined in __main__, beside a value and as one."""
    assert run("""
import os, numpy, ppfs
class Thing:
    def __init__(self, n):
        self.many = list(range(n))
    def __len__(self):
        return len(self.many)
def both(data, what, factor=1):
    return data.nbytes + len(what) * factor
data = numpy.zeros(100_000)
with ppfs.Executor() as ex:
    small, large = Thing(3), Thing(50_000)
    print(sorted({ex.submit(both, data, small).result() for _ in range(6)}))
    print(sorted({ex.submit(len, large).result() for _ in range(6)}))
    print(sorted({ex.submit(lambda f, d: f(d, [1]), both, data).result() for _ in range(6)}))
    print(os.lseek(ex._core.channel._send_queue.fd, 0, os.SEEK_CUR) < 4_000_000)
""") == "[800003]\n[50000]\n[800001]\nTrue\n"


def test_objects_whose_parts_and_class_change(run):
    """Of __main__: each call has the object and its class as they are, whatever another has made of them."""
    assert run("""
import ppfs
class Thing:
    k = 1
    def __init__(self): self.many = list(range(50_000))
    def total(self): return self.many[0] + self.k
def spoil(thing):
    total = thing.total()
    thing.many[0] += 100
    Thing.k += 1000
    return total
thing = Thing()
def change(n):
    if n == 2: thing.many[0] = 5
    if n == 4: Thing.k = 2
    if n == 6: Thing.k = 1
    if n == 8: Thing.total = lambda self: -self.many[0]
with ppfs.Executor() as ex:
    for n in range(10):
        change(n)
        got = ex.submit(spoil, thing).result()
        if got != thing.total(): print(n, got, thing.total())
""") == ""


def test_what_does_not_pickle_is_named(ex):
    data, lock = make("array"), threading.Lock()
    for _ in range(4):
        assert ex.submit(len, data).result() == len(data)
        with pytest.raises(pickle.PicklingError, match="argument 2 of"):
            ex.submit(len, data, lock)
    assert ex.submit(len, data).result() == len(data)


def test_one_that_is_too_large_for_a_value(ex):
    data = bytes((64 << 20) + 1)
    assert [f.result() for f in [ex.submit(len, data) for _ in range(3)]] == [len(data)] * 3
    assert objects_sent(ex) == []


def test_a_function_that_is_too_large_to_be_kept(ex):
    big = bytearray((64 << 20) + 1)
    assert ex.submit(lambda x: len(big) + x, 1).result() == len(big) + 1
    assert list(ex.map(lambda x: len(big) + x, range(2), chunksize=2)) == [len(big), len(big) + 1]


def test_more_than_a_call_may_carry(ex):
    """Refused before it is pickled, where a look tells; said of which argument."""
    half = bytes(1 << 29)
    for args, kwargs in (((1, half, half), {}), ((), {"x": [half, half]}), ((), {"y": {"a": half, "b": half}})):
        with pytest.raises(ValueError, match="the largest is (argument 2, a bytes|x, a list|y, a dict).* one call may carry 1073741823"):
            ex.submit(sizes, *args, **kwargs)
        with pytest.raises(ValueError, match="one call may carry"):
            ex.submit(functools.partial(sizes, 1), *args, **kwargs)
    assert ex.submit(sizes, b"x").result() == [1]


@pytest.mark.parametrize("packed", [False, True])
def test_the_size_that_is_looked_at_is_that_of_the_value(packed):
    """ppfs takes values up to a size: one more byte, and all calls that name it would fail."""
    for data in (bytes(SIZE), bytearray(SIZE), [1] * SIZE, numpy.zeros(SIZE)):
        digest, size = ppfs._pickle.values._look(Serializer(), data, packed)
        blob = ppfs._pickle.values._value(Serializer(), data, packed)
        assert digest == hashlib.sha256(blob).digest() and size == len(blob)


def test_nothing_is_kept_alive(ex):
    data = numpy.zeros(SIZE)
    futures = [ex.submit(len, data) for _ in range(3)]
    gone = threading.Event()
    weakref.finalize(data, gone.set)
    del data
    [f.result() for f in futures]
    del futures
    wait_until(lambda: gc.collect() is not None and gone.is_set(), "the array to go")


def test_cancelled_while_values_come(ex):
    data = [make("array") + i for i in range(3)]
    futures = [ex.submit(sizes, *data) for _ in range(60)]
    cancelled = [f for f in futures[::2] if f.cancel()]
    done = [f for f in futures if not f.cancelled()]
    assert all(f.result() == [len(data[0])] * 3 for f in done) and len(done) + len(cancelled) >= 60
    assert ex.submit(spoil, data[0]).result() == data[0][0]


def test_the_daemon_dies_meanwhile(m, ex):
    data = make("array")
    futures = []
    for i in range(60):
        if i in (10, 35):
            m.kill_daemon()
        if i % 20 == 0:
            data[0] = i
        futures.append(ex.submit(spoil, data))
    assert [f.result() for f in futures] == [i - i % 20 for i in range(60)]


def test_from_several_threads(ex):
    data, wrong = make("array"), []

    def work():
        for _ in range(20):
            if ex.submit(sizes, data).result() != [len(data)]:
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong and len(objects_sent(ex)) == 1


def test_joblib(m, monkeypatch):
    joblib = need_module("joblib")
    monkeypatch.setattr("ppfs._stream.channel.Channel.announce", announce)
    monkeypatch.setattr("ppfs._stream.channel.Channel.note_sent", [], raising=False)
    ppfs.joblib.register(str(m.mnt))
    data = make("array")
    with joblib.parallel_backend("ppfs"):
        out = joblib.Parallel(batch_size=1)(joblib.delayed(numpy.take)(data, i) for i in range(30))
    assert out == data[:30].tolist()
    sent = [blob for blob in ppfs._stream.channel.Channel.note_sent if len(blob) > 64 * 1024]
    assert len(sent) == 1


def test_the_frame_lists_the_values():
    prefix = stream.call_prefix(b'{"priority":1}', b"f" * 32)
    listed = stream.naming(prefix, [b"a" * 32, b"b" * 32])
    assert listed == b'\x01\x02\x0e\x00{"priority":1}' + b"a" * 32 + b"b" * 32 + b"f" * 32
    assert stream.naming(stream.call_prefix(b"", None), [b"a" * 32]) == b"\x00\x01\x00\x00" + b"a" * 32
