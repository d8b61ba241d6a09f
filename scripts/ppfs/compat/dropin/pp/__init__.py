"""Parallel Python's older name for ppft; the same modules."""
import sys

import ppft
import ppft.server
from ppfs.compat.pp import _Statistics, _Task  # noqa: F401
from ppft import *  # noqa: F403
from ppft import __license__, __version__, _RWorker, _Worker  # noqa: F401

for _name in ("auto", "common", "server", "transport", "worker"):
    sys.modules["pp." + _name] = globals()[_name] = getattr(ppft, _name)
