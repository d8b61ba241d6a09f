"""What travels to the workers with a function that needs help there.

Workers need not have this package: the text REMOTE goes along inside the pickle and is executed where it is loaded.
It refuses another Python version (functions by value would crash it), finds the client's modules, runs the
initializer once in each worker, gives what that changed to each function, and walks through the chunks of a map. A
function that could change what came with it is loaded anew for each call (fresh), so that none finds what another left;
the worker sees by the attribute ppfs_fresh that the classes which came with it are of no further use. Arguments that
need the client's modules to be loaded come packed: as one bytes object, their pickle, behind it the pickles of the
values that this refers to (values.py) or its large arrays (pieces.py), and the keyword PACKED.
"""
import sys
from typing import Any, Dict, Optional, Sequence, Tuple

from .remote_world import WORLD
from .shipped import FINDER

# The exception by which a worker says that an initializer failed: RuntimeError(INITIALIZER_FAILED, text).
INITIALIZER_FAILED = "ppfs: the initializer failed"

PACKED = "ppfs: packed"
BUFFERS = "buffers"  # the value of that keyword where what stands behind the blob are buffers that it lacks

# Functions as source, see source.py: functions and classes, namespaces, what cells hold, what to call, pickled data.
Source = Tuple[Tuple[Any, ...], Tuple[Any, ...], Tuple[Any, ...], Tuple[Any, ...], bytes]

REMOTE = r'''
import functools, hashlib, importlib.util, io, os, pickle, sys, traceback, types, warnings, zlib

def make(version, path, blob, source, init_key, chunked, modules, fresh, wrapped, shipped, environ, log):
    if version and tuple(version) != sys.version_info[:2]:
        raise RuntimeError("the function was sent by Python %d.%d as code, which Python %d.%d cannot run; "
                           "the serializer 'source' can" % (tuple(version) + sys.version_info[:2]))

    finder = shipped and finder_of(shipped)

    def enter():
        missing = [p for p in path if p not in sys.path]
        if missing:
            sys.path[1:1] = missing
        if finder and finder not in sys.meta_path:
            finder.come()
            missing.append(finder)
        return missing

    def obtain():
        entered = enter()
        try:
            return load(blob, source, modules)
        finally:
            leave(entered)

    func, init, initargs = obtain()
    loaded = func
    if fresh:
        first = [func] if b"_make_skeleton_" not in blob else []  # a call has the classes that its arguments have
        take = lambda: first.pop() if first else obtain()[0]
    else:
        take = lambda one=func: one
    if chunked:
        def func(chunk):
            one = take()
            return [one(item) for item in chunk] if chunked == 2 else [one(*args) for args in chunk]
    elif fresh:
        func = lambda *args, **kwargs: take()(*args, **kwargs)
    if log:
        func = logged(func, *log)
    if init is None and not path and not wrapped and not finder:
        if fresh:
            func.ppfs_fresh = True
        return func

    ready = [] if init is not None else [True]

    def run(*args, **kwargs):
        entered = enter()
        try:
            if not ready:
                initialize(init_key, init, initargs, loaded, environ)
                ready.append(True)
            for change_again in REGISTRY.get((init_key, "process"), ()):
                change_again()
            if "ppfs: packed" in kwargs:
                args, kwargs = unpack(kwargs["ppfs: packed"], *args)
            return func(*args, **kwargs)
        finally:
            if entered:
                leave(entered)

    run.ppfs_fresh = fresh
    return run

class Unpacker(pickle.Unpickler):
    """Of arguments that refer to values by their place among those that came with them."""

    def __init__(self, blob, values):
        super().__init__(io.BytesIO(blob))
        self.values, self.made = values, {}

    def persistent_load(self, place):
        if place not in self.made:
            self.made[place] = pickle.loads(self.values[place])
        return self.made[place]

def unpack(kind, blob, *values):
    try:
        if kind == "buffers":
            return pickle.loads(blob, buffers=values)
        return Unpacker(blob, values).load() if values else pickle.loads(blob)
    except ModuleNotFoundError as error:
        name = (error.name or "").partition(".")[0]
        hint = ""
        if name in ("cloudpickle", "dill"):
            hint = ": install python3-%s there, or send with serializer='source'" % name
        raise ModuleNotFoundError("the arguments could not be unpickled on the node %s, whose Python has no %s%s"
                                  % (os.environ.get("PPFS_NODE", "?"), error.name, hint), name=error.name) from None

def leave(entered):
    """sys.path as it was: a worker that finds it changed takes the time to put everything in order after each call."""
    for p in entered:
        where = sys.path if isinstance(p, str) else sys.meta_path
        if p in where:
            where.remove(p)

def load(blob, source, modules):
    if source is not None:
        return from_source(*source, modules), None, ()
    if not blob:
        return apply, None, ()
    func, init, initargs, friends = pickle.loads(blob)
    return bind(func, modules, friends) if modules or friends else func, init, initargs

def apply(func, *args, **kwargs):
    return func(*args, **kwargs)

def from_source(pieces, spaces, contents, target, values, modules):
    """What target says, made of the texts of all that it needs (see source.py)."""
    values = pickle.loads(values)
    made, cells, globals_of = {}, {}, []

    def value(what):
        kind, given = what
        if kind == "module":
            __import__(given)
            return sys.modules[given]
        return values[given] if kind == "data" else made[given]

    def cell(number):
        return cells.setdefault(number, types.CellType())

    def bind():
        """What can be bound by now."""
        for space, (_, names) in zip(globals_of, spaces):
            space.update((name, value(what)) for name, what in names if what[0] != "made" or what[1] in made)
        for number, what in contents:
            if what[0] != "made" or what[1] in made:
                cell(number).cell_contents = value(what)

    for name, _ in spaces:
        globals_of.append({"__name__": name, "__builtins__": __builtins__})
        import_all(modules, globals_of[-1])
    functions = [piece for piece in pieces if piece[1] == "function"]
    for number, _, text, path, space, name, qualname, closure, *_ in functions:
        code = compile(text, "<source of %s>" % name, "exec", dont_inherit=True)
        for part in path:
            code = [c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part][-1]
        made[number] = types.FunctionType(code, globals_of[space], name, None, tuple(map(cell, closure)))
        made[number].__qualname__ = qualname
    for number, kind, text, path, space, *more in pieces:
        if kind == "class":
            bind()
            exec(compile(text, "<source of %s>" % path[0], "exec", dont_inherit=True), globals_of[space])
            made[number] = globals_of[space][path[0]]
    bind()
    for number, kind, *_, attributes in pieces:
        for path, what in attributes:
            change(made[number], path, what, value)
    for number, *_, defaults, keywords, _ in functions:
        made[number].__defaults__ = tuple(map(value, defaults)) or None
        made[number].__kwdefaults__ = {name: value(what) for name, what in keywords} or None
    return value(target)

def change(holder, path, what, value):
    """Sets what the text of a class or function did not (see changed.py)."""
    for name in path[:-1]:
        holder = vars(holder)[name] if isinstance(holder, type) else getattr(holder, name)
    name, (kind, given) = path[-1], what
    if name == "register()":
        holder.register(value(what))
        return
    if kind == "gone":
        if name in vars(holder):
            type.__delattr__(holder, name)
        return
    if kind == "defaults":
        was = getattr(holder, name) or ()
        new = given and tuple(was[i - len(given)] if one[0] == "kept" else value(one) for i, one in enumerate(given))
    elif kind == "keywords":
        new = {key: getattr(holder, name)[key] if one[0] == "kept" else value(one) for key, one in given}
    elif kind == "partialmethod":
        new = functools.partialmethod(*map(value, given[0]), **{key: value(one) for key, one in given[1]})
    else:
        new = value(what)
    (type.__setattr__ if isinstance(holder, type) else setattr)(holder, name, new)

def import_all(modules, space):
    for module in modules:
        optional = module.startswith("optional ")
        module = module[len("optional "):] if optional else module
        try:
            exec(module if module.startswith(("import ", "from ")) else "import " + module, space)
        except Exception as error:
            if not optional:
                raise
            name = module.split()[-1]
            space[name] = Absent("%s is not to be had on the node %s: '%s' raises %s: %s"
                                 % (name, os.environ.get("PPFS_NODE", "?"), module, type(error).__name__, error))

class Absent:
    """What is not to be had here, and may not be needed: whoever uses it hears why."""

    def __init__(self, why):
        self.__dict__["why"] = why

    def __getattr__(self, name):
        raise AttributeError(name) if name.startswith("__") else NameError(self.why)

    def __call__(self, *args, **kwargs):
        raise NameError(self.why)

def own(space):
    """Whether these globals came with the pickle and are no module's."""
    module = sys.modules.get(space.get("__name__"))
    return module is None or module.__dict__ is not space

def bind(func, modules, friends):
    """The function with the modules and its friends among its globals: those that came with it, or a copy of its
    module's."""
    names = {}
    import_all(modules, names)
    names.pop("__builtins__", None)
    names.update(friends)
    spaces, copies = {}, {}

    def rebind(what):
        if isinstance(what, Absent):
            return what
        if not isinstance(what, types.FunctionType):
            kind = what if isinstance(what, type) else type(getattr(what, "__self__", what))
            for value in vars(kind).values():
                if isinstance(value, types.FunctionType) and own(value.__globals__):
                    spaces[id(value.__globals__)] = value.__globals__
            return what
        space = what.__globals__
        if own(space):
            spaces[id(space)] = space
            return what
        if id(space) not in copies:
            copies[id(space)] = spaces[id(space), "copy"] = dict(space)
        new = types.FunctionType(what.__code__, copies[id(space)], what.__name__, what.__defaults__, what.__closure__)
        new.__kwdefaults__, new.__qualname__, new.__module__ = what.__kwdefaults__, what.__qualname__, what.__module__
        new.__dict__.update(what.__dict__)
        return new

    names = {name: rebind(value) for name, value in names.items()}
    func = rebind(func)
    for space in spaces.values():
        space.update(names)
    return func

def initialize(key, init, initargs, func, environ):
    """Runs the initializer unless this worker has; a function that came with other copies of what it changed gets what
    it set up."""
    if (key, "failed") in REGISTRY:
        raise RuntimeError("ppfs: the initializer failed", REGISTRY[key, "failed"])
    holders = holders_of(init, list(initargs), func)
    if key in REGISTRY:
        restore(holders, REGISTRY[key])
        return
    process = process_now()
    before = {(path, name): (value, print_of(value)) for path, name, value in contents_of(holders)}
    try:
        if environ is not None:
            become(environ)
        init(*initargs)
    except BaseException:
        REGISTRY[key, "failed"] = text = traceback.format_exc()
        raise RuntimeError("ppfs: the initializer failed", text) from None
    REGISTRY[key] = changes(before, holders)
    REGISTRY[key, "process"] = process_changes(process, process_now())

def process_now():
    """What is the whole process's, and what a worker puts back after each call."""
    umask = os.umask(0)
    os.umask(umask)
    try:
        here = os.getcwd()
    except OSError:  # it was removed
        here = None
    now = {("cwd", None): here, ("umask", None): umask, ("filters", None): list(warnings.filters),
           ("recursion", None): sys.getrecursionlimit()}
    now.update({("environ", name): value for name, value in os.environ.items()})
    now.update({("path", entry): i for i, entry in enumerate(sys.path) if entry not in sys.path[:i]})
    logging = sys.modules.get("logging")
    if logging is not None:
        now.update({("log", log): (log.level, log.disabled, log.propagate, tuple(log.handlers), tuple(log.filters))
                    for log in (logging.root, *logging.root.manager.loggerDict.values()) if hasattr(log, "handlers")})
    return now

def process_changes(before, after):
    """What makes these changes again, before each call."""
    return [functools.partial(PUT[kind], name, after.get((kind, name))) for kind, name in {**before, **after}
            if before.get((kind, name)) != after.get((kind, name)) and (kind != "path" or (kind, name) not in before)]

def put_filters(_, filters):
    if warnings.filters != filters:
        warnings.filters[:] = filters
        warnings._filters_mutated()

def put_environ(name, value):
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value

def put_path(entry, place):
    if entry not in sys.path:
        sys.path.insert(place, entry)

def put_log(log, state):
    log.disabled, log.propagate = state[1:3]
    log.handlers[:], log.filters[:] = state[3:]
    log.setLevel(state[0])

PUT = {"cwd": lambda _, path: os.chdir(path), "umask": lambda _, mask: os.umask(mask), "environ": put_environ,
       "path": put_path, "recursion": lambda _, limit: sys.setrecursionlimit(limit), "filters": put_filters,
       "log": put_log}

# of this process: what one function has kept, another reads
REGISTRY = sys.modules.setdefault("_ppfs_initialized", types.ModuleType("_ppfs_initialized")).__dict__
MISSING = REGISTRY.setdefault("missing", object())

def holders_of(init, initargs, func):
    """{path: what has names and values that the initializer may change}, the same paths for each function."""
    holders, seen, todo = {("initargs",): initargs}, set(), [(("init",), init)]
    todo += [(("initargs", i), value) for i, value in enumerate(initargs)] + [(("func",), func)]
    while todo:
        path, what = todo.pop(0)
        if id(what) in seen:
            continue
        seen.add(id(what))
        new = {}
        if isinstance(what, functools.partial):
            new = {"call": [what.func, what.args, what.keywords, *what.args, *what.keywords.values()]}
        elif isinstance(what, types.MethodType):
            new = {"method": [what.__func__, what.__self__]}
        elif isinstance(what, WRAPPERS):
            new = {"parts": [getattr(what, name, None) for name in ("__func__", "fget", "fset", "fdel")]}
        elif isinstance(what, types.FunctionType):
            if own(what.__globals__):
                new = {i: cell for i, cell in enumerate(what.__closure__ or ())}
                new.update(vars=vars(what), defaults=what)
                space = "globals", what.__globals__.get("__name__")
                if space not in holders:
                    holders[space] = what.__globals__
                    todo += [((*space, name), get(what.__globals__, name)) for name in names_in(what.__globals__)]
        elif isinstance(what, type):
            new = {"class": what} if not found_by_name(what) else {}
        elif path[0] in ("init", "func") and len(path) == 1:
            new = {"callable": [what, type(what)]}
        for name, holder in new.items():
            holders[(*path, name)] = holder
            todo += [((*path, name, inner), get(holder, inner)) for inner in names_in(holder)]
    return holders

WRAPPERS = staticmethod, classmethod, property

def found_by_name(kind):
    found = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is kind

def names_in(holder):
    if isinstance(holder, types.FunctionType):
        return "__defaults__", "__kwdefaults__"
    if isinstance(holder, list):
        return range(len(holder))
    if isinstance(holder, types.CellType):
        return ("cell_contents",)
    names = vars(holder) if isinstance(holder, type) else holder
    return [name for name in names if name not in ("__builtins__", "__dict__", "__weakref__", "_abc_impl")]

def get(holder, name):
    if isinstance(holder, list):
        return holder[name]
    if isinstance(holder, type):
        holder = vars(holder)
    try:
        return getattr(holder, name) if isinstance(holder, (types.CellType, types.FunctionType)) else holder[name]
    except (KeyError, ValueError):  # a cell may be empty
        return MISSING

def put(holder, name, value):
    if isinstance(holder, (list, dict)):
        if value is MISSING:
            holder.pop(name, None)
        else:
            holder[name] = value
    elif value is not MISSING:
        (type.__setattr__ if isinstance(holder, type) else setattr)(holder, name, value)
    elif get(holder, name) is not MISSING:
        (type.__delattr__ if isinstance(holder, type) else delattr)(holder, name)

def contents_of(holders):
    for path, holder in holders.items():
        for name in names_in(holder):
            yield path, name, get(holder, name)

class Print(pickle.Pickler):
    """Tells whether data was changed in place. Functions, classes and modules are told by what they are."""

    def __init__(self):
        self.digest = hashlib.sha256()
        super().__init__(self, 5, buffer_callback=lambda data: self.digest.update(data.raw()))

    def write(self, data):
        self.digest.update(data)

    def persistent_id(self, what):
        return id(what) if isinstance(what, (type, types.FunctionType, types.ModuleType)) else None

def print_of(value):
    """None: it cannot be told."""
    if isinstance(value, (int, float, complex, str, bytes, type(None), types.CodeType)) or value is MISSING:
        return b""
    try:
        printer = Print()
        printer.dump(value)
        return printer.digest.digest()
    except Exception:
        return None

def changes(before, holders):
    """[(path, name, the value that it has, whether that is the object that it was)] of what is not as it was. What of
    a global cannot be told may have changed."""
    changed, after = [], set()
    for path, name, value in contents_of(holders):
        after.add((path, name))
        old, print_before = before.get((path, name), (MISSING, None))
        if value is not old:
            changed.append((path, name, value, False))
            continue
        print_after = print_of(value)
        if print_after != print_before or (print_after is None and not isinstance(holders[path], type)):
            changed.append((path, name, value, True))
    return changed + [(path, name, MISSING, False) for path, name in before.keys() - after]

def restore(holders, changed):
    """Puts what the initializer changed where this function looks for it, by whatever name."""
    replaced = {}
    for path, name, value, same in changed:
        if path in holders and path[0] != "func":
            if same:
                old = get(holders[path], name) if name in names_in(holders[path]) else MISSING
                replaced[id(old)] = old, value
            put(holders[path], name, value)
    for path, name, value in list(contents_of(holders)):
        if id(value) in replaced and value is not MISSING:
            put(holders[path], name, replaced[id(value)][1])
''' + FINDER

# The file name is the one that workers leave out of tracebacks.
_EXPRESSION = "exec(compile(code, '<ppfs>', 'exec'), globals()) or make(*spec)"


class Remote:
    """Pickles as the function that make() of REMOTE gives. See there for what the words of spec mean."""

    def __init__(self, *, version: Optional[Sequence[int]], path: Sequence[str], blob: bytes = b"",
                 source: Optional[Source] = None, init_key: str = "", chunked: int = 0,
                 modules: Tuple[str, ...] = (), fresh: bool = False, wrapped: bool = False,
                 shipped: bytes = b"", environ: Optional[Dict[str, str]] = None,
                 log: Optional[Tuple[int, str]] = None) -> None:
        self.spec = (tuple(version) if version else None, tuple(path), blob, source, init_key, chunked, modules, fresh,
                     wrapped, shipped, environ, log)

    def __reduce__(self) -> Tuple[Any, Tuple[str, Dict[str, Any]]]:
        world = WORLD if self.spec[-1] or self.spec[-2] is not None else ""
        return eval, (_EXPRESSION, {"code": REMOTE + world, "spec": self.spec})


THIS_VERSION = sys.version_info[:2]
