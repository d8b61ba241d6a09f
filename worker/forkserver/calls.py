# The calls of a worker, as jobs and of leases: loaded, made, their values and errors dumped. It is one text with bootstrap.py.


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
    text = bytes(payload)
    try:
        what = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"the job is not valid JSON: {error}") from None
    if not isinstance(what, dict):
        raise Refused("the job is not one JSON object")
    # The library takes the last of two; which was meant nobody knows. Only a text that may have two is read once more.
    if b"\\" in text or any(text.count(b'"%s"' % key.encode("utf-8", "replace")) > 1 for key in what):
        outermost = json.loads(text, object_pairs_hook=list)
        names = [key for key, _ in outermost]
        for key in what:
            if names.count(key) > 1:
                raise Refused(f"the key {key!r} stands twice in it")
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
    forget_changed_modules(cwd, begins=True)
    context = contextvars.Context()  # decimal's and others' settings are the call's alone
    is_pickle = kind != WORK_JSON_CALL
    load = load_pickle if is_pickle else load_json

    def failed(stage, error, before="", value=None):
        if os.getpid() != pid:
            leave_like_python(error)
        end, why, _, trace = raised(error, before)
        return end, why, None, lease_error(False, stage, error, value) if kind == WORK_CALL else trace

    try:
        if kind == WORK_CALL:
            payload, given = split_values(payload)
            func, args, kwargs = load_call(payload, given)
            given = None  # the values are the call's alone
        else:
            func, args, kwargs = load(payload)
        if len(sys.modules) != len(_seen_modules):
            rebase()
    except Refused as error:
        return WORK_REFUSED, sentence(str(error)), None, lease_refuse(False, str(error)) if kind == WORK_CALL else None
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
            return WORK_DONE, b"", context.run(dump_json, value), None
        return WORK_DONE, b"", context.run(dump_pickle, value, payload[5 if kind == WORK_CALL else 1]), None
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
        _base_path[:] = sys.path
        forget_values()  # memory= counts what is here
    forget_changed_modules(cwd, begins=True)


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
    before = set(classes().keys())
    func = unpickle(payload)
    if getattr(func, "ppfs_fresh", False) is not True:
        _kept_classes.update(set(classes().keys()) - before)
    else:
        put_classes()
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


def lease_load_mapped(payload, func):
    """The same of a pickle in memory of its own."""
    what = unpickle_mapped(payload, _given)
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
    what, data = ERROR_PICKLE, b""
    if stage == STAGE_CALL:
        what = ERROR_RAISED
        try:
            data = dump_pickle(error, 5)
        except BaseException:
            pass
    return bytes((what, 0, 0, 0)) + len(data).to_bytes(4, "little") + data + words + trace


def lease_refuse(is_json, text):
    return lease_error(is_json, STAGE_LOAD, Refused(text), None)
