"""Futures among the arguments of a call: it is sent when they have ended, with what they gave in their places.

The function and all other arguments are pickled at the submit(), as those of any call; a persistent id stands where a
future was. No future can wait for itself: it is an argument only of calls that are submitted after it.
"""
import collections
import functools
import hashlib
import pickle
import threading
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple, Type

from ._pickle.reach import PROTOCOL
from ._pickle.serialize import Sent, Serializer, describe, pickler_of
from ._pickle.values import LARGE_VALUE, LARGEST_VALUE, framed, refer
from ._stream import frames
from ._stream.channel import Channel
from ._stream.future import Future
from ._stream.size import refuse_too_large
from .errors import DependencyFailed


class Arguments:
    """The arguments of a call of fn, of which some may be futures or hold futures. PicklingError: there are some, and
    another one cannot be pickled. futures: those that there are."""

    def __init__(self, serializer: Serializer, fn: Callable[..., Any], args: Tuple[Any, ...],
                 kwargs: Dict[str, Any]) -> None:
        self.futures: List[Future[Any]] = []
        self._serializer, self._fn = serializer, fn
        self._blob = b""
        self._lock = threading.Lock()
        self._left = 0  # futures that have not ended
        self._step: Optional[Callable[[], None]] = None
        module = serializer._by_value
        bases: List[Type[Any]] = [pickle.Pickler] if module is None else [pickle.Pickler, pickler_of(module)]
        for base in bases:
            more = {"recurse": True, "byref": False} if base.__module__.startswith("dill") else {}
            blob = self._pickle(base, (args, kwargs), more)
            if blob and not (base is pickle.Pickler and serializer.mentions_values(blob)):
                self._blob = blob
                return
        if self.futures:
            given = (None if isinstance(one, Future) else one for one in args)
            rest = {name: None if isinstance(one, Future) else one for name, one in kwargs.items()}
            serializer._name_culprit(None, fn, tuple(given), rest)
            raise pickle.PicklingError("the arguments of %s cannot be pickled" % describe(fn))

    def _pickle(self, base: Type[Any], what: Any, more: Dict[str, Any]) -> bytes:
        """The arguments with numbers for futures; nothing when that is not possible."""
        futures: List[Future[Any]] = []
        places: Dict[int, int] = {}

        class Finder(base):  # type: ignore[misc] # whose class is known when it runs
            def persistent_id(self, what: Any) -> Any:
                if not isinstance(what, Future):
                    return None
                if id(what) not in places:
                    places[id(what)] = len(futures)
                    futures.append(what)
                return places[id(what)]

        blob = _Bytes()
        try:
            Finder(blob, protocol=PROTOCOL, **more).dump(what)
            return b"".join(blob)
        except Exception:
            return b""
        finally:
            self.futures = futures

    def defer(self, channel: Channel, sent: Sent, prefix: bytes, whole: bytes) -> Future[Any]:
        """The future of the call, which is sent once. prefix: of a CALL of the function; whole: of one without.
        ValueError: the function is too large."""
        if len(sent.blob) > LARGEST_VALUE:
            raise ValueError("a call of %s cannot wait for futures: its function takes %d bytes, and may take %d"
                             % (describe(self._fn), len(sent.blob), LARGEST_VALUE))
        future: Future[Any] = Future(channel, next(channel.ids))
        self._step = functools.partial(self._go, channel, future, sent, prefix, whole)
        self._left = len(self.futures)
        channel.defer(future)
        try:
            for one in list(self.futures):
                one.add_done_callback(self._ended)
        except BaseException as problem:  # a Ctrl-C
            self._fail(channel, future, whole, problem)
            raise
        return future

    def _ended(self, _: Any) -> None:
        with self._lock:
            self._left -= 1
            step, self._step = (None, self._step) if self._left else (self._step, None)
        if step is not None:
            _one_by_one(step)

    def _go(self, channel: Channel, future: Future[Any], sent: Sent, prefix: bytes, whole: bytes) -> None:
        """All of them have ended. What they gave is not kept here."""
        try:
            channel.announce(sent.digest, sent.blob)
            channel.send_deferred(future, self._call(channel, future, prefix))
        except BaseException as problem:
            self._fail(channel, future, whole, problem)
            if not isinstance(problem, Exception):
                raise
        finally:
            self.futures, self._blob = [], b""

    @staticmethod
    def _fail(channel: Channel, future: Future[Any], whole: bytes, problem: BaseException) -> None:
        blob = pickle.dumps((exec, ("raise RuntimeError(why)", {"why": str(problem)}), {}), PROTOCOL)
        channel.fail(future, problem, frames.frame_pieces(frames.CALL, future._id, [whole, blob]))

    def _call(self, channel: Channel, future: Future[Any], prefix: bytes) -> List[frames.Bytes]:
        """The frames of the call. DependencyFailed, and what pickling raises."""
        values: List[bytes] = []
        digests: List[bytes] = []
        for one in self.futures:
            if one.cancelled():
                raise self._not_started("%s was cancelled" % _words(one), None)
            problem = one.exception()
            if problem is not None:
                raise self._not_started("%s failed: %s: %s" % (_words(one), type(problem).__name__, problem), problem)
            blob = self._serializer.value(one.result(), "the result of %r" % one)
            if LARGE_VALUE < len(blob) < LARGEST_VALUE - LARGE_VALUE and len(digests) < 255:
                blob = framed(blob)
                digest = hashlib.sha256(blob).digest()
                channel.announce(digest, blob)
                digests.append(digest)
                blob = digest
            values.append(blob)
        plan = refer(self._blob, values, digests)
        refuse_too_large(self._fn, (), {}, len(plan.blob))
        if plan.digests:
            prefix = frames.naming(prefix, plan.digests)
        return frames.frame_pieces(frames.CALL, future._id, [prefix, plan.blob])

    def _not_started(self, why: str, problem: Optional[BaseException]) -> DependencyFailed:
        """Of a chain of calls each names the first that failed."""
        if isinstance(problem, _NotStarted):
            why, problem = problem.why, problem.__cause__
        error = _NotStarted("the call of %s did not start: among its arguments, or theirs, %s" % (describe(self._fn), why))
        error.why, error.__cause__ = why, problem
        return error


class _NotStarted(DependencyFailed):
    why = ""

    def __reduce__(self) -> Tuple[Any, ...]:
        return DependencyFailed, self.args


_NotStarted.__name__ = _NotStarted.__qualname__ = DependencyFailed.__name__  # what a traceback calls it
_NotStarted.__module__ = DependencyFailed.__module__


def _words(future: Future[Any]) -> str:
    return "call %d of %s" % (future.id, future._connection.name)


class _Bytes(List[bytes]):
    """What a pickler writes to."""

    def write(self, data: Any) -> None:
        self.append(bytes(data))


class _Steps(threading.local):
    """Of one thread."""

    def __init__(self) -> None:
        self.waiting: Deque[Callable[[], None]] = collections.deque()
        self.going = False


_steps = _Steps()


def _one_by_one(step: Callable[[], None]) -> None:
    """Takes the step, after those that this thread is taking: a failure that goes through a long chain of calls needs no
    deep stack. Raises what was raised last."""
    _steps.waiting.append(step)
    if _steps.going:
        return
    problem: Optional[BaseException] = None
    _steps.going = True
    try:
        while _steps.waiting:
            try:
                _steps.waiting.popleft()()
            except BaseException as error:
                problem = error
    finally:
        _steps.going = False
    if problem is not None:
        raise problem


__all__ = ["Arguments"]
