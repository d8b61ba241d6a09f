"""Processes and mounts of this machine, as /proc shows them."""
import ctypes
import os
import re
import signal
from pathlib import Path


def alive(pid):
    """Whether the process exists and is not a zombie."""
    try:
        with open("/proc/%d/stat" % pid, "rb") as f:
            return f.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


def bytes_of(path):
    """All of a file of /proc, b"" where the process has gone. Each test reads thousands of them: open() takes three times as long."""
    parts = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while not parts or len(parts[-1]) == 16384:
                parts.append(os.read(fd, 16384))
        finally:
            os.close(fd)
    except OSError:
        return b""
    return b"".join(parts)


def all_pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def parents(pids=None):
    """{pid: parent} of every process, or of these, that is not a zombie."""
    table = {}
    for pid in all_pids() if pids is None else pids:
        fields = bytes_of("/proc/%d/stat" % pid).rpartition(b")")[2].split()
        if fields and fields[0] not in (b"Z", b"X"):
            table[pid] = int(fields[1])
    return table


def with_variable(variable):
    """Every living process whose environment has NAME=VALUE; that of a zombie is empty."""
    wanted = variable.encode()
    return [pid for pid, environment in ((pid, bytes_of("/proc/%d/environ" % pid)) for pid in all_pids())
            if wanted in environment and wanted in environment.split(b"\0")]


def exe_of(pid):
    try:
        return os.readlink("/proc/%d/exe" % pid).removesuffix(" (deleted)")
    except OSError:
        return ""


def text_of(path, fallback=""):
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return fallback


def in_fuse(pid):
    """Whether the process sleeps in a request to a FUSE filesystem."""
    stack = text_of("/proc/%d/stack" % pid)
    return "fuse_" in stack or "request_wait_answer" in (stack + text_of("/proc/%d/wchan" % pid))


def describe(pid):
    """What a process is doing, for the message of a test that hung."""
    status = text_of("/proc/%d/status" % pid)
    state = re.search(r"State:\s*(.*)", status)
    command = text_of("/proc/%d/cmdline" % pid).replace("\0", " ").strip()[:100]
    stack = [line.split("+")[0].split(" ")[-1] for line in text_of("/proc/%d/stack" % pid).splitlines()[:5]]
    return "  %d %s: %s; in %s" % (pid, command, state.group(1) if state else "gone",
                                   " < ".join(stack) or text_of("/proc/%d/wchan" % pid))


def kill(pid, sig=signal.SIGKILL):
    """Kills one process; that it has gone already is no error. Returns whether it was there."""
    try:
        os.kill(pid, sig)
        return True
    except ProcessLookupError:
        return False


def umount2(path, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.umount2(os.fsencode(str(path)), flags) == 0 else ctypes.get_errno()


def mount_line(path):
    """The line of /proc/self/mountinfo for the mountpoint (the topmost one), or ''."""
    wanted = str(path).replace("\\", "\\134").replace(" ", "\\040")
    lines = [line for line in text_of("/proc/self/mountinfo").splitlines() if line.split()[4] == wanted]
    return lines[-1] if lines else ""
