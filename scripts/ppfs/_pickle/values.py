"""Large arguments that many calls have: they cross once, by their hash.

A call is sent whole the first time that one of its arguments is large. The argument is remembered, without being kept
alive; when the very same object is an argument of a later call, it is pickled by itself, sent once in a FUNC frame, and
the pickle of the call refers to it (ppfs-stream(5)). What a call gets is settled by the SHA-256 of the pickle of that
moment: an array that was changed meanwhile is another value, and one that changes each time goes whole again.

An object that holds others may share parts with another argument, and a pickle keeps that: such an object goes by its
hash only where all other arguments are numbers, text or bytes.
"""
import array
import hashlib
import io
import pickle
import struct
import sys
import threading
import types
import weakref
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Protocol, Sequence, Set, Tuple, Type

from .reach import PROTOCOL
from .remote import PACKED
from .serialize import Serializer, pickler_of

LARGE_VALUE = 64 * 1024  # bytes from which on an argument may go by its hash
LARGEST_VALUE = 64 << 20  # and up to which; ppfs takes no larger ones
MOST = 255  # values that a call can list
REMEMBERED = 64  # objects
MANY = 10_000  # items of a container: walking through it by itself costs more than is won
_FIXED = frozenset((int, float, complex, bool, str, bytes, type(None), type, types.FunctionType,
                    types.BuiltinFunctionType, types.ModuleType))
_SIZED = frozenset((str, bytes, bytearray, array.array, list, tuple, dict, set, frozenset))
_BYTES = struct.Struct("<3sQ")  # how a pickle of a bytes object begins
_CONTAINERS = frozenset((list, tuple, dict, set, frozenset))


class Taker(Protocol):
    """What takes values, each before the first call that needs it: a stream (channel.py)."""

    announced: Set[bytes]  # the digests that it has

    def announce(self, digest: bytes, blob: bytes) -> None:
        """Takes a value, unless it has it."""


class Plan(NamedTuple):
    """How a call goes: its pickle, and the values that this refers to."""

    blob: bytes
    digests: List[bytes]


def _is_leaf(what: Any) -> bool:
    """Whether it holds bytes and no other objects."""
    kind = type(what)
    if kind in (str, bytes, bytearray, array.array):
        return True
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and not what.dtype.hasobject


def _may_be_large(what: Any) -> bool:
    """What cannot be told without pickling it may be."""
    if type(what) in _SIZED:
        return sys.getsizeof(what) > LARGE_VALUE
    if type(what) in _FIXED:
        return False
    try:
        size = what.nbytes
    except Exception:
        return True
    return size > LARGE_VALUE if isinstance(size, int) else True


class _Seen:
    """An argument of an earlier call."""

    __slots__ = ("ref", "sample", "digests", "changes", "rest")

    def __init__(self, what: Any) -> None:
        self.ref: Optional["weakref.ref[Any]"] = None
        self.sample: Any = None
        try:
            self.ref = weakref.ref(what)
        except TypeError:
            self.sample = _sample(what)
        self.digests: Dict[bool, bytes] = {}  # of the last time that it was pickled: packed, and not
        self.changes = 0  # times that it had changed then
        self.rest = 0  # calls from now on in which it is not looked at

    def is_of(self, what: Any) -> bool:
        """Whether it is that object. Where no reference can tell, a look at some of it is enough: to be wrong costs
        time and nothing else."""
        return self.ref() is what if self.ref is not None else bool(self.sample == _sample(what))


def _sample(what: Any) -> Any:
    if type(what) in (str, bytes, bytearray):
        middle = len(what) // 2
        return len(what), what[:64], what[middle:middle + 64], what[-64:]
    if type(what) in (list, tuple):
        return len(what), [id(item) for item in what[:16]], [id(item) for item in what[-16:]]
    return type(what), len(what) if hasattr(what, "__len__") else 0


def _pickler(base: Type[Any]) -> Type[Any]:
    class Naming(base):  # type: ignore[misc] # whose class is known when it runs
        """Writes the name of an object that has one, which refers to its value."""

        names: Dict[int, Any]

        def persistent_id(self, what: Any) -> Any:
            return self.names.get(id(what))

    return Naming


_PLAIN = _pickler(pickle.Pickler)


def _dumps(kind: Type[Any], what: Any, names: Dict[int, Any], **more: Any) -> bytes:
    file = io.BytesIO()
    pickler = kind(file, protocol=PROTOCOL, **more)
    pickler.names = names
    pickler.dump(what)
    return file.getvalue()


def _plain(data: Any) -> memoryview:
    """What a pickler writes, as bytes in a row; of a large array that is the array itself."""
    return data.raw() if type(data) is pickle.PickleBuffer else memoryview(data)


class _Sink:
    """What a pickler writes to, for nothing but the SHA-256: the bytes of an array are not copied."""

    def __init__(self, before: bytes = b"") -> None:
        self.size = 0
        self._digest = hashlib.sha256(before)
        self.write = self._count

    def _count(self, data: Any) -> None:
        self.size += _plain(data).nbytes

    def _hash(self, data: Any) -> None:
        data = _plain(data)
        self.size += data.nbytes
        self._digest.update(data)

    def of(self, what: Any, after: bytes = b"") -> bytes:
        """The digest of its pickle, with what stands before and behind it."""
        self.write = self._hash
        pickle.Pickler(self, PROTOCOL).dump(what)
        self._digest.update(after)
        return self._digest.digest()


def _value(serializer: Serializer, what: Any, packed: bool) -> bytes:
    """Its pickle. packed: the pickle of a bytes object that is its pickle, which is loaded where modules are found."""
    blob = pickle.dumps(what, PROTOCOL)
    if not _is_leaf(what) and serializer.holds_values(blob, what):
        blob = serializer._value(what, "")
    return framed(blob) if packed else blob


def framed(blob: bytes) -> bytes:
    """The pickle of a bytes object that is blob."""
    return b"".join((_BYTES.pack(b"\x80\x05\x8e", len(blob)), blob, b"."))


def _look(serializer: Serializer, what: Any, packed: bool) -> Tuple[bytes, int]:
    """The digest of _value(), and its size."""
    if not _is_leaf(what):
        blob = _value(serializer, what, packed)
        return hashlib.sha256(blob).digest(), len(blob)
    if not packed:
        sink = _Sink()
        return sink.of(what), sink.size
    counting = _Sink()
    pickle.Pickler(counting, PROTOCOL).dump(what)
    before = _BYTES.pack(b"\x80\x05\x8e", counting.size)
    return _Sink(before).of(what, b"."), len(before) + counting.size + 1


class Values:
    """The large arguments of a stream's calls."""

    def __init__(self) -> None:
        self.seen: Dict[int, _Seen] = {}  # by id
        self._lock = threading.Lock()
        self._by_value: Dict[str, Type[Any]] = {}

    def note(self, tops: Iterable[Any]) -> None:
        """Remembers the large ones of these arguments: their call has been sent whole."""
        found = [what for what in tops if _may_be_large(what)]
        if len(found) > REMEMBERED:
            return
        with self._lock:
            for what in found:
                seen = self.seen.pop(id(what), None)
                if seen is None or not seen.is_of(what):
                    seen = _Seen(what)
                self.seen[id(what)] = seen  # the last one now
            while len(self.seen) > REMEMBERED:
                del self.seen[next(iter(self.seen))]

    def plan(self, channel: Taker, serializer: Serializer, what: Any, tops: Sequence[Any],
             packed: bool) -> Optional[Plan]:
        """The call as a pickle that refers to those of its arguments (tops) that this stream has seen before; these are
        sent. packed: it travels as a bytes object (see remote.py). None: nothing of it goes by its hash."""
        chosen: Dict[int, bytes] = {}
        if any(type(top) in _CONTAINERS and len(top) > MANY and id(top) not in self.seen for top in tops):
            return None
        for top in tops:
            seen = self.seen.get(id(top))
            if seen is None or id(top) in chosen or len(chosen) == MOST or not seen.is_of(top):
                continue
            if not _is_leaf(top) and not all(type(other) in _FIXED for other in tops if other is not top):
                continue
            digest = self._name(channel, serializer, seen, top, packed)
            if digest is not None:
                chosen[id(top)] = digest
        if not chosen:
            return None
        if not packed:
            rest = self._rest(serializer, what, dict(chosen))
            return None if rest is None else Plan(rest, list(chosen.values()))
        rest = self._rest(serializer, what, {key: n for n, key in enumerate(chosen)})
        if rest is None:
            return None
        return refer(rest, list(chosen.values()), list(chosen.values()))

    @staticmethod
    def _name(channel: Taker, serializer: Serializer, seen: _Seen, what: Any, packed: bool) -> Optional[bytes]:
        """The hash of an argument whose value the stream has by now; None: the argument goes whole this time."""
        if seen.rest:
            seen.rest -= 1
            return None
        try:
            digest, size = _look(serializer, what, packed)
            if not LARGE_VALUE < size <= LARGEST_VALUE:
                seen.rest = sys.maxsize
                return None
            changed = seen.digests.get(packed, digest) != digest
            seen.digests[packed] = digest
            if digest in channel.announced:
                return digest
            if changed:
                seen.changes += 1
                seen.rest = (1 << min(seen.changes, 20)) - 2
                return None
            blob = _value(serializer, what, packed)
        except Exception:  # whoever sends the call whole says what is wrong with it
            return None
        digest = hashlib.sha256(blob).digest()  # another thread may have changed it
        channel.announce(digest, blob)
        return digest

    def _rest(self, serializer: Serializer, what: Any, names: Dict[int, Any]) -> Optional[bytes]:
        """The pickle of a call with names where values were; None: it cannot be pickled so."""
        try:
            blob = _dumps(_PLAIN, what, names)
            if not serializer.mentions_values(blob):
                return blob
        except Exception:
            pass
        module = serializer._by_value
        if module is None:
            return None
        kind = self._by_value.get(module.__name__)
        if kind is None:
            kind = self._by_value[module.__name__] = _pickler(pickler_of(module))
        try:
            if module.__name__ == "dill":
                return _dumps(kind, what, names, recurse=True, byref=False)
            return _dumps(kind, what, names)
        except Exception:
            return None


def refer(blob: bytes, values: Sequence[bytes], digests: List[bytes]) -> Plan:
    """A packed call. values: its values as they are, or the digests of those that go by these."""
    places: List[Any] = [object() if value in digests else value for value in values]
    names = {id(place): value for place, value in zip(places, values) if place is not value}
    return Plan(_dumps(_PLAIN, packed_call(blob, places), names), digests)


def packed_call(blob: bytes, values: List[Any]) -> Tuple[Tuple[Any, ...], Dict[str, bool]]:
    """What packed() of serialize.py has as bytes, with values behind the blob."""
    return (blob, *values), {PACKED: True}


__all__ = ["LARGE_VALUE", "Plan", "Values", "framed", "packed_call", "refer"]
