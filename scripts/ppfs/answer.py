"""The exceptions that answers of a stream stand for."""
from concurrent.futures import BrokenExecutor

from . import stream
from .errors import CallFailed, CallTimeout, DependencyFailed, RemoteTraceback, WorkerDied
from .remote import INITIALIZER_FAILED
from .serialize import load_exception

_KINDS = {stream.DIED: WorkerDied, stream.TIMED_OUT: CallTimeout, stream.NOT_STARTED: DependencyFailed,
          stream.BAD_OPTIONS: ValueError}


def error_of(failure: stream.Failure) -> BaseException:
    """The exception of a call that failed: its own where it came along, with the worker's traceback as its cause.
    BrokenExecutor: the initializer failed, so no other call will do better."""
    error = None
    if failure.what in (stream.RAISED, stream.UNUSABLE):
        error = load_exception(failure.exception)
        if type(error) is RuntimeError and error.args[:1] == (INITIALIZER_FAILED,):
            broken = BrokenExecutor("the initializer of the executor failed in a worker")
            broken.__cause__ = RemoteTraceback(str(error.args[1]))
            return broken
    if error is None:
        error = _KINDS.get(failure.what, CallFailed)(failure.sentence)
    if failure.traceback:
        error.__cause__ = RemoteTraceback(failure.traceback)
    return error


def unloadable(error: BaseException) -> BaseException:
    """A result that came but does not unpickle here."""
    problem = CallFailed("the result came, but it cannot be loaded here: %s: %s" % (type(error).__name__, error))
    problem.__cause__ = error
    return problem
