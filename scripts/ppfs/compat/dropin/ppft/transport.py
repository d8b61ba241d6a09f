"""The names of ppft's connections, for programs that import them."""
from .common import Refused, copyright, version

__version__ = version
__all__ = ["CPipeTransport", "CSocketTransport", "CTransport", "PipeTransport", "SocketTransport", "Transport",
           "copyright", "version"]


class Transport(Refused):
    """A connection."""


class CTransport(Transport):
    """One that keeps what it has sent."""


class PipeTransport(Transport):
    """One to a process of this machine."""


class SocketTransport(Transport):
    """One to another machine."""


class CPipeTransport(PipeTransport, CTransport):
    """Both."""


class CSocketTransport(SocketTransport, CTransport):
    """Both."""
