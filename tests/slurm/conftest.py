"""The tests with Slurm use the fixtures of tests/mount, and a cluster that lasts for all of them."""
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

MOUNT = Path(__file__).resolve().parents[1] / "mount"
sys.path.insert(0, str(MOUNT))
sys.path.insert(0, str(Path(__file__).resolve().parent))
_spec = importlib.util.spec_from_file_location("mount_conftest", MOUNT / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})

import slurmrig  # noqa: E402
from ppfsmount import BUILD, MARK, SLOW, TOP, clean_env, kill, text_of, wait_until  # noqa: E402

PROGRAM = TOP / "scripts" / "ppfs-slurm"


@pytest.fixture(scope="session")
def slurmd():
    """A Slurm that runs."""
    reason = slurmrig.why_not()
    if reason:
        pytest.skip(reason)
    with slurmrig.Cluster() as running:
        yield running


@pytest.fixture
def cluster(slurmd, fuse):
    """The same, empty before and after the test. Depend on the mount first."""
    yield slurmd
    slurmd.clear()
    wait_until(lambda: not slurmd.strays(), "the processes of Slurm's jobs to end")


class Lender:
    """ppfs-slurm as somebody calls it who mounted ml."""

    def __init__(self, mount, cluster):
        self.mount, self.cluster = mount, cluster
        self.env = {**clean_env(mount.base), **cluster.env, "PATH": cluster.env["PATH"]}
        self.background = []

    def argv(self, command, *words, sbatch=()):
        """start and auto find the ppfs, its key and the program that was built."""
        lend = ["--address", "127.0.0.1", "--key", self.mount.statedir / "key", "--program", BUILD / "ppfs-node",
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


@pytest.fixture
def ml(new_mount):
    """A mount without slots of its own that listens for nodes."""
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()


@pytest.fixture
def lend(ml, cluster):
    """ppfs-slurm for the mount ml."""
    lender = Lender(ml, cluster)
    yield lender
    lender.finish()
