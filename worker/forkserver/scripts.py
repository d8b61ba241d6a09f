# Python scripts, each in a process of its own, as python3 would run them. It is one text with bootstrap.py.
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
    """Lets tracebacks show lines of source that is in no file."""
    try:
        text = importlib.util.decode_source(source)
    except (SyntaxError, UnicodeDecodeError, LookupError):
        text = source.decode("utf-8", "replace")
    linecache.cache[name] = (len(source), None, text.splitlines(True), name)


def finish_script():
    """Does what a script can notice of Py_FinalizeEx; the rest costs 40 ms, and _exit spares it. True: flush failed."""
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
    """What is added to the error of source that may not be Python: nothing in the file said what it is."""
    ending = os.path.basename(name).rpartition(".")[2].lower()
    if source.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"#!") or ending == "py" or (compiled and ending not in OTHERS):
        return ""
    return "taken as Python, for it has no #! line: "


def run_script(source, file, name, attempt, node, cwd, env):
    """Runs source as __main__ in this process, which is the job's own; (exit status, why). None: it stands in file, which
    children that are started anew read too (multiprocessing's spawn and forkserver)."""
    set_job(name, attempt, node, cwd, env)
    forget_changed_modules(cwd, begins=True)
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
