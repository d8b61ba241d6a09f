"""Calls that are known to be too large for a stream are refused before they are pickled, and what is to blame is named."""
import array
from typing import Any, Mapping, Sequence

from .._pickle.serialize import describe
from .frames import TOTAL_MAX

FEW = 8  # items of a container that are looked at one by one
_TINY = frozenset((int, float, complex, bool, type(None)))


def least_size(what: Any) -> int:
    """Bytes that its pickle has at least, as far as a short look tells."""
    kind = type(what)
    if kind is list or kind is tuple or kind is dict:
        if len(what) > FEW:
            return 0
        return sum(map(_leaf_size, what.values() if kind is dict else what))
    return _leaf_size(what)


def _leaf_size(what: Any) -> int:
    kind = type(what)
    if kind is str or kind is bytes or kind is bytearray:
        return len(what)
    size: int = 0
    if kind is array.array:
        size = len(what) * what.itemsize
    elif kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        size = what.nbytes
    return size


def holds_large(tops: Sequence[Any], size: int) -> bool:
    """Whether one of the first FEW takes more bytes than that by itself."""
    for what in tops[:FEW]:
        if type(what) not in _TINY and _leaf_size(what) > size:
            return True
    return False


def refuse_too_large(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], size: int = 0) -> int:
    """Raises ValueError, and names what is to blame, when a call of func is known to be larger than a stream can carry;
    else gives the bytes that its pickle has at least. size: of that, where there is one."""
    least = 0
    for what in args:
        if type(what) not in _TINY:
            least += least_size(what)
    for what in kwargs.values():
        if type(what) not in _TINY:
            least += least_size(what)
    if least <= TOTAL_MAX and size <= TOTAL_MAX:
        return least
    given = [*(("argument %d" % (i + 1), what) for i, what in enumerate(args)), *kwargs.items()]
    name, largest = max(given, key=lambda pair: least_size(pair[1]), default=("", None))
    raise ValueError("a call of %s cannot be sent: its arguments take at least %d bytes (the largest is %s, a %s), and "
                     "one call may carry %d; split it, or give the name of a file"
                     % (describe(func), max(least, size), name, type(largest).__name__, TOTAL_MAX))
