"""Jobs as files, by name, without an executor: submit_file, result, wait, and an async form of each."""
import asyncio
import errno
import io
import itertools
import json
import os
import pickle
import select
import shlex
import time
import uuid
from typing import Any, Dict, FrozenSet, List, Literal, Optional, Tuple, Union, overload

from . import mount as mounts
from . import trust as trust_of
from ._pickle.serialize import Serializer
from .errors import JobCancelled, JobFailed, JobTimeout, NotTrusted
from .options import check, texts

Content = Union[str, "os.PathLike[str]", bytes, Dict[str, Any], Tuple[Any, ...]]

_PIECE = 1 << 20


def submit_file(what: Content, name: Optional[str] = None, *, mount: Optional[mounts.MountLike] = None,
                replace: bool = True, **options: Any) -> str:
    """Submits a job file and returns its name in jobs/.

    what: a path (the file is copied), bytes (the content), a dict (one JSON object), or a tuple (func, args, kwargs),
    pickled. name: by default the name of the file, else a new one. replace=False: FileExistsError when the name is
    taken. options go into the JSON object or into a script's comment; a pickle takes none but those of its group.
    One that is given there, too, is a ValueError.
    NoMount: there is no ppfs. TypeError, ValueError: what, or an option, is not what it should be.
    """
    content, given = _content(what, options)
    name = name or given or "py-%s" % uuid.uuid4().hex[:12]
    path = os.path.join(mounts.find(mount), "jobs", name)
    if replace:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    else:
        fd = mounts.make_new(path)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view[:_PIECE]):]
    finally:
        os.close(fd)
    return name


def _content(what: Content, options: Dict[str, Any]) -> Tuple[bytes, str]:
    """(the bytes of the job file, the name that it suggests)."""
    check(options, "job")
    if isinstance(what, dict):
        for name in options.keys() & what.keys():
            raise ValueError("the option %s is given twice, here and in the JSON object" % name)
        return json.dumps({**what, **options}).encode() + b"\n", ""
    if isinstance(what, tuple):
        if options:
            raise ValueError("a pickled call takes its options from its group (jobs/GROUP/.options), "
                             "or through ppfs.Executor")
        func, args, kwargs = (*what, (), {})[:3] if len(what) < 3 else what
        if not callable(func):
            raise TypeError("a pickled call is (func, args, kwargs), and %r cannot be called" % (func,))
        return Serializer().call(func, tuple(args), dict(kwargs)), ""
    name = ""
    if isinstance(what, (bytes, bytearray)):
        content = bytes(what)
    elif isinstance(what, (str, os.PathLike)):
        with open(what, "rb") as file:
            content = file.read()
        name = os.path.basename(os.fspath(what))
    else:
        raise TypeError("a job is a path, bytes, a dict or a tuple, not a %s" % type(what).__name__)
    return (_with_comment(content, options) if options else content), name


def _with_comment(script: bytes, options: Dict[str, Any]) -> bytes:
    """The script with its options in a comment behind the #! line."""
    script = script.removeprefix(b"\xef\xbb\xbf")  # a byte order mark, which stands before all else or is none
    if script[:1] in (b"\x80", b"\x7f", b"\x89") or script.lstrip()[:1] == b"{":
        raise ValueError("options can be put into a script; give those of a JSON object as its keys")
    words, said = [], _said(script)
    for key, value in options.items():
        for text in _option_texts(key, value):
            if any(c.isspace() for c in text):
                raise ValueError("the option %s=%r holds a blank, which a script's comment cannot" % (key, text))
            words.append("%s=%s" % (key, text))
            if key != "after" and _once(words[-1]) in said:
                raise ValueError("the option %s is given twice, here and in the script" % _once(words[-1]))
    line = os.fsencode("#ppfs: %s\n" % " ".join(words))
    if script.startswith(b"#!"):
        first, newline, rest = script.partition(b"\n")
        return first + b"\n" + line + rest
    return line + script


def _once(word: str) -> str:
    """What there is one of: the option, or the variable."""
    name, _, value = word.partition("=")
    return "env=%s" % value.partition(":")[0] if name == "env" else name


def _said(script: bytes) -> FrozenSet[str]:
    """Which options the comments of a script give: those before its first other line."""
    said: List[str] = []
    for line in itertools.takewhile(lambda line: line.strip(b"\r\n") == b"" or line[:1] == b"#", io.BytesIO(script)):
        if line.startswith(b"#ppfs:"):
            try:
                said += map(_once, shlex.split(os.fsdecode(line[len(b"#ppfs:"):])))
            except ValueError:  # ppfs says what is wrong with it
                pass
    return frozenset(said)


def _option_texts(name: str, value: Any) -> Tuple[str, ...]:
    """What stands behind the = of one option; env is given once for each variable."""
    return (",".join(value),) if name == "after" and not isinstance(value, str) else tuple(texts(name, value))


@overload
def result(name: str, *, mount: Optional[mounts.MountLike] = None, timeout: Optional[float] = None,
           load: Literal[False] = False, trust: trust_of.TrustLike = None) -> bytes: ...


@overload
def result(name: str, *, mount: Optional[mounts.MountLike] = None, timeout: Optional[float] = None,
           load: bool, trust: trust_of.TrustLike = None) -> Any: ...


def result(name: str, *, mount: Optional[mounts.MountLike] = None, timeout: Optional[float] = None,
           load: bool = False, trust: trust_of.TrustLike = None) -> Any:
    """Waits for the job and gives what is in results/NAME as bytes; load: unpickles it (for a pickled call).

    JobFailed, JobTimeout (its option timeout) or JobCancelled say why there is none; TimeoutError: it has not ended
    in time. NotTrusted: it is another user's, and is loaded only when trust names him (his name or uid, or several of
    these). ValueError: load, of a job that is no pickled call.
    """
    where, trusted = mounts.find(mount, start=False), trust_of.users(trust)
    path = os.path.join(where, "results", name)
    try:
        if timeout is None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        else:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if load:
                _check_load(fd, where, name, trusted)
            data = _read_all(fd, None if timeout is None else time.monotonic() + timeout)
        finally:
            os.close(fd)
    except NotTrusted:
        raise
    except OSError as error:
        raise _failure(where, name, error) from None
    return pickle.loads(data) if load else data


def _check_load(fd: int, mount: str, name: str, trusted: FrozenSet[int]) -> None:
    """Raises where the result must not be unpickled. What a program prints is data, wherever it has it from."""
    trust_of.check(fd, "the result %r on %s" % (name, mount), trusted)
    with open(os.path.join(mount, "info", name, "spec"), "rb") as spec:
        if spec.read(1) != b"\x80":
            raise ValueError("the job %r is no pickled call, so its result is not loaded: leave out load=" % name)


def _read_all(fd: int, end: Optional[float]) -> bytes:
    pieces: List[bytes] = []
    poll = None
    while True:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            left = (end or 0.0) - time.monotonic()
            if left <= 0:
                raise TimeoutError("it has not ended in time") from None
            if poll is None:
                poll = select.poll()
                poll.register(fd, select.POLLIN)
            poll.poll(left * 1000)
            continue
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def _failure(mount: str, name: str, error: OSError) -> BaseException:
    """What the errno of results/NAME means."""
    if isinstance(error, TimeoutError) and error.errno is None:
        return error
    kinds = {errno.EIO: JobFailed, errno.ETIMEDOUT: JobTimeout, errno.ECANCELED: JobCancelled}
    kind = kinds.get(error.errno or 0)
    if kind is None:
        return error
    why, text = _text(mount, "info/%s/why" % name).strip(), _text(mount, "failures/%s" % name)
    if kind is JobCancelled:
        why = why or "it was cancelled"
    return kind(name, why or error.strerror or "", text)


def _text(mount: str, path: str) -> str:
    try:
        with open(os.path.join(mount, path), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def wait(name: str = "", *, mount: Optional[mounts.MountLike] = None, timeout: Optional[float] = None) -> str:
    """Waits until the job has ended and gives its state: done, failed or cancelled. For a group, or '' for
    everything: waits until nothing in it is unfinished and gives its line, "done N failed M", and " cancelled K" where
    some were. TimeoutError: not in time."""
    where = mounts.find(mount, start=False)
    group = os.path.join(where, "info", name, ".wait")
    if not name or os.path.exists(group):
        return _wait_group(group, timeout)
    if timeout is not None:
        _wait_ended(where, name, timeout)
    with open(os.path.join(where, "info", name, "wait"), encoding="utf-8") as file:
        return file.read().strip()


def _wait_group(path: str, timeout: Optional[float]) -> str:
    if timeout is None:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    end = time.monotonic() + timeout
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            try:
                return os.read(fd, 4096).decode().strip()
            except BlockingIOError:
                pass
            left = end - time.monotonic()
            if left <= 0:
                with open(os.path.join(os.path.dirname(path), ".progress"), encoding="utf-8") as file:
                    raise TimeoutError("not finished in time: " + file.read().strip())
            poll.poll(left * 1000)
    finally:
        os.close(fd)


def _wait_ended(mount: str, name: str, timeout: float) -> None:
    """Returns when results/NAME would open without waiting."""
    end = time.monotonic() + timeout
    try:
        fd = os.open(os.path.join(mount, "results", name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        return  # it has failed
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while True:
            try:
                os.read(fd, 1)
                return
            except BlockingIOError:
                left = end - time.monotonic()
                if left <= 0:
                    raise TimeoutError("%s has not ended in time" % name) from None
                poll.poll(left * 1000)
            except OSError:
                return
    finally:
        os.close(fd)


# --- for asyncio -----------------------------------------------------------------------------------------------------

async def submit_file_async(what: Content, name: Optional[str] = None, *, mount: Optional[mounts.MountLike] = None,
                            replace: bool = True, **options: Any) -> str:
    """submit_file() in a thread."""
    return await asyncio.to_thread(submit_file, what, name, mount=mount, replace=replace, **options)


@overload
async def result_async(name: str, *, mount: Optional[mounts.MountLike] = None, load: Literal[False] = False,
                       trust: trust_of.TrustLike = None) -> bytes: ...


@overload
async def result_async(name: str, *, mount: Optional[mounts.MountLike] = None, load: bool,
                       trust: trust_of.TrustLike = None) -> Any: ...


async def result_async(name: str, *, mount: Optional[mounts.MountLike] = None, load: bool = False,
                       trust: trust_of.TrustLike = None) -> Any:
    """result() without a thread: the loop is woken by the file itself, and cancelling leaves nothing behind."""
    where, trusted = await asyncio.to_thread(mounts.find, mount, start=False), trust_of.users(trust)
    try:
        fd = await asyncio.to_thread(os.open, os.path.join(where, "results", name),
                                     os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if load:
                await asyncio.to_thread(_check_load, fd, where, name, trusted)
            await _readable(fd)
            data = await asyncio.to_thread(_read_all, fd, None)
        finally:
            os.close(fd)
    except NotTrusted:
        raise
    except OSError as error:
        raise await asyncio.to_thread(_failure, where, name, error) from None
    return pickle.loads(data) if load else data


async def _readable(fd: int) -> None:
    """Returns when read() would not wait (it may say why there is nothing)."""
    loop = asyncio.get_running_loop()
    ready: "asyncio.Future[None]" = loop.create_future()

    def tell() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, tell)
    try:
        await ready
    finally:
        loop.remove_reader(fd)


async def wait_async(name: str = "", *, mount: Optional[mounts.MountLike] = None) -> str:
    """wait(): for a job without a thread, for a group in one."""
    where = await asyncio.to_thread(mounts.find, mount, start=False)
    if not name or await asyncio.to_thread(os.path.exists, os.path.join(where, "info", name, ".wait")):
        return await asyncio.to_thread(wait, name, mount=where)
    try:
        fd = await asyncio.to_thread(os.open, os.path.join(where, "results", name),
                                     os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError:
        pass  # it has failed
    else:
        try:
            await _readable(fd)
        finally:
            os.close(fd)
    return await asyncio.to_thread(wait, name, mount=where)
