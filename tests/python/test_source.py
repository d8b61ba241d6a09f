"""serializer="source", and what is sent where neither cloudpickle nor dill is: the right text, or a refusal that says why."""
import importlib
import linecache
import pickle
import sys

import pytest

import ppfs._pickle.serialize
from ppfs._pickle.serialize import Serializer
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
        monkeypatch.setattr(ppfs._pickle.serialize, "module_of", lambda name: None)
        for what in vars(program).values():
            if getattr(what, "__module__", "") == "a_program":
                what.__module__ = "__main__"
    func = eval(call, vars(program))
    made = Serializer(serializer)
    assert made.function(func).source is not None
    monkeypatch.setattr(ppfs._pickle.serialize, "extra_path", lambda: ())
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


CHANGES = r'''
import abc, dataclasses, enum, functools, threading, typing
MARK = object()
class Ten:
    def __init__(self): self.a, self.b = 1, 2
    __match_args__ = ("a",)
    gone = 1
    kind = int
    lock = threading.Lock()
    class Inner:
        n = 1
        def get(self): return self.n
    def m(self, l=[], *, k=[]): return len(l), len(k)
    def marked(self, x=MARK, lock=threading.Lock()): return x is MARK
    def plus(self, a, x): return a, x
    part = functools.partialmethod(plus, 5)
    @staticmethod
    def s(l=[]): return len(l)
    @property
    def p(self): "its text"; return 1
    @functools.singledispatchmethod
    def d(self, x): return "any"
    @d.register
    def _(self, x: int): return "int"
class Shape(abc.ABC):
    n = 1
    @abc.abstractmethod
    def area(self): pass
class Other:
    def area(self): return 0
class Colour(enum.Enum):
    red = [1]
    blue = 2
    def name_of(self): return self.name
@dataclasses.dataclass
class Row:
    l: list = dataclasses.field(default_factory=list)
    n: int = 3
    def more(self): return self.n + 1
def look(x):
    t = Ten()
    match t:
        case Ten(found): pass
    return (found, hasattr(Ten, "gone"), Ten.kind.__name__, Ten.Inner().get(), t.m(), t.marked(), t.part(x), Ten.s(), t.d(1), t.d(""),
            Ten.__doc__, Ten.m.__doc__, Ten.p.__doc__, getattr(Ten.m, "tag", None))
def shapes(x): return Shape.n, issubclass(Other, Shape), issubclass(int, Shape)
def colours(x): return Colour.red.value, Colour.blue.value, getattr(Colour.blue, "times", 0), getattr(Colour, "more", 0), Colour(2).name_of()
def rows(x): return Row.n, Row().l, Row().n, Row(n=x).more(), repr(Row())
Number = typing.NewType("Number", int)
NAME = "__main__"
def hinted(x: Number): return x, NAME
def words(x: int):
    "what it says"
    return words.__doc__, words.__name__, getattr(words, "tag", 0), words.__annotations__
'''

LATER = {
    "match": "Ten.__match_args__ = ('b',)", "gone": "del Ten.gone", "kind": "Ten.kind = float", "inner": "Ten.Inner.n = 2",
    "default": "Ten.m.__defaults__[0].append(1)", "keyword": "Ten.m.__kwdefaults__['k'].append(1)", "static": "Ten.s.__defaults__[0].append(1)",
    "no default": "Ten.s.__defaults__ = ([1, 2],)", "partialmethod": "Ten.part = functools.partialmethod(Ten.plus, 6)",
    "texts": "Ten.__doc__ = 'a'; Ten.m.__doc__ = 'b'; words.__doc__ = 'c'", "tags": "Ten.m.tag = 1; words.tag = [1]; words.__annotations__['y'] = 'z'",
    "abstract": "Shape.n = 2", "register": "Shape.register(Other); Shape.register(int)",
    "member": "Colour.red.value.append(2); Colour.blue.times = 3; Colour.more = 4", "data class": "Row.n = 4; Row.more.__doc__ = ''",
}


@pytest.fixture
def changing(tmp_path, monkeypatch):
    (tmp_path / "a_changing.py").write_text(CHANGES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(ppfs._pickle.serialize, "extra_path", lambda: ())
    yield importlib.import_module("a_changing")
    del sys.modules["a_changing"]
    linecache.clearcache()


@pytest.mark.skipif(sys.version_info < (3, 10), reason="match statements")
@pytest.mark.parametrize("step", ["", *LATER])
def test_what_the_text_does_not_say(changing, step):
    """What was set or changed after the definition goes along."""
    before = [call(3) for call in (changing.hinted, changing.look, changing.shapes, changing.colours, changing.rows, changing.words)]
    exec(LATER.get(step, ""), vars(changing))
    changing.Number.__module__ = "__main__"
    calls = [changing.hinted, changing.look, changing.shapes, changing.colours, changing.rows, changing.words]
    want = [call(3) for call in calls]
    assert (want != before) == bool(step)
    assert worker(*[ready(Serializer("source"), call, 3) for call in calls]) == want


@pytest.mark.skipif(sys.version_info < (3, 10), reason="match statements")
@pytest.mark.parametrize("step, match", [
    ("Ten.late = threading.Lock()", "Ten.late was put into its class later"),
    ("Ten.p = functools.cached_property(lambda self: 1)", "Ten.p was put into its class later"),
    ("Ten.d.register(str, lambda self, x: 'str')", "Ten.d was put into its class later"),
    ("Ten.one = Other()", "Ten.one cannot go as source or plain data"),
    ("Ten.m.__defaults__ = (Other(),)", "a default of .*Ten.m cannot go as source"),
])
def test_what_the_text_does_not_say_and_cannot_go(changing, step, match):
    changing.Other.__module__ = "__main__"
    exec(step, vars(changing))
    refused(changing.look, match)
