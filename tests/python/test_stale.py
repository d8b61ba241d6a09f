"""Each call does what its function would do here at the moment of its submit(): whatever has changed since the last one.

One program holds a table of cases. Each is a few definitions, then steps; after each step the same call is made in all
ways. What they must give is what plain Python gives at that moment: no call finds what another has left. The program run
by hand with the word loky says where joblib's own workers do otherwise.
"""
import pytest

from ppfsmount import need_module

TABLE = r'''
CASES = {
    "a global": ("k = 1\ndef f(x): return x + k", "f", ["pass", "k = 2", "k = 2", "k = 1", "k += 1000"]),
    "a global dict": ("d = {'k': 1}\ndef f(x): return x + d['k']", "f", ["pass", "d['k'] = 2", "d = {'k': 3}", "d.clear(); d['k'] = 1"]),
    "a list in a dict in a tuple": ("t = ({'k': [1]},)\ndef f(x): return x, t[0]['k']", "f", ["pass", "t[0]['k'].append(2)", "t[0]['k'] = []"]),
    "two lists or the same twice": ("a = []; t = [a, a]\ndef f(x): t[0].append(x); return t[1]", "f", ["pass", "t[1] = []", "t[1] = t[0]"]),
    "two names of one list": ("a = b = []\ndef f(x): a.append(x); return b", "f", ["pass", "b = []", "b = a"]),
    "a function two below": ("def rate(): return 3\ndef price(n): return n * rate()\ndef f(n): return price(n) + 1", "f",
                             ["pass", "def rate(): return 7", "def price(n): return -n", "rate = lambda: 1"]),
    "a function that comes later": ("def f(x): return later(x)", "f", ["pass", "def later(x): return x * 2", "del later"]),
    "a builtin that is hidden": ("def f(x): return len([x])", "f", ["pass", "len = lambda x: -1", "del len"]),
    "its code": ("def g(x): return -x\ndef f(x): return x", "f", ["pass", "f.__code__ = g.__code__"]),
    "a default": ("def f(x, y=1): return x, y", "f", ["pass", "f.__defaults__ = (2,)", "f.__defaults__ = None\ndef f(x): return 0"]),
    "a default that changes": ("l = [0]\ndef f(x, y=l): return x, y", "f", ["pass", "l.append(1)", "l.clear()"]),
    "a default that calls change": ("def f(x, y=[]): y.append(x); return y", "f", ["pass", "pass", "f.__defaults__[0].append(7)"]),
    "a keyword's default": ("def f(x, *, y=1): return x, y", "f", ["pass", "f.__kwdefaults__['y'] = 2", "f.__kwdefaults__ = {'y': 3}"]),
    "a keyword's default that changes": ("l = []\ndef f(x, *, y=l): return x, y", "f", ["pass", "l.append(1)"]),
    "an attribute": ("def f(x): return f.n, x\nf.n = 1", "f", ["pass", "f.n = 2", "f.n = [1]", "f.n.append(2)"]),
    "an attribute that calls set": ("def f(x):\n    f.n = getattr(f, 'n', 0) + 1\n    return f.n", "f", ["pass", "pass", "f.n = 5"]),
    "a global that calls count": ("n = 0\ndef f(x):\n    global n\n    n += 1\n    return n", "f", ["pass", "pass", "n = 10", "pass"]),
    "a global list that calls empty": ("l = [1, 2, 3]\ndef f(x): return l.pop()", "f", ["pass", "pass", "l.append(4)"]),
    "a closure": ("def make(n):\n    def g(x): return x + n\n    def up():\n        nonlocal n\n        n += 1\n    return g, up\nf, up = make(1)", "f",
                  ["pass", "up()", "f, up = make(5)", "up()"]),
    "a closure that calls count": ("def make(n):\n    def g(x):\n        nonlocal n\n        n += x\n        return n\n    return g\nf = make(1)", "f", ["pass", "pass"]),
    "a closure over a list": ("l = [1]\ndef make(l): return lambda x: (x, l)\nf = make(l)", "f", ["pass", "l.append(2)", "l[0] = 5"]),
    "a closure over a function": ("def make(g):\n    def f(x): return g(x) + 1\n    return f\nn = 1\ndef g(x): return x * n\nf = make(g)", "f", ["pass", "n = 2", "g.__code__ = (lambda x: 0).__code__"]),
    "a closure over itself": ("def make(k):\n    def fact(n): return 1 if n < 2 else k * n * fact(n - 1)\n    return fact\nf = make(1)", "f", ["pass", "f = make(2)"]),
    "a decorated function": ("import functools\nk = 1\ndef deco(g):\n    @functools.wraps(g)\n    def inner(*a): return g(*a) + k\n    return inner\n@deco\ndef f(x): return x * k", "f",
                             ["pass", "k = 2", "f.__wrapped__.__defaults__ = (1,)"]),
    "a cached function": ("import functools\nk = 1\n@functools.lru_cache()\ndef g(x): return x * k\ndef f(x): return g.__wrapped__(x)", "f", ["pass", "k = 2", "g.__wrapped__.__code__ = (lambda x: 5).__code__"]),
    "a class": ("class C:\n    k = 1\n    def __init__(self, x): self.x = x\n    def get(self): return self.x * self.k\ndef f(x): return C(x).get()", "f",
                ["pass", "C.k = 2", "C.k = 1", "C.get = lambda self: -1", "class C:\n    def __init__(self, x): self.x = x\n    def get(self): return 0"]),
    "a class with a list": ("class C:\n    l = []\n    def add(self, x): self.l.append(x); return list(self.l)\ndef f(x): return C().add(x)", "f", ["pass", "pass", "C.l.append(1)", "C.l = []"]),
    "a class below another": ("class B:\n    k = 1\nclass C(B):\n    pass\ndef f(x): return C.k + x", "f", ["pass", "B.k = 2", "C.k = 3", "B.k = 4"]),
    "static, class methods, properties": ("class C:\n    n = 1\n    @staticmethod\n    def s(): return k\n    @classmethod\n    def c(cls): return cls.n\n    @property\n    def p(self): return k\nk = 1\n"
                                          "def f(x): return C.s(), C.c(), C().p", "f", ["pass", "k = 2", "C.n = 3", "C.s = staticmethod(lambda: 9)", "C.p = property(lambda self: 8)"]),
    "a dataclass": ("import dataclasses\n@dataclasses.dataclass\nclass C:\n    x: int\n    k: int = 1\ndef f(x): return C(x).x, C(x).k", "f", ["pass", "C.__init__.__defaults__ = (2,)"]),
    "an attribute of a class that goes": ("class B:\n    k = 9\nclass C(B):\n    k = 1\ndef f(x): return C.k", "f", ["pass", "del C.k", "C.k = 3", "del C.k"]),
    "an attribute of a class that calls set": ("class C: pass\ndef f(x):\n    C.n = getattr(C, 'n', 0) + x\n    return C.n", "f", ["pass", "pass", "C.n = 1"]),
    "one object of a class": ("class C:\n    one = None\n    def __new__(cls):\n        if cls.one is None: cls.one = super().__new__(cls); cls.one.n = 0\n        cls.one.n += 1\n        return cls.one\n"
                              "def f(x): return C().n", "f", ["pass", "pass"]),
    "what an enumeration holds": ("import enum\nclass E(enum.Enum):\n    a = [1]\ndef f(x): E.a.value.append(x); return E.a.value", "f", ["pass", "pass", "E.a.value.append(9)"]),
    "a keyword's default that calls set": ("def f(x, *, y=1): f.__kwdefaults__['y'] += 1; return y", "f", ["pass", "pass"]),
    "globals by another way": ("import sys\nk = 1\ndef f(x): f.__globals__['k'] += 1; sys._getframe().f_globals['k'] += 1; return k", "f", ["pass", "pass"]),
    "globals by a name": ("k = 1\ndef f(x): getattr(f, '__globals__')['k'] += 1; return k", "f", ["pass", "pass"]),
    "annotations that calls set": ("def f(x: int): f.__annotations__['n'] = f.__annotations__.get('n', 0) + x; return f.__annotations__['n']", "f", ["pass", "pass"]),
    "names of the main module": ("def f(x):\n    import __main__\n    __main__.of_f = getattr(__main__, 'of_f', 0) + x\n    return __main__.of_f", "f", ["pass", "pass"]),
    "an enumeration": ("import enum\nclass E(enum.Enum):\n    a = 1\ndef f(x): return E.a.value + x", "f", ["pass", "class E(enum.Enum):\n    a = 2"]),
    "an object": ("class C:\n    pass\no = C(); o.n = 1\ndef f(x): return o.n + x", "f", ["pass", "o.n = 2", "o.n += 1"]),
    "an object of a module": ("import fractions, random\nr = random.Random(1)\ndef f(x): return r.random()", "f", ["pass", "pass", "r.seed(2)", "r.random()"]),
    "a bound method": ("class C:\n    def __init__(self, n): self.n = n\n    def get(self, x): return self.n + x\no = C(1)", "o.get", ["pass", "o.n = 2", "o = C(3)", "C.get = lambda self, x: 0"]),
    "a callable object": ("class C:\n    n = 1\n    def __call__(self, x): return self.n + x\nf = C()", "f", ["pass", "f.n = 2", "C.n = 3; del f.n"]),
    "the class itself": ("class C(int):\n    def __new__(cls, x): return k + x\nk = 1", "C", ["pass", "k = 2", "C.__new__ = staticmethod(lambda cls, x: 0)"]),
    "a partial": ("import functools\nk = 1\ndef g(a, x): return a, x, k\nl = [1]\nf = functools.partial(g, l)", "f", ["pass", "l.append(2)", "k = 2", "f.args[0].clear()"]),
    "a function in a dict": ("d = {'up': lambda x: x + 1}\ndef f(x): return d['up'](x)", "f", ["pass", "d['up'] = lambda x: x - 1"]),
    "a module": ("import math\ndef f(x): return math.floor(x + 0.5)", "f", ["pass", "import operator as math; math.floor = None; del math.floor; import math"]),
    "a submodule": ("import xml\ndef f(x): return xml.sax.saxutils.escape('<')", "f", ["import xml.sax.saxutils"]),
    "a set and a bytearray": ("s = {1}; b = bytearray(2)\ndef f(x): return sorted(s), bytes(b)", "f", ["pass", "s.add(2)", "b[0] = 1"]),
    "annotations": ("import typing\ndef f(x: 'int', y: typing.Optional[int] = None) -> int: return x, f.__annotations__['x']", "f", ["pass", "f.__annotations__['x'] = 'float'"]),
    "its path": ("def f(x):\n    import beside_1\n    return beside_1.K", "f", ["import sys; sys.path.append(where)"]),
}


def plain(call, path):
    """What plain Python gives, in a child: what the call changes stays there."""
    pid = os.fork()
    if pid == 0:
        try:
            with open(path, "wb") as file:
                pickle.dump(outcome(call), file)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    with open(path, "rb") as file:
        return pickle.load(file)


def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__
'''

PROGRAM = TABLE + r'''
def run(kind, where, loky):
    ex = ppfs.Executor()
    server = pp.Server()
    ppfs.joblib.register()
    with joblib.parallel_backend("ppfs"), joblib.Parallel(n_jobs=2) as parallel:
        go_through(kind, where, loky, ex, server, parallel)
    server.destroy()
    ex.shutdown()


def go_through(kind, where, loky, ex, server, parallel):
    main = sys.modules["__main__"].__dict__
    path = list(sys.path)
    for case, (setup, name, steps) in CASES.items():
        space = main if kind == "main" else {"__name__": "__main__"}
        before = dict(space)
        space["where"] = where
        sys.path[:] = path
        exec(setup, space)
        template = (None, None)
        for at, step in enumerate(steps):
            exec(step, space)
            f = eval(name, space)
            want = plain(lambda: f(3), where + "/plain")
            if template[0] is not f:
                template = f, pp.Template(server, f)
            ways = {"submit": lambda: ex.submit(f, 3).result(), "Template": lambda: template[1].submit(3)(),
                    "again": lambda: ex.submit(f, 3).result(), "map": lambda: list(ex.map(f, [3, 3]))[1],
                    "chunks": lambda: list(ex.map(f, [3], chunksize=2))[0], "pp": lambda: server.submit(f, (3,))(),
                    "joblib": lambda: parallel([joblib.delayed(f)(3)])[0],
                    "loky": lambda: get_reusable_executor(max_workers=1).submit(f, 3).result()}
            if kind == "other":
                ways = {way: ways[way] for way in ("submit", "Template")}
            if not loky:
                ways.pop("loky", None)
            for way, call in ways.items():
                value = outcome(call)
                if value != want or type(value) is not type(want):
                    print("%s, step %d (%s), %s: %r, not %r" % (case, at, step, way, value, want))
        space.clear()
        space.update(before)


if __name__ == "__main__":
    import os, pickle, sys, warnings
    warnings.simplefilter("ignore")
    import joblib, ppfs
    import ppfs.pp as pp
    from joblib.externals.loky import get_reusable_executor
    run(sys.argv[1], sys.argv[2], "loky" in sys.argv)
'''


@pytest.mark.limit(120)
@pytest.mark.parametrize("kind", ["main", "other"])
def test_each_call_has_its_function_as_it_is(run, m, kind):
    need_module("cloudpickle")
    need_module("joblib")
    (m.base / "lib").mkdir()
    (m.base / "lib" / "beside_1.py").write_text("K = 5\n")
    assert run(PROGRAM, kind, m.base / "lib") == ""


RELOADS = r"""
import functools, importlib, os, sys
import ppfs, ppfs.pp as pp
sys.path.insert(0, sys.argv[1])
import below_it, edited
def here(x): return edited.f(x), below_it.K
def inside(x):
    import below_it
    return below_it.K
def ways(ex, server):
    item = edited.C(1)
    return [ex.submit(edited.f, 1).result(), ex.submit(here, 1).result(), ex.submit(inside, 1).result(),
            ex.submit(functools.partial(edited.f, 1)).result(), ex.submit(item.get).result(), ex.submit(str, item).result(),
            list(ex.map(edited.f, [1] * 4)), ex.submit(edited.C, 1).result().get(), server.submit(edited.f, (1,))()]
def want():
    item = edited.C(1)
    return [edited.f(1), here(1), inside(1), edited.f(1), item.get(), str(item), [edited.f(1)] * 4, item.get(), edited.f(1)]
with ppfs.Executor() as ex, pp.Server() as server:
    for step in range(6):
        if step:
            which = (edited, below_it, edited)[step % 3]
            with open(which.__file__) as file:
                text = file.read()
            with open(which.__file__, "w") as file:
                file.write(text.replace("K = ", "K = 1"))
            if step == 4:
                del sys.modules["below_it"], sys.modules["edited"]
                import below_it, edited
            else:
                importlib.reload(which)
                importlib.reload(edited)
        got = ways(ex, server)
        if got != want():
            print(step, got, want())
"""


def test_modules_that_are_imported_again(run, m):
    """After importlib.reload(), as notebooks do it: workers have the same module then, in the middle of a stream too."""
    need_module("cloudpickle")
    (m.base / "lib").mkdir()
    (m.base / "lib" / "below_it.py").write_text("K = 2\n")
    (m.base / "lib" / "edited.py").write_text(
        "import below_it\nK = 3\ndef f(x): return x * K * below_it.K\nclass C:\n    def __init__(self, x): self.x = x\n"
        "    def get(self): return self.x * K\n    def __str__(self): return 'C %d' % K\n")
    assert run(RELOADS, m.base / "lib") == ""


def test_modules_that_are_registered_by_value(run, m):
    """cloudpickle.register_pickle_by_value(): workers do not have the module."""
    need_module("cloudpickle")
    (m.base / "lib").mkdir()
    (m.base / "lib" / "only_here.py").write_text(
        "import math\nK = 2\nclass C:\n    def __init__(self, x): self.x = x\ndef helper(x): return x * K\n"
        "def f(x): return helper(x) + math.floor(0.5)\n")
    assert run("""
import functools, os, sys
import cloudpickle, ppfs, ppfs.pp as pp
sys.path.insert(0, sys.argv[1])
import only_here
sys.path.remove(sys.argv[1])
os.unlink(only_here.__file__)
cloudpickle.register_pickle_by_value(only_here)
def other(x): return only_here.f(x) + 1
with ppfs.Executor() as ex, pp.Server() as server:
    for only_here.K in (2, 3):
        print(ex.submit(only_here.f, 1).result(), list(ex.map(only_here.f, [1, 2], chunksize=2)), server.submit(only_here.f, (1,))(),
              ex.submit(functools.partial(only_here.f, 4)).result(), ex.submit(only_here.C, 5).result().x,
              ex.submit(getattr, only_here.C(6), "x").result(), server.submit(other, (1,), (only_here.f,), ())())
    many = [only_here.C(1), list(range(50_000))]
    print({ex.submit(len, many).result() for _ in range(4)})
""", m.base / "lib") == "2 [2, 4] 2 8 5 6 3\n3 [3, 6] 3 12 5 6 4\n{2}\n"


def test_a_call_has_each_class_once(run, m):
    """What comes with the function and what comes with its arguments are of the same class, and so is what goes back; with
    an initializer all calls have the same."""
    need_module("cloudpickle")
    assert run("""
import ppfs
class C:
    def __init__(self, x): self.x = x
def same(*given): return all(type(one) is C for one in given)
def make(x): return C(x)
def init():
    global kept
    kept = C(1)
def is_kept(one): return type(kept) is C is type(one)
large = C(b"x" * 200_000)
with ppfs.Executor(max_workers=1) as ex:
    print([ex.submit(same, C(1), C(2)).result() and type(ex.submit(make, 1).result()) is C for _ in range(3)],
          [ex.submit(same, large, C(1)).result() for _ in range(4)])
with ppfs.Executor(max_workers=1, initializer=init) as ex:
    print([ex.submit(is_kept, C(1)).result() for _ in range(3)])
""") == "[True, True, True] [True, True, True, True]\n[True, True, True]\n"


SET_UP = r"""
import functools, sys
import ppfs
class C:
    many = 0
    def __init__(self, x): self.x = x
class Box:
    kept = []
seen, table, gone, number, alias, given = [], {"k": [1]}, 1, 0, None, [0]
alias = table["k"]
box, one = Box(), C(1)
def make():
    inside = []
    def init(): inside.append(1); return inside
    def look(x): return inside
    return init, look
init_inside, read_inside = make()
def counted(x, l=[]): return counted.n, l, x
counted.n = 0
def init():
    global number, gone
    seen.append(C(1)); table["k"].append(2); box.more = sys; one.x = 5
    C.many = 7; Box.kept.append(1); number = 4; del gone
    counted.n = 9; counted.__defaults__[0].append(1); init_inside()
def init_given(l, by): l.append(by)
class Init:
    def __init__(self): self.l = []
    def __call__(self): self.l.append(1); seen.append(2)
    def run(self): self.l.append(1); seen.append(3)
def a(x): return len(seen), seen[0].x, table, x
def b(x): return box.more.__name__, one.x, Box.kept, C.many, number, "gone" in globals(), x
def c(x): return counted(x)
def d(x): return read_inside(x)
def e(x): return alias, table["k"] is alias
def f(x): return later, x
def g(x): return given, x
def h(x): return seen, x
later = 1
with ppfs.Executor(max_workers=1, initializer=init) as ex:
    for later in (1, 2):
        print([ex.submit(func, 3).result() for func in (f, a, b, c, d, f)], list(ex.map(a, [1], chunksize=2)))
    seen.append(1)
    print(ex.submit(a, 4).result())
    print(ex.submit(a, one).result()[3].x)
with ppfs.Executor(max_workers=1, initializer=functools.partial(init_given, given), initargs=(8,)) as ex:
    print([ex.submit(func, 3).result() for func in (f, g, g)])
with ppfs.Executor(max_workers=1, initializer=init_given, initargs=(given, 8)) as ex:
    print([ex.submit(func, 3).result() for func in (f, g, g)])
del seen[:]
for init in (Init(), Init().run):
    with ppfs.Executor(max_workers=1, initializer=init) as ex:
        print([ex.submit(func, 3).result() for func in (f, h, h)])
"""


def test_what_an_initializer_changes_in_place(run, m):
    """Each call finds what the initializer has set up, whichever function it is of, and else what is there now."""
    need_module("cloudpickle")
    rest = ("(1, 1, {'k': [1, 2]}, 3), ('sys', 5, [1], 7, 4, False, 3), (9, [1], 3), [1], (%d, 3)] "
            "[(1, 1, {'k': [1, 2]}, 1)]\n")
    assert run(SET_UP) == ("[(1, 3), " + rest % 1 + "[(2, 3), " + rest % 2 + "(1, 1, {'k': [1, 2]}, 4)\n1\n"
                           "[(2, 3), ([0, 8], 3), ([0, 8], 3)]\n[(2, 3), ([0, 8], 3), ([0, 8], 3)]\n"
                           "[(2, 3), ([2], 3), ([2], 3)]\n[(2, 3), ([3], 3), ([3], 3)]\n")


def test_what_an_initializer_changes_in_its_process(run, m):
    """Each call of its executor finds it so, and no call of another."""
    need_module("cloudpickle")
    assert run("""
import logging, os, sys, warnings
import ppfs
def init(where):
    os.environ["SET_UP"] = "1"; os.chdir("/"); logging.getLogger("a").setLevel(7); logging.basicConfig(level=9)
    warnings.simplefilter("ignore"); sys.path.insert(0, where); sys.setrecursionlimit(5000); os.umask(0o7)
def look(x):
    mask = os.umask(0); os.umask(mask)
    return (os.environ.get("SET_UP"), os.getcwd() == "/", logging.getLogger("a").level, len(logging.root.handlers), logging.root.level,
            warnings.filters[0][0], sys.path[0] == x, sys.getrecursionlimit(), mask)
def again(x): return look(x)
with ppfs.Executor(max_workers=1, initializer=init, initargs=("/there",)) as ex, ppfs.Executor(max_workers=1) as other:
    before = other.submit(look, "/there").result()
    print({ex.submit(func, "/there").result() for func in (look, look, again, look)})
    print(other.submit(look, "/there").result() == before)
""") == "{('1', True, 7, 1, 9, 'ignore', True, 5000, 7)}\nTrue\n"
