"""ppft, answered by ppfs: programs that import ppft run on the mount without a changed line (ppfs.pp says what differs)."""
from ppfs.compat.pp import (DestroyedServerError, Server, Template, _Statistics, _Task, copyright, getname, importable,
                            version)

from . import auto, common, transport, worker
from .common import Refused

__all__ = ["DestroyedServerError", "Server", "Template", "auto", "citation", "common", "copyright", "getname",
           "importable", "license", "transport", "version", "worker"]
__version__ = version
__license__ = "see the LICENSE of ppfs"
_USE_SUBPROCESS = False


class _Worker(Refused):
    """A process of ppft's own."""


class _RWorker(Refused):
    """A connection to a process of ppft's own."""


def license() -> None:
    """Prints under which terms this is used."""
    print(__license__)


def citation() -> None:
    """Prints what this is."""
    print(copyright)
