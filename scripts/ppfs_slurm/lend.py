"""start, stop and status: machines asked for, told to leave, shown."""
import fcntl
import os
import re
import signal
import time

from .arguments import LOGS
from .cluster import job_name, lent, let_go, slurm, submit
from .mounted import is_mounted, key_of, need_mount, nodes_of, number_of, text_of
from .words import Trouble, machines, say


def start(a):
    need_mount(a.mount)
    key_of(a)
    forget_lost(a.mount, lent(a.mount))
    array = submit(a, a.nodes, a.idle_exit)
    say("asked Slurm for %s: job %s" % (machines(a.nodes), array))
    joined = {}
    while a.wait and len(joined) < a.nodes:
        here = nodes_of(a.mount)
        for job in lent(a.mount):
            if job.id.split("_")[0] != array:
                continue
            node = next((n for n in here if n.is_of(job) and n.state == "up"), None)
            if node and job.id not in joined:
                joined[job.id] = node
                say("%s has joined with %d slots" % (node.name, node.cpus))
            elif not job.live and job.id not in joined:
                raise Trouble(why_ended(a, job))
        time.sleep(0.5)


def why_ended(a, job):
    """The last thing it said, but for that it leaves."""
    lines = text_of(a.logs / (job.number + ".log"), 1 << 16).splitlines()
    said = [line for line in lines if not re.search(r" leaves$| leaves when nothing runs", line)]
    log = said[-1] if said else "no log in %s" % a.logs
    return "job %s ended as %s on %s before it joined: %s" % (job.id, job.state, job.where or "no machine", log)


class Lock:
    """Held while an auto watches the mount; the file has its process id."""

    def __init__(self, mount):
        LOGS.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = LOGS / (job_name(mount) + ".lock")
        self.file = open(self.path, "a+")

    def take(self):
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

    def held_by(self):
        """The process that has it, 0 when nobody has."""
        try:
            fcntl.flock(self.file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return number_of(self.path)
        fcntl.flock(self.file, fcntl.LOCK_UN)
        return 0


def end_auto(mount):
    """An auto would ask for new machines at once. It lets go of its lock when it has ended."""
    lock = Lock(mount)
    pid = lock.held_by()
    if pid:
        os.kill(pid, signal.SIGTERM)
        fcntl.flock(lock.file, fcntl.LOCK_EX)
        say("ended ppfs-slurm auto, process %d" % pid)


def stop(a):
    end_auto(a.mount)
    jobs = [job for job in lent(a.mount) if job.live]
    for job in jobs:
        let_go(job, "HUP" if a.now else "USR2")
    waits = "" if a.now or not any(j.state == "RUNNING" for j in jobs) else "; each leaves when what runs on it has ended"
    say("told %s to leave%s" % (machines(len(jobs)), waits) if jobs else "Slurm lends no machines to %s" % a.mount)
    patience = time.monotonic() + 15
    told = {job.id for job in jobs if job.state == "RUNNING"}
    while a.now or a.wait:
        left = [job for job in lent(a.mount) if job.live or job.state == "COMPLETING"]
        if not left:
            break
        for job in left:  # one that began meanwhile; one that does not hear
            if job.live and (job.id not in told or a.now and time.monotonic() > patience):
                if job.id in told:
                    slurm("scancel", "--quiet", job.id)
                else:
                    let_go(job, "HUP" if a.now else "USR2")
                    told.add(job.id)
        time.sleep(0.5)
    forget_lost(a.mount, lent(a.mount))


def forget_lost(mount, jobs):
    """Removes from nodes/ the machines that did not say goodbye, once their Slurm jobs have ended."""
    for node in nodes_of(mount) if is_mounted(mount) else []:
        if node.state == "down" and any(node.is_of(j) for j in jobs if not j.live and j.state != "COMPLETING"):
            try:
                node.path.rmdir()
            except OSError:
                pass  # it has gone by itself


def status(a):
    jobs = [job for job in lent(a.mount) if job.live or job.state == "COMPLETING"]
    here = nodes_of(a.mount) if is_mounted(a.mount) else []
    row = "%-12s %-12s %-12s %-10s %-24s %-6s %5s %8s"
    if jobs:
        print(row % ("job", "in Slurm", "machine", "time", "node", "state", "cpus", "running"))
    for job in jobs:
        node = next((n for n in here if n.is_of(job)), None)
        about = (node.name, node.state, node.cpus, node.running) if node else \
            ("not joined" if job.state == "RUNNING" else "(%s)" % job.reason, "", "", "")
        print((row % (job.id, job.state.lower(), job.where or "-", job.time, *about)).rstrip())
    pid = Lock(a.mount).held_by()
    watched = "; ppfs-slurm auto watches it, process %d" % pid if pid else ""
    say("Slurm lends %s to %s%s" % (machines(len(jobs)) if jobs else "no machines", a.mount, watched))
    need_mount(a.mount)
