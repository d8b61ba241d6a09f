"""ppfs.Pool: the interface of multiprocessing.pool.Pool over an Executor."""
from __future__ import annotations

import itertools
import threading
import time
import warnings
from collections import deque
from concurrent.futures import CancelledError
from concurrent.futures import TimeoutError as FutureTimeout
from multiprocessing import TimeoutError as PoolTimeout
from multiprocessing.pool import CLOSE, RUN, TERMINATE
from multiprocessing.pool import RemoteTraceback as PoolTraceback  # type: ignore[attr-defined] # as above
from pickle import PicklingError
from typing import Any, Callable, Deque, Dict, Generic, Iterable, Iterator, List, Optional, Tuple, TypeVar

from . import mount as mounts
from ._stream.future import Future
from .errors import RemoteTraceback
from .executor import Executor
from .trust import TrustLike

AHEAD = 1024  # calls (or chunks) of an imap that have not ended, from which on its iterable is not read
T = TypeVar("T")
Callback = Optional[Callable[[Any], object]]
_OF_PICKLE = (PicklingError, TypeError, AttributeError)  # what says that something does not pickle


def _as_pools_raise(error: BaseException) -> BaseException:
    """The exception with the traceback of the worker where users of a Pool look for it; what a __reduce__() raised instead
    of the PicklingError that it led to."""
    cause = error.__cause__
    if isinstance(error, PicklingError) and cause is not None and not isinstance(cause, _OF_PICKLE):
        return cause
    if isinstance(cause, RemoteTraceback):
        error.__cause__ = PoolTraceback(str(cause))
    return error


class AsyncResult(Generic[T]):
    """What apply_async() and the like give: of one call, or of the chunks of a map."""

    def __init__(self, futures: List[Future[Any]], whole: Callable[[List[Any]], T], callback: Callback,
                 error_callback: Callback, problem: Optional[BaseException] = None) -> None:
        """whole: makes the result of those of the futures. problem: why there are none."""
        self._futures, self._whole = futures, whole
        self._problem = problem
        self._value: List[T] = []
        self._settled = False  # value or problem say how it ended
        self._lock = threading.RLock()
        self._callbacks = callback, error_callback
        self._called: Optional[threading.Event] = None
        if callback is not None or error_callback is not None:
            self._called = threading.Event()
            self._missing = len(futures)
            for future in list(futures):
                future.add_done_callback(self._one_ended)
            if not futures:
                self._call_back()

    def _one_ended(self, _: Any) -> None:
        with self._lock:
            self._missing -= 1
            last = self._missing == 0
        if last:
            self._call_back()

    def _call_back(self) -> None:
        try:
            self._settle()
            call = self._callbacks[self._problem is not None]
            if call is not None:
                call(self._problem if self._problem is not None else self._value[0])
        finally:
            self._callbacks = None, None
            assert self._called is not None
            self._called.set()

    def _settle(self) -> None:
        """Takes the results out of the futures, all of which have ended."""
        with self._lock:
            if self._settled:
                return
            self._settled = True
            try:
                if self._problem is None:
                    self._value.append(self._whole([future.result() for future in self._futures]))
            except BaseException as error:
                self._problem = error
            if self._problem is not None:
                self._problem = _as_pools_raise(self._problem)
            self._futures = []

    def ready(self) -> bool:
        """Whether it has ended, and its callback has been called."""
        return self._called.is_set() if self._called is not None else all(future.done() for future in self._futures)

    def successful(self) -> bool:
        """Whether no call raised. ValueError: it has not ended."""
        if not self.ready():
            raise ValueError("%r not ready" % self)
        self._settle()
        return self._problem is None

    def wait(self, timeout: Optional[float] = None) -> None:
        """Returns when it has ended, or after timeout seconds."""
        if self._called is not None:
            self._called.wait(timeout)
            return
        end = None if timeout is None else time.monotonic() + timeout
        for future in self._futures:
            try:
                future.exception(_until(end))
            except FutureTimeout:
                return
            except CancelledError:
                pass

    def get(self, timeout: Optional[float] = None) -> T:
        """The result, or raises what a call raised: of a map the first in its order, when all calls have ended.
        multiprocessing.TimeoutError: not within timeout seconds; CancelledError: the pool was terminated."""
        self.wait(timeout)
        if not self.ready():
            raise PoolTimeout
        self._settle()
        if self._problem is not None:
            raise self._problem
        return self._value[0]


ApplyResult = MapResult = AsyncResult


class IMapIterator(Iterator[T]):
    """What imap() and imap_unordered() give. The iterable is read in a thread of its own, ahead of the results."""

    def __init__(self, unordered: bool) -> None:
        self._unordered = unordered
        self._changed = threading.Condition()
        self._futures: Deque[Future[Any]] = deque()  # in the order in which they are handed out
        self._left = 0  # futures whose results were not handed out
        self._running = 0  # futures that have not ended
        self._chunk: List[T] = []  # what is left of the last, reversed
        self._problem: Optional[BaseException] = None  # of the iterable
        self._fed = False

    def _feed(self, futures: Iterator[Future[Any]]) -> None:
        """The life of that thread."""
        try:
            for future in futures:
                with self._changed:
                    self._left += 1
                    self._running += 1
                    if not self._unordered:
                        self._futures.append(future)
                        self._changed.notify_all()
                future.add_done_callback(self._one_ended)
                with self._changed:
                    self._changed.wait_for(lambda: self._running < AHEAD)
        except BaseException as error:
            self._problem = _as_pools_raise(error)
        with self._changed:
            self._fed = True
            self._changed.notify_all()

    def _one_ended(self, future: Any) -> None:
        with self._changed:
            self._running -= 1
            if self._unordered:
                self._futures.append(future)
            self._changed.notify_all()

    def __iter__(self) -> IMapIterator[T]:
        return self

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: Optional[float] = None) -> T:
        """The next result, or raises what the call (or the iterable) raised. multiprocessing.TimeoutError: not within
        timeout seconds, and it can be asked for again."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._chunk or self._futures or (self._fed and not self._left),
                                              _until(end)):
                    raise PoolTimeout
                if self._chunk:
                    return self._chunk.pop()
                if not self._futures:
                    problem, self._problem = self._problem, None
                    if problem is None:
                        raise StopIteration
                    raise problem
                future = self._futures[0]
            result: AsyncResult[List[T]] = AsyncResult([future], _first, None, None)
            result.wait(_until(end))
            if not result.ready():
                raise PoolTimeout
            with self._changed:
                if self._chunk or not self._futures or self._futures[0] is not future:
                    continue  # another thread has taken it
                self._left -= 1
                self._futures.popleft()
                if result.successful():
                    self._chunk = result.get()[::-1]
                    continue
            result.get()


def _until(end: Optional[float]) -> Optional[float]:
    """The seconds that are left until then, 0 when it is over."""
    return None if end is None else max(end - time.monotonic(), 0)


class Pool:
    """multiprocessing.pool.Pool whose calls are kept by a ppfs.

    processes         how many calls may be under way at a time, on all nodes together; by default as many as the mount
                      has slots
    initializer       called with initargs once in each worker, as that of ppfs.Executor
    maxtasksperchild  checked and not used: a call leaves nothing to the next, and a worker in which one left something is
                      replaced
    context           has to be None: workers are those of the mount
    further keywords are those of ppfs.Executor: mount, serializer, trust, and options of every call

    A callback is called in the thread that brings results; it must not wait for another call. What cannot be pickled is an
    error of the result, as there. After terminate() results that have not come raise CancelledError.
    """

    def __init__(self, processes: Optional[int] = None, initializer: Optional[Callable[..., Any]] = None,
                 initargs: Iterable[Any] = (), maxtasksperchild: Optional[int] = None, context: None = None, *,
                 mount: Optional[mounts.MountLike] = None, serializer: Optional[str] = None, trust: TrustLike = None,
                 **options: Any) -> None:
        self._state: str = CLOSE
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if context is not None:
            raise ValueError("context has to be None: the workers of a ppfs are started by it, not by this process")
        self._executor = Executor(mount, max_workers=processes, initializer=initializer, initargs=tuple(initargs),
                                  serializer=serializer, trust=trust, **options)
        self._feeders: List[threading.Thread] = []
        self._state = RUN

    @property
    def _processes(self) -> int:
        return self._executor._max_workers

    def __del__(self, _warn: Any = warnings.warn, _run: Any = RUN) -> None:
        if self._state == _run:
            _warn("unclosed running multiprocessing pool %r" % self, ResourceWarning, source=self)

    def __repr__(self) -> str:
        return "<%s.%s state=%s>" % (type(self).__module__, type(self).__qualname__, self._state)

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    # --- calls -------------------------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Dict[str, Any] = {}) -> T:
        """What func(*args, **kwds) returns or raises."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: Dict[str, Any] = {},
                    callback: Callback = None, error_callback: Callback = None) -> AsyncResult[T]:
        """apply() that does not wait. ValueError: the pool was closed."""
        self._check_running()
        try:
            futures = [self._executor.submit(func, *args, **kwds)]
        except Exception as error:
            return AsyncResult([], _first, callback, error_callback, error)
        return AsyncResult(futures, _first, callback, error_callback)

    def map(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: Optional[int] = None) -> List[T]:
        """[func(item) for item in iterable]. chunksize: so many calls travel as one."""
        return self.map_async(func, iterable, chunksize).get()

    def map_async(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: Optional[int] = None,
                  callback: Callback = None, error_callback: Callback = None) -> AsyncResult[List[T]]:
        """map() that does not wait."""
        return self._map_async(func, [(item,) for item in self._checked(iterable)], chunksize, callback, error_callback)

    def starmap(self, func: Callable[..., T], iterable: Iterable[Iterable[Any]],
                chunksize: Optional[int] = None) -> List[T]:
        """[func(*item) for item in iterable]."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: Optional[int] = None,
                      callback: Callback = None, error_callback: Callback = None) -> AsyncResult[List[T]]:
        """starmap() that does not wait."""
        return self._map_async(func, [tuple(item) for item in self._checked(iterable)], chunksize, callback,
                               error_callback)

    def _checked(self, iterable: Iterable[Any]) -> Iterable[Any]:
        self._check_running()
        return iterable

    def _map_async(self, func: Callable[..., T], calls: List[Tuple[Any, ...]], chunksize: Optional[int],
                   callback: Callback, error_callback: Callback) -> AsyncResult[List[T]]:
        if chunksize is None:
            chunksize = -(-len(calls) // (self._processes * 4))
        futures: List[Future[Any]] = []
        try:
            for future in self._executor._submit_lazily(func, iter(calls), max(chunksize, 1), True):
                futures.append(future)
        except Exception as error:
            for future in futures:
                future.cancel()
            return AsyncResult([], _joined, callback, error_callback, error)
        return AsyncResult(futures, _joined, callback, error_callback)

    def imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[T]:
        """An iterator over the results of map(), each as it comes, in order."""
        return self._imap(func, iterable, chunksize, False)

    def imap_unordered(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int = 1) -> IMapIterator[T]:
        """An iterator over the results of map() in the order in which they come."""
        return self._imap(func, iterable, chunksize, True)

    def _imap(self, func: Callable[[Any], T], iterable: Iterable[Any], chunksize: int,
              unordered: bool) -> IMapIterator[T]:
        self._check_running()
        if chunksize < 1:
            raise ValueError("Chunksize must be 1+, not {0:n}".format(chunksize))
        iterator: IMapIterator[T] = IMapIterator(unordered)
        futures = self._executor._submit_lazily(func, zip(iterable), chunksize, True)
        feeder = threading.Thread(target=iterator._feed, args=(futures,), name="ppfs.Pool feeder", daemon=True)
        self._feeders = [one for one in self._feeders if one.is_alive()] + [feeder]
        feeder.start()
        return iterator

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """No more calls; those that were given run to their end."""
        if self._state == RUN:
            self._state = CLOSE
            if not any(feeder.is_alive() for feeder in self._feeders):
                self._executor.shutdown(wait=False)

    def terminate(self) -> None:
        """No more calls; those that have not ended are killed."""
        self._state = TERMINATE
        self._executor.shutdown(wait=False)
        self._executor._core.kill()

    def join(self) -> None:
        """Waits for the end of all calls. ValueError: neither close() nor terminate() was called."""
        if self._state == RUN:
            raise ValueError("Pool is still running")
        for feeder in self._feeders if self._state == CLOSE else []:
            feeder.join()
        self._executor.shutdown(wait=True)

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: Any) -> None:
        self.terminate()


def _first(results: List[Any]) -> Any:
    return results[0]


def _joined(results: List[List[Any]]) -> List[Any]:
    return list(itertools.chain.from_iterable(results))


__all__ = ["AsyncResult", "IMapIterator", "Pool"]
