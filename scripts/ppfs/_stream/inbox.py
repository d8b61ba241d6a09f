"""Bytes that came from results/NAME: each is delivered, none is lost to a Ctrl-C.

How much a read() has brought is noted by the call that reads, in C, so that no interrupt comes between the two. A thread
that reads for itself only looks at what has come; it takes its own answer when that is all there is, and leaves anything
else to the reader thread, which nothing interrupts.
"""
import os
from typing import List, Optional

from .frames import BUFFER, Decoder, Frame

ALONE = 16 * 1024  # bytes that a thread reads for itself: the kernel pins the pages that it could fill


class Inbox:
    """What is read from a file. Whoever reads must be the only one."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._decoder = Decoder()
        self._brought: List[int] = []  # what the last read() has brought, unless it was taken

    def begun(self) -> bool:
        """Whether the first bytes have come, which say what it is."""
        return self._decoder.begun

    def unread(self) -> bool:
        """Whether there is something that another thread has read and not taken."""
        return bool(self._brought)

    def read(self, most: int = BUFFER) -> None:
        """One read(), unless there is something unread."""
        if not self._brought:
            self._brought.extend(map(os.readv, (self.fd,), ([self._decoder.room()[:most]],)))

    def frames(self) -> Optional[List[Frame]]:
        """Takes what was read, as frames whose bodies are good until the next read(). None: that was the end."""
        n = self._brought.pop()
        return self._decoder.take(n) if n else None

    def only(self) -> Optional[Frame]:
        """The frame that was read, when it is one frame and nothing else; it is not taken."""
        return self._decoder.only(self._brought[0]) if self._brought else None

    def discard(self) -> None:
        """Takes what only() has given."""
        self._brought.clear()

    def close(self) -> None:
        """Nothing is read any more."""
        os.close(self.fd)
