"""What one user's job leaves in a worker meets nobody else's: pipes, memory, addresses, functions and values."""
import hashlib
import json
import os
import pickle
import re
import subprocess
import uuid

import pytest
from ppfsmount import wait_until
from test_streams import ERROR, MAGIC, RESULT, frames
from test_values import Named, naming, sent

# Run by hand: takes what a job gives it, and does with that what it is told.
CATCHER = r"""
import os, socket, sys, threading
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
print("ready", flush=True)
job, _ = server.accept()
fds = socket.recv_fds(job, 1, 16)[1]
job.send(b"x")

def swallow(fd):
    try:
        while got := os.read(fd, 4096):
            with open("swallowed", "ab") as f:
                f.write(got)
    except OSError:
        pass

for fd in fds[2:]:
    threading.Thread(target=swallow, args=(fd,), daemon=True).start()
print(len(fds), flush=True)
for _ in sys.stdin:
    for fd in fds[:2]:
        try:
            os.write(fd, b"forged\n")
        except OSError:
            pass
    print("done", flush=True)
os._exit(0)
"""
# Its stdout and stderr, to write to and to read from.
GIVER = r"""
import os, socket
s = socket.socket(socket.AF_UNIX)
s.connect("%s")
fds = [1, 2]
for fd in (1, 2):
    try:
        fds.append(os.open("/proc/self/fd/%%d" %% fd, os.O_RDONLY))
    except OSError:
        pass
socket.send_fds(s, [b"x"], fds)
s.recv(1)
"""
# Shows all secrets that are anywhere in its memory. What it looks for does not stand in itself.
SEARCH = r"""
import ctypes, re
found = set()
for line in open("/proc/self/maps"):
    span, perms = line.split()[:2]
    start, end = (int(at, 16) for at in span.split("-"))
    if perms[0] == "r" and "[v" not in line and end - start < 1 << 28:
        found.update(re.findall(rb"SECRET-[0-9a-f]{32}", ctypes.string_at(start, end - start)))
print(sorted(found))
"""


def secret():
    return "SECRET-" + uuid.uuid4().hex


@pytest.fixture
def one(new_user, new_mount):
    """A mount of root's with one slot that everybody may use: jobs come one after the other."""
    mount = new_mount(cpus=1, options=["-o", "allow_other"], env={"ROOT_TOKEN": secret()})
    mount.work.chmod(0o777)
    return mount.start()


def put(m, user, name, content):
    """user's: a file in jobs/. None: root's."""
    if user is None:
        m.put(name, content)
        return
    p = user.popen(["sh", "-c", "cat > $M/jobs/%s" % name], env={"M": str(m.mnt)}, stdin=subprocess.PIPE)
    p.communicate(content if isinstance(content, bytes) else content.encode())
    assert p.returncode == 0


def done(m, user, name, content):
    put(m, user, name, content)
    return m.result(name)


class Catcher:
    def __init__(self, user):
        (user.home / "catch.py").write_text(CATCHER)
        (user.home / "give.py").write_text(GIVER % (user.home / "socket"))
        self.user = user
        self.process = user.popen(["/usr/bin/python3", "catch.py", user.home / "socket"], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def caught(self):
        return int(self.process.stdout.readline())

    def forge(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def swallowed(self):
        try:
            return (self.user.home / "swallowed").read_bytes()
        except OSError:
            return b""

    def end(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


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
    assert "[]" in found


def test_addresses_differ_from_user_to_user(one, alice, mallory):
    where = "print([line.split('-')[0] for line in open('/proc/self/maps') if 'libc.so' in line or '[heap]' in line])"
    seen = [done(one, user, "where%d" % i, where) for i, user in enumerate((None, alice, mallory))]
    assert len(set(seen)) == 3
