# What the Python of a worker was before its first call, and putting it back: the rows of the table in worker/forkserver/README.md that are
# Python's. It is one text with bootstrap.py. A row is [get, base, put, fixed]: python_order.c calls get (or looks at it, where it
# is a list) after each call of a lease and compares, unless a fifth part is false: changes show elsewhere; put(base) is called
# where that differs. What a module sets while it is imported to unpickle a call
# lasts as long as it is here, so such rows are taken anew then (rebase), all but those that are fixed.
import _signal, contextvars, copy, copyreg, faulthandler, functools, warnings  # noqa

THREADS_S = 0.05  # how long threads that are about to end are waited for
_rows = []
_names = []  # (dictionary, copy, put): names that somebody may have replaced; the first is sys's
_frame = {"__name__": "__main__", "__builtins__": builtins}  # what exec() and eval() without a namespace see
_active = set()
_random = sys.modules.get("random")
_spoiled = False  # a row said that nobody can put it back
_classes = {}  # what classes() keeps them in
_kept_classes = set()  # ids of those that came with functions which are kept for many calls


def lease_apply(func, args, kwargs):
    """Here so that a call has a frame of Python below it: eval, warnings and others look for one."""
    return func(*args, **kwargs)


lease_apply = types.FunctionType(lease_apply.__code__, _frame, "lease_apply")


def set_list(target):
    def put(base):
        target[:] = base

    return put


def put_filters(base):
    warnings.filters = sys.modules["_warnings"].filters
    warnings.filters[:] = base


def put_copyreg(base):
    """What a package registered for its own classes concerns nobody else. What it registered for others' changes how these
    are pickled; a module that did so when it was imported would not do it again, so it lasts as long as an installed
    package does, and with the user's own modules the worker leaves."""
    global _spoiled
    table = copyreg.dispatch_table
    for key, reducer in list(table.items()):
        package = getattr(reducer, "__module__", None) or "?"
        if base.get(key) is reducer:
            continue
        own = key not in base and package.split(".")[0] == (key.__module__ or "").split(".")[0]
        if own or (package not in _seen_modules and is_lasting(sys.modules.get(package))):
            base[key] = reducer
            continue
        if key in base:
            table[key] = base[key]
        else:
            del table[key]
        _spoiled = _spoiled or package in sys.modules
    for key in base.keys() - table.keys():
        table[key] = base[key]


def classes():
    """cloudpickle's table of the classes that came by value, by their ids."""
    return getattr(sys.modules.get("cloudpickle.cloudpickle"), "_DYNAMIC_CLASS_TRACKER_BY_ID", {})


def put_modules(base):
    """Those that were there at first; what a call has put in their places may be no module at all."""
    for name, module in base.items():
        if sys.modules.get(name) is not module:
            sys.modules[name] = module


def telling(function, spoils):
    """The function of C whose effects nobody could see. spoils: nobody could undo them either."""

    @functools.wraps(function)
    def told(*args, **how):
        global _spoiled
        _spoiled = _spoiled or spoils
        _frame["told"] = function  # a name too many, which is seen
        return function(*args, **how)

    return told


def put_classes():
    """Classes that came with a call are the call's alone: the next that brings them along has its own, without what this
    one has set there, or what its program has deleted since."""
    table = classes()
    ids = set(table.keys())
    _kept_classes.intersection_update(ids)
    for key in ids - _kept_classes:
        table.pop(key, None)


def new_stream(name, fd, encoding, errors, lines, through):
    binary = io.BufferedWriter(io.FileIO(fd, "wb", closefd=False))
    binary.raw.name = "<%s>" % name
    stream = io.TextIOWrapper(binary, encoding, errors, "\n", lines, through)
    stream.mode = "w"

    def reconfigure(**how):
        """Stands in the stream's dictionary, which is looked at, and leaves it."""
        vars(stream).pop("reconfigure", None)
        stream.reconfigure(**how)

    stream.reconfigure = reconfigure
    setattr(sys, name, stream)
    setattr(sys, "__%s__" % name, stream)
    return stream


def renew_streams():
    """As they were; out of new objects, for what was closed or detached cannot be opened again."""
    global _stdout, _stderr
    _stdout, _stderr = new_stream("stdout", 1, *_streams[0]), new_stream("stderr", 2, *_streams[1])
    if _names:
        for name in ("stdout", "stderr"):
            _names[0][1][name] = _names[0][1]["__%s__" % name] = getattr(sys, name)
    _names[1:3] = [(vars(stream), dict(vars(stream)), renew_streams) for stream in (_stdout, _stderr)]


def table():
    """(module that must be loaded, get, put, base or ... for what it is now): the rows; made when their module is there."""
    see = sys.modules.__getitem__
    return (
        ("gc", gc.isenabled, lambda on: gc.enable() if on else gc.disable(), ...),
        ("gc", gc.get_threshold, lambda base: gc.set_threshold(*base), ...),
        ("gc", gc.get_debug, gc.set_debug, ...),
        ("gc", gc.callbacks, set_list(gc.callbacks), ...),
        ("signal", functools.partial(_signal.getsignal, 2), lambda base: signal.signal(signal.SIGINT, base), ...),
        ("sys", sys.getrecursionlimit, sys.setrecursionlimit, ...),
        ("sys", sys.getswitchinterval, sys.setswitchinterval, ...),
        ("sys", sys.getdlopenflags, sys.setdlopenflags, ...),
        ("sys", sys.gettrace, sys.settrace, ...),
        ("sys", sys.getprofile, sys.setprofile, ...),
        ("sys", sys.get_asyncgen_hooks, lambda base: sys.set_asyncgen_hooks(*base), ...),
        ("sys", sys.get_coroutine_origin_tracking_depth, sys.set_coroutine_origin_tracking_depth, ...),
        ("sys", getattr(sys, "get_int_max_str_digits", int), lambda base: sys.set_int_max_str_digits(base), ...),
        ("sys", sys.meta_path, set_list(sys.meta_path), ...),
        ("sys", sys.path_hooks, set_list(sys.path_hooks), ...),
        ("threading", threading.stack_size, threading.stack_size, ...),
        ("warnings", warnings.filters, put_filters, ...),
        ("_socket", None, lambda base: see("_socket").setdefaulttimeout(base), None),
        ("decimal", None, put_decimal, DECIMAL),
        ("logging", logging_now, put_logging, ...),
        ("numpy.core.umath", numpy_errors, put_numpy_errors, ...),
        ("numpy", numpy_print, put_numpy_print, ...),
        ("pandas._config.config", pandas_now, put_pandas, ...),
    )


# --- those that take more than a line ----------------------------------------------------------------------------------
DECIMAL = ("Context(prec=28, rounding=ROUND_HALF_EVEN, Emin=-999999, Emax=999999, capitals=1, clamp=0, flags=[], "
           "traps=[InvalidOperation, DivisionByZero, Overflow])")


def put_decimal(_base):
    decimal = sys.modules["decimal"]
    was = eval(DECIMAL, dict(vars(decimal)))
    for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp"):
        setattr(decimal.DefaultContext, name, getattr(was, name))
    decimal.DefaultContext.clear_flags()
    decimal.DefaultContext.traps.update(was.traps)


def one_logger(log):
    return log.level, log.disabled, log.propagate, tuple(log.handlers), tuple(log.filters)


def logging_now():
    logging = sys.modules["logging"]
    root = logging.root
    named = {name: one_logger(log) for name, log in root.manager.loggerDict.items() if hasattr(log, "handlers")}
    own = (logging.raiseExceptions, logging.lastResort, logging._logRecordFactory, logging._loggerClass)
    return root.manager.disable, own, one_logger(root), named


def put_logger(log, base):
    log.level, log.disabled, log.propagate = base[:3]
    log.handlers[:], log.filters[:] = base[3:]


def put_logging(base):
    """Loggers that are new are as getLogger makes them, unless a module came with them."""
    logging = sys.modules["logging"]
    manager = logging.root.manager
    manager.disable, own, root, named = base
    logging.raiseExceptions, logging.lastResort, logging._logRecordFactory, logging._loggerClass = own
    put_logger(logging.root, root)
    for name, log in manager.loggerDict.items():
        if hasattr(log, "handlers"):
            if name not in named:
                named[name] = one_logger(log) if _grew else (0, False, True, (), ())
            put_logger(log, named[name])
    manager._clear_cache()


def numpy_errors():
    umath = sys.modules["numpy.core.umath"]
    return list(umath.geterrobj()) if hasattr(umath, "geterrobj") else None  # numpy 2 has them in the context of the call


def put_numpy_errors(base):
    sys.modules["numpy.core.umath"].seterrobj(list(base))


def numpy_print():
    options = getattr(sys.modules.get("numpy.core.arrayprint"), "_format_options", None)
    return options.copy() if options is not None else None


def put_numpy_print(base):
    options = sys.modules["numpy.core.arrayprint"]._format_options
    options.clear()
    options.update(base)


def pandas_now():
    return copy.deepcopy(sys.modules["pandas._config.config"]._global_config)


def put_pandas(base):
    options = sys.modules["pandas._config.config"]._global_config
    options.clear()
    options.update(copy.deepcopy(base))


def watch_loggers():
    """The dictionaries and lists that a change of logging goes through, so that nobody needs to ask each logger."""
    logging = sys.modules["logging"]
    manager = logging.root.manager
    watched = {id(names) for names, _base, _put in _names}
    for log in (logging, manager, logging.root, *manager.loggerDict.values()):
        if id(vars(log)) in watched:
            continue
        _names.append((vars(log), {}, put_by_row))
        for part in ("handlers", "filters"):
            if part in vars(log):
                _rows.append([vars(log)[part], list(vars(log)[part]), None, True, True])
    if id(manager.loggerDict) not in watched:
        _names.append((manager.loggerDict, {}, put_by_row))


def put_by_row():
    """The dictionary only tells that its row is to be looked at."""


MAKERS = {
    "_socket": lambda: sys.modules["_socket"].getdefaulttimeout,
    "decimal": lambda: functools.partial(repr, sys.modules["decimal"].DefaultContext),
}
DICTIONARIES = {  # names of modules that come later, and what they are at first whatever the call has done
    "asyncio.events": lambda: (vars(sys.modules["asyncio.events"]), {"_event_loop_policy": None}),
    "multiprocessing.context": lambda: (vars(sys.modules["multiprocessing.context"]._default_context),
                                        {"_actual_context": None}),
}
PRISTINE = {  # of modules that a call may have brought in itself: what they are when just imported
    "logging": lambda: (0, logging_now()[1], (30, False, True, (), ()), logging_now()[3]),
    "numpy.core.umath": lambda: [8192, 521, None] if numpy_errors() is not None else None,
    "pandas._config.config": lambda: pandas_defaults(),
}


def pandas_defaults():
    config = sys.modules["pandas._config.config"]
    tree = copy.deepcopy(config._global_config)
    for key, option in config._registered_options.items():
        *path, last = key.split(".")
        at = tree
        for part in path:
            at = at[part]
        at[last] = option.defval
    return tree


# --- all of them ---------------------------------------------------------------------------------------------------------
def activate():
    """Makes the rows of modules that are there by now."""
    global _classes
    _classes = getattr(classes(), "data", {})
    for module in DICTIONARIES:
        if module not in _active and module in sys.modules:
            try:
                names, first = DICTIONARIES[module]()
            except Exception:  # half imported, or of a version that has it elsewhere
                continue
            _active.add(module)
            _names.append((names, {**names, **first}, None))
    for n, (module, get, put, base) in enumerate(_table):
        if n in _active or module not in sys.modules:
            continue
        try:
            if get is None:
                get = MAKERS[module]()
            fixed = base is not ...
            if not fixed:
                base = PRISTINE[module]() if module in PRISTINE else look(get)
        except Exception:  # half imported, or of a version that has it elsewhere
            continue
        _active.add(n)
        _rows.append([get, base, put, fixed, get is not logging_now])
        if get is logging_now:
            watch_loggers()


def numpy_generator():
    """The address of the state of numpy's global generator, 0 where there is none that we know."""
    mtrand = sys.modules.get("numpy.random.mtrand")
    try:
        bits = mtrand._rand._bit_generator
        return bits.ctypes.state_address if type(bits).__name__ == "MT19937" else 0
    except Exception:
        return 0


def reseed(of_numpy):
    if of_numpy:
        sys.modules["numpy"].random.seed()
    else:
        _random.seed()


def begin_order():
    global _table, _streams
    see = operator.attrgetter("encoding", "errors", "line_buffering", "write_through")
    _streams = see(_stdout), see(_stderr)
    sys.addaudithook = telling(sys.addaudithook, True)
    faulthandler.dump_traceback_later = telling(faulthandler.dump_traceback_later, False)
    renew_streams()  # the fork server's think that they can seek
    watched = (sys, builtins, warnings, threading, sys.modules["__main__"])
    _names[:0] = [(vars(module), dict(vars(module)), None) for module in watched[:1]]
    _names.extend((vars(module), dict(vars(module)), None) for module in watched[1:])
    _names.extend([(_frame, dict(_frame), None), (copyreg.dispatch_table, dict(copyreg.dispatch_table), put_copyreg),
                   (sys.modules, dict(sys.modules), put_modules)])
    _table = table()
    activate()


KEPT = ("stdout", "stderr", "stdin", "__stdout__", "__stderr__", "__stdin__", "argv", "path", "modules")


def rebase():
    """Modules were imported to unpickle a call: what they have set is theirs."""
    activate()
    for row in list(_rows):
        if row[2] is None:
            row[1] = list(row[0])
        elif not row[3]:
            try:
                row[1] = look(row[0])
            except Exception:
                pass
    for names, base, put in _names:
        if put is None:
            for key, value in names.items():
                if key not in KEPT or key not in base:
                    base[key] = value


def put_names(changed):
    """changed: whether Python told of a change."""
    global _grew
    _grew = len(sys.modules) != len(_seen_modules)
    if _grew:
        activate()
    for names, base, put in list(_names) if changed or _grew else ():
        if put is put_modules:
            put(base)
            continue
        if put is put_copyreg:
            put(base)
        elif put is not None:
            if put is renew_streams and names != base:
                put()
            continue
        for key in names.keys() - base.keys():
            del names[key]
        for key, value in base.items():
            if names.get(key, base) is not value:
                names[key] = value


def look(get):
    return list(get) if type(get) is list else get()


def put_rows(changed):
    """True when a row cannot be put back."""
    global _spoiled
    for row in _rows:
        get, base, put = row[:3]
        if put is None:
            continue
        try:
            now = look(get)
            if now is base or now == base:
                continue
        except Exception:
            pass
        try:
            put(base)
            _spoiled = _spoiled or look(get) != base
        except Exception:
            _spoiled = True
    if (changed or _grew) and hasattr(sys.modules.get("logging"), "root"):
        watch_loggers()
        for row in _rows:
            if row[2] is None:
                row[1] = list(row[0])
    getattr(warnings, "_filters_mutated", int)()  # a warning that was shown once is shown to the next call too
    spoiled, _spoiled = _spoiled, False
    return spoiled


def threads_left():
    """Whether threads are left, once those that are about to end have done so."""
    until = time.monotonic() + THREADS_S
    while _thread._count() > 0:
        if time.monotonic() > until:
            return True
        time.sleep(0.0005)
    return False


_grew = False
_table = ()
_streams = ()
