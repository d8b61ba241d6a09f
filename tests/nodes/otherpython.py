"""ppfs-node and ppfs-worker for another minor version of Python than the rest was built for, where this machine has one.

build() gives (directory with the two programs, "3.13"). It is made below the build directory and only brought up to date
the next time: some ten seconds, then one. Raises NoOther with the reason where there is nothing to build with."""
import fcntl
import glob
import os
import shutil
import subprocess
import sys

from ppfsmount import BUILD, TOP, clean_env

FIRST = (3, 10)  # the oldest that ppfs-worker can embed
ASK = """
import os, sys, sysconfig
v = "%d.%d" % sys.version_info[:2]
print(v, bool(sysconfig.get_config_var("Py_ENABLE_SHARED")) and
      os.path.exists(os.path.join(sysconfig.get_config_var("LIBPC") or "", "python-%s-embed.pc" % v)))
"""


class NoOther(Exception):
    pass


def find():
    """(program, "3.13"): the newest Python with a shared library and headers that is none of ours."""
    named = os.environ.get("PPFS_OTHER_PYTHON")
    programs = [named] if named else [*glob.glob(os.path.expanduser("~/.pyenv/versions/*/bin/python3")),
                                      *glob.glob("/usr/bin/python3.[0-9]*"), *glob.glob("/usr/local/bin/python3.[0-9]*")]
    found = []
    for program in programs:
        done = subprocess.run([program, "-I", "-c", ASK], capture_output=True, text=True, env=clean_env("/nonexistent"))
        version, _, usable = done.stdout.strip().partition(" ")
        if done.returncode or usable != "True":
            continue
        number = tuple(map(int, version.split(".")))
        if number >= FIRST and number != sys.version_info[:2]:
            found.append((number, program, version))
    if not found:
        raise NoOther("no Python of another minor version with headers and a shared library here (PPFS_OTHER_PYTHON names one)")
    return max(found)[1:]


def build():
    program, version = find()
    where = BUILD / ("python-" + version)
    where.mkdir(exist_ok=True)
    lock = open(BUILD / "python.lock", "w")  # closed by whoever returns
    fcntl.flock(lock, fcntl.LOCK_EX)
    for tool in ("make", "pkg-config", os.environ.get("CC", "gcc")):
        if not shutil.which(tool):
            raise NoOther("no %s here to build workers for Python %s" % (tool, version))
    steps = [["make", "--quiet", "-j2", "ppfs-net", "ppfs-node", "ppfs-worker"]]
    if not (where / "Makefile").exists():
        steps.insert(0, [str(TOP / "configure"), "--quiet", "--with-python=" + program, "CFLAGS=-O1"])
    for step in steps:
        done = subprocess.run(step, cwd=where, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, "%s in %s:\n%s" % (" ".join(step), where, done.stdout[-3000:])
    return where, version
