"""A job of another user than the one who mounted begins as at a login of his: nothing of root's reaches it."""
import ctypes
import errno
import json
import os
import pickle
import re
import resource
import shlex
import shutil
from pathlib import Path

import pytest
from ppfsmount import PYTHON, sanitized
from processes import kill
from test_sandbox import fuse_for_all  # noqa: F401
from test_threads import NAMES as THREADS

HALVES = "wJalrXUtn", "FEMIK7MDENG"
SECRET = "".join(HALVES)
OURS = {"AWS_SECRET_ACCESS_KEY": SECRET, "SSH_AUTH_SOCK": "/tmp/%s/agent" % SECRET, "PYTHONPATH": "/tmp/%s" % SECRET,
        "TERM": "xterm", "LD_LIBRARY_PATH": "/tmp/%s" % SECRET, "PATH": "/tmp/%s:/usr/bin:/bin" % SECRET,
        "LANG": "C.UTF-8"}

LOOKING = r'''"""What a job finds."""
import ctypes, json, os, re, resource, stat, sys

def memory(half, other):
    """Where in this process the two stand together."""
    found = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if "r" in line.split()[1] and "[v" not in line and end - start < 1 << 28:  # the tables of sanitizers are larger
                try:
                    mem.seek(start)
                    data = mem.read(end - start)
                except (OSError, OverflowError):
                    continue
                for m in re.finditer(b"%b(?=%b)" % (half.encode(), other.encode()), data):
                    found.append("%s %s" % (line.split()[-1], data[max(0, m.start() - 60):m.start()]))
    return found

def keys(name):
    """Of the session keyring: whether a key of that name is found in it."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    found = libc.syscall(number, 10, -3, b"user", name.encode(), 0)
    return os.strerror(ctypes.get_errno()) if found < 0 else found

def descriptors():
    """Those of files that are open; those of a pipe, a socket or a memfd of ppfs's own are named by what they are."""
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[fd] = re.sub(r"[0-9]{4,}|\[[0-9]+\]", "N", os.readlink("/proc/self/fd/" + fd))
        except OSError:
            pass
    return found

def state():
    with open("/proc/self/status") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    mask = os.umask(0)
    os.umask(mask)
    try:
        os.close(os.open("/dev/tty", os.O_RDWR))
        terminal = True
    except OSError:
        terminal = False
    with open("/proc/self/oom_score_adj") as f:
        oom = int(f.read())
    return {"privs": status["NoNewPrivs"], "inheritable": status["CapInh"], "blocked": status["SigBlk"], "umask": mask,
            "nice": os.getpriority(os.PRIO_PROCESS, 0), "policy": os.sched_getscheduler(0), "terminal": terminal,
            "fds": descriptors(), "oom": oom,
            "core": resource.getrlimit(resource.RLIMIT_CORE)[0], "keys": keys("ppfs-test"),
            "nproc": resource.getrlimit(resource.RLIMIT_NPROC), "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)}

def look():
    with open("/proc/self/environ", "rb") as f:
        begun = f.read().decode()
    return {"state": state(), "environ": dict(os.environ), "memory": memory(*HALVES),
            "begun": dict(p.split("=", 1) for p in begun.split("\0") if p)}

HALVES = @HALVES@
if __name__ == "__main__":
    print(json.dumps(look()))
'''.replace("@HALVES@", repr(HALVES))

CALL = "__import__('looking').look()"
KINDS = {
    "script.py": "import json, looking\nprint(json.dumps(looking.look()))\n",
    "fresh.py": "#ppfs: env=PYTHONHASHSEED:1\nimport json, looking\nprint(json.dumps(looking.look()))\n",
    "program": "#!/bin/sh\nexec %s looking.py\n" % shlex.quote(PYTHON),
    "run": {"run": [PYTHON, "looking.py"]},
    "json": {"call": "eval", "args": [CALL]},
    "lines.jsonl": json.dumps({"call": "eval", "args": [CALL]}) + "\n",
    "pickle": pickle.dumps((eval, ("__import__('json').dumps(%s)" % CALL,)), 2),
}
if not sanitized():  # a limit on address space does not go with them
    KINDS["limited"] = {"call": "eval", "args": [CALL], "memory": "2G"}


def job_of(user, name, mnt):
    """Submits it as the user; what look() returned."""
    (user.home / "looking.py").write_text(LOOKING)
    content = KINDS[name]
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    (user.home / "content").write_bytes(content)
    p = user.sh("(cp content $M/jobs/{0} && cat $M/results/{0} || cat $M/failures/{0}) | tr -cd '[:print:]'".format(name),
                M=mnt)
    text = p.stdout
    if name == "pickle":
        text = text[text.index("{"):text.rindex("}") + 1]
    try:
        found = json.loads(text)
    except ValueError:
        raise AssertionError("%s: %s %s" % (name, p.stdout, p.stderr)) from None
    return found.get("result", found) if isinstance(found, dict) else found


KEYCTL = {"x86_64": (250, 248), "aarch64": (219, 217)}[os.uname().machine]


def begin_badly():
    """What an administrator's own session may have: a key, haste, core files, closed files."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall(KEYCTL[0], 1, None)  # KEYCTL_JOIN_SESSION_KEYRING
    assert libc.syscall(KEYCTL[1], b"user", b"ppfs-test", SECRET.encode(), len(SECRET), -3) > 0
    os.setpriority(os.PRIO_PROCESS, 0, -3)
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (4096, resource.getrlimit(resource.RLIMIT_CORE)[1]))


@pytest.fixture
def rich(new_user, new_mount):
    """A mount of root's for everybody, that was started with much in its environment."""
    return new_mount(options=["-o", "allow_other"], env=OURS).start(preexec_fn=begin_badly)


def login_path(user):
    with open("/etc/login.defs") as f:
        return re.search(r"^ENV_PATH\s+PATH=(\S+)", f.read(), re.MULTILINE).group(1)


def expected(user, m):
    return {"PATH": login_path(user), "HOME": str(user.home), "USER": user.name, "LOGNAME": user.name,
            "SHELL": "/bin/bash", "LANG": "C.UTF-8", "PPFS": str(m.mnt), "PPFS_NODE": "local", "PPFS_ATTEMPT": "1",
            "PWD": str(user.home), **dict.fromkeys(THREADS, "1")}


@pytest.mark.parametrize("name", KINDS)
def test_the_environment_is_that_of_the_jobs_user(rich, alice, name):
    found = job_of(alice, name, rich.mnt)
    want = expected(alice, rich)
    if name == "fresh.py":
        want["PYTHONHASHSEED"] = "1"
    environ = found["environ"]
    assert environ.pop("PPFS_JOB", name).startswith(name)
    for of_the_shell_or_python in "_", "LC_CTYPE":
        environ.pop(of_the_shell_or_python, None)
    assert environ == want
    assert set(found["begun"]) <= set(want) | {"PPFS_JOB", "_"}
    assert SECRET not in str(found["begun"])
    assert found["memory"] == []


@pytest.fixture
def limited(alice):
    """alice, whom limits.conf(5) grants so many processes and files."""
    path = Path("/etc/security/limits.d/%s.conf" % alice.name)
    path.write_text("* - nproc 9999\n%d:%d hard nofile 600 # of this user\n@%s soft nproc 444\n%s - nproc 500\n"
                    "%d:7x hard nproc 7\n* soft nofile 50\n" % (alice.uid, alice.uid, alice.name, alice.name, alice.uid))
    yield alice
    path.unlink()


@pytest.mark.parametrize("name", KINDS)
def test_what_else_a_job_begins_with(rich, limited, name):
    found = job_of(limited, name, rich.mnt)["state"]
    fds = found.pop("fds")
    assert found == {"privs": "1", "inheritable": "0" * 16, "blocked": "0" * 16, "umask": 0o022, "nice": 0, "policy": 0,
                     "terminal": False, "oom": 500, "core": 0, "keys": os.strerror(errno.ENOKEY),
                     "nproc": [500, 500], "nofile": [50, 600]}
    assert fds.pop("0") in ("/dev/null", "/proc/N/fd")
    assert fds.pop("1") == fds.pop("2") == "pipe:N"
    own = [what for what in fds.values() if not what.startswith("/proc/")]
    answer = ["/memfd:ppfs-result (deleted)"], ["socket:N"]  # where a call's goes, and nowhere else
    assert own == [] or (name in ("json", "limited", "pickle", "lines.jsonl") and own in answer)


def test_packages_that_a_user_has_installed_for_himself(shared, alice):
    where = alice.sh("%s -c 'import site; print(site.getusersitepackages())'" % PYTHON).stdout.strip()
    found = "%s -c 'import sys; print(sys.path[1:])'" % PYTHON
    p = alice.sh("mkdir -p {0}/more && echo 'at = 1' > {0}/ppfsmine.py && echo {0}/more > {0}/more.pth && {1}"
                 .format(where, found))
    path = p.stdout.strip()
    assert where in path and where + "/more" in path
    (alice.home / "s.py").write_text("import ppfsmine, sys\nprint(sys.path[1:])\n")
    call = '{"call": "eval", "args": ["__import__(\'ppfsmine\') and str(__import__(\'sys\').path[1:])"]}\n'
    (alice.home / "call").write_text(call)
    (alice.home / "c.jsonl").write_text(call * 3)
    p = alice.sh("for x in s.py call c.jsonl; do cp $x $M/jobs/$x; cat $M/results/$x; done", M=shared.mnt)
    lines = [line.strip('"') for line in p.stdout.splitlines()]
    assert lines == [path] * 5, p.stdout


def test_the_owner_of_the_mount_keeps_his(rich):
    os.chdir(rich.work)
    rich.put("x.py", "import os; print(os.environ['AWS_SECRET_ACCESS_KEY'])")
    rich.put("y", "#!/bin/sh\nprintenv AWS_SECRET_ACCESS_KEY TERM\n")
    assert rich.result("x.py").decode() == SECRET + "\n"
    assert rich.result("y").decode() == SECRET + "\nxterm\n"


# --- programs that change users --------------------------------------------------------------------------------------

@pytest.mark.parametrize("asked", [False, True])
def test_set_user_id_programs_of_others_work_where_that_was_asked_for(new_user, new_mount, alice, asked):
    m = new_mount(options=["-o", "allow_other,suid_jobs" if asked else "allow_other"]).start()
    whoami = m.base / "whoami"
    shutil.copy("/usr/bin/id", whoami)
    whoami.chmod(0o4755)
    if os.statvfs(whoami).f_flag & os.ST_NOSUID:
        pytest.skip("no program changes users below %s" % m.base)
    as_user = "0" if asked else str(alice.uid)
    for name, content in ("run", json.dumps({"run": [str(whoami), "-u"]})), ("sh", "#!/bin/sh\n%s -u\n" % whoami), \
            ("py", "import subprocess\nprint(subprocess.check_output([%r, '-u'], text=True))\n" % str(whoami)):
        (alice.home / name).write_text(content)
        assert alice.sh("cp {0} $M/jobs/{0}; cat $M/results/{0}".format(name), M=m.mnt).stdout.strip() == as_user
    os.chdir(m.work)
    m.put("own", {"run": ["grep", "NoNewPrivs", "/proc/self/status"]})
    assert m.result("own").split()[1] == b"0"


OUTLIVING = """
import os, time
os.setresuid(0, 0, 0)
print(os.getpid(), flush=True)
os.close(0)
for _ in range(1000):
    time.sleep(0.05)
    try:
        os.write(1, b"forged\\n")
    except OSError:
        pass
"""


@pytest.mark.parametrize("content", ["#!/bin/sh\n%s outliving.py &\nsleep 0.5\n",
                                     "import subprocess, time\nsubprocess.Popen(['%s', 'outliving.py'])\ntime.sleep(0.5)\n",
                                     '{"call": "os.system", "args": ["%s outliving.py & sleep 0.5"]}'])
def test_what_only_root_could_kill_is_in_nobodys_way(new_mount, alice, fuse_for_all, content):
    """On an ordinary user's own mount a program that has become root outlives its job."""
    m = new_mount(base=alice.home)
    python = alice.home / "python"
    shutil.copy(PYTHON, python)
    python.chmod(0o4755)
    (alice.home / "outliving.py").write_text(OUTLIVING)
    (alice.home / "x").write_text(content % python)
    for path in m.mnt, m.work:
        os.chown(path, alice.uid, alice.gid)
    p = m.run(preexec_fn=alice._become)
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    pids = []
    try:
        p = alice.sh("cp x $M/jobs/x; cat $M/info/x/wait; cat $M/info/x/stdout", M=m.mnt)
        assert p.stdout.startswith("done\n")
        pids = [int(line) for line in p.stdout.split() if line.isdigit() and int(line) > 1]
        assert len(pids) == 1 and os.stat("/proc/%d" % pids[0]).st_uid == 0
        for i in range(3):
            p = alice.sh("printf '#!/bin/sh\\nsleep 0.3; echo mine\\n' > $M/jobs/y%d; cat $M/results/y%d" % (i, i), M=m.mnt)
            assert p.stdout == "mine\n"
        assert alice.sh("fusermount3 -u $M", M=m.mnt).returncode == 0
        kill(pids[0])
        m.gone()
    finally:
        for pid in pids:
            kill(pid)
        m.abort()


# --- what a job names is looked at as its user -----------------------------------------------------------------------

@pytest.fixture
def closed(base):
    """A directory of root's that nobody else may look into."""
    path = base / "closed"
    path.mkdir(mode=0o700)
    return path


def refusal(user, m, name, content):
    (user.home / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return user.sh("cp {0} $M/jobs/{0}; cat $M/results/{0}; cat $M/failures/{0}".format(name), M=m.mnt).stdout


def test_the_first_line_of_a_closed_file_is_not_told(shared, alice):
    secret = shared.base / "secret"
    secret.write_text("#!%s\n" % SECRET)
    secret.chmod(0o700)
    for name, content in ("run", {"run": [str(secret)]}), ("sh", "#!%s\n" % secret):
        told = refusal(alice, shared, name, content)
        assert SECRET not in told and "could not be executed" in told or "cannot be executed" in told


def test_a_fifo_that_a_job_names_is_not_opened(shared, alice):
    fifo = shared.base / "fifo"
    os.mkfifo(fifo, 0o600)
    theirs = alice.home / "fifo"
    os.mkfifo(theirs, 0o777)
    for i, path in enumerate((fifo, theirs)):
        assert "xecuted" in refusal(alice, shared, "run%d" % i, {"run": [str(path)]})
        assert "xecuted" in refusal(alice, shared, "sh%d" % i, "#!%s\n" % path)
        with pytest.raises(OSError):  # there was no reader
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))


def test_what_is_in_a_closed_directory_is_not_told(shared, closed, alice):
    (closed / "python3").symlink_to(PYTHON)
    (closed / "folder").mkdir(mode=0o777)
    (closed / "true").symlink_to("/bin/true")
    told = {}
    for what, python, directory, program in ("is", "python3", "folder", "true"), ("not", "pythn", "foldr", "tre"):
        told[what] = [refusal(alice, shared, "a", "#!%s/%s\nprint(1)\n" % (closed, python)),
                      refusal(alice, shared, "b", {"run": ["true"], "cwd": "%s/%s" % (closed, directory)}),
                      refusal(alice, shared, "c", {"run": ["%s/%s" % (closed, program)]})]
        told[what] = [text.replace(name, "X") for text, name in zip(told[what], (python, directory, program))]
    assert told["is"] == told["not"] and all(told["is"])


def test_usual_names_of_the_workers_python_run_warm(m):
    m.put("x", "#!/usr/bin/python3\nimport sys; print('warm' if 'fnmatch' in sys.modules else 'cold')\n")
    (m.work / "python3").symlink_to(PYTHON)
    m.put("y", "#!%s/python3\nimport sys; print(sys.version_info.major)\n" % m.work)
    assert m.result("x") == b"warm\n"
    assert m.result("y") == b"3\n"


# --- kill ------------------------------------------------------------------------------------------------------------

def test_kill_all_kills_ones_own_jobs_alone(shared, alice, mallory):
    os.chdir(shared.work)
    shared.put("roots", "#!/bin/sh\nuntil [ -e %s ]; do sleep 0.05; done; echo $PPFS_ATTEMPT\n" % (shared.work / "go"))
    (alice.home / "j").write_text("#!/bin/sh\necho $PPFS_ATTEMPT\n")
    for i, content in enumerate(("#!/bin/sh\nkill -9 -1\n", "import os\nos.kill(-1, 9)\n")):
        (mallory.home / "k").write_text(content)
        mallory.sh("cp k $M/jobs/k%d" % i, M=shared.mnt)  # which may not survive it
        assert shared.wait("k%d" % i) in ("done", "failed")
        p = alice.sh("cp j $M/jobs/j%d; cat $M/results/j%d" % (i, i), M=shared.mnt)
        assert p.stdout == "1\n"
    (shared.work / "go").touch()
    assert shared.result("roots") == b"1\n"


def test_calls_keep_the_umask_of_whoever_mounted(new_mount):
    m = new_mount(cpus=1).start(preexec_fn=lambda: os.umask(0o027))
    for i in range(3):
        assert m.call("c%d" % i, (eval, ("__import__('os').umask(0)",))) == 0o027
