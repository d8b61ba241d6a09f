"""Functions that were sent, and when they may be taken from there.

What a call does is settled by the bytes that its function pickles to at that submit(). They are made again each time,
unless nothing that the function reaches can have changed (reach.py); bytes that are the same as before are not sent
again. A function that changes from call to call goes along with each, so that not every state of it is kept until the
stream ends.
"""
import functools
import sys
import types
import uuid
import weakref
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from .reach import Reach
from .serialize import Parts, Sent, Serializer, imports

MOST = 1024  # functions that are remembered; those that refer to themselves only go when newer ones come


class Entry:
    """A function as it was sent."""

    __slots__ = ("refs", "sent", "packed", "prefix", "along", "_parts", "_reach", "_path", "_imports")

    def __init__(self, sent: Sent, prefix: bytes) -> None:
        self.refs: Tuple["weakref.ref[Any]", ...] = ()
        self.sent, self.prefix = sent, prefix
        self.packed = sent.packed
        self.along = False  # it differs from the time before: it goes along with its call
        self._parts: Optional[Parts] = None
        self._reach: Optional[Reach] = None
        self._path: List[str] = []
        self._imports = 0

    def current(self) -> bool:
        """Whether it would be the same if it were made now."""
        return (self._reach is not None and self._path == sys.path and self._imports == imports.count()
                and self._reach.current())


class FunctionCache:
    """The functions of one executor, as they are named in its calls; submit() looks here first."""

    def __init__(self, serializer: Serializer, prefix_of: Callable[[Optional[bytes]], bytes],
                 initializer: Optional[Callable[..., Any]] = None, initargs: Tuple[Any, ...] = (),
                 init_key: str = "", environ: Optional[Dict[str, str]] = None,
                 log: Optional[Tuple[int, str]] = None) -> None:
        self.serializer = serializer
        self._environ, self._log = environ, log
        self._prefix_of = prefix_of
        self._initializer, self._initargs = initializer, initargs
        self._init_key = init_key or uuid.uuid4().hex
        self._entries: Dict[Any, Entry] = {}
        self._others: Dict[Tuple[int, bool], Dict[Any, Entry]] = {}  # chunked, wrapped

    def find(self, func: Callable[..., Any], chunked: int = 0, wrapped: bool = False) -> Optional[Entry]:
        """The entry of func, made now if need be. None: it has a state of its own and goes along with each call. wrapped:
        that takes packed arguments; there is always one."""
        entries = self._others.setdefault((chunked, wrapped), {}) if chunked or wrapped else self._entries
        entry = entries.get(id(func))
        if entry is not None and entry.refs[0]() is func and entry.current():
            entry.along = False
            return entry
        stateless = _stateless(func)
        if not stateless and self._initializer is None and not chunked and not wrapped and not self._log:
            return None
        return self._make(entries, id(func), (func,), stateless, chunked=chunked, wrapped=wrapped)

    def find_with(self, func: Callable[..., Any], modules: Tuple[str, ...],
                  friends: Tuple[Tuple[str, Any], ...]) -> Entry:
        """The entry of func with modules and friends bound among its globals (see Serializer.function)."""
        roots = (func, *[friend for _, friend in friends])
        key = (modules, *map(id, roots))
        entry = self._entries.get(key)
        if entry is not None and all(ref() is root for ref, root in zip(entry.refs, roots)) and entry.current():
            entry.along = False
            return entry
        return self._make(self._entries, key, roots, all(map(_stateless, roots)), modules=modules, friends=friends)

    def adopt(self, sent: Sent) -> Entry:
        """An entry for a function that somebody else has made ready."""
        return Entry(sent, self._prefix_of(sent.digest))

    def _make(self, entries: Dict[Any, Entry], key: Any, roots: Tuple[Any, ...], keep: bool, **how: Any) -> Entry:
        """keep: the entry is for the next time too."""
        before = entries.get(key)
        if before is not None and not all(ref() is root for ref, root in zip(before.refs, roots)):
            before = None
        path, count = list(sys.path), imports.count()
        reach = self._reach(roots) if keep else None  # before it is pickled: what changes in between is seen next time
        parts = self.serializer.function(roots[0], initializer=self._initializer, initargs=self._initargs,
                                         init_key=self._init_key, environ=self._environ, log=self._log, **how)
        if before is not None and before._parts == parts:
            before._reach, before._path, before._imports, before.along = reach, path, count, False
            return before
        sent = parts.sent(fresh=self._initializer is None and not (reach and reach.pure))
        entry = Entry(sent, self._prefix_of(sent.digest))
        if keep:
            entry._parts, entry._reach, entry._path, entry._imports = parts, reach, path, count
            entry.along = before is not None and before._parts is not None and before._parts.mark == parts.mark
            entry.refs = tuple(weakref.ref(root, functools.partial(_forget, entries, key)) for root in roots)
            entries[key] = entry
            if len(entries) > MOST:
                for oldest in list(entries)[:MOST // 2]:
                    entries.pop(oldest, None)
        return entry

    def _reach(self, roots: Iterable[Any]) -> Reach:
        initial = () if self._initializer is None else (self._initializer,)
        return Reach(self.serializer.names, (*roots, *initial), self._initargs)


def _forget(entries: Dict[Any, Entry], key: Any, gone: "weakref.ref[Any]") -> None:
    """A function has gone; its entry goes too, unless it is another's already."""
    entry = entries.get(key)
    if entry is not None and any(ref is gone for ref in entry.refs):
        entries.pop(key, None)


def _stateless(func: Any) -> bool:
    """Whether it is a function or a class, and no object with a state of its own."""
    if isinstance(func, types.BuiltinFunctionType):
        bound = func.__self__
        return bound is None or isinstance(bound, types.ModuleType)
    return isinstance(func, (types.FunctionType, type))


__all__ = ["Entry", "FunctionCache"]
