"""The frames of a binary stream, as ppfs-stream(5) describes them.

    file  = magic frame*
    frame = u32 size of body, u8 kind, u8[3] 0, u64 id, body        (little endian)

A body larger than BODY_MAX goes out as PART frames and comes back as such; Decoder puts them together again. Nothing
here knows about files, threads or futures.
"""
import json
import struct
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from ..errors import StreamError
from ..options import check

MAGIC = b"\x89ppfs\r\n\x1a" + b"\x01" + bytes(7)
MAGIC_PORTABLE = MAGIC[:9] + b"\x01" + bytes(6)  # of a stream whose pickles every Python understands
BODY_MAX = 256 * 1024
TOTAL_MAX = (1 << 30) - 1
BUFFER, BUFFER_SMALL = 1 << 20, 1 << 16  # bytes that one read may give; while little comes: less has to be pinned
HEADER = struct.Struct("<IB3sQ")
HEADER_SIZE = HEADER.size

PART, FUNC, CALL, CANCEL, RELEASE = 1, 2, 3, 4, 5
RESULT, ERROR, OUTPUT, CANCELLED, STARTED = 33, 34, 35, 36, 37
SKIP_FROM = 64  # kinds from here on are skipped by a reader that does not know them

RAISED, UNUSABLE, DIED, TIMED_OUT, NOT_STARTED, BAD_OPTIONS = 1, 2, 3, 4, 5, 6  # the first byte of an ERROR
STDOUT, STDERR = 1, 2  # the first byte of an OUTPUT

FORMAT_WHOLE, FORMAT_HASH = 0, 1  # the first byte of a CALL
OPTIONS_MAX = 0xFFFF

Bytes = Union[bytes, bytearray, memoryview]
Frame = Tuple[int, int, memoryview]  # kind, id, body
_NO_PAD = bytes(3)
_ERROR_HEAD = struct.Struct("<B3xI")
_SHORT = struct.Struct("<BBH")
_pack_header = struct.Struct("<IB3xQ").pack


class Failure(NamedTuple):
    """An ERROR frame, read."""

    what: int
    exception: bytes  # a pickle, or nothing
    sentence: str
    traceback: str


def frame(kind: int, ident: int, body: Bytes = b"") -> bytes:
    """One frame, and the PART frames that it needs before it when the body is large."""
    size = len(body)
    if size <= BODY_MAX:
        return _pack_header(size, kind, ident) + body
    return b"".join(frame_pieces(kind, ident, [body]))


def frame_pieces(kind: int, ident: int, bodies: Sequence[Bytes]) -> List[Bytes]:
    """frame() of a large body that lies in several pieces, as what is to be written one after the other: nothing is
    copied."""
    left = sum(map(len, bodies))
    if left > TOTAL_MAX:
        raise ValueError("%d bytes are more than the %d that one frame of a stream may carry" % (left, TOTAL_MAX))
    pieces: List[Bytes] = []
    room = 0  # bytes that the frame under way still lacks
    for body in bodies:
        view = memoryview(body)
        while view:
            if not room:
                room = min(left, BODY_MAX)
                pieces.append(_pack_header(room, PART if left > BODY_MAX else kind, ident))
            pieces.append(view[:room])
            view = view[room:]
            taken = len(pieces[-1])
            room, left = room - taken, left - taken
    return pieces


def options_bytes(options: Mapping[str, Any]) -> bytes:
    """The options of a CALL as they stand in its body; ValueError or TypeError name what is no such option."""
    check(options)
    text = json.dumps(dict(options), separators=(",", ":")).encode() if options else b""
    if len(text) > OPTIONS_MAX:
        raise ValueError("the options of a call may take %d bytes, these take %d" % (OPTIONS_MAX, len(text)))
    return text


def call_prefix(options: bytes, digest: Optional[bytes]) -> bytes:
    """What stands before the pickle in the body of a CALL: digest names a FUNC, None means that the pickle has it."""
    if digest is None:
        return _SHORT.pack(FORMAT_WHOLE, 0, len(options)) + options
    return _SHORT.pack(FORMAT_HASH, 0, len(options)) + options + digest


def naming(prefix: bytes, digests: Sequence[bytes]) -> bytes:
    """A call_prefix that lists values too."""
    at = _SHORT.size + _SHORT.unpack_from(prefix)[2]
    return b"".join((prefix[:1], bytes((len(digests),)), prefix[2:at], *digests, prefix[at:]))


def read_error(body: Bytes) -> Failure:
    """Reads the body of an ERROR frame."""
    if len(body) < _ERROR_HEAD.size:
        raise StreamError("an ERROR frame of %d bytes" % len(body))
    what, size = _ERROR_HEAD.unpack_from(body)
    end = _ERROR_HEAD.size + size
    if end > len(body):
        raise StreamError("an ERROR frame whose exception is longer than the frame")
    sentence, _, trace = bytes(body[end:]).decode("utf-8", "replace").partition("\n")
    return Failure(what, bytes(body[_ERROR_HEAD.size:end]), sentence, trace)


def read_output(body: Bytes) -> Tuple[int, bytes]:
    """Reads the body of an OUTPUT frame: (STDOUT or STDERR, what was printed)."""
    if len(body) < 1 or body[0] not in (STDOUT, STDERR):
        raise StreamError("an OUTPUT frame of neither stdout nor stderr")
    return body[0], bytes(body[1:])


def split(view: memoryview, end: int) -> Tuple[List[Frame], int]:
    """The whole frames in view[:end] as (kind, id, body), and where the rest begins. The bodies point into view."""
    frames: List[Frame] = []
    add = frames.append
    read = HEADER.unpack_from
    at = 0
    while end - at >= HEADER_SIZE:
        size, kind, pad, ident = read(view, at)
        if size > BODY_MAX or pad != _NO_PAD:
            raise StreamError("what came back at byte %d is not a frame" % at)
        body = at + HEADER_SIZE
        after = body + size
        if after > end:
            break
        add((kind, ident, view[body:after]))
        at = after
    return frames, at


class Decoder:
    """Takes the bytes of a stream in any pieces, gives the frames: kinds that it does not know are left out.

    Bytes are read to where room() says, and become frames by take().
    """

    KNOWN = frozenset((FUNC, CALL, CANCEL, RELEASE, RESULT, ERROR, OUTPUT, CANCELLED, STARTED))

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER_SMALL))
        self._rest = slice(0, 0)  # of a frame that is not whole yet
        self._much = False  # the last bytes filled the room that there was
        self.begun = False  # the magic has come
        self._parts: Optional[Tuple[int, bytearray]] = None  # the id and the body of a frame that comes in parts

    def room(self) -> memoryview:
        """Where the next bytes are to be put."""
        size = self.rest
        if self._rest.start:
            self._view[:size] = self._view[self._rest]
            self._rest = slice(0, size)
        if self._much and len(self._view) < BUFFER:
            old, self._view = self._view, memoryview(bytearray(BUFFER))
            self._view[:size] = old[:size]
        return self._view[size:] if self._much else self._view[size:size + BUFFER_SMALL]

    def take(self, n: int) -> List[Frame]:
        """The frames that are whole with the n bytes that were put there. Their bodies are good until room() is called
        again."""
        start, end = self._rest.start, self._rest.stop + n
        self._much = n >= BUFFER_SMALL - self.rest
        self._rest = slice(start, end)
        if not self.begun:
            if not check_magic(self._view[:end]):
                return []
            self.begun = True
            start += len(MAGIC)
        frames, at = split(self._view[start:end], end - start)
        self._rest = slice(start + at, end)
        if self._parts is None and {kind for kind, _, _ in frames} <= self.KNOWN:
            return frames
        return [frame for frame in map(self._whole, frames) if frame is not None]

    def only(self, n: int) -> Optional[Frame]:
        """The frame that the n bytes that were put there are, when they are one; take() is still to be called."""
        if self.rest or self._parts is not None or not self.begun:
            return None
        frames, at = split(self._view, n)
        return frames[0] if len(frames) == 1 and at == n and frames[0][0] in self.KNOWN else None

    def _whole(self, frame: Frame) -> Optional[Frame]:
        """The frame with the parts that came before it; None for a part, and for a kind that is not known."""
        kind, ident, body = frame
        if self._parts is not None and self._parts[0] != ident:
            raise StreamError("a PART frame that is not followed by its frame")
        if self._parts is not None or kind == PART:
            whole = self._parts[1] if self._parts is not None else bytearray()
            whole += body
            if len(whole) > TOTAL_MAX:
                raise StreamError("a frame of more than %d bytes" % TOTAL_MAX)
            self._parts = (ident, whole) if kind == PART else None
            body = memoryview(whole) if kind != PART else body
        if kind in self.KNOWN:
            return kind, ident, body
        if kind < SKIP_FROM and kind != PART:
            raise StreamError("a frame of the unknown kind %d" % kind)
        return None

    @property
    def rest(self) -> int:
        """How many bytes wait for the rest of their frame."""
        start: int = self._rest.start
        stop: int = self._rest.stop
        return stop - start


def check_magic(data: Bytes) -> bool:
    """Whether the first bytes are those of a stream; False: too few to tell; StreamError: they are not."""
    head = bytes(data[:len(MAGIC)])
    if head[:8] != MAGIC[:len(head[:8])]:
        raise StreamError("what came back is not a ppfs stream")
    if len(head) > 8 and head[8] != MAGIC[8]:
        raise StreamError("the stream has version %d, this ppfs package reads %d" % (head[8], MAGIC[8]))
    return len(head) == len(MAGIC)
