"""What an executor and its views share: where it is mounted, its stream, how functions and arguments are sent."""
import atexit
import os
import sys
import threading
import uuid
from typing import Any, Callable, Dict, FrozenSet, Optional, Tuple

from . import mount as mounts
from ._pickle.serialize import Serializer, describe
from ._stream.channel import Channel, Limit
from ._stream.connection import open_connections
from ._stream.output import Output
from ._stream.threads import in_thread
from .errors import MountGone, NotTrusted

_exiting = False


class Core:
    """The state of an executor, apart from the object that the user holds."""

    def __init__(self, mount: str, name: Optional[str], serializer: Serializer,
                 initializer: Optional[Callable[..., Any]],
                 initargs: Tuple[Any, ...], trusted: FrozenSet[int], environ: Optional[Dict[str, str]] = None,
                 stdout: Any = None, stderr: Any = None) -> None:
        if environ is not None and initializer is None:
            initializer = int  # does nothing, and is the occasion to set the environment
        self.environ = environ
        self.mount, self.name, self.serializer = mount, name, serializer
        self.initializer, self.initargs, self.trusted = initializer, initargs, trusted
        self.init_key = uuid.uuid4().hex
        self.output = Output("\x1e%s " % self.init_key, stdout, stderr)
        self.channel: Optional[Channel] = None
        self.shut = False
        self._limit: Optional[Limit] = None
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def check_initializer(self) -> None:
        """Raises PicklingError when the initializer or one of its arguments is what cannot be pickled."""
        if self.initializer is not None:
            title = describe(self.initializer)
            self.serializer._value(self.initializer, "the initializer " + title)
            for i, arg in enumerate(self.initargs):
                self.serializer._value(arg, "argument %d of the initializer %s (initargs[%d]), %s,"
                                       % (i + 1, title, i, describe(arg)))

    def ready(self) -> Channel:
        """The stream, opened now if need be. RuntimeError: after shutdown; MountGone: the mount takes no calls; and what
        open_stream() raises."""
        channel = self.channel
        return self.open() if channel is None or channel.closing or channel.forked else channel

    def open(self) -> Channel:
        """ready() of a stream that is known not to be."""
        if self._pid != os.getpid():
            self._pid, self._lock = os.getpid(), threading.Lock()
            if self.name is not None and self.channel is not None:
                raise MountGone("the session %s belongs to the process that this one was forked from" % self.name)
            self.channel = None
        if self.channel is None and not self.shut and not _exiting:
            self._start()
        if self.channel is None or self.channel.closing:
            raise self._refusal()
        return self.channel

    def _refusal(self) -> BaseException:
        if self.channel is not None and not self.shut and not _exiting:
            return self.channel.refusal()
        return RuntimeError("cannot schedule new futures after " + ("shutdown" if self.shut else "interpreter shutdown"))

    def _start(self) -> None:
        """The reader thread opens the stream itself: so a Ctrl-C leaves none half made."""
        in_thread("ppfs reader of %s" % (self.name or "an executor"), self._make)

    def _make(self) -> Optional[Channel]:
        with self._lock:
            if self.channel is not None:
                return None
            channel = self.channel = self._new_channel()
            if self.shut or _exiting:
                channel.close()
            return channel

    def _new_channel(self) -> Channel:
        name = self.name or "py-%d-%s" % (os.getpid(), uuid.uuid4().hex[:12])
        try:
            return Channel(self.mount, name, keep=self.name is not None, portable=self.serializer.name == "source",
                           limit=self._limit, trusted=self.trusted, output=self.output)
        except FileExistsError:
            raise FileExistsError("there is a session %r already: collect it with ppfs.attach(%r), then ppfs.forget(%r)"
                                  % (name, name, name)) from None
        except FileNotFoundError as error:
            group = os.path.dirname(name)
            if not group or not mounts.is_mount(self.mount):
                raise MountGone("the ppfs at %s takes no calls: %s" % (self.mount, error), error) from error
            raise ValueError("there is no group %r for the session %r: mkdir %s"
                             % (group, name, os.path.join(self.mount, "jobs", group))) from None
        except NotTrusted:
            raise
        except OSError as error:
            raise MountGone("the ppfs at %s takes no calls: %s" % (self.mount, error), error) from error

    def shutdown(self, wait: bool, cancel_futures: bool) -> None:
        """No more calls; wait: until each has its answer. cancel_futures: those that are not known to run do not run."""
        self.shut = True
        channel = self.channel
        if channel is None or channel.forked:
            return
        if cancel_futures:
            for future in list(channel.pending.values()):
                future.cancel()
        channel.close()
        if wait:
            channel.join()

    def interrupted(self) -> None:
        """A Ctrl-C has ended the block that the executor is for: what it has under way is not wanted any more, but for a
        session."""
        if self.name is None:
            self.kill()

    def set_limit(self, limit: Limit) -> None:
        """How many calls may be under way at a time, asked whenever one ends or comes; to be told again when it may have
        changed without that."""
        self._limit = limit
        if self.channel is not None and not self.channel.forked:
            self.channel.set_limit(limit)

    def kill(self) -> None:
        """What is under way is not wanted any more."""
        if self.channel is not None and not self.channel.forked:
            self.channel.kill()

    def dropped(self) -> None:
        """The executor has been forgotten without shutdown: what it was given still runs."""
        self.shut = True  # a stream that is being opened is closed by whoever opens it
        if self.channel is not None and not self.channel.forked:
            self.channel.close()


def _at_exit() -> None:
    """As the process pools of Python do: work that is under way is waited for, unless a Ctrl-C has ended the program;
    sessions go on by themselves."""
    global _exiting
    _exiting = True
    channels = [connection for connection in open_connections() if isinstance(connection, Channel)]
    ended_by = getattr(sys, "last_type", None)
    interrupted = ended_by is not None and issubclass(ended_by, KeyboardInterrupt) and not hasattr(sys, "ps1")
    for channel in channels:
        if interrupted and not channel.keep:
            channel.kill()
        channel.close("after interpreter shutdown")
    for channel in channels:
        if channel.keep:
            channel.join_writing()
        else:
            channel.join()


# When the main thread has ended and before threads are joined, as those of concurrent.futures.
getattr(threading, "_register_atexit", atexit.register)(_at_exit)

__all__ = ["Core"]
