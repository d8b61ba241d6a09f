"""The Python half of a worker: what python.c calls. It is compiled into ppfs-worker and runs once in the fork server, so
everything imported here is warm in every job. This file, loading.py, calls.py, scripts.py and order.py are one text, in
that order.
WORK_, STAGE_ and ERROR_ are the enums of C: python.c sets them."""
import atexit, builtins, gc, importlib, io, json, linecache, os, pickle, signal, site, struct, sys, threading, traceback
import types
import _thread
import importlib.util, operator, time  # noqa

if WARM:  # noqa
    # Not used here, but by most scripts; each one costs a job less when it is here than when the job imports it.
    import base64, collections, contextlib, copy, dataclasses, datetime, fnmatch, functools, glob, hashlib  # noqa
    import itertools, math, operator, pathlib, random, re, shutil, string, struct, subprocess, tempfile, textwrap  # noqa
    import typing, warnings  # noqa

WHY_MAX, TRACE_MAX = 480, 1 << 20
HERE = "<ppfs>"

_environ = os.environ
_stdout, _stderr = sys.stdout, sys.stderr
for _stream in (_stdout, _stderr):
    _stream.reconfigure(line_buffering=True)  # info/NAME/stdout is read while the job runs


class Refused(Exception):
    """The job cannot be started; its text is the sentence."""


# --- words ---------------------------------------------------------------------------------------------------------
def sentence(text):
    """Folds text into one line of bytes that fits struct work_outcome."""
    line = " ".join(text[:4000].split()).encode("utf-8", "backslashreplace")
    return line if len(line) <= WHY_MAX else line[: WHY_MAX - 3].decode("utf-8", "ignore").encode() + b"..."


def summary(error):
    """ValueError: bad thing"""
    kind = type(error)
    name = kind.__qualname__
    if kind.__module__ not in ("builtins", "__main__"):
        name = f"{kind.__module__}.{name}"
    try:
        text = str(error)
    except BaseException:
        text = "<its text cannot be shown>"
    return f"{name}: {text}" if text else name


def own_frames_off(error):
    """The traceback of error without the frames of this file at its head."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == HERE:
        tb = tb.tb_next
    return tb


def trace_of(error):
    try:
        text = "".join(traceback.format_exception(type(error), error, own_frames_off(error)))
    except BaseException as second:
        text = f"{type(error).__name__} (its traceback cannot be shown: {type(second).__name__})\n"
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > TRACE_MAX:
        data = data[: TRACE_MAX // 2] + b"\n[...]\n" + data[-TRACE_MAX // 2 :]
    return data


def raised(error, before=""):
    return WORK_RAISED, sentence(before + summary(error)), None, trace_of(error)


# --- what a job may have changed in a worker that goes on ------------------------------------------------------------
_base_env = {}
_base_path = []
_base_handlers = {}
_seen_modules = set()
_local_modules = {}  # name -> (file, mtime in ns, size): imported from where the user's own files are
_local_cwd = None
_node = "local"
_lasting = tuple(
    {os.path.join(p, "lib") for p in (sys.prefix, sys.base_prefix, sys.exec_prefix)}
    | {"/usr/local/lib", site.getusersitepackages()}
)


def begin_worker():
    """Called once in each worker, after the fork."""
    global _base_env, _base_path, _seen_modules
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, "")
    _base_env = dict(_environ._data)
    _base_path = list(sys.path)
    _seen_modules = set(sys.modules)
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        _base_handlers[number] = signal.getsignal(number)
    begin_order()


def settle():
    """The fork server is ready: what is alive now stays alive, so that no child copies its pages to count it."""
    gc.collect()
    gc.freeze()


def after_fork():
    """Reseeds numpy's generator, the only one that does not notice a fork."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def set_job(name, attempt, node, cwd, pairs):
    """The environment of a job. pairs: None in the worker itself, where it is what restore keeps."""
    global _node
    _node = node
    _environ["PPFS_JOB"], _environ["PPFS_ATTEMPT"], _environ["PPFS_NODE"], _environ["PWD"] = name, attempt, node, cwd
    if pairs is None:
        data = _environ._data
        for key in (b"PPFS_JOB", b"PPFS_ATTEMPT", b"PPFS_NODE", b"PWD"):
            _base_env[key] = data[key]
    else:
        set_env(pairs)


def set_env(pairs):
    for pair in pairs:
        key, _, value = pair.partition(b"=")
        try:
            os.environb[key] = value
        except (OSError, ValueError):
            pass
    time.tzset()
    if any(pair.startswith(b"HOME=") for pair in pairs):
        add_user_site()


def add_user_site():
    """site has looked for the packages of a user whose HOME was another."""
    site.USER_BASE = site.USER_SITE = None
    path = site.getusersitepackages() if site.ENABLE_USER_SITE else ""
    if path in sys.path or not os.path.isdir(path):
        return
    count = len(sys.path)
    site.addsitedir(path)
    added = sys.path[count:]
    del sys.path[count:]
    of_all = [at for at, name in enumerate(sys.path) if name in site.getsitepackages()]
    at = min(of_all, default=count)
    sys.path[at:at] = added


def file_mark(path):
    try:
        st = os.stat(path)
        return path, st.st_mtime_ns, st.st_size
    except OSError:
        return path, 0, -1


def module_place(module):
    """The file of a module, or the first directory of a package without one; None: built in."""
    path = getattr(module, "__file__", None)
    return path if path is not None else next(iter(getattr(module, "__path__", ())), None)


def is_lasting(module):
    """Whether it was imported from where packages are installed."""
    path = module_place(module)
    return isinstance(path, str) and path.startswith(_lasting)


def note_modules(cwd):
    """Remembers which modules the last call brought in from the user's own directories."""
    global _local_cwd
    for name, module in list(sys.modules.items()):
        if name in _seen_modules:
            continue
        _seen_modules.add(name)
        path = module_place(module)
        if isinstance(path, str) and not path.startswith(_lasting):
            _local_modules[name] = file_mark(os.path.join(cwd, path))
            _local_cwd = cwd
    _seen_modules.intersection_update(sys.modules)


def came_along(name):
    """Whether that module came with the calls of an executor (remote.py of the package)."""
    path = getattr(sys.modules.get(name), "__file__", None)
    return isinstance(path, str) and path.startswith("<ppfs modules>/")


def forget_changed_modules(cwd, begins=False):
    """A module of the user's that was edited, or that another directory's would hide, is imported anew. begins: what comes
    may be another executor's."""
    if not _local_modules:
        return
    if cwd == _local_cwd and all(mark == file_mark(mark[0]) for mark in _local_modules.values()):
        if not begins or not any(map(came_along, _local_modules)):
            return
    for name in _local_modules:
        sys.modules.pop(name, None)
        _seen_modules.discard(name)
    _local_modules.clear()
    forget_functions()
    importlib.invalidate_caches()


def restore_signals(numbers):
    """Signals whose handlers the call has set: back to what a worker has."""
    signal.set_wakeup_fd(-1)
    for number in numbers:
        signal.signal(number, _base_handlers.get(number, signal.SIG_DFL))


def restore(cwd, changed):
    """Puts the worker back in order after a call. changed: whether names have (python_order.c). True when that is not
    possible: the worker must leave."""
    left = threads_left()  # first, for they may change something
    os.environ = _environ
    data = _environ._data
    if data != _base_env:
        for key in [k for k in data if k not in _base_env]:
            del os.environb[key]
        for key, value in _base_env.items():
            if data.get(key) != value:
                os.environb[key] = value
        tempfile = sys.modules.get("tempfile")
        if tempfile is not None:
            tempfile.tempdir = None  # found out anew by the environment
        time.tzset()
    faulthandler.cancel_dump_traceback_later()
    put_names(changed)
    put_classes()
    if sys.path != _base_path:
        sys.path[:] = _base_path
    if len(sys.argv) != 1 or sys.argv[0]:
        sys.argv[:] = [""]
    if flush():
        renew_streams()
    spoiled = put_rows(changed)
    if len(sys.modules) != len(_seen_modules):
        note_modules(cwd)
    return flush() or left or spoiled


def flush():
    """True when what was printed could not be written."""
    failed = False
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BaseException:
            failed = True
    return failed
