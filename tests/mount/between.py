"""What a user tries to get of another's, for tests with several users."""
import subprocess
import uuid

from streamframes import ERROR, RESULT, frames

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
# Shows all secrets that are anywhere in its memory but one of its own, and whether that was found. What it looks for does not
# stand in its text.
SEARCH = r"""
import ctypes, os, re
try:
    mem = os.open("/proc/self/mem", os.O_RDONLY)
except OSError:
    mem = None
own = ("SECRET-" + 32 * "0").encode()
found = set()
for line in open("/proc/self/maps"):
    span, perms = line.split()[:2]
    start, end = (int(at, 16) for at in span.split("-"))
    if perms[0] == "r" and "[v" not in line and end - start < 1 << 28:
        text = ctypes.string_at(start, end - start) if mem is None else os.pread(mem, end - start, start)
        found.update(re.findall(rb"SECRET-[0-9a-f]{32}", text))
print(sorted(found - {own}), own in found)
"""


def secret():
    return "SECRET-" + uuid.uuid4().hex


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


def answers(m, user, name, content):
    """{id: (kind, body)} of a stream of frames."""
    return {i: (kind, body) for kind, i, body in frames(done(m, user, name, content)) if kind in (RESULT, ERROR)}
