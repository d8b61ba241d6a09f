"""The client against answers that a real ppfs does not give, and its own bookkeeping. No mount is needed."""
import concurrent.futures
import operator
import os
import pickle
import threading
import time
from pathlib import Path

import pytest

import ppfs
from fakestream import answer, error_body, fake_ppfs
from ppfs._stream import frames as stream
from ppfs._stream import send_queue


@pytest.fixture
def fake(watchdog, monkeypatch):
    with fake_ppfs(monkeypatch):
        yield


def responder(watchdog, monkeypatch, respond):
    return fake_ppfs(monkeypatch, respond)


def test_calls(fake):
    with ppfs.Executor() as ex:
        assert ex.submit(pow, 2, 10).result() == 1024
        assert list(ex.map(operator.add, range(3000), range(3000))) == [2 * i for i in range(3000)]
        assert list(ex.map(operator.neg, range(10), chunksize=3)) == [-i for i in range(10)]


def test_many_threads(fake):
    with ppfs.Executor() as ex:
        def work(n, out):
            out.append([ex.submit(operator.mul, n, i).result() for i in range(200)])
        outs = [[] for _ in range(8)]
        threads = [threading.Thread(target=work, args=(n, out)) for n, out in enumerate(outs)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert [out[0] for out in outs] == [[n * i for i in range(200)] for n in range(8)]


def test_large_both_ways(fake):
    with ppfs.Executor() as ex:
        data = os.urandom(1_000_000)
        futures = [ex.submit(bytes.__add__, data, bytes([i])) for i in range(20)]
        assert [f.result() for f in futures] == [data + bytes([i]) for i in range(20)]


def test_what_is_left_of_an_interrupted_write():
    pieces = [b"abc", b"", memoryview(b"defg"), b"h"]
    for n in range(9):
        assert b"".join(send_queue.behind(pieces, n)) == b"abcdefgh"[n:]
    assert b"".join(pieces) == b"abcdefgh"


def test_short_writes(fake, monkeypatch):
    """A write may take less than it is given; what follows is not mixed up."""
    with ppfs.Executor() as ex:
        assert ex.submit(abs, -1).result() == 1
        monkeypatch.setattr(os, "writev", lambda fd, data: os.write(fd, data[0][:max(1, len(data[0]) // 3)]))
        sizes = [10, 70_000, 600_000, 3, 262_144, 1]
        futures = [ex.submit(bytes.__len__, bytes(size)) for size in sizes]
        assert [f.result() for f in futures] == sizes
        assert [ex.submit(bytes.__len__, bytes(size)).result() for size in sizes] == sizes


def test_stream_that_ends_early(watchdog, monkeypatch):
    """The mount goes away: what was under way says so, and so does what comes after."""
    with fake_ppfs(monkeypatch, lambda funcs, kind, ident,
                   body: None if ident == 5 else answer(funcs, kind, ident, body)):
        ex = ppfs.Executor()
        futures = [ex.submit(abs, -i) for i in range(1, 5)]
        assert [f.result() for f in futures] == [1, 2, 3, 4]
        last = ex.submit(abs, -5)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            last.result()
        assert isinstance(last.exception(), ppfs.MountGone)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            for _ in range(1000):
                ex.submit(abs, 1).result()
        ex.shutdown()


def test_garbage_comes_back(watchdog, monkeypatch):
    with fake_ppfs(monkeypatch, lambda funcs, kind, ident, body: b"garbage" * 10 if ident else b""):
        ex = ppfs.Executor()
        with pytest.raises(concurrent.futures.BrokenExecutor, match="broken"):
            ex.submit(abs, 1).result()
        ex.shutdown()


def test_kinds_of_errors(watchdog, monkeypatch):
    def respond(funcs, kind, ident, body):
        if not ident:
            return b""
        raised = pickle.dumps(KeyError("k"))
        what = [(stream.RAISED, raised, "KeyError: 'k'", "Trace back\n"), (stream.RAISED, b"", "Odd: it", "T\n"),
                (stream.RAISED, b"no pickle", "Odd: it", ""), (stream.DIED, b"", "it was killed by SIGSEGV", ""),
                (stream.TIMED_OUT, b"", "it ran longer than 1s", ""), (stream.NOT_STARTED, b"", "a failed", ""),
                (stream.UNUSABLE, b"", "its result is a lock", ""), (stream.BAD_OPTIONS, b"", "option x=1", ""),
                (99, b"", "who knows", "")][ident - 1]
        return stream.frame(stream.ERROR, ident, error_body(stream.Failure(*what)))

    with fake_ppfs(monkeypatch, respond), ppfs.Executor() as ex:
        kinds = [KeyError, ppfs.CallFailed, ppfs.CallFailed, ppfs.WorkerDied, ppfs.CallTimeout, ppfs.DependencyFailed,
                 ppfs.CallFailed, ValueError, ppfs.CallFailed]
        futures = [ex.submit(abs, 1) for _ in kinds]
        assert [type(f.exception()) for f in futures] == kinds
        assert isinstance(futures[0].exception().__cause__, ppfs.RemoteTraceback)
        assert "Trace back" in str(futures[0].exception().__cause__) and futures[2].exception().__cause__ is None
        assert isinstance(futures[4].exception(), TimeoutError) and "SIGSEGV" in str(futures[3].exception())
        assert not isinstance(futures[3].exception(), concurrent.futures.BrokenExecutor)


def test_started_and_output(watchdog, monkeypatch):
    go = os.pipe()

    def respond(funcs, kind, ident, body):
        if ident == 1:
            return (stream.frame(stream.STARTED, 1) + stream.frame(stream.OUTPUT, 1, b"\x01he") +
                    stream.frame(stream.OUTPUT, 1, b"\x02oops") + stream.frame(stream.OUTPUT, 1, b"\x01llo") +
                    stream.frame(77, 1, b"from the future"))
        os.read(go[0], 1)
        return stream.frame(stream.RESULT, 1, pickle.dumps("one")) + stream.frame(stream.CANCELLED, ident)

    with fake_ppfs(monkeypatch, respond), ppfs.Executor() as ex:
        ex._cache.find(abs)
        ex._core.open().announced.add(ex._cache.find(abs).sent.digest)
        one = ex.submit(abs, 1)
        while not one.running():
            time.sleep(0.001)
        assert not one.cancel() and one.stdout in ("he", "hello", "")
        two = ex.submit(abs, 2)
        os.write(go[1], b"x")
        assert one.result() == "one" and one.stdout == "hello" and one.stderr == "oops"
        with pytest.raises(concurrent.futures.CancelledError):
            two.result()
        assert two.cancelled() and two.done()


def test_result_that_cannot_be_loaded(watchdog, monkeypatch):
    bad = b"cnowhere_at_all\nthing\n."

    def respond(funcs, kind, ident, body):
        return stream.frame(stream.RESULT, ident, bad if ident == 1 else pickle.dumps(2)) if ident else b""

    with fake_ppfs(monkeypatch, respond), ppfs.Executor() as ex:
        one, two = ex.submit(abs, 1), ex.submit(abs, 2)
        assert two.result() == 2
        with pytest.raises(ppfs.CallFailed, match="nowhere_at_all"):
            one.result()


def test_answers_to_nobody_are_ignored(watchdog, monkeypatch):
    def respond(funcs, kind, ident, body):
        one = stream.frame(stream.RESULT, ident, pickle.dumps(ident))
        return stream.frame(stream.RESULT, 999, b"junk") + one + one + stream.frame(stream.CANCELLED,
                                                                                    12345) if ident else b""

    with fake_ppfs(monkeypatch, respond), ppfs.Executor() as ex:
        assert [f.result() for f in [ex.submit(abs, i) for i in range(20)]] == list(range(1, 21))


def test_waiting_by_other_means_than_result(fake):
    """Nobody reads in his own thread then; the reader thread takes over, and gives back."""
    with ppfs.Executor() as ex:
        for _ in range(3):
            done, _ = concurrent.futures.wait([ex.submit(abs, -i) for i in range(50)], timeout=20)
            assert len(done) == 50
            for i in range(50):
                assert ex.submit(abs, -i).result() == i
            assert sorted(f.result() for f in concurrent.futures.as_completed(
                [ex.submit(abs, -i) for i in range(50)], timeout=20)) == list(range(50))
            called = threading.Event()
            ex.submit(abs, 1).add_done_callback(lambda f: called.set())
            assert called.wait(20)


def test_futures_have_locks_of_their_own(fake):
    """concurrent.futures.wait holds one while it takes the next, in an order that knows nothing of streams."""
    with ppfs.Executor() as ex:
        other, held = ex.submit(abs, -2), ex.submit(abs, -1)
        with held._condition:
            waiter = threading.Thread(target=lambda: concurrent.futures.wait([other]), daemon=True)
            waiter.start()
            waiter.join(20)
            assert not waiter.is_alive() and other.result() == 2
        assert held.result() == 1


def test_threads_that_wait_for_futures_of_several_executors(fake):
    """concurrent.futures.wait locks futures in the order of their addresses, which is not that of their streams."""
    with ppfs.Executor() as one, ppfs.Executor() as two, concurrent.futures.ThreadPoolExecutor(4) as pool:
        def work(n):
            for i in range(100):
                mine = [(one, two)[(n + k) % 2].submit(abs, -k) for k in range(6)]
                done, left = concurrent.futures.wait(mine, timeout=20)
                assert not left and sum(f.result() for f in done) == 15
            return n
        assert list(pool.map(work, range(4))) == [0, 1, 2, 3]


def test_a_result_that_another_thread_waits_for(fake):
    """The thread that reads for itself leaves to the reader thread what others wait for."""
    with ppfs.Executor() as ex:
        for i in range(300):
            future = ex.submit(abs, -i)
            other, called = [], threading.Event()
            thread = threading.Thread(target=lambda: other.append(future.result(20)))
            thread.start()
            if i % 2:
                future.add_done_callback(lambda f: called.set())
            assert future.result() == i
            thread.join()
            assert other == [i] and (not i % 2 or called.wait(20))


def wakes(threads=2):
    """How often each thread of the package has been given a processor and has left it."""
    counts = {}
    for thread in threading.enumerate():
        if thread.name.startswith("ppfs"):
            with open("/proc/self/task/%d/status" % thread.native_id) as file:
                counts[thread.native_id] = sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    assert len(counts) == threads, "the reader, the writer, and those of the test"
    return counts


def asleep(threads=2):
    """Waits for a while in which no thread of the package has run, so none looks again and again; wakes() then."""
    deadline = time.monotonic() + 20
    while True:
        before = wakes(threads)
        time.sleep(0.2)
        after = wakes(threads)
        if after == before:
            return after
        assert time.monotonic() < deadline, "%s became %s" % (before, after)


def test_idle_executors_cost_nothing(fake):
    with ppfs.Executor() as ex:
        ex.submit(abs, 1).result()
        asleep()
        assert ex.submit(abs, -7).result() == 7


def test_who_waits_alone_wakes_nobody_else(fake):
    """A call at a time is written by the thread that submits it and read by the one that waits for it."""
    with ppfs.Executor() as ex:
        ex.submit(abs, 1).result()
        before = asleep()
        for i in range(200):
            assert ex.submit(abs, -i).result() == i
        assert wakes() == before


@pytest.mark.parametrize("timeout", [None, 60])
def test_waiting_threads_sleep(fake, tmp_path, timeout):
    """While a call runs, the threads of the package and the one that waits for its result all sleep."""
    gate = str(tmp_path / "gate")
    os.mkfifo(gate)
    with ppfs.Executor() as ex:
        ex.submit(abs, 1).result()
        results = []
        future = ex.submit(Path.read_text, Path(gate))
        waiter = threading.Thread(target=lambda: results.append(future.result(timeout)), name="ppfs waiter of the test")
        waiter.start()
        asleep(3)
        Path(gate).write_text("open")
        waiter.join()
        assert results == ["open"]


def test_no_thread_and_no_descriptor_is_left(fake):
    def count():
        threads = [t.name for t in threading.enumerate() if t.name.startswith("ppfs")]
        return len(threads), len(os.listdir("/proc/self/fd"))
    with ppfs.Executor() as ex:
        ex.submit(abs, 1).result()
    before = count()
    for _ in range(5):
        with ppfs.Executor() as ex:
            ex.submit(abs, 1).result()
    assert count() == before
    ex = ppfs.Executor()
    ex.submit(abs, 1).result()
    del ex  # forgotten without shutdown
    deadline = time.monotonic() + 20
    while count() != before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert count() == before


# --- what is sent while the stream goes away -------------------------------------------------------------------------

class Meanwhile:
    """An argument that does something while it is pickled, then opens files: they get the numbers of whatever was
    closed."""

    def __init__(self, where, what):
        self.where, self.what = where, what

    def __reduce__(self):
        self.what()
        self.files = [open("%s%d" % (self.where, i), "wb") for i in range(12)]
        return int, ("5",)

    def sizes(self):
        return {os.fstat(file.fileno()).st_size for file in self.files}


def test_shutdown_while_an_argument_is_pickled(fake, tmp_path):
    """Nothing is written to a file that has got the number of the stream's."""
    for function in (abs, Meanwhile):  # that goes by its hash; that goes along
        ex = ppfs.Executor()
        assert ex.submit(abs, -1).result() == 1
        argument = Meanwhile(tmp_path / "f", ex.shutdown)
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            ex.submit(function, argument)
        assert argument.sizes() == {0}


def test_fork_while_an_argument_is_pickled(fake, tmp_path):
    with ppfs.Executor() as ex:
        assert ex.submit(abs, -1).result() == 1
        parent, child = os.getpid(), []
        argument = Meanwhile(tmp_path / "f", lambda: child.append(os.fork()))
        try:
            future = ex.submit(abs, argument)
            said = ""
        except ppfs.MountGone as error:
            said = str(error)
        if os.getpid() != parent:
            os._exit(0 if "forked from" in said and argument.sizes() == {0} else 1)
        assert os.waitpid(child[0], 0)[1] == 0 and future.result() == 5 and argument.sizes() == {0}


# --- results and callbacks that raise what is no Exception -----------------------------------------------------------

class Ends:
    """Ends whoever unpickles it."""

    def __init__(self, kind):
        self.kind = kind

    def __reduce__(self):
        return end, (self.kind,)


class EndsError(Exception):
    def __reduce__(self):
        return end, (SystemExit,)


def end(kind):
    raise kind("the end")


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException, RecursionError])
@pytest.mark.parametrize("how", ["alone", "many", "watched"])
def test_a_result_that_ends_whoever_loads_it(watchdog, monkeypatch, kind, how):
    """It ends its future, and nothing else."""
    results = {2: pickle.dumps(Ends(kind)), 3: pickle.dumps(EndsError())}

    def respond(funcs, number, ident, body):
        if ident == 3:
            failure = stream.Failure(stream.RAISED, results[3], "EndsError: it", "Trace back\n")
            return stream.frame(stream.ERROR, ident, error_body(failure))
        return stream.frame(stream.RESULT, ident, results.get(ident, pickle.dumps(ident))) if ident else b""

    with fake_ppfs(monkeypatch, respond), ppfs.Executor() as ex:
        assert ex.submit(abs, 1).result() == 1
        futures = []
        for ident in range(2, 6):
            futures.append(ex.submit(abs, 1))
            if how == "watched":
                futures[-1].add_done_callback(lambda f: None)
            if how == "alone":
                try:
                    futures[-1].result()
                except (ppfs.CallFailed, KeyboardInterrupt):
                    pass  # in the main thread it cannot be told from a Ctrl-C, which goes on from there
        problems = [f.exception(20) for f in futures]
        assert [type(p) for p in problems] == [ppfs.CallFailed, ppfs.CallFailed, type(None), type(None)]
        assert "cannot be loaded here: %s: the end" % kind.__name__ in str(problems[0])
        assert str(problems[1]) == "EndsError: it" and "Trace back" in str(problems[1].__cause__)
        assert [f.result() for f in futures[2:]] == [4, 5]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, ValueError])
def test_callbacks_that_raise(fake, caplog, kind):
    """It is logged; the next callback and the next call are not concerned."""
    with ppfs.Executor() as ex:
        got = []
        future = ex.submit(time.sleep, 0.05)
        future.add_done_callback(lambda f: end(kind))
        future.add_done_callback(got.append)
        assert ex.submit(abs, -1).result() == 1
        assert future.result() is None and ex.submit(abs, -2).result() == 2 and got == [future]
        assert "exception calling callback" in caplog.text


def test_a_callback_that_waits_for_another_call(fake):
    """That thread would wait for itself: it is told so."""
    with ppfs.Executor() as ex:
        said = []

        def wait(future):
            try:
                said.append(ex.submit(abs, -2).result())
            except RuntimeError as error:
                said.append(str(error))
        future = ex.submit(time.sleep, 0.05)
        future.add_done_callback(wait)
        assert ex.submit(abs, -1).result() == 1
        assert ex.submit(abs, -3).result() == 3 and said and "a callback" in str(said[0])
