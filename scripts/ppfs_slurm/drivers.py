"""What is asked of PBS, SGE and HTCondor: each is three commands (submit, list, cancel), and what it makes of their words.

These hand no signal on to one shell of a job alone, as Slurm does. So a machine that has joined is told to leave by the mount
(rmdir nodes/NAME), only one that has not is cancelled; and the job itself counts its time.
"""
from __future__ import annotations

import json
import os
import pwd
import re
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence
from xml.etree import ElementTree

from .arguments import Options
from .cluster import NOT_JOINED, Lent, Slurm, batch, job_name, lead, slurm
from .mounted import Node
from .words import Trouble

REMEMBERED = 1000        # jobs that have ended, which these systems do not show any more


def clock(seconds: int) -> str:
    """HH:MM:SS"""
    return "%02d:%02d:%02d" % (seconds // 3600, seconds // 60 % 60, seconds % 60)


def since(start: float) -> str:
    """HH:MM:SS since a time of the epoch, 00:00:00 when there was none."""
    return clock(max(0, int(time.time() - start))) if start > 0 else "00:00:00"


def job_of(id: str, number: str, state: str, where: str, run: str, reason: str) -> Lent:
    """The fields of a job as Lent has them; a | in one would be another field."""
    return Lent("|".join(field.replace("|", " ").replace("\n", " ").strip() for field in (id, number, state, where, run, reason)))


def number_of(system: str, id: str) -> str:
    """What the end of a node's name and a log have of a job: no other node's name, whose removal would be asked for, ends so."""
    return system + (id.strip().replace(".", "-") if system == "htcondor" else id.strip().partition(".")[0])


def short_name(mount: Path) -> str:
    """The name of a mount's jobs: some PBS take fifteen characters at most."""
    return job_name(mount)[:15]


# --- PBS: OpenPBS, PBS Pro, Torque ---
PBS_STATES = {"Q": "PENDING", "H": "PENDING", "W": "PENDING", "T": "PENDING", "R": "RUNNING", "B": "RUNNING", "S": "SUSPENDED",
              "U": "SUSPENDED", "E": "COMPLETING"}


def pbs_submit(a: Options, count: int) -> List[str]:
    """The command that takes the script of one machine."""
    words = ["qsub", "-l", "nodes=1:ppn=%d" % (a.cpus or 1), "-l", "walltime=" + clock(a.time or 0), "-j", "oe", "-o", "/dev/null", "-r", "n"]
    return [*words, *(["-q", a.partition] if a.partition else []), *a.sbatch, "-N", short_name(a.mount)]


def pbs_list(mount: Path, me: str, ask: Callable[..., str]) -> List[Lent]:
    """Reads qstat -f: paragraphs of "name = value", where a line that begins with a tab goes on with the one before."""
    jobs = []
    for paragraph in re.split(r"^Job Id: *", ask("qstat", "-f").replace("\n\t", ""), flags=re.MULTILINE)[1:]:
        id, _, rest = paragraph.partition("\n")
        about = dict(re.findall(r"^ +([\w.]+) = (.*)$", rest, re.MULTILINE))
        if about.get("Job_Name") == short_name(mount) and about.get("Job_Owner", "").partition("@")[0] == me:
            jobs.append(job_of(id.strip(), number_of("pbs", id), PBS_STATES.get(about.get("job_state", ""), "COMPLETED"),
                               about.get("exec_host", "").partition("/")[0], about.get("resources_used.walltime", "00:00:00"),
                               about.get("comment", "")))
    return jobs


# --- SGE: Grid Engine and its descendants ---
def sge_submit(a: Options, count: int) -> List[str]:
    """The command that takes the script of one machine."""
    words = ["qsub", "-l", "h_rt=%d" % (a.time or 0), "-j", "y", "-o", "/dev/null", "-S", "/bin/sh", "-wd", "/", "-r", "n"]
    words += ["-pe", a.pe, str(a.cpus)] if (a.cpus or 1) > 1 else []
    return [*words, *(["-q", a.partition] if a.partition else []), *a.sbatch, "-terse", "-N", short_name(a.mount)]


def sge_state(letters: str) -> str:
    """The letters of sge_status(5)."""
    if "d" in letters:
        return "COMPLETING"
    if set(letters) & set("sST"):
        return "SUSPENDED"
    return "RUNNING" if set(letters) & set("rt") and "q" not in letters else "PENDING"


def sge_list(mount: Path, me: str, ask: Callable[..., str]) -> List[Lent]:
    """Reads qstat -xml: a job_list for each job, of those that run below queue_info, of the others below job_info."""
    try:
        found = ElementTree.fromstring(ask("qstat", "-xml", "-u", me)).iter("job_list")
    except ElementTree.ParseError as e:
        raise Trouble("what qstat -xml says is no XML: %s" % e, command="qstat") from None
    jobs = []
    for about in found:
        if about.findtext("JB_name") != short_name(mount):
            continue
        id, letters = about.findtext("JB_job_number", ""), about.findtext("state", "")
        try:
            start = time.mktime(time.strptime(about.findtext("JAT_start_time", "")[:19], "%Y-%m-%dT%H:%M:%S"))
        except ValueError:
            start = 0.0
        jobs.append(job_of(id, number_of("sge", id), sge_state(letters), about.findtext("queue_name", "").rpartition("@")[2], since(start), letters))
    return jobs


# --- HTCondor ---
CONDOR_STATES = {1: "PENDING", 2: "RUNNING", 3: "COMPLETING", 4: "COMPLETED", 5: "PENDING", 6: "COMPLETING", 7: "SUSPENDED"}
CONDOR = """universe = vanilla
executable = %(script)s
copy_to_spool = true
environment = "PPFS_JOB=$(ClusterId)-$(ProcId)"
output = /dev/null
error = /dev/null
should_transfer_files = YES
when_to_transfer_output = ON_EXIT
transfer_output_files = ""
request_cpus = %(cpus)d
periodic_remove = JobStatus == 2 && time() - JobCurrentStartDate > %(time)d
My.PpfsMount = "%(name)s"
queue %(count)d
"""


def condor_submit(a: Options, count: int) -> List[str]:
    """The command that takes a description of all machines."""
    return ["condor_submit", "-terse", *a.sbatch, "-"]


def condor_list(mount: Path, me: str, ask: Callable[..., str]) -> List[Lent]:
    """Reads condor_q -json, which says nothing at all where there are no jobs."""
    said = ask("condor_q", me, "-json", "-constraint", 'PpfsMount =?= "%s"' % short_name(mount), "-attributes",
               "ClusterId,ProcId,JobStatus,RemoteHost,JobCurrentStartDate,HoldReason")
    try:
        found = json.loads(said) if said.strip() else []
        ids = ["%d.%d" % (job["ClusterId"], job["ProcId"]) for job in found]
        return [job_of(id, number_of("htcondor", id), CONDOR_STATES.get(job["JobStatus"], "COMPLETED"), str(job.get("RemoteHost", "")).rpartition("@")[2],
                       since(job.get("JobCurrentStartDate", 0)) if job["JobStatus"] == 2 else "00:00:00", str(job.get("HoldReason", "")))
                for id, job in zip(ids, found)]
    except (ValueError, KeyError, TypeError):
        raise Trouble("what condor_q -json says is not understood: %s" % said[:100], command="condor_q") from None


class Commands(NamedTuple):
    """What differs between the systems."""

    name: str
    server: str
    submit: Callable[[Options, int], List[str]]
    listed: Callable[[Path, str, Callable[..., str]], List[Lent]]
    submitter: str
    canceller: str
    job: str  # what the shell there calls the number of its job
    ids: str  # what stands in the answer to submit


TABLE: Mapping[str, Commands] = {
    "pbs": Commands("PBS", "its server", pbs_submit, pbs_list, "qsub", "qdel", '"pbs${PBS_JOBID%%.*}"', r"^\d+[\w.-]*$"),
    "sge": Commands("SGE", "sge_qmaster", sge_submit, sge_list, "qsub", "qdel", '"sge$JOB_ID"', r"^\d+$"),
    "htcondor": Commands("HTCondor", "condor_schedd", condor_submit, condor_list, "condor_submit", "condor_rm",
                         '"htcondor$PPFS_JOB"', r"^\d+\.\d+(?: - \d+\.\d+)?$"),
}


class Driver(Slurm):
    """One of TABLE, behind what ppfs-slurm asks of Slurm. It remembers jobs that it has seen: these systems forget them at once."""

    asker = "ppfs-batch"

    def __init__(self, system: str) -> None:
        self.of, self.system = TABLE[system], system
        self.name = self.of.name
        self.submitter = self.of.submitter
        self.seen: Dict[str, Lent] = {}

    def ask(self, *words: str, stdin: Optional[str] = None) -> str:
        """What a command of the system prints. Trouble: it failed."""
        return slurm(*words, stdin=stdin, system=self.name, asker=self.asker, server=self.of.server)

    def lent(self, mount: Path) -> List[Lent]:
        """All jobs of ours that the system shows, and those seen before, as ended."""
        jobs = self.of.listed(mount, pwd.getpwuid(os.getuid()).pw_name, self.ask)
        there = {job.id for job in jobs}
        gone = [job for id, job in self.seen.items() if id not in there][-REMEMBERED:]
        for job in gone:
            job.state, job.live = "COMPLETED", False
        self.seen = {job.id: job for job in [*gone, *jobs]}
        return [*gone, *jobs]

    def submit(self, a: Options, count: int, idle_exit: int) -> List[str]:
        """Asks for count machines; their ids, which are fewer where it refused the others (refused says why)."""
        script = batch(a, idle_exit, {
            "SYSTEM": self.name, "ASKER": self.asker, "JOB": self.of.job, "CPUS": "--cpus %d" % (a.cpus or 1),
            "CLOCK": "[ -n \"$left\" ] || after %d USR1 $$" % ((a.time or 0) - lead(a))})
        if self.system == "htcondor":
            return self.submit_all(a, count, script)
        ids: List[str] = []
        while len(ids) < count:
            try:
                ids += self.ids_of(self.ask(*self.of.submit(a, 1), stdin=script))
            except Trouble as e:
                if not ids:
                    raise
                self.refused = str(e)
                break
        return self.asked_for(ids)

    def submit_all(self, a: Options, count: int, script: str) -> List[str]:
        """HTCondor takes the script from a file, of which it keeps a copy."""
        with tempfile.NamedTemporaryFile("w", prefix="ppfs-batch-") as file:  # nobody else may read it
            file.write(script)
            file.flush()
            os.fchmod(file.fileno(), 0o700)
            said = self.ask(*self.of.submit(a, count), stdin=CONDOR % {"script": file.name, "cpus": a.cpus, "time": a.time,
                                                                        "name": short_name(a.mount), "count": count})
        self.ids_of(said)
        return self.asked_for(["%s.%d" % (said.split(".")[0].split()[-1], i) for i in range(count)])

    def ids_of(self, said: str) -> List[str]:
        """The ids in what the submitter said. Trouble: there is none."""
        found = re.findall(self.of.ids, said, re.MULTILINE)
        if not found:
            raise Trouble("%s names no job: %s" % (self.submitter, said.strip()[:100] or "it said nothing"), command=self.submitter)
        return found

    def asked_for(self, ids: List[str]) -> List[str]:
        """The ids; each is one to be missed, if it ends before the next look."""
        self.seen.update({id: job_of(id, number_of(self.system, id), "PENDING", "", "00:00:00", "") for id in ids})
        return ids

    def let_go(self, a: Options, jobs: Sequence[Lent], how: str, nodes: Sequence[Node]) -> Dict[str, str]:
        """Withdraws those that have not begun; lets the mount tell the others, whatever how is. By id, why not."""
        failed: Dict[str, str] = {}
        for job in jobs:
            node = next((n for n in nodes if n.is_of(job.number) and n.state != "down"), None)
            try:
                if node and node.state != "drain":
                    node.path.rmdir()
                elif not node and job.state == "RUNNING":
                    failed[job.id] = NOT_JOINED
                elif not node:
                    failed.update(self.withdraw(a, job.id))
            except OSError as e:
                failed[job.id] = "rmdir %s: %s" % (node.path if node else "", e.strerror)
            except Trouble as e:
                failed[job.id] = str(e)
        return failed

    def withdraw(self, a: Options, id: str) -> Dict[str, str]:
        """Ends a job that has not begun. By id, why not. PBS and SGE hold it first, and it is looked at again: a qdel would hurt what runs there."""
        if self.system == "htcondor":
            cluster, _, process = id.partition(".")
            self.ask("condor_rm", "-constraint", "JobStatus =!= 2 && ClusterId == %s && ProcId == %s" % (cluster, process))
            return {}
        self.ask("qhold", id)
        now = next((job for job in self.lent(a.mount) if job.id == id), None)
        if now and now.state == "RUNNING":
            return {id: NOT_JOINED}
        if now and now.live:
            self.cancel([id])
        return {}

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends them, whatever runs there."""
        self.ask(self.of.canceller, *ids)
