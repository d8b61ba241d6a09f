"""A Ctrl-C at any step of the package leaves an executor that works or is closed, and no thread, file or lock behind."""
import concurrent.futures
import os
import signal
import sys

import pytest

import ppfs
from conftest import SCRIPTS
from ppfsmount import SLOW, wait_until
from called import until

SWEEP = """
import dis, faulthandler, os, sys, threading, time
import ppfs
WHAT, STEP = sys.argv[1], int(sys.argv[2])
CHECKS = {op for name, op in dis.opmap.items() if name.startswith(("CALL", "RESUME", "JUMP_BACKWARD"))}
PLACES = (os.path.dirname(ppfs.__file__), threading.__file__, os.path.dirname(threading.__file__) + "/concurrent")
left = where = None
before, tables = {}, {}

def handler(code, at):
    if code not in tables: tables[code] = dis._parse_exception_table(code)
    return [entry.target for entry in tables[code] if entry.start <= at < entry.end]

def trace(frame, event, arg):
    '''Raises behind the left-th instruction that looks for signals, where the exception goes to the same handler.'''
    global left, where
    code = frame.f_code
    if not code.co_filename.startswith(PLACES): return None
    frame.f_trace_opcodes = True
    if event == "opcode" and left is not None:
        last, before[frame] = before.get(frame), frame.f_lasti
        if last is not None and code.co_code[last] in CHECKS and handler(code, last) == handler(code, frame.f_lasti):
            left -= 1
            if left == 0:
                left, where = None, (code.co_filename, frame.f_lineno, code.co_name)
                sys.settrace(None)
                raise KeyboardInterrupt
    return trace

def once(n):
    '''Whether it was interrupted.'''
    global left
    before.clear()
    ex, left = None, n
    sys.settrace(trace)
    try:
        try:
            ex = ppfs.Executor(**({"max_workers": 2} if WHAT == "limit" else {}))
            if WHAT == "with":
                with ex:
                    ex.submit(abs, -1).result()
                    list(ex.map(abs, range(3)))
            else:
                futures = [ex.submit(abs, -i) for i in range(4)]
                futures[-1].result(30)
                ex.submit(bytes.__len__, bytes(200000)).result()
                ex.shutdown()
        finally:
            sys.settrace(None)
            cut, left = left is None, None
    except KeyboardInterrupt: pass
    if ex is not None:
        try: good = [f.result() for f in [ex.submit(abs, -i) for i in range(6)]] == list(range(6))
        except RuntimeError as error: good = "after shutdown" in str(error)
        assert good, where
        ex.shutdown()
    return cut

files, n = len(os.listdir("/proc/self/fd")), 1
faulthandler.dump_traceback_later(35, exit=True)
while once(n):
    until = time.monotonic() + 20
    while threading.active_count() > 1 and time.monotonic() < until: time.sleep(0.0005)
    assert threading.active_count() == 1, (where, threading.enumerate())
    n += STEP
until = time.monotonic() + 20
while len(os.listdir("/proc/self/fd")) > files and time.monotonic() < until: time.sleep(0.01)
print(n > 200, len(os.listdir("/proc/self/fd")) - files)
"""


@pytest.mark.skipif(sys.version_info < (3, 11), reason="its instructions say no handlers")
@pytest.mark.parametrize("what, step", [("plain", 7), ("with", 5), ("limit", 8)])
def test_ctrl_c_at_every_step(run, m, what, step):
    """A step of 1 goes to each; there are about 600."""
    assert run(SWEEP, what, step) == "True 0\n"
    assert os.listdir(m.jobs) == []


WAITING = """
import concurrent.futures, sys, time, ppfs
from called import touch, until
ex = ppfs.Executor(max_workers=2)
def begun(sign, go):
    touch(sign)
    until(go)
calls = [ex.submit(begun, sys.argv[1] + "/begun", sys.argv[1] + "/never") for _ in range(5)]
%s
"""
PLACES = {"result": "with ex: calls[0].result()", "map": "with ex: list(ex.map(until, [sys.argv[1] + '/never'] * 2))",
          "wait": "with ex: concurrent.futures.wait(calls)", "other": "with ex.options(priority=1): time.sleep(60)",
          "end of the block": "with ex: pass", "shutdown": "ex.shutdown()", "program": "time.sleep(60)"}


@pytest.mark.parametrize("place", PLACES)
def test_one_ctrl_c_ends_a_program(python, m, place):
    """And what it has under way, wherever the program is."""
    p = python(WAITING % PLACES[place], m.work, env={"PYTHONPATH": os.pathsep.join((str(SCRIPTS), os.path.dirname(__file__)))})
    wait_until((m.work / "begun").exists, "a call to begin")
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=30 * SLOW)
    assert p.returncode == -signal.SIGINT and err.count("KeyboardInterrupt") == 1, err
    wait_until(lambda: not os.listdir(m.jobs) and not (m.mnt / "running").read_text(), "the calls to be over")


def test_a_session_goes_on_after_a_ctrl_c(python, m):
    p = python("""
import sys, time, ppfs
with ppfs.Executor(name="stays") as ex:
    from called import touch, until
    ex.submit(touch, sys.argv[1] + "/begun")
    ex.submit(until, sys.argv[1] + "/go", 7)
    time.sleep(60)
""", m.work, env={"PYTHONPATH": os.pathsep.join((str(SCRIPTS), os.path.dirname(__file__)))})
    wait_until((m.work / "begun").exists, "a call to begin")
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=30 * SLOW)
    (m.work / "go").touch()
    assert ppfs.attach("stays", mount=str(m.mnt)).results() == [None, 7]


def test_fork_where_a_file_is_being_closed(run):
    """A file that has got the number of the stream's in the meantime stays open in the child."""
    assert run("""
import os, threading, ppfs
close, seen, null = os.close, [], os.open(os.devnull, os.O_RDONLY)
def slowly(fd):
    close(fd)
    if not threading.current_thread().name.startswith("ppfs"): return
    os.dup2(null, fd)
    pid = os.fork()
    if not pid:
        try: os.fstat(fd)
        except OSError: os._exit(1)
        os._exit(0)
    seen.append(os.waitpid(pid, 0)[1])
    close(fd)
os.close = slowly
with ppfs.Executor() as ex: assert ex.submit(abs, -1).result() == 1
print(seen)
""") == "[0, 0]\n"


def test_a_failed_write_fails_what_was_not_accepted(m, monkeypatch):
    """What has been accepted is answered; a later submit says why there is none."""
    ex = ppfs.Executor(m.mnt)
    accepted = [ex.submit(until, str(m.work / "go"), 1), ex.submit(abs, -1)]
    wait_until(lambda: accepted[1].done(), "the calls to be accepted")
    monkeypatch.setattr(os, "writev", fail_with_enospc)
    lost = [ex.submit(abs, -2)]
    with pytest.raises(concurrent.futures.BrokenExecutor, match="No space left"):
        lost[0].result(20)
    with pytest.raises(concurrent.futures.BrokenExecutor, match="No space left"):
        ex.submit(abs, -1)
    assert not accepted[0].done()
    (m.work / "go").touch()
    assert accepted[0].result(20) == 1
    monkeypatch.undo()
    ex.shutdown()


def fail_with_enospc(fd, data):
    raise OSError(28, "No space left on device")
