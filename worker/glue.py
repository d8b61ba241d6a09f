"""The Python half of a worker: what python.c calls. It is compiled into ppfs-worker and runs once in the template, so
everything imported here is warm in every job. Names with a capital E_ are enum work_end."""
import atexit, builtins, gc, importlib, io, json, linecache, os, pickle, signal, site, sys, threading, traceback, types
import _thread
import importlib.util, operator, time, types  # noqa

if WARM:  # noqa
    # Not used here, but by most scripts; each one costs a job less when it is here than when the job imports it.
    import base64, collections, contextlib, copy, dataclasses, datetime, fnmatch, functools, glob, hashlib  # noqa
    import itertools, math, operator, pathlib, random, re, shutil, string, struct, subprocess, tempfile, textwrap  # noqa
    import typing, warnings  # noqa

E_DONE, E_RAISED, E_EXITED, E_SIGNALED, E_REFUSED = range(5)
KIND_JSON_CALL, KIND_CALL = 2, 8  # enum work_kind
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
    return E_RAISED, sentence(before + summary(error)), None, trace_of(error)


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


def after_fork():
    """numpy's generator is the one that does not notice a fork."""
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


def file_mark(path):
    try:
        st = os.stat(path)
        return path, st.st_mtime_ns, st.st_size
    except OSError:
        return path, 0, -1


def note_modules(cwd):
    """Remembers which modules the last call brought in from the user's own directories."""
    global _local_cwd
    for name, module in list(sys.modules.items()):
        if name in _seen_modules:
            continue
        _seen_modules.add(name)
        path = getattr(module, "__file__", None)
        if path is None:
            where = list(getattr(module, "__path__", ()))
            path = where[0] if where else None
        if isinstance(path, str) and not path.startswith(_lasting):
            _local_modules[name] = file_mark(os.path.join(cwd, path))
            _local_cwd = cwd
    _seen_modules.intersection_update(sys.modules)


def forget_changed_modules(cwd):
    """A module of the user's that was edited, or that another directory's would hide, is imported anew."""
    if not _local_modules:
        return
    if cwd == _local_cwd and all(mark == file_mark(mark[0]) for mark in _local_modules.values()):
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
    put_names(changed)
    if sys.path != _base_path:
        sys.path[:] = _base_path
    if len(sys.argv) != 1 or sys.argv[0]:
        sys.argv[:] = [""]
    if flush():
        renew_streams()
    spoiled = put_rows(changed)
    if len(sys.modules) != len(_seen_modules):
        note_modules(cwd)
    return flush() or threads_left() or spoiled


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


# --- calls ---------------------------------------------------------------------------------------------------------
def unpickle(payload):
    try:
        return pickle.loads(payload)
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":  # dill's name for its caller's __main__, which only dill can resolve
            raise
    return importlib.import_module("dill").loads(bytes(payload))


def loader_of(base):
    class Loader(base):
        """An unpickler of what may refer to values. given: hash -> (pickle, False) or (the value itself, True)."""

        def __init__(self, payload, given):
            super().__init__(io.BytesIO(payload))
            self.given, self.made = given, {}

        def persistent_load(self, key):
            """A call has one object of a value, however often it refers to it, and no other call has the same."""
            if type(key) is not bytes or len(key) != 32:
                raise Refused("a persistent id in the pickle of the call is not the 32 bytes of a hash")
            if key not in self.made:
                if key not in self.given:
                    raise Refused("the pickle of the call refers to a value that the call does not list")
                what, shared = self.given[key]
                self.made[key] = what if shared else unpickle(what)
            return self.made[key]

    return Loader


Loader = loader_of(pickle.Unpickler)


def unpickle_with(given, payload):
    try:
        return Loader(payload, given).load()
    except ModuleNotFoundError as error:
        if error.name != "__builtin__":  # see unpickle
            raise
    return loader_of(importlib.import_module("dill").Unpickler)(payload, given).load()


def load_pickle(payload):
    return split_call(unpickle(payload))


def split_values(payload):
    """WORK_CALL: (what stands behind its values, those as value_of takes them)."""
    count, at, given = int.from_bytes(payload[:4], "little"), 4, {}
    for _ in range(count):
        size = int.from_bytes(payload[at + 32 : at + 36], "little")
        if size > len(payload) - at - 36:
            raise Refused("the bytes of the call are cut off")
        given[bytes(payload[at : at + 32])] = payload[at + 36 : at + 36 + size], False
        at += 36 + size
    return payload[at:], given


def load_call(payload, given):
    """Behind those values: u32 size of a pickled callable, that, a pickled (args, kwargs); size 0: a pickle of all three."""
    size = int.from_bytes(payload[:4], "little")
    if len(payload) < 6 or size > len(payload) - 4:
        raise Refused("the bytes of the call are cut off")
    func = None
    if size:
        blob = bytes(payload[4 : 4 + size])
        func = find_function(blob) or add_function(blob, blob)  # loading one may cost more than calling it
    what = unpickle_with(given, payload[4 + size :]) if given else unpickle(payload[4 + size :])
    return split_call(join_call(func, what) if size else what)


def join_call(func, given):
    if not isinstance(given, tuple):
        raise Refused("the arguments of the call are no pickled (args, kwargs), but a " + type(given).__name__)
    return (func, *given)


def split_call(what):
    """(func, args, kwargs) out of what was pickled."""
    if callable(what):
        return what, (), {}
    if not isinstance(what, tuple) or not 1 <= len(what) <= 3 or not callable(what[0]):
        raise Refused("the pickle holds neither a callable nor (func, args, kwargs), but a " + type(what).__name__)
    func, args, kwargs = what[0], (), {}
    for part in what[1:]:
        if isinstance(part, dict):
            kwargs = part
        elif isinstance(part, (tuple, list)):
            args = part
        elif part is not None:
            raise Refused("in the pickled (func, args, kwargs), one part is a " + type(part).__name__)
    return func, args, kwargs


def resolve(name):
    """The object that a dotted name means: modules first, then attributes; without a dot, a builtin."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        raise Refused(f'"call": {name[:100]!r} is not a dotted name like math.sqrt')
    if len(parts) == 1:
        if not hasattr(builtins, name):
            raise Refused(f"there is no builtin {name!r}; a function of a module is called as module.function")
        return getattr(builtins, name)
    try:
        found = sys.modules.get(parts[0]) or importlib.import_module(parts[0])
    except ModuleNotFoundError as error:
        if error.name == parts[0]:
            raise Refused(f"there is no module {parts[0]!r} here to call {name!r} from") from None
        raise
    for at, part in enumerate(parts[1:], 1):
        try:
            found = getattr(found, part)
            continue
        except AttributeError:
            path = ".".join(parts[: at + 1])
        try:
            if not isinstance(found, types.ModuleType):
                raise Refused(f"there is no {path!r} to call")
            found = importlib.import_module(path)
        except ModuleNotFoundError as error:
            if error.name not in (path, path.rpartition(".")[0]):
                raise
            raise Refused(f"there is no {path!r} to call") from None
    return found


def load_json_object(payload):
    try:
        what = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise Refused(f"the job is not valid JSON: {error}") from None
    if not isinstance(what, dict):
        raise Refused("the job is not one JSON object")
    return what


def load_json(payload):
    return json_call(load_json_object(payload))


_nan_is_null = False  # said by the call at work


def json_call(what):
    global _nan_is_null
    _nan_is_null = what.get("nan") == "null"
    name, args, kwargs = what.get("call"), what.get("args", []), what.get("kwargs", {})
    if not isinstance(name, str) or not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Refused('a JSON call is {"call": "module.function", "args": [...], "kwargs": {...}}')
    func = resolve(name)
    if not callable(func):
        raise Refused(f"{name!r} is a {type(func).__name__}, which cannot be called")
    return func, args, kwargs


def dump_pickle(value, protocol):
    protocol = min(max(protocol, 2), 5, pickle.HIGHEST_PROTOCOL)
    try:
        return pickle.dumps(value, protocol)
    except BaseException as error:
        first = error
    for name in ("cloudpickle", "dill"):
        try:
            return importlib.import_module(name).dumps(value, protocol=protocol)
        except BaseException:
            continue
    raise first


def json_default(value):
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def without_nan(value):
    """A copy with None for every float that JSON does not have."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, (list, tuple)) else value


def json_dumps(value, ascii_only):
    try:
        return json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, default=json_default)
    except ValueError as error:
        if "JSON compliant" not in str(error):
            raise
    if not _nan_is_null:
        raise ValueError('it has NaN or Infinity, which JSON does not have ("nan": "null" in the job writes null for them)')
    null = lambda other: without_nan(json_default(other))
    return json.dumps(without_nan(value), ensure_ascii=ascii_only, allow_nan=False, default=null)


def json_text(value):
    try:
        return json_dumps(value, False).encode()
    except UnicodeEncodeError:  # lone surrogates
        return json_dumps(value, True).encode()


def dump_json(value):
    return json_text(value) + b"\n"  # a result is a text file: cat it and the prompt stands on a line of its own


def leave_like_python(error, status=0):
    """A process that the job forked has come back through our frames: it ends as python3 would end it."""
    if isinstance(error, SystemExit):
        status = exit_status(error)[0]
    elif error is not None:
        show(error)
        status = 1
    flush()
    os._exit(status)


def without_module(name):
    where = f"the call could not be unpickled on the node {_environ.get('PPFS_NODE', '?')}"
    if name not in ("cloudpickle", "dill"):
        return f"{where}: "
    return (
        f"{where}, whose Python has no {name}, with which the call was sent (install python3-{name} there, or "
        f"'{sys.executable} -m pip install {name}'; or send with serializer=\"source\"): "
    )


def before_load(error):
    try:
        if isinstance(error, pickle.UnpicklingError) and "persistent" in str(error):
            return "the call could not be unpickled (it refers to values, and lists none): "
        if isinstance(error, ModuleNotFoundError):
            return without_module((error.name or "").partition(".")[0])
        if "__main__" in str(error):
            return "the call could not be unpickled (send functions of a __main__ with cloudpickle or dill): "
    except BaseException:
        pass
    return "the call could not be unpickled: "


def before_dump(value, is_pickle):
    form = "be pickled" if is_pickle else "be written as JSON"
    return f"the result, a {type(value).__name__}, cannot {form}: "


def run_call(kind, payload, name, attempt, node, cwd, env):
    """Runs a call; (end, why, result or None, trace or None). env: None in the worker itself, else pairs to set. The
    trace of a call of a stream is the body of its ERROR."""
    pid = os.getpid()
    set_job(name, attempt, node, cwd, env)
    forget_changed_modules(cwd)
    context = contextvars.Context()  # decimal's and others' settings are the call's alone
    is_pickle = kind != KIND_JSON_CALL
    load = load_pickle if is_pickle else load_json

    def failed(stage, error, before="", value=None):
        if os.getpid() != pid:
            leave_like_python(error)
        end, why, _, trace = raised(error, before)
        return end, why, None, lease_error(False, stage, error, value) if kind == KIND_CALL else trace

    try:
        if kind == KIND_CALL:
            payload, given = split_values(payload)
            func, args, kwargs = load_call(payload, given)
            given = None  # the values are the call's alone
        else:
            func, args, kwargs = load(payload)
        if len(sys.modules) != len(_seen_modules):
            rebase()
    except Refused as error:
        return E_REFUSED, sentence(str(error)), None, lease_refuse(False, str(error)) if kind == KIND_CALL else None
    except BaseException as error:
        return failed(STAGE_LOAD, error, before_load(error) if is_pickle else "")
    try:
        value = context.run(lease_apply, func, args, kwargs)
    except BaseException as error:
        return failed(STAGE_CALL, error)
    if os.getpid() != pid:
        leave_like_python(None)
    try:
        if not is_pickle:
            return E_DONE, b"", context.run(dump_json, value), None
        return E_DONE, b"", context.run(dump_pickle, value, payload[5 if kind == KIND_CALL else 1]), None
    except BaseException as error:
        return failed(STAGE_DUMP, error, before_dump(value, is_pickle), value)


def read_run(payload):
    """{"run": [...], "stdin": "..."} -> (list of bytes, bytes), or the sentence that refuses it."""
    try:
        what = load_json_object(payload)
    except Refused as error:
        return sentence(str(error))
    argv, stdin = what.get("run"), what.get("stdin", "")
    if not isinstance(argv, list) or not argv or not all(isinstance(a, str) for a in argv) or not argv[0]:
        return sentence('"run" is a list of strings, the program first')
    if not isinstance(stdin, str):
        return sentence('"stdin" is a string')
    try:
        words = [os.fsencode(a) for a in argv]
        given = stdin.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return sentence('"run" or "stdin" holds half a character (a lone surrogate)')
    if any(b"\0" in word for word in words):
        return sentence('"run" holds a zero byte, which no program can be given')
    return words, given


# --- leases --------------------------------------------------------------------------------------------------------
# python.c has the usual way of a call through here: load, call, dump. What is unusual comes to these functions.
CACHE_MAX = 64 << 20  # bytes of pickled functions, and of values
STAGE_LOAD, STAGE_CALL, STAGE_DUMP = range(3)  # as in python.c
WHAT_RAISED, WHAT_PICKLE = 1, 2  # enum stream_error
SHARED = {b"B": 4, b"\x8e": 8, b"X": 4, b"\x8d": 8}  # how pickles of large bytes and text begin: bytes of their size
_functions = {}  # hash, or the pickle itself -> (function, size of its pickle); what was used last stands last
_functions_size = 0
_values = {}  # hash -> what Loader takes; used last, stands last
_values_sizes = {}  # hash -> size of the pickle
_values_size = 0  # the sum
_given = {}  # those of the call at work, whatever becomes of them above


def begin_lease(name, attempt, node, cwd, env):
    """env: None in the worker itself, else pairs to set."""
    set_job(name, attempt, node, cwd, env)
    if env is not None:
        _base_env.clear()
        _base_env.update(_environ._data)
        forget_values()  # this process may be another user's
    forget_changed_modules(cwd)


def find_function(key):
    """The function of that key, or None."""
    found = _functions.pop(key, None)
    if found is None:
        return None
    _functions[key] = found
    return found[0]


def add_function(key, payload):
    global _functions_size
    size = len(payload)
    forget_changed_modules(_local_cwd)
    func = unpickle(payload)
    if not callable(func):
        raise Refused("the function of the call is no callable, but a " + type(func).__name__)
    if find_function(key) is None:
        _functions[key] = func, size
        _functions_size += size
        while _functions_size > CACHE_MAX and len(_functions) > 1:
            _functions_size -= _functions.pop(next(iter(_functions)))[1]
    return func


def find_value(key):
    """Whether the value of that hash is here; the call at work has it then."""
    if key not in _given:
        found = _values.pop(key, None)
        if found is None:
            return False
        _given[key] = _values[key] = found
    return True


def is_shared(payload):
    """Whether it is the pickle of bytes or text and of nothing else: those cannot be changed, so all calls have the same."""
    digits = SHARED.get(payload[2:3])
    if digits is None:
        return False
    end = 3 + digits + int.from_bytes(payload[3 : 3 + digits], "little")
    return payload[end:] in (b"\x94.", b".")


def add_value(key, payload):
    """Takes a pickled value in, for the call at work and for later ones."""
    global _values_size
    shared = is_shared(payload)
    _given[key] = _values[key] = pickle.loads(payload) if shared else payload, shared
    _values_sizes[key] = len(payload)
    _values_size += len(payload)
    while _values_size > CACHE_MAX and len(_values) > 1:
        oldest = next(iter(_values))
        del _values[oldest]
        _values_size -= _values_sizes.pop(oldest)


def forget_values():
    global _values_size
    _values.clear()
    _values_sizes.clear()
    _values_size = 0


def drop_values():
    _given.clear()


def forget_functions():
    """They may be of modules that have changed."""
    global _functions_size
    _functions.clear()
    _functions_size = 0


def lease_load(payload, func):
    """A pickled call that is not the plain one. func: None where it is in the pickle."""
    what = unpickle(payload)
    return split_call(what if func is None else join_call(func, what))


def lease_load_values(payload, func):
    """The same of a pickle that may refer to values."""
    what = unpickle_with(_given, payload)
    return split_call(what if func is None else join_call(func, what))


def lease_json(payload):
    """(func, args, kwargs), or None for what is not for a lease."""
    what = load_json_object(payload)
    if not what.keys() <= {"call", "args", "kwargs", "nan"} or what.get("nan", "null") != "null":
        return None
    return json_call(what)


def lease_dump(value):
    return dump_pickle(value, 5)


def lease_error(is_json, stage, error, value):
    """The body of an ERROR. value: what could not be dumped."""
    refused = isinstance(error, Refused)
    before = ""
    if stage == STAGE_LOAD and not refused and not is_json:
        before = before_load(error)
    elif stage == STAGE_DUMP and not refused:
        before = before_dump(value, not is_json)
    where = "" if _node == "local" else f" (on nodes/{_node})"
    words = sentence(before + (str(error) if refused else summary(error))) + where.encode() + b"\n"
    trace = b"" if refused else trace_of(error)
    if where and trace:
        trace += f"(it ran on nodes/{_node})\n".encode()
    if is_json:
        return words + trace
    what, data = WHAT_PICKLE, b""
    if stage == STAGE_CALL:
        what = WHAT_RAISED
        try:
            data = dump_pickle(error, 5)
        except BaseException:
            pass
    return bytes((what, 0, 0, 0)) + len(data).to_bytes(4, "little") + data + words + trace


def lease_refuse(is_json, text):
    return lease_error(is_json, STAGE_LOAD, Refused(text), None)


# --- scripts -------------------------------------------------------------------------------------------------------
def exit_status(error):
    """What python3 makes of a SystemExit: (status, what it prints)."""
    code = error.code
    if code is None:
        return 0, None
    if isinstance(code, int):
        return code & 0xFF, None
    return 1, code


def show(error):
    """An uncaught exception, as python3 shows it."""
    tb = own_frames_off(error)
    try:
        if sys.excepthook is not sys.__excepthook__:
            sys.excepthook(type(error), error, tb)
        elif sys.stderr is not None:
            traceback.print_exception(type(error), error, tb, file=sys.stderr)
    except BaseException:
        os.write(2, f"{summary(error)}\n".encode("utf-8", "backslashreplace"))


def show_line(text):
    try:
        print(text, file=sys.stderr)
    except BaseException:
        pass


def remember_source(name, source):
    """So that tracebacks show lines of a file that is nowhere."""
    try:
        text = importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        text = source.decode("utf-8", "replace")
    linecache.cache[name] = (len(source), None, text.splitlines(True), name)


def finish_script():
    """What Py_FinalizeEx does that a script can notice; the rest costs 40 ms, and _exit does it. True: flush failed."""
    threading._shutdown()
    atexit._run_exitfuncs()
    failed = flush()
    names = sys.modules["__main__"].__dict__
    for keep in (False, True):  # files that were left open are written when their last name goes
        for key in [k for k in names if k != "__builtins__" and (keep or (k[:1] == "_" and k[:2] != "__"))]:
            names[key] = None
    gc.collect()
    return flush() or failed


def rehearse():
    """Runs a script that does nothing, with everything that a real one goes through, so that its pages are ours already."""
    main = types.ModuleType("__main__")
    main.__builtins__ = builtins
    remember_source("rehearsal", b"import sys\nprint(end='')\n")
    exec(compile(b"import sys\nfor i in range(3):\n    str(i) + repr([i])\nprint(end='')\n", "rehearsal", "exec", dont_inherit=True), main.__dict__)
    sys.stdout.flush()
    sys.stderr.flush()


OTHERS = frozenset("awk bash bat c cpp csh go jl js ksh lua m mjs php pl ps1 r rb sh sql tcl ts zsh".split())


def before_source(source, name, compiled):
    """What an error of source is told with that may be none of Python's: the file had nothing to say what it is."""
    ending = os.path.basename(name).rpartition(".")[2].lower()
    if source.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#!") or ending == "py" or (compiled and ending not in OTHERS):
        return ""
    return "taken as Python, for it has no #! line: "


def run_script(source, file, name, attempt, node, cwd, env):
    """Runs source as __main__ in this process, which is the job's own; (exit status, why). None: it stands in file, which
    children that are started anew read too (multiprocessing's spawn and forkserver)."""
    set_job(name, attempt, node, cwd, env)
    forget_changed_modules(cwd)
    main = types.ModuleType("__main__")
    main.__file__, main.__builtins__ = file or name, builtins
    sys.modules["__main__"] = main
    sys.argv[:] = [name]
    if sys.path and sys.path[0] == "":
        sys.path[0] = cwd
    if source is None:
        with io.open_code(file) if file else io.BytesIO() as f:
            source = f.read()
    remember_source(name, source)
    status, more, code = 0, "", None
    try:
        code = compile(source, name, "exec", dont_inherit=True)
        exec(code, main.__dict__)
    except SystemExit as error:
        status, text = exit_status(error)
        if text is not None:
            show_line(text)
            more = str(text)
    except BaseException as error:
        show(error)
        status, more = 130 if isinstance(error, KeyboardInterrupt) else 1, before_source(source, name, code) + summary(error)
    try:
        if finish_script() and not status:
            status, more = 120, "what it printed could not be written"
    except SystemExit as error:
        status = exit_status(error)[0]
    except BaseException as error:
        show(error)
        status, more = status or 1, more or summary(error)
    return status, sentence(f"exit status {status}: {more}" if more else f"exit status {status}") if status else b""


def settle():
    """The template is ready: what is alive now stays alive, so that no child copies its pages to count it."""
    gc.collect()
    gc.freeze()
