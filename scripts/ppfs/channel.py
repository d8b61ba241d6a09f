"""One stream on a mount: jobs/NAME, which calls are written to, and results/NAME (answers.py).

submit() puts frames into a queue. When nothing else is under way the calling thread writes its frame itself, which
saves two wake-ups; else the feeder thread writes what has gathered in one write().
"""
import itertools
import os
import threading
import time
from collections import deque
from typing import Deque, List, Optional, Set, Tuple, Union

from . import stream
from .answers import Answers, close_quietly, let_go, open_answers
from .bell import Bell
from .future import Future
from .values import Values

BATCH = 1 << 20  # bytes that one write takes, more or less
QUEUE_SOFT = 256  # frames in the queue from which on a submitting thread lets the feeder run
QUEUE_HARD = 8192  # and from which on it waits for it
QUEUE_BYTES = 64 << 20  # the same for long calls, in bytes
IOVECS = 1024  # pieces that one writev() takes
Pieces = List[stream.Bytes]


class Channel(Answers):
    """The stream of an executor. keep: its results stay when it has ended. portable: every Python understands what is
    pickled into it."""

    def __init__(self, mount: str, name: str, keep: bool, portable: bool = False) -> None:
        self.keep = keep
        self.results_path = os.path.join(mount, "results", name)
        self._wfd, results = open_stream(os.path.join(mount, "jobs", name), self.results_path,
                                         stream.MAGIC_PORTABLE if portable else stream.MAGIC)
        super().__init__(mount, name, results)
        self._wfd_open = True
        self._written = len(stream.MAGIC)  # bytes that the file has, as far as we know
        self.ids = itertools.count(1)
        self.announced: Set[bytes] = set()  # the functions and values that this stream has
        self.values = Values()
        self._out: Deque[Union[bytes, Pieces]] = deque()
        self._write_lock = threading.RLock()  # reentrant for the same reason as _read_lock
        self._feed_bell = Bell()
        self.reader = threading.Thread(target=self._read_loop, name="ppfs reader of " + name, daemon=True)
        self._feeder = threading.Thread(target=self._feed_loop, name="ppfs feeder of " + name, daemon=True)
        reads = False
        try:
            self._feeder.start()
            reads = True
            self._begin()
        except BaseException:  # Ctrl-C: nobody will know of this stream, so it ends
            self.close()
            if not reads:
                os.close(results)
            raise

    # --- writing -----------------------------------------------------------------------------------------------------

    def submit(self, future: Future, ident: int, data: Union[bytes, Pieces]) -> None:
        """Sends a CALL, a short one as one frame, a long one in pieces; its answer will end the future."""
        if self.broken is not None:
            raise self.broken_error()
        if self._write_lock._is_owned():  # type: ignore[attr-defined]
            let_go(self._write_lock)
        self.pending[ident] = future
        try:
            long = type(data) is list
            if (long or len(self.pending) == 1) and not self._out and self._write_lock.acquire(False):
                self._write_now(data)
                if self.direct and self._bell.asleep:
                    self._bell.ring()
                return
            out = self._out
            out.append(data)
            if not self._feed_bell.rung:
                self._feed_bell.ring()
            if long:
                self._give_way(sum(map(len, data)))  # type: ignore[arg-type]
            elif len(out) > QUEUE_SOFT:
                self._give_way(len(data))
        except BaseException:  # Ctrl-C: nobody will ever ask for this future
            self.pending.pop(ident, None)
            raise

    def send(self, data: bytes) -> None:
        """Sends a frame that has no answer, in order with the calls."""
        self._out.append(data)
        self._feed_bell.ring()

    def announce(self, digest: bytes, blob: bytes) -> None:
        """Sends a function or a value, once; the CALL that needs it follows."""
        with self.lock:
            if digest in self.announced:
                return
            self._out.append(stream.frame_pieces(stream.FUNC, 0, [digest, blob]))
            self.announced.add(digest)
        if len(blob) > stream.BODY_MAX:
            self._feed_bell.ring()
            self._give_way(len(blob))

    def _give_way(self, size: int) -> None:
        """The queue is long: lets the feeder have the interpreter, waits for it when the queue is very long."""
        hard = min(QUEUE_HARD, max(1, QUEUE_BYTES // size))
        while len(self._out) > hard and self.broken is None:
            time.sleep(0.0005)
        time.sleep(0)

    def _write_now(self, data: Union[bytes, Pieces]) -> None:
        """Writes in the calling thread, which holds write_lock."""
        pieces = data if type(data) is list else [data]  # type: ignore[list-item]
        try:
            self._write_all(pieces)
        except OSError as error:
            self._fail_all(error)
        except BaseException:  # Ctrl-C: how much has been written only the file's position tells
            left = _behind(pieces, self._position() - self._written)
            self._written += sum(map(len, pieces)) - sum(map(len, left))
            self._out.appendleft(left)
            self._feed_bell.ring()
            raise
        finally:
            let_go(self._write_lock)

    def _write_all(self, pieces: Pieces) -> None:
        """Writes them one after the other; leaves the list as it is."""
        if len(pieces) == 1:
            n = os.write(self._wfd, pieces[0])
        else:
            n = os.writev(self._wfd, pieces[:IOVECS])
        total, size = n, sum(map(len, pieces))
        while total < size:
            n = os.writev(self._wfd, _behind(pieces, total)[:IOVECS])
            total += n
        self._written += total

    def _position(self) -> int:
        """How many bytes the file has."""
        try:
            with open("/proc/self/fdinfo/%d" % self._wfd) as info:
                return int(info.readline().split()[1])
        except (OSError, ValueError, IndexError):
            return self._written

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
        pieces: Pieces = []
        short: List[bytes] = []
        size = 0
        take = self._out.popleft
        try:
            while size < BATCH:
                data = take()
                if type(data) is list:
                    pieces += [b"".join(short), *data] if short else data
                    short = []
                    size = BATCH
                else:
                    short.append(data)  # type: ignore[arg-type]
                    size += len(data)
        except IndexError:
            pass
        if short:
            pieces.append(b"".join(short))
        if self.broken is not None:
            return
        try:
            self._write_all(pieces)
        except OSError as error:
            self._fail_all(error)

    def forget(self, ident: int) -> None:
        """The call shall not run (any more)."""
        self.send(stream.frame(stream.CANCEL, ident))

    def release(self, ident: int) -> None:
        """The call is not held any more."""
        self.send(stream.frame(stream.RELEASE, ident))

    def _close_writer(self) -> None:
        if self._wfd_open:
            self._wfd_open = False
            try:
                os.close(self._wfd)
            except OSError as error:
                self._fail_all(error)

    def close(self) -> None:
        """No more calls: what is queued is written, then the file is closed. What is under way goes on."""
        self._heal()
        if threading.current_thread() is not self._feeder:
            let_go(self._write_lock)
        self._closing = True
        self.direct = False
        self._feed_bell.ring()
        self._bell.ring()

    # --- the end -----------------------------------------------------------------------------------------------------

    def _after_end(self, error: Optional[BaseException]) -> None:
        self._feed_bell.ring()
        if not self.keep and error is None:
            try:
                os.unlink(self.results_path)
            except OSError:
                pass

    def join(self) -> None:
        """After close(): waits until every call has its answer."""
        if self.reader is not threading.current_thread():
            self.reader.join()
            self._feeder.join()

    def join_writing(self) -> None:
        """After close(): waits until every call has been accepted."""
        self._feeder.join()

    def abandon(self) -> None:
        """In a child after fork."""
        super().abandon()
        self._feed_bell, self._write_lock = Bell(), threading.RLock()
        self._out.clear()
        if self._wfd_open:
            self._wfd_open = False
            close_quietly(self._wfd)


def _behind(pieces: Pieces, n: int) -> Pieces:
    """What is left of the pieces behind their first n bytes."""
    at = 0
    while at < len(pieces) and n >= len(pieces[at]):
        n -= len(pieces[at])
        at += 1
    left = pieces[at:]
    if left and n > 0:
        left[0] = memoryview(left[0])[n:]
    return left


def open_stream(jobs: str, results: str, magic: bytes) -> Tuple[int, int]:
    """Makes a stream and opens both of its ends."""
    wfd = os.open(jobs, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(wfd, magic)
        return wfd, os.open(results, os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(wfd)
        raise


def open_channels() -> List[Channel]:
    """The streams that have not ended."""
    return [answers for answers in open_answers() if isinstance(answers, Channel)]
