"""ppfs.Executor: concurrent.futures.Executor over a stream on a mount."""
from __future__ import annotations

import functools
import itertools
import os
import time
import weakref
from collections import deque
from concurrent.futures import Executor as BaseExecutor
from pickle import PicklingError
from pickle import dumps as _dumps
from types import TracebackType
from typing import (TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional,
                    Sequence, Tuple, Type, TypeVar)

from . import mount as mounts
from . import trust as trust_of
from . import world
from ._pickle.functions import Entry, FunctionCache
from ._pickle.pieces import LARGE_ARRAY, call_pieces
from ._pickle.reach import PROTOCOL
from ._pickle.serialize import NAMES, Sent, Serializer, joined, packed
from ._pickle.shipped import Modules
from ._pickle.values import LARGE_VALUE, LARGEST_VALUE
from ._stream import frames
from ._stream.channel import Channel
from ._stream.future import Future
from ._stream.results import Chained, kill, results_of
from ._stream.size import holds_large, refuse_too_large
from .core import Core
from .errors import NoMount
from .later import Arguments
from .progress import watch

if TYPE_CHECKING:
    from typing_extensions import ParamSpec  # of typing from Python 3.10 on

    P = ParamSpec("P")

T = TypeVar("T")
_pack_header = frames._pack_header
_CALL = frames.CALL
NAME_MAX = 255  # bytes of a job's name
SHORT = 64 * 1024  # bytes of a body up to which it is copied into its frame
_QUIET = frozenset((list, tuple, range, str, bytes, bytearray, set, frozenset, dict, itertools.repeat, itertools.count))


class _Submitter(BaseExecutor):
    """What an executor and its views have in common: functions and options in, futures out."""

    _core: Core
    _cache: FunctionCache
    _whole_prefix: bytes

    def _set_up(self, core: Core, options: Mapping[str, Any]) -> None:
        level, sent = world.log_level(options)
        text = frames.options_bytes(sent)
        self._core = core
        self._call_options = dict(options)
        self._whole_prefix = frames.call_prefix(text, None)
        self._cache = FunctionCache(core.serializer, lambda digest: frames.call_prefix(text, digest), core.initializer,
                                    core.initargs, core.init_key, core.environ,
                                    None if level is None else (level, core.output.mark))

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Queues fn(*args, **kwargs). A ppfs.Future among the arguments, or anywhere in them, of whatever executor, stands
        for its result: the call starts when that has come, and raises DependencyFailed when there is none. PicklingError
        names what cannot be pickled; RuntimeError: the executor was shut down; MountGone: the mount takes no calls."""
        channel = self._core.ready()
        try:
            entry = self._find(fn)
            if entry is None:
                sent = self._core.serializer.apply()
                if sent is not None:
                    return self._submit_sent(fn, sent, (fn, *args), kwargs)
                return self._submit_whole(channel, fn, args, kwargs)
            return self._submit_found(channel, entry, fn, args, kwargs)
        except PicklingError:
            later = self._submit_later(fn, args, kwargs)
            if later is None:
                raise
            return later

    def _submit_later(self, fn: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any],
                      chunked: int = 0) -> Optional[Future[Any]]:
        """Queues a call that could not be pickled: it starts when the futures among its arguments have ended. None: there
        are none."""
        arguments = Arguments(self._core.serializer, fn, args, kwargs)
        if not arguments.futures:
            return None
        entry = self._find(fn, chunked, wrapped=True)
        assert entry is not None
        return arguments.defer(self._core.ready(), entry.sent, entry.prefix, self._whole_prefix)

    def _find(self, fn: Callable[..., Any], chunked: int = 0, wrapped: bool = False) -> Optional[Entry]:
        """FunctionCache.find(); where an initializer cannot be pickled, that is what the exception names."""
        try:
            return self._cache.find(fn, chunked, wrapped)
        except Exception:
            self._core.check_initializer()
            raise

    def _submit_found(self, channel: Channel, entry: Entry, fn: Callable[..., Any], args: Tuple[Any, ...],
                      kwargs: Dict[str, Any]) -> Future[Any]:
        """Queues a call of a function that goes by its hash, or along with the call where it has just changed."""
        seen = channel.values.seen
        if seen and not (seen.keys().isdisjoint(map(id, args)) and seen.keys().isdisjoint(map(id, kwargs.values()))):
            future = self._submit_by_hash(channel, entry.sent, entry.prefix, (args, kwargs), (*args, *kwargs.values()))
            if future is not None:
                return future
        least = refuse_too_large(fn, args, kwargs)
        if least > LARGE_ARRAY:
            future = self._submit_pieces(channel, entry.sent, entry.prefix, fn, args, kwargs, (*args, *kwargs.values()))
            if future is not None:
                return future
        try:
            blob = _dumps((args, kwargs), PROTOCOL)
            by_value = NAMES in blob and self._core.serializer.holds_values(blob, (args, kwargs))
        except Exception:
            by_value = True
        if by_value:
            blob = self._core.serializer.arguments(fn, args, kwargs)
        if len(blob) > LARGE_VALUE:
            _note_large(channel, fn, args, kwargs, (*args, *kwargs.values()), len(blob))
        return self._send_call(channel, entry.sent, entry.prefix, blob, entry.along)

    def _send_call(self, channel: Channel, sent: Sent, prefix: bytes, blob: bytes, along: bool = False) -> Future[Any]:
        """Sends a CALL of a function whose arguments are blob. along: the function is in it, unless the stream has it;
        so is one that is too large to be kept."""
        if sent.digest not in channel.announced:
            if along or len(sent.blob) > LARGEST_VALUE:
                head, tail = packed(blob) if sent.packed else (b"", b"")
                return _send(channel, self._whole_prefix, joined(sent.blob, head + blob + tail), False)
            channel.announce(sent.digest, sent.blob)
        return _send(channel, prefix, blob, sent.packed)

    def _submit_whole(self, channel: Channel, fn: Callable[..., Any], args: Tuple[Any, ...],
                      kwargs: Dict[str, Any]) -> Future[Any]:
        """Queues a call of a callable that has a state of its own."""
        tops = (*args, *kwargs.values())
        if channel.values.seen:
            future = self._submit_by_hash(channel, None, self._whole_prefix, (fn, args, kwargs), (*tops, fn))
            if future is not None:
                return future
        refuse_too_large(fn, args, kwargs)
        blob = self._core.serializer.call(fn, args, kwargs)
        if len(blob) > LARGE_VALUE:
            _note_large(channel, fn, args, kwargs, tops, len(blob))
        return _send(channel, self._whole_prefix, blob, False)

    def _submit_sent(self, fn: Callable[..., Any], sent: Sent, args: Tuple[Any, ...],
                     kwargs: Optional[Dict[str, Any]] = None, tops: Optional[Sequence[Any]] = None) -> Future[Any]:
        """Queues a call of a function that was made ready by the caller (ppfs.pp does that). tops: what counts as its
        arguments, where these are not the real ones."""
        kwargs = kwargs or {}
        return self._submit_known(fn, sent, self._cache.adopt(sent).prefix, args, kwargs,
                                  (*args, *kwargs.values()) if tops is None else tops)

    def _submit_known(self, fn: Callable[..., Any], sent: Sent, prefix: bytes, args: Tuple[Any, ...],
                      kwargs: Dict[str, Any], tops: Sequence[Any]) -> Future[Any]:
        """The same, of a function whose calls begin so."""
        channel = self._core.ready()
        if channel.values.seen:
            future = self._submit_by_hash(channel, sent, prefix, (args, kwargs), tops)
            if future is not None:
                return future
        if refuse_too_large(fn, args, kwargs) > LARGE_ARRAY or holds_large(tops, LARGE_ARRAY):
            future = self._submit_pieces(channel, sent, prefix, fn, args, kwargs, tops)
            if future is not None:
                return future
        blob = self._core.serializer.arguments(fn, args, kwargs)
        if len(blob) > LARGE_VALUE:
            _note_large(channel, fn, args, kwargs, tops, len(blob))
        return self._send_call(channel, sent, prefix, blob)

    def _submit_pieces(self, channel: Channel, sent: Sent, prefix: bytes, fn: Callable[..., Any], args: Tuple[Any, ...],
                       kwargs: Dict[str, Any], tops: Sequence[Any]) -> Optional[Future[Any]]:
        """Queues a call whose large arrays are not copied here. None: it has none, or goes otherwise."""
        if len(sent.blob) > LARGEST_VALUE:
            return None
        pieces = call_pieces(self._core.serializer, (args, kwargs), len(prefix), sent.packed)
        if pieces is None:
            return None
        size = sum(map(len, pieces))
        _note_large(channel, fn, args, kwargs, tops, size)
        channel.announce(sent.digest, sent.blob)
        future: Future[Any] = Future(channel, next(channel.ids))
        channel.send_large(future, frames.frame_pieces(_CALL, future._id, [prefix, *pieces]))
        return future

    def _submit_with(self, fn: Callable[..., Any], modules: Tuple[str, ...], friends: Tuple[Tuple[str, Any], ...],
                     args: Tuple[Any, ...]) -> Future[Any]:
        """submit() with modules and friends bound among the globals of fn."""
        channel = self._core.ready()
        return self._submit_found(channel, self._cache.find_with(fn, modules, friends), fn, args, {})

    def _submit_like(self, tops: Sequence[Any], fn: Callable[..., Any], *args: Any) -> Future[Any]:
        """submit(), where tops is what counts as its arguments."""
        entry = self._find(fn)
        assert entry is not None
        return self._submit_sent(fn, entry.sent, args, {}, tops)

    def _submit_by_hash(self, channel: Channel, sent: Optional[Sent], prefix: bytes, what: Tuple[Any, ...],
                        tops: Sequence[Any]) -> Optional[Future[Any]]:
        """Queues a call, of which what is to be pickled, when it has arguments (tops) that were seen before; else
        None."""
        packs = sent is not None and sent.packed
        if sent is not None and len(sent.blob) > LARGEST_VALUE:
            return None
        plan = channel.values.plan(channel, self._core.serializer, what, tops, packs)
        if plan is None:
            return None
        if len(plan.blob) > LARGE_VALUE:
            channel.values.note(tops)
        if sent is not None:
            channel.announce(sent.digest, sent.blob)
        return _send(channel, frames.naming(prefix, plan.digests), plan.blob, False)

    def map(self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: Optional[float] = None,
            chunksize: int = 1, buffersize: Optional[int] = None, progress: bool = False) -> Iterator[T]:
        """As concurrent.futures.Executor.map. chunksize: so many calls travel as one. buffersize: so many calls (or
        chunks) are submitted ahead of the result that is asked for; None: all at once. progress: show how far it has
        got. Raises what submit() raises; the iterator what Future.result() raises, and TimeoutError when the next result
        has not come within timeout seconds of this call."""
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not isinstance(buffersize, int):
            raise TypeError("buffersize must be an integer or None")
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        if buffersize is not None and progress:
            raise ValueError("progress needs to know how many calls there are, which buffersize leaves open")
        end = None if timeout is None else timeout + time.monotonic()
        sizes: Optional[List[int]] = None
        more: Iterator[Future[Any]] = iter(())
        if buffersize is not None:
            more = self._submit_lazily(fn, zip(*iterables), chunksize)
            futures = list(itertools.islice(more, buffersize))
        elif chunksize == 1:
            futures = self._submit_each(fn, iterables)
        else:
            flat = len(iterables) == 1
            calls = iter(iterables[0]) if flat else zip(*iterables)
            futures, sizes = self._submit_chunks(fn, calls, chunksize, _quiet(iterables), flat)
        if progress:
            watch(futures, sizes=sizes)
        results = results_of(deque(futures), more, end)
        return results if chunksize == 1 else Chained(results)

    def _submit_lazily(self, fn: Callable[..., Any], calls: Iterator[Tuple[Any, ...]], chunksize: int,
                       lists: bool = False) -> Iterator[Future[Any]]:
        """The futures of a map, each submitted when it is asked for. lists: each has a list of results, of one call too."""
        if chunksize == 1 and not lists:
            for args in calls:
                yield self.submit(fn, *args)
            return
        while True:
            futures, _ = self._submit_chunks(fn, itertools.islice(calls, chunksize), chunksize, False)
            if not futures:
                return
            yield futures.pop()

    def _submit_each(self, fn: Callable[..., Any], iterables: Tuple[Iterable[Any], ...]) -> List[Future[Any]]:
        """submit() for each item. While only items are fetched nothing of the user's runs, so fn stays what it is."""
        futures: List[Future[Any]] = []
        entry: Optional[Entry] = None
        quiet = _quiet(iterables)
        try:
            for args in zip(*iterables):
                if entry is None:
                    futures.append(self.submit(fn, *args))
                    entry = self._find(fn) if quiet else None
                    quiet = entry is not None
                    continue
                try:
                    futures.append(self._submit_found(self._core.ready(), entry, fn, args, {}))
                except PicklingError:
                    futures.append(self.submit(fn, *args))
        except KeyboardInterrupt:
            kill(futures)
            raise
        return futures

    def _submit_chunks(self, fn: Callable[..., Any], calls: Iterator[Any], chunksize: int, quiet: bool,
                       flat: bool = False) -> Tuple[List[Future[Any]], List[int]]:
        """flat: each call has one argument, and calls gives that."""
        entry: Optional[Entry] = None
        futures: List[Future[Any]] = []
        sizes: List[int] = []
        try:
            while True:
                chunk = tuple(itertools.islice(calls, chunksize))
                if not chunk:
                    return futures, sizes
                if entry is None or not quiet:
                    entry = self._find(fn, 2 if flat else 1)
                    assert entry is not None
                futures.append(self._submit_chunk(fn, entry, chunk, flat))
                sizes.append(len(chunk))
        except KeyboardInterrupt:
            kill(futures)
            raise

    def _submit_chunk(self, fn: Callable[..., Any], entry: Entry, chunk: Tuple[Any, ...],
                      flat: bool) -> Future[Any]:
        try:
            tops = chunk if flat else list(itertools.chain(*chunk))
            return self._submit_known(fn, entry.sent, entry.prefix, (chunk,), {}, tops)
        except PicklingError:
            later = self._submit_later(fn, (chunk,), {}, 2 if flat else 1)
            if later is None:
                raise
            return later

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException],
                 trace: Optional[TracebackType]) -> None:
        """Waits for what was submitted. After a Ctrl-C that is cancelled, running calls too, but for those of a session,
        which go on."""
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        try:
            if interrupted:
                self._core.interrupted()
            self.shutdown(wait=not interrupted or self._core.name is None)
        except KeyboardInterrupt:
            self._core.interrupted()
            raise

    def options(self, **options: Any) -> ExecutorView:
        """This executor with options for what is submitted through it: priority, timeout, retries, after, env, cwd,
        memory, gpu, resources, cpus, node, hold, sandbox, keep, needs, gives; and logging, a level such as "INFO": what calls log from
        that level on reaches the logger of the same name here. They add to those of the view that this is called on.
        ValueError or TypeError name the first that is no such option."""
        return ExecutorView(self, {**self._call_options, **options})


def _quiet(iterables: Iterable[Any]) -> bool:
    """Whether nothing that could change a function runs while their items are fetched."""
    return all(type(each) in _QUIET or type(each).__module__ == "numpy" for each in iterables)


def _note_large(channel: Channel, fn: Callable[..., Any], args: Tuple[Any, ...], kwargs: Dict[str, Any],
                tops: Sequence[Any], size: int) -> None:
    """Remembers the large ones of the arguments (tops) of a call that goes whole, as a pickle of that size. ValueError:
    it is too large for a stream."""
    refuse_too_large(fn, args, kwargs, size)
    channel.values.note(tops)


def _send(channel: Channel, prefix: bytes, blob: bytes, may_pack: bool) -> Future[Any]:
    """Sends a CALL whose body is prefix and blob, its arguments. may_pack: they go packed when they name anything."""
    future: Future[Any] = Future(channel, next(channel.ids))
    size = len(prefix) + len(blob)
    if size > SHORT:
        head, tail = packed(blob) if may_pack else (b"", b"")
        channel.send(future, frames.frame_pieces(_CALL, future._id, [prefix + head, blob, tail]))
        return future
    if may_pack and NAMES in blob:
        head, tail = packed(blob)
        blob = head + blob + tail
        size = len(prefix) + len(blob)
    channel.send(future, [_pack_header(size, _CALL, future._id) + prefix + blob])
    return future


class ExecutorView(_Submitter):
    """An executor with options; it shares everything else with the executor that it is a view of."""

    def __init__(self, of: _Submitter, options: Mapping[str, Any]) -> None:
        self._of = of  # keeps it alive
        self._set_up(of._core, options)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shuts the executor down that this is a view of."""
        self._of.shutdown(wait, cancel_futures=cancel_futures)


class Executor(_Submitter):
    """concurrent.futures.Executor whose calls are kept by a ppfs.

    mount        where a ppfs is mounted; by default $PPFS, your own one of the mount table, root's, else a private one for
                 this process. NoMount where several could be meant
    name         a session: its results stay until ppfs.forget(name), and ppfs.attach(name) collects them from anywhere.
                 Leaving the program then waits for nothing
    serializer   "cloudpickle" (default where installed), "dill", "pickle" or "source": functions travel as their text,
                 with the globals, defaults and closures that they have, and run on nodes of other Python versions too;
                 what is neither text nor plain data is named and refused
    initializer  called with initargs once in each worker before its first call for this executor. All calls there find
                 what it has set or changed in place, and the environment, directory, umask, sys.path, logging, warning
                 filters and recursion limit as it left them. When it raises, that call and all that follow raise
                 BrokenExecutor
    modules      the user's own modules, or their names, which go to the workers as text, each with the whole package
                 that it is in, as their files are now; True: all that are imported by now. Without it workers look for
                 them where this program finds them, which other machines may not have
    max_workers  how many calls of this executor may be under way at a time, on all nodes together; the others wait in this
                 program. A private mount has so many slots at least. By default all go to the mount at once, which runs
                 as many as it has slots
    env          "inherit": calls find the environment that this program has now, set as by an initializer, but for what
                 ppfs sets; else an option of every call
    stdout, stderr  files (sys.stdout) that what calls print is written to while they run, all of it before they have a
                 result; in a notebook the cell, unless it is False. Future.stdout and stderr have it in any case. A
                 warning that several calls give in the same words at the same place is written once
    mp_context, max_tasks_per_child  for programs that give them to a ProcessPoolExecutor: None, and a context that does
                 not fork; others raise ValueError
    trust        a user's name or uid, or several of these, on whose mounts calls may be made: he gets what is submitted,
                 and to load what comes back is to run what he puts into it. Without it NotTrusted is raised on a mount
                 that is neither one's own nor root's
    further keywords are options of every call, see options()

    A function goes as it is at that submit(), with all that it refers to. Each call has that for itself and leaves
    nothing to the next; what a worker shall have for all its calls, an initializer sets up.

    An argument of more than 64 KiB that was an argument before travels once to each worker, by its hash; what each call
    gets is its content at that submit.

    When the mount takes no more calls, those that it has not accepted raise MountGone, a BrokenExecutor, and so does
    submit(); those that it has accepted are answered. A Ctrl-C ends what waits and nothing else: an executor that it came
    into can be used and shut down. Where it ends the with-block of an executor or the program, calls that are under way are
    cancelled, but for those of a session.

    NoMount: no ppfs is mounted, or it cannot be told which is meant. FileExistsError: there is a session of that name.
    TypeError, ValueError: an argument or option is not what it should be.
    """

    def __init__(self, mount: Optional[mounts.MountLike] = None, *, name: Optional[str] = None,
                 serializer: Optional[str] = None, initializer: Optional[Callable[..., Any]] = None,
                 initargs: Tuple[Any, ...] = (), max_workers: Optional[int] = None, trust: trust_of.TrustLike = None,
                 modules: Modules = (), env: Any = None, stdout: Any = None, stderr: Any = None, mp_context: Any = None,
                 max_tasks_per_child: Optional[int] = None, **options: Any) -> None:
        if isinstance(mount, int):
            raise TypeError("the first argument is where a ppfs is mounted; for %d workers write max_workers=%d"
                            % (mount, mount))
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        world.check_pool(mp_context, max_tasks_per_child)
        if env is not None and env != "inherit":
            options["env"] = env
        frames.options_bytes(world.log_level(options)[1])
        if env == "inherit" and serializer == "source":
            raise ValueError("the serializer 'source' sends no environment")
        if name is not None:
            _check_name(name)
        where, trusted = mounts.find(mount, start=name is None, cpus=max_workers), trust_of.users(trust)
        trust_of.check_directory(os.path.join(where, "results"), trusted)
        if name is not None and mounts.is_private(where):
            raise NoMount("the session %s would be gone with this program, whose ppfs is its own; "
                          "mount one that stays: ppfs DIRECTORY" % name)
        core = Core(where, name, Serializer(serializer, modules), initializer, tuple(initargs), trusted,
                    world.environment() if env == "inherit" else None, world.output(stdout, "stdout"),
                    world.output(stderr, "stderr"))
        self._set_up(core, options)
        if max_workers is not None:
            core.set_limit(functools.partial(_above_slots, where, max_workers))
        self._max_workers_given = max_workers
        self._finalizer = weakref.finalize(self, core.dropped)
        self._finalizer.atexit = False
        if name is not None:
            core.open()

    @property
    def _max_workers(self) -> int:
        """As the executors of the library have it, for those who look (dask)."""
        return self._max_workers_given or mounts.slots(self.mount)

    @property
    def mount(self) -> str:
        """Where the ppfs is mounted."""
        return self._core.mount

    @property
    def name(self) -> Optional[str]:
        """The name of the stream in jobs/ and results/; None before the first call."""
        return self._core.channel.name if self._core.channel is not None else self._core.name

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As concurrent.futures.Executor.shutdown. A call that is not known to run yet counts as pending."""
        self._core.shutdown(wait, cancel_futures)


def _above_slots(mount: str, most: int) -> Optional[int]:
    """most, unless a private mount has no more slots anyway: then calls need not wait here."""
    slots = mounts.private_slots(mount)
    return None if slots is not None and slots <= most else most


def _check_name(name: str) -> None:
    """A session's name is a file's, perhaps in a group."""
    for part in name.split("/"):
        if not part or part[0] == "." or "\0" in part or len(os.fsencode(part)) > NAME_MAX:
            raise ValueError("a session cannot be named %.300r: a name has 1 to %d bytes and does not begin with '.'; "
                             "GROUP/NAME stands in a group" % (name, NAME_MAX))


__all__ = ["Executor", "ExecutorView", "Future"]
