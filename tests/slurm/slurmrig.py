"""A real Slurm on 127.0.0.1 for tests: munged, slurmctld and one slurmd of four processors, in a private folder; and
ppfs-slurm as somebody would call it there.

    with Cluster() as cluster:
        cluster.run("squeue")                 # a command of Slurm, talking to this one
        lend = Lender(mount, cluster)
        lend("start", "--nodes", 2, "--wait") # what it prints; it must work
"""
import os
import random
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

from ppfsmount import BUILD, MARK, SLOW, TOP, clean_env, need_programs, wait_until
from processes import describe, kill, text_of, with_variable

PROGRAM = TOP / "scripts" / "ppfs-slurm"
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
MessageTimeout=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=500 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
PartitionName=closed Nodes={host} MaxTime=INFINITE State=INACTIVE
"""


def why_not():
    """A reason why there can be no Slurm here, or ''."""
    if os.geteuid():
        return "slurmd needs root"
    need_programs(*PROGRAMS)
    return ""


def free_ports(count):
    """Ports that no connection is given by itself: slurmctld is started again, and must find its port free."""
    ports = []
    while len(ports) < count:
        with socket.socket() as s:
            port = random.randrange(15000, 32000)
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
    return ports


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
        ctld, slurmd = free_ports(2)
        conf = CONF.format(dir=self.dir, host=socket.gethostname().split(".")[0], ctld=ctld, slurmd=slurmd, cpus=CPUS)
        (self.dir / "slurm.conf").write_text(conf)
        self.daemon("munged", "--foreground", "--force", "--socket=%s/socket" % munge, "--key-file=%s/key" % munge,
                    "--pid-file=%s/pid" % munge, "--log-file=%s/log" % munge, "--seed-file=%s/seed" % munge)
        wait_until((munge / "socket").exists, "munged to be there")
        self.start_controller()
        self.daemon("slurmd", "-D", "-f", self.dir / "slurm.conf")
        self.ready()

    def ready(self):
        """Waits until jobs can start."""
        try:
            wait_until(lambda: "idle" in self.run("sinfo", "--noheader", "--format=%T", check=False), "the machine to be idle", 30)
        except AssertionError as e:
            said = "\n".join(text_of(p)[-3000:] for p in (*self.dir.glob("*.out"), *self.dir.glob("*.log"), self.dir / "munge" / "log"))
            raise AssertionError("%s; they say:\n%s" % (e, said)) from None

    def start_controller(self):
        self.daemon("slurmctld", "-D", "-f", self.dir / "slurm.conf")

    def stop_controller(self):
        controller = next(d for d in reversed(self.daemons) if d.args[0] == "slurmctld")
        controller.terminate()
        controller.wait(30)

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
        return with_variable("%s=%s" % (MARK, self.mark))

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


class Lender:
    """ppfs-slurm as somebody calls it who mounted ml."""

    def __init__(self, mount, cluster):
        self.mount, self.cluster = mount, cluster
        self.env = {**clean_env(mount.base), **cluster.env, "PATH": cluster.env["PATH"]}
        self.background = []

    def argv(self, command, *words, sbatch=()):
        """start and auto find the ppfs, its key and the program that was built."""
        lend = ["--address", "127.0.0.1", "--key", self.mount.statedir / "join.key", "--program", BUILD / "ppfs-node",
                "--logs", self.mount.base / "logs"] if command in ("start", "auto") else []
        more = ["--", *sbatch] if sbatch else []
        return list(map(str, [PROGRAM, command, *lend, *words, self.mount.mnt, *more]))

    def run(self, *words, env=None, **kw):
        return subprocess.run(self.argv(*words, **kw), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, timeout=50 * SLOW, env={**self.env, **(env or {})})

    def __call__(self, *words, **kw):
        """Runs it; it must work, and say nothing on stderr. What it prints."""
        p = self.run(*words, **kw)
        assert (p.returncode, p.stderr) == (0, ""), "%s exited %d: %s" % (words, p.returncode, p.stderr)
        return p.stdout

    def auto(self, *words):
        """Starts ppfs-slurm auto; its output is in log()."""
        with open(self.mount.base / "auto.log", "ab") as log:
            process = subprocess.Popen(self.argv("auto", "--every", "1", "--patience", "1", *words), stdin=subprocess.DEVNULL,
                                       stdout=log, stderr=log, env=self.env)
        self.background.append(process)
        wait_until(lambda: "watching" in self.log() or process.poll() is not None, "ppfs-slurm auto to watch")
        return process

    def log(self):
        return text_of(self.mount.base / "auto.log")

    def names(self):
        """The nodes in nodes/ that are up."""
        nodes = self.mount.mnt / "nodes"
        return sorted(p.name for p in nodes.iterdir() if p.name[0] != "." and p.name != "local"
                      and text_of(p / "state") == "up\n")

    def finish(self):
        for process in self.background:
            kill(process.pid)
            process.wait()
