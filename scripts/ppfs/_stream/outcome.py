"""What an answer of a stream means: the value or the exception that ends its future.

Unpickling runs whatever the pickle names, and may raise anything, SystemExit too: it ends that future and nothing else.
"""
from concurrent.futures import BrokenExecutor
from pickle import loads as _loads
from typing import Any, Optional, Tuple

from .._pickle.remote import INITIALIZER_FAILED
from .._pickle.serialize import load_exception
from ..errors import CallFailed, CallTimeout, DependencyFailed, RemoteTraceback, WorkerDied
from . import frames

_KINDS = {frames.DIED: WorkerDied, frames.TIMED_OUT: CallTimeout, frames.NOT_STARTED: DependencyFailed,
          frames.BAD_OPTIONS: ValueError}


def outcome(kind: int, body: frames.Bytes) -> Tuple[Any, Optional[BaseException]]:
    """(value, None) or (None, exception) for a RESULT or an ERROR. StreamError: it is no such frame."""
    if kind != frames.RESULT:
        failure = frames.read_error(body)
        try:
            return None, _error_of(failure)
        except BaseException:
            return None, _with_trace(CallFailed(failure.sentence), failure.traceback)
    try:
        return _loads(body), None
    except BaseException as error:
        problem = CallFailed("the result came, but it cannot be loaded here: " + _words(error))
        problem.__cause__ = error
        return None, problem


def _error_of(failure: frames.Failure) -> BaseException:
    """The exception of a call that failed: its own where it came along, with the worker's traceback as its cause.
    BrokenExecutor: the initializer failed, so no other call will do better."""
    error = None
    if failure.what in (frames.RAISED, frames.UNUSABLE):
        error = load_exception(failure.exception)
        if type(error) is RuntimeError and error.args[:1] == (INITIALIZER_FAILED,):
            return _with_trace(BrokenExecutor("the initializer of the executor failed in a worker"), str(error.args[1]))
    if error is None:
        error = _KINDS.get(failure.what, CallFailed)(failure.sentence)
    return _with_trace(error, failure.traceback)


def _with_trace(error: BaseException, trace: str) -> BaseException:
    if trace:
        error.__cause__ = RemoteTraceback(trace)
    return error


def _words(error: BaseException) -> str:
    """The exception in words, whatever its own class does."""
    try:
        return "%s: %s" % (type(error).__name__, error)
    except BaseException:
        return type(error).__name__
