"""The options of a call or a job, checked before they are sent.

ppfs checks them too (sched/job/options.c): what is refused here gets the sentence that a job file would get, and
tests/python/test_refused.py holds the two against each other. A value of a wrong type is a TypeError, anything else a
ValueError.
"""
import re
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

LIST_MAX = 1024  # entries of after and env
VALUE_MAX = 64 * 1024  # bytes of one value
_SECOND = 1e6
_WHOLE = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)
_MEASURE = re.compile(r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)([A-Za-z]*)", re.ASCII)
_TIMES = {"": _SECOND, "s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86400 * _SECOND, "ms": 1e3, "us": 1.0}
_SIZES = {"": 1.0, "K": 2.0 ** 10, "k": 2.0 ** 10, "KiB": 2.0 ** 10, "M": 2.0 ** 20, "MiB": 2.0 ** 20, "G": 2.0 ** 30,
          "GiB": 2.0 ** 30, "T": 2.0 ** 40, "TiB": 2.0 ** 40}


def _whole(least: int, most: int) -> Callable[[str], bool]:
    return lambda text: _WHOLE.fullmatch(text) is not None and least <= int(text) <= most


def _measure(units: Mapping[str, float], most: float) -> Callable[[str], bool]:
    def fits(text: str) -> bool:
        match = _MEASURE.fullmatch(text)
        return match is not None and match[2] in units and 1 <= float(match[1]) * units[match[2]] <= most
    return fits


def _names(text: str) -> bool:
    names = text.split(",")
    return all(names) and len(names) <= LIST_MAX


def _paths(text: str) -> bool:
    return _names(text) and not any(path.startswith("/") or ".." in path.split("/") for path in text.split(","))


_PATHS = "paths below its directory, without .., with commas between them"


def _resources(text: str) -> bool:
    parts = [re.fullmatch("([a-zA-Z][a-zA-Z0-9_]{0,14}):([0-9]{1,2})", part) for part in text.split(",")]
    names = [match[1] for match in parts if match and 1 <= int(match[2]) <= 64]
    return len(names) == len(parts) == len(set(names)) <= 7 and "gpu" not in names


def _pair(text: str) -> bool:
    return re.match("[^:=]+:", text) is not None


# What is expected, and whether a value is that: the table of sched/job/options.c.
_TABLE: Dict[str, Tuple[str, Callable[[str], bool]]] = {
    "priority": ("a whole number from -1000000 to 1000000", _whole(-1000000, 1000000)),
    "timeout": ("a time such as 90, 30s, 5m or 2h", _measure(_TIMES, 10 * 365 * 86400 * _SECOND)),
    "retries": ("a whole number from 0 to 1000", _whole(0, 1000)),
    "after": ("job names with commas between them", _names),
    "cpus": ("a whole number from 1 to 4096", _whole(1, 4096)),
    "memory": ("a size such as 500M or 2G", _measure(_SIZES, 2.0 ** 60)),
    "gpu": ("a whole number from 1 to 64", _whole(1, 64)),
    "resources": ("up to 7 different NAME:N, N from 1 to 64, with commas between them (gpu= is an option of its own)", _resources),
    "needs": (_PATHS, _paths),
    "gives": (_PATHS, _paths),
    "env": ("KEY:VALUE", _pair),
    "cwd": ("a directory that begins with /", lambda text: text.startswith("/")),
    "node": ("a node's name or a pattern such as gpu*", bool),
    "hold": ("0 or 1", _whole(0, 1)),
    "sandbox": ("ro, net-off, both with a comma between them, or none",
                lambda text: text in ("ro", "net-off", "ro,net-off", "net-off,ro", "none")),
    "keep": ("a time such as 30m, 12h or 7d, or 0 for ever",
             lambda text: text == "0" or _measure(_TIMES, 10 * 365 * 86400 * _SECOND)(text)),
}


def check(options: Mapping[str, Any], of: str = "call") -> None:
    """Raises ValueError or TypeError for the first that is no option of a call, or a job."""
    for name, value in options.items():
        if name not in _TABLE:
            raise ValueError("a %s has no option %r; there are %s" % (of, name, ", ".join(sorted(_TABLE))))
        expected, fits = _TABLE[name]
        if name == "after" and isinstance(value, (list, tuple)):
            if len(value) > LIST_MAX or not all(isinstance(job, str) and job for job in value):
                raise ValueError("option after is not understood: job names are expected")
            continue
        for count, text in enumerate(texts(name, value)):
            if not fits(text) or count >= LIST_MAX or len(text.encode("utf-8", "replace")) > VALUE_MAX:
                raise ValueError("option %s=%.60s is not understood: %s is expected" % (name, text, expected))


def texts(name: str, value: Any) -> Iterator[str]:
    """The value as a script's comment would have it; env may have several. TypeError: nothing that one could be."""
    values: List[Tuple[str, Any]] = [("", value)]
    if name == "env" and isinstance(value, Mapping):
        values = [("%s:" % key, one) for key, one in value.items()]
    elif name == "env" and isinstance(value, (list, tuple)):
        values = [("", one) for one in value]
    for key, one in values:
        text = _scalar(one)
        if text is None or "\0" in text or (one is value and isinstance(one, bool) and name != "hold"):
            raise TypeError("option %s has a value of a wrong type" % name)
        yield key + text


def _scalar(value: Any) -> Optional[str]:
    """As the daemon reads it in JSON; None: it is no scalar."""
    if isinstance(value, str):
        return value
    if isinstance(value, (bool, int)):
        return str(int(value))
    return "%.17g" % value if isinstance(value, float) else None
