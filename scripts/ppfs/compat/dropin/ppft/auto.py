"""ppft's discovery of servers; a ppfs does its own: nodes/.discover in ppfs(5)."""
from .common import Refused, copyright, version

__version__ = version
__all__ = ["BROADCAST_INTERVAL", "Discover", "copyright", "version"]
BROADCAST_INTERVAL = 10


class Discover(Refused):
    """A socket that asks for ppft's servers."""
