"""One stream on a mount: jobs/NAME, which calls are written to, and results/NAME, which their ends are read from.

Writing: submit() puts frames into a queue. When nothing else is under way the calling thread writes its frame itself, which
saves two wake-ups; else the feeder thread writes what has gathered in one write().

Reading: whoever holds read_lock reads. While calls come one at a time that is the thread that waits for the result (direct
mode); the reader thread looks in now and then and takes over for good when a result waits that nobody reads. It hands
back when it sees that its results are waited for one at a time.

State that a Ctrl-C could leave half done is replaced in one assignment (self._at), and reading is by offset, so that the same bytes
can be read and delivered again; what has been delivered once is ignored.
"""
import errno
import itertools
import os
import threading
import time
import weakref
from collections import deque
from concurrent.futures import BrokenExecutor, _base
from pickle import loads as _loads
from typing import Any, Callable, Deque, Dict, List, Optional, Set, Tuple

from . import stream
from .answer import error_of, unloadable
from .bell import Bell
from .errors import MountGone, StreamError
from .future import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING, Future

BUFFER = 1 << 20  # bytes that one read may give
BATCH = 1 << 20  # bytes that one write takes, more or less
QUEUE_SOFT = 256  # frames in the queue from which on a submitting thread lets the feeder run
QUEUE_HARD = 8192  # and from which on it waits for it
LARGE = 128 * 1024  # a frame so large counts as LARGE_COUNTS others
DOZE = 0.002  # seconds between two looks of the reader thread while others read
LINGER = 50  # such looks without any call, after which it sleeps until it is rung

_GONE = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE, errno.ENOENT, errno.ECONNREFUSED}


class Channel:
    """The stream. Its owner calls submit_frames(), close() and, for futures, wait_for()."""

    def __init__(self, mount: str, name: str, keep: bool) -> None:
        self.mount, self.name, self.keep = mount, name, keep
        self.results_path = os.path.join(mount, "results", name)
        self._wfd, results = open_stream(os.path.join(mount, "jobs", name), self.results_path)
        self._begin_reading(results)
        self._wfd_open = True
        self._reader = threading.Thread(target=self._read_loop, name="ppfs reader of " + name, daemon=True)
        self._feeder = threading.Thread(target=self._feed_loop, name="ppfs feeder of " + name, daemon=True)
        self._reader.start()
        self._feeder.start()
        _channels.add(self)

    def _begin_reading(self, rfd: int) -> None:
        """Everything but the writing side and the threads."""
        self._rfd = rfd
        self._wfd_open = False
        self.lock = threading.RLock()
        self.pending: Dict[int, Future] = {}
        self.ids = itertools.count(1)
        self.announced: Set[bytes] = set()  # the functions that this stream has
        self.broken: Optional[BaseException] = None
        self.forked = False  # this process got it by a fork
        self._by_offset = _seekable(rfd)
        self.direct = self._by_offset
        self.ended = threading.Event()  # nothing is read any more
        self._out: Deque[bytes] = deque()
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._closing = False
        self._single_waits = 0
        self._bell, self._feed_bell = Bell(), Bell()
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._at: Tuple[int, bytes, Tuple[bytes, ...], bool] = (0, b"", (), False)  # offset, rest, parts, magic seen

    # --- writing -----------------------------------------------------------------------------------------------------

    def submit(self, future: Future, ident: int, data: bytes) -> None:
        """Sends a CALL frame; its answer will end the future."""
        if self.broken is not None:
            raise self._broken_error()
        self.pending[ident] = future
        if len(self.pending) == 1 and not self._out and self._write_lock.acquire(False):
            self._write_now(data)
            if not self.direct:
                return
            if self._bell.asleep:
                self._bell.ring()
            return
        out = self._out
        out.append(data)
        if not self._feed_bell.rung:
            self._feed_bell.ring()
        if len(out) > QUEUE_SOFT or len(data) > LARGE:
            self._give_way(len(data))

    def send(self, data: bytes) -> None:
        """Sends a frame that has no answer, in order with the calls."""
        self._out.append(data)
        self._feed_bell.ring()

    def announce(self, digest: bytes, blob: bytes) -> None:
        """Sends a function, once; the CALL that needs it follows."""
        with self.lock:
            if digest not in self.announced:
                self._out.append(stream.frame(stream.FUNC, 0, digest + blob))
                self.announced.add(digest)

    def _give_way(self, size: int) -> None:
        """The queue is long: lets the feeder have the interpreter, waits for it when the queue is very long."""
        hard = QUEUE_HARD if size < LARGE else max(1, (64 << 20) // size)
        while len(self._out) > hard and self.broken is None:
            time.sleep(0.0005)
        time.sleep(0)

    def _write_now(self, data: bytes) -> None:
        """Writes in the calling thread, which holds write_lock."""
        try:
            n = os.write(self._wfd, data)
            if n < len(data):
                self._out.appendleft(data[n:])
                self._feed_bell.ring()
        except OSError as error:
            self._fail_all(error)
        except BaseException:  # Ctrl-C: whether the write has happened is not known, unless the file's position tells
            self._out.appendleft(data[self._written_of(data):])
            self._feed_bell.ring()
            raise
        else:
            self._written += n
        finally:
            self._write_lock.release()

    _written = len(stream.MAGIC)  # bytes that the file has, as far as we know

    def _written_of(self, data: bytes) -> int:
        """How much of an interrupted write has happened."""
        try:
            with open("/proc/self/fdinfo/%d" % self._wfd) as info:
                at = int(info.readline().split()[1])
        except (OSError, ValueError, IndexError):
            return 0
        n = min(max(at - self._written, 0), len(data))
        self._written += n
        return n

    def _feed_loop(self) -> None:
        bell, out = self._feed_bell, self._out
        while True:
            bell.wait()
            while out:
                with self._write_lock:
                    self._feed_some()
            if self._closing:
                with self._write_lock:
                    self._close_writer()
                return

    def _feed_some(self) -> None:
        """Writes what has gathered, with write_lock held. Only the feeder takes frames out of the queue."""
        frames: List[bytes] = []
        size = 0
        take = self._out.popleft
        try:
            while size < BATCH:
                data = take()
                frames.append(data)
                size += len(data)
        except IndexError:
            pass
        if self.broken is not None:
            return
        view = memoryview(frames[0] if len(frames) == 1 else b"".join(frames))
        try:
            while view:
                n = os.write(self._wfd, view)
                self._written += n
                view = view[n:]
        except OSError as error:
            self._fail_all(error)

    def forget(self, ident: int) -> None:
        """The call shall not run (any more)."""
        self.send(stream.frame(stream.CANCEL, ident))

    def _close_writer(self) -> None:
        if self._wfd_open:
            self._wfd_open = False
            try:
                os.close(self._wfd)
            except OSError as error:
                self._fail_all(error)

    def close(self) -> None:
        """No more calls: what is queued is written, then the file is closed. What is under way goes on."""
        self._closing = True
        self.direct = False
        self._feed_bell.ring()
        self._bell.ring()

    # --- reading -----------------------------------------------------------------------------------------------------

    def wait_for(self, future: Future, timeout: Optional[float]) -> None:
        """Returns when the future has ended; TimeoutError after timeout, CancelledError when it was cancelled."""
        if timeout is None and not future._watched and self.direct and len(self.pending) == 1 and self._read_lock.acquire(False):
            try:
                while future._state is PENDING or future._state is RUNNING:
                    if not self.direct or not self._read_some():
                        break
            finally:
                self._read_lock.release()
            if self.pending or not self.direct:
                self._bell.ring()
        elif not self.direct and len(self.pending) == 1 and not self._closing:
            self._single_waits += 1  # one at a time: the thread that waits might as well read (see _read_loop)
        with self.lock:
            if future._state in (PENDING, RUNNING):
                condition = future._condition
                if self.direct:
                    self._bell.ring()
                condition.wait_for(lambda: future._state not in (PENDING, RUNNING), timeout)
            state = future._state
        if state in (CANCELLED, CANCELLED_AND_NOTIFIED):
            raise _base.CancelledError()
        if state is not FINISHED and state != FINISHED:
            raise _base.TimeoutError()

    def settle(self) -> None:
        """Somebody waits by other means than result(): results must come without his reading."""
        if self.direct and self.pending:
            self._bell.ring()

    def _read_loop(self) -> None:
        bell = self._bell
        idle = 0
        while not self.ended.is_set():
            if self.direct:
                if self.pending:
                    idle = 0
                    rung = bell.wait(DOZE)
                elif idle < LINGER:
                    idle += 1
                    rung = bell.wait(DOZE)
                else:
                    bell.asleep = True
                    if self.pending or self._closing:
                        bell.asleep = False
                        continue
                    rung = bell.wait()
                    bell.asleep = False
                    idle = 0
                    if not self._closing:
                        continue
                if not self.pending and not self._closing:
                    continue
                if not rung and self._read_lock.locked():
                    continue  # he who waits reads
            with self._read_lock:
                self.direct = False
                while self._read_some():
                    if self._single_waits > 3 and self._by_offset and not self.pending and not self._closing:
                        self._single_waits = 0
                        self.direct = True
                        break
                    if len(self.pending) > 1:
                        self._single_waits = 0

    def _read_some(self) -> bool:
        """One read() and what it brought, with read_lock held. False: there will be no more."""
        offset, rest, parts, begun = self._at
        if self.ended.is_set():
            return False
        size = len(rest)
        view = self._view
        if size:
            view[:size] = rest
        try:
            n = os.preadv(self._rfd, [view[size:]], offset) if self._by_offset else os.readv(self._rfd, [view[size:]])
        except OSError as error:
            self._end(error)
            return False
        if n == 0:
            self._end(None)
            return False
        try:
            end = size + n
            start = 0
            if not begun:
                begun = stream.check_magic(view[:end])
                if not begun:
                    self._at = (offset + n, bytes(view[:end]), (), False)
                    return True
                start = len(stream.MAGIC)
            frames, at = stream.split(view[start:], end - start)
            parts = self._deliver(frames, parts)
            self._at = (offset + n, bytes(view[start + at:end]), parts, True)
        except StreamError as error:
            self._end(error)
            return False
        return True

    def _deliver(self, frames: List[Tuple[int, int, memoryview]], parts: Tuple[bytes, ...]) -> Tuple[bytes, ...]:
        """Ends the futures that the frames answer."""
        get = self.pending.get
        done: List[Tuple[Future, Any, Optional[BaseException]]] = []
        add = done.append
        whole: Any
        for kind, ident, body in frames:
            if kind == stream.RESULT and not parts:
                future = get(ident)
                if future is not None:
                    try:
                        add((future, _loads(body), None))
                    except Exception as error:
                        add((future, None, unloadable(error)))
                continue
            if kind == stream.PART:
                parts += (bytes(body),)
                continue
            whole = body
            if parts:
                whole = b"".join((*parts, body))
                parts = ()
            self._other(kind, ident, whole, add)
        if done:
            self._finish(done)
        return parts

    def _finish(self, done: List[Tuple[Future, Any, Optional[BaseException]]]) -> None:
        """Ends futures with a result or an exception; those that have ended meanwhile stay as they are."""
        told = []
        pop = self.pending.pop
        with self.lock:
            for future, value, problem in done:
                if future._state is PENDING or future._state is RUNNING:
                    future._result = value
                    future._exception = problem
                    future._state = FINISHED
                    if future._watched:
                        for waiter in future._waiters:
                            if problem is None:
                                waiter.add_result(future)
                            else:
                                waiter.add_exception(future)
                        future._cond.notify_all()  # type: ignore[union-attr]
                        told.append(future)
                pop(future._id, None)
        for future in told:
            future._invoke_callbacks()  # type: ignore[attr-defined]

    def _other(self, kind: int, ident: int, body: Any, add: Callable[[Any], None]) -> None:
        """A frame that is not a short RESULT."""
        if kind == stream.STARTED or kind == stream.OUTPUT:
            future = self.pending.get(ident)
            if future is None:
                return
            if kind == stream.STARTED:
                with self.lock:
                    if future._state is PENDING:
                        future._state = RUNNING
            else:
                if future._printed is None:
                    future._printed = []
                future._printed.append(stream.read_output(body))
            return
        if kind not in (stream.RESULT, stream.ERROR, stream.CANCELLED):
            if kind < stream.SKIP_FROM:
                raise StreamError("a frame of the unknown kind %d" % kind)
            return
        future = self.pending.get(ident)
        if future is None:
            return
        if kind == stream.RESULT:
            try:
                add((future, _loads(body), None))
            except Exception as error:
                add((future, None, unloadable(error)))
        elif kind == stream.ERROR:
            problem = error_of(stream.read_error(body))
            if isinstance(problem, BrokenExecutor):
                self.broken = problem
            add((future, None, problem))
        else:
            with self.lock:
                self.pending.pop(ident, None)
                if future._state in (PENDING, RUNNING):
                    future._end_cancelled()
            if future._watched:
                future._invoke_callbacks()  # type: ignore[attr-defined]

    # --- the end -----------------------------------------------------------------------------------------------------

    def _broken_error(self) -> BaseException:
        assert self.broken is not None
        if isinstance(self.broken, MountGone):
            return MountGone(str(self.broken), self.broken.__cause__)
        return self.broken

    def _fail_all(self, error: Optional[BaseException]) -> None:
        """What is under way will not be answered."""
        if isinstance(error, OSError) and error.errno in _GONE:
            problem = MountGone("the ppfs mount at %s has gone: %s" % (self.mount, error.strerror), error)
        elif isinstance(error, OSError):
            problem = MountGone("the ppfs at %s takes no more calls: %s" % (self.mount, error.strerror), error)
        elif error is not None:
            problem = MountGone("the stream %s is broken: %s" % (self.name, error), error)
        else:
            problem = MountGone("the stream %s ended without an answer to this call" % self.name)
        if self.broken is None and (error is not None or not self._closing):
            self.broken = problem
        self._finish([(future, None, MountGone(str(problem), problem.__cause__)) for future in list(self.pending.values())])

    def _end(self, error: Optional[BaseException]) -> None:
        """The reading side has ended, with read_lock held."""
        if self.ended.is_set():
            return
        self.ended.set()
        if error is not None or self.pending:
            self._fail_all(error)
        os.close(self._rfd)
        self._closing = True
        self._feed_bell.ring()
        if not self.keep and error is None:
            try:
                os.unlink(self.results_path)
            except OSError:
                pass

    def join(self) -> None:
        """After close(): waits until every call has its answer."""
        if self._reader is not threading.current_thread():
            self.ended.wait()
            if self._feeder is not threading.current_thread():
                self._feeder.join()

    def join_writing(self) -> None:
        """After close(): waits until every call has been accepted."""
        self._feeder.join()

    def abandon(self) -> None:
        """In a child after fork: this stream is the parent's. Its calls never end here, so they say so."""
        self.forked = True
        self.lock = threading.RLock()
        self._bell, self._feed_bell = Bell(), Bell()
        self._write_lock, self._read_lock = threading.Lock(), threading.Lock()
        ended, self.ended = self.ended.is_set(), threading.Event()
        self._out.clear()
        self.broken = MountGone("the stream %s belongs to the process that this one was forked from" % self.name)
        left = list(self.pending.values())
        self.pending.clear()
        self.direct = False
        for future in left:
            future._exception = MountGone("the call was submitted before a fork; its result goes to the parent process")
            future._state = FINISHED
        self.ended.set()
        for fd in ([self._wfd] if self._wfd_open else []) + ([] if ended else [self._rfd]):
            try:
                os.close(fd)
            except OSError:
                pass
        self._wfd_open = False


def open_stream(jobs: str, results: str) -> Tuple[int, int]:
    """Makes a stream and opens both of its ends."""
    wfd = os.open(jobs, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(wfd, stream.MAGIC)
        return wfd, os.open(results, os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(wfd)
        raise


def _seekable(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return False
    return True


_channels: "weakref.WeakSet[Channel]" = weakref.WeakSet()


def open_channels() -> List[Channel]:
    """The streams that have not ended."""
    return [channel for channel in list(_channels) if not channel.ended.is_set()]


def _after_fork() -> None:
    for channel in list(_channels):
        channel.abandon()
    _channels.clear()


os.register_at_fork(after_in_child=_after_fork)
