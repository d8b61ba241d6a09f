"""Large calls as pieces: a pickle whose large arrays are the arrays themselves, not copies of them.

They go out as they are now: whoever sends the pieces returns when they are written, or copies them. The pickle is one
as pickle.loads() takes it, with each array at a multiple of ALIGNED bytes. Behind it stands where those are, so that a
worker that has it in a file maps them instead of reading them (ppfs-stream(5)).
"""
import functools
import io
import pickle
import struct
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .reach import PROTOCOL
from .remote import BUFFERS, PACKED
from .serialize import Serializer, pickler_of

Bytes = Union[bytes, bytearray, memoryview]
LARGE_ARRAY = 64 * 1024  # bytes from which on an array is a piece of its own
ALIGNED = 64
_END = b"ppfs.buf"
_HEADS = {b"\x96": 9, b"B": 5}  # opcodes of an array that may be written to, and of one that may not; with their sizes


def _is_large(buffer: pickle.PickleBuffer) -> bool:
    """Whether it is a large array of numpy, whose pickle is loaded from any buffer. What others make of a buffer that is
    not bytes nobody knows."""
    kind = type(memoryview(buffer).obj)
    return kind.__module__ == "numpy" and kind.__name__ == "ndarray" and buffer.raw().nbytes >= LARGE_ARRAY


class _Writer:
    """What a pickler writes to. before: bytes that the body of the call has before the pickle."""

    def __init__(self, before: int) -> None:
        self.pieces: List[Bytes] = []
        self.places: List[Tuple[int, int]] = []
        self.size, self._before = 0, before

    def write(self, data: Any) -> None:
        if type(data) is not pickle.PickleBuffer:
            piece = bytes(data) if type(data) is memoryview else data
        else:
            piece = data.raw()
            if _is_large(data):
                self._place(piece.nbytes)
        self.pieces.append(piece)
        self.size += len(piece)

    def _place(self, size: int) -> None:
        """An array comes, whose opcode ends the last piece: moves that, by bytes that are loaded and forgotten."""
        last = bytes(self.pieces.pop())
        for opcode, length in _HEADS.items():
            if last[-length:-length + 1] == opcode and int.from_bytes(last[1 - length:], "little") == size:
                break
        else:
            self.pieces.append(last)
            return
        more = -(self._before + self.size) % ALIGNED
        if 0 < more < 3:
            more += ALIGNED
        pad = b"C%c%b0" % (more - 3, bytes(more - 3)) if more else b""
        self.pieces += [last[:-length], pad, last[-length:]]
        self.size += more
        self.places.append((self.size - length, size))

    def end(self) -> List[Bytes]:
        """The pieces, and behind them the places."""
        numbers = [number for place in self.places for number in place]
        tail = struct.pack("<%dQI8s" % len(numbers), *numbers, len(self.places), _END)
        return [*self.pieces, tail]


def call_pieces(serializer: Serializer, what: Any, before: int, packs: bool) -> Optional[List[Bytes]]:
    """what, a call's (args, kwargs), as pieces whose memory is that of its arrays. packs: it goes packed (remote.py).
    None: it has no large array, or is not for this."""
    arrays: List[pickle.PickleBuffer] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        large = _is_large(buffer)
        if large:
            arrays.append(buffer)
        return not large

    by_value, blob = _small(serializer, what, keep, arrays)  # who pickles it as a whole says what is wrong with it
    if by_value is None or not arrays:
        return None
    writer = _Writer(before)
    if packs:
        what, by_value = ((blob, *arrays), {PACKED: BUFFERS}), False
    _dump(serializer, by_value, what, writer, {})
    return writer.end()


def _dump(serializer: Serializer, by_value: bool, what: Any, file: Any, more: Dict[str, Any]) -> None:
    if by_value:
        assert serializer._by_value is not None
        pickler = pickler_of(serializer._by_value)(file, protocol=PROTOCOL, **more)
        serializer.by_value(functools.partial(pickler.dump, what))
    else:
        pickle.Pickler(file, protocol=PROTOCOL, **more).dump(what)


def _small(serializer: Serializer, what: Any, keep: Callable[[Any], bool],
           arrays: List[Any]) -> Tuple[Optional[bool], bytes]:
    """(whether it goes by value, its pickle without the large arrays); (None, ...): it cannot be told."""
    for by_value in (False, True):
        arrays.clear()
        file = io.BytesIO()
        try:
            _dump(serializer, by_value, what, file, {"buffer_callback": keep})
            if by_value or not serializer.mentions_values(file.getvalue()):
                return by_value, file.getvalue()
        except Exception:
            pass
        if serializer._by_value is None or serializer._by_value.__name__ != "cloudpickle":
            break
    return None, b""


__all__ = ["LARGE_ARRAY", "call_pieces"]
