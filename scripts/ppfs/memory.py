"""ppfs.memo: calls that were made before are answered from what they gave then.

What a call gave is kept as the result of a job of the mount, whose name is a hash of all that the call was made of:
memo-UID/HASH. So it goes when --keep-results, a keep= of that group or an rm says so, and it is loaded only when it
belongs to this user.
"""
import hashlib
import os
import pickle
import threading
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future as BaseFuture
from typing import Any, Callable, Dict, List, Optional, Tuple, TypeVar

from . import trust
from ._pickle import witness
from ._pickle.reach import PROTOCOL
from ._pickle.serialize import extra_path
from ._stream.future import Future
from .executor import Executor, ExecutorView
from .files import _read_all, submit_file

T = TypeVar("T")
_WHEN = frozenset(("priority", "timeout", "retries", "after", "hold", "keep", "logging"))  # say nothing about the result
LARGEST = 64 << 20  # bytes of a result that is kept


class Remembered(BaseFuture[T]):
    """The future of a call that may be made."""

    _call: Optional[Future[Any]] = None

    def cancel(self) -> bool:
        """As concurrent.futures.Future.cancel."""
        return self._call.cancel() if self._call is not None else super().cancel()

    def running(self) -> bool:
        """As concurrent.futures.Future.running."""
        return self._call is not None and self._call.running()

    def _end(self, how: Callable[[], object]) -> None:
        if self._call is not None and self._call.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        else:
            how()


class Memo(BaseExecutor):
    """An executor that remembers; see memo()."""

    def __init__(self, executor: "Executor | ExecutorView") -> None:
        if executor._core.name is not None:
            raise ValueError("the session %s keeps the results of its calls, whose numbers they have; give ppfs.memo an "
                             "executor without a name" % executor._core.name)
        self._of, self._core = executor, executor._core
        options = executor._call_options
        self._how = sorted((name, repr(value)) for name, value in options.items() if name not in _WHEN)
        own = options.get("env") or {}
        alone = {**own, "PPFS_MEMO": "1"} if isinstance(own, dict) else [*([own] if isinstance(own, str) else own), "PPFS_MEMO:1"]
        self._view = executor.options(env=alone)  # which gives each call a process of its own
        self._group = "memo-%d" % os.geteuid()
        self._lock = threading.Lock()
        self._versions: Tuple[Any, ...] = ()
        self._installed = b""
        self._new: Dict[str, bytes] = {}  # what was not seen in the mount yet
        if executor._core.initializer is not None:
            self._how.append(("initializer", repr(self._core.serializer.call(
                executor._core.initializer, executor._core.initargs, executor._core.environ or {}))))

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> "BaseFuture[T]":
        """Gives the future of fn(*args, **kwargs), which has ended where that is remembered. Raises what submit() of
        the executor raises."""
        self._core.ready()
        blob = self._core.serializer.call(fn, args, kwargs)
        key = self._key(blob)
        future: Remembered[T] = Remembered()
        found = self._find(key)
        if found:
            future.set_result(found[0])
            return future
        future._call = self._view.submit(eval, *witness.arguments(blob))
        future._call.add_done_callback(lambda call: self._ended(key, call, future))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts the executor down that this one is made of."""
        self._of.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, *what: Any) -> None:
        self._of.__exit__(*what)

    def _key(self, blob: bytes) -> str:
        """What the call is made of, as the name of a file."""
        places = [os.getcwd(), *extra_path()]
        what = (1, self._how, places, witness.names_in(places), self._core.serializer._shipped)
        return hashlib.sha256(repr(what).encode("utf-8", "surrogateescape") + blob).hexdigest()

    def _find(self, key: str) -> Tuple[Any, ...]:
        """(the value,), or nothing."""
        blob = self._kept(key)
        if blob is None:
            with self._lock:
                blob = self._new.get(key)
        else:
            with self._lock:
                self._new.pop(key, None)
        if blob is None:
            return ()
        try:
            seen, value = pickle.loads(blob)
            return (value,) if witness.holds(seen, self._current()) else ()
        except Exception:  # of a version that had it otherwise, or of a class that is gone
            return ()

    def _kept(self, key: str) -> Optional[bytes]:
        """What the mount has under that name, if it is this user's own."""
        name = "%s/%s" % (self._group, key)
        try:
            fd = os.open(os.path.join(self._core.mount, "results", name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            trust.check_mount(fd, "the result " + name, self._core.trusted)
            with open(os.path.join(self._core.mount, "info", name, "spec"), "rb") as spec:
                if os.fstat(fd).st_uid != os.geteuid() or spec.read(1) != b"\x80":
                    return None
            kept = pickle.loads(_read_all(fd, 0))
            return kept if isinstance(kept, bytes) else None
        except Exception:  # not there yet, gone meanwhile, or nothing of ours
            return None
        finally:
            os.close(fd)

    def _current(self) -> Tuple[Any, ...]:
        """The versions that workers have, asked of one, and again when something was installed here since."""
        if not self._versions or witness.packages(self._versions[1]) != self._installed:
            blob = self._core.serializer.call(int, (), {})
            self._note(self._view.submit(eval, *witness.arguments(blob)).result()[1])
        return self._versions

    def _note(self, seen: Optional[witness.Seen]) -> None:
        if seen is not None:
            self._versions, self._installed = seen[:3], witness.packages(seen[1])

    def _ended(self, key: str, call: "BaseFuture[Any]", future: Remembered[Any]) -> None:
        blob = b""
        try:
            value, seen = call.result()
            self._note(seen)
            if seen is not None:
                blob = self._core.serializer.value((seen, value), "the result")  # before anybody can change it
        except pickle.PicklingError:
            pass
        except BaseException as problem:
            error = problem
            future._end(lambda: future.set_exception(error))
            return
        if 0 < len(blob) <= LARGEST:
            with self._lock:
                self._new[key] = blob
                while len(self._new) > 1 and sum(map(len, self._new.values())) > LARGEST:
                    del self._new[next(iter(self._new))]
        future._end(lambda: future.set_result(value))
        if 0 < len(blob) <= LARGEST:
            self._keep(key, blob)

    def _keep(self, key: str, blob: bytes) -> None:
        """Where that is not possible, the call is made again the next time."""
        group = os.path.join(self._core.mount, "jobs", self._group)
        try:
            os.makedirs(group, 0o700, exist_ok=True)
            if os.stat(group).st_uid == os.geteuid():
                submit_file((bytes, (blob,)), "%s/%s" % (self._group, key), mount=self._core.mount)
        except OSError:
            pass


def memo(executor: "Executor | ExecutorView") -> Memo:
    """An executor whose calls are answered from results that are kept, where the same call was made before on this mount,
    by this program or another one of yours.

    The same call: the same function, with all that it refers to, the same arguments and options, initializer and directory,
    the same versions of Python and the installed packages, and the same content of your own modules that it
    has imported; anything else has another name, and is made. What it reads from files, clocks or the environment
    does not count, so it is for functions that give the same for the same arguments. Each call has a process of its
    own.

    What calls have given is in results/memo-UID/, until that is removed or --keep-results forgets it; yours alone is
    loaded. An exception is not kept, nor is a result of more than 64 MiB. ValueError: the executor is a session.
    """
    return Memo(executor)


__all__: List[str] = ["Memo", "memo"]
