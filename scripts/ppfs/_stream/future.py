"""The future of one call in a stream. It ends once.

The state of a future that nobody waits for belongs to the lock of its connection; from the moment that somebody does
(_watched, which is set with that lock held) it belongs to the future's own condition, as in concurrent.futures. The lock
of the connection is the inner one: whoever holds it takes no future's.
"""
import threading
from concurrent.futures import CancelledError
from concurrent.futures import Future as BaseFuture
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures import _base
from pickle import PicklingError
from typing import Any, Callable, List, Optional, Protocol, Tuple, TypeVar

from ..world import in_notebook
from . import frames
from .threads import Event

PENDING, RUNNING, FINISHED = _base.PENDING, _base.RUNNING, _base.FINISHED
CANCELLED = _base.CANCELLED_AND_NOTIFIED
T = TypeVar("T")


class Owner(Protocol):
    """What a future asks of the connection that brings its answer (connection.py)."""

    name: str
    lock: threading.RLock  # of the state of futures that nobody waits for

    def read_alone(self, future: "Future[Any]") -> None:
        """Reads the answer in the thread that waits for it, if that is possible."""

    def settle(self) -> None:
        """Answers must come without that."""

    def check_waiter(self) -> None:
        """RuntimeError: this thread must not wait."""

    def forget(self, future: "Future[Any]") -> None:
        """The future was cancelled."""

    def release(self, future: "Future[Any]") -> None:
        """The call is not held any more."""


class _Waiter(Event):
    """Is told of the end of a future, as those of concurrent.futures.wait() are."""

    def add_result(self, future: Any) -> None:
        """The future has ended."""
        self.set()

    add_exception = add_cancelled = add_result


class Future(BaseFuture[T]):
    """A concurrent.futures.Future whose lock is made when somebody waits. That is what makes tens of thousands a second
    possible."""

    _state: str = PENDING
    _result: Any = None
    _exception: Optional[BaseException] = None
    _watched = False  # somebody may be waiting: _cond, _waiters and _done_callbacks exist
    _printed: Optional[List[Tuple[int, bytes]]] = None
    _cond: Optional[threading.Condition] = None
    _guard: Any = None  # the lock of _cond
    _until = 0  # bytes that the stream has taken when it has the call
    _born: Any = None  # the lock of the connection when _cond was made: after a fork there is another

    def __init__(self, connection: Owner, ident: int) -> None:
        self._connection = connection
        self._id = ident

    @property
    def id(self) -> int:
        """The number of the call in its stream, counted from 1 in the order of submission."""
        return self._id

    @property
    def stdout(self) -> str:
        """What the call has printed (that is known of so far)."""
        return self._text(frames.STDOUT)

    @property
    def stderr(self) -> str:
        """What the call has written to its standard error."""
        return self._text(frames.STDERR)

    @property
    def printed(self) -> str:
        """Both, in the order in which they came."""
        return self._text(frames.STDOUT, frames.STDERR)

    def _text(self, *which: int) -> str:
        return b"".join(data for kind, data in self._printed or () if kind in which).decode("utf-8", "replace")

    # --- whoever waits -----------------------------------------------------------------------------------------------

    @property
    def _condition(self) -> threading.Condition:
        lock = self._connection.lock
        if self._cond is None or self._born is not lock:
            with lock:
                if self._cond is None:
                    self._waiters: List[Any] = []
                    self._done_callbacks: List[Callable[[Any], object]] = []
                self._watched = True
                if self._cond is None or self._born is not lock:
                    self._guard = threading.RLock()
                    self._cond, self._born = threading.Condition(self._guard), lock
            self._connection.settle()
        return self._cond

    def result(self, timeout: Optional[float] = None) -> T:
        """As concurrent.futures.Future.result: what the call returned, or raises what it raised, with the worker's
        traceback as the cause. WorkerDied, CallTimeout, DependencyFailed, CallFailed: why it has not ended by itself;
        MountGone: the mount went away; BrokenExecutor: the initializer failed; CancelledError; TimeoutError: not within
        timeout seconds. RuntimeError in a callback, which would wait for itself. In a notebook, interrupting the kernel cancels
        the call."""
        try:
            self._wait(timeout)
        except KeyboardInterrupt:
            if in_notebook():
                self.kill()
            raise
        if self._exception is not None:
            try:
                raise self._exception
            finally:
                self = None  # type: ignore[assignment] # no circle with the traceback is left
        result: T = self._result
        return result

    def exception(self, timeout: Optional[float] = None) -> Optional[BaseException]:
        """As concurrent.futures.Future.exception."""
        self._wait(timeout)
        return self._exception

    def _wait(self, timeout: Optional[float]) -> None:
        if self._state is not FINISHED and timeout is None:
            self._connection.read_alone(self)
        if self._state is FINISHED:
            return
        waiter = _Waiter()
        if self._joins(waiter):
            try:
                if not waiter.wait(timeout) and self._under_way():
                    raise FutureTimeout()
            finally:
                with self._guard:
                    self._waiters.remove(waiter)
        if self.cancelled():
            raise CancelledError()

    def _joins(self, waiter: _Waiter) -> bool:
        """Whether it will be told of the end, which is to come."""
        self._condition
        with self._guard:
            if not self._under_way():
                return False
            self._connection.check_waiter()
            self._waiters.append(waiter)
        return True

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        """As concurrent.futures.Future.add_done_callback."""
        self._condition
        with self._guard:
            if self._under_way():
                self._done_callbacks.append(fn)
                return
        try:
            fn(self)
        except Exception:
            _base.LOGGER.exception("exception calling callback for %r", self)

    def _under_way(self) -> bool:
        return self._state in (PENDING, RUNNING)

    def done(self) -> bool:
        """As concurrent.futures.Future.done."""
        self._look()
        return not self._under_way()

    def running(self) -> bool:
        """Whether the call is known to run: ppfs says so of calls that take longer than a moment."""
        self._look()
        return self._state == RUNNING

    def _look(self) -> None:
        """Whoever looks again and again wants to see it end."""
        if self._under_way():
            self._connection.settle()

    def cancelled(self) -> bool:
        """As concurrent.futures.Future.cancelled."""
        return self._state == CANCELLED

    # --- whoever changes it ------------------------------------------------------------------------------------------

    def cancel(self) -> bool:
        """Cancels the call unless it is known to run (or to have ended)."""
        return self._cancel((PENDING,))

    def kill(self) -> bool:
        """Cancels the call even while it runs: its process tree is killed. False: it has ended."""
        return self._cancel((PENDING, RUNNING))

    def _cancel(self, states: Tuple[str, ...]) -> bool:
        if self._end(CANCELLED, states=states):
            self._connection.forget(self)
            if self._watched:
                self._invoke_callbacks()  # type: ignore[attr-defined] # not in typeshed
        return self.cancelled()

    def release(self) -> None:
        """Releases a call that was submitted with the option hold=1; one that is not released before its executor is shut
        down fails. Without effect on any other call."""
        if self._state is PENDING:
            self._connection.release(self)

    def _end(self, state: str, value: Any = None, problem: Optional[BaseException] = None,
             states: Tuple[str, ...] = (PENDING, RUNNING)) -> bool:
        """Gives it another state, and tells those who wait. False: it is in none of states any more."""
        with self._connection.lock:
            if not self._watched:
                return self._move(state, value, problem, states)
        self._condition
        with self._guard:
            if not self._move(state, value, problem, states):
                return False
            if state is not RUNNING:
                tell = "add_cancelled" if state is CANCELLED else "add_result" if problem is None else "add_exception"
                for waiter in self._waiters:
                    getattr(waiter, tell)(self)
                self._condition.notify_all()
        return True

    def _move(self, state: str, value: Any, problem: Optional[BaseException], states: Tuple[str, ...]) -> bool:
        if self._state not in states:
            return False
        self._result, self._exception = value, problem
        self._state = state
        return True

    def _call_back(self) -> None:
        """Calls the callbacks in the reader thread: whatever one of them raises, the next is called."""
        for callback in self._done_callbacks:
            try:
                callback(self)
            except BaseException:
                _base.LOGGER.exception("exception calling callback for %r", self)

    def __reduce__(self) -> Tuple[Any, ...]:
        raise PicklingError("%r is neither pickled nor a part of a function; it may be among the arguments of submit() and "
                            "map() of a ppfs.Executor" % self)

    def __repr__(self) -> str:
        return "<%s %d of %s: %s>" % (type(self).__name__, self._id, self._connection.name, self._state.lower())
