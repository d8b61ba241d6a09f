"""What becomes of functions and arguments on their way to a worker that has no __main__ of ours. No mount is needed."""
import functools
import gc
import operator
import pickle
import subprocess
import sys
import threading
import types
import weakref

import pytest

import conftest
import ppfs._pickle.serialize
from ppfs._pickle.functions import FunctionCache
from ppfs._pickle.serialize import NAMES, PACKED, Serializer, describe, joined, packed
from ppfs._stream.frames import call_prefix
from ppfsmount import need_module

def worker(*steps):
    """Runs (function blob, pickled arguments) pairs in a fresh Python, as a worker does, and gives what they
    returned."""
    code = ("import pickle, sys\nout = []\nfor blob, args in pickle.load(sys.stdin.buffer):\n"
            "    f = pickle.loads(blob)\n    a, k = pickle.loads(args)\n    out.append(f(*a, **k))\n"
            "sys.stdout.buffer.write(pickle.dumps(out))\n")
    p = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(steps), stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, cwd="/")
    assert p.returncode == 0, p.stderr.decode()
    return pickle.loads(p.stdout)


def pack(data):
    head, tail = packed(data)
    return head + data + tail


def ready(serializer, func, *args, chunked=False, **more):
    sent = serializer.function(func, chunked=chunked, **more).sent(fresh=False)
    data = serializer.arguments(func, args, {})
    return sent.blob, pack(data) if sent.packed else data


def test_packed_arguments():
    for blob in (b"", b"x", bytes(70_000)):
        assert pickle.loads(pack(blob)) == ((blob,), {PACKED: True})


@pytest.mark.parametrize("what", [len, int, ValueError("x"), types.SimpleNamespace(a=1), {1: [pickle.dumps]}])
def test_what_names_anything_is_recognised(what):
    assert NAMES in pickle.dumps(what, 5) and NAMES not in pickle.dumps(({"a": (1, "b", 2.5, None)}, [b"c"]), 5)


def double(x):
    return 2 * x


def test_installed_functions_go_by_name():
    sent = Serializer().function(operator.add).sent(fresh=False)
    assert len(sent.blob) < 60 or sent.packed
    assert worker(ready(Serializer(), operator.add, 1, 2)) == [3]


def test_functions_of_a_module_that_the_worker_would_not_find():
    assert worker(ready(Serializer(), double, 21)) == [42]


@pytest.mark.parametrize("name", [None, "cloudpickle", "dill"])
def test_lambdas_and_closures(name):
    if name:
        need_module(name)
    n = 5
    assert worker(ready(Serializer(name), lambda x: x + n, 1)) == [6]


def test_chunks():
    blob, args = ready(Serializer(), double, [(1,), (2,), (3,)], chunked=True)
    assert worker((blob, args)) == [[2, 4, 6]]


def test_source():
    assert worker(ready(Serializer("source"), double, 4)) == [8]
    assert worker(ready(Serializer("source"), lambda x: x - 1, 4)) == [3]
    assert Serializer("source").function(abs).source is None, "every Python has that one by its name"


MAIN = """
import pickle, sys
sys.path.insert(0, sys.argv[1])
from ppfs._pickle.serialize import PACKED, Serializer
class Point:
    def __init__(self, x): self.x = x
def f(p): return p.x
sent, args = Serializer().function(f).sent(False), Serializer().arguments(f, (Point(3),), {})
sys.stdout.buffer.write(pickle.dumps((sent.blob, pickle.dumps(((args,), {PACKED: True})) if sent.packed else args)))
"""


def test_main_goes_by_value():
    p = subprocess.run([sys.executable, "-c", MAIN, str(conftest.SCRIPTS)], cwd="/", stdout=subprocess.PIPE)
    assert worker(pickle.loads(p.stdout)) == [3]


def test_without_cloudpickle_and_dill(monkeypatch):
    monkeypatch.setattr(ppfs._pickle.serialize, "module_of", lambda name: None)
    monkeypatch.setattr(double, "__module__", "__main__")
    serializer = Serializer()
    assert worker(ready(serializer, double, 4)) == [8], "sent as source"
    with pytest.raises(pickle.PicklingError, match="cloudpickle"):
        Serializer("pickle").function(double, initializer=print)


def test_unpicklable_is_named():
    serializer = Serializer()
    lock = threading.Lock()
    with pytest.raises(pickle.PicklingError, match=r"argument 2 of test_serialize.double.*lock"):
        serializer.arguments(double, (1, lock), {})
    with pytest.raises(pickle.PicklingError, match=r"argument key of test_serialize.double.*\[2\]\['deep'\]"):
        serializer.arguments(double, (), {"key": [1, 2, {"deep": lock}]})
    with pytest.raises(pickle.PicklingError, match="function .*<lambda>"):
        serializer.function(lambda: lock)
    with pytest.raises(pickle.PicklingError, match="lock"):
        serializer.call(functools.partial(double, lock), (), {})


def test_unknown_serializer():
    with pytest.raises(ValueError, match="yaml"):
        Serializer("yaml")


def cache():
    return FunctionCache(Serializer(), lambda digest: call_prefix(b"", digest))


def test_functions_are_made_ready_once():
    c = cache()
    assert c.find(double) is c.find(double)
    assert c.find(double).sent.digest == cache().find(double).sent.digest
    assert c.find(functools.partial(double, 1)) is None and c.find([].append) is None


def test_what_a_function_refers_to_is_looked_at():
    space = types.ModuleType("__main__").__dict__
    space["X"] = 1
    exec("def f(): return X\ndef make(n):\n    def g(): return n\n    def up():\n        nonlocal n\n        n += 1\n"
         "    return g, up\nL = []\ndef h(v): return lambda: v", space)
    c = cache()
    first = c.find(space["f"]).sent
    assert c.find(space["f"]).sent is first
    space["X"] = 2
    assert c.find(space["f"]).sent.digest != first.digest
    g, up = space["make"](1)
    first = c.find(g).sent
    assert c.find(g).sent is first
    up()
    assert c.find(g).sent.digest != first.digest
    held = [1]
    k = space["h"](held)
    first = c.find(k).sent
    held.append(2)
    assert c.find(k).sent.digest != first.digest


def test_what_cannot_change_is_not_pickled_again(monkeypatch):
    """Nor kept by more than a look at it."""
    made = []
    real = Serializer.function
    monkeypatch.setattr(Serializer, "function", lambda *a, **kw: made.append(1) or real(*a, **kw))
    space = types.ModuleType("__main__").__dict__
    exec("import math, re\nN = 2\nRE = re.compile('a')\nD = {1: [2]}\ndef f(x): return N * g(x), RE\n"
         "def g(x: int, y=(1, 'a')) -> int: return math.sin(x)\ndef h(): return D\n"
         "class C:\n    k = 1\n    def m(self): return f(1)\ndef k(): return C", space)
    c = cache()
    for name in ("f", "g", "h", "C", "k"):
        made.clear()
        first = c.find(space[name]).sent
        assert all(c.find(space[name]).sent is first for _ in range(3)) and len(made) == 1, name


def test_what_calls_could_change_is_loaded_anew():
    space = types.ModuleType("__main__").__dict__
    exec("N = 1\nL = []\ndef pure(): return N, len('a')\ndef adds(): L.append(1); return len(L)\n"
         "def counts():\n    global N\n    N += 1\n    return N", space)
    for name, want in (("pure", [(1, 1)] * 3), ("adds", [1] * 3), ("counts", [2] * 3)):
        blob, args = cache().find(space[name]).sent.blob, pickle.dumps(((), {}))
        assert worker(*[(blob, args)] * 3) == want
        code = "import pickle, sys\nf = pickle.load(sys.stdin.buffer)\nprint([f() for _ in range(3)])"
        p = subprocess.run([sys.executable, "-c", code], input=blob, stdout=subprocess.PIPE, cwd="/")
        assert p.stdout.decode().strip() == repr(want), name


def test_forgotten_functions_are_forgotten():
    c = cache()
    for i in range(10):
        c.find(lambda: i)
        c.find_with(lambda: i, (), (("friend", lambda: i),))
    assert len(c._entries) == 0

    def of(n):
        def fact(i):
            return 1 if i < 2 else i * n * fact(i - 1)
        return fact
    f = of(5)
    gone = weakref.ref(f)
    c.find(f)
    del f
    gc.collect()
    assert gone() is None and len(c._entries) == 0, "one that refers to itself"


def test_no_more_than_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr("ppfs._pickle.functions.MOST", 8)
    c, kept = cache(), [(lambda i=i: i) for i in range(30)]
    for f in kept:
        assert c.find(f) is c.find(f)
    assert len(c._entries) <= 8


def test_a_function_that_changes_goes_along_with_its_call():
    """So that not every state of it is kept until the stream ends; what stays the same is sent once."""
    space = types.ModuleType("__main__").__dict__
    exec("N = 0\ndef f(): return N", space)
    c, along = cache(), []
    for n in (0, 0, 1, 2, 2, 2, 0):
        space["N"] = n
        along.append(c.find(space["f"]).along)
    assert along == [False, False, True, True, False, False, True]
    for blob in (pickle.dumps(((5,), {})), pack(pickle.dumps(((5,), {})))):
        assert pickle.loads(joined(pickle.dumps(abs), blob))[0] is abs


def test_edited_modules_are_sent_anew(tmp_path, monkeypatch):
    path = tmp_path / "edited_module.py"
    path.write_text("def f(): return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import edited_module
    first = Serializer().function(edited_module.f).sent(False).digest
    path.write_text("def f(): return 2  # longer\n")
    assert Serializer().function(edited_module.f).sent(False).digest != first
    del sys.modules["edited_module"]


def set_up(n):
    global NUMBER
    NUMBER = n


def number():
    return NUMBER


def number_twice():
    return 2 * NUMBER


def test_initializer_runs_once_in_a_worker():
    marks = []
    init = {"initializer": set_up, "initargs": (21,), "init_key": "k"}
    first, second = (ready(Serializer(), f, **init) for f in (number, number_twice))
    assert worker(first, first, second) == [21, 21, 42]
    space = types.ModuleType("__main__").__dict__
    exec("import os\ndef init(n):\n    global X\n    X = n\n    os.environ['N'] = os.environ.get('N', '') + 'i'\n"
         "def f(): return X\ndef g(): return X + 1, os.environ['N']\nX = None", space)
    init = {"initializer": space["init"], "initargs": (5,), "init_key": "k2"}
    first, second = (ready(Serializer(), space[f], **init) for f in "fg")
    assert worker(first, first, second, second) == [5, 5, (6, "i"), (6, "i")]
    assert marks == []


def test_other_python_versions_are_refused(monkeypatch):
    monkeypatch.setattr(ppfs._pickle.serialize, "THIS_VERSION", (3, 99))
    blob, args = ready(Serializer("cloudpickle"), lambda x: x, 1)
    with pytest.raises(AssertionError, match="sent by Python 3.99"):
        worker((blob, args))


def test_describe():
    class Odd:
        def __repr__(self):
            raise ValueError
    assert describe(abs) == "builtins.abs" and describe(5) == "a int, 5" and "Odd" in describe(Odd())
    assert len(describe("x" * 1000)) < 120


def test_modules_are_found_for_the_call_only(tmp_path, monkeypatch):
    """A worker whose sys.path a call leaves changed has to put everything in order before the next."""
    (tmp_path / "beside_the_program.py").write_text("import sys\ndef f(x): return x, list(sys.path)\nclass C: pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import beside_the_program
    look = pickle.dumps(eval), pickle.dumps((("list(__import__('sys').path)",), {}))
    before, (one, during), after, (two, _), last = worker(
        look, ready(Serializer(), beside_the_program.f, 1), look,
        ready(Serializer(), beside_the_program.f, beside_the_program.C), look)
    assert before == after == last and str(tmp_path) in during and str(tmp_path) not in before
    assert one == 1 and two is beside_the_program.C
