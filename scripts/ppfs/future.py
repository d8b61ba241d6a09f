"""The future of one call in a stream.

The state of a future that nobody waits for belongs to the lock of its stream; from the moment that somebody does
(_watched, which is set with that lock held) it belongs to the future's own condition, as in concurrent.futures. The
lock of the stream is the innermost: whoever holds it takes no other.
"""
import threading
from concurrent.futures import Future as BaseFuture
from concurrent.futures import _base
from typing import TYPE_CHECKING, Any, Callable, List, Optional, Tuple

from . import stream

if TYPE_CHECKING:
    from .answers import Answers

PENDING, RUNNING, FINISHED = _base.PENDING, _base.RUNNING, _base.FINISHED
CANCELLED, CANCELLED_AND_NOTIFIED = _base.CANCELLED, _base.CANCELLED_AND_NOTIFIED


class Future(BaseFuture):  # type: ignore[type-arg]
    """A concurrent.futures.Future whose lock is made when somebody waits. That is what makes tens of thousands a second
    possible."""

    _state: str = PENDING
    _result: Any = None
    _exception: Optional[BaseException] = None
    _watched = False  # somebody may be waiting: _cond, _waiters and _done_callbacks exist
    _printed: Optional[List[Tuple[int, bytes]]] = None
    _cond: Optional[threading.Condition] = None
    _born: Any = None  # the lock of the stream when _cond was made: after a fork there is another

    def __init__(self, channel: "Answers", ident: int) -> None:
        self._channel = channel
        self._id = ident

    @property
    def id(self) -> int:
        """The number of the call in its stream, counted from 1 in the order of submission."""
        return self._id

    @property
    def stdout(self) -> str:
        """What the call has printed (that is known of so far)."""
        return self._text(stream.STDOUT)

    @property
    def stderr(self) -> str:
        """What the call has written to its standard error."""
        return self._text(stream.STDERR)

    @property
    def printed(self) -> str:
        """Both, in the order in which they came."""
        return self._text(stream.STDOUT, stream.STDERR)

    def _text(self, *which: int) -> str:
        return b"".join(data for kind, data in self._printed or () if kind in which).decode("utf-8", "replace")

    @property
    def _condition(self) -> threading.Condition:
        lock = self._channel.lock
        if self._cond is None or self._born is not lock:
            with lock:
                if self._cond is None:
                    self._waiters: List[Any] = []
                    self._done_callbacks: List[Callable[[Any], object]] = []
                if self._cond is None or self._born is not lock:
                    self._own = threading.RLock()
                    self._cond, self._born = threading.Condition(self._own), lock
                    self._watched = True
            self._channel.settle()
        return self._cond

    def _change(self, change: Callable[[], bool]) -> bool:
        """Calls change() while the state of the future is the caller's to change, and gives what it gives. The locks
        are taken by `with` on themselves: nothing written in Python lies between taking and letting go, where a Ctrl-C
        could leave them locked."""
        with self._channel.lock:
            if not self._watched:
                return change()
        assert self._condition
        with self._own:
            return change()

    def result(self, timeout: Optional[float] = None) -> Any:
        """As concurrent.futures.Future.result."""
        if self._state is not FINISHED:
            self._channel.wait_for(self, timeout)
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment]
        return self._result

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """As concurrent.futures.Future.exception."""
        if self._state is not FINISHED:
            self._channel.wait_for(self, timeout)
        return self._exception

    def done(self) -> bool:
        """As concurrent.futures.Future.done."""
        self._look()
        return self._state not in (PENDING, RUNNING)

    def running(self) -> bool:
        """Whether the call is known to run: ppfs says so of calls that take longer than a moment."""
        self._look()
        return self._state == RUNNING

    def _look(self) -> None:
        """Whoever looks again and again wants to see it end."""
        if self._state is PENDING or self._state is RUNNING:
            self._channel.settle()

    def cancelled(self) -> bool:
        """As concurrent.futures.Future.cancelled."""
        return self._state in (CANCELLED, CANCELLED_AND_NOTIFIED)

    def cancel(self) -> bool:
        """Cancels the call unless it is known to run (or to have ended)."""
        return self._cancel((PENDING,))

    def kill(self) -> bool:
        """Cancels the call even while it runs: its process tree is killed. False: it has ended."""
        return self._cancel((PENDING, RUNNING))

    def release(self) -> None:
        """Lets a call go that was submitted with the option hold=1; one that nobody lets go before its executor is shut
        down fails. Of any other call it means nothing."""
        if self._state is PENDING:
            self._channel.release(self._id)

    def _cancel(self, states: Tuple[str, ...]) -> bool:
        def change() -> bool:
            if self._state not in states:
                return False
            self._channel.forget(self._id)
            self._end_cancelled()
            return True

        if not self._change(change):
            return self.cancelled()
        self._after_cancel()
        self._channel.settle()
        return True

    def _after_cancel(self) -> None:
        self._channel.pending.pop(self._id, None)
        if self._watched:
            self._invoke_callbacks()  # type: ignore[attr-defined]

    def _end_cancelled(self) -> None:
        """In a _change(): cancelled, and those who wait know."""
        self._state = CANCELLED_AND_NOTIFIED
        if self._watched:
            assert self._cond is not None
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._cond.notify_all()

    def __repr__(self) -> str:
        return "<%s %d of %s: %s>" % (type(self).__name__, self._id, self._channel.name, self._state.lower())
