"""A client of test_crash.py, in a process of its own: client.py MOUNT HISTORY RUNS NAME SEED STOP

Submits small jobs of all kinds until the file STOP appears, retrying each with O_EXCL until it is known to be in, as
somebody would who must not lose a job nor run it twice. Reads back some results while it goes on. Writes one line for
everything it knows to HISTORY (O_APPEND, so that a line is whole):

    try NAME KIND        about to submit it
    ack NAME             close() or rename() returned 0, or a retry found it there
    read NAME BYTES      what results/NAME gave (the digest), or the errno

Jobs append "start NAME ATTEMPT NANOSECONDS" and "end NAME" to RUNS.
"""
import errno
import hashlib
import json
import os
import pickle
import random
import sys
import time

GONE = (errno.ENOTCONN, errno.ECONNABORTED, errno.ENOENT, errno.EIO, errno.ENODEV, errno.ESTALE)


def expected(kind, name):
    """(bytes of the result, or None for a job that is to fail)."""
    if kind == "fails":
        return None
    text = "result of %s\n" % name
    if kind == "large":
        text *= 5000
    if kind in ("call", "slowcall"):
        return json.dumps(text)
    if kind == "pickle":
        return pickle.dumps(text, 4)
    return text


def same(kind, name, data):
    """Whether these bytes are the right result."""
    wanted = expected(kind, name)
    if kind == "pickle":
        return pickle.loads(data) == "result of %s\n" % name
    if kind in ("call", "slowcall"):
        return json.loads(data) == json.loads(wanted)
    return data == wanted.encode()


KINDS = ("sh", "sh", "call", "call", "pickle", "python", "slow", "slowcall", "large", "fails", "commit", "commit")


def job_file(kind, name, runs):
    """The bytes of the job."""
    start = "start %s $PPFS_ATTEMPT $(date +%%s%%N)" % name
    shell = "#!/bin/sh\necho \"%s\" >> %s\n%s\necho end %s >> %s\n%s\n"
    code = ("import os, time\n"
            "fd = os.open(%r, os.O_WRONLY | os.O_APPEND)\n"
            "os.write(fd, ('start %s %%s %%d\\n' %% (os.environ['PPFS_ATTEMPT'], time.time_ns())).encode())\n"
            "%s\nos.write(fd, b'end %s\\n')\nos.close(fd)\n")
    text = "result of %s\n" % name
    if kind in ("sh", "commit", "slow", "large", "fails"):
        pause = "sleep 0.05" if kind == "slow" else ":"
        last = {"large": "i=0; while [ $i -lt 5000 ]; do echo result of %s; i=$((i+1)); done" % name,
                "fails": "exit 3"}.get(
            kind, "echo result of %s" % name)
        body = shell % (start, runs, pause, name, runs, last)
        return (body + "#" + "x" * (90_000 if kind == "large" else 10) + "\n").encode()
    pause = "time.sleep(0.05)" if kind == "slowcall" else "pass"
    if kind == "python":
        return (code % (runs, name, pause, name) + "print(%r, end='')\n" % text).encode()
    expr = "[exec(%r, {}), %r][1]" % (code % (runs, name, pause, name), text)
    if kind == "pickle":
        return pickle.dumps((eval, (expr,)), 4)
    return json.dumps({"call": "eval", "args": [expr]}).encode()


class Client:
    def __init__(self, mount, history, runs, name, seed):
        self.jobs, self.results, self.info = (os.path.join(mount, d) for d in ("jobs", "results", "info"))
        self.history = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.runs, self.name, self.rng = runs, name, random.Random(seed)

    def note(self, *words):
        os.write(self.history, (" ".join(words) + "\n").encode())

    def write(self, path, data):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            cut = self.rng.randrange(len(data))
            for part in (data[:cut], data[cut:]):
                while part:
                    part = part[os.write(fd, part):]
        except OSError:
            try:
                os.close(fd)
            except OSError:
                pass
            raise
        os.close(fd)

    def is_draft(self, name):
        with open(os.path.join(self.info, name, "state")) as f:
            return f.read() == "draft\n"

    def submit(self, name, kind, data):
        """One attempt. True when the job is known to be in; raises OSError when it is not known."""
        path = os.path.join(self.jobs, name)
        if kind == "commit":
            draft = os.path.join(self.jobs, "." + name)
            try:
                self.write(draft, data)
            except FileExistsError:
                os.unlink(draft)
                return False
            if os.path.exists(os.path.join(self.info, name)):  # an earlier rename got through, its answer did not
                os.unlink(draft)
                return True
            os.rename(draft, path)
            return True
        try:
            self.write(path, data)
            return True
        except FileExistsError:
            if not self.is_draft(name):
                return True  # an earlier attempt got through, its answer did not
            os.unlink(path)  # a draft that a death left behind
            return False

    def insist(self, name, kind, data):
        while True:
            try:
                if self.submit(name, kind, data):
                    return
            except OSError as e:
                if e.errno not in GONE:
                    raise
                time.sleep(0.005)

    def read(self, name, kind):
        """Waits for the result; a mount that went away is tried again."""
        while True:
            try:
                with open(os.path.join(self.results, name), "rb") as f:
                    data = f.read()
                self.note("read", name, hashlib.sha256(data).hexdigest() if not same(kind, name, data) else "right")
                return
            except OSError as e:
                if e.errno not in GONE and e.errno != errno.ECANCELED:
                    raise
                if e.errno == errno.EIO and os.path.exists(os.path.join(self.results, "..", "failures", name)):
                    self.note("read", name, "EIO")
                    return
                time.sleep(0.005)

    def run(self, stop):
        i = 0
        while not os.path.exists(stop):
            name, kind = "%s-%d" % (self.name, i), self.rng.choice(KINDS)
            data = job_file(kind, name, self.runs)
            self.note("try", name, kind)
            self.insist(name, kind, data)
            self.note("ack", name)
            if self.rng.random() < 0.4:
                self.read(name, kind)
            i += 1


if __name__ == "__main__":
    Client(*sys.argv[1:5], sys.argv[5]).run(sys.argv[6])
