"""An executor from its initializer to its shutdown."""
import concurrent.futures
import operator
import os
import pickle
import threading
import time

import pytest
from called import fail, touch, until
import ppfs
from ppfsmount import wait_until


# --- the initializer -------------------------------------------------------------------------------------------------

def set_up(n):
    global NUMBER
    NUMBER = n


def number():
    return NUMBER, os.getpid()


def test_initializer(m):
    with ppfs.Executor(m.mnt, initializer=set_up, initargs=(7,)) as ex:
        assert {n for n, _ in (f.result() for f in [ex.submit(number) for _ in range(100)])} == {7}
        assert {n for n, _ in ex.map(lambda _: number(), range(10))} == {7}
    with ppfs.Executor(m.mnt, initializer=set_up, initargs=(8,)) as ex:
        assert {n for n, _ in (f.result() for f in [ex.submit(number) for _ in range(100)])} == {8}


def test_initializer_that_cannot_be_pickled(m):
    with ppfs.Executor(m.mnt, initializer=set_up, initargs=(1, threading.Lock())) as ex:
        with pytest.raises(pickle.PicklingError, match=r"argument 2 of the initializer .*set_up \(initargs\[1\]\).*lock"):
            ex.submit(abs, -1)
        with pytest.raises(pickle.PicklingError, match="initargs"):
            ex.map(abs, [1], chunksize=2)


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_initializer_fails_with(m, kind):
    with ppfs.Executor(m.mnt, initializer=fail, initargs=(kind, "spam")) as ex:
        with pytest.raises(concurrent.futures.BrokenExecutor):
            ex.submit(abs, 1).result()


def test_initializer_fails(m):
    with ppfs.Executor(m.mnt, initializer=fail, initargs=(ValueError, "spam")) as ex:
        future = ex.submit(abs, 1)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            future.result()
        assert "spam" in str(future.exception().__cause__)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            ex.submit(abs, 1)


# --- shutdown --------------------------------------------------------------------------------------------------------

def test_shutdown(m):
    ex = ppfs.Executor(m.mnt)
    futures = [ex.submit(time.sleep, 0.1) for _ in range(4)]
    ex.shutdown()
    assert all(f.done() for f in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(abs, 1)
    ex.shutdown()
    ppfs.Executor(m.mnt).shutdown()
    assert os.listdir(m.jobs) == os.listdir(m.results) == [], "nothing is left in the directory"


def test_shutdown_without_waiting(m):
    ex = ppfs.Executor(m.mnt)
    future = ex.submit(until, str(m.work / "go"), 1)
    ex.shutdown(wait=False)
    assert not future.done()
    with pytest.raises(RuntimeError):
        ex.submit(abs, 1)
    touch(m.work / "go")
    assert future.result(30) == 1


def test_shutdown_with_cancelling(m):
    ex = ppfs.Executor(m.mnt)
    running = [ex.submit(until, str(m.work / "go"), i) for i in range(2)]
    wait_until(lambda: all(f.running() for f in running), "two calls to run")
    waiting = [ex.submit(touch, str(m.work / "no")) for _ in range(10)]
    threading.Timer(0.2, touch, [m.work / "go"]).start()
    ex.shutdown(cancel_futures=True)
    assert [f.result() for f in running] == [0, 1] and all(f.cancelled() for f in waiting)
    assert not (m.work / "no").exists()


@pytest.mark.parametrize("cancel", [False, True])
def test_submits_beside_shutdown(m, cancel):
    """Each gives a future that ends, or says that it is too late."""
    for _ in range(10):
        ex, futures, refused = ppfs.Executor(m.mnt), [], []
        assert ex.submit(abs, -1).result() == 1

        def work():
            try:
                while True:
                    futures.append(ex.submit(abs, -2))
            except RuntimeError as error:
                refused.append(str(error))

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(futures) < 20:
            time.sleep(0.001)
        ex.shutdown(cancel_futures=cancel)
        for thread in threads:
            thread.join(20)
        assert refused == ["cannot schedule new futures after shutdown"] * 3
        done, left = concurrent.futures.wait(futures, timeout=20)
        assert not left and all(cancel if f.cancelled() else f.result() == 2 for f in done)


def test_several_executors(m):
    with ppfs.Executor(m.mnt) as one, ppfs.Executor(m.mnt) as two:
        a, b = one.submit(abs, -1), two.submit(abs, -2)
        assert (a.result(), b.result()) == (1, 2)
        assert len(os.listdir(m.jobs)) == 2


def test_threads(ex):
    def work(n):
        mine = [ex.submit(operator.mul, n, i) for i in range(300)]
        return [f.result() for f in mine] + [ex.submit(operator.add, n, 1).result()] + list(ex.map(abs, [n, -n]))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [[n * i for i in range(300)] + [n + 1, n, n] for n in range(8)]


def recurse(mount, n):
    if n == 0:
        return 1
    with ppfs.Executor(mount) as ex:
        return n * ex.submit(recurse, mount, n - 1).result()


def test_calls_that_submit(m):
    """A call that waits for another lends its slot."""
    with ppfs.Executor(m.mnt) as ex:
        assert ex.submit(recurse, str(m.mnt), 4).result() == 24
