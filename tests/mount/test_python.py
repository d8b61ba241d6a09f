"""Python in warm workers behaves as python3 would: scripts, calls, packages, virtual environments."""
import json
import os
import pickle
import re
import subprocess
import sys

import pytest
from ppfsmount import PYTHON, SLOW, need_module
from processes import alive

VERSION = "%d.%d" % sys.version_info[:2]


# --- every job is a fresh process as far as it can tell ----------------------------------------------------------

@pytest.mark.parametrize("what", ["__import__('random').random()", "__import__('uuid').uuid4().hex",
                                  "__import__('secrets').token_hex()",
                                  "__import__('tempfile').mktemp()"], ids=["random", "uuid", "secrets", "tempfile"])
def test_random_differs_between_jobs(m, what):
    for i in range(12):
        m.put("c%d" % i, (eval, (what,)))
        m.put("s%d" % i, "print(%s)\n" % what)
    seen = ({str(pickle.loads(m.result("c%d" % i))) for i in range(12)} |
            {m.result("s%d" % i).decode().strip() for i in range(12)})
    assert len(seen) == 24


def test_numpy_random_differs_between_jobs(m):
    need_module("numpy")
    for i in range(6):
        m.put("c%d" % i, (eval, ("__import__('numpy').random.rand()",)))
        m.put("s%d" % i, "import numpy\nprint(numpy.random.rand())\n")
    seen = ({str(pickle.loads(m.result("c%d" % i))) for i in range(6)} |
            {m.result("s%d" % i).decode().strip() for i in range(6)})
    assert len(seen) == 12


def test_numpy(m):
    numpy = need_module("numpy")
    a = numpy.arange(10_000, dtype="f8").reshape(100, 100)
    assert (m.call("x", (numpy.dot, (a, a))) == a.dot(a)).all()
    m.put("y", "import numpy\nprint(numpy.linalg.det(numpy.eye(50)))\n")
    assert m.result("y") == b"1.0\n"


# --- a worker's second script runs in a process that was made ahead, and its end is told before that has gone --------

ORPHAN = """import os, subprocess
if os.fork() == 0:
    p = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    open("pid", "w").write(str(p.pid))
    os._exit(0)
os.wait()
"""
ENDINGS = {
    "plain": ("", "done", ""),
    "status": ("raise SystemExit(3)", "failed", "exit status 3"),
    "sentence": ("raise SystemExit('enough')", "failed", "exit status 1"),
    "raises": ("1/0", "failed", "ZeroDivisionError"),
    "os._exit": ("import os; os._exit(4)", "failed", "exit status 4"),
    "killed": ("import os; os.kill(os.getpid(), 11)", "failed", "SIGSEGV"),
    "thread": ("import threading, time; threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()", "done", ""),
    "child": ("import subprocess; p = subprocess.Popen(['sleep', '1000']); open('pid', 'w').write(str(p.pid))", "done", ""),
    "orphan": (ORPHAN, "done", ""),
    "closed": ("import os; os.closerange(3, 1000)", "done", ""),
    "false end": ("import os, time\nfor fd in range(3, 300):\n  try: os.write(fd, b'x')\n  except OSError: pass\ntime.sleep(0.2)",
                  "done", ""),
}


@pytest.mark.parametrize("ending", ENDINGS, ids=list(ENDINGS))
def test_the_end_of_a_script(new_mount, ending):
    text, state, why = ENDINGS[ending]
    m = new_mount(cpus=1).start()
    m.put("first.py", "print(1)\n")
    m.result("first.py")
    m.put("x.py", "print('begins', flush=True)\n" + text + "\n")
    assert m.wait("x.py") == state and why in m.why("x.py")
    assert (m.info / "x.py" / "stdout").read_bytes() == b"begins\n"
    if (m.work / "pid").exists():
        assert not alive(int((m.work / "pid").read_text())), "what the script left lives on"
    m.put("next.py", "import os; print(os.listdir('/proc/self/fd') and 'next')\n")
    assert m.result("next.py") == b"next\n"


# --- standard output ---------------------------------------------------------------------------------------------

OUTPUT = """import ctypes, os, subprocess, sys
print("print", flush=True)
os.write(1, b"write\\n")
os.system("echo system")
subprocess.run(["echo", "subprocess"])
ctypes.CDLL(None).puts(b"puts")
sys.stdout.buffer.write(b"buffer\\n")
sys.stderr.write("complaint\\n")
ctypes.CDLL(None).printf(b"no newline")
"""


@pytest.mark.parametrize("kind", ["call", "script"])
def test_output_of_c_libraries(m, kind):
    m.put("x", (exec, (OUTPUT,)) if kind == "call" else OUTPUT)
    assert m.wait("x") == "done"
    out = (m.info / "x/stdout").read_bytes()
    assert sorted(out.replace(b"no newline", b"").split()) == sorted(
        [b"print", b"write", b"system", b"subprocess", b"puts", b"buffer"]) and out.count(b"no newline") == 1
    assert m.get("x", "stderr") == "complaint"


def test_unicode(m):
    m.put("x", "import sys\nprint('grüße 日本', sys.stdout.encoding, open('/dev/null').encoding)\n")
    assert m.result("x").decode().lower() == "grüße 日本 utf-8 utf-8\n"


def test_bytes_that_are_no_text(m):
    data = bytes(range(256)) * 10
    m.put("x", "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 10)\n")
    assert m.result("x") == data


# --- scripts -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, status", [("sys.exit()", 0), ("sys.exit(0)", 0), ("sys.exit(3)", 3),
                                          ("sys.exit('message')", 1),
                                          ("raise SystemExit", 0), ("exit(4)", 4), ("os._exit(5)", 5),
                                          ("sys.exit(256 + 6)", 6),
                                          ("raise KeyboardInterrupt", None), ("os.abort()", "SIGABRT"),
                                          ("os.kill(os.getpid(), 9)", "SIGKILL")])
def test_exit(m, code, status):
    m.put("x", "import os, sys\nprint('output', flush=True)\n%s\nprint('not reached')\n" % code)
    state = m.wait("x")
    assert m.get("x", "stdout") == "output"
    assert state == ("done" if status == 0 else "failed")
    if status is not None:
        assert m.get("x", "exit") == str(status)
    if code == "sys.exit('message')":
        assert m.get("x", "stderr") == "message"


def test_traceback_shows_the_lines(m):
    m.put("prog.py",
          "def inner():\n    raise ValueError('reason')  # the line\n\ndef outer():\n    inner()\n\nouter()\n")
    text = m.failed("prog.py")
    assert "ValueError" in text.split("\n")[0] or "exit status 1" in text.split("\n")[0]
    assert "line 2, in inner" in text and "raise ValueError('reason')  # the line" in text
    assert "line 7, in <module>" in text
    assert text.count("File ") == 3, "a frame of ours shows: " + text


def test_traceback_of_a_call_shows_no_frame_of_ours(m):
    m.put("x", (json.loads, ("[",)))
    text = m.failed("x")
    assert "JSONDecodeError" in text.split("\n")[0]
    assert text.count("File ") == text.count("/json/")


def test_syntax_error(m):
    m.put("x", "print('a')\nif True print('b')\n")
    text = m.failed("x")
    assert "SyntaxError" in text and "line 2" in text


def test_atexit_and_threads(m):
    m.put("x", "import atexit, threading, time\natexit.register(print, 'atexit')\n"
          "t = threading.Thread(target=lambda: (time.sleep(0.1), print('thread')))\nt.start()\nprint('main')\n")
    assert m.result("x") == b"main\nthread\natexit\n"


def test_atexit_after_an_error(m):
    m.put("x", "import atexit\natexit.register(print, 'atexit')\n1/0\n")
    m.failed("x")
    assert m.get("x", "stdout") == "atexit"


def test_main_module(m):
    m.put("x", "import sys, __main__, pickle\ndef f(): return 5\nclass C: pass\n"
          "print(__main__.f(), sys.modules['__main__'].__file__, pickle.loads(pickle.dumps(f))(), "
          "type(pickle.loads(pickle.dumps(C()))).__name__)\n")
    assert m.result("x") == b"5 x 5 C\n" or m.result("x").split()[0::2] == [b"5", b"5"]


def test_imports_from_where_the_writer_was(m):
    (m.work / "mymodule.py").write_text("value = 42\n\ndef double(x):\n    return 2 * x\n")
    m.put("x", "import mymodule\nprint(mymodule.value)\n")
    assert m.result("x") == b"42\n"
    m.put("y", {"call": "mymodule.double", "args": [21]})
    assert json.loads(m.result("y")) == 42
    m.put("z", b"\x80\x02cmymodule\ndouble\nq\x00K\x05\x85q\x01\x86q\x02.")
    assert pickle.loads(m.result("z")) == 10


def test_a_changed_module_is_seen_by_the_next_script(m):
    for value in range(3):
        (m.work / "mymodule.py").write_text("value = %d  #%s\n" % (value, " " * value))
        m.put("x", "import mymodule\nprint(mymodule.value)\n")
        assert m.result("x") == b"%d\n" % value


def test_multiprocessing(m):
    m.put("x", "import multiprocessing\ndef square(x): return x * x\nif __name__ == '__main__':\n"
          "    with multiprocessing.get_context('fork').Pool(3) as pool: print(sum(pool.map(square, range(100))))\n")
    assert m.result("x") == b"328350\n"


def test_subprocess_and_signals(m):
    m.put("x",
          "import signal, subprocess, sys\n"
          "print(subprocess.run([sys.executable, '-c', 'print(6*7)'], capture_output=True, text=True))\n"
          "print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, "
          "signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n")
    out = m.result("x").decode()
    assert "42" in out and out.endswith("True True\n")


def test_asyncio_and_threads_in_a_call(m):
    code = ("import asyncio\nfrom concurrent.futures import ThreadPoolExecutor\n"
            "async def main():\n await asyncio.sleep(0.01)\n return 5\n"
            "assert asyncio.run(main()) == 5\n"
            "with ThreadPoolExecutor(4) as e: assert sum(e.map(abs, range(-10, 0))) == 55\n")
    for i in range(4):
        m.put("x%d" % i, (exec, (code, {})))
    for i in range(4):
        assert pickle.loads(m.result("x%d" % i)) is None
    m.works()


def test_fork_in_a_call(m):
    """A child that comes back out of the call by mistake does not answer in its parent's place."""
    m.put("x", (eval, ("(lambda os: (os.getpid() if os.fork() else 'the child'))(__import__('os'))",)))
    assert isinstance(pickle.loads(m.result("x")), int)
    m.works()


def test_source_encodings(m):
    m.put("bom", b"\xef\xbb\xbfprint('bom')\n")
    m.put("crlf", b"print('cr')\r\nprint('lf')\r\n")
    m.put("cookie", b"# -*- coding: utf-8 -*-\nprint('\xc3\xa4')\n")
    m.put("nonl", b"print('no newline')")
    assert m.result("bom") == b"bom\n" and m.result("crlf") == b"cr\nlf\n"
    assert m.result("cookie") == b"\xc3\xa4\n" and m.result("nonl") == b"no newline\n"


def test_future_and_flags_do_not_leak(m):
    m.put("x", "from __future__ import annotations\ndef f(a: nosuchname): pass\nprint(f.__annotations__)\n")
    assert m.result("x") == b"{'a': 'nosuchname'}\n"
    m.put("y", "def f(a: int): pass\nprint(f.__annotations__)\n")
    assert m.result("y") == b"{'a': <class 'int'>}\n"


# --- results -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("value", ["None", "1 << 3000", "float('nan')", "'\\ud800'", "b'\\x00' * 100_000",
                                   "{1: (2, [3, {4}])}",
                                   "__import__('datetime').date(2020, 1, 1)", "__import__('fractions').Fraction(1, 3)",
                                   "range(5)"])
def test_values_of_calls(m, value):
    assert repr(m.call("x", (eval, (value,)))) == repr(eval(value))


@pytest.mark.parametrize("value, text", [("1 << 70", str(1 << 70)), ("'ä\\u2028'", None), ("[1.5, None, True]", None),
                                         ("(1, 2)", "[1, 2]"), ("{'a': {}}", None), ("''", '""')])
def test_values_of_json_calls(m, value, text):
    m.put("x", {"call": "eval", "args": [value]})
    answer = json.loads(m.result("x"))
    assert answer == (json.loads(text) if text else eval(value))


def test_exception_group_and_chain(m):
    m.put("x", "try:\n    1/0\nexcept ZeroDivisionError as e:\n    raise KeyError('second') from e\n")
    text = m.failed("x")
    assert "ZeroDivisionError" in text and "direct cause" in text and "KeyError: 'second'" in text


# --- virtual environments ----------------------------------------------------------------------------------------

@pytest.fixture
def venv(base):
    path = base / "venv"
    subprocess.run([PYTHON, "-m", "venv", "--without-pip", str(path)], check=True, timeout=60 * SLOW,
                   capture_output=True)
    (path / ("lib/python%s/site-packages/onlyhere.py" % VERSION)).write_text("def where():\n    return 'in the venv'\n")
    return path


@pytest.mark.parametrize("given", ["directory", "interpreter", "VIRTUAL_ENV"])
def test_venv(new_mount, venv, given):
    options = {"directory": ["--python", venv], "interpreter": ["--python", venv / "bin/python3"],
               "VIRTUAL_ENV": []}[given]
    m = new_mount(options=options, env={"VIRTUAL_ENV": str(venv)} if given == "VIRTUAL_ENV" else {}).start()
    m.put("x", {"call": "onlyhere.where"})
    assert json.loads(m.result("x")) == "in the venv"
    m.put("y", "import onlyhere, sys\nprint(sys.prefix, sys.prefix != sys.base_prefix)\n")
    assert m.result("y").decode() == "%s True\n" % venv


def test_without_a_venv(m):
    m.put("x", "import sys\nprint(sys.prefix == sys.base_prefix, '%d.%d' % sys.version_info[:2])\n")
    assert m.result("x").decode() == "True %s\n" % VERSION
    m.put("y", {"call": "onlyhere.where"})
    assert "onlyhere" in m.failed("y").split("\n")[0]


def test_python_given_as_an_interpreter(new_mount):
    m = new_mount(options=["--python", PYTHON]).start()
    m.put("x", "import sys\nprint(sys.version_info[:2])\n")
    assert m.result("x").decode() == "%r\n" % (sys.version_info[:2],)


def test_venv_of_another_version_is_refused(new_mount, venv):
    m = new_mount(options=["--python", venv])
    cfg = (venv / "pyvenv.cfg").read_text()
    (venv / "pyvenv.cfg").write_text(re.sub(r"(?m)^version\b.*$", "version = 3.7.4", cfg))
    p = m.run()
    assert p.returncode == 1 and p.stderr.count("\n") == 1
    assert "3.7" in p.stderr and VERSION in p.stderr and str(venv) in p.stderr
    assert not m.marked()


def test_interpreter_of_another_version_is_refused(new_mount):
    m = new_mount()
    fake = m.base / "python3"
    fake.write_text("#!/bin/sh\necho 3.7\n")
    fake.chmod(0o755)
    m.options = ["--python", str(fake)]
    p = m.run()
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and str(fake) in p.stderr


def test_environment_of_the_tester_does_not_matter(new_mount):
    """PYTHONHOME or PYTHONSTARTUP set wrongly for another Python do not break the workers."""
    m = new_mount(env={"PYTHONSTARTUP": "/nowhere", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}).start()
    m.works()


def test_worker_is_reused(m1):
    """Calls run warm: many of them share a worker process."""
    m = m1
    pids = {m.call("x%d" % i, (os.getpid,)) for i in range(20)}
    assert len(pids) <= 3


def test_a_script_finds_no_descriptors_of_its_worker(m1):
    """In the first one, in one whose process was made ahead, and in a Python of its own."""
    look = "import os\nprint(sorted(os.path.basename(os.readlink('/proc/self/fd/' + f)) for f in os.listdir('/proc/self/fd')\n" \
           "             if int(f) > 2 and os.path.exists('/proc/self/fd/' + f)))\n"
    seen = []
    for n, line in enumerate(["", "", "", "#ppfs: env=LANG:C\n"]):
        m1.put("x%d.py" % n, line + look)
        seen.append(m1.result("x%d.py" % n))
    assert not [s for s in seen if b"ppfs-" in s], seen
