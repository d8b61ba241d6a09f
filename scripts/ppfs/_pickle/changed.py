"""What a class or a function has that its source text does not say.

No text is executed to find that out. What can be compared is; what goes as data is sent as it is now and set anew; what
is neither is named and refused, where its text alone could make something else of it.
"""
import abc
import dis
import enum
import functools
import pickle
import threading
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from .reach import BY_NAME, MAINS, PROTOCOL, WRAPPERS

What = Tuple[Any, ...]
Change = Tuple[Tuple[str, ...], What]  # where from the class on, and how what stands there goes
GONE = ("gone", None)
KEPT = ("kept", None)  # a default that is as the text makes it
REGISTER = "register()"  # in place of an attribute: a class that was registered with an abstract one
_CODE = ("co_name", "co_code", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount", "co_varnames", "co_freevars",
         "co_cellvars", "co_names")
_FLAGS = 0x0F | 0x20 | 0x80 | 0x100 | 0x200  # of a code that say what it does; not where it stands
_PARTS: Dict[Any, Tuple[str, ...]] = {**WRAPPERS, functools.cached_property: ("func",)}
_OPAQUE = (type(threading.Lock()), type(threading.RLock()), types.GetSetDescriptorType, types.MemberDescriptorType)
_BODY = frozenset(("__module__", "__qualname__", "__dict__", "__weakref__", "__slots__", "__classcell__",
                   "__abstractmethods__", "_abc_impl", "__static_attributes__", "__firstlineno__",
                   "__classdictcell__"))  # made with the class
_DATACLASS = frozenset(("__dataclass_fields__", "__dataclass_params__", "__parameters__", "__orig_bases__"))
_GENERATORS = frozenset(("__dataclass_params__", "__attrs_attrs__", "_fields"))  # of dataclasses, attrs, NamedTuple


class Plain(pickle.Pickler):
    """Refuses what would be looked for in __main__."""

    def __init__(self) -> None:
        super().__init__(self, PROTOCOL)

    def write(self, data: Any) -> None:
        """What it would write is of no interest."""

    def reducer_override(self, what: Any) -> Any:
        if isinstance(what, BY_NAME) and what.__module__ in MAINS:
            raise pickle.PicklingError("it holds %s, which is defined in __main__" % what.__qualname__)
        if type(what).__module__ == "typing" and getattr(what, "__module__", None) in MAINS:
            raise pickle.PicklingError("it holds %s, which is defined in __main__" % getattr(what, "__name__", "?"))
        return NotImplemented


def title_of(what: Any) -> str:
    """What errors call a function or class."""
    return "%s.%s" % (getattr(what, "__module__", "?"), getattr(what, "__qualname__", type(what).__name__))


def same_code(a: types.CodeType, b: types.CodeType) -> bool:
    """Whether two codes do the same, wherever they stand."""
    return (all(getattr(a, name) == getattr(b, name) for name in _CODE) and (a.co_flags ^ b.co_flags) & _FLAGS == 0
            and len(a.co_consts) == len(b.co_consts) and all(map(_same_const, a.co_consts, b.co_consts)))


def _same_const(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, types.CodeType):
        return same_code(a, b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(_same_const, a, b))
    if isinstance(a, str) and a != b:  # the qualified name of something inside says where the function stands
        return "<locals>." in a and "<locals>." in b and a.rpartition("<locals>.")[2] == b.rpartition("<locals>.")[2]
    if isinstance(a, frozenset):
        return a == b and sorted(map(repr, a)) == sorted(map(repr, b))
    return repr(a) == repr(b)


def parts_of(value: Any) -> List[types.FunctionType]:
    """The functions that an attribute of a class is made of."""
    return [part for _, part in _named_parts(value)]


def _named_parts(value: Any) -> List[Tuple[Optional[Tuple[str, ...]], types.FunctionType]]:
    """They, and by which attributes they are reached; None: by none."""
    parts: List[Tuple[Optional[Tuple[str, ...]], Any]] = [((), value)]
    parts += [((name,), getattr(value, name)) for name in _PARTS.get(type(value), ())]
    if type(value) is functools.singledispatchmethod:
        parts.append((("func",), value.func))
        parts += [(None, one) for one in value.dispatcher.registry.values() if one is not value.func]
    return [(name, part) for name, part in parts if type(part) is types.FunctionType]


def is_of(func: types.FunctionType, body: types.CodeType) -> bool:
    return any(isinstance(one, types.CodeType) and same_code(func.__code__, one) for one in body.co_consts)


def of_function(func: types.FunctionType, what: Callable[[Any, str], What]) -> Iterator[Tuple[str, What]]:
    """What a function has besides its code, closure and defaults, as (name, how it goes). what: how a value goes."""
    title = title_of(func)
    for name, value in vars(func).items():
        yield name, what(value, "%s.%s" % (title, name))
    cells = tuple(types.CellType() for _ in func.__code__.co_freevars)
    if func.__doc__ != types.FunctionType(func.__code__, {}, None, None, cells).__doc__:
        yield "__doc__", what(func.__doc__, "%s.__doc__" % title)
    if func.__module__ not in MAINS and func.__module__ != func.__globals__.get("__name__"):
        yield "__module__", what(func.__module__, "%s.__module__" % title)
    try:
        if func.__annotations__:
            yield "__annotations__", what(func.__annotations__, "")
    except Exception:  # hints that have no meaning here, or are of classes that go as text
        pass


def of_class(kind: type, body: types.CodeType, filename: str, what: Callable[[Any, str], What],
             by_name: Callable[[Any], bool]) -> Iterator[Change]:
    """What has to be set when the body of the class has been executed."""
    stored = {one.argval for one in dis.get_instructions(body) if one.opname == "STORE_NAME"}
    if isinstance(kind, abc.ABCMeta):
        for ref in abc._get_dump(kind)[0]:  # type: ignore[attr-defined] # not in typeshed
            if ref() is not None:
                yield (REGISTER,), what(ref(), "%s, which is registered with %s," % (title_of(ref()), title_of(kind)))
    for name in sorted(stored - vars(kind).keys() - _BODY):
        yield (name,), GONE
    for name, value in list(vars(kind).items()):
        if name not in _BODY:
            yield from _attribute(kind, name, value, body, filename, what, by_name, stored)


def _attribute(kind: type, name: str, value: Any, body: types.CodeType, filename: str, what: Callable[[Any, str], What],
               by_name: Callable[[Any], bool], stored: Set[str]) -> Iterator[Change]:
    title = "%s.%s" % (title_of(kind), name)
    parts = _named_parts(value)
    if parts:
        ours = [part for _, part in parts if is_of(part, body)]
        if all(part in ours or _is_generated(kind, name, part, body, filename) for _, part in parts):
            for path, part in parts:
                changes = list(_of_method(kind, part, body if part in ours else None, title, what))
                if path is not None:
                    yield from (((name, *path, *more), how) for more, how in changes)
                elif part.__defaults__ or part.__kwdefaults__ or vars(part):
                    raise pickle.PicklingError("%s has a function with defaults or attributes, which may have changed"
                                               % title)
        elif value is parts[0][1]:
            yield (name,), what(value, title)
        else:
            raise pickle.PicklingError("%s was put into its class later, and is no function" % title)
    elif isinstance(kind, enum.EnumMeta) and (isinstance(value, kind) or name in kind.__members__
                                              or (name[:1] == "_" and name not in stored)):
        if isinstance(value, kind):
            yield from _of_member(name, value, title, what)
    elif type(value) is functools.partialmethod:
        inner = value.func, *value.args
        yield (name,), ("partialmethod", (tuple(what(one, title) for one in inner), tuple(
            (key, what(one, title)) for key, one in value.keywords.items())))
    elif issubclass(type(value), type) and not by_name(value):
        nested = [one for one in body.co_consts if isinstance(one, types.CodeType) and one.co_name == name]
        if value.__qualname__ == "%s.%s" % (kind.__qualname__, name) and nested:
            yield from (((name, *path), how) for path, how in of_class(value, nested[-1], filename, what, by_name))
        else:
            yield (name,), what(value, title)
    elif isinstance(value, _OPAQUE) or name in _DATACLASS:
        if isinstance(value, _OPAQUE[:2]) and name not in stored:
            raise pickle.PicklingError("%s was put into its class later, and is a lock" % title)
    else:
        try:
            yield (name,), what(value, title)
        except pickle.PicklingError:
            if name not in ("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"):
                raise


def _is_generated(kind: type, name: str, part: types.FunctionType, body: types.CodeType, filename: str) -> bool:
    """Whether a decorator made the function, of a text of its own; it will make it again."""
    if name[:2] == "__" and not _GENERATORS.isdisjoint(vars(kind)):
        inner: Any = getattr(part, "__wrapped__", part)  # dataclasses wraps __repr__ once more
        return bool(inner.__code__.co_filename[0] == "<" and inner.__code__.co_filename != filename)
    inner = getattr(part, "__wrapped__", None)
    return part.__code__.co_filename[0] == "<" and type(inner) is types.FunctionType and is_of(inner, body)


def _of_member(name: str, member: Any, title: str, what: Callable[[Any, str], What]) -> Iterator[Change]:
    """What was set on a member of an enumeration, or may have changed in its value."""
    for key, value in vars(member).items():
        if key == "_value_" and _fixed(value):
            continue
        if key not in ("_name_", "__objclass__", "_sort_order_", "_inverted_"):
            yield (name, key), what(value, "%s.%s" % (title, key))


def _of_method(kind: type, func: types.FunctionType, body: Optional[types.CodeType], title: str,
               what: Callable[[Any, str], What]) -> Iterator[Change]:
    """What a function has that was made with its class. body: of the class; None: a decorator made the function."""
    def default(value: Any) -> What:
        if not _fixed(value) and (body is None or isinstance(value, _OPAQUE)
                                  or (_is_mark(value) and _is_named(value, kind, func, body))):
            return KEPT
        return what(value, "a default of %s" % title)

    if func.__defaults__:
        yield ("__defaults__",), ("defaults", tuple(map(default, func.__defaults__)))
    elif body is not None:
        yield ("__defaults__",), ("defaults", None)
    if func.__kwdefaults__:
        yield ("__kwdefaults__",), ("keywords", tuple((key, default(one)) for key, one in func.__kwdefaults__.items()))
    if body is not None:
        for name, how in of_function(func, what):
            if name != "__annotations__":
                yield (name,), how


def _fixed(value: Any) -> bool:
    if type(value) in (tuple, frozenset):
        return all(map(_fixed, value))
    return value is None or type(value) in (int, float, complex, bool, str, bytes)


def _is_mark(value: Any) -> bool:
    """Whether it is known by being itself and has no state; a copy would be another one."""
    if isinstance(value, (type, types.FunctionType, list, dict, set, bytearray)):
        return False
    try:
        made = value.__reduce_ex__(4)
    except Exception:
        return False
    return isinstance(made, str) or (len(made[1]) == 1 and made[1][0] is type(value) and not any(made[2:]))


def _is_named(value: Any, kind: type, func: types.FunctionType, body: types.CodeType) -> bool:
    """Whether the text of the class means it by a name."""
    spaces: List[Any] = [func.__globals__, vars(kind)]
    found = [func.__globals__.get(name) for name in body.co_names]
    spaces += [vars(module) for module in found if isinstance(module, types.ModuleType)]
    return any(space.get(name) is value for space in spaces for name in body.co_names)


__all__ = ["Plain", "What", "is_of", "of_class", "of_function", "parts_of", "same_code", "title_of"]
