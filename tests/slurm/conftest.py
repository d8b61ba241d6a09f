"""The tests with Slurm use the fixtures of tests/mount, and a cluster that lasts for all of them."""
import importlib.util
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
from ppfsmount import wait_until  # noqa: E402


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


@pytest.fixture
def ml(new_mount):
    """A mount without slots of its own that listens for nodes."""
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()


@pytest.fixture
def lend(ml, cluster):
    """ppfs-slurm for the mount ml."""
    lender = slurmrig.Lender(ml, cluster)
    yield lender
    lender.finish()
