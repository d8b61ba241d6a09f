"""The side of a stream that answers come from: results/NAME.

Whoever holds read_lock reads. While calls come one at a time that is the thread that waits for the result (direct
mode). The reader thread takes over when it is rung, because somebody waits by other means than result(), and when it
looks in and finds a call that has been there before and that nobody reads for. It hands back when it sees that its
results are waited for one at a time.

State that a Ctrl-C could leave half done is replaced in one assignment (self._at); until then the bytes stay in the
buffer, and the position of the file tells how many there are, so that they can be delivered again: what was delivered
once is ignored. A thread that reads for itself delivers only what may come twice; what others wait for, or what adds
up, it leaves in the buffer for the reader thread, which no Ctrl-C interrupts.
"""
import errno
import functools
import os
import threading
import weakref
from concurrent.futures import BrokenExecutor, _base
from pickle import loads as _loads
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import stream
from .answer import error_of, unloadable
from .bell import Bell
from .errors import JobCancelled, MountGone, StreamError
from .future import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING, Future
from .mount import is_mount

BUFFER = 1 << 20  # bytes that one read may give
DOZE = 0.01  # seconds between two looks of the reader thread while others read
LINGER = 10  # such looks without any call, after which it sleeps until it is rung

_ANSWERS = frozenset((stream.RESULT, stream.ERROR, stream.OUTPUT, stream.CANCELLED, stream.STARTED))
_Done = Tuple[Future, Any, Optional[BaseException]]  # with its result or its exception

_GONE = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE, errno.ENOENT, errno.ECONNREFUSED}


class _NotAlone(Exception):
    """What has come is for the reader thread to deliver."""


class Answers:
    """Reads the answers and ends the futures. Not usable by itself: see Channel and Session."""

    reader: threading.Thread

    def __init__(self, mount: str, name: str, rfd: int) -> None:
        self.mount, self.name = mount, name
        self.lock = threading.RLock()
        self.pending: Dict[int, Future] = {}
        self.broken: Optional[BaseException] = None
        self.ended = threading.Event()  # nothing is read any more
        self._rfd = rfd
        self._unsure = False  # a read() has begun, and what it brought is not delivered yet
        self.direct = True
        self._wanted = False  # the reader thread is to take over
        # Reentrant only to know who has it: a Ctrl-C between acquire() and what follows leaves it with the main
        # thread, which lets go of it the next time that it comes by.
        self._read_lock = threading.RLock()
        self._closing = False
        self._single_waits = 0
        self._bell = Bell()
        self.forked = False  # this process got it by a fork
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._parts = bytearray()  # of a body that is not whole yet; the reader thread's alone
        # Offset in the file, rest of a frame, whether the magic was seen, bytes left for the reader thread.
        self._at: Tuple[int, bytes, bool, int] = (0, b"", False, 0)

    def _begin(self) -> None:
        """The last step of making one."""
        self.reader.start()
        _open.add(self)

    # --- for futures -------------------------------------------------------------------------------------------------

    def forget(self, ident: int) -> None:
        """The call shall not run (any more)."""
        raise NotImplementedError

    def release(self, ident: int) -> None:
        """The call is not held any more."""
        raise NotImplementedError

    def wait_for(self, future: Future, timeout: Optional[float]) -> None:
        """Returns when the future has ended; TimeoutError after timeout, CancelledError when it was cancelled."""
        self._heal()
        alone = timeout is None and not future._watched and self.direct and len(self.pending) == 1
        if alone and self._read_lock.acquire(False):
            try:
                while future._state is PENDING or future._state is RUNNING:
                    if not self.direct or not self._read_some(alone=True):
                        break
            finally:
                let_go(self._read_lock)
            if self.pending or not self.direct:
                self._call_reader()
        elif timeout is None and not self.direct and len(self.pending) == 1 and not self._closing:
            self._single_waits += 1  # one at a time: the thread that waits might as well read (see _read_loop)
        if future._state is FINISHED:
            return
        condition = future._condition
        with future._own:
            if future._state in (PENDING, RUNNING):
                if self.direct:
                    self._call_reader()
                condition.wait_for(lambda: future._state not in (PENDING, RUNNING), timeout)
            state = future._state
        if state in (CANCELLED, CANCELLED_AND_NOTIFIED):
            raise _base.CancelledError()
        if state is not FINISHED and state != FINISHED:
            raise _base.TimeoutError()

    def _heal(self) -> None:
        """Lets go of what an interrupt has left locked."""
        if self._read_lock._is_owned() and threading.current_thread() is not self.reader:  # type: ignore[attr-defined]
            let_go(self._read_lock)

    def settle(self) -> None:
        """Somebody waits by other means than result(): results must come without his reading."""
        if self.direct and self.pending:
            self._call_reader()

    def _call_reader(self) -> None:
        self._wanted = True
        self._bell.ring()

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read_loop(self) -> None:
        bell = self._bell
        idle = seen = 0
        while not self.ended.is_set():
            if self.direct:
                if self.pending or idle < LINGER:
                    idle = 0 if self.pending else idle + 1
                    bell.wait(DOZE)
                else:
                    bell.asleep = True
                    if not (self.pending or self._closing):
                        bell.wait()
                    bell.asleep = False
                    idle = 0
                wanted, self._wanted = self._wanted or self._closing, False
                if not self.pending and not self._closing:
                    continue
                last, seen = seen, self._oldest()
                if not wanted and seen != last:
                    continue  # he who waits for it will read
                if not self._read_lock.acquire(wanted):
                    continue  # he does
            else:
                self._read_lock.acquire()
            try:
                self.direct = False
                while self._read_some():
                    if self._single_waits > 3 and not self.pending and not self._closing:
                        self._single_waits = 0
                        self.direct = True
                        break
                    if len(self.pending) > 1:
                        self._single_waits = 0
            finally:
                self._read_lock.release()

    def _oldest(self) -> int:
        """The number of the call that has been under way for longest; 0 when that cannot be told just now."""
        try:
            return next(iter(self.pending), 0)
        except RuntimeError:
            return 0

    def _read_some(self, alone: bool = False) -> bool:
        """One read() and what it brought, with read_lock held. False: there will be no more. alone: by a thread that
        waits for its own result; False then may also say that the reader thread has to go on."""
        offset, rest, begun, n = self._at
        if self.ended.is_set():
            return False
        size = len(rest)
        view = self._view
        if size:
            view[:size] = rest
        if not n and self._unsure:
            n = self._interrupted(offset)
        if not n:
            self._unsure = True
            try:
                n = os.readv(self._rfd, [view[size:]])
            except OSError as error:
                self._end(error)
                return False
        if n == 0:
            self._end(None)
            return False
        try:
            self._take(size + n, offset + n, begun, alone)
        except _NotAlone:
            self._at = (offset, rest, begun, n)
            return False
        except StreamError as error:
            self._end(error)
            return False
        self._unsure = False
        return True

    def _take(self, end: int, offset: int, begun: bool, alone: bool) -> None:
        """Delivers the frames among the first end bytes of the buffer, and notes what is left of them."""
        view, start = self._view, 0
        if not begun:
            if not stream.check_magic(view[:end]):
                self._at = (offset, bytes(view[:end]), False, 0)
                return
            start = len(stream.MAGIC)
        frames, at = stream.split(view[start:], end - start)
        self._deliver(frames, alone)
        self._at = (offset, bytes(view[start + at:end]), True, 0)

    def _interrupted(self, offset: int) -> int:
        """How many bytes a read() has brought that a Ctrl-C interrupted before they were delivered: they are in the
        buffer."""
        try:
            with open("/proc/self/fdinfo/%d" % self._rfd) as info:
                return max(int(info.readline().split()[1]) - offset, 0)
        except (OSError, ValueError, IndexError):
            return 0

    def _deliver(self, frames: List[Tuple[int, int, memoryview]], alone: bool) -> None:
        """Ends the futures that the frames answer."""
        get = self.pending.get
        parts = self._parts
        done: List[_Done] = []
        add = done.append
        for kind, ident, body in frames:
            if kind == stream.RESULT and not parts:
                future = get(ident)
                if future is not None:
                    try:
                        add((future, _loads(body), None))
                    except Exception as error:
                        add((future, None, unloadable(error)))
                continue
            if kind != stream.PART and not parts:
                self._other(kind, ident, body, add, alone)
                continue
            if alone:
                raise _NotAlone
            parts += body
            if len(parts) > stream.TOTAL_MAX:
                raise StreamError("a frame of more than %d bytes" % stream.TOTAL_MAX)
            if kind != stream.PART:
                self._parts = bytearray()
                self._other(kind, ident, parts, add, alone)
                parts = self._parts
        if done:
            self._finish(done, alone)

    def _finish(self, done: List[_Done], alone: bool = False) -> None:
        """Ends futures with a result or an exception; those that have ended meanwhile stay as they are."""
        watched = []
        pop = self.pending.pop
        with self.lock:
            for future, value, problem in done:
                if future._watched:
                    watched.append((future, value, problem))
                    continue
                if future._state is PENDING or future._state is RUNNING:
                    future._result = value
                    future._exception = problem
                    future._state = FINISHED
                pop(future._id, None)
        if alone and watched:
            raise _NotAlone
        for future, value, problem in watched:
            if future._change(functools.partial(_end_watched, future, value, problem)):
                future._invoke_callbacks()  # type: ignore[attr-defined]
            pop(future._id, None)

    def _other(self, kind: int, ident: int, body: Any, add: Callable[[_Done], None], alone: bool) -> None:
        """A frame that is not a short RESULT."""
        if kind not in _ANSWERS:
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
        elif kind == stream.STARTED:
            future._change(functools.partial(_start, future))
        elif alone:
            raise _NotAlone
        elif kind == stream.CANCELLED:
            if future._change(functools.partial(_end_cancelled, future)):
                future._after_cancel()
        else:
            future._printed = [*(future._printed or ()), stream.read_output(body)]

    # --- the end -----------------------------------------------------------------------------------------------------

    def broken_error(self) -> BaseException:
        assert self.broken is not None
        return _again(self.broken)

    def _fail_all(self, error: Optional[BaseException]) -> None:
        """What is under way will not be answered."""
        problem: Exception
        if isinstance(error, OSError) and self._was_cancelled(error):
            problem = JobCancelled(self.name, "the session was cancelled: it was removed from jobs/")
        elif isinstance(error, OSError) and error.errno in _GONE:
            problem = MountGone("the ppfs mount at %s has gone: %s" % (self.mount, error.strerror), error)
        elif isinstance(error, OSError):
            problem = MountGone("the ppfs at %s takes no more calls: %s" % (self.mount, error.strerror), error)
        elif error is not None:
            problem = MountGone("the stream %s is broken: %s" % (self.name, error), error)
        else:
            problem = MountGone("the stream %s ended without an answer to this call" % self.name)
        if self.broken is None and (error is not None or not self._closing):
            self.broken = problem
        self._finish([(future, None, _again(problem)) for future in list(self.pending.values())])

    def _was_cancelled(self, error: OSError) -> bool:
        """Whether somebody has removed the stream; the writer hears of that as of any file that is gone."""
        if error.errno in (errno.ESTALE, errno.ENOENT):
            return is_mount(self.mount)
        return error.errno == errno.ECANCELED

    def _end(self, error: Optional[BaseException]) -> None:
        """The reading side has ended, with read_lock held."""
        if self.ended.is_set():
            return
        if error is not None or self.pending:
            self._fail_all(error)
        self._closing = True
        os.close(self._rfd)
        self._after_end(error)
        self.ended.set()
        self._bell.ring()

    def _after_end(self, error: Optional[BaseException]) -> None:
        """What else is to do when the last answer has come."""

    def abandon(self) -> None:
        """In a child after fork: these answers are the parent's. Its calls never end here, so they say so."""
        self.forked = True
        self.lock, self._read_lock = threading.RLock(), threading.RLock()
        self._bell = Bell()
        ended, self.ended = self.ended.is_set(), threading.Event()
        left = list(self.pending.values())
        self.pending.clear()
        self.direct = False
        if not ended:
            self.broken = MountGone("%s belongs to the process that this one was forked from" % self.name)
            close_quietly(self._rfd)
        for future in left:
            future._exception = MountGone("the call was submitted before a fork; its result goes to the parent process")
            future._state = FINISHED
        self.ended.set()


_open: "weakref.WeakSet[Answers]" = weakref.WeakSet()


def open_answers() -> List[Answers]:
    """Those that have not ended."""
    return [answers for answers in list(_open) if not answers.ended.is_set()]


def _after_fork() -> None:
    for answers in list(_open):
        answers.abandon()
    _open.clear()


os.register_at_fork(after_in_child=_after_fork)


def close_quietly(fd: int) -> None:
    """Closes what another thread may just have closed when this process was forked."""
    try:
        os.close(fd)
    except OSError:
        pass


def _again(problem: BaseException) -> BaseException:
    """The same exception for one more caller: each has its own traceback."""
    if isinstance(problem, MountGone):
        return MountGone(str(problem), problem.__cause__)
    return JobCancelled(problem.name, problem.why) if isinstance(problem, JobCancelled) else problem


# What is done with a future in its _change().

def _start(future: Future) -> bool:
    if future._state is PENDING:
        future._state = RUNNING
    return True


def _end_cancelled(future: Future) -> bool:
    if future._state not in (PENDING, RUNNING):
        return False
    future._end_cancelled()
    return True


def _end_watched(future: Future, value: Any, problem: Optional[BaseException]) -> bool:
    if future._state not in (PENDING, RUNNING):
        return False
    future._result = value
    future._exception = problem
    future._state = FINISHED
    for waiter in future._waiters:
        if problem is None:
            waiter.add_result(future)
        else:
            waiter.add_exception(future)
    future._condition.notify_all()
    return True


def let_go(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was not ours
