"""ppfs: run Python calls and job files through a directory that ppfs(1) has mounted.

    import ppfs
    with ppfs.Executor() as executor:                     # concurrent.futures.Executor, kept by the ppfs
        print(executor.submit(pow, 2, 10).result())
        print(list(executor.map(abs, [-1, -2])))

Executor, attach, cancel, forget
                             calls, sessions that outlive their program          (executor.py, session.py)
submit_file, result, wait    job files by name, and *_async forms                (files.py)
memo                         calls that were made before are answered from what is kept  (memory.py)
Pool                         multiprocessing.pool.Pool's interface  (pool.py)
progress                     how far a set of futures has got                    (progress.py)
ppfs.pp                      ppft's interface
ppfs.joblib.register()       the joblib backend "ppfs"
ppfs.parsl.PpfsExecutor      an executor for Parsl
find_mount                   which mount is used when none is named              (mount.py)
NotTrusted, trust=           results of other users are not loaded unless these are named  (trust.py)
"""
import importlib
from typing import TYPE_CHECKING, Any

from ._stream.future import Future
from .errors import (CallFailed, CallTimeout, DependencyFailed, JobCancelled, JobFailed, JobTimeout, MountGone, NoMount,
                     NotTrusted, RemoteTraceback, StillRunning, StreamError, WorkerDied)
from .executor import Executor, ExecutorView
from .files import result, result_async, submit_file, submit_file_async, wait, wait_async
from .mount import end_private
from .mount import find as find_mount
from .progress import progress
from .session import Session, attach, cancel, forget

if TYPE_CHECKING:
    from .memory import memo
    from .pool import Pool

__version__ = "0.1.0"

__all__ = ["CallFailed", "CallTimeout", "DependencyFailed", "Executor", "ExecutorView", "Future", "JobCancelled",
           "JobFailed", "JobTimeout", "MountGone", "NoMount", "NotTrusted", "Pool", "RemoteTraceback", "Session",
           "StillRunning", "StreamError", "WorkerDied", "attach", "cancel", "end_private", "find_mount",
           "forget", "memo", "progress", "result", "result_async", "submit_file", "submit_file_async", "wait", "wait_async"]


def __getattr__(name: str) -> Any:
    """ppfs.joblib, ppfs.parsl, ppfs.pp, Pool and memo are imported when they are first asked for."""
    if name in ("Pool", "memo"):
        return getattr(importlib.import_module(".pool" if name == "Pool" else ".memory", __name__), name)
    if name in ("joblib", "parsl", "pp"):
        return importlib.import_module("." + name, __name__)
    raise AttributeError("module %r has no attribute %r" % (__name__, name))
