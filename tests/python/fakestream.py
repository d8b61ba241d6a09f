"""A ppfs without a mount: one process that reads the frames of a stream from a pipe, runs the calls one after the
other, and answers through another. For what the client does with answers that a real ppfs never gives, and to count
what the client itself costs."""
import io
import os
import pickle
import struct
import threading
import traceback
from contextlib import contextmanager

from ppfs._stream import frames as stream
from ppfs._stream import channel


class Decoder(stream.Decoder):
    def feed(self, data):
        """The frames that are whole with these bytes, which may be any piece of a stream."""
        whole, left = [], memoryview(data)
        while left:
            room = self.room()
            n = min(len(room), len(left))
            room[:n] = left[:n]
            left = left[n:]
            whole += [(kind, ident, bytes(body)) for kind, ident, body in self.take(n)]
        return whole


def error_body(failure):
    """The body of an ERROR, as ppfs writes it."""
    text = failure.sentence + "\n" + failure.traceback
    return struct.pack("<B3xI", failure.what, len(failure.exception)) + failure.exception + text.encode()


class Unpickler(pickle.Unpickler):
    def persistent_load(self, key):
        return pickle.loads(self.funcs[key])


def load(funcs, data):
    unpickler = Unpickler(io.BytesIO(data))
    unpickler.funcs = funcs
    return unpickler.load()


def function(funcs, key):
    """Loaded once, as in a worker: what is sent with a function, to look at it there, takes a compiler milliseconds."""
    if (key,) not in funcs:
        funcs[(key,)] = pickle.loads(funcs[key])
    return funcs[(key,)]


def answer(funcs, kind, ident, body):
    """What a ppfs answers to one frame."""
    if kind == stream.FUNC:
        funcs[body[:32]] = body[32:]
        return b""
    if kind != stream.CALL:
        return b""
    at = 4 + int.from_bytes(body[2:4], "little") + 32 * body[1]
    try:
        if body[0] == stream.FORMAT_HASH:
            func = function(funcs, body[at:at + 32])
            args, kwargs = load(funcs, body[at + 32:])
        else:
            func, args, kwargs = load(funcs, body[at:])
        return stream.frame(stream.RESULT, ident, pickle.dumps(func(*args, **kwargs), 5))
    except Exception as error:
        failure = stream.Failure(stream.RAISED, pickle.dumps(error), repr(error), traceback.format_exc())
        return stream.frame(stream.ERROR, ident, error_body(failure))


def serve(calls, answers, respond):
    """Runs in the child. respond(funcs, kind, id, body) -> bytes; None ends the stream at once."""
    decoder, funcs = Decoder(), {}
    os.write(answers, stream.MAGIC)
    while True:
        data = os.read(calls, 1 << 20)
        if not data:
            return
        out = []
        for frame in decoder.feed(data):
            reply = respond(funcs, *frame)
            if reply is None:
                return
            out.append(reply)
        view = memoryview(b"".join(out))
        while view:
            view = view[os.write(answers, view):]


def is_still(fd, inode):
    try:
        return os.fstat(fd).st_ino == inode
    except OSError:
        return False


@contextmanager
def fake_ppfs(monkeypatch, respond=answer):
    """Every stream that is opened meanwhile is answered by respond."""
    children, ours, one_at_a_time = [], [], threading.Lock()

    def open_stream(jobs, results, magic, trusted):
        with one_at_a_time:
            return start(magic)

    def start(magic):
        calls_r, calls_w = os.pipe()
        answers_r, answers_w = os.pipe()
        ours.extend((fd, os.fstat(fd).st_ino) for fd in (calls_w, answers_r))
        pid = os.fork()
        if pid == 0:
            try:
                for fd, inode in ours:  # of other streams too, which are to end when their executor closes them
                    if is_still(fd, inode):
                        os.close(fd)
                serve(calls_r, answers_w, respond)
            finally:
                os._exit(0)
        children.append(pid)
        os.close(calls_r)
        os.close(answers_w)
        os.write(calls_w, magic)
        return calls_w, answers_r

    monkeypatch.setattr(channel, "open_stream", open_stream)
    monkeypatch.setattr("ppfs.mount.find", lambda mount=None, **_: "/nowhere")
    monkeypatch.setattr("ppfs.trust.check_directory", lambda *_: None)
    try:
        yield
    finally:
        for pid in children:
            os.waitpid(pid, 0)
