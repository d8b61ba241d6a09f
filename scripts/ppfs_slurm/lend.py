"""start, stop and status: machines asked for, told to leave, shown."""
import fcntl
import os
import re
import signal
import time
from pathlib import Path
from typing import Dict, Iterable, List, Sequence, Set

from .arguments import LOGS
from .cluster import NOT_JOINED, Lent, Task, job_name
from .mounted import Node, is_mounted, key_of, need_mount, nodes_of, number_of, text_of
from .words import Trouble, machines, say


def start(a: Task) -> None:
    """Asks for machines; with --wait until all have joined. Trouble: it cannot, or one has ended before."""
    need_mount(a.mount)
    key_of(a)
    forget_lost(a.mount, a.system.lent(a.mount))
    ids = a.system.submit(a, a.nodes, a.idle_exit)
    say("asked %s for %s: job %s" % (a.system.name, machines(len(ids)), jobs_of(ids)))
    if len(ids) < a.nodes:
        raise Trouble("%s gives no more: %s" % (a.system.name, a.system.refused))
    joined: Dict[str, Node] = {}
    while a.wait and len(joined) < a.nodes:
        here = nodes_of(a.mount)
        for job in a.system.lent(a.mount):
            if job.id not in ids:
                continue
            node = next((n for n in here if n.is_of(job.number) and n.state == "up"), None)
            if node and job.id not in joined:
                joined[job.id] = node
                say("%s has joined with %d slots" % (node.name, node.cpus))
            elif not job.live and job.id not in joined:
                raise Trouble(why_ended(a, job))
        time.sleep(0.5)


def jobs_of(ids: Sequence[str]) -> str:
    """What a user is told of the jobs asked for at once: the array of Slurm's, the first and the last of others."""
    array = ids[0].split("_")[0]
    if ids[-1] == "%s_%d" % (array, len(ids) - 1):
        return array
    return ids[0] if len(ids) == 1 else "%s to %s" % (ids[0], ids[-1])


def why_ended(a: Task, job: Lent) -> str:
    """The last thing it said, but for that it leaves."""
    lines = text_of(a.logs / (job.number + ".log"), 1 << 16).splitlines()
    said = [line for line in lines if not re.search(r" leaves$| leaves when nothing runs", line)]
    log = said[-1] if said else "no log in %s" % a.logs
    return "job %s ended as %s on %s before it joined: %s" % (job.id, job.state, job.where or "no machine", log)


class Lock:
    """Held while an auto watches the mount; the file has its process id."""

    def __init__(self, mount: Path) -> None:
        LOGS.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = LOGS / (job_name(mount) + ".lock")
        about = LOGS.stat()
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            raise Trouble("%s belongs to another user or can be written by others, who could lead ppfs-slurm elsewhere; set "
                          "XDG_STATE_HOME to a directory of your own" % LOGS)
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise Trouble("%s cannot be opened: %s" % (self.path, e.strerror)) from None
        self.file = os.fdopen(fd, "a+")

    def take(self) -> bool:
        """Whether nobody else has it."""
        for _ in range(5):  # others hold it for a moment, to see whether they can
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
        else:
            return False
        self.file.truncate(0)
        self.file.write("%d\n" % os.getpid())
        self.file.flush()
        return True

    def held_by(self) -> int:
        """The process that has it, 0 when nobody has."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return number_of(self.path)
        fcntl.flock(self.file, fcntl.LOCK_UN)
        return 0


def end_auto(a: Task) -> None:
    """An auto would ask for new machines at once. It lets go of its lock when it has ended."""
    lock = Lock(a.mount)
    pid = lock.held_by()
    if pid:
        os.kill(pid, signal.SIGTERM)
        fcntl.flock(lock.file, fcntl.LOCK_EX)
        say("ended %s auto, process %d" % (a.system.asker, pid))


PATIENCE = 15            # seconds in which Slurm should have told a machine to leave


def stop(a: Task) -> None:
    """Tells all machines to leave, and waits as far as the options say. Trouble: one could not be told."""
    end_auto(a)
    how = "HUP" if a.now else "USR2"
    told: Set[str] = set()
    failed: Dict[str, str] = {}
    looked = False
    patience = time.monotonic() + PATIENCE
    while True:
        left = [job for job in a.system.lent(a.mount) if job.live or job.state == "COMPLETING"]
        untold = [job for job in left if job.live and job.id not in told]
        late = time.monotonic() > patience
        strangers = [job.id for job in untold if failed.get(job.id) == NOT_JOINED]
        if late and strangers and is_mounted(a.mount):  # nothing runs on them
            a.system.cancel(strangers)
            told |= set(strangers)
        elif late and untold:
            raise Trouble("%s could not be told to leave; of job %s: %s" % (
                machines(len(untold)), untold[0].id, failed.get(untold[0].id, "it is %s still" % untold[0].state.lower())))
        failed = a.system.let_go(a, untold, how, nodes_of(a.mount) if is_mounted(a.mount) else [])
        told |= {job.id for job in untold if job.state == "RUNNING" and job.id not in failed}
        if not looked:
            say(what_is_told(a, untold))
        if a.now and late:  # those that do not hear
            a.system.cancel([job.id for job in left])
        if not (left if a.now or a.wait else untold):
            break
        looked = True
        time.sleep(0.5)
    forget_lost(a.mount, a.system.lent(a.mount))


def what_is_told(a: Task, jobs: Sequence[Lent]) -> str:
    """The sentence of stop, once these jobs were told."""
    running = sum(job.state == "RUNNING" for job in jobs)
    waiting = len(jobs) - running
    said = ["told %s to leave" % machines(running)] if running else []
    said += ["cancelled %s that had not begun" % machines(waiting)] if waiting else []
    waits = "; each leaves when what runs on it has ended" if running and not a.now else ""
    return ", ".join(said) + waits if said else "%s lends no machines to %s" % (a.system.name, a.mount)


def forget_lost(mount: Path, jobs: Sequence[Lent]) -> None:
    """Removes from nodes/ the machines that did not say goodbye, once their Slurm jobs have ended."""
    for node in nodes_of(mount) if is_mounted(mount) else []:
        if node.state == "down" and any(node.is_of(j.number) for j in jobs if not j.live and j.state != "COMPLETING"):
            try:
                node.path.rmdir()
            except OSError:
                pass  # it has gone by itself


def status(a: Task) -> None:
    """Prints a table of the machines, and a sentence."""
    jobs = [job for job in a.system.lent(a.mount) if job.live or job.state == "COMPLETING"]
    here = nodes_of(a.mount) if is_mounted(a.mount) else []
    row = "%-12s %-12s %-12s %-10s %-24s %-6s %5s %8s"
    if jobs:
        print(row % ("job", "in " + a.system.name, "machine", "time", "node", "state", "cpus", "running"))
    for job in jobs:
        node = next((n for n in here if n.is_of(job.number)), None)
        about = (node.name, node.state, node.cpus, node.running) if node else \
            ("not joined" if job.state == "RUNNING" else "(%s)" % job.reason, "", "", "")
        print((row % (job.id, job.state.lower(), job.where or "-", job.time, *about)).rstrip())
    pid = Lock(a.mount).held_by()
    watched = "; %s auto watches it, process %d" % (a.system.asker, pid) if pid else ""
    running = sum(job.state == "RUNNING" for job in jobs)
    leaving = sum(job.state == "COMPLETING" for job in jobs)
    apart = ["%d running of %d asked for" % (running, len(jobs) - leaving)] if running + leaving < len(jobs) else []
    apart += ["%d leaving" % leaving] if leaving else []
    say("%s lends %s to %s%s%s" % (a.system.name, machines(running) if running else "no machines", a.mount,
                                      " (%s)" % ", ".join(apart) if apart else "", watched))
    need_mount(a.mount)
