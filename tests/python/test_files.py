"""submit_file, result, wait, their async forms, and which mount is found."""
import asyncio
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import conftest
import ppfs
from ppfsmount import PYTHON, need_programs, wait_until
from processes import mount_line


@pytest.fixture
def at(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    return m


def test_a_path(at):
    script = at.work / "hello.py"
    script.write_text("print('hello')\n")
    assert ppfs.submit_file(script) == "hello.py"
    assert ppfs.result("hello.py") == b"hello\n"
    assert ppfs.wait("hello.py") == "done"


def test_bytes_dict_and_call(at):
    name = ppfs.submit_file(b"#!/bin/sh\necho $((6 * 7))\n")
    assert ppfs.result(name) == b"42\n"
    assert ppfs.submit_file({"call": "math.sqrt", "args": [9]}, "root") == "root"
    assert json.loads(ppfs.result("root")) == 3
    assert ppfs.result(ppfs.submit_file((divmod, (17, 5))), load=True) == (3, 2)
    assert ppfs.result(ppfs.submit_file((int, ("ff",), {"base": 16})), load=True) == 255
    n = 3
    assert ppfs.result(ppfs.submit_file((lambda x: x * n, (5,))), load=True) == 15


def test_an_option_is_given_once(at):
    script = b"#!/bin/sh\n# about it\n#ppfs: cpus=1 'env=A:a b'\necho $A$B\n#ppfs: priority=3\n"
    for what, options in ((script, {"cpus": 1}), (script, {"env": {"A": "x"}}), ({"run": ["true"], "cpus": 1}, {"cpus": 1})):
        with pytest.raises(ValueError, match="given twice"):
            ppfs.submit_file(what, "twice", **options)
    assert ppfs.result(ppfs.submit_file(script, env={"B": "c"}, priority=1)) == b"a bc\n"
    assert not os.path.exists(os.path.join(at.mnt, "info", "twice"))


def test_names(at):
    ppfs.submit_file(b"print(1)\n", "x")
    ppfs.wait("x")
    with pytest.raises(FileExistsError):
        ppfs.submit_file(b"print(2)\n", "x", replace=False)
    assert ppfs.result("x") == b"1\n"
    ppfs.submit_file(b"print(2)\n", "x")
    assert ppfs.result("x") == b"2\n"
    ppfs.forget("x")
    with pytest.raises(FileNotFoundError):
        ppfs.result("x")
    with pytest.raises(FileNotFoundError):
        ppfs.forget("x")
    with pytest.raises(FileNotFoundError):
        ppfs.wait("never")


def test_options(at):
    name = ppfs.submit_file(b"#!/bin/sh\necho $A$B\n", env={"A": "x", "B": "y"}, priority=3)
    assert ppfs.result(name) == b"xy\n" and at.get(name, "priority") == "3"
    assert ppfs.result(ppfs.submit_file(b"import os\nprint(os.environ['A'])\n", env={"A": "x"})) == b"x\n"
    name = ppfs.submit_file({"run": ["sleep", "100"]}, timeout="0.2s")
    with pytest.raises(ppfs.JobTimeout) as e:
        ppfs.result(name)
    assert isinstance(e.value, TimeoutError) and e.value.why
    for what, options in ((b"print()", {"colour": 1}), (b"\x80\x04N.", {"priority": 1}), ((abs, (1,)), {"priority": 1}),
                          (b"print()", {"cwd": "/a b"})):
        with pytest.raises(ValueError):
            ppfs.submit_file(what, **options)
    with pytest.raises(TypeError):
        ppfs.submit_file(5)


def test_failures(at):
    name = ppfs.submit_file(b"raise KeyError('spam')\n")
    with pytest.raises(ppfs.JobFailed, match="spam") as e:
        ppfs.result(name)
    assert e.value.name == name and "Traceback" in e.value.text
    assert ppfs.wait(name) == "failed"
    with pytest.raises(ppfs.JobFailed, match="spam"):
        ppfs.result(name, timeout=20)


def test_cancelled(at):
    name = ppfs.submit_file(b"#!/bin/sh\nsleep 1000\n", "slow")
    at.is_running(name)
    waiter = []
    thread = threading.Thread(target=lambda: waiter.append(pytest.raises(ppfs.JobCancelled, ppfs.result, name)))
    thread.start()
    time.sleep(0.05)
    with pytest.raises(ppfs.StillRunning, match="'slow' has not ended.*ppfs.cancel"):
        ppfs.forget(name)
    assert at.state(name) == "running"
    ppfs.cancel(name)
    thread.join()
    assert len(waiter) == 1 and at.state(name) == "cancelled"
    with pytest.raises(FileNotFoundError, match="'slow'.*has not ended"):
        ppfs.cancel(name)
    ppfs.forget(name)
    with pytest.raises(FileNotFoundError):
        ppfs.forget(name)


def test_timeouts(at):
    at.put("slow", at.gate("slow"))
    for wait in (lambda: ppfs.result("slow", timeout=0.1), lambda: ppfs.wait("slow", timeout=0.1),
                 lambda: ppfs.wait("", timeout=0.1)):
        with pytest.raises(TimeoutError):
            wait()
    threading.Timer(0.2, at.open_gate, ["slow"]).start()
    assert ppfs.result("slow", timeout=30) == b"through slow\n"
    assert ppfs.wait("slow", timeout=30) == "done" and ppfs.wait("", timeout=30).startswith("done 1")


def test_groups(at):
    (at.jobs / "g").mkdir()
    for i in range(3):
        ppfs.submit_file(b"import sys; sys.exit(%d)\n" % (i == 2), "g/%d" % i)
    assert ppfs.wait("g") == "done 2 failed 1"
    assert ppfs.wait("g", timeout=20) == "done 2 failed 1"
    assert ppfs.wait() == "done 2 failed 1"


def test_async(at):
    async def main():
        names = await asyncio.gather(*[ppfs.submit_file_async({"call": "abs", "args": [-i]}) for i in range(10)])
        results = await asyncio.gather(*[ppfs.result_async(name) for name in names])
        assert [json.loads(r) for r in results] == list(range(10))
        at.put("slow", at.gate("slow"))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ppfs.result_async("slow"), 0.1)
        waiting = [asyncio.ensure_future(f("slow")) for f in (ppfs.result_async, ppfs.wait_async)]
        await asyncio.sleep(0.05)
        assert not any(w.done() for w in waiting)
        at.open_gate("slow")
        assert await asyncio.gather(*waiting) == [b"through slow\n", "done"]
        assert (await ppfs.wait_async()).startswith("done 11")
        bad = await ppfs.submit_file_async(b"1/0\n")
        with pytest.raises(ppfs.JobFailed, match="ZeroDivision"):
            await ppfs.result_async(bad)
        assert await ppfs.wait_async(bad) == "failed"
        return await ppfs.result_async(await ppfs.submit_file_async((pow, (2, 5))), load=True)
    assert asyncio.run(main()) == 32


# --- which mount -----------------------------------------------------------------------------------------------------

def test_found_by_name_and_environment(m, monkeypatch, tmp_path):
    monkeypatch.delenv("PPFS", raising=False)
    assert ppfs.find_mount(m.mnt) == str(m.mnt)
    monkeypatch.setenv("PPFS", str(m.mnt))
    assert ppfs.find_mount() == str(m.mnt)
    with pytest.raises(ppfs.NoMount, match="no ppfs mounted on"):
        ppfs.find_mount(tmp_path)
    monkeypatch.setenv("PPFS", str(tmp_path))
    with pytest.raises(ppfs.NoMount, match="PPFS"):
        ppfs.find_mount()


def test_found_in_the_mount_table(new_mount, monkeypatch):
    base = new_mount(cpus=1)
    base.mnt = base.base / "with a blank"
    base.mnt.mkdir()
    base.start()
    monkeypatch.delenv("PPFS", raising=False)
    assert str(base.mnt) in dict(ppfs.mount.mounted())


ALONE = r"""
for m in $(sed -n 's/.* \([^ ]*\) [^ ]* - fuse\.ppfs .*/\1/p' /proc/self/mountinfo); do
    [ $m = $A ] || [ $m = $B ] || umount -l $m
done
find() { $PYTHON -c 'import ppfs; print(ppfs.find_mount())' 2>&1 | tail -n 1; }
find
PPFS=$B find
umount -l $B
find
mkdir $W/same
mount --bind $A $W/same
find
"""


def test_which_of_several(new_mount):
    """None is taken by chance; a ppfs that is seen twice is one."""
    need_programs("unshare")
    one, two = new_mount(cpus=1).start(), new_mount(cpus=1)
    two.mnt, two.statedir = two.base / "second", two.base / "second-state"
    two.mnt.mkdir()
    two.start()
    env = {**os.environ, "A": str(one.mnt), "B": str(two.mnt), "W": str(one.work), "PYTHON": PYTHON,
           "PYTHONPATH": str(Path(ppfs.__file__).parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    env.pop("PPFS", None)
    p = subprocess.run(["unshare", "-m", "sh", "-c", ALONE], env=env, capture_output=True, text=True, timeout=60)
    if "unshare:" in p.stderr or "mount:" in p.stderr:
        pytest.skip("no mounts can be made here: " + p.stderr)
    both = " and ".join(sorted((env["A"], env["B"])))
    assert p.stdout.splitlines() == ["ppfs.errors.NoMount: several ppfs are mounted, %s: name one, or set $PPFS" % both, env["B"],
                                     env["A"], env["W"] + "/same"], p.stdout + p.stderr


PRIVATE = """
import os, sys, time, ppfs
path = ppfs.mount.private(2).path
name = ppfs.submit_file((os.getcwd, ()), mount=path)
print(path, ppfs.result(name, mount=path, load=True) == os.getcwd(), ppfs.mount.slots(path), flush=True)
child = os.fork()
if child == 0:
    os._exit(0 if ppfs.mount.is_mount(path) else 1)
assert os.waitpid(child, 0)[1] == 0
assert path not in dict(ppfs.mount.mounted()) and os.path.ismount(path)
if len(sys.argv) > 1:
    os.kill(os.getpid(), int(sys.argv[1]))
"""


def private_env(base):
    env = conftest.ppfsmount.clean_env(base)
    env.update(PYTHONPATH=str(conftest.SCRIPTS), TMPDIR=str(base), PPFS_PROGRAM=str(conftest.PPFS))
    return env


@pytest.mark.parametrize("signal", ["", "9", "2"])
def test_private_mounts_end_with_their_process(base, fuse, signal):
    p = subprocess.run([sys.executable, "-c", PRIVATE, *signal.split()], cwd=base, env=private_env(base), text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    assert p.returncode in (0, -9, -2, 130, 1) and (signal or p.stderr == ""), p.stderr
    path, *words = p.stdout.split()
    assert words == ["True", "2"], p.stdout + p.stderr
    wait_until(lambda: not mount_line(path) and not os.path.exists(os.path.dirname(path)), "the private mount to go")


def test_many_private_mounts_at_once(base, fuse):
    programs = [subprocess.Popen([sys.executable, "-c", PRIVATE], cwd=base, env=private_env(base), text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
    paths = set()
    for p in programs:
        out, err = p.communicate(timeout=50)
        assert p.returncode == 0 and err == "", err
        paths.add(out.split()[0])
    assert len(paths) == 6
    assert [name for name in os.listdir(base) if name.startswith("ppfs-private")] == []


@pytest.mark.parametrize("program", ["/nonexistent/ppfs", "/bin/false", None])
def test_no_program(base, program):
    """It is said, and no directory is left; None: the package is installed and ppfs is not in PATH."""
    shutil.copytree(conftest.SCRIPTS / "ppfs", base / "copy" / "ppfs", ignore=shutil.ignore_patterns("__pycache__"))
    env = dict(private_env(base), PYTHONPATH=str(base / "copy"))
    env.pop("PPFS_PROGRAM")
    env.update({"PATH": "/nonexistent"} if program is None else {"PPFS_PROGRAM": program})
    p = subprocess.run([sys.executable, "-c", "import ppfs.mount\nppfs.mount.PrivateMount()"], cwd=base, env=env,
                       text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    assert "ppfs.errors.NoMount: no ppfs is mounted, and " in p.stderr and p.stdout == ""
    assert not [name for name in os.listdir(base) if name.startswith("ppfs-private")]


def test_options_behind_a_byte_order_mark(m):
    """It stands before the text still, or nowhere; and the options, which are bytes, come through."""
    where = m.work / os.fsdecode(b"caf\xe9")
    where.mkdir()
    for i, text in enumerate((b"#!/bin/sh\necho $A; /bin/pwd\n", b"#!/usr/bin/env python3\nimport os\nprint(os.environ['A'])\nos.write(1, os.getcwdb() + b'\\n')\n")):
        ppfs.submit_file(b"\xef\xbb\xbf" + text, "x%d" % i, mount=m.mnt, env="A:1", cwd=str(where))
        assert ppfs.result("x%d" % i, mount=m.mnt).splitlines()[-1] == os.fsencode(where)
    ppfs.submit_file(b"\xef\xbb\xbfimport os\nprint(os.environ['A'])\n", "y", mount=m.mnt, env="A:1")
    assert ppfs.result("y", mount=m.mnt) == b"1\n"
    with pytest.raises(ValueError, match="as its keys"):
        ppfs.submit_file(b'\xef\xbb\xbf\n{"call": "abs"}', "z", mount=m.mnt, env="A:1")
