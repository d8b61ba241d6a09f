"""serializer="source", and what is sent where neither cloudpickle nor dill is: the right text, or a refusal that says why."""
import importlib
import linecache
import pickle
import sys

import pytest

import ppfs.serialize
from ppfs.serialize import Serializer
from test_serialize import ready, worker

PROGRAM = r'''
import functools, math, os.path as path, sys
up, down = (lambda x: x + 1), (lambda x: x - 1)
table = {"twice": lambda x: 2 * x, "half": lambda x: x / 2,
         "long": lambda x: (x +
1)}
K, LIST = 3, [1, 2]
def text(x):
    a = """one
two
  three"""
    return a, x
def outer(n, m=1):
    def inner(x, y=m):
        s = """at
the margin"""
        return x + n + y, s
# a comment at the margin
    def nested(x): return [f(x)[0] for f in (inner,)], K
    def fact(n): return 1 if n < 2 else n * fact(n - 1)
    class Local:
        def get(self): return n
    return inner, nested, fact, Local, lambda x: lambda y: x + y + n
inner, nested, fact, Local, deep = outer(10)
def uses(x): return math.floor(x), path.join("a", "b"), K, LIST, later(x)
def later(x, f=lambda x=lambda: 5: x()): return x * K + f()
def deco(f):
    @functools.wraps(f)
    def inner(*a): return "decorated", f(*a)
    return inner
@deco
@deco
def decorated(x): return x
def keywords(x, *, y=[1], **more): return x, y, more
def annotated(x: "no such name" = 5) -> Missing if False else None: return x
class Base:
    k = 1
    def __repr__(self): return "a point"
class Point(Base):
    """A point."""
    def __init__(self, x): self.x = x
    @property
    def twice(self): return 2 * self.x * self.k
    @staticmethod
    def new(x): return Point(x)
def point(x): return Point.new(x).twice, Point(x).k
def many(x, *y): return max(map(lambda z: z * K, (x, *y)), key=lambda v: -v)
async def later_on(x): return x
def awaited(x):
    try: later_on(x).send(None)
    except StopIteration as stop: return stop.value
def generated(x): return list(steps(x))
def steps(n):
    yield from range(n)
def fstring(x): return f"{x!r:>5}{'a' if x else 'b'}{table_name['k']}"
table_name = {"k": "v"}
import xml.sax.saxutils
def escaped(x): return xml.sax.saxutils.escape("<%d" % x)
'''

CALLS = ["up", "down", "table['twice']", "table['half']", "table['long']", "text", "inner", "nested", "fact", "deep(1)", "uses", "later",
         "decorated", "keywords", "annotated", "point", "many", "awaited", "generated", "fstring",
         "escaped"]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The program, in a module that is the __main__ of nobody. gone: workers cannot import it."""
    (tmp_path / "a_program.py").write_text(PROGRAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("a_program")
    del sys.modules["a_program"]
    linecache.clearcache()


@pytest.mark.parametrize("serializer", ["source", None])
@pytest.mark.parametrize("call", CALLS)
def test_the_right_text(program, monkeypatch, serializer, call):
    """Also without cloudpickle and dill, where __main__ goes as source."""
    if serializer is None:
        monkeypatch.setattr(ppfs.serialize, "module_of", lambda name: None)
        for what in vars(program).values():
            if getattr(what, "__module__", "") == "a_program":
                what.__module__ = "__main__"
    func = eval(call, vars(program))
    made = Serializer(serializer)
    assert made.function(func).source is not None
    monkeypatch.setattr(ppfs.serialize, "extra_path", lambda: ())
    assert worker(ready(made, func, 4)) == [func(4)]


def test_a_class_as_it_is(program):
    program.Point.k = 7
    program.Point.more = program.fact
    program.Base.l = [1]
    sent = ready(Serializer("source"), program.Point, 3)
    assert worker((pickle.dumps(eval), pickle.dumps((("None",), {})))) == [None]

    def look(x):
        return Point(x).twice, Point.more(3), Point.l  # noqa: F821
    look.__globals__["Point"] = program.Point
    try:
        assert worker(ready(Serializer("source"), look, 2)) == [(28, 6, [1])]
    finally:
        del look.__globals__["Point"]
    assert sent


def test_shared_cells_and_lists(program):
    shared = [1]

    def make(n):
        def up():
            nonlocal n
            n += 1
            shared.append(n)

        def both(x):
            up()
            up()
            return n + x, shared, alias is shared
        return both
    alias = shared
    assert worker(ready(Serializer("source"), make(1), 10)) == [(13, [1, 2, 3], True)]


def refused(func, match):
    with pytest.raises(pickle.PicklingError, match=match):
        Serializer("source").function(func)


def test_what_cannot_go_is_refused(program, tmp_path):
    import threading
    space = {"__name__": "a_program", "lock": threading.Lock(), "o": program.Point(1)}
    (tmp_path / "more.py").write_text("def f(): return lock\ndef g(): return o\ndef h(k=lock): return k\n")
    exec(compile((tmp_path / "more.py").read_text(), str(tmp_path / "more.py"), "exec"), space)
    refused(space["f"], "lock, which a_program.f uses.*lock")
    refused(space["h"], "a default of a_program.h")
    exec("def f(): return 1", space)
    refused(space["f"], "the source of a_program.f is not there")
    refused(program.Local, "nothing in .* is that class")


def test_an_edited_file_is_no_source(program, tmp_path):
    """Also one where the function still stands somewhere: that is the same."""
    path = tmp_path / "a_program.py"
    path.write_text("\n\n" + PROGRAM.replace("x - 1", "x - 2").replace("one\ntwo", "one\nother"))
    linecache.clearcache()
    refused(program.down, "compiles to what it is made of")
    refused(program.text, "compiles to what it is made of")
    assert worker(ready(Serializer("source"), program.up, 4)) == [5]
    path.write_text("def down(:")
    linecache.clearcache()
    refused(program.down, "is not there")


def test_a_method_that_was_put_there(program):
    def init(self, x, y=3):
        self.x = x + y
    program.Point.__init__ = init
    program.Point.late = property(lambda self: 1)
    refused(program.Point, "Point.late was put into its class later")
    del program.Point.late
    assert worker(ready(Serializer("source"), program.point, 2)) == [(10, 1)]
