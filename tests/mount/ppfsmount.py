"""One real ppfs on a private mountpoint, and what a test needs to look at it.

A Mount starts the built ppfs in the background as a user would, finds its processes, and at the end unmounts and
checks that nothing is left: no process, no sanitizer report, no failed assertion, no daemon that died by itself.
Every process of a mount carries a mark in its environment, so that jobs that ran away are found as well.

Nothing here sleeps for luck: wait_until polls a condition and gives up after a bound that only guards against hangs.
"""
import ctypes
import datetime
import errno
import importlib
import json
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from processes import describe, exe_of, in_fuse, kill, mount_line, parents, text_of, umount2, with_variable

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PPFS_BUILD", TOP / "build")).resolve()
PPFS = BUILD / "ppfs"
WORKER = Path(os.environ.get("PPFS_WORKER", BUILD / "ppfs-worker")).resolve()
PYTHON = sys.executable  # of the minor version that the workers embed: make check runs us with that
MARK = "PPFS_TEST_MARK"
MNT_FORCE, MNT_DETACH = 1, 2

LIVE = []  # mounts that were started and not yet finished: what the watchdog tears down

# What a job may do: CPython asks for as many bytes as a pickle says it has, and gets none.
ASKED_TOO_MUCH = re.compile(r"^==\d+==WARNING: AddressSanitizer failed to allocate")
# A crash must look like one (a job's SIGSEGV is that job's, a daemon's is seen as a restart), so the sanitizer leaves
# signals alone. (Leaks are looked for in the daemon: ppfs-worker itself says that it has none, see tests/sanitizers.c.)
SANITIZER = ("handle_segv=0:handle_abort=0:handle_sigbus=0:handle_sigill=0:handle_sigfpe=0:"
             "allocator_may_return_null=1:log_path=%s")
PENDING = ("queued", "waiting")  # a job that cannot run for want of a slot at all may be in either
REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|runtime error: |[Aa]ssertion .*failed|stack smashing|double free|a fault of ppfs")


def high_water(pid):
    """Bytes of memory that a process has had at most."""
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))


def sanitized():
    """Whether the daemon under test was built with a sanitizer."""
    try:
        return b"__asan_init" in PPFS.read_bytes()
    except OSError:
        return False


# Started in the background of a shell we ignore SIGINT, and so would every client that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

SLOW = 4 if PPFS.exists() and sanitized() else 1  # hang guards are this much longer


def why_no_fuse():
    """A reason not to mount here, or ''."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as e:
        return "/dev/fuse: %s" % e.strerror
    return ""


def lacking(what):
    """Ends a test that needs something of Debian's that is not here: scripts/test, which sets PPFS_INSTALLED, has installed
    all of it, so the test fails there; elsewhere it is skipped."""
    if os.environ.get("PPFS_INSTALLED"):
        pytest.fail("%s is missing: its package belongs in scripts/lib.sh" % what)
    pytest.skip("%s is missing" % what, allow_module_level=True)


def need_programs(*names):
    for name in names:
        if not shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"):
            lacking(name)


def without_call(number):
    """For preexec_fn: that system call is as if the kernel had none such, for this process and its children."""
    def filtered():
        code = b"".join(struct.pack("HBBI", *one) for one in (
            (0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | errno.ENOSYS), (0x06, 0, 0, 0x7fff0000)))
        room = ctypes.create_string_buffer(code)
        program = struct.pack("HxxxxxxP", 4, ctypes.addressof(room))
        assert libc.prctl(38, 1, 0, 0, 0) == 0
        assert libc.prctl(22, 2, ctypes.create_string_buffer(program)) == 0
    libc = ctypes.CDLL(None, use_errno=True)
    return filtered


def need_landlock():
    """Skips where the kernel has none that knows of truncation, or it is switched off."""
    if ctypes.CDLL(None).syscall(444, None, 0, 1) < 3:
        pytest.skip("this kernel has no Landlock of version 3")


def need_module(name):
    """The module."""
    try:
        return importlib.import_module(name)
    except ImportError:
        lacking("Python's module " + name)


def wait_until(condition, what, timeout=40):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + timeout * SLOW
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("waited %d s in vain for: %s" % (timeout * SLOW, what))
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)


class Mount:
    """A ppfs below base: base/mnt is the mountpoint, base/state its state, base/work a directory for the test."""

    def __init__(self, base, cpus=2, options=(), env=None):
        self.base = Path(base)
        self.mnt = self.base / "mnt"
        self.statedir = self.base / "state"
        self.work = self.base / "work"
        self.cpus = cpus
        self.options = [str(o) for o in options]
        self.mark = uuid.uuid4().hex
        self.env = clean_env(self.base)
        self.env[MARK] = self.mark
        self.env.update(env or {})
        self.may_restart = False  # a test that kills the daemon says so (kill_daemon does)
        self.supervisor = self.first_daemon = 0
        for d in (self.mnt, self.work):
            d.mkdir(exist_ok=True)

    # starting and ending

    def argv(self, *more):
        words = [*self.options, *map(str, more)]
        default = [("--state", self.statedir), *([("--cpus", self.cpus)] if self.cpus is not None else [])]
        return [str(PPFS), *(word for d in default if d[0] not in words for word in map(str, d)), *words, str(self.mnt)]

    def run(self, *more, **kw):
        """Runs the command line and returns how it ended."""
        return subprocess.run(self.argv(*more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=self.env, timeout=50 * SLOW, **kw)

    def start(self, *more, **kw):
        """Mounts; the command must return 0 without a word, and the directory is ready at once."""
        if self not in LIVE:
            LIVE.append(self)
        p = self.run(*more, **kw)
        assert (p.returncode, p.stderr) == (0, ""), "ppfs exited %d: %s" % (p.returncode, p.stderr)
        return self.started()

    def started(self):
        """Finds the processes of a mount that is ready."""
        if self not in LIVE:
            LIVE.append(self)
        assert mount_line(self.mnt), "ppfs returned 0 but %s is not mounted" % self.mnt
        self.supervisor = 0
        found = wait_until(lambda: (pids := self.pids())["daemon"] and pids, "the daemon's process")
        self.first_daemon, self.supervisor = found["daemon"], found["supervisor"]
        return self

    def unmount(self):
        """fusermount3 -u, as a user would; waits until every process of the mount has gone."""
        p = subprocess.run(["fusermount3", "-u", str(self.mnt)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           text=True, timeout=30 * SLOW)
        assert p.returncode == 0, p.stdout
        self.gone()

    def gone(self):
        try:
            wait_until(lambda: not self.marked(), "every process to end after unmounting", 20)
        except AssertionError as e:
            raise AssertionError("%s; left are:\n%s\ncopies of the mount: %s" % (
                e, "\n".join(map(describe, self.marked())), self.copies())) from None

    def copies(self):
        """Who has the mount in a mount namespace of his own, where it outlives fusermount3 -u: [what /proc says of him]"""
        here = os.readlink("/proc/self/ns/mnt")
        found = []
        for pid in parents():
            try:
                if os.readlink("/proc/%d/ns/mnt" % pid) != here and str(self.mnt) in text_of("/proc/%d/mountinfo" % pid):
                    found.append(describe(pid))
            except OSError:
                continue
        return found

    def finish(self):
        """What every test ends with. Raises when the mount is not as it should be; cleans up in any case."""
        faults = []
        try:
            if mount_line(self.mnt):
                daemon = self.pids()["daemon"]
                if not self.may_restart and daemon != self.first_daemon:
                    faults.append("the daemon was %d and is now %d: it died by itself" % (self.first_daemon, daemon))
                try:
                    wait_until(lambda: subprocess.run(["fusermount3", "-u", str(self.mnt)], text=True,
                                                      capture_output=True).returncode == 0, "fusermount3 -u", 10)
                except AssertionError as e:
                    faults.append(str(e))
            try:
                self.gone()
            except AssertionError as e:
                faults.append(str(e))
        finally:
            self.abort()
            if self in LIVE:
                LIVE.remove(self)
        faults += self.reports()
        assert not faults, "\n".join(faults)

    def abort(self):
        """Ends everything by force; whoever waits in the mount gets an error."""
        for _ in range(8):
            if not mount_line(self.mnt):
                break
            if umount2(self.mnt, MNT_FORCE) != 0 and umount2(self.mnt, MNT_DETACH) != 0:
                subprocess.run(["fusermount3", "-u", "-z", str(self.mnt)], capture_output=True)
        for _ in range(50):
            left = self.marked()
            if not left:
                break
            for pid in left:
                kill(pid)
            time.sleep(0.02)

    def reports(self):
        found = []
        prefix = sanitizer_prefix(self.base)
        for path in sorted(prefix.parent.glob(prefix.name + ".*")):
            text = text_of(path)
            if any(line and not ASKED_TOO_MUCH.search(line) for line in text.splitlines()):
                found.append("%s:\n%s" % (path.name, text[:3000]))
        for line in self.log().splitlines():
            if REPORT.search(line):
                found.append("in the log: " + line)
        return found

    def log(self):
        return text_of(self.statedir / "ppfs.log")

    # processes

    def marked(self):
        """Every living process that was started by this mount, jobs and what they left behind included."""
        return with_variable("%s=%s" % (MARK, self.mark))

    def pids(self):
        """{"supervisor", "daemon", "forkserver": pid or 0, "guards", "workers": [pid]} as they are at this moment."""
        table = parents(self.marked())
        ours = set(table)
        mains = [pid for pid in ours if exe_of(pid) == str(PPFS)]
        if self.supervisor:
            supervisor = self.supervisor if self.supervisor in mains else 0
        else:
            supervisor = next((p for p in mains if table.get(p) not in mains and any(table.get(c) == p for c in mains)), 0)
        daemons = [p for p in mains if p != supervisor and (not supervisor or table.get(p) == supervisor)]
        daemon = min(daemons, default=0, key=lambda p: table.get(p) in daemons)  # not a child about to exec
        forkserver = next((p for p in ours if table.get(p) == daemon and exe_of(p) == str(WORKER)), 0) if daemon else 0
        guards = sorted(p for p in ours if forkserver and table.get(p) == forkserver)
        workers = sorted(p for p in ours if table.get(p) in guards and exe_of(p) == str(WORKER))
        return {"supervisor": supervisor, "daemon": daemon, "forkserver": forkserver, "guards": guards, "workers": workers}

    def kill_daemon(self):
        """kill -9 of the daemon; returns when the supervisor has another one."""
        self.may_restart = True
        old = wait_until(lambda: self.pids()["daemon"], "a daemon to kill")
        kill(old)
        return wait_until(lambda: (new := self.pids()["daemon"]) not in (0, old) and new, "another daemon")

    def kill_all(self):
        """kill -9 of everything, the supervisor first so that it starts nothing again; the mountpoint is stale then."""
        self.may_restart = True
        for pid in (self.pids()["supervisor"], self.pids()["daemon"], self.pids()["forkserver"]):
            if pid:
                kill(pid)
        self.gone()

    # the directory

    @property
    def jobs(self):
        return self.mnt / "jobs"

    @property
    def results(self):
        return self.mnt / "results"

    @property
    def failures(self):
        return self.mnt / "failures"

    @property
    def info(self):
        return self.mnt / "info"

    @property
    def node(self):
        return self.mnt / "nodes" / "local"

    def put(self, name, content):
        """Writes a job file: text, bytes, a dict (JSON) or a tuple or callable (a pickle)."""
        if isinstance(content, str):
            content = content.encode()
        elif isinstance(content, dict):
            content = json.dumps(content).encode()
        elif not isinstance(content, (bytes, bytearray)):
            content = pickle.dumps(content, 4)
        fd = os.open(self.jobs / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view):]
        finally:
            os.close(fd)
        return name

    def result(self, name):
        """Waits for the job and gives its result's bytes; a failed job's reason is in the exception."""
        try:
            return (self.results / name).read_bytes()
        except OSError as e:
            raise AssertionError("results/%s: %s; why: %s" % (name, e.strerror, self.why(name))) from None

    def call(self, name, content):
        """Submits a pickle and gives back what it returned."""
        self.put(name, content)
        return pickle.loads(self.result(name))

    def get(self, name, what):
        """One value of info/NAME without its newline."""
        return (self.info / name / what).read_text().removesuffix("\n")

    def state(self, name):
        return self.get(name, "state")

    def why(self, name):
        try:
            return self.get(name, "why")
        except OSError as e:
            return "(info/%s/why: %s)" % (name, e.strerror)

    def times(self, name):
        """{what: seconds since the epoch} of info/NAME/times."""
        lines = (line.split(maxsplit=1) for line in (self.info / name / "times").read_text().splitlines())
        return {what: datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp() for what, when in lines}

    def wait(self, name):
        """Blocks until the job has ended; its state."""
        return self.get(name, "wait")

    def is_running(self, name):
        return wait_until(lambda: self.state(name) == "running", "job %s to run" % name)

    def failed(self, name, error=errno.EIO):
        """The job must fail with this errno and one sentence that says why; gives the text of failures/NAME."""
        assert self.wait(name) == "failed", self.why(name)
        try:
            with open(self.results / name, "rb"):
                raise AssertionError("results/%s opened although the job failed" % name)
        except OSError as e:
            assert e.errno == error, "results/%s: %s" % (name, e.strerror)
        assert (self.results / name).name not in os.listdir((self.results / name).parent)
        text = (self.failures / name).read_text(errors="replace")
        why = self.why(name)
        assert why and "\n" not in why and len(why.encode()) <= 512, "not one sentence: %r" % why
        first = text.split("\n")[0]
        assert why == first or why.startswith(first + "; "), "%r does not begin with %r" % (why, first)
        return text

    def works(self, name="next"):
        """The next job runs normally, in a script and in a call; each worker gets one."""
        for i in range(3):
            self.put("%s-%d.json" % (name, i), {"call": "math.sqrt", "args": [i * i]})
            self.put("%s-%d.sh" % (name, i), "#!/bin/sh\necho %d\n" % i)
        for i in range(3):
            assert json.loads(self.result("%s-%d.json" % (name, i))) == i
            assert self.result("%s-%d.sh" % (name, i)) == b"%d\n" % i
        for i in range(3):
            (self.results / ("%s-%d.json" % (name, i))).unlink()
            (self.results / ("%s-%d.sh" % (name, i))).unlink()

    def sh(self, command, check=True, **kw):
        """Runs a line of shell in work/ with $M as the mountpoint. It must succeed without a word on stderr."""
        p = subprocess.run(["/bin/bash", "-c", command], cwd=self.work, stdin=subprocess.DEVNULL,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(self.client_env(), **kw))
        if check:
            assert (p.returncode, p.stderr) == (0, b""), "%s: exit %d: %s" % (command, p.returncode, p.stderr)
        return p

    def client_env(self):
        env = dict(self.env, M=str(self.mnt), W=str(self.work))
        del env[MARK]
        return env

    def popen(self, *argv, **kw):
        """Starts a client in the background."""
        kw.setdefault("stdout", subprocess.PIPE)
        kw.setdefault("stderr", subprocess.PIPE)
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen([str(a) for a in argv], cwd=self.work, env=self.client_env(), **kw)

    def reader(self, path):
        """A cat that has got as far as waiting in the mount."""
        p = self.popen("cat", path)
        wait_until(lambda: p.poll() is not None or in_fuse(p.pid), "cat %s to wait" % path)
        assert p.poll() is None, "cat %s did not wait: %s" % (path, p.communicate())
        return p

    # jobs that wait for the test

    def gate(self, name):
        """A shell script that says its pid in work/NAME.pid and runs until the test calls open_gate(NAME)."""
        key = name.replace("/", "_")
        return ("#!/bin/sh\necho $$ > %s/%s.new && mv %s/%s.new %s/%s.pid\n" % ((self.work, key) * 3) +
                "while [ ! -e %s/%s.go ]; do sleep 0.02; done\necho through %s\n" % (self.work, key, key))

    def open_gate(self, name):
        (self.work / (name.replace("/", "_") + ".go")).touch()

    def tree_job(self, options=""):
        """A job of five processes, two of which have left its process group and its parent; they never end."""
        return TREE % {"work": self.work, "options": "#ppfs: %s\n" % options if options else ""}

    def tree_pids(self):
        return [int(wait_until(lambda: text_of(self.work / ("p%d" % i)).strip(), "p%d" % i)) for i in range(1, 6)]

    def pid_of(self, name):
        """The process of a gate job that runs."""
        path = self.work / (name.replace("/", "_") + ".pid")
        return int(wait_until(lambda: text_of(path), "job %s to say its pid" % name))


TREE = """#!/bin/bash
%(options)secho $$ > %(work)s/p1
sleep 1000 & echo $! > %(work)s/p2
setsid sleep 1001 & echo $! > %(work)s/p3
(setsid bash -c 'trap "" TERM HUP INT; echo $$ > %(work)s/p4; sleep 1002 & echo $! > %(work)s/p5; wait' > /dev/null &)
wait
"""


def sanitizer_prefix(base):
    """Where sanitizers report, below the part of base that their options can spell."""
    return Path(re.match(r"[/\w.-]+(?=/|$)", str(base), re.ASCII).group()) / "sanitizer"


def clean_env(base):
    """The environment that ppfs is started in: nothing of the tester's Python, a home and a state of its own."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST", "PPFS_", "VIRTUAL_ENV"))}
    if "PPFS_WORKER" in os.environ:
        env["PPFS_WORKER"] = str(WORKER)
    env.update(HOME=str(base), XDG_STATE_HOME=str(Path(base) / "xdg"), LC_ALL="C.UTF-8",
               ASAN_OPTIONS=SANITIZER % sanitizer_prefix(base),
               UBSAN_OPTIONS="print_stacktrace=1:log_path=%s" % sanitizer_prefix(base))
    env["PATH"] = "/usr/bin:/bin:/usr/sbin:/sbin:" + env.get("PATH", "")
    return env


def database_of(statedir):
    """The SQLite file of a state directory."""
    for path in sorted(Path(statedir).rglob("*")):
        if path.is_file():
            with open(path, "rb") as f:
                if f.read(15) == b"SQLite format 3":
                    return path
    raise AssertionError("no database in %s" % statedir)
