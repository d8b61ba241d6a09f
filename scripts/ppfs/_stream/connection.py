"""A stream on a mount: jobs/NAME, which calls are written to, and results/NAME, which answers come from.

One lock covers the look whether calls are taken, the insertion of a call, its writing and the closing of the file. The
reader thread reads and ends futures, the writer thread of channel.py writes what has gathered; each sleeps until its bell
rings. They are two, and read() waits in the kernel instead of poll(): ppfs lends out the slot of a call only while
that waits in a read(), so a call that waited for other calls in epoll_wait() could wait for ever; and poll() with a
wake-up through an eventfd costs some 50 us a call.

While nothing else is under way both stay asleep: the thread that submits a call writes it, and the thread that waits for
its result reads it. Whoever reads so holds a lock of his own (_alone), which he cannot leave locked; the reader thread
reads only when that is free, and from then on (_reading) nobody else does until nothing is under way.
"""
import errno
import os
import threading
from concurrent.futures import BrokenExecutor
from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

from ..errors import JobCancelled, MountGone, StreamError
from ..mount import is_mount
from . import frames
from .future import CANCELLED, FINISHED, PENDING, RUNNING, Future
from .inbox import ALONE, Inbox
from .send_queue import SendQueue
from .outcome import outcome
from .threads import Event

_GONE = {errno.ENOTCONN, errno.EIO, errno.ECONNABORTED, errno.ENODEV, errno.ESTALE, errno.ENOENT, errno.ECONNREFUSED}
_Ended = Tuple[Future[Any], str, Any, Optional[BaseException]]  # a future, its state, its result or exception


class Bell:
    """Wakes one thread. Whoever rings or clears it has the lock of the connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._rung = False

    def ring(self) -> None:
        if not self._rung:
            try:
                self._lock.release()
            except RuntimeError:
                pass  # a Ctrl-C came here before
            self._rung = True

    def clear(self) -> None:
        """What was done before a ring() is seen after this."""
        self._lock.acquire(False)
        self._rung = False

    def wait(self) -> None:
        """Sleeps until rung; clear() comes next."""
        self._lock.acquire()


class Connection:
    """What an executor and a session have in common: the reading side. It begins with run(), in a thread of its own."""

    def __init__(self, mount: str, name: str, results: int, send_queue: Optional[SendQueue] = None) -> None:
        self.mount, self.name = mount, name
        self.lock = threading.RLock()  # reentrant: a signal handler or a finalizer may come back here
        self.pending: Dict[int, Future[Any]] = {}
        self.broken: Optional[BaseException] = None
        self.closing = ""  # why no more calls are taken
        self.ended = Event()  # nothing is read any more
        self.forked = False  # this process got it by a fork
        self._send_queue = send_queue  # None: closed, or of a session
        self._inbox = Inbox(results)
        self._bell = Bell()
        self._reading = True  # the reader thread reads
        self._alone = threading.Lock()  # held by a thread that reads for itself
        self.thread = threading.current_thread()
        _open.add(self)

    # --- for futures -------------------------------------------------------------------------------------------------

    def read_alone(self, future: Future[Any]) -> None:
        """Reads the answer in the thread that waits for it, when its call is the only one under way. Whatever else comes is
        left to the reader thread, and so is the answer when a Ctrl-C comes."""
        if self._reading or future._watched or len(self.pending) != 1:
            return
        mine = threading.Lock()
        try:
            with mine:
                with self.lock:
                    if (self._reading or self._alone.locked() or self._inbox.unread() or self.ended.is_set()
                            or len(self.pending) != 1 or future._id not in self.pending):
                        return
                    self._alone = mine
                try:
                    self._inbox.read(ALONE)
                    frame = self._inbox.only()
                except (OSError, StreamError):
                    return
                if frame is None or frame[0] != frames.RESULT or frame[1] != future._id:
                    return
                value, problem = outcome(frame[0], frame[2])
                if problem is not None:
                    if isinstance(problem.__cause__, KeyboardInterrupt):
                        raise problem.__cause__
                    return
                with self.lock:
                    if not future._watched:
                        future._move(FINISHED, value, None, (PENDING, RUNNING))
                        self._answered([future._id])
                        self._inbox.discard()
        finally:
            if self.pending or self._inbox.unread() or self._send_queue is None:
                self.ring()

    def settle(self) -> None:
        """Somebody waits by other means than result(): answers must come without his reading."""
        if not self._reading:
            self.ring()

    def ring(self) -> None:
        """The reader thread has something to do."""
        with self.lock:
            self._bell.ring()

    def check_waiter(self) -> None:
        """RuntimeError in the reader thread, which would wait for itself."""
        if threading.current_thread() is self.thread:
            raise RuntimeError("a callback of a future cannot wait for another call of the same executor: "
                               "the thread that calls it is the one that would bring the result")

    def forget(self, future: Future[Any]) -> None:
        """The future was cancelled."""

    def release(self, future: Future[Any]) -> None:
        """The call is not held any more."""

    # --- the reader thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The life of the reader thread."""
        self.thread = threading.current_thread()
        error: Optional[BaseException] = None
        try:
            while self._turn():
                pass
        except BaseException as problem:
            error = problem
        self._end(error)

    def _turn(self) -> bool:
        """One read() and what it brought, or some sleep. False: the last answer has come."""
        with self.lock:
            self._bell.clear()
            wanted = bool(self.pending) or self._send_queue is None or not self._inbox.begun()
            self._reading = wanted and not self._alone.locked()
        if not self._reading:
            self._bell.wait()
            return True
        self._inbox.read()
        answers = self._inbox.frames()
        if answers is not None:
            self._deliver(answers)
        return answers is not None

    def _deliver(self, answers: Iterable[frames.Frame]) -> None:
        """Ends the futures of these frames. StreamError: one is of a kind that is no answer."""
        ended: List[_Ended] = []
        for kind, ident, body in answers:
            future = self.pending.get(ident)
            if kind == frames.RESULT or kind == frames.ERROR:
                if future is None:
                    self._answered([ident])
                    continue
                value, problem = outcome(kind, body)
                if isinstance(problem, BrokenExecutor) and kind == frames.ERROR:
                    self.broken = problem
                ended.append((future, FINISHED, value, problem))
            elif kind == frames.CANCELLED:
                self._answered([ident])
                if future is not None:
                    ended.append((future, CANCELLED, None, None))
            elif kind == frames.STARTED:
                if future is not None:
                    future._end(RUNNING, states=(PENDING,))
            elif kind != frames.OUTPUT:
                raise StreamError("a frame of the unknown kind %d" % kind)
            elif future is not None:
                self._note_output(future, *frames.read_output(body))
        self._finish(ended)

    def _note_output(self, future: Future[Any], kind: int, data: bytes) -> None:
        """What a call has printed."""
        future._printed = [*(future._printed or ()), (kind, data)]

    def _finish(self, ended: List[_Ended]) -> None:
        """Ends futures; those that have ended meanwhile stay as they are."""
        watched = []
        with self.lock:
            self._answered([one[0]._id for one in ended])
            for one in ended:
                future, state, value, problem = one
                if future._watched:
                    watched.append(one)
                elif future._state is PENDING or future._state is RUNNING:
                    future._result, future._exception = value, problem
                    future._state = state
        for future, state, value, problem in watched:
            if future._end(state, value, problem):
                future._call_back()

    def _answered(self, idents: List[int]) -> None:
        """These calls are not under way any more."""
        pop = self.pending.pop
        for ident in idents:
            pop(ident, None)

    # --- the end -----------------------------------------------------------------------------------------------------

    def refusal(self) -> BaseException:
        """Why no call is taken."""
        return again(self.broken) if self.broken is not None else RuntimeError("cannot schedule new futures "
                                                                                + self.closing)

    def _fail_all(self, error: Optional[BaseException]) -> None:
        """What is under way will not be answered, and no more calls are taken."""
        problem = self._problem(error)
        with self.lock:
            close_quietly(self._shut_writer)
            if self.broken is None and (error is not None or not self.closing):
                self.broken = problem
            problem = self.broken or problem  # the first is the reason: closing ends the reading side, too
            self.closing = self.closing or "after shutdown"
            left = list(self.pending.values())
        self._finish([(future, FINISHED, None, again(problem)) for future in left])

    def _problem(self, error: Optional[BaseException]) -> BaseException:
        """Why calls have no answer."""
        if isinstance(error, OSError) and self._was_cancelled(error):
            return JobCancelled(self.name, "the session was cancelled: it was removed from jobs/")
        if isinstance(error, OSError) and error.errno in _GONE:
            return MountGone("the ppfs mount at %s has gone: %s" % (self.mount, error.strerror), error)
        if isinstance(error, OSError):
            return MountGone("the ppfs at %s takes no more calls: %s" % (self.mount, error.strerror), error)
        if error is not None:
            return MountGone("the stream %s is broken: %s" % (self.name, error), error)
        return MountGone("the stream %s ended without an answer to this call" % self.name)

    def _was_cancelled(self, error: OSError) -> bool:
        """Whether somebody has removed the stream; the writer hears of that as of any file that is gone."""
        if error.errno in (errno.ESTALE, errno.ENOENT):
            return is_mount(self.mount)
        return error.errno == errno.ECANCELED

    def _end(self, error: Optional[BaseException]) -> None:
        """The reading side has ended: the reader thread leaves, and nobody waits for it."""
        with self.lock:
            self._reading = True  # for good: nobody else begins to
        self._fail_all(error)
        self._after_end(error)
        with self._alone, self.lock:
            self.ended.set()
            close_quietly(self._inbox.close)
        _open.discard(self)

    def _shut_writer(self) -> None:
        """Closes jobs/NAME, with the lock held; a session has none."""

    def _after_end(self, error: Optional[BaseException]) -> None:
        """What else is to do when the last answer has come."""

    def abandon(self) -> None:
        """In a child after fork: the stream is the parent's. Its calls never end here, so they say so."""
        self.forked = True
        self.lock, self._alone, self._bell = threading.RLock(), threading.Lock(), Bell()
        ended, self.ended = self.ended.is_set(), Event()
        self.ended.set()
        left = list(self.pending.values())
        self.pending.clear()
        self._reading = True
        if not ended:
            self.broken = MountGone("%s belongs to the process that this one was forked from" % self.name)
            close_quietly(self._shut_writer)
            close_quietly(self._inbox.close)
        for future in left:
            future._exception = MountGone("the call was submitted before a fork; its result goes to the parent process")
            future._state = FINISHED


_open: Set[Connection] = set()


def close_quietly(close: Callable[[], None]) -> None:
    """Closes what may be gone."""
    try:
        close()
    except OSError:
        pass


def open_connections() -> List[Connection]:
    """Those that have not ended."""
    return [connection for connection in list(_open) if not connection.ended.is_set()]


def _after_fork() -> None:
    for connection in list(_open):
        connection.abandon()
    _open.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


def again(problem: BaseException) -> BaseException:
    """The same exception for one more caller: each has its own traceback."""
    if isinstance(problem, MountGone):
        return MountGone(str(problem), problem.__cause__)
    return JobCancelled(problem.name, problem.why) if isinstance(problem, JobCancelled) else problem
