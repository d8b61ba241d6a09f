"""ppfs.Executor on a real mount, held against what the documentation of concurrent.futures says."""
import asyncio
import concurrent.futures
import functools
import multiprocessing
import operator
import os
import pickle
import signal
import sys
import threading
import time
import weakref

import pytest
from called import crowd, fail, nothing, touch, until
import ppfs
from ppfsmount import need_module, wait_until


def die(how):
    os.kill(os.getpid(), how)


def say(words, error=""):
    print(words)
    if error:
        print(error, file=sys.stderr)
    return words


def count_down(n):
    yield n


class Shape:
    def __init__(self, *sides):
        self.sides = sides

    def area(self, factor=1):
        return factor * functools.reduce(operator.mul, self.sides)

    def __call__(self, more):
        return self.area() + more

    def __eq__(self, other):
        return type(self) is type(other) and self.sides == other.sides


class OneWayError(Exception):
    """Pickles, and cannot be loaded again: what is in its args is less than what it is made of."""
    def __init__(self, one, two):
        super().__init__(one)


class StubbornError(Exception):
    def __reduce__(self):
        raise TypeError("not me")


# --- submit ----------------------------------------------------------------------------------------------------------

def test_submit(ex):
    assert ex.submit(pow, 2, 10).result() == 1024
    assert ex.submit(int, "ff", base=16).result() == 255
    assert ex.submit(nothing).result() is None
    assert ex.submit(fn := operator.add, 1, 2).result() == fn(1, 2)


def test_names_of_parameters_are_free(ex):
    def f(self, fn, args=1):
        return self, fn, args
    assert ex.submit(f, self=1, fn=2).result() == (1, 2, 1)


def test_all_kinds_of_callables(ex):
    shape, n = Shape(2, 3), 10
    assert ex.submit(shape.area).result() == 6
    assert ex.submit(shape.area, factor=2).result() == 12
    assert ex.submit(shape, 1).result() == 7
    assert ex.submit(Shape, 4, 5).result() == Shape(4, 5)
    assert ex.submit(functools.partial(shape.area, factor=3)).result() == 18
    assert ex.submit(lambda x: x + n, 1).result() == 11
    shape.sides = (5, 5)
    assert ex.submit(shape.area).result() == 25, "objects go as they are at submit"
    assert ex.submit("a-b".split, "-").result() == ["a", "b"]
    assert list(ex.map(shape, [1, 2], chunksize=2)) == [26, 27]


def test_many(ex):
    futures = [ex.submit(operator.neg, i) for i in range(20_000)]
    assert [f.result() for f in futures] == [-i for i in range(20_000)]
    assert [f.id for f in futures[:3]] == [1, 2, 3]


def test_large_arguments_and_results(ex):
    data = os.urandom(3_000_000)
    assert ex.submit(bytes, data).result() == data
    futures = [ex.submit(bytes.__add__, data[:300_000], b"%d" % i) for i in range(20)]
    assert [f.result() for f in futures] == [data[:300_000] + b"%d" % i for i in range(20)]


def test_numpy(ex):
    numpy = need_module("numpy")
    a = numpy.random.default_rng(1).random((300, 500))
    assert (ex.submit(numpy.transpose, a).result() == a.T).all()


def test_they_run_at_the_same_time(m, ex):
    a, b = ex.submit(until, str(m.work / "b")), None
    b = ex.submit(touch, str(m.work / "b"))
    assert a.result() is None and b.result() is None


# --- futures ---------------------------------------------------------------------------------------------------------

def test_exceptions(ex):
    future = ex.submit(fail, KeyError, "spam")
    with pytest.raises(KeyError, match="spam") as e:
        future.result()
    trace = str(e.value.__cause__)
    assert "fail" in trace and "raise kind(*args)" in trace and "<ppfs>" not in trace and "<string>" not in trace
    assert isinstance(future.exception(), KeyError) and future.done() and not future.cancelled()
    for _ in range(2):
        with pytest.raises(KeyError):
            future.result()
    assert ex.submit(abs, 1).exception() is None
    with pytest.raises(SystemExit):
        ex.submit(sys.exit, 3).result()


@pytest.mark.parametrize("kind, args", [(OneWayError, ("one", "two")), (StubbornError, ("one",))])
def test_exceptions_that_do_not_pickle(ex, kind, args):
    """In place of the exception comes one that has its words and its traceback."""
    with pytest.raises(ppfs.CallFailed) as e:
        ex.submit(fail, kind, *args).result()
    assert str(e.value).endswith(kind.__name__ + ": one")
    assert isinstance(e.value.__cause__, ppfs.RemoteTraceback) and "raise kind(*args)" in str(e.value.__cause__)
    assert ex.submit(abs, -1).result() == 1


def test_timeout_and_states(m, ex):
    future = ex.submit(until, str(m.work / "go"), 5)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(timeout=0.05)
    with pytest.raises(concurrent.futures.TimeoutError):
        future.exception(timeout=0)
    wait_until(future.running, "the call to be known to run")
    assert not future.cancel() and not future.done() and "running" in repr(future)
    touch(m.work / "go")
    assert future.result(timeout=30) == 5 and not future.running() and future.done() and not future.cancel()


def test_cancel(m, ex):
    blockers = [ex.submit(until, str(m.work / "go")) for _ in range(2)]
    wait_until(lambda: all(f.running() for f in blockers), "two calls to run")
    called = []
    later = [ex.submit(touch, str(m.work / ("no%d" % i))) for i in range(10)]
    later[0].add_done_callback(called.append)
    assert all(f.cancel() for f in later) and all(f.cancelled() and f.done() for f in later)
    assert later[0].cancel() and called == [later[0]]
    with pytest.raises(concurrent.futures.CancelledError):
        later[0].result()
    with pytest.raises(concurrent.futures.CancelledError):
        later[1].exception(timeout=5)
    done, left = concurrent.futures.wait(later)
    assert len(done) == 10 and not left
    touch(m.work / "go")
    assert [f.result() for f in blockers] == [None, None]
    assert ex.submit(abs, -1).result() == 1
    assert not list(m.work.glob("no*"))


def test_kill(m, ex):
    future = ex.submit(until, str(m.work / "never"))
    wait_until(future.running, "the call to be known to run")
    assert future.kill() and future.cancelled()
    assert [f.result() for f in [ex.submit(abs, -1) for _ in range(10)]] == [1] * 10


def test_callbacks(ex):
    got, other = [], threading.Event()
    future = ex.submit(abs, -3)
    future.add_done_callback(lambda f: got.append(f.result()))
    future.add_done_callback(lambda f: 1 / 0)  # is logged, disturbs nobody
    future.add_done_callback(lambda f: other.set())
    assert other.wait(20) and got == [3]
    future.add_done_callback(lambda f: got.append("late"))
    assert got == [3, "late"]
    again = threading.Event()
    ex.submit(abs, -1).add_done_callback(lambda f: ex.submit(abs, -2).add_done_callback(lambda f: again.set()))
    assert again.wait(20)


def test_as_completed_and_wait(m, ex):
    slow = ex.submit(until, str(m.work / "go"), "slow")
    quick = [ex.submit(abs, -i) for i in range(10)]
    bad = ex.submit(fail, ValueError)
    done, left = concurrent.futures.wait([slow, *quick], timeout=30, return_when=concurrent.futures.FIRST_COMPLETED)
    assert slow in left and done
    done, left = concurrent.futures.wait([slow, bad], timeout=30, return_when=concurrent.futures.FIRST_EXCEPTION)
    assert done == {bad} and left == {slow}
    done, left = concurrent.futures.wait([slow, *quick], timeout=0.2)
    assert done == set(quick) and left == {slow}
    with pytest.raises(concurrent.futures.TimeoutError):
        list(concurrent.futures.as_completed([slow], timeout=0.05))
    touch(m.work / "go")
    order = list(concurrent.futures.as_completed([slow, *quick], timeout=30))
    assert set(order) == {slow, *quick}


def test_printed(ex):
    future = ex.submit(say, "hello", "and more")
    assert future.result() == "hello" and future.stdout == "hello\n" and future.stderr == "and more\n"
    assert ex.submit(abs, 1).stdout == ""


def test_asyncio(ex):
    async def main():
        loop = asyncio.get_running_loop()
        assert await asyncio.wrap_future(ex.submit(pow, 2, 5)) == 32
        assert await loop.run_in_executor(ex, abs, -4) == 4
        many = await asyncio.gather(*[loop.run_in_executor(ex, operator.neg, i) for i in range(100)])
        assert many == [-i for i in range(100)]
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(ex, divmod, 1, 0)
    asyncio.run(main())


# --- map -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("chunksize", [1, 7, 100, 5000])
def test_map(ex, chunksize):
    assert list(ex.map(operator.mul, range(1000), range(2000), chunksize=chunksize)) == [i * i for i in range(1000)]
    assert list(ex.map(abs, [], chunksize=chunksize)) == []
    results = ex.map(divmod, [4, 5, 6], [2, 0, 2], chunksize=1)
    assert next(results) == (2, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_is_an_iterator_that_takes_all_at_once(ex):
    taken = []
    results = ex.map(abs, (taken.append(i) or i for i in range(10)))
    assert taken == list(range(10)) and next(results) == 0
    with pytest.raises(ValueError):
        ex.map(abs, [1], chunksize=0)


def step(work, i, first):
    touch("%s/ran%d" % (work, i))
    return i if i < first else until(work + "/go", i)


def written(future):
    """Whether all up to this call has been written."""
    with future._connection.lock:
        return not future._connection._send_queue


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_that_is_left(m1, chunksize):
    """Whoever stops listening cancels what does not run yet."""
    n, work = 6 * chunksize, str(m1.work)
    with ppfs.Executor(m1.mnt) as ex:
        results = ex.map(step, [work] * n, range(n), [chunksize] * n, chunksize=chunksize)
        assert next(results) == 0
        wait_until((m1.work / ("ran%d" % chunksize)).exists, "the second chunk to run")
        results.close()
        last = ex.submit(abs, -2)
        wait_until(lambda: written(last), "the cancelling, which acts from when it is written")
        touch(m1.work / "go")
        assert last.result() == 2
    assert len(list(m1.work.glob("ran*"))) <= 2 * chunksize


def test_map_timeout(m, ex):
    with pytest.raises(concurrent.futures.TimeoutError):
        list(ex.map(until, [str(m.work / "go")] * 2, timeout=0.1))
    touch(m.work / "go")
    assert list(ex.map(until, [str(m.work / "go")] * 2, [1, 2], timeout=30)) == [1, 2]


def test_progress(ex, capsys, monkeypatch):
    need_module("tqdm")
    assert list(ex.map(abs, range(50), progress=True, chunksize=4)) == list(range(50))
    futures = ppfs.progress([ex.submit(abs, i) for i in range(5)], "five")
    assert all(f.done() for f in futures)
    err = capsys.readouterr().err
    assert "50/50" in err and "five: 100%" in err


def test_progress_without_tqdm(ex, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert list(ex.map(abs, range(5), progress=True)) == list(range(5))
    assert capsys.readouterr().err == "", "no terminal, no line"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    ppfs.progress([ex.submit(abs, i) for i in range(5)])
    assert "5 of 5 (100 %)" in capsys.readouterr().err


# --- what goes wrong -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_worker_dies(ex, how):
    """Only the call that it ran fails, and the executor goes on."""
    before = [ex.submit(operator.neg, i) for i in range(100)]
    bad = ex.submit(die, how)
    after = [ex.submit(operator.neg, i) for i in range(100)]
    with pytest.raises(ppfs.WorkerDied, match=how.name):
        bad.result()
    assert [f.result() for f in before] == [f.result() for f in after] == [-i for i in range(100)]
    with pytest.raises(ppfs.WorkerDied):
        ex.submit(os._exit, 3).result()
    assert ex.submit(abs, -1).result() == 1


def test_unpicklable(ex):
    lock = threading.Lock()
    with pytest.raises(pickle.PicklingError, match="argument 1 of .*say.*lock"):
        ex.submit(say, lock)
    with pytest.raises(pickle.PicklingError, match="lambda"):
        ex.submit(lambda: lock)
    with pytest.raises(Exception, match="generator"):
        ex.submit(count_down, 3).result()
    assert ex.submit(abs, -1).result() == 1, "the executor is as good as before"


def test_wrong_use(m, ex):
    with pytest.raises(TypeError):
        ex.submit()
    with pytest.raises(TypeError, match="max_workers=4"):
        ppfs.Executor(4)
    with pytest.raises(ValueError):
        ppfs.Executor(str(m.mnt), max_workers=0)
    with pytest.raises(TypeError):
        ppfs.Executor(str(m.mnt), initializer=5)
    with pytest.raises(ValueError, match="colour"):
        ex.options(colour=3)
    with pytest.raises(TypeError):
        ex.submit(abs).result()


# --- options ---------------------------------------------------------------------------------------------------------

def test_options(m, ex):
    with pytest.raises(ppfs.CallTimeout):
        ex.options(timeout=0.2).submit(time.sleep, 1000).result()
    view = ex.options(priority=5).options(cwd=str(m.base))
    assert view.submit(os.getcwd).result() == str(m.base)
    assert list(view.map(os.path.abspath, ["x", "y"])) == [str(m.base / "x"), str(m.base / "y")]
    with pytest.raises(ValueError, match="timeout=soon"):
        ex.options(timeout="soon")
    assert ex.submit(abs, -1).result() == 1


def test_max_workers(m):
    """So many calls are under way; the others wait, in their order, and can be cancelled, held and waited for."""
    with ppfs.Executor(m.mnt, max_workers=1) as ex:
        assert ex._max_workers == 1
        assert max(ex.map(crowd, [str(m.work)] * 10)) == 1
        assert list(ex.map(abs, range(-500, 0), chunksize=7)) == list(range(500, 0, -1))
        first = ex.submit(until, str(m.work / "go"), 1)
        later = [ex.submit(touch, str(m.work / ("ran%d" % i))) for i in range(4)]
        held = ex.options(hold=1).submit(abs, -3)
        held.release()
        wait_until(first.running, "the first call to run")
        assert later[1].cancel() and not later[0].done()
        ex.shutdown(wait=False)
        touch(m.work / "go")
        assert held.result() == 3 and first.result() == 1 and later[3].result() is None
        assert sorted(path.name for path in m.work.glob("ran*")) == ["ran0", "ran2", "ran3"]
    with ppfs.Executor(m.mnt) as ex:
        assert ex._max_workers == 2


def test_max_workers_of_a_session(run, m):
    """The program stays until every call is accepted."""
    assert run("import time, ppfs\nex = ppfs.Executor(name='s', max_workers=1)\n"
               "for i in range(20): ex.submit(abs, -i)\nprint(ex._max_workers)\n") == "1\n"
    assert ppfs.attach("s", m.mnt).results(30) == list(range(20))


def test_map_with_a_buffer(ex):
    """It reads no more of the iterable than asked, and keeps nothing of what it has handed out."""
    taken = []
    results = ex.map(abs, (taken.append(i) or -i for i in range(30)), buffersize=4)
    assert taken == [0, 1, 2, 3] and next(results) == 0 and taken[-1] == 4
    assert list(results) == list(range(1, 30)) and taken == list(range(30))
    del taken[:]
    results = ex.map(abs, (taken.append(i) or -i for i in range(30)), buffersize=2, chunksize=4)
    assert taken == list(range(8)) and [next(results) for _ in range(4)] == [0, 1, 2, 3] and len(taken) == 12
    assert list(results) == list(range(4, 30))
    results = ex.map(abs, iter(int, 1), buffersize=3)
    assert [next(results) for _ in range(10)] == [0] * 10
    results.close()
    for wrong, kind in (("2", TypeError), (0, ValueError), (-1, ValueError)):
        with pytest.raises(kind, match="buffersize must be"):
            ex.map(abs, [1], buffersize=wrong)
    with pytest.raises(ValueError, match="progress"):
        ex.map(abs, [1], buffersize=1, progress=True)


@pytest.mark.parametrize("words", [{}, {"chunksize": 3}, {"buffersize": 2}])
def test_map_keeps_no_result(ex, words):
    gone = []
    for shape in ex.map(Shape, range(7), **words):
        gone.append(weakref.ref(shape))
        del shape
        wait_until(lambda: gone[-1]() is None, "the result to be forgotten")


def test_priority(m1):
    with ppfs.Executor(m1.mnt) as ex:
        blocker = ex.submit(until, str(m1.work / "go"))
        wait_until(blocker.running, "the blocker to run")
        order = []
        futures = [ex.options(priority=p).submit(abs, -p) for p in (1, 9, 5)]
        for f in futures:
            f.add_done_callback(lambda f: order.append(f.result()))
        assert not any(f.done() for f in futures)
        touch(m1.work / "go")
        concurrent.futures.wait(futures, timeout=30)
        wait_until(lambda: len(order) == 3, "three callbacks")
        assert order == [9, 5, 1]


def test_retries(m, ex):
    def sometimes(path):
        if not os.path.exists(path):
            open(path, "w").close()
            raise ValueError("not yet")
        return "now"
    assert ex.options(retries=2).submit(sometimes, str(m.work / "tried")).result() == "now"


def put(proxy, key, value):
    proxy[key] = value
    return sorted(proxy.keys())


@pytest.mark.parametrize("serializer", [None, "pickle"])
def test_a_managers_proxy_is_an_argument(m, serializer):
    """As in a pool's children: the worker has the manager's key."""
    with multiprocessing.Manager() as manager, ppfs.Executor(str(m.mnt), serializer=serializer) as ex:
        shared = manager.dict(a=1)
        assert ex.submit(put, shared, "b", 2).result() == ["a", "b"] and shared["b"] == 2
        assert list(ex.map(put, [shared] * 2, "cd", [3, 4]))[-1] == ["a", "b", "c", "d"]
