"""The frames of ppfs-stream(5), as a client writes and reads them."""
import hashlib
import io
import json
import pickle
import struct

MAGIC = b"\x89ppfs\r\n\x1a\x01" + bytes(7)
PART, FUNC, CALL, CANCEL, RELEASE = 1, 2, 3, 4, 5
RESULT, ERROR, OUTPUT, CANCELLED, STARTED = 33, 34, 35, 36, 37
BODY_MAX = 256 << 10


def frame(kind, ident, body=b""):
    out = b""
    while len(body) > BODY_MAX:
        out += struct.pack("<IB3xQ", BODY_MAX, PART, ident) + body[:BODY_MAX]
        body = body[BODY_MAX:]
    return out + struct.pack("<IB3xQ", len(body), kind, ident) + body


def call(ident, fn, *args, options=b"", **kwargs):
    return frame(CALL, ident, struct.pack("<BBH", 0, 0, len(options)) + options + pickle.dumps((fn, args, kwargs)))


def frames(data):
    """[(kind, id, body)], the parts put together."""
    assert data[:16] == MAGIC
    at, out, whole = 16, [], b""
    while at < len(data):
        size, kind, ident = struct.unpack_from("<IB3xQ", data, at)
        assert size <= BODY_MAX
        whole += data[at + 16:at + 16 + size]
        at += 16 + size
        if kind != PART:
            out.append((kind, ident, whole))
            whole = b""
    assert at == len(data) and whole == b""
    return out


class Named:
    """Stands in a call for the value of that name: bytes, or what a test wants to be refused."""

    def __init__(self, name):
        self.name = name


class Naming(pickle.Pickler):
    def persistent_id(self, what):
        return what.name if isinstance(what, Named) else None


def dumps(what):
    file = io.BytesIO()
    Naming(file, 5).dump(what)
    return file.getvalue()


def large_frame(kind, ident, body):
    """frame(), in time that does not grow with the square."""
    view, out = memoryview(body), []
    while len(view) > BODY_MAX:
        out += [struct.pack("<IB3xQ", BODY_MAX, PART, ident), view[:BODY_MAX]]
        view = view[BODY_MAX:]
    return b"".join([*out, frame(kind, ident, bytes(view))])


def sent(what):
    """(the hash, the FUNC frame) of a value or a function."""
    blob = pickle.dumps(what, 5)
    digest = hashlib.sha256(blob).digest()
    return digest, large_frame(FUNC, 0, digest + blob)


def naming(ident, fn, *args, lists=(), options=b"", function=None):
    """A CALL. lists: the hashes of values that it lists. function: the hash of its function, in the place of fn."""
    head = struct.pack("<BBH", function is not None, len(lists), len(options)) + options + b"".join(lists)
    what = dumps((args, {})) if function else dumps((fn, args, {}))
    return frame(CALL, ident, head + (function or b"") + what)


WINDOW = 8192  # STREAM_WINDOW in sched/db/store.h


def lines(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects)


def answers(m, name):
    return (m.results / name).read_text().splitlines()
