"""Sessions: leave, come back, collect, from any process."""
import concurrent.futures
import operator
import time

import pytest

import ppfs
from ppfsmount import wait_until
from called import fail, touch, until


def test_leave_and_come_back(run, m, monkeypatch):
    program = """
import os, time, ppfs
ex = ppfs.Executor(name="sweep")
def f(i):
    time.sleep(0.01)
    return i * i
fs = [ex.submit(f, i) for i in range(40)]
print("left", flush=True)
"""
    assert run(program) == "left\n"
    session = ppfs.attach("sweep", m.mnt)
    assert session.results() == [i * i for i in range(40)]
    assert session.done() and len(session) == 40
    total = run("import ppfs\nprint(sum(f.result() for f in ppfs.attach('sweep')))\n")
    assert int(total) == sum(i * i for i in range(40))
    assert "ppfs.attach('sweep')" in run(program, status=1), "the name is taken"
    ppfs.forget("sweep", m.mnt)
    with pytest.raises(FileNotFoundError, match="sweep"):
        ppfs.attach("sweep", m.mnt)
    assert run(program) == "left\n"


def test_leaving_does_not_wait(python, m):
    p = python("""
import os, sys, time, ppfs
def until(path, value):
    while not os.path.exists(path): time.sleep(0.01)
    return value
ppfs.Executor(name="long").submit(until, sys.argv[1], "late")
""", m.work / "go")
    assert p.wait(30) == 0
    session = ppfs.attach("long", m.mnt)
    future = session[1]
    assert not session.done()
    with pytest.raises(concurrent.futures.TimeoutError):
        future.result(0.1)
    with pytest.raises(concurrent.futures.TimeoutError):
        session.results(0.05)
    wait_until(future.running, "the call to be known to run")
    touch(m.work / "go")
    assert future.result(30) == "late" and session.results() == ["late"]


def test_collect_while_it_goes_on(m):
    with ppfs.Executor(m.mnt, name="live") as ex:
        session = ppfs.attach("live", m.mnt)
        blocked = ex.submit(until, str(m.work / "go"), "one")
        ex.submit(fail, KeyError, "spam")
        ex.submit(operator.add, 1, 2)
        ended = iter(session)
        got = {f.id: f for f in (next(ended), next(ended))}
        assert sorted(got) == [2, 3] and got[3].result() == 3 and not session.done()
        assert isinstance(got[2].exception(), KeyError) and got[2].exception().__cause__ is not None
        assert session[3] is got[3] and not session[1].done()
        touch(m.work / "go")
        assert blocked.result() == "one" and next(ended).result() == "one"
        assert [f.result() for f in concurrent.futures.as_completed([session[1], session[3]], timeout=20)]
    assert list(ended) == [] and [f.id for f in session.futures()] == [1, 2, 3]
    with pytest.raises(KeyError):
        session.results()
    with pytest.raises(ppfs.MountGone, match="no call 99"):
        session[99].result()
    with pytest.raises(IndexError):
        session[0]
    assert ppfs.attach("live", m.mnt).futures()[2].result() == 3, "shutdown keeps a session's results"


def test_fork(run, m):
    """The parent's session goes on; the child is told to attach for itself."""
    assert run("""
import os, sys, time, ppfs
def until(path, value):
    while not os.path.exists(path): time.sleep(0.01)
    return value
ex = ppfs.Executor(name="forked")
ex.submit(abs, -1)
ex.submit(until, sys.argv[1], "late")
session = ppfs.attach("forked")
assert session[1].result() == 1
pid = os.fork()
if pid == 0:
    said = []
    for ask in (session[2].result, session.results, lambda: list(session)):
        try: ask()
        except ppfs.MountGone as e: said.append("fork" in str(e))
    again = ppfs.attach("forked")
    open(sys.argv[1], "w").close()
    os._exit(0 if said == [True] * 3 and session[1].result() == 1 and again[2].result() == "late" else 1)
print(os.waitpid(pid, 0)[1], session[2].result())
ex.shutdown()
print(session.results())
""", m.work / "go") == "0 late\n[1, 'late']\n"


def test_forget_and_cancel(m):
    """What has not ended is not forgotten; once cancelled everybody who has to do with it is told so."""
    ex = ppfs.Executor(m.mnt, name="s")
    done, runs = ex.submit(abs, -1), ex.submit(until, str(m.work / "never"))
    assert done.result() == 1
    wait_until(runs.running, "the call to be known to run")
    session = ppfs.attach("s", m.mnt)
    with pytest.raises(ppfs.StillRunning, match="'s' has not ended"):
        ppfs.forget("s", m.mnt)
    assert not runs.done() and ex.submit(abs, -2).result() == 2
    ppfs.cancel("s", m.mnt)
    for ask in runs.result, session[2].result, session.results:
        with pytest.raises(ppfs.JobCancelled, match="^s: the session was cancelled"):
            ask()
    wait_until(lambda: ex.submit(abs, -3).exception() is not None if not ex._core.channel.broken else True, "the end")
    with pytest.raises(ppfs.JobCancelled, match="^s: the session was cancelled"):
        ex.submit(abs, -3)
    ex.shutdown()
    ppfs.forget("s", m.mnt)
    assert ppfs.Executor(m.mnt, name="s").submit(abs, -4).result() == 4, "the name is free"


def test_cancelled_before_a_write(m):
    """The writer notices first, or whoever waits for the answer: in either case the reader thread leaves."""
    for i in range(100):
        ex = ppfs.Executor(m.mnt, name="s%d" % i)
        ppfs.cancel("s%d" % i, m.mnt)
        with pytest.raises(ppfs.JobCancelled, match="^s%d: the session was cancelled" % i):
            ex.submit(abs, -1).result()
        ex.shutdown()


def test_names_of_sessions(m):
    """What can be no name is refused with a sentence; a name in a group is one when the group is there."""
    for name in ("", ".x", "a/.x", "/a", "a/", "a//b", "..", "a\0b", "n" * 256):
        with pytest.raises(ValueError, match="a session cannot be named"):
            ppfs.Executor(m.mnt, name=name)
    with pytest.raises(ValueError, match="no group 'G/H'.*'G/H/s'.*mkdir"):
        ppfs.Executor(m.mnt, name="G/H/s")
    (m.jobs / "G" / "H").mkdir(parents=True)
    with ppfs.Executor(m.mnt, name="G/H/s") as ex:
        ex.submit(abs, -1)
    assert ppfs.attach("G/H/s", m.mnt).results() == [1]
    with pytest.raises(FileExistsError, match="ppfs.attach"):
        ppfs.Executor(m.mnt, name="G/H/s")
    ppfs.forget("G/H/s", m.mnt)
    with pytest.raises(FileNotFoundError):
        ppfs.attach("G/H/s", m.mnt)


def test_the_mount_goes_away(m):
    """What was read so far is not taken for all there is."""
    m.may_restart = True
    ex = ppfs.Executor(m.mnt, name="cut")
    assert ex.submit(abs, -1).result() == 1
    ex.submit(until, str(m.work / "never"))
    session = ppfs.attach("cut", m.mnt)
    assert next(iter(session)).result() == 1
    m.kill_all()
    with pytest.raises(concurrent.futures.BrokenExecutor):
        session.results(40)
    got = []
    with pytest.raises(concurrent.futures.BrokenExecutor):
        for future in session:
            got.append(future.result())
    assert got == [1]
    with pytest.raises(concurrent.futures.BrokenExecutor):
        session[2].result(40)
    ex.shutdown()


def test_survives_a_crash_of_ppfs(new_mount):
    m = new_mount().start()
    m.may_restart = True
    ex = ppfs.Executor(m.mnt, name="s")
    futures = [ex.submit(operator.neg, i) for i in range(200)]
    assert futures[-1].result() == -199
    ex.shutdown()
    m.kill_all()
    m.start()
    assert ppfs.attach("s", m.mnt).results() == [-i for i in range(200)]


def test_attach_in_a_thread_of_callbacks(m):
    with ppfs.Executor(m.mnt, name="cb") as ex:
        ex.submit(abs, -5)
    got = []
    session = ppfs.attach("cb", m.mnt)
    session[1].add_done_callback(lambda f: got.append(f.result()))
    wait_until(lambda: got == [5], "the callback")
    assert "cb" in repr(session) and time.monotonic()
