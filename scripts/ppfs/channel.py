"""One stream on a mount: jobs/NAME, which calls are written to, and results/NAME (answers.py).

submit() puts frames into a queue. When nothing else is under way the calling thread writes its frame itself, which
saves two wake-ups; else the feeder thread writes what has gathered in one write().
"""
import itertools
import os
import threading
import time
from collections import deque
from typing import Deque, List, Optional, Set, Tuple

from . import stream
from .answers import Answers, close_quietly, let_go, open_answers
from .bell import Bell
from .future import Future

BATCH = 1 << 20  # bytes that one write takes, more or less
QUEUE_SOFT = 256  # frames in the queue from which on a submitting thread lets the feeder run
QUEUE_HARD = 8192  # and from which on it waits for it
LARGE = 128 * 1024  # bytes of a frame that is large: of these a few are many


class Channel(Answers):
    """The stream of an executor. keep: its results stay when it has ended."""

    def __init__(self, mount: str, name: str, keep: bool) -> None:
        self.keep = keep
        self.results_path = os.path.join(mount, "results", name)
        self._wfd, results = open_stream(os.path.join(mount, "jobs", name), self.results_path)
        super().__init__(mount, name, results)
        self._wfd_open = True
        self._written = len(stream.MAGIC)  # bytes that the file has, as far as we know
        self.ids = itertools.count(1)
        self.announced: Set[bytes] = set()  # the functions that this stream has
        self._out: Deque[bytes] = deque()
        self._write_lock = threading.RLock()  # reentrant for the same reason as _read_lock
        self._feed_bell = Bell()
        self.reader = threading.Thread(target=self._read_loop, name="ppfs reader of " + name, daemon=True)
        self._feeder = threading.Thread(target=self._feed_loop, name="ppfs feeder of " + name, daemon=True)
        self.reader.start()
        self._feeder.start()

    # --- writing -----------------------------------------------------------------------------------------------------

    def submit(self, future: Future, ident: int, data: bytes) -> None:
        """Sends a CALL frame; its answer will end the future."""
        if self.broken is not None:
            raise self.broken_error()
        if self._write_lock._is_owned():  # type: ignore[attr-defined]
            let_go(self._write_lock)
        self.pending[ident] = future
        try:
            if len(self.pending) == 1 and not self._out and self._write_lock.acquire(False):
                self._write_now(data)
                if self.direct and self._bell.asleep:
                    self._bell.ring()
                return
            out = self._out
            out.append(data)
            if not self._feed_bell.rung:
                self._feed_bell.ring()
            if len(out) > QUEUE_SOFT or len(data) > LARGE:
                self._give_way(len(data))
        except BaseException:  # Ctrl-C: nobody will ever ask for this future
            self.pending.pop(ident, None)
            raise

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
            let_go(self._write_lock)

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


def open_stream(jobs: str, results: str) -> Tuple[int, int]:
    """Makes a stream and opens both of its ends."""
    wfd = os.open(jobs, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(wfd, stream.MAGIC)
        return wfd, os.open(results, os.O_RDONLY | os.O_CLOEXEC)
    except BaseException:
        os.close(wfd)
        raise


def open_channels() -> List[Channel]:
    """The streams that have not ended."""
    return [answers for answers in open_answers() if isinstance(answers, Channel)]
