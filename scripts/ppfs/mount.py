"""Which ppfs to use: the one that was named, $PPFS, the one of the mount table that this user has mounted, the one that
root has, else a private one that ends with this process.

A private mount belongs to a small shell that waits for the end of a pipe which this process holds. However this
process ends, kill -9 included, the shell unmounts and takes the directory away.
"""
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import IO, Dict, List, Optional, Tuple, Union

from . import trust
from .errors import NoMount

MountLike = Union[str, "os.PathLike[str]"]

_PRIVATE = "ppfs-private-"
_TYPE = "fuse.ppfs"
_lock = threading.Lock()
_private: Optional["PrivateMount"] = None

# Ends with its standard input. The state directory's lock is free when the last process has written down its state.
_KEEPER = r'''
dir=$1; shift
"$@" --state "$dir/state" "$dir/mnt" </dev/null >/dev/null || { rm -rf "$dir"; exit 1; }
echo ready
cat >/dev/null
n=0
until fusermount3 -u "$dir/mnt" 2>/dev/null || [ $n -ge 20 ]; do n=$((n + 1)); sleep 0.05; done
[ $n -lt 20 ] || fusermount3 -u -z "$dir/mnt" 2>/dev/null
flock -w 20 "$dir/state/lock" true 2>/dev/null
rmdir "$dir/mnt" && rm -rf "$dir"
'''


def is_mount(path: MountLike) -> bool:
    """Whether a ppfs is mounted there and answers."""
    try:
        return os.path.isdir(os.path.join(path, "jobs")) and os.path.isdir(os.path.join(path, "results"))
    except OSError:
        return False


def make_new(path: str) -> int:
    """Opens a job file for its owner alone, to be written; FileExistsError when its name has a job, a result or a failure.
    A mode that says who may read it from the start would be taken for that of a file that is copied, and replace a result
    (ppfs(5), O_EXCL)."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0)
    try:
        os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def mounted() -> List[Tuple[str, int]]:
    """The mountpoints of the mount table that are root's or this user's and that he may submit to, each with the uid of who
    has mounted it, the newest last. A ppfs that is seen in several places is there once. Private ones are left out, and those
    of other users, who would get what is submitted and make up what comes back."""
    found: Dict[int, Tuple[str, int]] = {}
    try:
        table = trust.mounts()
    except OSError:
        return []
    for _, escaped, kind, owner in table:
        if kind != _TYPE or owner is None or owner not in trust.users():
            continue
        path = _unescape(escaped)
        if os.path.basename(os.path.dirname(path)).startswith(_PRIVATE):
            continue
        if is_mount(path) and os.access(os.path.join(path, "jobs"), os.W_OK):
            try:
                device = os.stat(path).st_dev
            except OSError:
                continue
            found[device] = path, owner
    return list(found.values())


def _choice() -> Optional[str]:
    """The one of the mount table: this user's own, else root's; None: there is none. NoMount: there are several."""
    found = mounted()
    own = [path for path, owner in found if owner == os.geteuid()]
    paths = own or [path for path, _ in found]
    if len(paths) > 1:
        raise NoMount("several ppfs are mounted, %s: name one, or set $PPFS" % " and ".join(sorted(paths)))
    return paths[0] if paths else None


def _unescape(path: str) -> str:
    """A path of the mount table: blanks and the like stand there as octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


def find(mount: Optional[MountLike] = None, *, start: bool = True, cpus: Optional[int] = None) -> str:
    """The mountpoint to use, as an absolute path: mount, $PPFS, this user's own of the mount table, root's. start: start a
    private one, with cpus slots at least, when there is none. NoMount: there is none, or several could be meant."""
    if sys.platform != "linux":
        raise NoMount("a ppfs is mounted on Linux alone, and this is %s: run this program on a Linux machine (on Windows in WSL)"
                      % sys.platform)
    named = os.fspath(mount) if mount is not None else os.environ.get("PPFS")
    if named:
        path = os.path.abspath(named)
        if not is_mount(path):
            try:
                os.stat(os.path.join(path, "jobs"))
            except (FileNotFoundError, NotADirectoryError):
                pass
            except OSError as e:
                raise NoMount("%s%s cannot be used: %s" % (path, "" if mount is not None else " (named by $PPFS)", e.strerror)) from None
            raise NoMount("there is no ppfs mounted on %s%s; mount one with: ppfs %s"
                          % (path, "" if mount is not None else " (named by $PPFS)", path))
        return path
    with _lock:
        if _private is not None and _private.alive():
            if cpus is not None:
                _private.grow(cpus)
            return _private.path
    found = _choice()
    if found is not None:
        return found
    if not start:
        raise NoMount("no ppfs is mounted; name one, set $PPFS, or mount one with: ppfs DIRECTORY")
    return private(cpus).path


def is_private(mount: str) -> bool:
    """Whether it is the private mount of this process."""
    return _private is not None and _private.path == mount


def private_slots(mount: str) -> Optional[int]:
    """The slots of the private mount of this process; None: it is another mount."""
    return _private.cpus if _private is not None and _private.path == mount else None


def nodes(mount: str) -> List[str]:
    """The names of the machines that run jobs. OSError: the mount has gone."""
    return [name for name in os.listdir(os.path.join(mount, "nodes")) if not name.startswith(".")]


def slots(mount: str) -> int:
    """How many calls the nodes of a mount run at a time."""
    total = 0
    for node in nodes(mount):
        try:
            with open(os.path.join(mount, "nodes", node, "cpus"), encoding="ascii") as file:
                total += int(file.read())
        except (OSError, ValueError):
            continue
    return max(total, 1)


def program() -> str:
    """The ppfs to start: $PPFS_PROGRAM, the one of the source tree that this package is in, the one in PATH.
    NoMount: there is none."""
    given = os.environ.get("PPFS_PROGRAM")
    if given:
        return given
    built = Path(__file__).resolve().parents[2] / "build" / "ppfs"
    if (built.parents[1] / "configure.ac").exists() and os.access(built, os.X_OK):
        return str(built)
    found = shutil.which("ppfs")
    if not found:
        raise NoMount("no ppfs is mounted, and the program ppfs is not in PATH to start one")
    return found


def private(cpus: Optional[int] = None) -> "PrivateMount":
    """The private mount of this process, started when there is none. NoMount: it cannot be."""
    global _private
    with _lock:
        if _private is None or not _private.alive():
            _private = PrivateMount(cpus)
        elif cpus is not None:
            _private.grow(cpus)
        return _private


class PrivateMount:
    """A ppfs in a temporary directory."""

    def __init__(self, cpus: Optional[int] = None) -> None:
        command = [program()]
        if cpus is not None:
            command += ["--cpus", str(cpus)]
        if sys.prefix != sys.base_prefix:
            command += ["--python", sys.prefix]
        self._owner = os.getpid()
        self.dir = tempfile.mkdtemp(prefix=_PRIVATE)
        try:
            self.path = os.path.join(self.dir, "mnt")
            os.mkdir(self.path)
            with tempfile.TemporaryFile() as errors:
                self._process: "subprocess.Popen[bytes]" = subprocess.Popen(
                    ["/bin/sh", "-c", _KEEPER, "ppfs-private", self.dir, *command], stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=errors, start_new_session=True)
                self._await_ready(errors)
            self.cpus = int(self._cpus_file.read_text())
        except OSError as error:
            shutil.rmtree(self.dir, ignore_errors=True)
            raise NoMount("no ppfs is mounted, and a private one could not be started: %s" % error) from error

    def _await_ready(self, errors: IO[bytes]) -> None:
        """Returns when it is mounted. What does not come so far, the shell takes away."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            ready = process.stdout.readline()
        except BaseException:
            process.stdin.close()
            raise
        if ready != b"ready\n":
            process.communicate()
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip() or "it said nothing"
            raise NoMount("no ppfs is mounted, and a private one could not be started: " + said)
        process.stdout.close()

    def alive(self) -> bool:
        """Whether it is this process's (or its parent's, before a fork) and answers."""
        return is_mount(self.path)

    @property
    def _cpus_file(self) -> Path:
        return Path(self.path, "nodes", "local", "cpus")

    def grow(self, cpus: int) -> None:
        """At least so many slots: each executor that wants fewer has a limit of its own."""
        if cpus > self.cpus:
            self._cpus_file.write_text("%d\n" % cpus)
            self.cpus = cpus

    def forked(self) -> None:
        """In a child after fork: the mount is the parent's to end."""
        if self._process.stdin is not None:
            try:
                self._process.stdin.close()
            except OSError:
                pass

    def end(self) -> None:
        """Unmounts and waits for the directory to be gone."""
        if os.getpid() != self._owner or self._process.stdin is None or self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            pass


def end_private() -> None:
    """Ends the private mount of this process; the next Executor starts another."""
    global _private
    with _lock:
        mount, _private = _private, None
    if mount is not None:
        mount.end()


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    if _private is not None:
        _private.forked()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(end_private)
