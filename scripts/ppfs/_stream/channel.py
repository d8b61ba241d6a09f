"""The stream of an executor: a connection that calls are sent through.

What send() has taken is written before the file is closed, or its future fails: both look and write with the lock. Calls
above the limit stay here, in their order, until one that was sent is answered.
"""
import functools
import itertools
import os
import threading
from typing import Any, Callable, Dict, FrozenSet, List, Optional, Set, Tuple

from .. import trust
from .._pickle.values import Values
from ..mount import make_new
from . import frames
from .connection import Bell, Connection, again, close_quietly
from .future import FINISHED, Future
from .output import Output
from .send_queue import SendQueue, Pieces
from .threads import Event

MOST_PIECES = 8192  # that wait to be written, from which on send() waits too
MOST_BYTES = 64 << 20  # the same in bytes
INLINE = 4 << 20  # bytes up to which the thread that submits a large call writes it itself


Limit = Callable[[], Optional[int]]  # how many calls may be under way at a time; None: as many as there are


class Channel(Connection):
    """keep: its results stay when it has ended. portable: every Python understands what is pickled into it. limit: of
    the calls that are under way at a time. trusted: the users whose answers are loaded (trust.py). output: is given
    what calls print."""

    def __init__(self, mount: str, name: str, keep: bool, portable: bool = False,
                 limit: Optional[Limit] = None, trusted: Optional[FrozenSet[int]] = None,
                 output: Optional[Output] = None) -> None:
        self.keep, self.limit, self._output = keep, limit, output
        self.results_path = os.path.join(mount, "results", name)
        jobs, results = open_stream(os.path.join(mount, "jobs", name), self.results_path,
                                    frames.MAGIC_PORTABLE if portable else frames.MAGIC,
                                    trust.users() if trusted is None else trusted)
        self.ids = itertools.count(1)
        self.announced: Set[bytes] = set()  # the functions and values that this stream has
        self.values = Values()
        self.written = Event()  # jobs/NAME is closed: every call was accepted, or has failed
        self._room = Event()  # the queue is not too long
        self._room.set()
        self._out_bell = Bell()
        self._writing = False  # the writer thread writes, without the lock
        self._sent: Set[int] = set()  # calls that count for the limit
        self._borrowed: List[Tuple[int, Event]] = []  # who waits until so many bytes are written
        self._waiting: Dict[int, Pieces] = {}  # those above it, which are not sent yet
        self._deferred: Dict[int, Pieces] = {}  # calls that are still to be made, and what is to follow each
        self._writer = threading.Thread(target=self._write_loop, name="ppfs writer of " + name, daemon=True)
        super().__init__(mount, name, results, SendQueue(jobs))

    # --- sending -----------------------------------------------------------------------------------------------------

    def send(self, future: Future[Any], pieces: Pieces) -> None:
        """Sends a CALL; its answer will end the future. It is written here and now when nothing else is under way."""
        try:
            with self.lock:
                if self._send_queue is None or self.closing or self.broken is not None:
                    raise self.refusal()
                if self.limit is None:
                    self._send_queue.add(pieces)
                    future._until = self._send_queue.end()
                    self.pending[future._id] = future
                else:
                    self._waiting[future._id] = pieces
                    self.pending[future._id] = future
                    self._send_waiting()
                if len(self.pending) == 1 and not self._writing:
                    try:
                        self._send_queue.flush()
                    finally:
                        if self._send_queue.settle():
                            self._out_bell.ring()
                else:
                    self._out_bell.ring()
                    if not self._reading:
                        self._bell.ring()
                    if len(self._send_queue) > MOST_PIECES or self._send_queue.size > MOST_BYTES:
                        self._room.clear()
        except OSError:
            pass  # the writer thread meets it again, which no Ctrl-C keeps from telling
        if not self._room.is_set() and threading.current_thread() is not self.thread:
            self._room.wait()

    def send_large(self, future: Future[Any], pieces: Pieces) -> None:
        """send() of pieces whose memory is somebody else's: it returns when they are written, and has copied what stays
        here, for the limit, and from a callback, which must not wait."""
        if self.limit is not None or threading.current_thread() is self.thread:
            self.send(future, [b"".join(pieces)])
            return
        written = Event()
        try:
            self._lend(future, pieces, written)
            written.wait()
        except BaseException:
            if future._id in self.pending:
                self.forget(future)  # nobody has it, and the memory may change before it is written
            raise

    def _lend(self, future: Future[Any], pieces: Pieces, written: Event) -> None:
        try:
            with self.lock:
                if self._send_queue is None or self.closing or self.broken is not None:
                    raise self.refusal()
                self._send_queue.add(pieces)
                until = future._until = self._send_queue.end()
                self.pending[future._id] = future
                self._borrowed.append((until, written))
                if self._writing or self._send_queue.size > INLINE:
                    self._out_bell.ring()
                else:
                    try:
                        self._send_queue.flush()
                    finally:
                        if self._send_queue.settle():
                            self._out_bell.ring()
                    self._give_back(self._send_queue.written)
                if len(self.pending) > 1 and not self._reading:
                    self._bell.ring()
        except OSError:
            pass  # as in send()

    def _give_back(self, written: Optional[int] = None) -> None:
        """So many bytes are written (None: no more will be): whoever waits for his part need not any more. With the lock
        held."""
        while self._borrowed and (written is None or self._borrowed[0][0] <= written):
            self._borrowed.pop(0)[1].set()

    def defer(self, future: Future[Any]) -> None:
        """Takes a future whose call is not made yet: send_deferred() or fail() comes, until when the file stays open."""
        future._condition
        with self.lock:
            if self._send_queue is None or self.closing or self.broken is not None:
                raise self.refusal()
            self._deferred[future._id] = []
            self.pending[future._id] = future

    def send_deferred(self, future: Future[Any], pieces: Pieces) -> None:
        """Sends the call of a future that defer() has taken, unless it was cancelled meanwhile. It never waits."""
        with self.lock:
            behind = self._deferred.pop(future._id, None)
            if behind is None or self._send_queue is None:
                return
            if self.limit is None:
                self._send_queue.add([*pieces, *behind])
                future._until = self._send_queue.end()
            else:
                self._waiting[future._id] = [*pieces, *behind]
                self._send_waiting()
            self._out_bell.ring()

    def fail(self, future: Future[Any], problem: BaseException, pieces: Pieces) -> None:
        """Ends a future that defer() has taken, with an exception. pieces: a call that fails, for whoever attaches."""
        if self.keep:
            self.send_deferred(future, pieces)
        with self.lock:
            self._deferred.pop(future._id, None)
            self._out_bell.ring()
        self._finish([(future, FINISHED, None, problem)])

    def announce(self, digest: bytes, blob: bytes) -> None:
        """Sends a function or a value, once; the CALL that needs it follows."""
        with self.lock:
            if digest not in self.announced and self._send_queue is not None and self.broken is None:
                self._send_queue.add(frames.frame_pieces(frames.FUNC, 0, [digest, blob]))
                self.announced.add(digest)

    def forget(self, future: Future[Any]) -> None:
        """The future was cancelled: the call shall not run (any more)."""
        self._tell(frames.CANCEL, future._id)

    def release(self, future: Future[Any]) -> None:
        """The call is not held any more."""
        self._tell(frames.RELEASE, future._id)

    def _tell(self, kind: int, ident: int) -> None:
        """Sends a frame that has no answer, behind the call."""
        frame = frames.frame(kind, ident)
        with self.lock:
            if kind == frames.CANCEL:
                self.pending.pop(ident, None)
                if self._waiting.pop(ident, None) is not None or self._deferred.pop(ident, None) is not None:
                    self._out_bell.ring()
                    return
            later = self._waiting if ident in self._waiting else self._deferred
            if ident in later:
                later[ident] = [*later[ident], frame]
            elif self._send_queue is not None and self.broken is None:
                self._send_queue.add([frame])
                self._out_bell.ring()

    def _note_output(self, future: Future[Any], kind: int, data: bytes) -> None:
        if self._output is not None:
            data = self._output.take(future._id, kind, data)
        if data:
            super()._note_output(future, kind, data)

    # --- the limit ---------------------------------------------------------------------------------------------------

    def _send_waiting(self) -> None:
        """Sends what the limit allows, with the lock held. Whoever adds calls rings."""
        if not self._waiting or self._send_queue is None:
            return
        limit = self.limit() if self.limit is not None else None
        while self._waiting:
            ident = next(iter(self._waiting))
            if limit is not None and len(self._sent) >= limit and ident not in self._sent:
                return
            self._sent.add(ident)  # a Ctrl-C may come here, and it goes the next time
            self._send_queue.take(self._waiting, ident)
            if ident in self.pending:
                self.pending[ident]._until = self._send_queue.end()

    def _answered(self, idents: List[int]) -> None:
        super()._answered(idents)
        if self.limit is not None:
            with self.lock:
                self._sent.difference_update(idents)
                self._send_waiting()
                self._out_bell.ring()

    def set_limit(self, limit: Limit) -> None:
        """Another limit, or one that may allow more now."""
        with self.lock:
            if self.limit is None:
                self._sent = set(self.pending)
            self.limit = limit
            self._send_waiting()
            self._out_bell.ring()

    # --- the writer thread -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """The lives of both threads."""
        self._writer.start()
        super().run()

    def _write_loop(self) -> None:
        try:
            while self._write_some():
                pass
        except BaseException as error:
            self._fail_unwritten(error)
        self.ring()

    def _fail_unwritten(self, error: BaseException) -> None:
        """No more is written. Calls that were written whole may still be answered; the reader thread will know."""
        problem = self._problem(error)
        with self.lock:
            if self._send_queue is None:
                return
            self._send_queue.settle()
            written = self._send_queue.written
            left = [one for ident, one in self.pending.items()
                    if ident in self._waiting or ident in self._deferred or one._until > written]
            self.broken = self.broken or problem
            self.closing = self.closing or "after shutdown"
            close_quietly(self._shut_writer)
        self._finish([(future, FINISHED, None, again(problem)) for future in left])

    def _write_some(self) -> bool:
        """One write(), or some sleep. False: the file is closed."""
        with self.lock:
            self._out_bell.clear()
            send_queue = self._send_queue
            if send_queue is None:
                return False
            if not send_queue.settle() and self.closing and not self._waiting and not self._deferred:
                self._shut_writer()
                return False
            batch = send_queue.batch()
            self._writing = bool(batch)
            self._give_back(send_queue.written)  # send() may have written it
        if not batch:
            self._out_bell.wait()
            return True
        try:
            send_queue.write(batch)
        finally:
            with self.lock:
                self._writing = False
                send_queue.settle()
                self._give_back(send_queue.written)
                if self._send_queue is None:
                    os.close(send_queue.fd)  # what _shut_writer() has left
                if len(send_queue) <= MOST_PIECES and send_queue.size <= MOST_BYTES:
                    self._room.set()
        return True

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self, why: str = "after shutdown") -> None:
        """No more calls: what was taken is written, then the file is closed. What is under way goes on."""
        try:
            self._close(why)
        except BaseException:
            self._close(why)  # a Ctrl-C came between the two
            raise

    def _close(self, why: str) -> None:
        with self.lock:
            self.closing = self.closing or why
            self._out_bell.ring()

    def kill(self) -> None:
        """Nothing that is under way is wanted any more. When the file is closed, which is no way to say so then, the stream
        is removed."""
        left = list(self.pending.values())
        for future in left:
            future.kill()
        with self.lock:
            closed = self._send_queue is None
        if closed and left:
            close_quietly(functools.partial(os.unlink, os.path.join(self.mount, "jobs", self.name)))

    def _shut_writer(self) -> None:
        send_queue, self._send_queue = self._send_queue, None
        self.written.set()
        self._waiting.clear()
        self._deferred.clear()
        self._room.set()
        self._give_back()
        self._out_bell.ring()
        if send_queue is not None and not self._writing:
            os.close(send_queue.fd)

    def _after_end(self, error: Optional[BaseException]) -> None:
        if not self.keep and error is None:
            try:
                os.unlink(self.results_path)
            except OSError:
                pass

    def join(self) -> None:
        """After close(): waits until every call has its answer."""
        if self.thread is not threading.current_thread():
            self.ended.wait()  # join() may return early when a Ctrl-C has come into one before
            self.thread.join()
            self._writer.join()

    def join_writing(self) -> None:
        """After close(): waits until every call has been accepted."""
        if self.thread is not threading.current_thread():
            self.written.wait()

    def abandon(self) -> None:
        """In a child after fork."""
        self._room, self.written, self._out_bell = Event(), Event(), Bell()
        self._borrowed = []
        self._writing = False
        super().abandon()
        self._room.set()


def open_stream(jobs: str, results: str, magic: bytes, trusted: FrozenSet[int]) -> Tuple[int, int]:
    """Makes a stream and opens both of its ends. NotTrusted: somebody has put one of his own in its place."""
    wfd, rfd = make_new(jobs), -1
    try:
        os.write(wfd, magic)
        rfd = os.open(results, os.O_RDONLY | os.O_CLOEXEC)
        trust.check(rfd, "the stream %s" % results, trusted)
        return wfd, rfd
    except BaseException:
        if rfd >= 0:
            os.close(rfd)
        os.close(wfd)
        raise
