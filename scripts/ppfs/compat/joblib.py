"""joblib's Parallel over ppfs:  ppfs.joblib.register();  with joblib.parallel_backend("ppfs"): Parallel()(...)"""
import functools
import threading
from typing import Any, Callable, Dict, Optional, Tuple

from joblib import register_parallel_backend  # type: ignore[import] # joblib has no types
from joblib._parallel_backends import (AutoBatchingMixin, ParallelBackendBase,  # type: ignore[import] # as above
                                       SequentialBackend, ThreadingBackend)

from .. import mount as mounts
from ..executor import Executor
from ..trust import TrustLike

# What runs a batch. Workers need not have this package, so the backend "ppfs" is for them what get_nested_backend()
# says.
_IN_WORKER = ("[(lambda j: j.register_parallel_backend('ppfs', j._parallel_backends.ThreadingBackend))"
              "(__import__('joblib')), batch()][1]")


class PpfsBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc] # as above
    """Batches of calls, each one call of a ppfs.Executor. What a batch itself runs in parallel goes to threads of its
    worker, and what those run is sequential, so that no worker waits for another."""

    supports_timeout = True
    supports_inner_max_num_threads = False
    uses_threads = False
    supports_sharedmem = False
    default_n_jobs = -1
    supports_retrieve_callback = False

    def __init__(self, mount: Optional[mounts.MountLike] = None, serializer: Optional[str] = None,
                 trust: TrustLike = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._mount, self._serializer, self._trust = mount, serializer, trust
        self._executor: Optional[Executor] = None
        self._lock = threading.Lock()

    # joblib copies backends into its batches: they need the nesting level, not the connection.
    def __getstate__(self) -> Dict[str, Any]:
        state = dict(self.__dict__)
        state["_executor"] = None
        state.pop("_lock", None)
        state.pop("parallel", None)
        return state

    def __setstate__(self, state: Dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    def _ready(self) -> Executor:
        with self._lock:
            if self._executor is None:
                self._executor = Executor(self._mount, serializer=self._serializer, trust=self._trust)
            return self._executor

    def effective_n_jobs(self, n_jobs: Optional[int]) -> int:
        """n_jobs, or for negative numbers as many as the nodes have slots, as joblib counts."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            n_jobs = -1
        if n_jobs > 0:
            return n_jobs
        return max(mounts.slots(self._ready().mount) + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, prefer: Any = None, require: Any = None,
                  **backend_args: Any) -> int:
        """Called by joblib at the start of each Parallel."""
        self.parallel = parallel
        executor, most = self._ready(), self.effective_n_jobs(n_jobs)
        if n_jobs not in (None, -1):
            executor._core.set_limit(lambda: most)
        return most

    def apply_async(self, func: Callable[[], Any], callback: Optional[Callable[[Any], Any]] = None) -> Any:
        """One batch."""
        large = [arg for _, args, kwargs in getattr(func, "items", ()) for arg in (*args, *kwargs.values())]
        future = self._ready()._submit_like(large, eval, _IN_WORKER, {"batch": func})
        future.get = future.result  # type: ignore[attr-defined] # what joblib calls it
        if callback is not None:
            future.add_done_callback(functools.partial(_call_back, callback))
        return future

    submit = apply_async  # as newer joblibs call it

    def terminate(self) -> None:
        """Called by joblib at the end of each Parallel."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=False)
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """An error or Ctrl-C: what is under way is not wanted any more."""
        with self._lock:
            executor, self._executor = self._executor, None
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


def _call_back(callback: Callable[[Any], Any], future: Any) -> None:
    if not future.cancelled() and future.exception() is None:
        callback(future.result())


def register(mount: Optional[mounts.MountLike] = None, *, make_default: bool = False,
             serializer: Optional[str] = None, trust: TrustLike = None) -> None:
    """Makes the backend "ppfs" known to joblib.

    mount, serializer, trust  as those of ppfs.Executor; parallel_backend("ppfs", mount=..., serializer=...) gives others
    make_default              every Parallel uses it from now on

    n_jobs of a Parallel is how many of its batches are under way at a time, on all nodes together; -1, the default: all
    at once, of which the mount runs as many as it has slots. -2 is one fewer than these, and so on. A batch has the
    functions and arguments as they are when joblib hands it over.
    """

    def factory(**kwargs: Any) -> PpfsBackend:
        kwargs.setdefault("mount", mount)
        kwargs.setdefault("serializer", serializer)
        kwargs.setdefault("trust", trust)
        return PpfsBackend(**kwargs)

    register_parallel_backend("ppfs", factory, make_default=make_default)


__all__ = ["PpfsBackend", "register"]
