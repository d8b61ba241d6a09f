"""The frames byte by byte, with samples that were written down by hand from ppfs-stream(5)."""
import pickle
import random
import re
import struct
from pathlib import Path

import pytest
from fakestream import Decoder, error_body

from ppfs._stream import frames as stream
from ppfs.errors import StreamError

MAGIC = bytes.fromhex("89 70 70 66 73 0d 0a 1a 01 00 00 00 00 00 00 00")
FUNC = bytes.fromhex("25000000 02 000000 0000000000000000") + bytes(range(32)) + b"code."
CALL = bytes.fromhex("3c000000 03 000000 0700000000000000" "01 00 0e00")
CALL += b'{"priority":5}' + bytes(range(32)) + b"(args)N..."
CANCEL = bytes.fromhex("00000000 04 000000 0700000000000000")
RESULT = bytes.fromhex("05000000 21 000000 0700000000000000") + b"\x80\x04K\x2a."
ERROR = bytes.fromhex("1c000000 22 000000 0800000000000000" "01 000000 03000000") + b"exc" + b"it failed\nTraceb."
OUTPUT = bytes.fromhex("04000000 23 000000 0700000000000000" "01") + b"hi\n"
CANCELLED = bytes.fromhex("00000000 24 000000 0900000000000000")
STARTED = bytes.fromhex("00000000 25 000000 0700000000000000")
SAMPLES = [
    (2, 0, bytes(range(32)) + b"code."),
    (3, 7, b"\x01\x00\x0e\x00" + b'{"priority":5}' + bytes(range(32)) + b"(args)N..."),
    (4, 7, b""),
    (33, 7, b"\x80\x04K\x2a."),
    (34, 8, b"\x01\0\0\0\x03\0\0\0excit failed\nTraceb."),
    (35, 7, b"\x01hi\n"),
    (36, 9, b""),
    (37, 7, b""),
]
STREAM = MAGIC + FUNC + CALL + CANCEL + RESULT + ERROR + OUTPUT + CANCELLED + STARTED


def test_samples_are_what_is_written():
    assert stream.MAGIC == MAGIC
    assert stream.MAGIC + b"".join(stream.frame(*sample) for sample in SAMPLES) == STREAM


def test_samples_are_read():
    assert Decoder().feed(STREAM) == SAMPLES


@pytest.mark.parametrize("size", [1, 2, 3, 7, 15, 16, 17, 33])
def test_cut_anywhere(size):
    decoder, frames = Decoder(), []
    for at in range(0, len(STREAM), size):
        frames += decoder.feed(STREAM[at:at + size])
    assert frames == SAMPLES and decoder.rest == 0


def test_call_body():
    prefix = stream.call_prefix(stream.options_bytes({"priority": 5}), bytes(range(32)))
    assert stream.frame(stream.CALL, 7, prefix + b"(args)N...") == CALL
    assert stream.call_prefix(b"", None) == b"\0\0\0\0"


def test_error_body():
    failure = stream.read_error(SAMPLES[4][2])
    assert failure == (stream.RAISED, b"exc", "it failed", "Traceb.")
    assert error_body(failure) == SAMPLES[4][2]
    assert stream.read_error(b"\x03\0\0\0\0\0\0\0killed by SIGKILL\n") == (stream.DIED, b"", "killed by SIGKILL", "")
    assert stream.read_error(b"\x03\0\0\0\0\0\0\0no newline") == (stream.DIED, b"", "no newline", "")


def test_output_body():
    assert stream.read_output(b"\x02oh\xff") == (stream.STDERR, b"oh\xff")
    for wrong in (b"", b"\x03x"):
        with pytest.raises(StreamError):
            stream.read_output(wrong)


@pytest.mark.parametrize("size", [0, 1, 262143, 262144, 262145, 524288, 524289, 3000000])
def test_large_bodies_go_in_parts(size):
    body = random.Random(size).randbytes(size)
    data = stream.frame(stream.RESULT, 5, body)
    at, kinds = 0, []
    while at < len(data):
        length, kind, ident = struct.unpack_from("<IB3xQ", data, at)
        assert length <= 262144 and ident == 5
        kinds.append(kind)
        at += 16 + length
    assert at == len(data) and kinds == [1] * (len(kinds) - 1) + [33] and len(kinds) == max(1, -(-size // 262144))
    decoder, frames = Decoder(), []
    for i in range(0, len(MAGIC + data), 100_000):
        frames += decoder.feed((MAGIC + data)[i:i + 100_000])
    assert frames == [(stream.RESULT, 5, body)]


def test_unknown_kinds():
    later = stream.frame(64, 1, b"new") + stream.frame(255, 2, b"")
    assert Decoder().feed(MAGIC + later + RESULT) == [SAMPLES[3]]
    for kind in (0, 6, 32, 38, 63):
        with pytest.raises(StreamError):
            Decoder().feed(MAGIC + stream.frame(kind, 1, b""))


@pytest.mark.parametrize("data, words", [
    (b"#!/bin/sh\n", "not a ppfs stream"),
    (b"\x89ppfs\r\n\x1a\x02" + bytes(7), "version 2"),
    (b"\x89ppfs\n", "not a ppfs stream"),  # went through something that changes line ends
    (MAGIC + struct.pack("<IB3xQ", 262145, 33, 1), "not a frame"),
    (MAGIC + struct.pack("<IB3sQ", 0, 33, b"\0\1\0", 1), "not a frame"),
    (MAGIC + stream.frame(1, 1, b"part") + stream.frame(33, 2, b""), "not followed"),
])
def test_what_is_no_stream(data, words):
    with pytest.raises(StreamError, match=words):
        Decoder().feed(data)


@pytest.mark.parametrize("body", [b"", b"\x01\0\0\0", b"\x01\0\0\0\x05\0\0\0abc", b"\x01\0\0\0\xff\xff\xff\xff"])
def test_errors_that_are_cut(body):
    with pytest.raises(StreamError):
        stream.read_error(body)


def test_random_bytes_never_do_worse_than_stream_error():
    rng = random.Random(1)
    for _ in range(500):
        data = bytearray(STREAM)
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            for kind, _, body in Decoder().feed(data):
                if kind == stream.ERROR:
                    stream.read_error(body)
                elif kind == stream.OUTPUT:
                    stream.read_output(body)
        except StreamError:
            pass


def test_options():
    assert stream.options_bytes({}) == b""
    with pytest.raises(ValueError, match="colour"):
        stream.options_bytes({"colour": 1})
    with pytest.raises(ValueError, match="65535"):
        stream.options_bytes({"env": ["A:" + "x" * 40000] * 2})
    with pytest.raises(TypeError):
        stream.options_bytes({"timeout": object()})


def test_frame_too_large():
    class Long(bytes):
        def __len__(self):
            return 1 << 30
    with pytest.raises(ValueError, match="1073741824"):
        stream.frame(stream.CALL, 1, Long())
    assert pickle.loads(SAMPLES[3][2]) == 42


def test_the_example_of_the_manual():
    page = (Path(__file__).resolve().parents[2] / "man" / "ppfs-stream.5").read_text()
    sample = re.search(r"^\.Bd.*\n((?:[0-9a-f]{2}[ \n]+){32,})\.Ed", page, re.MULTILINE).group(1)
    (kind, ident, body), = Decoder().feed(bytes.fromhex(sample))
    assert (kind, ident, body[:4]) == (stream.CALL, 1, bytes(4)) and pickle.loads(body[4:]) == (abs, (-1,), {})


def test_pieces_are_the_frame():
    """What goes out in pieces is byte for byte what goes out in one."""
    rng = random.Random(7)
    data = rng.randbytes(3 * stream.BODY_MAX + 17)
    for size in (1, stream.BODY_MAX - 1, stream.BODY_MAX, stream.BODY_MAX + 1, 2 * stream.BODY_MAX, len(data)):
        for _ in range(5):
            cuts = sorted(rng.randrange(size + 1) for _ in range(3))
            bodies = [data[a:b] for a, b in zip([0, *cuts], [*cuts, size])]
            whole = b"".join(stream.frame_pieces(stream.CALL, 9, bodies))
            assert whole == stream.frame(stream.CALL, 9, data[:size])
            assert Decoder().feed(MAGIC + whole) == [(stream.CALL, 9, data[:size])]
