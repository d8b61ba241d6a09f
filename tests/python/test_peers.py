"""The test suites of others, over ppfs; tests/python/PEERS.md says which, and what is left out. What no package of Debian has
is looked for below $PPFS_PEERS, a directory with checkouts of ppft, pathos, dill, pox, multiprocess, joblib and parsl."""
import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest
import ppfsmount
from conftest import SCRIPTS

pytestmark = pytest.mark.limit(300)  # they are not ours to shorten

HERE = Path(__file__).resolve().parent
TABLE = [[cell.strip("` ") for cell in line.strip("|").split("|")]
         for line in (SCRIPTS.parent / "tests/python/PEERS.md").read_text().splitlines() if line.startswith("| ")]
ROWS = {row[0]: row for row in TABLE}


def passed_in(name):
    """How many tests pass, as tests/python/PEERS.md has it."""
    return int(ROWS[name][3])


def environment(m, *path):
    return {**m.client_env(), "PPFS": str(m.mnt), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": os.pathsep.join(map(str, path))}


def run(m, words, *path, cwd=None):
    done = subprocess.run([ppfsmount.PYTHON, *words], cwd=cwd or m.work, env=environment(m, *path), text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=290)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def source(name):
    """The checkout of one of the others."""
    place = Path(os.environ.get("PPFS_PEERS", "/nonexistent")) / name
    if not place.is_dir():
        pytest.skip("no %s in $PPFS_PEERS, see tests/python/PEERS.md" % name)
    return place


@pytest.mark.parametrize("suite", ["pool_peer", "futures_peer"])
def test_cpython(m, suite):
    if importlib.util.find_spec("test._test_multiprocessing") is None:
        pytest.skip("Python has no tests here; on Debian they are in libpython3.11-testsuite")
    said = run(m, ["-m", "unittest", suite], SCRIPTS, HERE / "peers")
    ran, skipped = int(re.search(r"Ran (\d+) tests", said).group(1)), int(re.search(r"skipped=(\d+)", said).group(1))
    assert ran - skipped == passed_in(suite)


LEFT_OUT = "memmap", "unpicklable_functions", "interactively", "(in_sequential and None)"  # tests/python/PEERS.md says why


def joblib_suite(m, tests, left_out, *path):
    """joblib's tests of Parallel with our backend among those of processes; gives how many passed."""
    text, n = re.subn(r"(PROCESS_BACKENDS = \[.multiprocessing., .loky.)\]", r"\1, 'ppfs']",
                      (tests / "test_parallel.py").read_text())
    assert n == 1, "joblib's tests have another list of backends"
    ours = "\nimport ppfs.joblib\nppfs.joblib.register()\nimport pytest"
    (m.work / "test_peer.py").write_text(text.replace("\nimport pytest", ours, 1))
    said = run(m, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_peer.py", "-k",
                   " and ".join(["ppfs", *("not " + word for word in (*LEFT_OUT, *left_out))])], SCRIPTS, *path)
    return int(re.search(r"(\d+) passed", said).group(1))


def test_joblib(m):
    joblib = ppfsmount.need_module("joblib")
    tests = Path(joblib.__file__).parent / "test"
    if not tests.is_dir() or joblib.__version__ != ROWS["joblib"][1]:
        pytest.skip("joblib %s has no row in tests/python/PEERS.md, or no tests here" % joblib.__version__)
    assert joblib_suite(m, tests, ()) == passed_in("joblib")


def test_joblib_from_its_source(m):
    place = source("joblib")
    assert joblib_suite(m, place / "joblib" / "test", ("ppfs-loky", "ppfs-back_compat"), place) == passed_in("joblib, newest")


PARSL = """from parsl.config import Config
from ppfs.parsl import PpfsExecutor
config = Config(executors=[PpfsExecutor()], usage_tracking=0, initialize_logging=False)
"""


def test_parsl(m):
    place = source("parsl")
    (m.work / "config.py").write_text(PARSL)
    said = run(m, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "parsl/tests/test_python_apps", "--config",
                   str(m.work / "config.py")], SCRIPTS, place, *os.environ.get("PYTHONPATH", "").split(os.pathsep), cwd=place)
    assert int(re.search(r"(\d+) passed", said).group(1)) == passed_in("parsl")


def programs(place):
    return sorted(path for path in place.glob("*.py") if not path.name.startswith("__"))


def test_ppft(m):
    found = programs(source("ppft") / "ppft" / "tests")
    for program in found:
        (m.work / program.name).write_text(program.read_text())
        run(m, [program.name], SCRIPTS / "ppfs" / "compat" / "dropin", SCRIPTS)
    assert len(found) == passed_in("ppft")


def test_pathos(m):
    found = programs(source("pathos") / "pathos" / "tests")
    version = "py%d.%d" % tuple(int(n) for n in re.findall(r"\d+", subprocess.check_output(
        [ppfsmount.PYTHON, "--version"], text=True))[:2])
    for program in found:
        (m.work / program.name).write_text(program.read_text())
        run(m, [program.name], SCRIPTS / "ppfs" / "compat" / "dropin", SCRIPTS, source("pathos"), source("dill"), source("pox"),
            source("multiprocess") / version)
    assert len(found) == passed_in("pathos")
