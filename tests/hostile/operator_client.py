"""A client of test_operations.py, in a process of its own: operator_client.py MOUNT HISTORY RUNS NAME SEED STOP

Does all that can be done to jobs, groups and streams of names that are its alone, in an order that the seed chooses, until the
file STOP appears, and compares each answer with what ppfs(5) lets it be. A name has versions: each time that it is written. Now and
then it kills the daemon itself, in the moment in which its close() or rename() has returned. While the file STOP.rest is there it
rests between two operations, and has nothing open; its process is then in the directory STOP.resting. The first difference is said on standard error, with the last operations of that name, and ends the client with status 1.

HISTORY gets a line for what the test checks afterwards, against what the jobs wrote to RUNS ("start VERSION NANOSECONDS",
"end VERSION", "again VERSION NANOSECONDS" of an attempt that asks for another):

    in VERSION            it was taken: close() or rename() returned 0
    after VERSION OTHER   and is to start after that one has ended
    shown VERSION         its result was read, and was right
    over VERSION          from here on it must not start: it was cancelled, written over or forgotten
    again VERSION         it failed and is run once more
    killed VERSION SINCE  the daemon, just after that was taken
"""
import contextlib
import errno
import json
import os
import random
import re
import signal
import sys
import time

HUNG = 100  # seconds
ENDED = ("done", "failed", "cancelled")
LIVE = ("draft", "held", "waiting", "queued", "running")
DEATHS = re.compile(r"SIGKILL|\bdie|death|gave up")
KINDS = ("sh", "sh", "sh", "call", "python", "slow", "fails", "held", "after", "retries")
KILLS = 0.02  # of what was taken


class Wrong(Exception):
    """ppfs answered what it must not."""


class Name:
    """What is known of a name by what was answered."""

    def __init__(self, path):
        self.path = path
        self.version = None  # None: no job is known by it
        self.kind = self.end = self.behind = None  # end: once seen, it stays; behind: the name that after= has
        self.held = self.cancelled = self.renamed = self.retried = False
        self.written = 0
        self.past = []

    def note(self, *what):
        self.past.append(" ".join(map(str, what)))
        del self.past[:-12]


def job_text(kind, version, runs, after=None):
    """The bytes of the job file."""
    log = "echo start %s $(date +%%s%%N) >> %s\n" % (version, runs)
    last = "echo end %s >> %s\necho result %s\n" % (version, runs, version)
    options = {"held": "#ppfs: hold=1\n", "after": "#ppfs: after=/%s\n" % after, "retries": "#ppfs: retries=3\n"}.get(kind, "")
    if kind in ("sh", "held", "after"):
        return "#!/bin/sh\n" + options + log + last
    if kind == "slow":
        return "#!/bin/sh\n" + log + "sleep 0.0%d\n" % random.randrange(1, 9) + last
    if kind == "retries":  # what the first attempt says is never shown
        again = "mkdir %s.%s && { echo again %s $(date +%%s%%N) >> %s; echo overtaken; exit 3; }\n" % (runs, version, version, runs)
        return "#!/bin/sh\n" + options + log + again + "echo end %s >> %s\n" % (version, runs)
    if kind == "fails":
        return "#!/bin/sh\n" + log + "echo end %s >> %s\nexit 3\n" % (version, runs)
    code = ("import os, time\nfd = os.open(%r, os.O_WRONLY | os.O_APPEND)\n"
            "os.write(fd, b'start %s %%d\\n' %% time.time_ns())\nos.write(fd, b'end %s\\n')\nos.close(fd)\n" % (runs, version, version))
    if kind == "python":
        return code + "print('result %s')\n" % version
    return json.dumps({"call": "eval", "args": ["[exec(%r, {}), 'result %s'][1]" % (code, version)]})


class Operator:
    def __init__(self, mount, history, runs, name, seed, stop):
        self.mount, self.runs, self.name, self.stop = mount, runs, name, stop
        self.history = os.open(history, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.rng = random.Random(seed)
        self.names = [Name("%s-%d" % (name, i)) for i in range(6)]
        self.groups = 0

    def path(self, folder, n, *more):
        return os.path.join(self.mount, folder, n.path, *more)

    def tell(self, *words):
        os.write(self.history, (" ".join(words) + " %d\n" % time.time_ns()).encode())

    def ask(self, n, what, act, *allowed):
        """What act returned, or the errno that it raised, which is to be one of those."""
        try:
            answer = act()
        except OSError as e:
            n.note(what, errno.errorcode.get(e.errno, e.errno))
            if e.errno not in allowed:
                raise Wrong("%s of %s said %s" % (what, n.path, errno.errorcode.get(e.errno, e.errno))) from e
            return e.errno
        n.note(what, "" if answer is None else repr(answer)[:80])
        return answer

    def daemon(self):
        """A descriptor of its process, or None."""
        try:
            with open(os.path.join(os.path.dirname(self.mount), "state", "lock")) as f:
                supervisor = int(f.read())
            with open("/proc/%d/task/%d/children" % (supervisor, supervisor)) as f:
                return os.pidfd_open(int(f.read().split()[0]))
        except (OSError, ValueError, IndexError):
            return None

    @contextlib.contextmanager
    def maybe_killed(self, n):
        """The daemon has no time left for what is done in here: whatever it answered is kept."""
        victim, since = self.daemon() if self.rng.random() < KILLS else None, time.time_ns()
        if victim is None:
            yield
            return
        try:
            yield
            signal.pidfd_send_signal(victim, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.close(victim)
        n.note("killed the daemon")
        os.stat(os.path.join(self.mount, "jobs"))  # by the next one
        self.tell("killed", n.path.replace("/", ":"), str(since))

    def rest(self):
        if os.path.exists(self.stop + ".rest"):
            signal.alarm(0)
            here = os.path.join(self.stop + ".resting", str(os.getpid()))
            os.close(os.open(here, os.O_CREAT | os.O_WRONLY))
            while os.path.exists(self.stop + ".rest"):
                time.sleep(0.01)
            os.unlink(here)
        signal.alarm(HUNG)

    # --- what is written

    def put(self, path, text, flags=os.O_TRUNC):
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | flags, 0o666)
        try:
            data, cut = text.encode(), self.rng.randrange(len(text))
            for part in (data[:cut], data[cut:]):
                while part:
                    part = part[os.write(fd, part):]
        finally:
            os.close(fd)

    def next_version(self, n):
        n.written += 1
        return "%s.%d" % (n.path.replace("/", ":"), n.written)

    def first(self):
        """A job that runs for a while, for another to wait for; nothing else is done to it."""
        self.groups += 1
        n = Name("%s-%d" % (self.name, 1000 + self.groups))
        version = self.next_version(n)
        self.ask(n, "first", lambda: self.put(self.path("jobs", n), job_text("slow", version, self.runs)))
        self.taken(n, version, "slow", None, False)
        return n

    def taken(self, n, version, kind, other, renamed):
        if n.version:
            self.tell("over", n.version)
        n.version, n.kind, n.end, n.behind, n.renamed = version, kind, None, other, renamed
        n.held, n.cancelled, n.retried = kind == "held", False, False
        self.tell("in", version)
        if other:
            self.tell("after", version, other.version)

    def submit(self, n):
        if n.path.count("/"):
            return
        version = self.next_version(n)
        kind = self.rng.choice(KINDS)
        other = self.first() if kind == "after" else None
        text = job_text(kind, version, self.runs, other and other.path)
        way = self.rng.choice(("write", "write", "excl", "rename"))
        if way == "rename":
            draft = os.path.join(self.mount, "jobs", "." + n.path)
            self.ask(n, "draft", lambda: self.put(draft, text))
            with self.maybe_killed(n):
                rc = self.ask(n, "rename in", lambda: os.rename(draft, self.path("jobs", n)), errno.ETXTBSY, errno.EEXIST)
            if rc:
                os.unlink(draft)
                self.expect_live(n, "rename in was refused")
        else:
            flags = os.O_EXCL if way == "excl" else os.O_TRUNC
            allowed = (errno.ETXTBSY, errno.EEXIST) if way == "excl" else (errno.ETXTBSY, )
            with self.maybe_killed(n):
                rc = self.ask(n, way, lambda: self.put(self.path("jobs", n), text, flags), *allowed)
            if rc == errno.ETXTBSY:
                self.expect_live(n, "it was busy")
            if rc == errno.EEXIST and (not n.version or n.cancelled):
                raise Wrong("O_EXCL of %s found a job" % n.path)
            if not rc and way == "excl" and n.version and not n.cancelled and n.end != "cancelled":
                raise Wrong("O_EXCL of %s found no job, but %s is there" % (n.path, n.version))
        if not rc:
            self.taken(n, version, kind, other, way == "rename")

    def expect_live(self, n, why):
        if not n.version or n.end:
            raise Wrong("%s has no job that runs (%s), but %s" % (n.path, n.end, why))

    # --- what is asked and told

    def state(self, n):
        def act():
            with open(self.path("info", n, "state")) as f:
                return f.read().strip()

        state = self.ask(n, "state", act, errno.ENOENT)
        state = None if state == errno.ENOENT else state
        if n.version is None and state not in (None, "draft"):
            raise Wrong("%s is %s, but there is none" % (n.path, state))
        if n.version is None:
            return state
        if state is None or state not in ENDED + LIVE:
            raise Wrong("%s is %s" % (n.version, state))
        if n.end and state != n.end:
            raise Wrong("%s was %s and is %s" % (n.version, n.end, state))
        if n.cancelled and state != "cancelled":
            raise Wrong("%s was cancelled and is %s" % (n.version, state))
        if state in ENDED:
            self.ended(n, state)
        return state

    def ended(self, n, state):
        n.end = state
        if state == "cancelled" and not n.cancelled:
            raise Wrong("%s is cancelled, but nobody did that" % n.version)
        if state == "done" and (n.held or n.kind == "fails"):
            raise Wrong("%s (%s) is done" % (n.version, n.kind))
        if state == "failed" and n.kind != "fails":
            with open(self.path("info", n, "why")) as f:
                why = f.read()
            waited = n.behind and "not started, because" in why
            if not (waited or DEATHS.search(why)):
                raise Wrong("%s (%s) failed: %s" % (n.version, n.kind, why))

    def read(self, n):
        if n.held and not n.cancelled and not n.end:
            return

        def act():
            with open(self.path("results", n), "rb") as f:
                return f.read()

        answer = self.ask(n, "read", act, errno.EIO, errno.ECANCELED, errno.ENOENT)
        if n.version is None:
            if answer != errno.ENOENT:
                raise Wrong("%s has a result: %r" % (n.path, answer))
            return
        state = self.state(n)
        wanted = {"done": self.result(n), "failed": errno.EIO, "cancelled": errno.ECANCELED}.get(state)
        if answer != wanted:
            raise Wrong("%s is %s and was read as %r" % (n.version, state, answer))
        if state == "done":
            self.tell("shown", n.version)

    def result(self, n):
        if n.kind == "retries":
            return b""
        text = "result %s" % n.version
        return ((json.dumps(text) if n.kind == "call" else text) + "\n").encode()

    def cancel(self, n):
        rc = self.ask(n, "cancel", lambda: os.unlink(self.path("jobs", n)), errno.ENOENT)
        if rc:
            if n.version and self.state(n) not in ENDED:
                raise Wrong("%s cannot be cancelled: it is not there" % n.version)
            return
        if n.version is None or n.end and not n.renamed:
            raise Wrong("%s was cancelled, but had ended as %s" % (n.path, n.end))
        if n.renamed and self.read_state(n) in ("done", "failed"):
            return  # the first look after a rename still finds it
        n.cancelled = True
        self.tell("over", n.version)
        self.wait(n)

    def read_state(self, n):
        with open(self.path("info", n, "state")) as f:
            return f.read().strip()

    def wait(self, n):
        def act():
            with open(self.path("info", n, "wait")) as f:
                return f.read().strip()

        if n.version is None or n.held and not n.cancelled:
            return
        state = self.ask(n, "wait", act)
        if state not in ENDED or n.cancelled and state != "cancelled":
            raise Wrong("%s was waited for and is %s" % (n.version, state))
        self.state(n)

    def forget(self, n):
        state = n.version and self.state(n)
        way = self.rng.choice(("results", "failures", "info"))
        act = os.rmdir if way == "info" else os.unlink
        rc = self.ask(n, "forget in " + way, lambda: act(self.path(way, n)), errno.ENOENT, errno.EIO, errno.ECANCELED, errno.EBUSY,
                      errno.EPERM)
        if rc == 0 or rc is None:
            if n.version is None or not (state in ENDED or self.over_meanwhile(n)):
                raise Wrong("%s was forgotten as %s" % (n.path, state))
            self.tell("over", n.version)
            n.version = n.end = n.behind = None
            n.held = n.cancelled = False
        elif way == "info" and rc == errno.EBUSY and n.end:
            raise Wrong("%s is %s and cannot be forgotten" % (n.version, n.end))

    def over_meanwhile(self, n):
        return not n.held

    def control(self, n):
        what, value = self.rng.choice((("hold", "1"), ("hold", "0"), ("priority", str(self.rng.randrange(-9, 9)))))
        before = n.version and self.state(n)

        def act():
            with open(self.path("info", n, what), "w") as f:
                f.write(value)

        rc = self.ask(n, "%s %s" % (what, value), act, errno.ENOENT, errno.EBUSY, errno.EPERM, errno.EACCES, errno.EINVAL, errno.ESTALE)
        if rc and n.version is None and rc != errno.ENOENT:
            raise Wrong("%s of %s, which is not there, said %d" % (what, n.path, rc))
        if not rc and what == "hold" and before not in ENDED and n.version:
            after = self.read_state(n)
            n.held = value == "1" and after == "held"
            if value == "1" and after in ("queued", "running"):
                raise Wrong("%s was held and is %s" % (n.version, after))

    def again(self, n):
        state = n.version and self.state(n)
        if n.path.count("/"):
            return
        rc = self.ask(n, "run again", lambda: os.rename(self.path("failures", n), self.path("jobs", n)), errno.ENOENT, errno.EIO,
                      errno.ECANCELED, errno.EPERM, errno.EBUSY)
        if rc and state == "failed":
            raise Wrong("%s failed and cannot run again" % n.version)
        if not rc:
            if n.version is None or n.end not in (None, "failed"):
                raise Wrong("%s, which was %s, runs again" % (n.path, n.end))
            self.tell("again", n.version)
            n.end, n.held, n.retried = None, False, True

    # --- many at once

    def batch(self, n):
        self.groups += 1
        group = "%s-G%d" % (self.name, self.groups)
        inside = [Name("%s/%d" % (group, i)) for i in range(self.rng.randrange(1, 8))]
        draft = os.path.join(self.mount, "jobs", "." + group)
        os.mkdir(draft)
        for one in inside:
            one.new = self.next_version(one)
            one.kind = self.rng.choice(("sh", "call", "python", "slow", "fails"))
            self.put(os.path.join(draft, os.path.basename(one.path)), job_text(one.kind, one.new, self.runs))
        with self.maybe_killed(n):
            self.ask(n, "batch", lambda: os.rename(draft, os.path.join(self.mount, "jobs", group)))
        for one in inside:
            self.taken(one, one.new, one.kind, None, False)
        if self.rng.random() < 0.3:
            to = group + "-moved"
            rc = self.ask(n, "move group", lambda: os.rename(os.path.join(self.mount, "jobs", group), os.path.join(self.mount, "jobs", to)),
                          errno.EBUSY, errno.ETXTBSY, errno.EPERM, errno.ENOENT)
            if not rc:
                for one in inside:
                    one.path = one.path.replace(group, to)
                group = to
        for _ in range(self.rng.randrange(2 * len(inside))):
            self.rng.choice((self.cancel, self.state, self.read, self.wait))(self.rng.choice(inside))
        for one in inside:
            self.finish(one)
        words = self.ask(n, "wait for group", lambda: open(os.path.join(self.mount, "info", group, ".wait")).read().split())
        counts = [sum(one.end == end for one in inside) for end in ENDED]
        if [int(w) for w in words[1::2]] != counts[:2] + counts[2:] * (len(words) > 4):
            raise Wrong("group %s says %s, which is %s" % (group, words, counts))

    def finish(self, n):
        """Lets it end, and looks at how."""
        if n.version is None:
            return
        if n.held and not n.cancelled:
            with open(self.path("info", n, "hold"), "w") as f:
                f.write("0")
            n.held = False
        self.wait(n)
        self.read(n)

    def stream(self, n):
        self.groups += 1
        s = Name("%s-%d.jsonl" % (self.name, self.groups))
        count = self.rng.randrange(1, 30)
        calls = [Name("%s/%d" % (s.path, i)) for i in range(count)]
        lines = []
        for one in calls:
            one.version, kind = self.next_version(one), self.rng.choice(("call", "call", "options", "run"))
            if kind == "run":
                text = job_text("sh", one.version, self.runs)
                lines.append((json.dumps({"run": ["/bin/sh", "-c", text]}), json.dumps("result %s\n" % one.version)))
            else:
                body = json.loads(job_text("call", one.version, self.runs))
                if kind == "options":
                    body["priority"] = 1
                lines.append((json.dumps(body), json.dumps("result %s" % one.version)))
        path, seen = os.path.join(self.mount, "jobs", s.path), bytearray()
        with open(path, "w", buffering=1) as f:
            for one, (line, _) in zip(calls, lines):
                self.ask(s, "line", lambda line=line: (f.write(line + "\n"), f.flush())[0])
                self.tell("in", one.version)
                if self.rng.random() < 0.2:
                    time.sleep(0.01)
                    self.follow(s, seen, calls, lines)
            if self.rng.random() < 0.2:
                self.ask(s, "cancel stream", lambda: os.unlink(path), errno.ENOENT)
                for one in calls:
                    self.tell("over", one.version)
                return
        self.follow(s, seen, calls, lines)
        self.rest()
        whole = self.ask(s, "read stream", lambda: open(os.path.join(self.mount, "results", s.path), "rb").read())
        if not whole.startswith(seen):
            raise Wrong("%s has another answer than was shown: %r, %r" % (s.path, bytes(seen), whole))
        self.answers(s, whole[whole[:len(seen)].rfind(b"\n") + 1:], seen.count(b"\n"), calls, lines)
        if whole.count(b"\n") != count:
            raise Wrong("%s has %d answers of %d" % (s.path, whole.count(b"\n"), count))

    def follow(self, s, seen, calls, lines):
        """Reads what has been answered since."""
        def act():
            text, fd = b"", os.open(os.path.join(self.mount, "results", s.path), os.O_RDONLY | os.O_NONBLOCK)
            try:
                while piece := os.read(fd, 100_000):
                    text += piece
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
            return text

        text, before = self.ask(s, "follow", act, errno.EAGAIN), seen.count(b"\n")
        if text != errno.EAGAIN:
            if not text.startswith(seen):
                raise Wrong("%s has another answer than was shown: %r, %r" % (s.path, bytes(seen), text))
            begun = seen.rfind(b"\n") + 1
            seen[:] = text
            self.answers(s, text[begun:text.rfind(b"\n") + 1], before, calls, lines)

    def answers(self, s, text, first, calls, lines):
        for one, answer, (_, wanted) in zip(calls[first:], text.decode().splitlines(), lines[first:]):
            if answer == wanted:
                self.tell("shown", one.version)
            elif not ('"error"' in answer and DEATHS.search(answer)):
                raise Wrong("%s was answered by %s" % (one.version, answer))

    def run(self):
        acts = [self.submit] * 6 + [self.read] * 3 + [self.cancel, self.cancel, self.wait, self.state, self.forget, self.forget,
                                                      self.control, self.control, self.control, self.again, self.batch, self.stream]
        n = None

        def hung(*_):
            raise Wrong("it hung for %d seconds" % HUNG)

        signal.signal(signal.SIGALRM, hung)
        try:
            while not os.path.exists(self.stop):
                n, act = self.rng.choice(self.names), self.rng.choice(acts)
                self.rest()
                act(n)
                if self.rng.random() < 0.5:
                    self.state(n)
            for n in self.names:
                signal.alarm(HUNG)
                self.finish(n)
        except (Wrong, OSError) as e:
            sys.exit("%s: %s; before that: %s" % (type(e).__name__, e, "; ".join(n.past if n else ())))


if __name__ == "__main__":
    Operator(*sys.argv[1:5], int(sys.argv[5]), sys.argv[6]).run()
