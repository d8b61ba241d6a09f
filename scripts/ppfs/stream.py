"""The frames of a binary stream, as ppfs-stream(5) describes them.

    file  = magic frame*
    frame = u32 size of body, u8 kind, u8[3] 0, u64 id, body        (little endian)

A body larger than BODY_MAX goes out as PART frames and comes back as such; Decoder puts them together again. Nothing
here knows about files, threads or futures.
"""
import json
import struct
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple, Union

from .errors import StreamError
from .options import check

MAGIC = b"\x89ppfs\r\n\x1a" + b"\x01" + bytes(7)
MAGIC_PORTABLE = MAGIC[:9] + b"\x01" + bytes(6)  # of a stream whose pickles every Python understands
BODY_MAX = 256 * 1024
TOTAL_MAX = (1 << 30) - 1
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


def error_body(failure: Failure) -> bytes:
    """The body of an ERROR frame (what ppfs writes; here for tests and tools)."""
    text = failure.sentence + "\n" + failure.traceback
    return _ERROR_HEAD.pack(failure.what, len(failure.exception)) + failure.exception + text.encode()


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


def split(view: memoryview, end: int) -> Tuple[List[Tuple[int, int, memoryview]], int]:
    """The whole frames in view[:end] as (kind, id, body), and where the rest begins. The bodies point into view."""
    frames: List[Tuple[int, int, memoryview]] = []
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
    """Takes the bytes of a stream in any pieces, gives the frames: kinds that it does not know are left out."""

    KNOWN = frozenset((FUNC, CALL, CANCEL, RELEASE, RESULT, ERROR, OUTPUT, CANCELLED, STARTED))

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = False
        self._parts: Dict[int, bytearray] = {}

    def feed(self, data: Bytes) -> List[Tuple[int, int, bytes]]:
        """The frames that are whole now."""
        self._rest += data
        if not self._begun:
            if not check_magic(self._rest):
                return []
            del self._rest[:len(MAGIC)]
            self._begun = True
        with memoryview(self._rest) as view:
            frames, at = split(view, len(view))
            out = [(kind, ident, bytes(body)) for kind, ident, body in frames]
            for _, _, body in frames:
                body.release()
        del self._rest[:at]
        whole: List[Tuple[int, int, bytes]] = []
        for kind, ident, data in out:
            if kind == PART:
                part = self._parts.setdefault(ident, bytearray())
                part += data
                if len(part) > TOTAL_MAX:
                    raise StreamError("a frame of more than %d bytes" % TOTAL_MAX)
                continue
            if self._parts:
                if ident not in self._parts:
                    raise StreamError("a PART frame that is not followed by its frame")
                data = bytes(self._parts.pop(ident) + data)
            if kind in self.KNOWN:
                whole.append((kind, ident, data))
            elif kind < SKIP_FROM:
                raise StreamError("a frame of the unknown kind %d" % kind)
        return whole

    @property
    def rest(self) -> int:
        """How many bytes wait for the rest of their frame."""
        return len(self._rest)


def check_magic(data: Bytes) -> bool:
    """Whether the first bytes are those of a stream; False: too few to tell; StreamError: they are not."""
    head = bytes(data[:len(MAGIC)])
    if head[:8] != MAGIC[:len(head[:8])]:
        raise StreamError("what came back is not a ppfs stream")
    if len(head) > 8 and head[8] != MAGIC[8]:
        raise StreamError("the stream has version %d, this ppfs package reads %d" % (head[8], MAGIC[8]))
    return len(head) == len(MAGIC)
