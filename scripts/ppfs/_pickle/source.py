"""Functions and classes as source text, for workers of any Python version and where nothing pickles code.

A text is taken only when it compiles to the very code that the function has: a file that was edited since, a second
lambda in the same line, a string that reaches to the left margin can all not be told from the text alone. What a
function refers to goes with it: other functions and classes as source too, modules by name, everything else as plain
pickled data. What can go none of these ways is named and refused.

Nothing of a text is executed but the bodies of classes: defaults, closures and globals are those of the function as
it is, and its decorators have done their work. What was changed after the definition goes along (changed.py).
"""
import ast
import functools
import importlib
import linecache
import pickle
import sys
import types
from typing import Any, Callable, Container, Dict, Iterable, Iterator, List, Optional, Tuple

from .changed import Plain, What, is_of, of_class, of_function, parts_of, same_code, title_of
from .reach import MAINS, PROTOCOL, uses
from .remote import Source

TRIES = 1000  # texts that are compiled in search of one
_FUTURE_ANNOTATIONS = getattr(importlib.import_module("__future__"), "annotations").compiler_flag
_NODES = ast.Lambda, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom
_MAKER = "_ppfs_made"


def source_of(func: Any, friends: Tuple[Tuple[str, Any], ...], by_name: Callable[[Any], bool]) -> Source:
    """func as source, with friends bound among its globals. by_name: whether a function or class goes by its name.
    PicklingError names what cannot go."""
    whole = _Whole((lambda what: what is not func and by_name(what)) if friends else by_name)
    try:
        target = whole.what(func, title_of(func))
        if isinstance(func, types.FunctionType) and friends:
            names = whole.spaces[whole.space(func.__globals__)][1]
            names.update((name, whole.what(friend, name)) for name, friend in friends)
        return whole.source(target)
    except RecursionError:
        raise pickle.PicklingError("the source of %s refers to too much" % title_of(func)) from None


class _Whole:
    """Everything that goes along with one function."""

    def __init__(self, by_name: Callable[[Any], bool]) -> None:
        self.by_name = by_name
        self.pieces: List[What] = []
        self.spaces: List[Tuple[str, Dict[str, What]]] = []
        self._space_of: Dict[int, int] = {}
        self._made: Dict[int, int] = {}
        self._cells: Dict[int, int] = {}
        self._contents: List[What] = []
        self._values: List[Any] = []

    def source(self, target: What) -> Source:
        spaces = tuple((name, tuple(names.items())) for name, names in self.spaces)
        return tuple(self.pieces), spaces, tuple(self._contents), target, pickle.dumps(self._values, PROTOCOL)

    def what(self, value: Any, title: str) -> What:
        """How a value goes. title: what to call it when it cannot."""
        if isinstance(value, types.ModuleType):
            if value.__name__ in MAINS or value.__name__ not in sys.modules:
                raise pickle.PicklingError("%s is the module %s, which workers do not have" % (title, value.__name__))
            return "module", value.__name__
        if type(value) is types.FunctionType and not self.by_name(value):
            return "made", self._function(value)
        if issubclass(type(value), type) and value.__module__ != "builtins" and not self.by_name(value):
            return "made", self._class(value)
        try:
            file = Plain()
            file.dump(value)
        except Exception as error:
            raise pickle.PicklingError("%s cannot go as source or plain data: %s" % (title, error)) from error
        self._values.append(value)
        return "data", len(self._values) - 1

    def space(self, names: Dict[str, Any]) -> int:
        """The number of a namespace."""
        number = self._space_of.get(id(names))
        if number is None:
            number = self._space_of[id(names)] = len(self.spaces)
            name = names.get("__name__")
            self.spaces.append(("__main__" if name in MAINS or not isinstance(name, str) else name, {}))
        return number

    def _names(self, names: Iterable[str], space: Dict[str, Any], title: str, own: Container[str] = ()) -> int:
        """Notes what these names mean in a namespace; its number. own: names that may mean something else there."""
        number = self.space(space)
        known = self.spaces[number][1]
        for name in sorted(names):
            if name in known or name not in space or name in ("__builtins__", "__name__"):
                continue
            known[name] = ("data", 0)  # not to look at it again meanwhile
            try:
                known[name] = self.what(space[name], "%s, which %s uses," % (name, title))
            except pickle.PicklingError:
                del known[name]
                if name not in own:
                    raise
        return number

    def _function(self, func: types.FunctionType) -> int:
        if id(func) in self._made:
            return self._made[id(func)]
        number = self._made[id(func)] = len(self._made)
        title = title_of(func)
        text, path = text_of(func)
        space = self._names(uses(func.__code__)[0], func.__globals__, title)
        self._submodules(space, func)
        closure = tuple(self._cell(cell, "%s, which %s uses," % (name, title))
                        for name, cell in zip(func.__code__.co_freevars, func.__closure__ or ()))
        defaults = tuple(self.what(value, "a default of " + title) for value in func.__defaults__ or ())
        keywords = tuple((name, self.what(value, "the default of %s of %s" % (name, title)))
                         for name, value in (func.__kwdefaults__ or {}).items())
        attributes = tuple(((name,), what) for name, what in of_function(func, self.what))
        self.pieces.append((number, "function", text, path, space, func.__name__, func.__qualname__, closure, defaults,
                            keywords, attributes))
        return number

    def _submodules(self, space: int, func: types.FunctionType) -> None:
        """A package goes with those of its modules that are imported here and that func names."""
        words = set(_words(func.__code__))
        for name in uses(func.__code__)[0]:
            package = func.__globals__.get(name)
            if not isinstance(package, types.ModuleType) or not hasattr(package, "__path__"):
                continue
            for module in list(sys.modules):
                if module.startswith(package.__name__ + ".") and words.issuperset(
                        module[len(package.__name__) + 1:].split(".")):
                    self.spaces[space][1][module] = "module", module  # under a name that no code can mean

    def _cell(self, cell: Any, title: str) -> int:
        number = self._cells.get(id(cell))
        if number is None:
            number = self._cells[id(cell)] = len(self._cells)
            try:
                content = cell.cell_contents
            except ValueError:
                return number  # it is empty
            self._contents.append((number, self.what(content, title)))
        return number

    def _class(self, kind: type) -> int:
        if id(kind) in self._made:
            return self._made[id(kind)]
        number = self._made[id(kind)] = len(self._made)
        title = title_of(kind)
        text, code, body, filename = _class_text(kind)
        attributes = tuple(of_class(kind, body, filename, self.what, self.by_name))
        space = self._names(uses(code)[0] - {kind.__name__}, _space_of(kind), title, vars(kind))
        self.spaces[space][1].setdefault(kind.__name__, ("made", number))
        self.pieces.append((number, "class", text, (kind.__name__,), space, attributes))
        return number


# --- texts -----------------------------------------------------------------------------------------------------------

def text_of(func: types.FunctionType) -> Tuple[str, Tuple[str, ...]]:
    """(a text, a path): the code of func is what the text compiles to, below the codes with the names of the path."""
    code = func.__code__
    last: Optional[BaseException] = None
    for lines in _sources(func, code.co_filename, func.__globals__):
        try:
            nodes = _nodes(lines)
        except (SyntaxError, ValueError) as error:
            last = error
            continue
        kinds: Any = ast.Lambda if code.co_name == "<lambda>" else (ast.FunctionDef, ast.AsyncFunctionDef)
        found = [node for node in nodes
                 if isinstance(node, kinds) and getattr(node, "name", code.co_name) == code.co_name]
        found.sort(key=lambda node: abs(_first_line(node) - code.co_firstlineno))
        for node in found[:TRIES]:
            text, path = _text(lines, node, code)
            for head in _heads(lines, code):
                before = _future(code) + head
                try:
                    made = dig(compile(before + text, "<source>", "exec", dont_inherit=True), path)
                except (SyntaxError, ValueError, IndexError):
                    continue
                if same_code(made, code):
                    return before + text, path
        last = ValueError("no function in %s compiles to what it is made of; the file was edited since, or something "
                          "else than the Python compiler made it" % code.co_filename)
    raise pickle.PicklingError("the source of %s is not there: %s" % (title_of(func), last or "no file has it"))


def _sources(what: Any, filename: str, space: Dict[str, Any]) -> Iterator[Tuple[str, ...]]:
    """The lines of the files that may hold it."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename, space)
    if lines:
        yield tuple(lines)
    elif filename.startswith("<"):  # typed in: dill knows what was typed
        try:
            text = importlib.import_module("dill.source").getsource(what)
        except Exception:
            return
        yield tuple(_dedented(text).splitlines(True))


def _dedented(text: str) -> str:
    return "if True:\n" + text if text[:1] in " \t" else text


@functools.lru_cache(maxsize=8)
def _nodes(lines: Tuple[str, ...]) -> List[ast.AST]:
    return [node for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, _NODES)]


def _words(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _words(const)


def _future(code: types.CodeType) -> str:
    return "from __future__ import annotations\n" if code.co_flags & _FUTURE_ANNOTATIONS else ""


def _heads(lines: Tuple[str, ...], code: types.CodeType) -> Iterator[str]:
    """What may have to stand before a text: calls of methods of what was seen imported compile to other code."""
    yield ""
    imported = {(one.asname or one.name).partition(".")[0]
                for node in _nodes(lines) if isinstance(node, (ast.Import, ast.ImportFrom)) for one in node.names}
    names = sorted(imported & uses(code)[0])
    if names:
        yield "import %s\n" % ", ".join(names)


def _first_line(node: Any) -> int:
    lines: List[int] = [node.lineno, *[one.lineno for one in getattr(node, "decorator_list", ())]]
    return min(lines)


def _text(lines: Tuple[str, ...], node: Any, code: types.CodeType) -> Tuple[str, Tuple[str, ...]]:
    """The text of one candidate, as it stands in its file, within what gives it its closure."""
    before = ""
    path: Tuple[str, ...] = (code.co_name,)
    if code.co_freevars:
        before, path = "def %s(%s):\n" % (_MAKER, ", ".join(code.co_freevars)), (_MAKER, code.co_name)
    if isinstance(node, ast.Lambda):
        text = "(%s\n)\n" % _segment(lines, node)
        return (before + " return " + text if before else text), path
    text = "".join(lines[node.lineno - 1:node.end_lineno])
    if node.col_offset and not before:
        before = "if True:\n"
    return before + text + "\n", path


def _segment(lines: Tuple[str, ...], node: Any) -> str:
    """The text of an expression; columns count bytes of UTF-8."""
    part = [line.encode() for line in lines[node.lineno - 1:node.end_lineno]]
    part[-1] = part[-1][:node.end_col_offset]
    part[0] = part[0][node.col_offset:]
    return b"".join(part).decode()


def dig(code: types.CodeType, path: Tuple[str, ...]) -> types.CodeType:
    """The code below the codes of these names; the last where several have one: defaults come first."""
    for name in path:
        code = [one for one in code.co_consts if isinstance(one, types.CodeType) and one.co_name == name][-1]
    return code


def _class_text(kind: type) -> Tuple[str, types.CodeType, types.CodeType, str]:
    """The text of a class, the code of that, the code of the class's body, and their file."""
    title = title_of(kind)
    methods = [part for value in vars(kind).values() for part in parts_of(value)
               if part.__qualname__ == "%s.%s" % (kind.__qualname__, part.__name__)]
    module = sys.modules.get(kind.__module__)
    filename = getattr(module, "__file__", None)
    if methods and (filename is None or all(part.__code__.co_filename != filename for part in methods)):
        filename = methods[0].__code__.co_filename
    found: Dict[str, Tuple[str, types.CodeType, types.CodeType, str]] = {}
    for lines in _sources(kind, filename or "?", vars(module) if module is not None else {}):
        try:
            nodes = _nodes(lines)
        except (SyntaxError, ValueError):
            continue
        for node in nodes:
            if not isinstance(node, ast.ClassDef) or node.name != kind.__name__:
                continue
            text = "".join(lines[_first_line(node) - 1:node.end_lineno]) + "\n"
            text = "if True:\n" + text if node.col_offset else text
            ours = [part for part in methods if part.__code__.co_filename == filename]
            future = _future(ours[0].__code__) if ours else ""
            code = compile(future + text, "<source>", "exec", dont_inherit=True)
            for head in _heads(lines, code):
                body = dig(compile(future + head + text, "<source>", "exec", dont_inherit=True), (kind.__name__,))
                if all(is_of(part, body) for part in ours):
                    found[ast.dump(node)] = future + text, code, body, str(filename)
    if len(found) != 1:
        raise pickle.PicklingError("the source of %s is not there: %s in %s is that class as it is now"
                                   % (title, "more than one" if found else "nothing", filename))
    return next(iter(found.values()))


def _space_of(kind: type) -> Dict[str, Any]:
    """The globals of a class: those of its methods, else of its module."""
    for value in vars(kind).values():
        for part in parts_of(value):
            if part.__qualname__ == "%s.%s" % (kind.__qualname__, part.__name__):
                return part.__globals__
    module = sys.modules.get(kind.__module__)
    if module is None:
        raise pickle.PicklingError("the module of %s is not there" % title_of(kind))
    return vars(module)


__all__ = ["source_of", "text_of"]
