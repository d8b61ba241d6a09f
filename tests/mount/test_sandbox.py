"""sandbox=: what a job cannot do then, whatever kind of job it is, whoever runs it and wherever."""
import errno
import json
import os
import pickle
import shutil
import socket
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from ppfsmount import PYTHON, need_landlock, without_call
from processes import kill

# Tries things; {what: "done" or the error}.
TRYING = r'''
import ctypes, errno, json, mmap, os, socket, subprocess, sys, tempfile

libc = ctypes.CDLL(None, use_errno=True)

def called(number, *args):
    if libc.syscall(number, *args) < 0:
        raise OSError(ctypes.get_errno(), "syscall")

def told(call):
    try:
        call()
        return "done"
    except OSError as e:
        return errno.errorcode.get(e.errno, str(e))
    except subprocess.CalledProcessError as e:
        return "status %d" % e.returncode

def overwrite(path, flags=0):
    fd = os.open(path, os.O_WRONLY | flags)
    os.write(fd, b"changed")
    os.close(fd)

def again(path):
    """Opens for writing what is open for reading."""
    fd = os.open(path, os.O_RDONLY)
    overwrite("/proc/self/fd/%d" % fd)

def through_link(make, path):
    make(path, "link")
    try:
        overwrite("link")
    finally:
        os.unlink("link")

def mounted(path):
    os.mkdir("point")
    try:
        subprocess.run(["unshare", "-rm", "sh", "-c", "mount --bind %s point && echo changed > point/kept" % path], check=True,
                       stderr=subprocess.DEVNULL)
    finally:
        os.rmdir("point")

def files(outside):
    kept = outside + "/kept"
    open("own", "w").write("x")
    return {name: told(call) for name, call in {
        "write": lambda: overwrite(kept), "append": lambda: overwrite(kept, os.O_APPEND),
        "cut": lambda: overwrite(kept, os.O_TRUNC), "truncate": lambda: os.truncate(kept, 0),
        "make": lambda: open(outside + "/new", "x"), "mkdir": lambda: os.mkdir(outside + "/dir"),
        "mkfifo": lambda: os.mkfifo(outside + "/fifo"), "symlink": lambda: os.symlink("x", outside + "/sym"),
        "unlink": lambda: os.unlink(kept), "rmdir": lambda: os.rmdir(outside + "/empty"),
        "rename": lambda: os.rename(kept, outside + "/other"), "in": lambda: os.rename("own", kept),
        "out": lambda: os.rename(kept, "stolen"), "link in": lambda: os.link("own", outside + "/own"),
        "through a link": lambda: through_link(os.link, kept),
        "through a symbolic link": lambda: through_link(os.symlink, kept),
        "through /proc": lambda: again(kept), "socket": lambda: socket.socket(socket.AF_UNIX).bind(outside + "/socket"),
        "tempfile": lambda: tempfile.mkstemp(dir=outside), "shell": lambda: subprocess.run(
            "echo changed > %s" % kept, shell=True, check=True, stderr=subprocess.DEVNULL),
        "mount": lambda: mounted(outside),
        "job": lambda: open(os.environ["PPFS"] + "/jobs/escaped", "w") if "PPFS" in os.environ else overwrite(kept),
    }.items()}

def allowed(outside):
    def moved():
        os.makedirs("a/b")
        open("a/x", "w").write("x")
        os.rename("a/x", "a/y")
        os.link("a/y", "a/z")
        os.truncate("a/y", 0)
        for name in "a/y", "a/z":
            os.unlink(name)
        os.rmdir("a/b")
        os.rmdir("a")
    def temporary():
        with tempfile.NamedTemporaryFile(dir="/tmp") as f:
            f.write(b"x")
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as f:
            f.write(b"x")
    return {name: told(call) for name, call in {
        "own": lambda: open("mine", "w").write("x"), "moved": moved, "temporary": temporary,
        "null": lambda: overwrite("/dev/null", os.O_TRUNC), "read": lambda: open(outside + "/kept").read(),
        "run": lambda: subprocess.run(["sh", "-c", "echo > /dev/null; echo >&2; echo x > by-a-shell"], check=True),
    }.items()}

def sockets(port, name, pid):
    number = {"x86_64": (425, 438, 434), "aarch64": (425, 438, 434)}[os.uname().machine]
    def tcp():
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
    def udp():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.sendto(b"x", ("127.0.0.1", port))
    def abstract():
        with socket.socket(socket.AF_UNIX) as s:
            s.connect("\0" + name)
    def stolen():
        fd = libc.syscall(number[2], pid, 0)
        try:
            called(number[1], fd, 3, 0)
        finally:
            os.close(fd)
    def local():
        with socket.socket(socket.AF_UNIX) as s, socket.socket(socket.AF_UNIX) as c:
            s.bind("local")
            os.unlink("local")
        for one in socket.socketpair():
            one.close()
    return {what: told(call) for what, call in {
        "tcp": tcp, "udp": udp, "tcp6": lambda: socket.socket(socket.AF_INET6).close(),
        "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
        "vsock": lambda: socket.socket(socket.AF_VSOCK).close(), "abstract": abstract, "stolen": stolen,
        "io_uring": lambda: called(number[0], 4, ctypes.create_string_buffer(120)), "local": local,
    }.items()}

def both(outside, port, name, pid):
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    return {"files": files(outside), "allowed": allowed(outside), "sockets": sockets(port, name, pid),
            "privs": status["NoNewPrivs"]}

if __name__ == "__main__":
    print(json.dumps(both(*json.loads(sys.argv[1]))))
'''

@pytest.fixture(autouse=True)
def landlock():
    need_landlock()


REFUSED = {"EACCES", "EXDEV", "EPERM", "status 1", "status 2"}


class World:
    """What a job tries to reach: files of its user's outside, servers, a process of its user's with a socket."""

    def __init__(self, base, user=None):
        self.outside, self.own = base / "outside", base / "own"
        for d in self.outside, self.outside / "empty", self.own:
            d.mkdir()
        (self.outside / "kept").write_text("kept")
        (self.own / "trying.py").write_text(TRYING)
        self.server, self.abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
        self.name = "ppfs-test-%d" % self.server.getsockname()[1]
        self.abstract.bind("\0" + self.name)
        self.abstract.listen()
        holding = "import socket, time, os\ns = socket.socket()\nos.dup2(s.fileno(), 3)\nprint(1, flush=True)\ntime.sleep(600)"
        self.holder = subprocess.Popen([PYTHON, "-c", holding], stdout=subprocess.PIPE, cwd="/",
                                       preexec_fn=user and user._become)
        for path in [self.own, self.outside, *self.own.iterdir(), *self.outside.iterdir()]:
            os.chown(path, user.uid if user else -1, user.gid if user else -1)
        self.holder.stdout.readline()

    def args(self):
        return [str(self.outside), self.server.getsockname()[1], self.name, self.holder.pid]

    def close(self):
        self.server.close()
        self.abstract.close()
        kill(self.holder.pid)
        self.holder.wait()
        self.holder.stdout.close()

    def untouched(self):
        found = sorted(os.listdir(self.outside))
        return found == ["empty", "kept"] and (self.outside / "kept").read_text() == "kept"

    def content(self, kind, sandbox):
        """A job file of that kind, which prints or returns what trying.both found."""
        words = json.dumps(self.args())
        expression = "__import__('trying').both(*%r)" % (self.args(),)
        option = {} if sandbox is None else {"sandbox": sandbox}
        comment = "" if sandbox is None else "#ppfs: sandbox=%s\n" % sandbox
        return {"script": "%simport json, trying\nprint(json.dumps(trying.both(*%r)))\n" % (comment, self.args()),
                "fresh": "%s#ppfs: env=PYTHONHASHSEED:1\nimport json, trying\nprint(json.dumps(trying.both(*%r)))\n"
                         % (comment, self.args()),
                "program": "#!/bin/sh\n%sexec %s trying.py '%s'\n" % (comment, PYTHON, words),
                "run": json.dumps({"run": [PYTHON, "trying.py", words], **option}),
                "json": json.dumps({"call": "eval", "args": [expression], **option}),
                "line.jsonl": json.dumps({"call": "eval", "args": [expression], **option}) + "\n",
                "lease.jsonl": json.dumps({"call": "eval", "args": [expression]}) + "\n",
                "pickle": pickle.dumps((eval, ("__import__('json').dumps(%s)" % expression,)), 2)}[kind]


def check(found, sandbox, world):
    ro, off = sandbox in ("ro", "ro,net-off"), sandbox in ("net-off", "ro,net-off")
    assert found["privs"] == "1"
    assert set(found["allowed"].values()) == {"done"}, found["allowed"]
    if ro:
        assert {what: how for what, how in found["files"].items() if how not in REFUSED} == {}
        assert world.untouched()
    else:
        assert found["files"]["append"] == "done"
    sockets = found["sockets"]
    assert sockets["local"] == "done"
    if off:
        assert {sockets[what] for what in ("tcp", "udp", "tcp6", "netlink", "vsock")} == {"EAFNOSUPPORT"}
        assert {sockets[what] for what in ("io_uring", "stolen")} == {"EPERM"}
        assert sockets["abstract"] in ("EPERM", "done")  # from Linux 6.12 on
    else:
        assert sockets["tcp"] == sockets["udp"] == "done"


def ran(world, name, content, mnt, sh):
    """What the job found; sh runs a shell command as its user."""
    (world.own / ".content").write_bytes(content if isinstance(content, bytes) else content.encode())
    p = sh("cd %s && (cp .content $M/jobs/%s && cat $M/results/%s || cat $M/failures/%s) | tr -cd '[:print:]'"
           % (world.own, name, name, name), M=mnt)
    text = p.stdout
    if name.endswith("pickle"):
        text = text[text.index("{"):text.rindex("}") + 1]
    try:
        found = json.loads(text)
    except ValueError:
        raise AssertionError("%s: %s %s" % (name, p.stdout, p.stderr)) from None
    return found.get("result", found)


def own_shell(m):
    def sh(command, **env):
        return subprocess.run(["/bin/bash", "-c", command], env=dict(m.env, **{k: str(v) for k, v in env.items()}), text=True,
                              capture_output=True, timeout=100, stdin=subprocess.DEVNULL)
    return sh


@pytest.fixture
def elsewhere():
    """A directory of the test's own that is not below /tmp."""
    path = Path(tempfile.mkdtemp(prefix="ppfs-test.", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def m(elsewhere, new_mount):
    return new_mount(base=elsewhere).start()


@pytest.fixture
def shared(elsewhere, new_user, new_mount):
    return new_mount(base=elsewhere, options=["-o", "allow_other"]).start()


@pytest.fixture
def hers(elsewhere, alice):
    """alice's world on root's mount."""
    world = World(elsewhere, alice)
    yield world
    world.close()


@pytest.fixture
def ours(elsewhere):
    world = World(elsewhere)
    yield world
    world.close()


KINDS = ["script", "fresh", "program", "run", "json", "line.jsonl", "pickle", "lease.jsonl"]


def submitted(world, kind, sandbox, mnt, sh):
    if kind in ("pickle", "lease.jsonl"):
        p = sh("mkdir -p $M/jobs/g && echo sandbox=%s > $M/jobs/g/.options && cat $M/jobs/g/.options" % sandbox, M=mnt)
        assert p.stdout == "sandbox=%s\n" % sandbox
        return ran(world, "g/" + kind, world.content(kind, None), mnt, sh)
    return ran(world, kind, world.content(kind, sandbox), mnt, sh)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_another_user_is_kept_in(shared, alice, hers, kind):
    check(submitted(hers, kind, "ro,net-off", shared.mnt, alice.sh), "ro,net-off", hers)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_of_the_one_who_mounted_is_kept_in(m, ours, kind):
    check(submitted(ours, kind, "ro,net-off", m.mnt, own_shell(m)), "ro,net-off", ours)


@pytest.mark.parametrize("sandbox", ["ro", "net-off"])
def test_each_alone(m, ours, sandbox):
    check(ran(ours, "x", ours.content("script", sandbox), m.mnt, own_shell(m)), sandbox, ours)


def test_without_one_all_is_done(m, ours):
    """What is tried would work."""
    found = ran(ours, "x", ours.content("script", None), m.mnt, own_shell(m))
    assert found["privs"] == "0"
    assert found["files"]["write"] == found["files"]["truncate"] == found["files"]["job"] == "done"
    assert {found["sockets"][what] for what in ("tcp", "udp", "abstract", "stolen", "io_uring")} <= {"done", "EINVAL"}


def test_a_second_script_is_kept_in_as_well(m, ours):
    """It is run by the process that was made ahead."""
    sh = own_shell(m)
    for i in range(3):
        m.put("warm%d" % i, "print(1)\n")
        assert m.result("warm%d" % i) == b"1\n"
    check(ran(ours, "x", ours.content("script", "ro"), m.mnt, sh), "ro", ours)
    m.put("free", "open(%r, 'w').write('changed')\n" % str(ours.outside / "kept"))
    assert m.result("free") == b""
    assert (ours.outside / "kept").read_text() == "changed"


@pytest.fixture
def fuse_for_all():
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode)
    os.chmod("/dev/fuse", 0o666)
    yield
    os.chmod("/dev/fuse", mode)


def test_on_a_mount_of_an_ordinary_user(elsewhere, new_mount, alice, hers, fuse_for_all):
    m = new_mount(base=elsewhere)
    for path in elsewhere, m.mnt, m.work:
        os.chown(path, alice.uid, alice.gid)
    p = m.run(preexec_fn=alice._become)
    assert (p.returncode, p.stderr) == (0, ""), p.stderr
    m.started()
    try:
        for kind in "script", "run", "json":
            check(ran(hers, kind, hers.content(kind, "ro,net-off"), m.mnt, alice.sh), "ro,net-off", hers)
        assert alice.sh("fusermount3 -u $M", M=m.mnt).returncode == 0
        m.gone()
    finally:
        m.abort()


def test_a_fresh_directory_is_its_own(m):
    os.chdir(m.mnt)
    m.put("x", "#ppfs: sandbox=ro\nopen('here', 'w').write('x')\nprint(open('here').read())\n")
    os.chdir(m.work)
    assert m.result("x") == b"x\n"


def test_a_job_may_say_none_in_a_group_that_says_something(m):
    (m.jobs / "g").mkdir()
    (m.jobs / "g" / ".options").write_text("sandbox=net-off\n")
    m.put("g/in", "import socket\nsocket.socket()\n")
    m.put("g/out", "#ppfs: sandbox=none\nimport socket\nsocket.socket()\nprint(1)\n")
    assert m.result("g/out") == b"1\n"
    assert "Address family not supported" in m.failed("g/in")


@pytest.mark.parametrize("value", ["rw", "ro,", "", "ro,ro", "net_off", "none,ro"])
def test_what_is_no_sandbox(m, value):
    m.put("x", "#ppfs: sandbox=%s\nprint(1)\n" % value)
    assert "option sandbox=%s is not understood: ro, net-off, both with a comma between them, or none is expected" % value \
        in m.failed("x")


def test_a_directory_that_is_all_is_refused(m):
    m.put("x", {"run": ["true"], "sandbox": "ro", "cwd": "/"})
    assert "keep to its own directory, for that is all there is" in m.failed("x")
    m.put("y", {"call": "abs", "args": [1], "sandbox": "ro", "cwd": "/proc/self/root"})
    assert "keep to its own directory, for that is all there is" in m.failed("y")
    m.put("z", {"run": ["true"], "sandbox": "net-off", "cwd": "/"})
    assert m.result("z") == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="fusermount3 has no privileges under a filter of an ordinary user")
def test_a_kernel_that_cannot_refuses(new_mount):
    m = new_mount()
    m.start(preexec_fn=without_call(444))  # landlock_create_ruleset
    for name, content in {"script": "#ppfs: sandbox=ro\nprint(1)\n", "sh": "#!/bin/sh\n#ppfs: sandbox=net-off\necho 1\n",
                          "call": {"call": "abs", "args": [1], "sandbox": "ro"},
                          "run": {"run": ["true"], "sandbox": "ro,net-off"}}.items():
        m.put(name, content)
        assert "cannot be had here: Landlock is not in this machine's kernel" in m.failed(name)
    m.put("lines.jsonl", '{"call": "abs", "args": [1], "sandbox": "ro"}\n{"call": "abs", "args": [2]}\n')
    refused, done = m.result("lines.jsonl").splitlines()
    assert b"Landlock" in refused and done == b"2"
    (m.jobs / "g").mkdir()
    (m.jobs / "g" / ".options").write_text("sandbox=ro\n")
    m.put("g/lines.jsonl", '{"call": "abs", "args": [1]}\n')
    assert b"Landlock" in m.result("g/lines.jsonl")
    m.works()
