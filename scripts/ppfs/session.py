"""Sessions: what an Executor(name=...) was given, collected by any process, at any time, as often as wanted."""
import errno
import os
from concurrent.futures import _base
from typing import Any, Dict, FrozenSet, Iterable, Iterator, List, Optional, Set

from . import mount as mounts
from . import trust as trust_of
from ._stream import frames
from ._stream.connection import Connection
from ._stream.future import Future
from ._stream.threads import Event, in_thread
from .errors import MountGone, StillRunning


class Session(Connection):
    """The results of a session, read from the start. Calls are numbered from 1 in the order in which they were
    submitted.

    session[3]            the future of the third call
    for future in session futures as they end, until the session has ended
    session.results()     every result, in the order of submission
    """

    def __init__(self, mount: str, name: str, trusted: Optional[FrozenSet[int]] = None) -> None:
        fd = os.open(os.path.join(mount, "results", name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            trust_of.check(fd, "the session %r on %s" % (name, mount), trust_of.users() if trusted is None else trusted)
        except BaseException:
            os.close(fd)
            raise
        super().__init__(mount, name, fd)
        self._known: Dict[int, Future[Any]] = {}
        self._order: List[Future[Any]] = []  # as they ended
        self._seen: Set[int] = set()
        self._more = Event()  # another one each time that more has come
        self._trouble: Optional[BaseException] = None
        self.closing = "to a session that is only read"

    def __getitem__(self, ident: int) -> Future[Any]:
        """The future of the call of that number. When no such call is found by the end of the session, it raises."""
        if ident < 1:
            raise IndexError("calls are numbered from 1")
        with self.lock:
            return self._known[ident] if ident in self._known else self._expect(ident)

    def __iter__(self) -> Iterator[Future[Any]]:
        """The futures as they end; every loop begins with those that ended before it."""
        at = 0
        while True:
            with self.lock:
                more = self._more
                future = self._order[at] if at < len(self._order) else None
                ended = self.ended.is_set()
            if future is not None:
                at += 1
                yield future
            elif ended:
                self._check()
                return
            else:
                more.wait()

    def futures(self, timeout: Optional[float] = None) -> List[Future[Any]]:
        """All futures of the session in the order of submission, once it has ended."""
        if not self.ended.wait(timeout):
            raise _base.TimeoutError()
        self._check()
        with self.lock:
            return sorted(self._order, key=lambda future: future.id)

    def results(self, timeout: Optional[float] = None) -> List[Any]:
        """All results in the order of submission, once the session has ended; raises what the first failed call
        raised."""
        return [future.result() for future in self.futures(timeout)]

    def done(self) -> bool:
        """Whether the session has ended: its writer has left and every call has its answer."""
        return self.ended.is_set()

    def __len__(self) -> int:
        """How many calls have ended so far."""
        return len(self._order)

    def _check(self) -> None:
        """Raises what kept the session from being read to its end."""
        if self._trouble is not None or self.forked:
            raise self.refusal()

    def _end(self, error: Optional[BaseException]) -> None:
        self._trouble = error
        super()._end(error)
        self._tell()

    def abandon(self) -> None:
        """In a child after fork."""
        ended = self.ended.is_set()
        super().abandon()
        self.forked = not ended
        self._more = Event()

    def _tell(self) -> None:
        """Wakes those who wait for more."""
        with self.lock:
            more, self._more = self._more, Event()
        more.set()

    def _expect(self, ident: int) -> Future[Any]:
        future: Future[Any] = Future(self, ident)
        self._known[ident] = future
        if self.ended.is_set():
            future._exception = MountGone("the session %s has no call %d" % (self.name, ident))
            future._state = _base.FINISHED
        else:
            self.pending[ident] = future
        return future

    def _deliver(self, answers: Iterable[frames.Frame]) -> None:
        fresh = []
        with self.lock:
            for kind, ident, _ in answers:
                if ident not in self._known:
                    self._expect(ident)
                if kind in (frames.RESULT, frames.ERROR, frames.CANCELLED) and ident not in self._seen:
                    self._seen.add(ident)
                    fresh.append(self._known[ident])
        super()._deliver(answers)
        with self.lock:
            self._order += fresh
        self._tell()

    def release(self, future: Future[Any]) -> None:
        """Only the program that submitted it can let a call go."""
        raise RuntimeError("a call that is held is released where it was submitted, not through ppfs.attach")

    def __repr__(self) -> str:
        return "<Session %s: %d ended%s>" % (self.name, len(self), "" if self.done() else " so far")


def attach(name: str, mount: Optional[mounts.MountLike] = None, *, trust: trust_of.TrustLike = None) -> Session:
    """The session of that name, from its beginning, whether or not it still goes on. NotTrusted: it is another user's,
    whose results are loaded only when trust names him (his name or uid, or several of these)."""
    path, trusted = mounts.find(mount, start=False), trust_of.users(trust)
    try:
        session: Session = in_thread("ppfs session " + name, lambda: Session(path, name, trusted))
        return session
    except FileNotFoundError:
        raise FileNotFoundError("there is no session %r on %s" % (name, path)) from None


def cancel(name: str, mount: Optional[mounts.MountLike] = None) -> None:
    """Ends a session or a job: what waits never runs, what runs is killed. What it has answered stays until forget(), but
    no longer in results/. FileNotFoundError: there is none, or it has ended."""
    path = mounts.find(mount, start=False)
    try:
        os.unlink(os.path.join(path, "jobs", name))
    except FileNotFoundError:
        raise FileNotFoundError("there is no job %r on %s that has not ended" % (name, path)) from None


def forget(name: str, mount: Optional[mounts.MountLike] = None) -> None:
    """Removes a session or a job that has ended, with its results. StillRunning: it has not."""
    path = mounts.find(mount, start=False)
    try:
        os.rmdir(os.path.join(path, "info", name))
    except FileNotFoundError:
        raise FileNotFoundError("there is no job %r on %s" % (name, path)) from None
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise StillRunning("%r has not ended: wait for it, or cancel it first with ppfs.cancel(%r)" % (name, name)) from None


__all__ = ["Session", "attach", "cancel", "forget"]
