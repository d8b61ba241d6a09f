"""A real ppfs-node for tests, started as somebody would start it, beside a Mount of tests/mount/ppfsmount.py."""
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path

from ppfsmount import BUILD, MARK, REPORT, SLOW, clean_env, sanitizer_prefix, wait_until
from processes import alive, describe, kill, parents, text_of, with_variable

NODE = Path(os.environ.get("PPFS_NODE", BUILD / "ppfs-node")).resolve()


def key_of(mount):
    """The key for any number of its nodes."""
    return mount.statedir / "join.key"


def make_key(path):
    """A key of a mount that nobody has."""
    path.write_text("ppfs node key 1\nname: *\n" + "".join("%s: %s\n" % (w, os.urandom(32).hex()) for w in ("secret", "mount", "find")))
    path.chmod(0o600)
    return path


def listens(mount):
    """The address that nodes may join."""
    return (mount.mnt / "nodes" / ".listen").read_text().strip()


def node_dir(mount, name):
    return mount.mnt / "nodes" / name


def nodes_of(mount):
    """The names in nodes/, local first."""
    names = [n for n in os.listdir(mount.mnt / "nodes") if n[0] != "."]
    return sorted(names, key=lambda name: (name != "local", name))


def value(mount, name, what):
    """One value of nodes/NAME without its newline, '' when there is no such node."""
    return text_of(node_dir(mount, name) / what).removesuffix("\n")


def up(mount, name):
    """Waits until the node is there and knows its Python."""
    wait_until(lambda: value(mount, name, "state") == "up" and value(mount, name, "python"), "nodes/%s to be up" % name)


class Node:
    """A ppfs-node below base. join: a mount or an address to dial. Its working directory is its own. program: another build. Jobs of root run on
    it, who most tests are; root_jobs=False: as it is without --root-jobs."""

    count = 0

    def __init__(self, base, *options, key=None, join=None, cpus=2, wrap=(), env=None, program=NODE, root_jobs=True):
        Node.count += 1
        self.base = Path(base)
        self.program = str(program)
        self.dir = self.base / ("node%d" % Node.count)
        self.dir.mkdir()
        self.log_path = self.dir / "log"
        self.mark = uuid.uuid4().hex
        self.env = clean_env(self.base)
        self.env[MARK] = self.mark
        self.env.update(env or {})
        if join is not None and not isinstance(join, str):
            key = key or key_of(join)
            join = listens(join)
        words = [str(o) for o in options]
        self.name = words[words.index("--name") + 1] if "--name" in words else None
        default = [word for option, value in (("--key", key), ("--cpus", cpus)) if option not in words for word in (option, str(value))]
        self.argv = [*map(str, wrap), self.program, *default, *words]
        if root_jobs and os.geteuid() == 0 and "--root-jobs" not in words:
            self.argv.append("--root-jobs")
        if join:
            self.argv += ["--join", join]
        self.process = None
        self.status = None  # what it is to end with; None: it is killed when the test ends

    def start(self):
        log = open(self.log_path, "ab")
        self.process = subprocess.Popen(self.argv, cwd=self.dir, env=self.env, stdin=subprocess.DEVNULL,
                                        stdout=log, stderr=log)
        log.close()
        return self

    @property
    def pid(self):
        """Of ppfs-node itself, also below a wrapper."""
        def find():
            table = parents()
            pids = [p for p in self.marked() if os.path.realpath("/proc/%d/exe" % p) == self.program]
            return next((p for p in pids if table.get(p) not in pids), 0)
        return self.process.pid if self.argv[0] == self.program else wait_until(find, "ppfs-node to start")

    def log(self):
        return text_of(self.log_path)

    def address(self):
        """Where it listens, as it says."""
        found = wait_until(lambda: re.search(r"listen\w* (?:on|at) (\S+:\d+)", self.log()) or not alive(self.process.pid),
                           "the node to listen")
        assert found is not True, "ppfs-node ended: " + self.log()
        return found.group(1)

    def up(self, mount, name=None):
        try:
            up(mount, name or self.name)
        except AssertionError as e:
            raise AssertionError("%s; it says:\n%s" % (e, self.log())) from None
        return self

    def marked(self):
        """Every living process that was started below this node."""
        return with_variable("%s=%s" % (MARK, self.mark))

    def signal(self, number):
        return kill(self.pid, number)

    def kill9(self):
        """kill -9 of the node alone; all that it ran must end with it."""
        kill(self.pid)
        self.process.wait(timeout=30 * SLOW)
        self.gone()

    def restart(self):
        return self.start()

    def wait(self, timeout=40):
        """Its exit status."""
        return self.process.wait(timeout=timeout * SLOW)

    def gone(self):
        try:
            wait_until(lambda: not self.marked(), "every process of the node to end", 20)
        except AssertionError as e:
            raise AssertionError("%s; left are:\n%s" % (e, "\n".join(map(describe, self.marked())))) from None

    def finish(self):
        """Ends it; raises when something of it is left, or was wrong."""
        faults = []
        if self.process and self.process.poll() is None:
            kill(self.process.pid, signal.SIGCONT)
            pid = self.pid
            try:  # the first one drains; two that are sent at once are one
                wait_until(lambda: (kill(pid, signal.SIGTERM), self.process.poll())[1] is not None, "ppfs-node to end", 20)
            except AssertionError as e:
                faults.append("%s:\n%s" % (e, describe(pid)))
        try:
            self.gone()
        except AssertionError as e:
            faults.append(str(e))
        for pid in self.marked():
            kill(pid)
        if self.process:
            self.process.wait()
        prefix = sanitizer_prefix(self.base)
        faults += ["%s:\n%s" % (p.name, text_of(p)[:3000]) for p in prefix.parent.glob(prefix.name + ".*")]
        faults += ["in the log: " + line for line in self.log().splitlines() if REPORT.search(line)]
        assert not faults, "\n".join(faults) + "\n" + self.log()
