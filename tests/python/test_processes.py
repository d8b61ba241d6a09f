"""The helper among processes: fork, the end of the interpreter, Ctrl-C, daemons that are killed, mounts that go
away."""
import concurrent.futures
import operator
import os
import signal
import subprocess
import threading
import time

import pytest

import ppfs
from ppfsmount import PYTHON, wait_until
from processes import kill
from called import touch, until


def tell_and_wait(path):
    """Writes down its process and stays."""
    with open(path + ".new", "w") as file:
        file.write("%d\n" % os.getpid())
    os.rename(path + ".new", path)
    while True:
        time.sleep(0.1)


def test_main_functions(run):
    assert run("""
import ppfs
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x
class Oops(Exception): pass
N = 3
def helper(p): return Point(p.x * N)
def f(p): return helper(p)
def g(): raise Oops("spam")
with ppfs.Executor() as ex:
    print(ex.submit(f, Point(2)).result() == Point(6), list(ex.map(f, [Point(1)] * 3, chunksize=2)) == [Point(3)] * 3)
    try: ex.submit(g).result()
    except Oops as e: print("caught", e)
""") == "True True\ncaught spam\n"


@pytest.mark.parametrize("how", ["cloudpickle", "nothing"])
def test_in_children_of_multiprocessing(run, how):
    """What the main script has defined is in a module of another name there."""
    assert run("""
import multiprocessing, sys
import ppfs, ppfs._pickle.serialize
if sys.argv[1] == "nothing":
    ppfs._pickle.serialize.module_of = lambda name: None
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x
K = 3
def f(x): return x * K
def g(p): return Point(p.x * K)
def child(queue):
    global K
    with ppfs.Executor() as ex:
        out = [ex.submit(f, 2).result(), list(ex.map(f, [1] * 3, chunksize=2))]
        K = 4
        out.append(ex.submit(f, 2).result())
        if sys.argv[1] == "cloudpickle":
            out += [ex.submit(g, Point(2)).result() == Point(8), ex.submit(Point, 4).result() == Point(4),
                    ex.submit(sorted, [3, 1], key=lambda x: -x).result()]
    with ppfs.Executor(serializer="pickle") as ex:
        try: ex.submit(f, 1)
        except Exception as e: out.append("f is defined in __main__" in str(e))
    queue.put(out)
if __name__ == "__main__":
    for method in ("spawn", "forkserver"):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(*queue.get())
        process.join()
""", how) == 2 * ("6 [3, 3, 3] 8 %sTrue\n" % ("True True [3, 1] " if how == "cloudpickle" else ""))


def test_modules_beside_the_program(run, m):
    (m.work / "beside_it.py").write_text("class C:\n    def __init__(self, x): self.x = x\n"
                                         "    def get(self): return self.x\n")
    (m.base / "elsewhere").mkdir()
    assert run("""
import os, ppfs, beside_it
os.chdir("../elsewhere")
with ppfs.Executor() as ex:
    print(ex.submit(beside_it.C, 5).result().get(), ex.submit(beside_it.C(6).get).result())
""") == "5 6\n"


def test_exit_with_work_pending(run, m):
    """As a process pool does: the interpreter waits."""
    assert run("""
import sys, time, ppfs
ex = ppfs.Executor()
for i in range(6): ex.submit(time.sleep, 0.1).add_done_callback(lambda f, i=i: print("done", i, flush=True))
print("end of the program", flush=True)
""").split("\n")[0] == "end of the program"
    assert os.listdir(m.jobs) == os.listdir(m.results) == []


def test_exit_with_many_pending(run, m):
    assert run("""
import ppfs
n = [0]
def count(f): n[0] += 1
ex = ppfs.Executor()
for i in range(3000): ex.submit(abs, -i).add_done_callback(count)
import atexit
ex.shutdown(wait=False)
del ex
import ppfs.core
atexit.register(lambda: (ppfs.core._at_exit(), print(n[0])))
""") == "3000\n"


def test_exit_by_exception_and_sys_exit(run):
    assert "spam" in run("import ppfs\nex = ppfs.Executor()\nf = ex.submit(abs, -1)\nraise KeyError('spam')\n",
                         status=1)
    run("import sys, ppfs\nex = ppfs.Executor()\nf = ex.submit(abs, -1)\nsys.exit(3)\n", status=3)


LATE = """
import atexit, os, sys, threading, time
def late(when):
    files = [open("f%d" % i, "wb") for i in range(12)]
    try: said = "taken: %s" % ex.submit(abs, -2)
    except RuntimeError as error: said = str(error)
    print(when, said, {os.fstat(f.fileno()).st_size for f in files}, flush=True)
def thread():
    while threading.main_thread().is_alive(): time.sleep(0.001)
    future.result()
    late("a thread that is left:")
atexit.register(late, "atexit, after the package:")
import ppfs
atexit.register(late, "atexit, before the package:")
ex = ppfs.Executor(**eval(sys.argv[1]))
ex.submit(abs, -1).result()
future = ex.submit(time.sleep, 0.1)
threading.Thread(target=thread).start()
"""


@pytest.mark.parametrize("words", ["{}", "{'name': 's'}"])
def test_submit_when_the_interpreter_ends(run, words):
    """As in concurrent.futures; and nothing is written to the file that has got the number of the stream's."""
    ends = "cannot schedule new futures after interpreter shutdown {0}\n"
    assert run(LATE, words) == ("a thread that is left: " + ends + "atexit, before the package: " + ends +
                                "atexit, after the package: " + ends)


def test_fork(run):
    """The child has an executor of its own, and the parent's goes on undisturbed."""
    assert run("""
import os, ppfs
ex = ppfs.Executor()
before = ex.submit(abs, -1)
later = [ex.submit(pow, i, 2) for i in range(500)]
pid = os.fork()
if pid == 0:
    ok = ex.submit(abs, -2).result() == 2 and list(ex.map(abs, range(-50, 0))) == list(range(50, 0, -1))
    try: [f.result() for f in later]; orphans = later[-1].done()
    except ppfs.MountGone as e: orphans = "fork" in str(e)
    ex.shutdown()
    os._exit(0 if ok and orphans else 1)
print(os.waitpid(pid, 0)[1], before.result(), [f.result() for f in later] == [i * i for i in range(500)])
print(ex.submit(abs, -3).result())
""") == "0 1 True\n3\n"


def test_multiprocessing_children(run):
    assert run("""
import multiprocessing, ppfs
ex = ppfs.Executor()
def child(n): return ex.submit(pow, n, 2).result()
if __name__ == "__main__":
    print(ex.submit(abs, -1).result())
    with multiprocessing.get_context("fork").Pool(3) as pool: print(pool.map(child, range(6)))
""") == "1\n[0, 1, 4, 9, 16, 25]\n"


@pytest.mark.parametrize("how", ["result", "map", "wait", "shutdown"])
def test_ctrl_c(python, m, how):
    """KeyboardInterrupt comes at once; the calls that were submitted are still good, and the program can end."""
    wait = {"result": "f.result()", "map": "list(ex.map(time.sleep, [0.3] * 4))", "shutdown": "ex.shutdown()",
            "wait": "concurrent.futures.wait([f])"}[how]
    p = python("""
import concurrent.futures, time, ppfs
ex = ppfs.Executor()
ex.submit(abs, -1).result()
f = ex.submit(time.sleep, 0.8)
print("ready", flush=True)
t = time.monotonic()
try: %s
except KeyboardInterrupt: print("interrupted", time.monotonic() - t < 0.7, flush=True)
print(f.result())
""" % wait)
    assert p.stdout.readline() == "ready\n"
    time.sleep(0.1)
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=40)
    assert (p.returncode, out) == (0, "interrupted True\nNone\n"), err


def test_ctrl_c_again_and_again(python, m):
    """No call and no result is lost, wherever the interrupts come."""
    p = python("""
import time, ppfs
ex = ppfs.Executor()
futures, i, hits = {}, 0, 0
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        if not i: print("ready", flush=True)
        while time.monotonic() < end:
            futures[i] = ex.submit(abs, -i) if i % 7 else ex.submit(bytes.__len__, bytes(i) + bytes(100_000 * (i % 4)))
            i += 1
            if i % 3: futures[i - 1].result()
    except KeyboardInterrupt: hits += 1
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
print(hits > 3, all(f.result(20) == k + (0 if k % 7 else 100_000 * (k % 4)) for k, f in futures.items()))
ex.shutdown()
""")
    assert p.stdout.readline() == "ready\n"
    while p.poll() is None:
        p.send_signal(signal.SIGINT)
        time.sleep(0.02)
    out, err = p.communicate(timeout=40)
    assert p.returncode == 0 and out.endswith("True True\n"), out + err


def test_ctrl_c_while_streams_are_made(python, m):
    """No half-made stream is left, and the next executor works."""
    p = python("""
import os, signal, threading, time, ppfs
hits, armed = 0, False
def interrupt(*_):
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, interrupt)
print("ready", flush=True)
end = time.monotonic() + 1.5
while time.monotonic() < end:
    ex = None
    try:
        armed = True
        ex = ppfs.Executor()
        future = ex.submit(abs, -1)
        assert future.result() == 1
        ex.shutdown()
        armed = False
    except KeyboardInterrupt: hits += 1
    if ex is not None: ex.shutdown()
signal.signal(signal.SIGINT, signal.SIG_IGN)
with ppfs.Executor() as ex: print(hits > 3, ex.submit(abs, -2).result())
until = time.monotonic() + 20
while threading.active_count() > 1 and time.monotonic() < until: time.sleep(0.01)
print(len(os.listdir("/proc/self/fd")), [t.name for t in threading.enumerate()])
""")
    assert p.stdout.readline() == "ready\n"
    while p.poll() is None:
        p.send_signal(signal.SIGINT)
        time.sleep(0.005)
    out, err = p.communicate(timeout=40)
    assert p.returncode == 0 and out.endswith("True 2\n4 ['MainThread']\n"), out + err
    assert os.listdir(m.jobs) == []


def test_the_program_is_killed(python, m):
    """kill -9: the stream ends, nothing is left waiting."""
    p = python("import time, ppfs\nex = ppfs.Executor()\nfs = [ex.submit(abs, -i) for i in range(100)]\n"
               "fs[-1].result()\nprint('ready', flush=True)\ntime.sleep(1000)\n")
    assert p.stdout.readline() == "ready\n"
    kill(p.pid)
    p.communicate()
    wait_until(lambda: os.listdir(m.jobs) == [], "the stream to end")


@pytest.mark.limit(110)
def test_daemon_killed_under_way(m):
    """The futures complete, whatever is killed meanwhile; a call may run twice only if it was running."""
    with ppfs.Executor(m.mnt) as ex:
        assert ex.submit(abs, -1).result() == 1
        slow = [ex.submit(time.sleep, 0.5) for _ in range(2)]
        for _ in range(3):
            futures = [ex.submit(operator.neg, i) for i in range(2000)]
            m.kill_daemon()
            more = [ex.submit(operator.neg, i) for i in range(500)]
            assert [f.result(60) for f in futures] == [-i for i in range(2000)]
            assert [f.result(60) for f in more] == [-i for i in range(500)]
        assert [f.result(60) for f in slow] == [None, None]
        assert ex.submit(abs, -2).result() == 2


def test_workers_killed_under_way(m):
    with ppfs.Executor(m.mnt) as ex:
        slow = ex.submit(tell_and_wait, str(m.work / "pid"))
        wait_until((m.work / "pid").exists, "a call to run")
        assert int((m.work / "pid").read_text()) in m.pids()["workers"]
        for pid in m.pids()["workers"]:
            kill(pid)
        with pytest.raises(ppfs.WorkerDied, match="SIGKILL"):
            slow.result()
        assert [f.result() for f in [ex.submit(abs, -i) for i in range(100)]] == list(range(100))


def test_unmounted_under_way(m):
    """The mount ends: what was under way raises BrokenExecutor, and so does a further submit. Nobody hangs."""
    m.may_restart = True
    ex = ppfs.Executor(m.mnt)
    assert ex.submit(abs, -1).result() == 1
    running = ex.submit(until, str(m.work / "never"))
    waiting = [ex.submit(abs, -i) for i in range(10)]
    wait_until(running.running, "the call to run")
    kill(m.pids()["supervisor"], signal.SIGTERM)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        running.result(40)
    for f in waiting:
        f.exception(40)
    with pytest.raises(concurrent.futures.BrokenExecutor):
        for _ in range(100):
            ex.submit(abs, 1).result(40)
    ex.shutdown()
    m.gone()


def test_everything_killed_under_way(m):
    ex = ppfs.Executor(m.mnt)
    running = ex.submit(until, str(m.work / "never"))
    wait_until(running.running, "the call to run")
    thread = threading.Timer(0.2, m.kill_all)
    thread.start()
    with pytest.raises(concurrent.futures.BrokenExecutor):
        running.result(40)
    thread.join()
    ex.shutdown()


def fail_with_enospc(fd, data):
    raise OSError(28, "No space left on device")


def test_no_space(m, monkeypatch):
    """An error of write() ends what is under way with its name."""
    ex = ppfs.Executor(m.mnt)
    ex.submit(abs, -1).result()
    monkeypatch.setattr(os, "writev", fail_with_enospc)
    future = ex.submit(abs, -1)
    with pytest.raises(concurrent.futures.BrokenExecutor, match="No space left"):
        future.result(20)
    with pytest.raises(concurrent.futures.BrokenExecutor, match="No space left"):
        ex.submit(abs, -1)
    monkeypatch.undo()
    ex.shutdown()
    with ppfs.Executor(m.mnt) as other:
        assert other.submit(abs, -1).result() == 1


def test_private_mount(base, fuse):
    """No mount is named or found: the helper starts one and ends it."""
    from test_files import conftest, private_env
    program = """
import os, time, ppfs, ppfs.mount
ppfs.mount.mounted = lambda: []
ex = ppfs.Executor(max_workers=3)
print(ex.submit(pow, 2, 10).result(), ppfs.mount.slots(ex.mount), ppfs.Executor().mount == ex.mount)
print(ex.submit(lambda: os.environ["PPFS"] == ex_mount).result() if (ex_mount := ex.mount) else "")
fs = [ex.submit(time.sleep, 0.1) for _ in range(6)]
"""
    p = subprocess.run([PYTHON, "-c", program], cwd=base,
                       env=private_env(base), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    assert (p.returncode, p.stdout, p.stderr) == (0, "1024 3 True\nTrue\n", "")
    assert [name for name in os.listdir(base) if name.startswith("ppfs-private")] == []


def test_touch_helper(tmp_path):
    touch(tmp_path / "x")
    assert until(tmp_path / "x", 1) == 1
