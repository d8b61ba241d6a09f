"""What travels behind REMOTE (remote.py) for calls that log to their caller, or find his environment."""

WORLD = r'''
def logged(func, level, mark):
    """func with what is logged in it as marked lines of JSON in its standard error, which its caller reads."""
    import json, logging

    class Handler(logging.Handler):
        def emit(self, record):
            try:
                record.msg, record.args = record.getMessage(), None
                if record.exc_info and not record.exc_text:
                    record.exc_text = logging.Formatter().formatException(record.exc_info)
                plain = {name: value for name, value in vars(record).items()
                         if isinstance(value, (str, int, float)) or value is None}
                sys.stderr.write(mark + json.dumps(plain) + "\n")
            except Exception:
                self.handleError(record)

    def run(*args, **kwargs):
        handler, before = Handler(level), logging.root.level
        logging.root.addHandler(handler)
        logging.root.setLevel(min(level, before))
        try:
            return func(*args, **kwargs)
        finally:
            logging.root.setLevel(before)
            logging.root.removeHandler(handler)

    return run

def become(environ):
    """The environment of the caller, but for what ppfs sets."""
    for name in [name for name in os.environ if name not in environ and not name.startswith("PPFS") and name != "PWD"]:
        del os.environ[name]
    os.environ.update(environ)
'''
