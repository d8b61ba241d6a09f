"""auto: machines asked for and let go as work comes and goes."""
import math
import time
from typing import Dict, Mapping, Optional, Sequence, Set, Tuple

from .cluster import NOT_JOINED, Lent, Task
from .lend import Lock, forget_lost, jobs_of, why_ended
from .mounted import Node, address_of, demand, key_of, need_mount, nodes_of
from .words import Trouble, machines, say

PATIENCE = 30            # seconds after which a machine that has started should have joined
STRIKES = 3              # machines in a row that ended without having joined
LONGEST = 60             # seconds between two tries, at most, while it does not answer or refuses
GIVE_UP = 3600           # seconds after which a Slurm that does not answer is given up


class Auto:
    """Looks every few seconds, and compares how many machines are wanted with how many there are or will be."""

    def __init__(self, a: Task) -> None:
        self.a = a
        self.slots = a.cpus or 0  # of a machine; learnt from those that join
        self.joined: Dict[str, str] = {}  # number of a Slurm job: name of its node
        self.known: Dict[str, Lent] = {}  # by id: every job asked for or seen alive, until its end was noticed
        self.dropped: Set[str] = set()  # ids that were told to leave
        self.late: Set[str] = set()  # those that were said to be late
        self.strikes = 0
        self.asked = False  # whether sbatch ever took one
        self.short: Optional[float] = None  # since when there are too few
        self.spare: Optional[float] = None  # since when there are too many

    def look(self) -> None:
        """Asks for machines, or lets some go. Trouble: Slurm does not answer, or machines never join."""
        a, jobs, nodes = self.a, self.a.system.lent(self.a.mount), nodes_of(self.a.mount)
        self.notice(jobs, nodes)
        live = [job for job in jobs if job.live and job.id not in self.dropped]
        theirs = {job.id: node for job in live for node in nodes if node.is_of(job.number)}
        ours = {node.name for node in nodes if any(node.is_of(job.number) for job in jobs)}
        live = [job for job in live if job.id not in theirs or theirs[job.id].state != "drain"]
        others = sum(node.cpus for node in nodes if node.state == "up" and node.name not in ours)
        wanted = demand(a.mount, others + max(self.slots, 1) * a.max, self.slots) - others
        need = math.ceil(wanted / self.slots) if self.slots else 1  # of the first one we learn how large they are
        target = min(max(need if wanted > 0 else 0, a.min), a.max)
        now = time.monotonic()
        self.short = self.short or now if target > len(live) else None
        self.spare = self.spare or now if target < len(live) else None
        if self.short is not None and (now - self.short >= a.patience or len(live) < a.min):
            self.ask(target - len(live), len(live))
        if self.spare is not None:
            self.release(live, theirs, len(live) - target, now - self.spare)

    def notice(self, jobs: Sequence[Lent], nodes: Sequence[Node]) -> None:
        """Who has joined, who has left, who is late, who failed."""
        for job in jobs:
            node = next((n for n in nodes if n.is_of(job.number) and n.state != "down"), None)
            if node and job.number not in self.joined and node.cpus:
                self.joined[job.number] = node.name
                self.slots, self.strikes = node.cpus, 0
                say("%s has joined with %d slots" % (node.name, node.cpus))
            if job.live:
                self.known[job.id] = job
                if job.state == "RUNNING" and not node and job.number not in self.joined and job.id not in self.late \
                        and job.seconds() > PATIENCE:
                    self.late.add(job.id)
                    say("job %s runs on %s but has not joined; its log is %s" % (job.id, job.where, self.a.logs / (job.number + ".log")))
            elif job.id in self.known and job.state != "COMPLETING":
                self.ended(job)
        gone = [i for i in self.known if not any(j.id == i for j in jobs)]  # Slurm has forgotten them already
        for i in gone:
            self.ended(self.known[i])
        forget_lost(self.a.mount, jobs)

    def ended(self, job: Lent) -> None:
        """Says how a job has ended. Trouble: too many in a row without having joined."""
        del self.known[job.id]
        name = self.joined.pop(job.number, None)
        if name:
            say("%s has left" % name)
        elif job.id not in self.dropped and job.state != "CANCELLED":
            self.strikes += 1
            if self.strikes == STRIKES:
                raise Trouble("%d machines in a row did not join, so no more are asked for; %s" % (STRIKES, why_ended(self.a, job)))
            say(why_ended(self.a, job))
        self.dropped.discard(job.id)
        self.late.discard(job.id)

    def ask(self, count: int, have: int) -> None:
        """Those that are always kept do not leave when they are idle."""
        kept = min(max(self.a.min - have, 0), count)
        for number_of_them, idle in ((kept, 0), (count - kept, self.a.idle_exit)):
            if number_of_them:
                ids = self.a.system.submit(self.a, number_of_them, idle)
                self.asked = True
                # Known from the start: one that fails at once has ended before the next look.
                self.known.update({i: Lent("%s||PENDING||0:00|" % i) for i in ids})
                say("asked %s for %s: job %s" % (self.a.system.name, machines(len(ids)), jobs_of(ids)))
        self.short = None

    def release(self, live: Sequence[Lent], nodes: Mapping[str, Node], count: int, since: float) -> None:
        """Those that have not begun go first, then the least busy; those have had their time to be needed again."""
        def order(job: Lent) -> Tuple[bool, int]:
            return (job.state == "RUNNING", nodes[job.id].running if job.id in nodes else 0)
        for job in sorted(live, key=order)[:count]:
            if since >= (self.a.idle_exit if job.state == "RUNNING" else self.a.patience):
                failed = self.a.system.let_go(self.a, [job], "USR2", list(nodes.values()))
                if failed.get(job.id) == NOT_JOINED:  # nothing runs there, and nothing waits
                    self.a.system.cancel([job.id])
                elif failed and any(j.id == job.id and j.live for j in self.a.system.lent(self.a.mount)):
                    raise Trouble(failed[job.id], command="scancel")
                self.dropped.add(job.id)
                say("told job %s to leave: it is not needed" % job.id)


def auto(a: Task) -> None:
    """Watches the mount until it is interrupted. Trouble: it cannot, or machines never join."""
    need_mount(a.mount)
    key_of(a)
    address_of(a)
    lock = Lock(a.mount)
    if not lock.take():
        raise Trouble("another %s auto, process %d, watches %s" % (a.system.asker, lock.held_by(), a.mount))
    one, looked, pause = Auto(a), False, a.every
    away: Optional[float] = None  # since when Slurm does not answer
    try:
        while True:
            try:
                need_mount(a.mount)
                one.look()
                if not looked:
                    say("watching %s: %d to %d machines" % (a.mount, a.min, a.max))
                looked, away, pause = True, None, a.every
            except Trouble as e:  # what has worked will work again: slurmctld may be restarted meanwhile
                worked = e.command and (one.asked if e.command == a.system.submitter else looked)
                if not worked or away and time.monotonic() - away > GIVE_UP:
                    raise
                if not away:
                    say("%s; it is tried again" % e)
                    away = time.monotonic()
                else:
                    pause = min(2 * pause, max(LONGEST, a.every))
            time.sleep(pause)
    finally:
        if one.known:
            say("%s left to themselves: they leave when they are idle or their time is up (%s stop %s ends them)"
                % (machines(len(one.known)), a.system.asker, a.mount))
