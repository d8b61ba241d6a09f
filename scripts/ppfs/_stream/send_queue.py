"""Bytes on their way to jobs/NAME: each is written once, in order.

How much a write() has taken is noted by the call that writes, in C, so that no Ctrl-C comes between the two. What was
written leaves the list of what waits in one assignment.
"""
import os
from itertools import chain
from typing import Dict, List, Tuple

from . import frames

BATCH = 1 << 20  # bytes that one write takes, more or less
FEW = 64  # pieces that go out as they are; more are small, and joined before
Pieces = List[frames.Bytes]


class SendQueue:
    """What is to be written to a file. Everything but write() needs the lock of the connection."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.size = 0  # bytes that wait, as a measure
        self.written = 0  # bytes that were written
        self._left: Tuple[Pieces, List[int]] = ([], [])  # what waits; how much of it has been written since

    def __len__(self) -> int:
        """How many pieces wait."""
        return len(self._left[0])

    def add(self, pieces: Pieces) -> None:
        """What is to be written next."""
        self._left[0].extend(pieces)
        self.size += len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))

    def take(self, waiting: Dict[int, Pieces], ident: int) -> None:
        """Moves the pieces of that number to what is to be written next, in one call of C."""
        size = sum(map(len, waiting[ident]))
        self._left[0].extend(chain.from_iterable(map(waiting.pop, (ident,))))
        self.size += size

    def end(self) -> int:
        """How many bytes will have been written when nothing waits."""
        return self.written + self.size

    def flush(self) -> None:
        """Writes everything, in the calling thread."""
        while self.settle():
            self.write(self.batch())

    def settle(self) -> bool:
        """Forgets what has been written. Whether something waits."""
        pieces, written = self._left
        n = sum(written)
        if n:
            pieces = behind(pieces, n)
            self._left = pieces, []
            self.size -= n
            self.written += n
        return bool(pieces)

    def batch(self) -> Pieces:
        """What one write() may take."""
        pieces = self._left[0]
        size = count = 0
        for piece in pieces:
            size += len(piece)
            count += 1
            if size >= BATCH:
                break
        batch = pieces[:count]
        return batch if count <= FEW else [b"".join(batch)]

    def write(self, batch: Pieces) -> None:
        """One write(), which may take less than the batch. Needs no lock, and no second thread that does it too."""
        self._left[1].extend(map(os.writev, (self.fd,), (batch,)))


def behind(pieces: Pieces, n: int) -> Pieces:
    """What is left of the pieces behind their first n bytes."""
    at = 0
    while at < len(pieces) and n >= len(pieces[at]):
        n -= len(pieces[at])
        at += 1
    left = pieces[at:]
    if left and n > 0:
        left[0] = memoryview(left[0])[n:]
    return left
