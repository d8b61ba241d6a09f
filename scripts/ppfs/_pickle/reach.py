"""What functions that go by value reach, and whether that still is what it was.

A pickle by value holds the code of a function and all that this refers to: globals, closures, defaults, classes, and
what those refer to. To pickle it again for each call would be right and slow, so Reach walks through that once. What
cannot change is compared by identity: numbers, text, modules, code, and functions and classes that go by name. Other
data is pickled again, by itself, and its bytes compared. Where something is found that neither is enough for, the
answer is that nothing is known, and the whole is pickled again.

Only weak references are held to functions and classes, and no data, so nothing is kept alive by being remembered.
"""
import dis
import functools
import hashlib
import pickle
import sys
import types
import weakref
from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator, List, Optional, Tuple

PROTOCOL = 5  # of all pickles: every Python that this package runs with reads it
MAINS = frozenset(("__main__", "__mp_main__"))  # the second is the first in a child that multiprocessing has spawned
BY_NAME: Tuple[Any, ...] = (type, types.FunctionType, functools._lru_cache_wrapper)  # what plain pickle writes as a name
SHORT = 64 * 1024  # bytes of pickled data that are kept; of more, the SHA-256
_dumps = pickle.dumps
_MISSING = object()

_FIXED = frozenset((int, float, complex, bool, str, bytes, type(None), type(Ellipsis), type(NotImplemented), range,
                    types.CodeType))
_FIXED_NAMES = frozenset((("re", "Pattern"), ("decimal", "Decimal"), ("datetime", "date"), ("datetime", "timedelta"),
                          ("logging", "Logger"), ("logging", "RootLogger"), ("numpy", "ufunc"), ("typing", "TypeVar"),
                          ("typing", "_SpecialForm")))  # types whose objects cannot change, or go by name
WRAPPERS = {staticmethod: ("__func__",), classmethod: ("__func__",), property: ("fget", "fset", "fdel")}
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)

# What a function may do to change what it refers to, as seen in its code.
_WRITES = frozenset(("STORE_GLOBAL", "DELETE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"))
_WRITES_CELL = frozenset(("STORE_DEREF", "DELETE_DEREF"))
_WRITERS = frozenset(("setattr", "delattr", "globals", "vars", "exec", "eval", "__dict__", "__setattr__", "__globals__",
                      "f_globals", "_getframe", "currentframe", "__kwdefaults__", "__annotations__", "get_annotations",
                      "__closure__"))
_HINTS = frozenset((("types", "GenericAlias"), ("types", "UnionType")))


class _Unknown(Exception):
    """Something was found of which it cannot be told whether it changes."""


class Names:
    """Which names of a module mean what goes by value. registered: modules whose functions and classes do."""

    def __init__(self, registered: Callable[[], Iterable[str]] = tuple) -> None:
        self.registered = registered

    def by_value(self, module: Optional[str]) -> bool:
        """Whether what is defined in a module of that name goes by value."""
        if module is None or module in MAINS:
            return True
        return any(module == name or module.startswith(name + ".") for name in self.registered())

    def found(self, what: Any) -> bool:
        """Whether a function or class is what workers find by its name, as far as this process can tell."""
        name = what.__module__
        return not self.by_value(name) and _named(name, what.__qualname__) is what


def _named(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


class _Space:
    """What the names of a namespace meant. size: of all of it; None where only these names count."""

    __slots__ = ("get", "size", "fixed", "weak", "wrapped", "data")

    def __init__(self, get: Callable[[Any], Any], size: Optional[int]) -> None:
        self.get = get  # the namespace of what is looked at
        self.size = size
        self.fixed: List[Tuple[Any, Any]] = []
        self.weak: List[Tuple[Any, "weakref.ref[Any]"]] = []
        self.wrapped: List[Tuple[Any, type, List[Any]]] = []  # staticmethod and the like: their parts
        self.data: List[Any] = []

    def same(self, of: Any, data: List[Any]) -> bool:
        """Whether they mean the same; adds what has to be compared as data."""
        space = self.get(of)
        if self.size is not None and len(space) != self.size:
            return False
        get = space.get
        for name, value in self.fixed:
            if get(name, _MISSING) is not value:
                return False
        for name, ref in self.weak:
            value = ref()
            if value is None or get(name) is not value:
                return False
        for name, kind, parts in self.wrapped:
            value = get(name)
            if type(value) is not kind:
                return False
            for part, ref in zip(WRAPPERS.get(kind, ()), parts):
                if getattr(value, part) is not (ref and ref()):
                    return False
        for name in self.data:
            data.append(get(name, None))
        return True


class _Cells:
    """The cells of a closure, as a namespace."""

    __slots__ = ("cells",)

    def __init__(self, func: types.FunctionType) -> None:
        self.cells = func.__closure__ or ()

    def __len__(self) -> int:
        return len(self.cells)

    def items(self) -> Iterator[Tuple[int, Any]]:
        return ((i, self.get(i)) for i in range(len(self.cells)))

    def get(self, i: int, default: Any = None) -> Any:
        try:
            return self.cells[i].cell_contents
        except ValueError:  # it is empty
            return _MISSING


def _globals(func: Any) -> Any:
    return func.__globals__


def _dict(func: Any) -> Any:
    return func.__dict__


def _annotations(func: Any) -> Any:
    return func.__annotations__


def _keywords(func: Any) -> Any:
    return func.__kwdefaults__ or {}


class _Function:
    """A function that goes by value."""

    __slots__ = ("ref", "code", "defaults", "words", "spaces", "bare")

    def __init__(self, func: types.FunctionType, reach: "Reach") -> None:
        self.ref = weakref.ref(func)
        self.code = func.__code__
        self.words = func.__name__, func.__qualname__, func.__module__, func.__doc__
        self.spaces: List[_Space] = []
        names, writes = uses(self.code)
        reach.pure = reach.pure and not writes
        defaults = func.__defaults__
        self.defaults = defaults if reach.is_fixed(defaults) else _MISSING
        reach.pure = reach.pure and self.defaults is not _MISSING
        self.bare = not func.__dict__ and not func.__kwdefaults__
        if names:
            space = func.__globals__
            self._note(reach, _globals, None, ((name, space.get(name, _MISSING)) for name in names))
            reach.look_at_submodules(space.get(name) for name in names)
        if func.__closure__:
            cells = _Cells(func)
            self._note(reach, _Cells, None, cells.items())
        if func.__annotations__:
            self._note(reach, _annotations, len(func.__annotations__), func.__annotations__.items(), hints=True)
        if not self.bare:
            reach.pure = reach.pure and not func.__dict__
            self._note(reach, _dict, len(func.__dict__), func.__dict__.items())
            self._note(reach, _keywords, len(func.__kwdefaults__ or ()), (func.__kwdefaults__ or {}).items())

    def _note(self, reach: "Reach", get: Callable[[Any], Any], size: Optional[int], items: Iterable[Tuple[Any, Any]],
              hints: bool = False) -> None:
        space = _Space(get, size)
        for name, value in items:
            if value is _MISSING or (hints and _is_hint(reach, value)):
                space.fixed.append((name, value))
            else:
                reach.add(space, name, value)
        self.spaces.append(space)

    def same(self, data: List[Any]) -> bool:
        func = self.ref()
        if func is None or func.__code__ is not self.code:
            return False
        name, qualname, module, doc = self.words
        if (func.__name__ is not name or func.__qualname__ is not qualname or func.__module__ is not module
                or func.__doc__ is not doc):
            return False
        if self.defaults is _MISSING:
            data.append(func.__defaults__)
        elif func.__defaults__ is not self.defaults:
            return False
        if self.bare and (func.__dict__ or func.__kwdefaults__):
            return False
        for space in self.spaces:
            if not space.same(func, data):
                return False
        return True


class _Class:
    """A class that goes by value; workers have one object of it for all that was sent, which each pickle sets anew."""

    __slots__ = ("ref", "bases", "words", "space")

    def __init__(self, kind: type, reach: "Reach") -> None:
        if type(kind) is not type:
            raise _Unknown
        reach.pure = False
        self.ref = weakref.ref(kind)
        self.bases = kind.__bases__
        self.words = kind.__name__, kind.__qualname__
        self.space = _Space(vars, len(vars(kind)))
        for base in self.bases:
            reach.look_into(base)
        for name, value in list(vars(kind).items()):
            what = type(value)
            if what in WRAPPERS:
                refs = []
                for part in WRAPPERS[what]:
                    inner = getattr(value, part)
                    if inner is not None and type(inner) is not types.FunctionType:
                        raise _Unknown
                    refs.append(inner and weakref.ref(inner))
                    reach.look_into(inner)
                self.space.wrapped.append((name, what, refs))
            elif what in _DESCRIPTORS:
                self.space.wrapped.append((name, what, []))
            else:
                reach.add(self.space, name, value)

    def same(self, data: List[Any]) -> bool:
        kind = self.ref()
        return (kind is not None and kind.__bases__ == self.bases and (kind.__name__, kind.__qualname__) == self.words
                and self.space.same(kind, data))


class _Named:
    """A function or class that goes by name, as long as the name means it."""

    __slots__ = ("ref", "module", "name")

    def __init__(self, what: Any) -> None:
        self.ref = weakref.ref(what)
        self.module, self.name = what.__module__, what.__qualname__

    def same(self, data: List[Any]) -> bool:
        what = self.ref()
        return what is not None and _named(self.module, self.name) is what


class Reach:
    """All that some objects (roots) and data refer to, at this moment.

    settled  current() can tell; False: it cannot, and always says no
    pure     no call can change what it finds there, so that the next may have the same objects
    """

    def __init__(self, names: Names, roots: Iterable[Any], data: Iterable[Any] = ()) -> None:
        self.names = names
        self.settled, self.pure = True, True
        self._seen: Dict[int, Any] = {}
        self._parts: List[Any] = []
        self._modules: Optional[int] = None  # how many modules there are, where submodules matter
        self._given = tuple(what for what in data if not self.is_fixed(what))
        self._state = b""
        try:
            for root in roots:
                self.look_into(root)
            found: List[Any] = []
            if not all(part.same(found) for part in list(self._parts)):
                raise _Unknown  # another thread is changing it
            if found or self._given:
                self.pure = False
                self._state = self._bytes(found)
        except Exception:  # whatever objects do when they are looked at or pickled
            self.settled = self.pure = False
            self._parts.clear()
            self._given = ()
        self._seen.clear()

    def current(self) -> bool:
        """Whether a pickle of them would have the same bytes."""
        if not self.settled:
            return False
        data: List[Any] = []
        try:
            for part in self._parts:
                if not part.same(data):
                    return False
            if self._modules is not None and len(sys.modules) != self._modules:
                return False
            return not (data or self._given) or self._bytes(data) == self._state
        except Exception:
            return False

    def _bytes(self, data: List[Any]) -> bytes:
        """What tells data from other data. They are pickled together: what they share is a part of what they are."""
        arrays: List[pickle.PickleBuffer] = []
        blob = _dumps((data, self._given), PROTOCOL, buffer_callback=arrays.append)
        if b"\x93" in blob and self._names_value(blob):
            raise _Unknown
        if not arrays and len(blob) <= SHORT:
            return blob
        digest = hashlib.sha256(blob)
        for part in arrays:
            digest.update(b"%d " % part.raw().nbytes)
            digest.update(part.raw())
        return digest.digest()

    def _names_value(self, blob: bytes) -> bool:
        names = [*MAINS, *self.names.registered()]
        return any(name.encode() in blob for name in names)

    # --- while it is made ------------------------------------------------------------------------------------------

    def look_into(self, what: Any) -> None:
        """Notes an object and what it refers to."""
        if what is None or id(what) in self._seen:
            return
        self._seen[id(what)] = what
        if type(what) is types.FunctionType:
            self._parts.append(_Named(what) if self.names.found(what) else _Function(what, self))
        elif issubclass(type(what), type):
            if what.__module__ != "builtins":
                self._parts.append(_Named(what) if self.names.found(what) else _Class(what, self))
        elif not self.is_fixed(what):
            raise _Unknown

    def add(self, space: _Space, name: Any, value: Any) -> None:
        """Notes what a name means."""
        if type(value) is types.FunctionType or issubclass(type(value), type):
            space.weak.append((name, weakref.ref(value)))
            self.look_into(value)
        elif self.is_fixed(value):
            space.fixed.append((name, value))
        else:
            space.data.append(name)

    def is_fixed(self, value: Any) -> bool:
        """Whether it is the same as long as it is the same object."""
        kind = type(value)
        if kind in _FIXED:
            return True
        if kind is tuple or kind is frozenset:
            return len(value) <= 1000 and all(map(self.is_fixed, value))
        if kind is types.ModuleType:
            return sys.modules.get(value.__name__) is value and not self.names.by_value(value.__name__)
        if kind is types.BuiltinFunctionType:
            return value.__self__ is None or type(value.__self__) is types.ModuleType
        return (kind.__module__, kind.__name__) in _FIXED_NAMES

    def look_at_submodules(self, values: Iterable[Any]) -> None:
        """A module goes with those of its submodules that are imported."""
        if any(type(value) is types.ModuleType and hasattr(value, "__path__") for value in values):
            self._modules = len(sys.modules)


def _is_hint(reach: Reach, value: Any) -> bool:
    """Whether an annotation is made of nothing that could change."""
    kind = type(value)
    if kind.__module__ != "typing" and (kind.__module__, kind.__name__) not in _HINTS:
        return False
    parts = (getattr(value, "__origin__", None), *getattr(value, "__args__", ()))
    return all(part is None or reach.is_fixed(part) or _is_hint(reach, part)
               or (issubclass(type(part), type) and (part.__module__ == "builtins" or reach.names.found(part)))
               for part in parts)


_known: "weakref.WeakKeyDictionary[types.CodeType, Tuple[FrozenSet[str], bool]]" = weakref.WeakKeyDictionary()


def uses(code: types.CodeType) -> Tuple[FrozenSet[str], bool]:
    """(the names that code has of globals, whether it may change something that it refers to)."""
    found = _known.get(code)
    if found is None:
        names: List[str] = []
        writes = not (_WRITERS.isdisjoint(code.co_names) and _WRITERS.isdisjoint(
            const for const in code.co_consts if type(const) is str))
        for instruction in dis.get_instructions(code):
            op = instruction.opname
            if op in _WRITES or (op in _WRITES_CELL and instruction.argval in code.co_freevars):
                writes = True
            if ("GLOBAL" in op or "NAME" in op) and isinstance(instruction.argval, str) and op != "IMPORT_NAME":
                names.append(instruction.argval)
        for const in code.co_consts:
            if isinstance(const, types.CodeType):
                more, inner = uses(const)
                names += more
                writes = writes or inner
        found = _known[code] = frozenset(names), writes
    return found


__all__ = ["BY_NAME", "MAINS", "PROTOCOL", "WRAPPERS", "Names", "Reach", "uses"]
