"""The process that runs ppft's jobs; a ppfs has ppfs-worker, which nobody starts by hand."""
from .common import Refused, copyright, version

__version__ = version
__all__ = ["copyright", "version"]


class _WorkerProcess(Refused):
    """What ppft's workers are."""
