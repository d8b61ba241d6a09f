"""Programs that import ppft or pp, without a changed line, and what pathos asks of a server."""
import os
import pickle
import subprocess
import sys
import types

import pytest
import ppfsmount
from conftest import SCRIPTS
from called import until

import ppfs.pp as pp
from ppfs.compat import ppserver

PROGRAM = """
import sys
import ppft
from ppft.common import b_, str_
from ppft import transport, auto, worker, server

def digest(word):
    from hashlib import md5
    from ppft.common import b_
    return md5(b_(word)).hexdigest()

class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b
    def sum(self):
        return self.a + self.b

def total(pair):
    return pair.sum()

servant = ppft.Server(2)
task = servant.submit(digest, ("spam",), (), ())
assert isinstance(task, ppft._Task) and not task.unpickled
print(task(), task.result == task(), task.unpickled)
print(servant.submit(total, (Pair(1, 2),), globals=globals())())
print(b_(str_(bytes(range(256)))) == bytes(range(256)), ppft.getname(digest), ppft.importable(digest)[:11], ppft.__version__)
servant.destroy()
"""
ANSWERS = ["e09f6a7593f8ae3994ea57e1117f67ec True True", "3", "True digest def digest( " + pp.version]


def python_path(*options):
    return subprocess.run([ppfsmount.PYTHON, str(SCRIPTS / "ppfs-python"), *options], check=True, text=True,
                          stdout=subprocess.PIPE).stdout.strip()


@pytest.mark.parametrize("name", ["ppft", "pp"])
def test_a_program_without_a_changed_line(run, name):
    assert run(PROGRAM.replace("ppft", name), env={"PYTHONPATH": python_path("--ppft")}).splitlines() == ANSWERS


def test_the_shim(run):
    assert run("import ppfs.ppft_shim\n" + PROGRAM).splitlines() == ANSWERS


def test_the_shim_comes_too_late(run, m):
    (m.work / "ppft.py").write_text("")
    assert "import ppfs.ppft_shim before it" in run("import ppft\nimport ppfs.ppft_shim\n", status=1)


def test_ppfs_python(m):
    assert python_path() == str(SCRIPTS)
    wrong = subprocess.run([ppfsmount.PYTHON, str(SCRIPTS / "ppfs-python"), "--pfft"], text=True, stderr=subprocess.PIPE)
    assert wrong.returncode == 2 and "no such option: --pfft" in wrong.stderr


@pytest.fixture
def server(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    with pp.Server() as s:
        yield s


def speak(word):
    print(word)
    return word * 2


def test_sresult_and_the_lock(server, m):
    held = server.submit(until, (str(m.work / "go"),))
    assert held.lock.locked() and not held.finished
    (m.work / "go").touch()
    held.wait()
    assert not held.lock.locked() and held.finished
    task = server.submit(speak, ("spam",))
    assert pickle.loads(task.sresult) == ("spamspam", "spam\n") == pickle.loads(task(True))
    failed = server.submit(divmod, (1, 0))
    for ask in (failed, lambda: failed.sresult, lambda: failed(True)):
        with pytest.raises(ZeroDivisionError):
            ask()
    failed.wait()


def test_insert(server):
    """What ppft's server hands on: sources, not functions."""
    function = pickle.dumps(("area", ["def area(r):\n    return half(math.pi) * r\n", "def half(x):\n    return x / 2\n"], ("math",)))
    assert server.insert(function, pickle.dumps((2,)))() == pytest.approx(3.14159, abs=1e-4)


def test_a_closed_server_is_destroyed(m, monkeypatch):
    """pathos sets _exiting itself, and takes it back to open a server again."""
    monkeypatch.setenv("PPFS", str(m.mnt))
    server = pp.Server()
    server._exiting = True
    with pytest.raises(pp.DestroyedServerError):
        server.submit(abs, (-1,))
    server._exiting = False
    assert server.submit(abs, (-1,))() == 1
    never = server.submit(until, (str(m.work / "never"),))
    server._exiting = True
    server.destroy()
    with pytest.raises(pp.DestroyedServerError):
        never()
    server._exiting = False
    with pytest.raises(pp.DestroyedServerError):
        server.submit(abs, (-1,))


def absent_here():
    return 1


def asks_for_a_module():
    return gone.value  # noqa: F821: of globals=


def asks_for_a_function():
    return absent_there()  # noqa: F821: as above


def test_what_nodes_do_not_have_is_an_error_where_it_is_used(server):
    here = types.ModuleType("here_only")
    here.absent_here = absent_here
    space = {"__name__": "here_only", "gone": types.ModuleType("gone_on_nodes"), "os": os, "absent_there": absent_here}
    absent_here.__module__ = "here_only"
    sys.modules["here_only"] = here
    try:
        assert server.submit(len, ("abc",), globals=space)() == 3
        for use in (asks_for_a_module, asks_for_a_function):
            with pytest.raises(NameError, match="is not to be had on the node .*No module named"):
                server.submit(use, globals=space)()
    finally:
        del sys.modules["here_only"]
        absent_here.__module__ = __name__


def test_the_command_line_of_ppserver(m):
    words = ppserver.words
    assert words([]) == ["--listen", "0.0.0.0:60000"]
    assert words(["-d", "-a", "-r", "-p", "35000", "-i", "::1", "-w", "3", "-t", "60", "-P", "pid", "-b", "255.255.255.255"]) == \
        ["--listen", "[::1]:35000", "--discover", "--cpus", "3", "--idle-exit", "60", "--pid-file", "pid"]
    assert words(["-a", "-b", "239.1.2.3", "--key", "k"]) == ["--listen", "0.0.0.0:60000", "--discover=239.1.2.3", "--key", "k"]
    for refused in (["-s", "secret"], ["-c", "file"], ["more"]):
        with pytest.raises(ValueError):
            words(refused)
    env = dict(os.environ, PYTHONPATH=python_path("--ppft"), PPFS_PROGRAM=str(ppfsmount.BUILD / "ppfs"))
    said = subprocess.run([ppfsmount.PYTHON, "-m", "ppft.server", "-p", "0", "--key", str(m.work / "none")], env=env, text=True,
                          stderr=subprocess.PIPE, timeout=60)
    assert said.returncode != 0 and "ppfs-node" in said.stderr
