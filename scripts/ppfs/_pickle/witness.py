"""What a call that is to be remembered (memory.py) takes along: the text WITNESS, which makes it in a process of its own and
says what its result depends on besides its pickle.

That are the versions of the installed packages and the content of each of the user's own files that were imported, as
it was when they were: their bytecode is not taken from a cache, so that the bytes which are compiled are the ones that
are noted.
"""
from typing import Any, Dict, List, Optional, Tuple

# sys.version; directories of packages, and a hash of what is in them; hashes of files; hashes of the names of the modules
# in the directories that these are in
Seen = Tuple[str, Tuple[str, ...], bytes, Dict[str, bytes], Dict[str, bytes]]

WITNESS = r'''
import hashlib, os, pickle, site, sys, time
from importlib import machinery

CODE = tuple(machinery.all_suffixes())
LASTING = tuple({os.path.join(p, "lib") for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr")}
                | {"/usr/local/lib", site.getusersitepackages()})

def lasting(path):
    return os.path.abspath(path).startswith(LASTING)

def packages(places):
    """What is installed in these directories: packages, in their versions."""
    digest = hashlib.sha256()
    for place in places:
        try:
            names = os.listdir(place)
        except OSError:
            names = []
        found = sorted(name for name in names if name.endswith(("-info", ".egg", ".egg-link", ".pth")))
        digest.update(repr((place, found)).encode())
    return digest.digest()

def modules_in(place):
    """The names that can be imported from a directory."""
    found = []
    try:
        for one in os.scandir(place or "."):
            if one.name.endswith(CODE):
                found.append(one.name)
            elif one.name.isidentifier() and one.is_dir() and any(name.endswith(CODE) for name in os.listdir(one.path)):
                found.append(one.name + "/")
    except OSError:
        found.append("?")
    return hashlib.sha256(repr(sorted(found)).encode()).digest()

def content(path):
    """A hash of a file; b"" when there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).digest()
    except OSError:
        return b""

def of_users():
    """The files of the modules that are not installed."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {os.path.abspath(path) for path in files if isinstance(path, str) and not lasting(path)
            and not path.startswith("<ppfs modules>/")}

def make(blob):
    """(what the call gives, a Seen). None for that: it cannot be told what its result depends on."""
    loader, files = machinery.SourceFileLoader, {}
    path_stats, get_data = loader.path_stats, loader.get_data

    def stats_of_packages(self, path):
        if not lasting(path):
            raise OSError("no bytecode of " + path)
        return path_stats(self, path)

    def get_and_note(self, path):
        data = get_data(self, path)
        if not lasting(path):
            digest = hashlib.sha256(data).digest()
            if files.setdefault(os.path.abspath(path), digest) != digest:
                files[os.path.abspath(path)] = b"changed"
        return data

    begun, known = time.time(), of_users()
    loader.path_stats, loader.get_data = stats_of_packages, get_and_note
    try:
        func, args, kwargs = pickle.loads(blob)
        value = func(*args, **kwargs)
    finally:
        loader.path_stats, loader.get_data = path_stats, get_data
    for path in of_users() - files.keys():
        if not path.endswith(tuple(machinery.EXTENSION_SUFFIXES)):
            return value, None
        files[path] = content(path)
        try:
            if os.stat(path).st_mtime > begun - 2:
                return value, None
        except OSError:
            return value, None
    if known or b"changed" in files.values():
        return value, None
    places = tuple(place for place in sys.path if place and lasting(place))
    around = {place: modules_in(place) for place in {os.path.dirname(path) for path in files}}
    return value, (sys.version, places, packages(places), files, around)
'''

# Gives what make() gives, of a pickle of (func, args, kwargs), as a call of eval(EXPRESSION, {...}).
EXPRESSION = "[exec(text, space := {'__name__': 'ppfs memo'}), space['make'](blob)][1]"

_space: Dict[str, Any] = {"__name__": __name__}


def arguments(blob: bytes) -> Tuple[str, Dict[str, Any]]:
    """What eval() is called with."""
    return EXPRESSION, {"text": WITNESS, "blob": blob}


def _here() -> Dict[str, Any]:
    if "make" not in _space:
        exec(WITNESS, _space)
    return _space


def packages(places: Tuple[str, ...]) -> bytes:
    """What is installed in these directories here."""
    digest: bytes = _here()["packages"](places)
    return digest


def names_in(places: List[str]) -> List[bytes]:
    """What can be imported from each of these directories."""
    return [_here()["modules_in"](place) for place in places]


def holds(seen: Optional[Seen], versions: Tuple[Any, ...]) -> bool:
    """Whether a call of the same pickle would find now what that call has found. versions: the first three of a Seen."""
    if seen is None or seen[:3] != versions:
        return False
    of_file, of_place = _here()["content"], _here()["modules_in"]
    return (all(of_file(path) == digest for path, digest in seen[3].items())
            and all(of_place(place) == digest for place, digest in seen[4].items()))
