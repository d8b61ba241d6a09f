"""The package as pip installs it, and where no ppfs can be mounted."""
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import ppfsmount
from conftest import SCRIPTS

import ppfs


def test_a_wheel_has_all_of_it(tmp_path):
    """Made without compiling, with the version of the program."""
    for module in ("setuptools", "wheel", "pip"):
        if subprocess.run([ppfsmount.PYTHON, "-c", "import " + module], stderr=subprocess.DEVNULL).returncode != 0:
            pytest.skip("%s has no %s" % (ppfsmount.PYTHON, module))
    tree = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, tree, ignore=shutil.ignore_patterns("__pycache__", ".wheel", "*.egg-info"))
    subprocess.run([ppfsmount.PYTHON, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-q", "-w",
                    str(tmp_path), str(tree)], check=True, timeout=200)
    version = re.search(r"AC_INIT\(\[ppfs\], \[(.*?)\]\)", (SCRIPTS.parent / "configure.ac").read_text()).group(1)
    assert version == ppfs.__version__
    names = set(zipfile.ZipFile(tmp_path / ("ppfs-%s-py3-none-any.whl" % version)).namelist())
    of_tree = {str(path.relative_to(tree)) for path in (tree / "ppfs").rglob("*") if path.suffix in (".py", ".typed")}
    assert of_tree - names == set()


@pytest.mark.parametrize("platform, without", [("darwin", ()), ("win32", ("pwd", "fcntl", "resource"))])
def test_on_other_systems_there_is_one_sentence(platform, without):
    program = """
import asyncio, concurrent.futures, hashlib, logging, multiprocessing, os, random, subprocess, sys, tempfile, uuid
sys.platform = %r
if %r:
    for name in ("register_at_fork", "geteuid", "getuid", "sched_getaffinity"):
        delattr(os, name)
sys.modules.update((name, None) for name in %r)
import ppfs
try:
    ppfs.Executor()
except ppfs.NoMount as error:
    print(error)
""" % (platform, without, without)
    done = subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": str(SCRIPTS), "PYTHONDONTWRITEBYTECODE": "1"}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
    assert done.stdout.startswith("a ppfs is mounted on Linux alone, and this is %s" % platform), done.stderr
