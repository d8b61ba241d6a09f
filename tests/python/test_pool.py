"""ppfs.Pool answers as multiprocessing.pool.Pool does."""
import concurrent.futures
import itertools
import multiprocessing
import multiprocessing.pool
import operator
import os
import sys
import threading

import pytest
from called import crowd, fail, until

import ppfs


@pytest.fixture
def pool(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    with ppfs.Pool(2) as p:
        yield p
    p.join()


def test_calls_and_maps(pool):
    assert pool.apply(divmod, (7, 2)) == (3, 1) and pool.apply(int, ("11",), {"base": 2}) == 3
    assert pool.apply_async(abs, [-3]).get(60) == 3
    for chunksize in (None, 1, 7):
        assert pool.map(abs, range(-20, 0), chunksize) == list(range(20, 0, -1))
        assert pool.starmap(operator.add, zip(range(20), range(20)), chunksize) == list(range(0, 40, 2))
    assert pool.map(abs, []) == pool.map_async(abs, []).get() == list(pool.imap(abs, [])) == []
    assert pool.starmap_async(pow, [[2, 3]]).get() == [8]


def test_imap(pool):
    for chunksize in (1, 3):
        assert list(pool.imap(abs, range(-10, 0), chunksize)) == list(range(10, 0, -1))
        assert sorted(pool.imap_unordered(abs, range(-10, 0), chunksize)) == list(range(1, 11))
    endless = pool.imap(abs, itertools.count(-2))
    assert [next(endless) for _ in range(5)] == [2, 1, 0, 1, 2]
    failing = pool.imap(lambda x: 6 // x, [1, 0, 2])
    assert next(failing) == 6
    with pytest.raises(ZeroDivisionError):
        next(failing)
    assert list(failing) == [3]
    with pytest.raises(ValueError, match="Chunksize must be 1"):
        pool.imap(abs, [], 0)


def test_imap_reads_its_iterable_as_calls_end(m, pool):
    """Of an endless iterable no more than some calls wait; what is read beyond the first results is not without end."""
    read = itertools.count()
    iterator = pool.imap(until, (str(m.work / "go") for _ in read))
    with iterator._changed:
        assert iterator._changed.wait_for(lambda: iterator._running == 1024, 60)
    assert 1024 <= next(read) <= 1026
    pool.terminate()


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("kind", ["imap", "imap_unordered"])
def test_threads_share_an_iterator(pool, kind, chunksize):
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        iterator = getattr(pool, kind)(abs, range(3000), chunksize)
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            parts = list(threads.map(lambda _: list(iterator), range(8)))
    finally:
        sys.setswitchinterval(before)
    assert sorted(itertools.chain(*parts)) == list(range(3000))


def broken_after(n):
    yield from range(n)
    raise LookupError(n)


def test_an_iterable_that_raises(pool):
    for call in (pool.map, pool.map_async):
        with pytest.raises(LookupError):
            call(abs, broken_after(3))
    for call in (pool.imap, pool.imap_unordered):
        iterator = call(abs, broken_after(3))
        assert sorted(next(iterator) for _ in range(3)) == [0, 1, 2]
        with pytest.raises(LookupError):
            next(iterator)
        with pytest.raises(StopIteration):
            next(iterator)


def test_results_that_have_not_come(m, pool):
    go = str(m.work / "go")
    one, many, each = pool.apply_async(until, (go,)), pool.map_async(until, [go, go]), pool.imap_unordered(until, [go])
    called = threading.Event()
    watched = pool.apply_async(until, (go,), callback=lambda _: called.set())
    for result in (one, many, watched):
        with pytest.raises(multiprocessing.TimeoutError):
            result.get(timeout=0.01)
        assert not result.ready()
        with pytest.raises(ValueError, match="not ready"):
            result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        each.next(0.01)
    (m.work / "go").touch()
    one.wait()
    assert one.ready() and one.successful() and len(many.get()) == 2
    each.next()
    watched.wait()
    assert called.is_set()


def test_callbacks(pool):
    got = []
    pool.map_async(int, ["1", "2"], callback=got.append, error_callback=got.append).wait()
    assert got == [[1, 2]]
    failed = pool.apply_async(divmod, (1, 0), callback=got.append, error_callback=got.append)
    with pytest.raises(ZeroDivisionError) as caught:
        failed.get()
    assert got[1] is caught.value and not failed.successful()
    pool.map_async(abs, [], callback=got.append).wait()
    assert got[2] == []
    with pytest.raises(LookupError) as caught:
        pool.apply(fail, (LookupError, "spam"))
    assert type(caught.value.__cause__) is multiprocessing.pool.RemoteTraceback
    assert "raise kind(*args)" in str(caught.value.__cause__)


class Stubborn:
    def __reduce__(self):
        raise ArithmeticError("not me")


def test_what_cannot_be_pickled_is_an_error_of_the_result(pool):
    errors = []
    result = pool.apply_async(abs, (Stubborn(),), error_callback=errors.append)
    with pytest.raises(ArithmeticError, match="not me"):
        result.get()
    with pytest.raises(ArithmeticError):
        pool.map(abs, [1, Stubborn()], 1)
    assert len(errors) == 1 and pool.apply(abs, (-1,)) == 1


def test_close_and_join(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    pool = ppfs.Pool(2)
    go = str(m.work / "go")
    results = [pool.apply_async(until, (go,)), pool.imap(until, [go] * 5)]
    with pytest.raises(ValueError, match="still running"):
        pool.join()
    pool.close()
    for call in (pool.apply, pool.map, pool.imap):
        with pytest.raises(ValueError, match="not running"):
            call(abs, (-1,))
    (m.work / "go").touch()
    pool.join()
    assert results[0].ready() and len(list(results[1])) == 5
    with pytest.raises(ValueError, match="not running"), pool:
        pass


def test_terminate(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    pool = ppfs.Pool(2)
    never = pool.map_async(until, [str(m.work / "never")] * 10)
    pool.terminate()
    pool.join()
    with pytest.raises(concurrent.futures.CancelledError):
        never.get()


def test_processes_is_a_limit(new_mount, monkeypatch):
    m = new_mount(cpus=4).start()
    monkeypatch.setenv("PPFS", str(m.mnt))
    with ppfs.Pool(2) as pool:
        assert max(pool.map(crowd, [str(m.work)] * 8, 1)) <= 2


def set_variable(name, value):
    os.environ[name] = value


def test_initializer(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    with ppfs.Pool(2, set_variable, ("SPAM", "eggs"), maxtasksperchild=1) as pool:
        assert pool.map(os.getenv, ["SPAM"] * 5, 1) == ["eggs"] * 5


@pytest.mark.parametrize("wrong", [{"processes": 0}, {"processes": -1}, {"maxtasksperchild": 0}, {"maxtasksperchild": "1"},
                                   {"context": multiprocessing}])
def test_arguments(m, wrong):
    with pytest.raises(ValueError):
        ppfs.Pool(mount=str(m.mnt), **wrong)


def test_a_program_that_forgets_its_pool(run):
    out = run("""
import warnings
warnings.simplefilter("ignore", ResourceWarning)
import ppfs
pool = ppfs.Pool()
print(pool.map(abs, range(-3, 0)))
""")
    assert out == "[3, 2, 1]\n"
