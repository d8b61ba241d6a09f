"""How functions, arguments and results become bytes.

A function of a module goes by its name. One that workers cannot import (of __main__, a lambda, a closure) goes by
value, with cloudpickle where it is installed, else with dill, else as its source text (source.py). When a function
may be taken from what was made of it before is for cache.py to say.

Every error here names the object: that is what somebody with forty arguments needs.
"""
import functools
import hashlib
import importlib
import io
import operator
import os
import pickle
import site
import struct
import sys
import threading
import types
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Type, TypeVar

from .reach import BY_NAME, MAINS, PROTOCOL, Names
from .remote import PACKED, THIS_VERSION, Remote, Source
from .shipped import Modules, shipped
from .source import source_of

SERIALIZERS = ("cloudpickle", "dill", "pickle", "source")
LARGE = 32 * 1024
T = TypeVar("T")
_PROXY = b"RebuildProxy"  # what multiprocessing.managers calls to load a proxy
NAMES = b"\x93"  # in every pickle that names a class or a function
_MAINS = b"\x08__main__", b"\x0b__mp_main__"  # as protocols from 4 on write a name: its length, then itself
_dumps = pickle.dumps
_OURS = __name__.partition(".")[0]  # this package
_mp_main = threading.Lock()  # while cloudpickle or dill are told something about that module


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
_DROPIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "compat", "dropin")


def extra_path() -> Tuple[str, ...]:
    """The entries of sys.path that a worker, which runs in this directory, does not have."""
    return _extra_path(tuple(sys.path), os.getcwd())


@functools.lru_cache(maxsize=16)
def _extra_path(path: Tuple[str, ...], here: str) -> Tuple[str, ...]:
    extra: List[str] = []
    for entry in path:
        entry = os.path.abspath(entry)
        lasting = (entry + os.sep).startswith(_LASTING) and entry != _DROPIN
        if entry != here and entry not in extra and not lasting and os.path.exists(entry):
            extra.append(entry)
    return tuple(extra)


class _Imports:
    """Counts how often this process has imported again what it had imported of the user's own modules; a worker that is
    given a function looks whether their files have changed, and imports them again too."""

    def __init__(self) -> None:
        self._count = 0
        self._size = 0  # of sys.modules, when it was looked through
        self._names: Tuple[str, ...] = ()
        self._modules: Tuple[Any, ...] = ()
        self._specs: Tuple[Any, ...] = ()

    def count(self) -> int:
        if len(sys.modules) != self._size:
            self._look_through()
        if self._names and not (all(map(operator.is_, map(sys.modules.get, self._names), self._modules))
                                and all(map(operator.is_, map(_spec_of, self._modules), self._specs))):
            self._count += 1
            self._look_through()
        return self._count

    def _look_through(self) -> None:
        before = dict(zip(self._names, zip(self._modules, self._specs)))
        self._size = len(sys.modules)
        found = [(name, module, _spec_of(module)) for name, module in list(sys.modules.items())
                 if type(module) is types.ModuleType and _is_users(module)]
        if any(name in before and (before[name][0] is not module or before[name][1] is not spec)
               for name, module, spec in found):
            self._count += 1
        self._names, self._modules, self._specs = zip(*found) if found else ((), (), ())


def _spec_of(module: Any) -> Any:
    return getattr(module, "__spec__", None)  # importlib.reload() gives it another one


def _is_users(module: types.ModuleType) -> bool:
    path = getattr(module, "__file__", None)
    return (isinstance(path, str) and module.__name__ not in MAINS and module.__name__.partition(".")[0] != _OURS
            and not os.path.abspath(path).startswith(_LASTING))


imports = _Imports()


def _mark(function: Any) -> bytes:
    """Changes when the user's own module that holds the function is edited, or one is imported again, so that workers
    import it again. It stands behind the pickle's end, where nobody reads it."""
    again = imports.count()
    return _file_mark(function) + (b"#%d" % again if again else b"")


def _file_mark(function: Any) -> bytes:
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    path = getattr(module, "__file__", None)
    if not path or os.path.abspath(path).startswith(_LASTING):
        return b""
    try:
        stat = os.stat(path)
    except OSError:
        return b""
    return b"#%d.%d" % (stat.st_mtime_ns, stat.st_size)


def _is_installed(what: Any) -> bool:
    """Whether it is of a module that every Python has, or of an installed package."""
    module = sys.modules.get(getattr(what, "__module__", None) or "")
    path: Optional[str] = getattr(module, "__file__", None)
    if module is None or path is None:
        return module is not None and module.__name__ in sys.builtin_module_names
    return os.path.abspath(path).startswith(_LASTING)


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


class Parts(NamedTuple):
    """What a function becomes before it is one pickle; equal parts make equal pickles."""

    version: Optional[Tuple[int, ...]]  # of Python, where that matters
    path: Tuple[str, ...]
    blob: bytes
    source: Optional[Source]
    init_key: str
    chunked: int  # 0; 1: takes chunks of tuples of arguments; 2: of single arguments
    modules: Tuple[str, ...]
    shipped: bytes  # modules (shipped.py)
    plain: bool  # the blob is all there is to send
    mark: bytes
    wrapped: bool = False  # it takes packed arguments in any case
    environ: Optional[Dict[str, str]] = None  # set before the initializer runs
    log: Optional[Tuple[int, str]] = None  # the least level of what it logs that is sent, and what marks that

    def sent(self, fresh: bool) -> Sent:
        """Ready for a stream. fresh: each call loads it anew."""
        whole = self.blob
        if not self.plain:
            whole = _dumps(Remote(version=self.version, path=self.path, blob=self.blob, source=self.source,
                                  init_key=self.init_key, chunked=self.chunked, modules=self.modules, fresh=fresh,
                                  wrapped=self.wrapped, shipped=self.shipped, environ=self.environ, log=self.log),
                           PROTOCOL)
        whole += self.mark
        return Sent(hashlib.sha256(whole).digest(), whole, bool(self.path or self.shipped) and not self.plain)


class Serializer:
    """One way to make bytes. name: one of SERIALIZERS, None for the best that is installed. modules: see shipped.py."""

    def __init__(self, name: Optional[str] = None, modules: Modules = ()) -> None:
        if name is not None and name not in SERIALIZERS:
            raise ValueError("serializer is one of %s, not %r" % (", ".join(SERIALIZERS), name))
        self.name = name
        self._shipped, self._shipped_names = shipped(modules, _is_users)
        self._by_value: Optional[types.ModuleType] = None
        if name in ("cloudpickle", "dill"):
            self._by_value = importlib.import_module(name)
        elif name is None:
            self._by_value = module_of("cloudpickle") or module_of("dill")
        self.names = Names(getattr(self._by_value, "list_registry_pickle_by_value", tuple))

    def holds_values(self, blob: bytes, what: Any) -> bool:
        """Whether a pickle of what names something that has to go by value: what is in __main__, which is another
        module where it will be loaded, or in a module that is registered with cloudpickle. Looking through a megabyte
        takes as long as sending it, so the contents of arrays are left out."""
        if NAMES not in blob:
            return False
        if len(blob) > LARGE:
            blob = _dumps(what, PROTOCOL, buffer_callback=_leave_out)
        return self.mentions_values(blob)

    def mentions_values(self, blob: bytes) -> bool:
        """The same of a pickle as it is. A manager's proxy needs the same, to take its key along."""
        return (_MAINS[0] in blob or _MAINS[1] in blob or _PROXY in blob
                or any(name.encode() in blob for name in self.names.registered()))

    # functions

    def function(self, func: Callable[..., Any], *, chunked: int = 0,
                 initializer: Optional[Callable[..., Any]] = None, initargs: Tuple[Any, ...] = (), init_key: str = "",
                 modules: Tuple[str, ...] = (), friends: Tuple[Tuple[str, Any], ...] = (),
                 wrapped: bool = False, environ: Optional[Dict[str, str]] = None,
                 log: Optional[Tuple[int, str]] = None) -> Parts:
        """What func becomes; PicklingError names it when that is not possible. modules: those that shall be bound among
        its globals; friends: functions and classes that shall be, by these names; for the others see Parts."""
        path = extra_path()
        parts = Parts(None, path, b"", None, init_key if initializer is not None else "", chunked, modules,
                      self._shipped, False, _mark(func), wrapped, environ, log)
        by_name = self._importable(func) and (self.name != "source" or self._is_there(func))
        if self.name == "source" and initializer is not None:
            raise ValueError("the serializer 'source' sends no initializer")
        if by_name and initializer is None and self.name != "cloudpickle" and self.name != "dill":
            if not (chunked or path or modules or friends or wrapped or self._shipped or log):
                return parts._replace(blob=self._plain(func), plain=True)
            if self._importable(friends):
                return parts._replace(blob=_dumps((func, None, (), friends), PROTOCOL))
        if self.name == "source" or (self.name is None and self._by_value is None and initializer is None):
            return parts._replace(source=source_of(func, friends, self._goes_by_name))
        blob = self._value((func, initializer, initargs, friends), "the function " + describe(func))
        return parts._replace(blob=blob, version=tuple(THIS_VERSION))

    def apply(self) -> Optional[Sent]:
        """The function that calls its first argument, for callables that go along with each call: what they are made
        of is found where this process finds it, and as it is now. None: workers find it anyway."""
        path, mark = extra_path(), _mark(None)
        if not path and not mark and not self._shipped:
            return None
        return Parts(None, path, b"", None, "", 0, (), self._shipped, False, mark).sent(False)

    def _importable(self, func: Any) -> bool:
        """Whether a worker finds it by its name."""
        try:
            blob = _dumps(func, PROTOCOL)
        except Exception:
            return False
        return not self.holds_values(blob, func)

    def _goes_by_name(self, what: Any) -> bool:
        """Whether a function or class that goes along as source is found by its name instead."""
        return self.names.found(what) and (self.name != "source" or self._is_there(what))

    def _is_there(self, what: Any) -> bool:
        return getattr(what, "__module__", None) in self._shipped_names or _is_installed(what)

    def _plain(self, func: Any) -> bytes:
        try:
            return _dumps(func, PROTOCOL)
        except Exception as error:
            raise pickle.PicklingError("the function %s cannot be pickled: %s" % (describe(func), error)) from error

    def _value(self, what: Any, words: str) -> bytes:
        """Pickles by value; words name it when that fails."""
        try:
            if self._by_value is None:
                file = io.BytesIO()
                _NoMain(file, PROTOCOL).dump(what)
                return file.getvalue()
            return self.by_value(functools.partial(self._by_value_dumps, what))
        except Exception as error:
            where = _uncodable(what)
            hint = "" if self._by_value is not None else " (by name: what workers cannot import needs cloudpickle)"
            raise pickle.PicklingError("%s cannot be pickled%s%s: %s" % (words, hint, where and " at %s" % where,
                                                                         error)) from error

    def _by_value_dumps(self, what: Any) -> bytes:
        assert self._by_value is not None
        if self._by_value.__name__ == "dill":
            return bytes(self._by_value.dumps(what, protocol=PROTOCOL, recurse=True, byref=False))
        file = io.BytesIO()
        pickler_of(self._by_value)(file, protocol=PROTOCOL).dump(what)
        return file.getvalue()

    def by_value(self, dump: Callable[[], T]) -> T:
        """dump(), which pickles with cloudpickle or dill. In a child that multiprocessing has spawned, what the main script
        has defined is in a module of another name, which these take for one that can be imported everywhere."""
        if "__mp_main__" not in sys.modules:
            return dump()
        with _mp_main:
            return self._with_mp_main(dump)

    def _with_mp_main(self, dump: Callable[[], T]) -> T:
        registry = getattr(self._by_value, "register_pickle_by_value", None)
        main = sys.modules["__mp_main__"]
        if registry is None:
            del sys.modules["__mp_main__"]
            try:
                return dump()
            finally:
                sys.modules["__mp_main__"] = main
        if main.__name__ in self.names.registered():
            return dump()
        registry(main)
        try:
            return dump()
        finally:
            getattr(self._by_value, "unregister_pickle_by_value")(main)

    # arguments

    def call(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bytes:
        """(func, args, kwargs) as one pickle, for callables with a state of their own."""
        return self._arguments((func, args, kwargs), "the call", func, args, kwargs)

    def arguments(self, func: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any]) -> bytes:
        """(args, kwargs) as a pickle that workers can load: by value what they cannot import."""
        return self._arguments((args, kwargs), "the arguments", func, args, kwargs)

    def value(self, what: Any, words: str) -> bytes:
        """what as a pickle that workers can load; words name it in the PicklingError."""
        try:
            blob = _dumps(what, PROTOCOL)
            if not self.holds_values(blob, what):
                return blob
        except Exception:
            pass
        return self._value(what, words)

    def _arguments(self, what: Any, words: str, func: Callable[..., Any], args: Tuple[Any, ...],
                   kwargs: Dict[str, Any]) -> bytes:
        try:
            blob = _dumps(what, PROTOCOL)
            if not self.holds_values(blob, what) and (len(what) == 2 or self.name in (None, "pickle")):
                return blob
        except Exception:
            if self._by_value is None:
                self._name_culprit(func if len(what) == 3 else None, func, args, kwargs)
        try:
            return self._value(what, words)
        except pickle.PicklingError:
            self._name_culprit(func if len(what) == 3 else None, func, args, kwargs)
            raise

    def _name_culprit(self, whole: Any, func: Callable[..., Any], args: Tuple[Any, ...],
                      kwargs: Dict[str, Any]) -> None:
        """Raises PicklingError for the first argument that does not pickle. whole: func, where it goes with them."""
        title = describe(func)
        self._value(whole, "the function " + title)
        for i, arg in enumerate(args):
            self._value(arg, "argument %d of %s, %s," % (i + 1, title, describe(arg)))
        for name, arg in kwargs.items():
            self._value(arg, "argument %s of %s, %s," % (name, title, describe(arg)))


@functools.lru_cache(maxsize=None)
def pickler_of(module: types.ModuleType) -> Type[Any]:
    """The pickler of cloudpickle or dill."""
    base: Type[Any] = module.Pickler
    if module.__name__ != "cloudpickle":
        return base

    class Pickler(base):  # type: ignore[misc] # whose class is known when it runs
        """Takes functions with a functools.lru_cache along as well: without what they have cached."""

        def reducer_override(self, what: Any) -> Any:
            if type(what) is functools._lru_cache_wrapper and what.__module__ in MAINS:
                return _cached(what)
            if _is_proxy(what):
                return _proxy(what)
            return super().reducer_override(what)

    return Pickler


def _cached(what: Any) -> Tuple[Any, ...]:
    how = what.cache_parameters()
    state = {name: value for name, value in vars(what).items() if name != "cache_parameters"}
    return (functools._lru_cache_wrapper, (what.__wrapped__, how["maxsize"], how["typed"],
                                           functools._CacheInfo), state)


class _NoMain(pickle.Pickler):
    """Refuses what workers would not find."""

    def reducer_override(self, what: Any) -> Any:
        if isinstance(what, BY_NAME) and what.__module__ in MAINS:
            raise pickle.PicklingError("%s is defined in __main__, which workers do not have" % what.__qualname__)
        return _proxy(what) if _is_proxy(what) else NotImplemented


def _is_proxy(what: Any) -> bool:
    """Whether it stands for an object of a multiprocessing.Manager."""
    managers = sys.modules.get("multiprocessing.managers")
    return managers is not None and isinstance(what, managers.BaseProxy)


def _proxy(what: Any) -> Tuple[Any, ...]:
    """The proxy with the key of its manager, as children of this process have it; a worker is none."""
    make, (kind, token, serializer, words) = what.__reduce__()
    return make, (kind, token, serializer, {**words, "authkey": bytes(what._authkey)})


def packed(blob: bytes) -> Tuple[bytes, bytes]:
    """What stands before and behind blob in a pickle of ((blob,), {PACKED: True})."""
    return _PACKED_HEAD.pack(b"\x80\x05\x8e", len(blob)), _PACKED_TAIL


class _Loaded:
    """Pickles as what a pickle has."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def __reduce__(self) -> Tuple[Any, ...]:
        return pickle.loads, (self.blob,)


class _Call:
    """Pickles as (func, args, kwargs), of a pickle of func and one of (args, kwargs)."""

    def __init__(self, func: bytes, arguments: bytes) -> None:
        self.parts = (_Loaded(func),), _Loaded(arguments)

    def __reduce__(self) -> Tuple[Any, ...]:
        return operator.add, self.parts


def joined(func: bytes, arguments: bytes) -> bytes:
    """The pickle of (func, args, kwargs), of a pickle of func and one of (args, kwargs)."""
    return _dumps(_Call(func, arguments), PROTOCOL)


_PACKED_HEAD = struct.Struct("<3sQ")  # protocol 5, and a bytes object of so many bytes
_PACKED_TAIL = b"\x85}\x8c" + bytes((len(PACKED),)) + PACKED.encode() + b"\x88s\x86."


def load_exception(data: bytes) -> Optional[BaseException]:
    """An exception that came back; None when it cannot be loaded here."""
    if not data:
        return None
    try:
        error = pickle.Unpickler(io.BytesIO(data)).load()
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None
