"""What can go wrong with a call or a job, as exceptions.

A call that raised gives its own exception, with the traceback of the worker as its cause (RemoteTraceback). The classes
here are for what is not an exception of the call: its process died, it ran out of time, the mount is gone.
"""
from concurrent.futures import BrokenExecutor
from typing import Optional

__all__ = ["CallFailed", "CallTimeout", "DependencyFailed", "JobCancelled", "JobFailed", "JobTimeout", "MountGone",
           "NoMount", "NotTrusted", "RemoteTraceback", "StillRunning", "StreamError", "WorkerDied"]


class RemoteTraceback(Exception):
    """The traceback of a worker, the cause of the exception that a future raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return '\n"""\n%s"""' % self.text


class CallFailed(Exception):
    """A call failed without an exception that could be sent back; the message is one sentence that says why."""


class WorkerDied(CallFailed):
    """The process that ran the call died: the message names the signal. Only this call is affected."""


class CallTimeout(CallFailed, TimeoutError):
    """The call ran longer than its option timeout allowed and was killed."""


class DependencyFailed(CallFailed):
    """The call did not start: what it was to run after has failed or does not exist."""


class JobFailed(Exception):
    """A job ended in failures/. why: one sentence; text: the whole file, with the traceback or stderr."""

    def __init__(self, name: str, why: str, text: str = "") -> None:
        super().__init__(name, why, text)
        self.name, self.why, self.text = name, why, text

    def __str__(self) -> str:
        name = self.name if self.name.isprintable() else repr(self.name)  # another user may have given it
        return "%s: %s" % (name, self.why or "failed")


class JobTimeout(JobFailed, TimeoutError):
    """The job ran longer than its option timeout allowed."""


class JobCancelled(JobFailed):
    """The job was removed before it ended."""


class StillRunning(RuntimeError):
    """What is to be forgotten has not ended."""


class NoMount(RuntimeError):
    """There is no ppfs to submit to, and none could be started; or there are several, and none was named."""


class NotTrusted(PermissionError):
    """A result that would have to be unpickled is another user's, or on another user's mount, and trust= does not name
    him."""


class MountGone(BrokenExecutor):
    """The mount went away (or could not take the calls) while they were under way."""

    def __init__(self, message: str, reason: Optional[BaseException] = None) -> None:
        super().__init__(message)
        self.__cause__ = reason


class StreamError(BrokenExecutor):
    """The bytes that came back are not a stream of frames."""
