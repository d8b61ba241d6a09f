"""joblib's Parallel over ppfs:  ppfs.joblib.register();  with joblib.parallel_backend("ppfs"): Parallel()(...)"""
import functools
import sys
import threading
from concurrent.futures import TimeoutError as FutureTimeout
from multiprocessing import TimeoutError
from typing import Any, Callable, Dict, Optional, Tuple

from joblib import register_parallel_backend  # type: ignore[import] # joblib has no types
from joblib._parallel_backends import (AutoBatchingMixin, FallbackToBackend,  # type: ignore[import] # as above
                                       ParallelBackendBase, SequentialBackend, ThreadingBackend)

from .. import mount as mounts
from .._stream.output import Warnings
from ..executor import Executor
from ..trust import TrustLike

_warnings = Warnings()  # that batches have shown

# What runs a batch. Workers need not have this package, so the backend "ppfs" is for them what get_nested_backend()
# says.
_IN_WORKER = ("[(lambda j: j.register_parallel_backend('ppfs', j._parallel_backends.ThreadingBackend))"
              "(__import__('joblib')), batch()][1]")

# What an initializer runs in a worker before the user's.
_LIMIT_THREADS = """
import os, sys
os.environ.update(variables)
if "threadpoolctl" in sys.modules:
    sys.modules["threadpoolctl"].threadpool_limits(threads)
if initializer is not None:
    initializer(*initargs)
"""


class PpfsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # as above
    """Batches of calls, each one call of a ppfs.Executor. What a batch itself runs in parallel goes to threads of its
    worker, and what those run is sequential, so that no worker waits for another."""

    supports_timeout = True
    supports_inner_max_num_threads = True
    uses_threads = False
    supports_sharedmem = False
    default_n_jobs = -1
    supports_retrieve_callback = hasattr(ParallelBackendBase, "retrieve_result_callback")  # from joblib 1.3 on

    _registered: Tuple[Optional[mounts.MountLike], Optional[str], TrustLike] = (None, None, None)  # what register() was told

    def __init__(self, mount: Optional[mounts.MountLike] = None, serializer: Optional[str] = None,
                 trust: TrustLike = None, initializer: Optional[Callable[..., Any]] = None,
                 initargs: Tuple[Any, ...] = (), nesting_level: Optional[int] = None,
                 inner_max_num_threads: Optional[int] = None) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        default = self._registered
        self._mount = mount if mount is not None else default[0]
        self._serializer = serializer if serializer is not None else default[1]
        self._trust = trust if trust is not None else default[2]
        self._initializer, self._initargs = initializer, initargs
        self._most: Optional[int] = None  # batches under way at a time
        self._workers: Optional[Executor] = None
        self._lock = threading.Lock()

    # joblib copies backends into its batches: they need the nesting level, not the connection.
    def __getstate__(self) -> Dict[str, Any]:
        state = dict(self.__dict__)
        state["_workers"] = state["_initializer"] = None
        state["_initargs"] = ()
        state.pop("_lock", None)
        state.pop("parallel", None)
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _ready(self) -> Executor:
        with self._lock:
            if self._workers is None:
                initializer, initargs = self._initializer, tuple(self._initargs)
                threads = self.inner_max_num_threads
                if threads is not None:
                    variables = {name: str(threads) for name in self.MAX_NUM_THREADS_VARS}
                    initargs = (_LIMIT_THREADS, {"variables": variables, "threads": threads, "initializer": initializer,
                                                 "initargs": initargs})
                    initializer = exec
                self._workers = Executor(self._mount, serializer=self._serializer, trust=self._trust,
                                          initializer=initializer, initargs=initargs, stdout=False, stderr=False)
                if self._most is not None:
                    self._workers._core.set_limit(lambda: self._most)
            return self._workers

    def effective_n_jobs(self, n_jobs: Optional[int]) -> int:
        """n_jobs, or for negative numbers as many as the nodes have slots, as joblib counts."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = -1
        if n_jobs > 0:
            return n_jobs
        return max(mounts.slots(self._ready().mount) + 1 + n_jobs, 1)

    def configure(self, n_jobs: Optional[int] = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
                  **backend_args: Any) -> int:
        """Called by joblib at the start of each Parallel. TypeError: an argument that this backend does not have."""
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        for name in ("initializer", "initargs"):
            if name in backend_args:
                setattr(self, "_" + name, backend_args.pop(name))
        unknown = sorted(backend_args.keys() - _OF_JOBLIB)
        if unknown:
            raise TypeError("the joblib backend ppfs has no argument %r" % unknown[0])
        self.parallel = parallel
        executor, most = self._ready(), self.effective_n_jobs(n_jobs)
        if n_jobs not in (None, -1):
            self._most = most
            executor._core.set_limit(lambda: most)
        return most

    def submit(self, func: Callable[[], Any], callback: Optional[Callable[[Any], Any]] = None) -> Any:
        """One batch. callback: called with the future when that has ended; by joblib before 1.3 with the result, where there
        is one. What the batch has printed is printed here."""
        large = [arg for _, args, kwargs in getattr(func, "items", ()) for arg in (*args, *kwargs.values())]
        future = self._ready()._submit_like(large, eval, _IN_WORKER, {"batch": func})
        future.get = functools.partial(_get, future)  # type: ignore[attr-defined] # what joblib before 1.3 calls
        future.add_done_callback(functools.partial(_ended, callback, self.supports_retrieve_callback))
        return future

    apply_async = submit  # as joblib before 1.5 calls it

    def retrieve_result_callback(self, out: Any) -> Any:
        """The result of a future that has ended, for joblib from 1.3 on."""
        return out.result()

    def terminate(self) -> None:
        """Called by joblib at the end of each Parallel."""
        with self._lock:
            executor, self._workers = self._workers, None
        if executor is not None:
            executor.shutdown(wait=False)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """An error or Ctrl-C: what is under way is not wanted any more."""
        with self._lock:
            executor, self._workers = self._workers, None
        if executor is not None:
            executor._core.kill()
            executor.shutdown(wait=False)
        if ensure_ready:
            self._ready()

    def get_nested_backend(self) -> Tuple[ParallelBackendBase, Optional[int]]:
        """One level of threads, then nothing parallel: a worker never waits for a slot."""
        level = (getattr(self, "nesting_level", 0) or 0) + 1
        if level > 1:
            return SequentialBackend(nesting_level=level), None
        return ThreadingBackend(nesting_level=level), None


# What joblib before 1.3 raises for a KeyboardInterrupt of a batch.
_Interrupted: Any = getattr(sys.modules["joblib._parallel_backends"], "WorkerInterrupt", None)
_OF_JOBLIB = {"max_nbytes", "mmap_mode", "temp_folder", "prefer", "require", "verbose", "context", "context_id"}


def _get(future: Any, timeout: Optional[float] = None) -> Any:
    try:
        return future.result(timeout)
    except FutureTimeout:
        if future.done():
            raise
        raise TimeoutError() from None
    except KeyboardInterrupt:
        if _Interrupted is not None and future.done() and isinstance(future.exception(), KeyboardInterrupt):
            raise _Interrupted() from None
        raise


def _ended(callback: Optional[Callable[[Any], Any]], with_future: bool, future: Any) -> None:
    try:
        if future._printed:
            sys.stdout.write(future.stdout)
            sys.stderr.write(_warnings.once(future.stderr))
    finally:
        if callback is not None and with_future:
            callback(future)
        elif callback is not None and not future.cancelled() and future.exception() is None:
            callback(future.result())


def register(mount: Optional[mounts.MountLike] = None, *, make_default: bool = False,
             serializer: Optional[str] = None, trust: TrustLike = None) -> None:
    """Makes the backend "ppfs" known to joblib.

    mount, serializer, trust  as those of ppfs.Executor; parallel_config("ppfs", mount=..., serializer=...) gives others,
                              and initializer, initargs and inner_max_num_threads
    make_default              every Parallel uses it from now on

    n_jobs of a Parallel is how many of its batches are under way at a time, on all nodes together; 1: they run in this
    process; -1, the default: all at once, of which the mount runs as many as it has slots. -2 is one fewer than these, and so on. A batch has the
    functions and arguments as they are when joblib hands it over.
    """

    PpfsBackend._registered = mount, serializer, trust
    register_parallel_backend("ppfs", PpfsBackend, make_default=make_default)


__all__ = ["PpfsBackend", "register"]
