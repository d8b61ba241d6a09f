"""The side of a stream that answers come from: results/NAME.

Whoever holds read_lock reads. While calls come one at a time that is the thread that waits for the result (direct
mode); the reader thread looks in now and then and takes over for good when a result waits that nobody reads. It hands
back when it sees that its results are waited for one at a time.

State that a Ctrl-C could leave half done is replaced in one assignment (self._at); until then the bytes stay in the
buffer, and the position of the file tells how many there are, so that they can be delivered again: what was delivered
once is ignored.
"""
import errno
import os
import threading
from concurrent.futures import BrokenExecutor, _base
from pickle import loads as _loads
from typing import Any, Callable, Dict, List, Optional, Tuple

from . import stream
from .answer import error_of, unloadable
from .bell import Bell
from .errors import MountGone, StreamError
from .future import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING, Future

BUFFER = 1 << 20  # bytes that one read may give
DOZE = 0.002  # seconds between two looks of the reader thread while others read
LINGER = 50  # such looks without any call, after which it sleeps until it is rung

_GONE = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE, errno.ENOENT, errno.ECONNREFUSED}


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
        # Reentrant only to know who has it: a Ctrl-C between acquire() and what follows leaves it with the main
        # thread, which lets go of it the next time that it comes by.
        self._read_lock = threading.RLock()
        self._closing = False
        self._single_waits = 0
        self._bell = Bell()
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._at: Tuple[int, bytes, Tuple[bytes, ...], bool] = (0, b"", (), False)  # offset, rest, parts, magic seen

    # --- for futures
    # ---------------------------------------------------------------------------------------------------

    def forget(self, ident: int) -> None:
        """The call shall not run (any more)."""
        raise NotImplementedError

    def wait_for(self, future: Future, timeout: Optional[float]) -> None:
        """Returns when the future has ended; TimeoutError after timeout, CancelledError when it was cancelled."""
        self._heal()
        alone = timeout is None and not future._watched and self.direct and len(self.pending) == 1
        if alone and self._read_lock.acquire(False):
            try:
                while future._state is PENDING or future._state is RUNNING:
                    if not self.direct or not self._read_some():
                        break
            finally:
                let_go(self._read_lock)
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

    def _heal(self) -> None:
        """Lets go of what an interrupt has left locked."""
        if self._read_lock._is_owned() and threading.current_thread() is not self.reader:  # type: ignore[attr-defined]
            let_go(self._read_lock)

    def settle(self) -> None:
        """Somebody waits by other means than result(): results must come without his reading."""
        if self.direct and self.pending:
            self._bell.ring()

    # --- reading -----------------------------------------------------------------------------------------------------

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
                if not self._read_lock.acquire(rung):
                    continue  # he who waits reads
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

    def _read_some(self) -> bool:
        """One read() and what it brought, with read_lock held. False: there will be no more."""
        offset, rest, parts, begun = self._at
        if self.ended.is_set():
            return False
        size = len(rest)
        view = self._view
        if size:
            view[:size] = rest
        n = self._interrupted(offset) if self._unsure else 0
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
            end = size + n
            start = 0
            if not begun:
                begun = stream.check_magic(view[:end])
                if not begun:
                    self._at = (offset + n, bytes(view[:end]), (), False)
                    self._unsure = False
                    return True
                start = len(stream.MAGIC)
            frames, at = stream.split(view[start:], end - start)
            parts = self._deliver(frames, parts)
            self._at = (offset + n, bytes(view[start + at:end]), parts, True)
            self._unsure = False
        except StreamError as error:
            self._end(error)
            return False
        return True

    def _interrupted(self, offset: int) -> int:
        """How many bytes a read() has brought that a Ctrl-C interrupted before they were delivered: they are in the
        buffer."""
        try:
            with open("/proc/self/fdinfo/%d" % self._rfd) as info:
                return max(int(info.readline().split()[1]) - offset, 0)
        except (OSError, ValueError, IndexError):
            return 0

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

    def broken_error(self) -> BaseException:
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
        self._finish([(future, None, MountGone(str(problem), problem.__cause__))
                      for future in list(self.pending.values())])

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


def let_go(lock: Any) -> None:
    try:
        lock.release()
    except RuntimeError:
        pass  # it was not ours
