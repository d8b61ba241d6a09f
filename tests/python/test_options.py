"""ex.options(...): each option of a call, and what an executor with another serializer does, on a real mount."""
import operator
import os
import pickle
import socket
import threading
import time

import pytest

import ppfs
from ppfsmount import need_landlock, need_module, sanitized, wait_until
from called import touch, until


def span(_):
    """When it ran."""
    start = time.monotonic()
    time.sleep(0.03)
    return start, time.monotonic()


def generate(n):
    yield n


class Stubborn:
    def __reduce__(self):
        raise ValueError("not this one")


def stubborn():
    return Stubborn()


class OnlyThere:
    """Its pickle loads in no process at all."""

    def __reduce__(self):
        return operator.truediv, (1, 0)


def only_there():
    return OnlyThere()


# --- options ---------------------------------------------------------------------------------------------------------

def test_env_and_cwd(m, ex):
    view = ex.options(env={"A": "1", "B": "x y"}, cwd=str(m.base))
    assert [view.submit(os.getenv, name).result() for name in "AB"] == ["1", "x y"]
    assert view.submit(os.getcwd).result() == str(m.base)
    odd = m.work / os.fsdecode(b"caf\xe9")  # names are bytes, and need not be UTF-8
    odd.mkdir()
    assert ex.options(cwd=str(odd)).submit(os.getcwdb).result() == os.fsencode(odd)
    assert ex.submit(os.getenv, "A").result() is None, "the executor itself has no options"
    with pytest.raises(ppfs.CallFailed, match="/nonexistent"):
        ex.options(cwd="/nonexistent").submit(os.getcwd).result()


def test_options_of_an_executor(m):
    with ppfs.Executor(m.mnt, env={"A": "1"}) as ex:
        assert ex.submit(os.getenv, "A").result() == "1"
        assert ex.options(env={"A": "2"}).submit(os.getenv, "A").result() == "2", "the nearer one counts"
        assert list(ex.options(priority=2).map(os.getenv, ["A", "B"])) == ["1", None]


def test_cpus(m, ex):
    """Calls that take both slots never run at the same time."""
    spans = sorted(ex.options(cpus=2).map(span, range(4)))
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:])), spans


@pytest.mark.skipif(sanitized(), reason="a limit on address space cannot work with sanitizers")
def test_memory(ex):
    view = ex.options(memory="300M")
    assert view.submit(len, b"x" * 1000).result() == 1000
    with pytest.raises((MemoryError, ppfs.CallFailed), match="Memory|memory|^$"):
        view.submit(bytes, 1_000_000_000).result()


def test_resources(new_mount):
    mount = new_mount(cpus=2, options=("--resource", "gpu=2", "--resource", "license=1"))
    mount.start()
    with ppfs.Executor(str(mount.mnt)) as ex:
        view = ex.options(gpu=2, resources="license:1")
        assert view.submit(os.getenv, "PPFS_RESOURCE_gpu").result() == "0,1"
        assert view.submit(os.getenv, "PPFS_RESOURCE_license").result() == "0"
        for wrong in ({"gpu": 0}, {"gpu": 65}, {"resources": "gpu:1"}, {"resources": "a:0"}, {"resources": "a:1,a:1"}, {"resources": "a"},
                      {"resources": "a:1,"}):
            with pytest.raises(ValueError, match="is not understood"):
                ex.options(**wrong)


def test_node(m, ex):
    assert ex.options(node="local").submit(abs, -1).result() == 1
    nowhere = ex.options(node="mars").submit(touch, str(m.work / "no"))
    assert [f.result() for f in [ex.submit(abs, -i) for i in range(20)]] == list(range(20))
    assert not nowhere.done() and nowhere.cancel() and nowhere.cancelled()
    assert not (m.work / "no").exists()


def test_sandbox(ex):
    need_landlock()
    with pytest.raises(OSError, match="Address family not supported"):
        ex.options(sandbox="net-off").submit(socket.socket).result()
    kept = ex.options(sandbox="ro")
    assert kept.submit(os.getpid).result() != ex.submit(os.getpid).result()
    with pytest.raises(PermissionError):
        kept.submit(os.mkdir, "/var/tmp/ppfs-test-not-made").result()
    assert not os.path.exists("/var/tmp/ppfs-test-not-made")
    assert list(kept.map(abs, range(-3, 0))) == [3, 2, 1]


def test_after(m, ex):
    """after names jobs of files."""
    m.put("first", m.gate("first"))
    later = [ex.options(after=names).submit(abs, -7) for names in ("first", ["first"])]
    assert ex.submit(abs, -1).result() == 1 and not any(f.done() for f in later)
    m.open_gate("first")
    assert [f.result() for f in later] == [7, 7]
    ppfs.submit_file(b"1/0\n", "bad", mount=m.mnt)
    with pytest.raises(ppfs.DependencyFailed, match="bad"):
        ex.options(after="bad").submit(abs, 1).result()
    with pytest.raises(ppfs.DependencyFailed, match="nobody"):
        ex.options(after="nobody").submit(abs, 1).result()


def test_hold(m, ex):
    held = ex.options(hold=1).submit(touch, str(m.work / "no"))
    assert list(ex.options(hold=0).map(abs, range(3))) == [0, 1, 2]
    assert not held.done() and held.cancel()
    assert not (m.work / "no").exists()
    held = [ex.options(hold=1).submit(abs, -i) for i in range(3)]
    assert ex.submit(abs, -9).result() == 9 and not any(f.done() for f in held)
    for future in held[:2]:
        future.release()
    assert [f.result() for f in held[:2]] == [0, 1] and not held[2].done()
    ex.shutdown()
    with pytest.raises(ppfs.DependencyFailed, match="held"):
        held[2].result()
    held[2].release()


def test_hold_in_a_session(m):
    with ppfs.Executor(m.mnt, name="s", hold=1) as ex:
        future = ex.submit(abs, -1)
        with pytest.raises(RuntimeError, match="where it was submitted"):
            ppfs.attach("s", m.mnt)[1].release()
        future.release()
        assert future.result() == 1


def test_timeout_kills(m, ex):
    with pytest.raises(ppfs.CallTimeout) as e:
        ex.options(timeout="0.2s").submit(until, str(m.work / "never")).result()
    assert isinstance(e.value, TimeoutError) and "0.2 s" in str(e.value)


def test_what_goes_wrong_in_a_call_with_options(ex):
    view = ex.options(priority=1)
    with pytest.raises(ZeroDivisionError, match="division"):
        view.submit(divmod, 1, 0).result()
    with pytest.raises(ppfs.WorkerDied, match="SIGABRT"):
        view.submit(os.abort).result()
    with pytest.raises(ppfs.WorkerDied, match="status 3"):
        view.submit(os._exit, 3).result()
    big = view.submit(bytes, 3_000_000)
    assert len(big.result()) == 3_000_000 and ex.submit(abs, -1).result() == 1


def test_killed_with_options(m, ex):
    future = ex.options(priority=1).submit(until, str(m.work / "never"))
    m_running = m.node / "running"
    wait_until(lambda: m_running.read_text() != "0\n", "the call to run")
    assert future.kill() and future.cancelled()
    assert [f.result() for f in [ex.submit(abs, -1) for _ in range(10)]] == [1] * 10


# --- what cannot be pickled ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("view", [{}, {"priority": 1}])
def test_results_that_do_not_pickle(ex, view):
    """The call fails at once, and the sentence names what it returned."""
    ex = ex.options(**view) if view else ex
    with pytest.raises(ppfs.CallFailed, match="the result, a generator, cannot be pickled"):
        ex.submit(generate, 1).result()
    with pytest.raises(ppfs.CallFailed, match="the result, a Stubborn, .*not this one"):
        ex.submit(stubborn).result()
    with pytest.raises(ppfs.CallFailed, match="cannot be loaded here: ZeroDivisionError"):
        ex.submit(only_there).result()
    assert ex.submit(abs, -1).result() == 1


def test_arguments_that_do_not_pickle(ex):
    """submit() raises, not the future, and names function and argument."""
    for call in (lambda: ex.submit(abs, threading.Lock()), lambda: list(ex.map(abs, [threading.Lock()])),
                 lambda: list(ex.map(abs, [1, threading.Lock()], chunksize=2)),
                 lambda: ex.options(priority=1).submit(abs, threading.Lock())):
        with pytest.raises(Exception, match="builtins.abs.*lock"):
            call()
    assert ex.submit(abs, -1).result() == 1


# --- serializers -----------------------------------------------------------------------------------------------------

N = 10


def scaled(x):
    return N * x


LOCK = threading.Lock()


def locked():
    return LOCK


@pytest.mark.parametrize("name", ["cloudpickle", "dill", "pickle"])
def test_serializers(m, name):
    need_module(name)
    with ppfs.Executor(m.mnt, serializer=name) as ex:
        assert ex.submit(scaled, 3).result() == 30
        assert list(ex.map(scaled, range(5), chunksize=2)) == [0, 10, 20, 30, 40]
        assert ex.options(priority=1).submit(scaled, 4).result() == 40
        if name == "pickle":
            with pytest.raises(Exception, match="lambda.*cloudpickle"):
                ex.submit(lambda x: x, 1)
        else:
            more = 5
            assert ex.submit(lambda x: x + more, 1).result() == 6


def test_serializer_source(m):
    """The text travels, so another version of Python could run it; what it names goes along."""
    with ppfs.Executor(m.mnt, serializer="source") as ex:
        def area(r, places=1):
            import math
            return round(math.pi * r * r, places)
        assert ex.submit(area, 2).result() == 12.6 and ex.submit(area, 2, places=2).result() == 12.57
        assert list(ex.map(area, range(3), chunksize=2)) == [0.0, 3.1, 12.6]
        assert ex.submit(lambda x: x - 1, 4).result() == 3
        assert ex.submit(scaled, 1).result() == scaled(1) and ex.submit(abs, -1).result() == 1
        with pytest.raises(pickle.PicklingError, match="LOCK, which .*locked uses, .*cannot go as source"):
            ex.submit(locked)


def test_other_serializers_in_main(run):
    """Without cloudpickle and dill what __main__ has goes as its source."""
    assert run("""
import ppfs, ppfs._pickle.serialize
ppfs._pickle.serialize.module_of = lambda name: None
def double(x): return 2 * x
with ppfs.Executor() as ex:
    print(ex.submit(double, 4).result(), list(ex.map(double, range(3), chunksize=2)))
with ppfs.Executor(serializer="pickle") as ex:
    try: ex.submit(double, 4)
    except Exception as e: print(type(e).__name__, "double" in str(e))
""") == "8 [0, 2, 4]\nPicklingError True\n"
