"""ppfs-batch: programs stand in for those of PBS, SGE and HTCondor, the machines they lend are real nodes here."""
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from noderig import NODE, nodes_of, text_of
from ppfsmount import TOP, clean_env, wait_until
from processes import kill, with_variable

PPFS_BATCH = TOP / "scripts/ppfs-batch"
NAMES = ("qsub", "qstat", "qdel", "qhold", "condor_submit", "condor_q", "condor_rm")
SYSTEMS = ("pbs", "sge", "htcondor")


class Batch:
    """A cluster of that system, and ppfs-batch for the mount m."""

    def __init__(self, system, m):
        self.system, self.m, self.dir = system, m, m.base / "batch"
        (self.dir / "bin").mkdir(parents=True)
        for name in NAMES:
            (self.dir / "bin" / name).symlink_to(Path(__file__).with_name("batchrig.py"))
        self.env = {**clean_env(m.base), "BATCH_DIR": str(self.dir), "BATCH_SYSTEM": system}
        self.env["PATH"] = "%s:%s" % (self.dir / "bin", self.env["PATH"])
        self.background = []

    def argv(self, command, *words):
        lend = ["--address", "127.0.0.1", "--key", self.m.statedir / "join.key", "--program", NODE, "--logs", self.dir / "logs"]
        more = lend if command in ("start", "auto") else []
        return list(map(str, [sys.executable, PPFS_BATCH, command, "--system", self.system, *more, self.m.mnt, *words]))

    def __call__(self, *words, status=0):
        done = subprocess.run(self.argv(*words), env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=100)
        assert done.returncode == status, done.stdout
        return done.stdout

    def auto(self, *words):
        with open(self.dir / "auto.log", "ab") as log:
            self.background.append(subprocess.Popen(self.argv("auto", "--every", "1", "--patience", "1", *words), env=self.env,
                                                    stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        return self.background[-1]

    def calls(self, name):
        return [line for line in text_of(self.dir / "calls").splitlines() if line.split()[0] == name]

    def machines(self):
        return [n for n in nodes_of(self.m) if n != "local"]

    def finish(self):
        for process in self.background:
            kill(process.pid)
            process.wait()
        for pid in with_variable("BATCH_DIR=%s" % self.dir):
            kill(pid)


@pytest.fixture
def ask(ml):
    made = []

    def make(system):
        made.append(Batch(system, ml))
        return made[-1]

    yield make
    for one in made:
        one.finish()


SUBMITTED = {
    "pbs": "qsub -l nodes=1:ppn=2 -l walltime=02:00:00 -j oe -o /dev/null -r n -q q -A physics -N ppfs-",
    "sge": "qsub -l h_rt=7200 -j y -o /dev/null -S /bin/sh -wd / -r n -pe smp 2 -q q -A physics -terse -N ppfs-",
    "htcondor": "condor_submit -terse -A physics -",
}


@pytest.mark.parametrize("system", SYSTEMS)
def test_machines_join_run_and_leave(ask, system):
    batch = ask(system)
    m = batch.m
    key = (m.statedir / "join.key").read_text().splitlines()[1]
    said = batch("start", "--time", "2h", "--cpus", "2", "--partition", "q", "--wait", "--send-key", "--", "-A", "physics")
    assert "has joined with 2 slots" in said
    assert batch.calls(SUBMITTED[system].split()[0])[0].startswith(SUBMITTED[system]) and key not in text_of(batch.dir / "calls")
    name, = batch.machines()
    assert "-%s1" % system in name
    (batch.dir / "logs" / (name[name.rindex(system):] + ".log")).stat()
    m.put("a", "#!/bin/sh\necho $PPFS_NODE\n")
    assert m.result("a").decode() == name + "\n"
    assert "running" in batch("status") and name in batch("status") and "n003" in batch("status")
    m.put("g", m.gate("g"))
    m.pid_of("g")
    assert "told 1 machine to leave" in batch("stop")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "1"
    wait_until(lambda: not batch.machines(), "the machine to leave")
    assert batch.calls("qdel") == batch.calls("condor_rm") == [], "nothing that runs is ended by the system"
    wait_until(lambda: not with_variable("BATCH_DIR=%s" % batch.dir), "all of it to end")


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_waits_is_withdrawn(ask, system):
    batch = ask(system)
    (batch.dir / "full").touch()
    batch("start")
    assert "1 running of" not in batch("status") and "0 running of 1 asked for" in batch("status")
    assert "cancelled 1 machine that had not begun" in batch("stop", "--wait")
    assert "lends no machines" in batch("status")


@pytest.mark.parametrize("system", SYSTEMS)
def test_auto_asks_again_after_a_refusal_and_idle_ones_leave(ask, system):
    batch = ask(system)
    log = batch.dir / "auto.log"
    auto = batch.auto("--max", "1", "--idle-exit", "2")
    wait_until(lambda: "watching" in text_of(log) or auto.poll() is not None, "auto to watch")
    batch.m.put("a", "#!/bin/sh\n")
    assert batch.m.result("a") == b""
    wait_until(lambda: "has left" in text_of(log), "the idle one to leave")
    (batch.dir / "refuse").touch()
    batch.m.put("b", "#!/bin/sh\n")
    wait_until(lambda: "limit of jobs; it is tried again" in text_of(log), "the refusal to be said")
    (batch.dir / "refuse").unlink()
    assert batch.m.result("b") == b""
    auto.send_signal(signal.SIGINT)
    assert auto.wait(60) == 130, text_of(log)


def test_a_machine_leaves_before_its_time_is_up(ask):
    batch = ask("pbs")
    batch("start", "--time", "2m", "--wait")
    script = text_of(batch.dir / "1.sh")
    assert "after 114 USR1 $$" in script and "after 4 HUP" in script
    os.kill(next(pid for pid in with_variable("PBS_JOBID=1.head") if str(batch.dir / "1.sh") in text_of("/proc/%d/cmdline" % pid)), signal.SIGUSR1)
    wait_until(lambda: not batch.machines(), "it to leave")


def test_what_goes_wrong_is_said(ask):
    batch = ask("sge")
    assert "--system" in batch("start", "--system", "lsf", status=2)
    (batch.dir / "refuse").touch()
    assert batch("start", status=1) == "ppfs-batch: qsub failed: would exceed the queue's limit of jobs\n"
    (batch.dir / "bin/qstat").unlink()
    assert "ppfs-batch: qstat is not in PATH; run ppfs-batch where the commands of SGE are" in batch("status", status=1)
