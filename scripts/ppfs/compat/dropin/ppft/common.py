"""What programs use of ppft.common."""
import ast
import io
import random
import threading
from typing import Any, Callable, Dict, Iterable, List, Tuple

from ppfs.compat.pp import copyright, version

__version__ = version
__all__ = ["Refused", "b_", "copyright", "file", "get_class_hierarchy", "is_not_imported", "long", "portnumber",
           "randomport", "start_thread", "str_", "version"]
long = int
file = io.IOBase
_CODED = "]{B}"  # how text ends that stands for bytes beyond ASCII


class Refused:
    """A class of ppft's own wire, which nothing here speaks."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("%s.%s is a part of ppft's own connections; here jobs travel through the mount, see ppfs(1) and "
                           "ppfs-node(1)" % (type(self).__module__, type(self).__name__))


def str_(byte: Any) -> Any:
    """Bytes as text, of which b_() makes the same bytes again; anything else as it is."""
    if not hasattr(byte, "decode"):
        return byte
    try:
        return byte.decode("ascii")
    except UnicodeDecodeError:
        return "%s{B}" % list(byte)


def b_(string: Any) -> Any:
    """Text as bytes; anything else as it is."""
    if not hasattr(string, "encode"):
        return string
    return bytes(ast.literal_eval(string[:-3])) if string.endswith(_CODED) else string.encode("latin-1")


def start_thread(name: str, target: Callable[..., Any], args: Tuple[Any, ...] = (), kwargs: Dict[str, Any] = {},
                 daemon: bool = True) -> threading.Thread:
    """A thread that runs."""
    thread = threading.Thread(name=name, target=target, args=args, kwargs=kwargs, daemon=daemon)
    thread.start()
    return thread


def get_class_hierarchy(clazz: type) -> List[type]:
    """The classes that it is made of, bases first; object is left out."""
    if clazz is object:
        return []
    return [each for base in clazz.__bases__ for each in get_class_hierarchy(base)] + [clazz]


def is_not_imported(arg: Any, modules: Iterable[str]) -> bool:
    """Whether it is of none of these modules."""
    own = str(arg.__module__)
    return not any(own == module or own.startswith(module + ".") for module in modules)


class portnumber:
    """Numbers of ports: the first is random, each next call gives the next one of the range. RuntimeError: all were given."""

    def __init__(self, min: int = 0, max: int = 64 * 1024) -> None:
        self.min, self.max = min, max
        self.first = self.current = -1

    def __call__(self) -> int:
        if self.current < 0:
            self.first = self.current = random.randint(self.min, self.max)
            return self.current
        self.current = self.min if self.current >= self.max else self.current + 1
        if self.current == self.first:
            raise RuntimeError("Range exhausted")
        return self.current


def randomport(min: int = 1024, max: int = 65536) -> int:
    """The number of a port."""
    return portnumber(min, max)()
