"""ppfs.parsl.PpfsExecutor under Parsl. No package of Debian's has Parsl: it is imported from where it is installed, or from a
checkout in $PPFS_PEERS/parsl; without either these tests are skipped."""
import os
import sys

import pytest

sys.path.append(os.path.join(os.environ.get("PPFS_PEERS", "/nonexistent"), "parsl"))
parsl = pytest.importorskip("parsl", reason="no Parsl; see tests/python/PEERS.md")
from parsl.config import Config  # noqa: E402
from parsl.executors.errors import InvalidResourceSpecification  # noqa: E402

import ppfs.parsl  # noqa: E402
from called import touch, until  # noqa: E402


@pytest.fixture
def loaded(m):
    executor = ppfs.parsl.PpfsExecutor(mount=str(m.mnt), working_dir=str(m.work))
    with parsl.load(Config(executors=[executor], run_dir=str(m.base / "runinfo"), initialize_logging=False,
                           usage_tracking=0)):
        yield m


@parsl.python_app
def times(a, b=3):
    return a * b


@parsl.python_app
def cpus(parsl_resource_specification=None):
    import os
    return os.environ["PPFS_CPUS"], os.environ["PPFS_JOB"]


@parsl.python_app
def fails():
    return {}["missing"]


@parsl.bash_app
def says(words, stdout=None):
    return "echo %s" % words


def test_apps(loaded):
    """Futures as arguments, failures, programs."""
    assert [future.result() for future in [times(n) for n in range(20)]] == [3 * n for n in range(20)]
    assert times(times(2), b=times(1)).result() == 18
    with pytest.raises(KeyError, match="missing"):
        fails().result()
    with pytest.raises(parsl.dataflow.errors.DependencyError):
        times(fails()).result()
    out = loaded.work / "said"
    assert says("some words", stdout=str(out)).result() == 0 and out.read_text() == "some words\n"


def test_all_slots(loaded):
    """As many at once as the mount has slots, which wait for each other."""
    @parsl.python_app
    def meet(mine, other):
        touch(mine)
        until(other)
        return 1
    a, b = str(loaded.work / "a"), str(loaded.work / "b")
    assert [one.result() for one in [meet(a, b), meet(b, a)]] == [1, 1]


def test_resources(loaded):
    asked = {"cores": 2, "memory": 1000, "priority": 3, "running_time_min": 5, "gpus": 0}
    assert cpus(parsl_resource_specification=asked).result()[0] == "2"
    with pytest.raises(InvalidResourceSpecification, match="disk"):
        cpus(parsl_resource_specification={"disk": 1}).result()
