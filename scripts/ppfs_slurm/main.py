"""What ppfs-slurm and ppfs-batch do when they are called."""
import os
import signal
import sys
from types import FrameType
from typing import Optional

from .arguments import read_arguments
from .auto import auto
from .cluster import Slurm, Task
from .drivers import TABLE, Driver
from .lend import start, status, stop
from .words import Trouble


def version() -> str:
    """The version of the package ppfs, which lies beside ppfs_slurm."""
    from ppfs import __version__
    return __version__


def ended_by(which: int, _: Optional[FrameType]) -> None:
    raise SystemExit(128 + which)


def main(asker: str) -> int:
    """Does what the command line of the program of that name says. The exit status."""
    signal.signal(signal.SIGTERM, ended_by)
    signal.signal(signal.SIGHUP, ended_by)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        a = read_arguments(sys.argv[1:], Task(), () if asker == Slurm.asker else tuple(TABLE))
        if a.version:
            print(asker, version())
        else:
            a.system = Slurm() if asker == Slurm.asker else Driver(a.batch)
            {"start": start, "auto": auto, "stop": stop, "status": status}[a.command](a)
    except Trouble as e:
        print("%s: %s" % (asker, e), file=sys.stderr)
        return e.status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except OSError as e:
        print("%s: %s%s" % (asker, e.strerror, ": %s" % e.filename if e.filename else ""), file=sys.stderr)
        return 1
    return 0
