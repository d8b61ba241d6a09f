"""A real Slurm on 127.0.0.1 for tests: munged, slurmctld and one slurmd of four processors, in a private folder.

    with Cluster() as cluster:
        cluster.run("squeue")         # a command of Slurm, talking to this one
        cluster.env                   # what such commands need in their environment
"""
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

from ppfsmount import MARK, describe, kill, parents, text_of, wait_until

CPUS = 4
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo")
PATH = "/usr/bin:/bin:/usr/sbin:/sbin"

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={dir}/munge/socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
SlurmdUser=root
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmctldPidFile={dir}/slurmctld.pid
SlurmdPidFile={dir}/slurmd.pid
SlurmctldLogFile={dir}/slurmctld.log
SlurmdLogFile={dir}/slurmd.log
StateSaveLocation={dir}/state
SlurmdSpoolDir={dir}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=500 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes={host} MaxTime=INFINITE State=INACTIVE
"""


def why_not():
    """A reason why there can be no Slurm here, or ''."""
    missing = [p for p in PROGRAMS if not shutil.which(p, path=PATH)]
    if missing:
        return "%s is missing: install slurm-wlm and munge" % ", ".join(missing)
    return "" if os.geteuid() == 0 else "slurmd needs root"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    def __init__(self):
        self.dir = Path(tempfile.mkdtemp(prefix="ppfs-slurm."))
        self.dir.chmod(0o755)
        self.mark = uuid.uuid4().hex
        self.env = {"PATH": PATH, "LC_ALL": "C.UTF-8", "SLURM_CONF": str(self.dir / "slurm.conf"), MARK: self.mark}
        self.daemons = []

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.finish()
            raise
        return self

    def __exit__(self, *_):
        self.finish()

    def daemon(self, *words):
        with open(self.dir / (words[0] + ".out"), "ab") as out:
            self.daemons.append(subprocess.Popen(words, env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=out,
                                                 stderr=out, start_new_session=True))

    def start(self):
        for name in ("munge", "state", "spool"):
            (self.dir / name).mkdir(mode=0o755)
        munge = self.dir / "munge"
        (munge / "key").write_bytes(os.urandom(128))
        (munge / "key").chmod(0o400)
        conf = CONF.format(dir=self.dir, host=socket.gethostname().split(".")[0], ctld=free_port(), slurmd=free_port(), cpus=CPUS)
        (self.dir / "slurm.conf").write_text(conf)
        self.daemon("munged", "--foreground", "--force", "--socket=%s/socket" % munge, "--key-file=%s/key" % munge,
                    "--pid-file=%s/pid" % munge, "--log-file=%s/log" % munge, "--seed-file=%s/seed" % munge)
        wait_until((munge / "socket").exists, "munged to be there")
        self.daemon("slurmctld", "-D", "-f", self.dir / "slurm.conf")
        self.daemon("slurmd", "-D", "-f", self.dir / "slurm.conf")
        try:
            wait_until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T", check=False), "the machine to be idle", 40)
        except AssertionError as e:
            said = "\n".join(text_of(p) for p in (*self.dir.glob("*.out"), *self.dir.glob("*.log"), munge / "log"))
            raise AssertionError("%s; they say:\n%s" % (e, said[-6000:])) from None

    def run(self, *words, check=True):
        p = subprocess.run(words, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
        assert not check or p.returncode == 0, "%s: %s" % (" ".join(words), p.stdout)
        return p.stdout

    def jobs(self):
        """(id, state) of all jobs that have not ended."""
        lines = self.run("squeue", "--noheader", "--array", "--format=%i %T").splitlines()
        return [tuple(line.split()) for line in lines]

    def clear(self):
        """Cancels whatever is left and waits until all of it has ended."""
        for job, _ in self.jobs():
            self.run("scancel", job, check=False)
        wait_until(lambda: not self.jobs(), "all Slurm jobs to end")

    def marked(self):
        mark = ("%s=%s" % (MARK, self.mark)).encode()
        found = []
        for pid in parents():
            try:
                if mark in Path("/proc/%d/environ" % pid).read_bytes().split(b"\0"):
                    found.append(pid)
            except OSError:
                continue
        return found

    def strays(self):
        """Processes of jobs that have ended."""
        own = {p.pid for p in self.daemons}
        return [describe(pid) for pid in self.marked() if pid not in own and "slurm" not in text_of("/proc/%d/comm" % pid)]

    def finish(self):
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for pid in self.marked():
            kill(pid)
        shutil.rmtree(self.dir, ignore_errors=True)
