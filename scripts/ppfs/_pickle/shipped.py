"""The user's own modules as text, for workers that do not have them.

They go along inside each function that is sent (remote.py), which imports them from there: on every worker of that
executor, also where it would find files of these names.
"""
import importlib
import os
import pickle
import sys
import types
import zlib
from typing import Any, Dict, FrozenSet, Iterable, Tuple, Union

LARGEST = 4 << 20  # bytes of text of all of them: they are in every function
Texts = Dict[str, Tuple[bool, bytes]]  # name: whether it is a package, its text
Modules = Union[None, bool, Iterable[Union[str, types.ModuleType]]]


def shipped(modules: Modules, is_users: Any) -> Tuple[bytes, FrozenSet[str]]:
    """Those modules, with the packages that they are in, and the names of all; True: those of the user's own that are
    imported by now. b"": none. is_users: whether a module is the user's own, and not installed. ValueError: one that cannot be sent; ImportError."""
    if isinstance(modules, (str, types.ModuleType)):
        modules = (modules,)
    if modules is None or isinstance(modules, bool):
        modules = [m for m in list(sys.modules.values()) if type(m) is types.ModuleType and is_users(m)] if modules else ()
    texts: Texts = {}
    for one in modules:
        name = one if isinstance(one, str) else getattr(one, "__name__", None)
        if not isinstance(name, str):
            raise TypeError("modules= wants modules or their names, and this is %.100r" % (one,))
        module = importlib.import_module(name.partition(".")[0])
        if module.__name__ not in texts:
            _add(texts, module, is_users)
    size = sum(len(text) for _, text in texts.values())
    if size > LARGEST:
        raise ValueError("the modules to be sent have %d bytes of text, and %d go with a function: install them on the nodes"
                         % (size, LARGEST))
    return zlib.compress(pickle.dumps(texts, 4)) if texts else b"", frozenset(texts)


def _add(texts: Texts, module: types.ModuleType, is_users: Any) -> None:
    """A module, or a package with all that is in it."""
    name, paths = module.__name__, list(getattr(module, "__path__", ()))
    file = getattr(module, "__file__", None)
    if not (is_users(module) if file else paths):
        raise ValueError("the module %s is installed or built in, and is not sent: workers look for it where they are" % name)
    texts[name] = bool(paths), _text(name, file) if file else b""
    for top in paths:
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(one for one in folders if one.isidentifier() and one != "__pycache__")
            inner = [name, *os.path.relpath(folder, top).split(os.sep)] if folder != top else [name]
            here = ".".join(inner)
            if here not in texts:
                texts[here] = True, b""
            for one in sorted(files):
                stem, dot, kind = one.partition(".")
                if kind == "py" and stem.isidentifier():
                    package = stem == "__init__"
                    texts[here if package else here + "." + stem] = package, _text(here, os.path.join(folder, one))


def _text(name: str, file: str) -> bytes:
    try:
        if not file.endswith(".py"):
            raise ValueError("the module %s is no text but %s, and cannot be sent: install it on the nodes" % (name, file))
        with open(file, "rb") as source:
            return source.read(LARGEST + 1)
    except OSError as error:
        raise ValueError("the module %s cannot be sent: %s" % (name, error)) from error


# A part of the text that goes along with functions.
FINDER = r'''
def finder_of(texts):
    key = "shipped", hashlib.sha256(texts).digest()
    if key not in REGISTRY:
        REGISTRY[key] = Shipped(pickle.loads(zlib.decompress(texts)))
    return REGISTRY[key]

class Shipped:
    """Finds the modules that came along, and imports them from their text. name: (whether it is a package, text)"""

    def __init__(self, texts):
        self.texts = texts

    def come(self):
        """Before all other finders. What others have imported by these names is forgotten."""
        for name in self.texts:
            if name in sys.modules and getattr(getattr(sys.modules[name], "__spec__", None), "loader", None) is not self:
                del sys.modules[name]
        sys.meta_path.insert(0, self)

    def find_spec(self, name, path=None, target=None):
        if name not in self.texts:
            return None
        package = self.texts[name][0]
        file = SHIPPED + name.replace(".", "/") + ("/__init__.py" if package else ".py")
        spec = importlib.util.spec_from_loader(name, self, origin=file, is_package=package)
        spec.has_location = True
        return spec

    def create_module(self, spec):
        return None

    def exec_module(self, module):
        exec(compile(self.texts[module.__name__][1], module.__spec__.origin, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name):
        return importlib.util.decode_source(self.texts[name][1])

SHIPPED = "<ppfs modules>/"  # bootstrap.py of the workers knows it
'''

__all__ = ["FINDER", "Modules", "shipped"]
