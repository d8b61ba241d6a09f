"""The tests of the Python package: the fixtures of tests/mount, and one of the package's own."""
import importlib.util
import sys
from pathlib import Path

MOUNT = Path(__file__).resolve().parents[1] / "mount"
sys.path.insert(0, str(MOUNT))
_spec = importlib.util.spec_from_file_location("mount_conftest", MOUNT / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})

import subprocess  # noqa: E402

import pytest  # noqa: E402

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
sys.path.insert(0, str(SCRIPTS))

import ppfs  # noqa: E402


@pytest.fixture
def python(m, monkeypatch):
    """Runs a Python program in a process of its own, where the mount m is found by $PPFS and the package by
    PYTHONPATH."""
    def start(source, *argv, **kw):
        path = m.work / ("program%d.py" % len(list(m.work.glob("program*.py"))))
        path.write_text(source)
        env = {**m.client_env(), "PPFS": str(m.mnt), "PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1",
               **kw.pop("env", {})}
        return subprocess.Popen([ppfsmount.PYTHON, str(path), *map(str, argv)], cwd=m.work, env=env, text=True,
                                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                          stderr=subprocess.PIPE, **kw)
    return start


@pytest.fixture
def run(python):
    """The same, run to its end, which must be a good one; gives what it printed."""
    def to_end(source, *argv, **kw):
        status = kw.pop("status", 0)
        p = python(source, *argv, **kw)
        out, err = p.communicate(timeout=120 * SLOW)
        assert p.returncode == status, "exit %d\n%s%s" % (p.returncode, out, err)
        return out if status == 0 else out + err
    return to_end


@pytest.fixture
def ex(m):
    """An executor on the mount m."""
    with ppfs.Executor(str(m.mnt)) as executor:
        yield executor
