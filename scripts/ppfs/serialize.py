"""How functions, arguments and results become bytes.

A function of an installed module goes by its name. One that workers cannot import (of __main__, a lambda, a closure)
goes by value, with cloudpickle where it is installed, else with dill, else as its source text. What is pickled once is
kept as long as the function lives, and made again when a name that it refers to means another object by now.

Every error here names the object: that is what somebody with forty arguments needs.
"""
import ast
import functools
import hashlib
import importlib
import inspect
import io
import os
import pickle
import site
import struct
import sys
import textwrap
import types
import uuid
import weakref
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from .remote import PACKED, THIS_VERSION, Remote

PROTOCOL = 5
SERIALIZERS = ("cloudpickle", "dill", "pickle", "source")
LARGE = 32 * 1024
_MAIN = b"\x08__main__"  # as every protocol from 4 on writes the name: its length, then itself
_SIMPLE = (int, float, complex, str, bytes, bool, type(None), types.ModuleType, types.BuiltinFunctionType)
_dumps = pickle.dumps


def names_main(blob: bytes, what: Any) -> bool:
    """Whether a pickle of what refers to something in __main__, which is another module where it will be loaded.
    Looking through a megabyte takes as long as sending it, so the contents of arrays are left out."""
    if len(blob) > LARGE:
        blob = _dumps(what, PROTOCOL, buffer_callback=_leave_out)
    return _MAIN in blob


def _leave_out(_: pickle.PickleBuffer) -> bool:
    return False


class Sent(NamedTuple):
    """A function, ready for a stream."""

    digest: bytes  # SHA-256 of blob
    blob: bytes  # a pickle that loads as a callable
    packed: bool  # arguments that name anything go packed (see remote.py)


def module_of(name: str) -> Optional[types.ModuleType]:
    """The module of that name where it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def describe(what: Any) -> str:
    """An object in a few words, whatever it is."""
    name = getattr(what, "__qualname__", None)
    if isinstance(name, str):
        return "%s.%s" % (getattr(what, "__module__", None) or "?", name)
    try:
        text = repr(what)
    except Exception:
        text = "<?>"
    kind = type(what).__name__
    return "a %s, %s" % (kind, text if len(text) <= 80 else text[:77] + "...")


def _lasting() -> Tuple[str, ...]:
    """Where installed packages are: what workers find as well."""
    roots = [os.path.join(p, "lib") for p in {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", "/usr/local"}]
    return tuple(os.path.join(r, "")
                 for r in [*roots, *[os.path.join(p, "lib64") for p in {sys.prefix, sys.base_prefix}],
                                               site.getusersitepackages()])


_LASTING = _lasting()


def extra_path() -> Tuple[str, ...]:
    """The entries of sys.path that a worker, which runs in this directory, does not have."""
    return _extra_path(tuple(sys.path), os.getcwd())


@functools.lru_cache(maxsize=16)
def _extra_path(path: Tuple[str, ...], here: str) -> Tuple[str, ...]:
    extra: List[str] = []
    for entry in path:
        entry = os.path.abspath(entry)
        if entry != here and entry not in extra and not (entry + os.sep).startswith(_LASTING) and os.path.exists(entry):
            extra.append(entry)
    return tuple(extra)


def _file_mark(function: Any) -> bytes:
    """Changes when the user's own module that holds the function is edited, so that workers load it anew. It stands
    behind the pickle's end, where nobody reads it."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if not path or os.path.abspath(path).startswith(_LASTING):
        return b""
    try:
        stat = os.stat(path)
    except OSError:
        return b""
    return b"#%d.%d" % (stat.st_mtime_ns, stat.st_size)


def _uncodable(what: Any) -> str:
    """The innermost part of an object that does not pickle, in words; '' when none stands out."""
    parts: List[Tuple[str, Any]] = []
    if isinstance(what, (tuple, list, set, frozenset)):
        parts = [("[%d]" % i, part) for i, part in enumerate(what)]
    elif isinstance(what, dict):
        parts = [("[%r]" % (key,), part) for key, part in what.items()]
    elif hasattr(what, "__dict__") and not isinstance(what, (type, types.ModuleType, types.FunctionType)):
        parts = [("." + key, part) for key, part in vars(what).items()]
    for where, part in parts[:1000]:
        try:
            _dumps(part, PROTOCOL)
        except Exception:
            return where + _uncodable(part)
    return ""


class Serializer:
    """One way to make bytes. name: one of SERIALIZERS, None for the best that is installed."""

    def __init__(self, name: Optional[str] = None) -> None:
        if name is not None and name not in SERIALIZERS:
            raise ValueError("serializer is one of %s, not %r" % (", ".join(SERIALIZERS), name))
        self.name = name
        self._by_value: Optional[types.ModuleType] = None
        if name in ("cloudpickle", "dill"):
            self._by_value = importlib.import_module(name)
        elif name is None:
            self._by_value = module_of("cloudpickle") or module_of("dill")

    # functions

    def function(self, func: Callable[..., Any], *, chunked: bool = False,
                 initializer: Optional[Callable[..., Any]] = None, initargs: Tuple[Any, ...] = (), init_key: str = "",
                 names: Optional[Tuple[Tuple[str, ...], Tuple[Tuple[str, Any], ...]]] = None) -> Sent:
        """Makes func ready for a stream; PicklingError names it when that is not possible. names: modules that shall be
        bound among its globals, and (name, function) pairs."""
        path = extra_path()
        mark = _file_mark(func)
        version: Optional[Sequence[int]] = None
        source = None
        blob = b""
        if self.name == "source" or (self.name is None and self._by_value is None and not self._importable(func)):
            if self.name == "source" and initializer is not None:
                raise ValueError("the serializer 'source' sends no initializer")
            source = self._source(func, names[1] if names else (), names[0] if names else ())
        elif self._importable(func) and initializer is None and self.name in (None, "pickle"):
            blob = self._plain(func)
            if not (chunked or path or names):
                blob += mark
                return Sent(hashlib.sha256(blob).digest(), blob, False)
            friends = names[1] if names else ()
            if self._importable(friends):
                blob = _dumps((func, None, (), friends), PROTOCOL)
            else:
                blob, version = self._value((func, None, (), friends), "the function " + describe(func)), THIS_VERSION
        else:
            friends = names[1] if names else ()
            blob = self._value((func, initializer, initargs, friends), "the function " + describe(func))
            version = THIS_VERSION
        remote = Remote(version=version, path=path, blob=blob, source=source,
                        init_key=init_key if initializer is not None else "", chunked=chunked,
                        modules=names[0] if names else ())
        whole = _dumps(remote, PROTOCOL) + mark
        return Sent(hashlib.sha256(whole).digest(), whole, bool(path))

    def apply(self) -> Optional[Sent]:
        """The function that calls its first argument, for callables that go along with each call: what they are made
        of is found where this process finds it. None: workers find everything that they can find anyway."""
        path = extra_path()
        if not path:
            return None
        whole = _dumps(Remote(version=None, path=path), PROTOCOL)
        return Sent(hashlib.sha256(whole).digest(), whole, True)

    @staticmethod
    def _importable(func: Any) -> bool:
        """Whether a worker finds it by its name."""
        try:
            blob = _dumps(func, PROTOCOL)
        except Exception:
            return False
        return _MAIN not in blob

    def _plain(self, func: Any) -> bytes:
        try:
            return _dumps(func, PROTOCOL)
        except Exception as error:
            raise pickle.PicklingError("the function %s cannot be pickled: %s" % (describe(func), error)) from error

    def _value(self, what: Any, words: str) -> bytes:
        """Pickles by value; words name it when that fails."""
        try:
            if self._by_value is None:
                blob = _dumps(what, PROTOCOL)
                if _MAIN in blob:
                    raise pickle.PicklingError("it is defined in __main__, which workers do not have")
                return blob
            if self._by_value.__name__ == "dill":
                blob = self._by_value.dumps(what, protocol=PROTOCOL, recurse=True, byref=False)
            else:
                blob = self._by_value.dumps(what, protocol=PROTOCOL)
            return bytes(blob)
        except Exception as error:
            where = _uncodable(what)
            hint = "" if self._by_value is not None else " (by name: what workers cannot import needs cloudpickle)"
            raise pickle.PicklingError("%s cannot be pickled%s%s: %s" % (words, hint, where and " at %s" % where,
                                                                         error)) from error

    @classmethod
    def _source(cls, func: Any, friends: Tuple[Tuple[str, Any], ...],
                modules: Tuple[str, ...]) -> Tuple[str, str, Tuple[str, ...]]:
        """(text, name, modules): the functions as their source, and what the one to call is named there."""
        texts = [cls._text_of(friend)[0] for _, friend in friends if friend is not func]
        text, name = cls._text_of(func)
        return "\n".join([*texts, text]), name, modules

    @staticmethod
    def _text_of(func: Any) -> Tuple[str, str]:
        """The source of a function or class, and the name that executing it gives."""
        try:
            text = textwrap.dedent(inspect.getsource(func))
        except (OSError, TypeError) as error:
            try:
                text = importlib.import_module("dill.source").getsource(func)
            except Exception:
                raise pickle.PicklingError("the source of %s is not there: %s" % (describe(func), error)) from error
        name = getattr(func, "__name__", "")
        if name != "<lambda>":
            return text, name
        for node in ast.walk(ast.parse(text.strip().rstrip(","))):
            if isinstance(node, ast.Lambda):
                return "_lambda = " + ast.unparse(node), "_lambda"
        raise pickle.PicklingError("the source of %s holds no lambda" % describe(func))

    # arguments

    def call(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bytes:
        """(func, args, kwargs) as one pickle, for callables with a state of their own."""
        try:
            blob = _dumps((func, args, kwargs), PROTOCOL)
            if _MAIN not in blob and self.name in (None, "pickle"):
                return blob
        except Exception:
            if self._by_value is None:
                self._name_culprit(func, args, kwargs)
        try:
            return self._value((func, args, kwargs), "the call")
        except pickle.PicklingError:
            self._name_culprit(func, args, kwargs)
            raise

    def arguments(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bytes:
        """(args, kwargs) as a pickle that workers can load: by value what they cannot import."""
        try:
            blob = _dumps((args, kwargs), PROTOCOL)
            if not names_main(blob, (args, kwargs)):
                return blob
        except Exception:
            if self._by_value is None:
                self._name_culprit(func, args, kwargs)
        try:
            return self._value((args, kwargs), "the arguments")
        except pickle.PicklingError:
            self._name_culprit(func, args, kwargs)
            raise

    def _name_culprit(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> None:
        """Raises PicklingError for the first argument that does not pickle."""
        title = describe(func)
        self._value(func, "the function " + title)
        for i, arg in enumerate(args):
            self._value(arg, "argument %d of %s, %s," % (i + 1, title, describe(arg)))
        for name, arg in kwargs.items():
            self._value(arg, "argument %s of %s, %s," % (name, title, describe(arg)))


def packed(blob: bytes) -> Tuple[bytes, bytes]:
    """What stands before and behind blob in a pickle of ((blob,), {PACKED: True})."""
    return _PACKED_HEAD.pack(b"\x80\x05\x8e", len(blob)), _PACKED_TAIL


_PACKED_HEAD = struct.Struct("<3sQ")  # protocol 5, and a bytes object of so many bytes
_PACKED_TAIL = b"\x85}\x8c" + bytes((len(PACKED),)) + PACKED.encode() + b"\x88s\x86."
NAMES = b"\x93"  # in every pickle that names a class or a function


class Entry:
    """A function that was sent, and what it referred to then."""

    __slots__ = ("ref", "sent", "packed", "prefix", "_globals", "_seen", "_cells", "_volatile")

    def __init__(self, func: Any, sent: Sent, prefix: bytes, gone: Optional[Callable[[Any], object]] = None) -> None:
        self.ref = weakref.ref(func, gone)
        self.sent = sent
        self.packed = sent.packed
        self.prefix = prefix
        self._globals: Dict[str, Any] = {}
        self._seen: Tuple[Tuple[str, Any], ...] = ()
        self._cells: Tuple[Tuple[Any, Any], ...] = ()
        self._volatile = False  # a closure over something that may change without a name meaning another object
        if isinstance(func, types.FunctionType):
            by_name = func.__module__ != "__main__" and func.__name__ == func.__qualname__ != "<lambda>"
            if not by_name:
                self._note_references(func)

    def _note_references(self, func: types.FunctionType) -> None:
        self._cells = tuple((cell, cell.cell_contents) for cell in func.__closure__ or () if _filled(cell))
        self._volatile = not all(value is func or isinstance(value, _SIMPLE) for _, value in self._cells)
        self._globals = space = func.__globals__
        self._seen = tuple((name, space[name]) for name in dict.fromkeys(_names(func.__code__)) if name in space)

    def current(self) -> bool:
        """Whether the names that the function refers to still mean the same objects."""
        if self._volatile:
            return False
        space = self._globals
        for name, value in self._seen:
            if space.get(name, space) is not value:
                return False
        for cell, value in self._cells:
            if not _filled(cell) or cell.cell_contents is not value:
                return False
        return True


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _names(const)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True


class FunctionCache:
    """The functions of one executor, as they are named in its calls; submit() looks here first."""

    def __init__(self, serializer: Serializer, prefix_of: Callable[[Optional[bytes]], bytes],
                 initializer: Optional[Callable[..., Any]] = None, initargs: Tuple[Any, ...] = (),
                 init_key: str = "") -> None:
        self.serializer = serializer
        self._prefix_of = prefix_of
        self._initializer, self._initargs = initializer, initargs
        self._init_key = init_key or uuid.uuid4().hex
        self._entries: Dict[int, Entry] = {}
        self._chunked: Dict[int, Entry] = {}

    def find(self, func: Callable[..., Any], chunked: bool = False) -> Optional[Entry]:
        """The entry of func, made now if need be. None: it has a state of its own and goes along with each call."""
        entries = self._chunked if chunked else self._entries
        key = id(func)
        entry = entries.get(key)
        if entry is not None and entry.ref() is func and entry.current():
            return entry
        stateless = self._stateless(func)
        if not stateless and self._initializer is None and not chunked:
            return None
        sent = self.serializer.function(func, chunked=chunked, initializer=self._initializer, initargs=self._initargs,
                                        init_key=self._init_key)
        if not stateless:  # an initializer or chunks: sent as a function all the same, but never taken from here again
            return Entry(_Nothing(), sent, self._prefix_of(sent.digest))
        entry = entries[key] = Entry(func, sent, self._prefix_of(sent.digest), lambda _: entries.pop(key, None))
        return entry

    def adopt(self, sent: Sent) -> Entry:
        """An entry for a function that somebody else has made ready."""
        return Entry(_Nothing(), sent, self._prefix_of(sent.digest))

    def _stateless(self, func: Any) -> bool:
        """Whether what it does is settled by its identity."""
        if isinstance(func, types.BuiltinFunctionType):
            bound = func.__self__
            return bound is None or isinstance(bound, types.ModuleType)
        return isinstance(func, (types.FunctionType, type))


class _Nothing:
    """Stands in for a callable that is not remembered."""

    __slots__ = ("__weakref__",)


def load_exception(data: bytes) -> Optional[BaseException]:
    """An exception that came back; None when it cannot be loaded here."""
    if not data:
        return None
    try:
        error = pickle.Unpickler(io.BytesIO(data)).load()
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
