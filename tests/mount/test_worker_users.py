"""What one user's job leaves in a worker meets nobody else's: pipes, memory, addresses, functions and values."""
import json
import os
import pickle
import subprocess

import pytest
from between import SEARCH, Catcher, answers, done, put, secret
from ppfsmount import PYTHON, wait_until
from processes import alive
from streamframes import ERROR, MAGIC, RESULT, Named, frames, naming, sent

@pytest.fixture
def one(new_user, new_mount):
    """A mount of root's with one slot that everybody may use: jobs come one after the other."""
    mount = new_mount(cpus=1, options=["-o", "allow_other"], env={"ROOT_TOKEN": secret()})
    mount.work.chmod(0o777)
    return mount.start()


@pytest.fixture
def catcher(mallory):
    c = Catcher(mallory)
    yield c
    c.end()


@pytest.mark.parametrize("given_by", ["script", "program", "stream"])
@pytest.mark.parametrize("whose", ["alice", "root"])
def test_pipes_do_not_outlive_the_job(one, request, mallory, catcher, given_by, whose):
    victim = request.getfixturevalue("alice") if whose == "alice" else None
    done(one, victim, "before", "print('mine')")
    give = "/usr/bin/python3 %s/give.py" % mallory.home
    if given_by == "script":
        done(one, mallory, "give.py", (mallory.home / "give.py").read_text())
    elif given_by == "program":
        done(one, mallory, "give", "#!/bin/sh\n%s\n" % give)
    else:
        done(one, mallory, "give.jsonl", json.dumps({"call": "os.system", "args": [give]}) + "\n")
    assert catcher.caught() >= 2
    here = one.work / "victim"
    here.mkdir()
    here.chmod(0o777)
    put(one, victim, "after", "#!/bin/sh\necho mine\necho mine >&2\ntouch %s/begun\nuntil [ -e %s/go ]; do sleep 0.01; done\n"
        "echo end\n" % (here, here))
    wait_until((here / "begun").exists, "the job of %s to begin" % whose)
    catcher.forge()
    (here / "go").touch()
    assert one.result("after") == b"mine\nend\n"
    assert one.get("after", "stderr") == "mine"
    assert b"mine" not in catcher.swallowed()


@pytest.mark.parametrize("searches", ["script", "call", "stream"])
def test_nothing_of_another_user_is_in_a_jobs_memory(one, alice, mallory, searches):
    filler = "#" * 50000 + "\n"  # what comes next is shorter, and overwrites less
    work = {
        "a.py": "%s#ppfs: env=TOKEN:%s\nkeep = '%s'\nprint('%s')\n" % (filler, secret(), secret(), secret()),
        "large.py": "%sprint('%s')\n" % (filler * 2, secret()),
        "call": json.dumps({"call": "string.capwords", "args": [secret()]}),
        "run": json.dumps({"run": ["cat", "/dev/stdin", "/dev/null"], "stdin": secret()}),
        "p": pickle.dumps((len, (secret() + "x" * 30000,), {})),
        "s.jsonl": json.dumps({"call": "string.capwords", "args": [secret() + "x" * 30000]}) + "\n",
    }
    for user in None, alice:
        for name, content in work.items():
            done(one, user, ("alices-" if user else "roots-") + name, content)
    (mallory.home / "search.py").write_text(SEARCH)
    (mallory.home / "searching.py").write_text(
        "import contextlib, io, runpy\n"
        "def search():\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "        runpy.run_path('%s/search.py')\n"
        "    return out.getvalue()\n" % mallory.home)
    if searches == "script":
        found = done(one, mallory, "search.py", SEARCH).decode()
    else:
        name = "search" if searches == "call" else "search.jsonl"
        found = done(one, mallory, name, json.dumps({"call": "searching.search"}) + "\n").decode()
    assert "[] True" in found


def test_addresses_differ_from_user_to_user(one, alice, mallory):
    where = "print([line.split('-')[0] for line in open('/proc/self/maps') if 'libc.so' in line or '[heap]' in line])"
    seen = [done(one, user, "where%d" % i, where) for i, user in enumerate((None, alice, mallory))]
    assert len(set(seen)) == 3


# --- functions and values ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("options", [b"", b'{"priority": -1}'])
@pytest.mark.parametrize("size", [10, 300_000])
def test_a_hash_gives_nothing_of_another_users(one, alice, mallory, size, options):
    """Who knows the hash of what alice has sent gets an error; it is his when he sends it himself."""
    digest, func = sent(secret() * (size // 10))
    function, func2 = sent(pickle.loads)
    named = (naming(1, len, Named(digest), lists=[digest], options=options)
             + naming(2, None, pickle.dumps(7), function=function, options=options))
    mine = answers(one, alice, "a", MAGIC + func + func2 + named)
    assert mine[1] == (RESULT, pickle.dumps(39 * (size // 10), 5)) and mine[2][0] == RESULT
    for user, name in (mallory, "m"), (None, "r"):
        his = answers(one, user, name, MAGIC + named)
        assert his[1][0] == his[2][0] == ERROR
        assert answers(one, user, name + "2", MAGIC + func + func2 + named) == mine
    assert answers(one, alice, "a2", MAGIC + named) == mine


# A script's process tells the worker its end before it leaves, so that nobody waits for that: one byte, and a flag in a
# page that they share. This one tells it while its child goes on.
TELLS_EARLY = """
import ctypes, os, stat, time
if os.fork() == 0:
    os.setsid()
    with open("%s", "w") as f:
        f.write(str(os.getpid()))
    time.sleep(300)
    os._exit(0)
while not os.path.exists("%s"):
    time.sleep(0.01)
for line in open("/proc/self/maps"):
    if "rw-s" in line and "/dev/zero" in line:
        ctypes.c_uint32.from_address(int(line.split("-")[0], 16) + 4).value = 1
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            print("told", flush=True)
            os.write(fd, b"x")
    except OSError:
        pass
time.sleep(300)
"""


def test_a_script_that_tells_its_end_early_leaves_nothing(one, mallory):
    done(one, mallory, "before.py", "print('a process for the next is made')")
    child = mallory.home / "child"
    put(one, mallory, "early.py", TELLS_EARLY % (child, child))
    assert one.result("early.py") == b"told\n"
    pid = int(wait_until(child.read_text, "its child"))
    wait_until(lambda: not alive(pid), "what it has started to end", 20)
    done(one, mallory, "after.py", "print('the worker goes on')")


def test_the_user_of_the_network_process_has_no_jobs(one):
    """They could stop it."""
    for name, text in (("x.sh", "#!/bin/sh\nid\n"), ("x.jsonl", '{"call": "os.getuid"}\n')):
        subprocess.run(["/bin/sh", "-c", 'printf %s "$1" > "$2"', "-", text, str(one.jobs / name)], check=True, user=65533, group=65533, extra_groups=[])
    assert "the network process of ppfs" in one.failed("x.sh") and b"the network process of ppfs" in one.result("x.jsonl")


HUNG = """import array, os, socket, struct, subprocess, sys
ours, theirs = socket.socketpair()
subprocess.run(["fusermount3", "--", sys.argv[1]], env=dict(os.environ, _FUSE_COMMFD=str(theirs.fileno())), pass_fds=[theirs.fileno()], check=True)
fuse = array.array("i", ours.recvmsg(1, socket.CMSG_SPACE(4))[1][0][2])[0]
print("mounted", flush=True)
while True:
    request = os.read(fuse, 1 << 20)
    op, unique = struct.unpack("<4xIQ", request[:16])
    attributes = struct.pack("<6Q10I", 1, *[0] * 5, *[0] * 3, 0o40755, 2, os.getuid(), os.getgid(), 0, 4096, 0)
    answers = {26: struct.pack("<4I2H2I2H28x", 7, 31, 0, 0, 1, 1, 65536, 1, 0, 0), 3: bytes(16) + attributes}
    if op in answers:
        os.write(fuse, struct.pack("<IiQ", 16 + len(answers[op]), 0, unique) + answers[op])
"""


def test_what_cannot_be_killed_is_given_up(shared, mallory):
    """Who waits in a filesystem that does not answer hears no SIGKILL. The job ends all the same, and the next ones run."""
    m = shared
    assert mallory.sh("mkdir hung").returncode == 0
    where = mallory.home / "hung"
    hung = mallory.popen([PYTHON, "-c", HUNG, where], text=True, stdout=subprocess.PIPE)
    try:
        assert hung.stdout.readline() == "mounted\n"
        script = "cd /tmp; printf '#!/bin/sh\\n(cat %s/x &)\\n' > $M/jobs/x; for i in 1 2 3; do echo 'print(1)' > $M/jobs/$i; done"
        assert mallory.sh(script % where, M=m.mnt).returncode == 0
        assert m.wait("x") == "done"
        for name in "123":
            assert m.result(name) == b"1\n"
    finally:
        hung.kill()
        hung.communicate()
        subprocess.run(["umount", "-l", where], check=True)
