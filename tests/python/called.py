"""Functions that are called as jobs by more than one test."""
import os
import sys
import time
import warnings


def nothing():
    return None


def fail(kind, *args):
    raise kind(*args)


def until(path, value=None):
    """Runs until the file is there."""
    while not os.path.exists(path):
        time.sleep(0.01)
    return value


def touch(path):
    open(path, "w").close()


def crowd(path):
    """How many calls of this were under way in that directory at a time."""
    mine = "%s/crowd%d" % (path, os.getpid())
    touch(mine)
    time.sleep(0.03)
    n = len([name for name in os.listdir(path) if name.startswith("crowd")])
    os.unlink(mine)
    return n


def warn(words, more=""):
    warnings.warn("so: %s" % words)
    if more:
        print(more, file=sys.stderr)
