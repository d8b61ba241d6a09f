"""One call does not spoil the next: whatever it changes in its worker, the next call finds a worker as before, in the same
stream, in another, and as a job. One entry of ROWS for each row of the table in worker/forkserver/README.md."""
import hashlib
import json
import os
import pickle
import re
import struct
import subprocess

import pytest

import streamframes as frames
from ppfsmount import PYTHON, sanitized, wait_until

# what is changed, how a call does that, how another one looks at it
ROWS = [
    ("stdout reconfigured", "import sys; sys.stdout.reconfigure(line_buffering=False, errors='replace', encoding='latin-1')",
     "[getattr(sys.stdout, a) for a in ('line_buffering', 'errors', 'encoding')]"),
    ("stderr reconfigured", "import sys; sys.stderr.reconfigure(write_through=True)", "sys.stderr.write_through"),
    ("stdout closed", "import sys; sys.stdout.close()", "sys.stdout.closed"),
    ("stderr closed", "import sys; sys.stderr.close()", "sys.stderr.closed"),
    ("stdout detached", "import sys; sys.keep = sys.stdout.detach()", "[sys.stdout.line_buffering, hasattr(sys, 'keep')]"),
    ("stdout wrapped", "import sys, io; sys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'latin-1')",
     "[sys.stdout.encoding, sys.stdout.closed, sys.stdout is sys.__stdout__]"),
    ("write replaced", "import sys; sys.stdout.write = len", "sys.stdout.write('') == 0 and sys.stdout.write.__name__"),
    ("fd 1 elsewhere", "import os; os.dup2(os.open('/dev/null', 1), 1)", "os.readlink('/proc/self/fd/1')[:5]"),
    ("fd 0 closed", "import os; os.close(0)", "os.readlink('/proc/self/fd/0')"),
    ("fd 2 not blocking", "import os; os.set_blocking(2, False)", "os.get_blocking(2)"),
    ("nice", "import os; os.nice(5)", "os.nice(0)"),
    ("setpriority", "import os; os.setpriority(os.PRIO_PROCESS, 0, 7)", "os.getpriority(os.PRIO_PROCESS, 0)"),
    ("affinity", "import os; os.sched_setaffinity(0, {0})", "sorted(os.sched_getaffinity(0))"),
    ("scheduler", "import os; os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "os.sched_getscheduler(0)"),
    ("io priority", "import ctypes, platform; ctypes.CDLL(None).syscall("
     "{'x86_64': 251, 'aarch64': 30}[platform.machine()], 1, 0, 2 << 13 | 7)",
     "__import__('ctypes').CDLL(None).syscall({'x86_64': 252, 'aarch64': 31}[__import__('platform').machine()], 1, 0)"),
    ("a module that is none", "import sys; sys.modules['json'] = None", "__import__('json').__name__"),
    ("a module that is gone", "import sys; sys.keep_re = sys.modules.pop('re'); sys.modules['re'] = sys",
     "__import__('re').__name__"),
    ("audit hook", "import sys; sys.addaudithook(lambda name, given: 1 / 0 if name == 'ours' else None)",
     "__import__('sys').audit('ours')"),
    ("watchdog", "import faulthandler; faulthandler.dump_traceback_later(0.05, exit=True)", "__import__('time').sleep(0.2)"),
    ("a thread's environment", "import os, threading, time; threading.Thread(target=lambda: (time.sleep(0.02), "
     "os.environ.update(X_T='1'))).start()", "__import__('os').environ.get('X_T')"),
    ("a thread that ends the process", "import os, threading, time; threading.Thread(target=lambda: (time.sleep(0.1), "
     "os._exit(0))).start()", "1"),
    ("process name", "open('/proc/self/comm', 'w').write('other'); import ctypes; ctypes.CDLL(None).prctl(15, b'other', 0, 0, 0)",
     "open('/proc/self/comm').read()"),
    ("prctl", "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)", "__import__('ctypes').CDLL(None).prctl(3, 0, 0, 0, 0)"),
    ("umask", "import os; os.umask(0o77)", "os.umask(0o22)"),
    ("rlimit", "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
     "__import__('resource').getrlimit(__import__('resource').RLIMIT_CORE)"),
    ("soft rlimit", "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, "
     "(100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
     "__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)"),
    ("signal handler", "import signal; signal.signal(15, lambda *a: 0); signal.signal(2, signal.default_int_handler)",
     "[str(signal.getsignal(n)) for n in (2, 15)]"),
    ("signal mask", "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {10, 15}); signal.raise_signal(10)",
     "sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))"),
    ("alarm", "import signal; signal.alarm(1)", "signal.alarm(0)"),
    ("timer", "import signal; signal.setitimer(signal.ITIMER_PROF, 0.5)", "signal.getitimer(signal.ITIMER_PROF)"),
    ("wakeup", "import os, signal; r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w); "
     "signal.signal(12, lambda *a: 0)", "signal.set_wakeup_fd(-1)"),
    ("directory", "import os; os.chdir('/tmp')", "os.getcwd()"),
    ("environment", "import os; os.environ['X_Y'] = '1'; os.environ.pop('PATH'); os.environ['TZ'] = 'Asia/Tokyo'; "
     "import time; time.tzset()", "[os.environ.get('X_Y'), os.environ['PATH'], time.strftime('%z')]"),
    ("temporary directory", "import os, tempfile; os.environ['TMPDIR'] = '/var/tmp'; tempfile.gettempdir()",
     "__import__('tempfile').gettempdir()"),
    ("locale", "import locale; locale.setlocale(locale.LC_ALL, 'C')", "__import__('locale').setlocale(6)"),
    ("session", "import os; os.setpgid(0, os.getppid()) if os.getpgid(os.getppid()) == 0 else os.setpgid(0, 0)",
     "os.getpgrp() == os.getpid()"),
    ("decimal context", "import decimal; decimal.getcontext().prec = 5; decimal.DefaultContext.prec = 6",
     "[__import__('decimal').getcontext().prec, __import__('decimal').DefaultContext.prec]"),
    ("context variables", "import contextvars, sys; sys.modules['random'].var = v = contextvars.ContextVar('v'); v.set(1)",
     "[v.name for v in __import__('contextvars').copy_context()]"),
    ("asyncio", "import asyncio; asyncio.run(asyncio.sleep(0))",
     "__import__('asyncio').events._event_loop_policy is None and __import__('asyncio').get_event_loop().is_running()"),
    ("asyncio policy", "import asyncio; asyncio.set_event_loop(asyncio.new_event_loop()); asyncio.get_event_loop().close()",
     "__import__('asyncio').get_event_loop_policy()._local._loop is None"),
    ("start method", "import multiprocessing; multiprocessing.set_start_method('spawn')",
     "__import__('multiprocessing').set_start_method('fork') or __import__('multiprocessing').get_start_method()"),
    ("warnings filters", "import warnings; warnings.simplefilter('error')", "[str(f) for f in __import__('warnings').filters]"),
    ("warnings list", "import warnings; warnings.filters = []; warnings.showwarning = len",
     "[len(__import__('warnings').filters) > 3, __import__('warnings').showwarning.__name__]"),
    ("gc", "import gc; gc.disable(); gc.set_threshold(7); gc.callbacks.append(len)",
     "[__import__('gc').isenabled(), __import__('gc').get_threshold(), len(__import__('gc').callbacks)]"),
    ("recursion limit", "import sys; sys.setrecursionlimit(5000)", "sys.getrecursionlimit()"),
    ("interpreter", "import sys; sys.setswitchinterval(0.1); sys.settrace(lambda *a: None); sys.excepthook = len; "
     "sys.meta_path.reverse(); sys.dont_write_bytecode = True; sys.strange = 1",
     "[sys.getswitchinterval(), sys.gettrace() is None, sys.excepthook.__name__, str(sys.meta_path[0]), "
     "sys.dont_write_bytecode, hasattr(sys, 'strange')]"),
    ("builtins", "import builtins; builtins._ = len; builtins.print = len; del builtins.sum",
     "[hasattr(__import__('builtins'), '_'), print.__name__, sum([1])]"),
    ("names of exec", "left_over = 5; abs = len", "'left_over' in globals() or abs(-1)"),
    ("path and modules", "import sys; sys.path.insert(0, '/x'); sys.argv.append('x'); sys.path = ['/y']",
     "[sys.path[:1], sys.argv, len(sys.path) > 2]"),
    ("socket time-out", "import socket; socket.setdefaulttimeout(3)", "__import__('socket').getdefaulttimeout()"),
    ("logging", "import logging; logging.disable(50); logging.basicConfig(level=10); logging.getLogger('a.b').setLevel(5); "
     "logging.getLogger('a.b').addHandler(logging.StreamHandler())",
     "(lambda g: [g.root.manager.disable, g.root.level, len(g.root.handlers), g.getLogger('a.b').level, "
     "len(g.getLogger('a.b').handlers)])(__import__('logging'))"),
    ("copyreg", "import copyreg; copyreg.pickle(KeyError, lambda e: (KeyError, ('spoiled',)))",
     "KeyError in __import__('copyreg').dispatch_table"),
    ("threads' hooks", "import threading; threading.excepthook = len; threading.stack_size(1 << 20); threading.settrace(len)",
     "(lambda t: [t.excepthook.__name__, t.stack_size(), t._trace_hook])(__import__('threading'))"),
    ("thread", "import threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
     "len(__import__('threading').enumerate())"),
    ("child", "import os, time; os.fork() or (time.sleep(99), os._exit(0))",
     "len(open('/proc/thread-self/children').read())"),
    ("a module's name replaced", "import textwrap; textwrap.dedent = len", "__import__('textwrap').dedent.__name__"),
    ("a module's name gone", "import textwrap; delattr(textwrap, 'indent')", "hasattr(__import__('textwrap'), 'indent')"),
    ("a module's name too many", "import types, textwrap; types.ModuleType.__setattr__(textwrap, 'extra', 1)",
     "hasattr(__import__('textwrap'), 'extra')"),
    ("many names of modules", "import textwrap\nfor i in range(1, 99): setattr(textwrap, 'n%d' % i, i)",
     "[n for n in dir(__import__('textwrap')) if n[0] == 'n']"),
    ("rounding", "import ctypes; ctypes.CDLL('libm.so.6').fesetround(0x400 if __import__('platform').machine() == 'x86_64' "
     "else 0x800000)", "__import__('ctypes').CDLL('libm.so.6').fegetround()"),
]
NUMPY = [
    ("numpy's errors", "import numpy; numpy.seterr(all='raise')", "sorted(__import__('numpy').geterr().items())"),
    ("numpy's printing", "import numpy; numpy.set_printoptions(precision=2)", "__import__('numpy').get_printoptions()['precision']"),
]
PANDAS = [("pandas' options", "import pandas; pandas.set_option('display.max_rows', 5)",
           "__import__('pandas').get_option('display.max_rows')")]
IMPORTS = "(lambda os, signal, sys, time: %s)(*map(__import__, ('os', 'signal', 'sys', 'time')))"


def call(name, arg):
    return {"call": name, "args": [arg]}


def in_a_stream(m, *calls):
    m.put("s.jsonl", "".join(json.dumps(c) + "\n" for c in calls))
    answers = [json.loads(line) for line in m.result("s.jsonl").splitlines()]
    assert not [a for a in answers if isinstance(a, dict) and "error" in a]
    return answers


def rows_of(which):
    return [pytest.param(*row, id=row[0]) for row in which]


def has(module):
    return subprocess.run([PYTHON, "-c", "import " + module], capture_output=True).returncode == 0


def check(m, spoil, look):
    """The value before, then after the change in the same stream, in another, and in jobs."""
    look = call("eval", IMPORTS % look)
    spoil = call("exec", spoil)
    before, again = in_a_stream(m, look, look)
    assert before == again, "the look itself changes something"
    first, _, second, third, _, _, fourth = in_a_stream(m, look, spoil, look, look, spoil, spoil, look)
    assert [first, second, third, fourth] == [before] * 4
    assert in_a_stream(m, look) == [before]
    m.put("spoil", spoil)
    assert m.result("spoil") == b"null\n"
    m.put("look", look)
    assert json.loads(m.result("look")) == before
    m.put("spoil", spoil)
    assert m.result("spoil") == b"null\n"
    assert in_a_stream(m, look) == [before]


@pytest.mark.parametrize("what,spoil,look", rows_of(ROWS))
def test_a_call_leaves_its_worker_as_it_was(m1, what, spoil, look):
    check(m1, spoil, look)


@pytest.mark.parametrize("what,spoil,look", rows_of(NUMPY))
def test_numpy_is_left_as_it_was(m1, what, spoil, look):
    if not has("numpy"):
        pytest.skip("no numpy")
    check(m1, spoil, look)


@pytest.mark.parametrize("what,spoil,look", rows_of(PANDAS))
def test_pandas_is_left_as_it_was(m1, what, spoil, look):
    if not has("pandas"):
        pytest.skip("no pandas")
    check(m1, spoil, look)


@pytest.mark.parametrize("seed,draw", [
    ("import random; random.seed(1)", "__import__('random').random()"),
    ("import random; random.setstate(random.Random(1).getstate())", "__import__('random').getrandbits(64)"),
    ("import numpy; numpy.random.seed(1)", "float(__import__('numpy').random.random())"),
])
def test_chance_is_chance_again(m1, seed, draw):
    if "numpy" in seed and not has("numpy"):
        pytest.skip("no numpy")
    seen = set()
    for _ in range(3):
        answers = in_a_stream(m1, *[call("exec", seed), call("eval", draw)] * 3)
        seen.update(answers[1::2])
    assert len(seen) == 9
    m1.put("seed", call("exec", seed))
    m1.result("seed")
    m1.put("draw", call("eval", draw))
    assert json.loads(m1.result("draw")) not in seen


def test_output_goes_on(m1):
    """After what the calls before did to stdout, a call's output is its own and whole."""
    for n, spoil in enumerate(["import sys; print('1'); sys.stdout.close()", "import os; print('1', flush=True); os.close(1)",
                               "import sys; print('1'); sys.stdout.detach().flush()",
                               "import sys; print('1'); sys.stdout.reconfigure(line_buffering=False)",
                               "import os, sys; print('1', flush=True); os.dup2(os.open('/dev/null', 1), 1); print('lost')"]):
        for job in ("spoil", "next"):
            m1.put(job, call("exec", spoil if job == "spoil" else "print('2')"))
            m1.result(job)
        assert m1.get("spoil", "stdout") == "1", n
        assert m1.get("next", "stdout") == "2", n


def test_each_call_is_warned(m1):
    (m1.work / "warner.py").write_text("import warnings\ndef warn():\n    warnings.warn('mind this')\n")
    for n in range(3):
        m1.put("x", {"call": "warner.warn"})
        m1.result("x")
        assert "mind this" in m1.get("x", "stderr"), n


def test_where_all_is_as_before_nothing_is_put_back(m1):
    """With ctypes loaded too, which is why a worker looks closer: what is put in order tells a module that warns so."""
    (m1.work / "ignored.py").write_text(
        "import ctypes, warnings\ndef warn():\n    warnings.warn('old', DeprecationWarning)\n"
        "    return __warningregistry__['version']\n")
    calls = [{"call": "ignored.warn"}] * 500

    def three_in_a_row():
        seen = in_a_stream(m1, *calls)
        return any(a == b == c for a, b, c in zip(seen, seen[1:], seen[2:]))

    wait_until(three_in_a_row, "calls between which nothing was put in order")


# libc's own functions, got without a word about it; after the first call of each nothing new is loaded
FOREIGN = """
import os, signal
import %(module)s
%(open)s
def ready(): return None
def look():
    with open('/proc/self/status') as f:
        blocked = [line for line in f if line.startswith('SigBlk')]
    return [os.nice(0), os.getcwd(), os.get_blocking(2), blocked, os.umask(0o22)]
def nice(): own_nice(5)
def chdir(): own_chdir(b'/tmp')
def umask(): own_umask(0o77)
def fcntl(): own_fcntl(2, 4, os.O_NONBLOCK | os.O_WRONLY)
def close(): own_close(0)
def setsid(): own_setsid()
def sighold(): own_sighold(10)
"""
OPENED = {
    "ctypes": "libc = ctypes.CDLL('libc.so.6')\nfor name in ('nice', 'chdir', 'umask', 'fcntl', 'close', 'setsid', 'sighold'):\n"
              "    globals()['own_' + name] = getattr(libc, name)",
    "_cffi_backend": "b, integer = _cffi_backend, _cffi_backend.new_primitive_type('int')\nlibc = b.load_library('libc.so.6')\n"
                     "text = b.new_pointer_type(b.new_primitive_type('char'))\n"
                     "for name, *args in (['nice', integer], ['chdir', text], ['umask', integer], ['close', integer], ['setsid'],\n"
                     "                    ['sighold', integer], ['fcntl', integer, integer, integer]):\n"
                     "    globals()['own_' + name] = libc.load_function(b.new_function_type(tuple(args), integer), name)",
}


@pytest.mark.parametrize("module", OPENED)
def test_functions_found_in_libc_itself(m1, module):
    """What a call changes by one of them is put back before the very next call, also in a worker where nothing else happens."""
    if not has(module):
        pytest.skip("no %s" % module)
    (m1.work / "foreign.py").write_text(FOREIGN % {"module": module, "open": OPENED[module]})
    calls = [{"call": "foreign." + name} for name in ("nice", "chdir", "umask", "fcntl", "close", "setsid", "sighold")]
    look, ready = {"call": "foreign.look"}, {"call": "foreign.ready"}
    lines = [ready, look]
    for spoil in calls * 5:
        lines += [ready, spoil, look]
    seen = in_a_stream(m1, *lines)
    assert [s for s in seen[4::3] if s != seen[1]] == []


# Stands before libc in the worker and counts how often order.c asks for the groups, which nothing else does
COUNTER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/types.h>
static int count;
int looks(void) { return count; }
int getresgid(gid_t *a, gid_t *b, gid_t *c) {
    static int (*next)(gid_t *, gid_t *, gid_t *);
    if (!next)
        next = (int (*)(gid_t *, gid_t *, gid_t *))dlsym(RTLD_NEXT, "getresgid");
    count++;
    return next(a, b, c);
}
"""


@pytest.mark.parametrize("module", ["ctypes", "numpy", "_cffi_backend"])
def test_calls_are_not_compared_because_ctypes_is_loaded(new_mount, module):
    """A call that does not call by it costs no system call more for it being there."""
    if not has(module):
        pytest.skip("no %s" % module)
    if sanitized():
        pytest.skip("AddressSanitizer wants to be the first library")
    m1 = new_mount(cpus=1)
    (m1.base / "counter.c").write_text(COUNTER)
    subprocess.run([os.environ.get("CC", "gcc").split()[-1], "-shared", "-fPIC", "-o", str(m1.base / "counter.so"),
                    str(m1.base / "counter.c")], check=True)
    m1.env["LD_PRELOAD"] = str(m1.base / "counter.so")
    m1.start()
    (m1.work / "counted.py").write_text("import ctypes, %s\ncount = ctypes.CDLL(None).looks\n"
                                        "def looks(): return count()\n" % module)
    before, after = {"call": "counted.looks"}, {"call": "counted.looks"}
    count = 2000

    def few():
        seen = in_a_stream(m1, before, before, *[call("operator.neg", 1)] * count, after)
        return 0 < seen[-1] - seen[1] < count / 2  # those that take long on a busy machine are compared

    wait_until(few, "calls that are not compared")


def test_a_thread_that_ends_costs_no_worker(m1):
    short = "__import__('threading').Thread(target=__import__('time').sleep, args=(0.002,)).start() or __import__('os').getpid()"
    pids = set(in_a_stream(m1, *[call("eval", short)] * 20))
    assert len(pids) < 10, "under load some may have taken longer than a moment"


def test_module_that_registers_for_classes_of_others(m1):
    """Its own call has it; the next one's exceptions are not pickled by it."""
    (m1.work / "registers.py").write_text(
        "import copyreg\nclass Odd(Exception): pass\ndef rebuild(*a): return Odd(*a)\n"
        "def reduce(e): return rebuild, e.args\ncopyreg.pickle(ValueError, reduce)\n"
        "def f(): return len(copyreg.dispatch_table)\n")
    (m1.work / "owns.py").write_text(
        "import copyreg\nclass Mine: pass\ndef rebuild(): return Mine()\ndef reduce(e): return rebuild, ()\n"
        "copyreg.pickle(Mine, reduce)\ndef f(): return Mine in copyreg.dispatch_table\n")
    look = call("eval", "ValueError in __import__('copyreg').dispatch_table")
    first, other, again, third = in_a_stream(m1, {"call": "registers.f"}, look, {"call": "registers.f"}, look)
    assert (other, third, first == again) == (False, False, True)
    pid = call("eval", "__import__('os').getpid()")
    a, b, c, d = in_a_stream(m1, {"call": "owns.f"}, pid, {"call": "owns.f"}, pid)
    assert (a, c, b == d) == (True, True, True), "what concerns only its own classes stays"


def test_what_an_import_sets_lasts_as_long_as_the_module(m1):
    (m1.work / "sets.py").write_text("import sys\nsys.setrecursionlimit(4321)\ndef f(): return sys.getrecursionlimit()\n")
    assert in_a_stream(m1, *[{"call": "sets.f"}] * 3) == [4321] * 3


class Patches:
    """Whoever unpickles it gets 7, and has textwrap.dedent replaced."""

    def __reduce__(self):
        return eval, ("setattr(__import__('textwrap'), 'dedent', len) or 7", {})


class PatchingFunction(Patches):
    def __reduce__(self):
        return eval, ("setattr(__import__('textwrap'), 'dedent', len) or abs", {})


@pytest.mark.parametrize("how", ["argument", "function"])
def test_what_is_set_while_a_call_is_unpickled(m1, how):
    look = frames.call(2, eval, "__import__('textwrap').dedent.__name__")
    if how == "argument":
        spoil = frames.call(1, abs, Patches())
    else:
        blob = pickle.dumps(PatchingFunction())
        digest = hashlib.sha256(blob).digest()
        spoil = frames.frame(frames.FUNC, 0, digest + blob) + frames.frame(
            frames.CALL, 1, struct.pack("<BBH", 1, 0, 0) + digest + pickle.dumps(((-7,), {})))
    m1.put("s", frames.MAGIC + spoil + look)
    answers = {i: pickle.loads(body) for kind, i, body in frames.frames((m1.results / "s").read_bytes()) if kind == frames.RESULT}
    assert answers == {1: 7, 2: "dedent"}


def test_what_a_package_sets_on_itself_is_its_own(m1):
    """So is what a module has given back, what it looks up late, and what an import binds: no worker leaves for that."""
    package = m1.work / "packed"
    package.mkdir()
    (package / "state.py").write_text("count = 0\n")
    (package / "late.py").write_text("def __getattr__(name):\n    if name == 'slow': return 5\n    raise AttributeError(name)\n")
    (package / "__init__.py").write_text(
        "import os\nfrom unittest import mock\nfrom packed import state, late\n"
        "def count():\n    state.count += 1\n    return [state.count, os.getpid()]\n"
        "def patch():\n    with mock.patch('textwrap.dedent', len): import textwrap; assert textwrap.dedent([1]) == 1\n"
        "    return os.getpid()\n")
    late = call("eval", "setattr(__import__('packed.late').late, 'slow', 5) or __import__('os').getpid()")
    bind = call("eval", "__import__('xml.dom.minidom') and __import__('os').getpid()")
    one, other, three, four, five = in_a_stream(m1, {"call": "packed.count"}, {"call": "packed.patch"}, late, bind,
                                                {"call": "packed.count"})
    assert [one[0], five[0]] == [1, 2]
    assert {one[1], other, three, four, five[1]} == {one[1]}


def test_descriptors_that_calls_leave_open(m1):
    leak = call("exec", "import os, resource; list(map(os.dup, [0] * 5)); "
                "resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= 4096 or list(map(os.dup, [0] * 50))")
    assert in_a_stream(m1, *[leak] * 500) == [None] * 500


def test_calls_that_were_sent_ahead_run_elsewhere_once(m):
    """A worker that is replaced in the middle of a lease takes nothing with it."""
    log = m.work / "log"
    spoil = "import os, threading, time; threading.Thread(target=time.sleep, args=(99,), daemon=True).start(); " \
            "os.write(os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT), b'.')" % str(log)
    count = 60
    answers = in_a_stream(m, *[call("exec", spoil), call("operator.neg", 1), call("operator.neg", 2)] * count)
    assert answers == [None, -1, -2] * count
    assert len(log.read_text()) == count
    wait_until(lambda: len(m.pids()["workers"]) <= 2, "the replaced workers to go")
    assert os.path.exists(log)


def test_why_tells_the_place(queue):
    """How many are before it: by priority, turn and age, wherever they may run."""
    m = queue
    os.mkdir(m.jobs / "G")
    (m.jobs / "G/.options").write_text("max=1")
    for name, options in (("a", ""), ("b", ""), ("first", "priority=1"), ("p", "memory=1M"), ("G/g", ""), ("G/h", ""), ("last", "priority=-1")):
        m.put(name, "#!/bin/sh\n#ppfs: %s\n" % options)
    m.put("pickle", (len, ("x",)))

    def place(name):
        found = re.search(r"; (\d+) of its user's jobs (is|are) before it$", m.why(name))
        assert not found or (found[1] == "1") == (found[2] == "is")
        return int(found[1]) if found else 0

    assert m.why("first").startswith("queued: ") and place("first") == 0 and place("last") == 7
    assert sorted(map(place, ("first", "a", "b", "p", "pickle", "G/g", "G/h", "last"))) == list(range(8))
    (m.info / "last/priority").write_text("2")
    assert place("last") == 0 and place("first") == 1
    for name in ("first", "last", "a"):
        os.unlink(m.jobs / name)
    assert sorted(map(place, ("b", "p", "pickle", "G/g", "G/h"))) == list(range(5))


def test_a_long_queue_is_not_counted_to_its_end(queue):
    m = queue
    os.mkdir(m.jobs / ".G")
    for i in range(1002):
        m.put(".G/%d" % i, "#!/bin/sh\n")
    os.rename(m.jobs / ".G", m.jobs / "G")
    wait_until(lambda: b" waiting 1002 " in m.sh("cat $M/info/G/.progress").stdout, "the group to be queued")
    assert m.why("G/1000").endswith("; 1000 of its user's jobs are before it")
    assert m.why("G/1001").endswith("; at least 1000 of its user's jobs are before it")
    m.sh("rm -r $M/jobs/G")
