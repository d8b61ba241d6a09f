"""What is asked of Slurm: machines, each as one job that runs BATCH, and their end.

A shell starts one ppfs-node and hands signals on to it.
  SIGUSR2  of `scancel --batch --signal=USR2`: take no more, leave when what runs has ended
  SIGUSR1  of Slurm, shortly before the time is up: the same, and whatever still runs then goes back to the queue
  SIGHUP   leave at once; what runs goes back to the queue
  SIGTERM  of a plain scancel or a preemption: the same. Slurm has sent it to the jobs on the machine as well, so those that
           do not bear it have failed by then
"""
from __future__ import annotations

import base64
import math
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence

from .arguments import Options
from .mounted import Node, address_of, key_of
from .words import Trouble

LEAD = 120               # the most that lead() gives
LIVE = ("PENDING", "CONFIGURING", "RUNNING", "SUSPENDED", "REQUEUED", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED")
BATCH = r"""#!/bin/sh
# A machine that @SYSTEM@ lends to the ppfs on @WHERE@.
job=@JOB@
mkdir -p @LOGS@ 2>/dev/null && exec >>@LOGS@/"$job.log" 2>&1
program=@PROGRAM@ key=@KEY@ sent= node= left= timer=
trap '[ -z "$timer" ] || kill "$timer" 2>/dev/null; [ -z "$sent" ] || rm -f "$sent"' EXIT
fail() {
    echo "@ASKER@: $*" >&2
    exit 1
}
if [ -z "$key" ]; then
    sent=$(mktemp) && key=$sent && base64 -d >"$key" <<'END' || fail "the key cannot be kept on $(uname -n)"
@KEYTEXT@
END
    exec 9<"$key" && rm -f "$key" && key=/proc/self/fd/9 # nothing of it is left there, however this ends
fi
[ -r "$key" ] || fail "$(uname -n) has no key $key; copy it there, or start with --send-key"
command -v "$program" >/dev/null || fail "$(uname -n) has no $program; install ppfs there, or name it with --program"
host=$(uname -n | cut -d. -f1 | tr -c 'A-Za-z0-9_\n-' - | cut -c1-40)
leave() {
    [ -z "$node" ] || [ -n "$left" ] || kill -TERM "$node"
    left=1
}
after() {
    (sleep "$1" & sleeping=$!
    trap 'kill "$sleeping"' TERM
    wait "$sleeping" && kill -"$2" "$3") &
    timer=$!
}
leave_soon() {
    leave
    [ -z "$timer" ] || kill "$timer" 2>/dev/null
    after @GRACE@ HUP "$node"
}
trap leave USR2
trap leave_soon USR1
trap 'left=1; [ -z "$node" ] || kill -HUP "$node"' HUP TERM
"$program" --join @ADDRESS@ --key "$key" --name "$host-$job" @CPUS@ @MORE@ &
node=$!
exec 9<&-
@CLOCK@
[ -z "$left" ] || kill -TERM "$node"
while :; do
    wait "$node"
    status=$?
    kill -0 "$node" 2>/dev/null || exit "$status"
done
"""


def slurm(*words: str, stdin: Optional[str] = None, system: str = "Slurm", asker: str = "ppfs-slurm", server: str = "slurmctld") -> str:
    """What a command of Slurm, or of another system, prints, which reads stdin (None: ours). Trouble: it failed, or gave no answer."""
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, input=stdin)
    except FileNotFoundError:
        raise Trouble("%s is not in PATH; run %s where the commands of %s are" % (words[0], asker, system)) from None
    except subprocess.TimeoutExpired:
        raise Trouble("%s did not answer for two minutes; is %s running?" % (words[0], server), command=words[0]) from None
    if done.returncode:
        lines = [re.sub(r"^\w+: (error: |fatal: )?", "", line) for line in done.stderr.splitlines() if line.strip()]
        raise Trouble("%s failed: %s" % (words[0], "; ".join(lines[:3]) or "it said nothing"), command=words[0])
    return done.stdout


def job_name(mount: Path) -> str:
    """The name of all Slurm jobs that lend machines to this mount."""
    return "ppfs-" + sha256(("%s\0%s" % (socket.gethostname(), mount)).encode()).hexdigest()[:12]


class Lent:
    """One Slurm job of ours. id: what scancel takes (17 or 17_3); number: what $SLURM_JOB_ID is there once it runs."""

    def __init__(self, line: str) -> None:
        self.id, self.number, self.state, self.where, self.time, self.reason = line.split("|", 5)
        self.live = self.state in LIVE

    def seconds(self) -> int:
        """How long it has run."""
        days, _, clock = self.time.rpartition("-")
        seconds = 0
        for part in clock.split(":"):
            seconds = seconds * 60 + int(part) if part.isdigit() else 0
        return seconds + 86400 * int(days or 0)


def lent(mount: Path) -> List[Lent]:
    """All jobs of ours that Slurm remembers, the ended ones too."""
    lines = slurm("squeue", "--noheader", "--array", "--states=all", "--user=%d" % os.getuid(), "--name=" + job_name(mount),
                  "--sort=i", "--format=%i|%A|%T|%N|%M|%r")
    return [Lent(line.strip()) for line in lines.splitlines() if line.count("|") >= 5]


NOT_JOINED = "it runs but has not joined yet"
TOLD_AT_ONCE = 100       # jobs that one scancel is given


def scancel(words: Sequence[str], ids: Sequence[str]) -> Dict[str, str]:
    """By id what scancel said of those for which it failed. It does not say which those were of many."""
    failed: Dict[str, str] = {}
    for first in range(0, len(ids), TOLD_AT_ONCE):
        some = ids[first:first + TOLD_AT_ONCE]
        try:
            slurm("scancel", *words, *some)
        except Trouble as e:
            if len(some) == 1:
                failed[some[0]] = str(e)
            else:
                for one in some:
                    failed.update(scancel(words, [one]))
    return failed


def let_go(jobs: Sequence[Lent], how: str = "USR2") -> Dict[str, str]:
    """Tells them to leave, twice does no harm; those that have not begun are cancelled, and first, or they would begin where others
    leave. Goes on after an error. By id what scancel said of those for which it failed: they may have begun or ended meanwhile, so
    who needs to know looks again."""
    others = [job.id for job in jobs if job.state not in ("PENDING", "RUNNING")]
    return {**scancel(["--state=PENDING"], [job.id for job in jobs if job.state == "PENDING"]), **scancel([], others),
            **scancel(["--batch", "--signal=" + how], [job.id for job in jobs if job.state == "RUNNING"])}


def program_here() -> str:
    """ppfs-node as it is found here: beside this program, or in PATH; else the machines look for it in their PATH."""
    beside = Path(os.path.realpath(sys.argv[0])).parent / "ppfs-node"
    return str(beside) if os.access(beside, os.X_OK) else shutil.which("ppfs-node") or "ppfs-node"


SLURM_JOB = {"SYSTEM": "Slurm", "ASKER": "ppfs-slurm", "JOB": '"$SLURM_JOB_ID"', "CLOCK": "",
             "CPUS": '${SLURM_CPUS_ON_NODE:+--cpus "$SLURM_CPUS_ON_NODE"}'}


def batch(a: Options, idle_exit: int, of_system: Mapping[str, str]) -> str:
    """The script of each job. of_system: what the system puts into it, as SLURM_JOB."""
    more = ["--idle-exit", str(idle_exit)] if idle_exit else []
    more += ["--python", a.python] if a.python else []
    more += ["--root-jobs"] if os.geteuid() == 0 else []  # they are lent by root, for what he runs
    values = {
        **of_system,
        "WHERE": re.sub(r"[^ -~]", "?", "%s:%s" % (socket.gethostname(), a.mount)),
        "LOGS": shlex.quote(os.path.abspath(a.logs)),
        "PROGRAM": shlex.quote(a.program or program_here()),
        "KEY": "''" if a.send_key else shlex.quote(os.path.abspath(a.key)),
        "KEYTEXT": base64.b64encode(key_of(a)).decode() if a.send_key else "",
        "ADDRESS": shlex.quote(address_of(a)),
        "GRACE": str(lead(a) * 3 // 4),
        "MORE": " ".join(map(shlex.quote, more)),
    }
    return re.sub("@([A-Z]+)@", lambda found: values[found.group(1)], BATCH)


def lead(a: Options) -> int:
    """Seconds before its time is up in which a machine takes no more."""
    return min(LEAD, a.time // 20) if a.time else LEAD


class Slurm:
    """The system that ppfs-slurm asks. drivers.py has the others."""

    name, asker, submitter = "Slurm", "ppfs-slurm", "sbatch"
    refused = ""  # what the submitter said when it took fewer machines than it was asked for

    def lent(self, mount: Path) -> List[Lent]:
        """All jobs of ours that the system remembers, the ended ones too."""
        return lent(mount)

    def submit(self, a: Options, count: int, idle_exit: int) -> List[str]:
        """Asks for count machines; their ids. Ours come last, so that nobody breaks what stop and status need."""
        words = ["sbatch", "--nodes=1", "--ntasks=1", "--chdir=/", "--output=/dev/null", "--signal=B:USR1@%d" % lead(a),
                 "--comment=ppfs %s:%s" % (socket.gethostname(), a.mount)]
        words += ["--cpus-per-task=%d" % a.cpus] if a.cpus else ["--exclusive"]
        words += ["--time=%d" % math.ceil(a.time / 60)] if a.time else []
        words += ["--partition=" + a.partition] if a.partition else []
        words += [*a.sbatch, "--parsable", "--job-name=" + job_name(a.mount), "--array=0-%d" % (count - 1)]
        array = slurm(*words, stdin=batch(a, idle_exit, SLURM_JOB)).strip().split(";")[0]
        return ["%s_%d" % (array, i) for i in range(count)]

    def let_go(self, a: Options, jobs: Sequence[Lent], how: str, nodes: Sequence[Node]) -> Dict[str, str]:
        """Tells them to leave, see let_go above."""
        return let_go(jobs, how)

    def cancel(self, ids: Sequence[str]) -> None:
        """Ends them, whatever runs there."""
        slurm("scancel", "--quiet", *ids)


class Task(Options):
    """The command line, and the system that it is about."""

    system: Slurm
