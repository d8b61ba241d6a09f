"""To load a pickle is to run what is in it: one's own results and root's are loaded, and those of whom trust= names."""
import asyncio
import os
import subprocess

import pytest
from ppfsmount import PPFS, PYTHON, need_module, need_programs

import ppfs

SCRIPTS = os.path.dirname(os.path.dirname(ppfs.__file__))
EVIL = """
import os, ppfs, sys
TRAP = sys.argv[2]
class Evil:
    def __reduce__(self):
        return exec, ("open(%r, 'a').write('%%d ran it' %% __import__('os').getuid())" % TRAP,)
def give():
    return Evil()
job = os.path.join(os.environ["PPFS"], "jobs", sys.argv[3])
if sys.argv[1] == "session":
    with ppfs.Executor(name=sys.argv[3], serializer="cloudpickle") as ex:
        os.chmod(job, 0o644)
        ex.submit(give)
else:
    with open(job, "wb") as file:
        file.write(ppfs._pickle.serialize.Serializer("cloudpickle").call(give, (), {}))
print(ppfs.wait(sys.argv[3]))
"""


def program(user, mount, source, *argv):
    """The program run as that user with $PPFS; what it printed, and the last line of what it complained of."""
    p = user.popen([PYTHON, "-c", source, *argv], env={"PPFS": str(mount), "PYTHONPATH": SCRIPTS, "PYTHONDONTWRITEBYTECODE": "1"},
                   text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = p.communicate(timeout=60)
    return out, err.strip().rpartition("\n")[2]


@pytest.fixture
def trap(base):
    """What is written when somebody loads what mallory has made; anybody can."""
    path = base / "trap"
    path.touch()
    path.chmod(0o666)
    return path


def sets(mallory, mount, trap, how, name):
    assert program(mallory, mount, EVIL, how, trap, name) == ("done\n", "")
    trap.write_text("")  # a worker of his may have been the first to see it


def refused(call, mallory):
    with pytest.raises(ppfs.NotTrusted) as caught:
        call()
    assert isinstance(caught.value, PermissionError)
    assert "%s (uid %d)" % (mallory.name, mallory.uid) in str(caught.value) and "trust='%s'" % mallory.name in str(caught.value)


def test_a_session_of_another(shared, alice, mallory, trap):
    sets(mallory, shared.mnt, trap, "session", "sweep")
    refused(lambda: ppfs.attach("sweep", shared.mnt), mallory)
    attach = "import ppfs; ppfs.attach('sweep').results()"
    out, err = program(alice, shared.mnt, attach)
    assert "NotTrusted" in err and mallory.name in err
    assert trap.read_text() == ""
    for whom in mallory.name, mallory.uid, ["root", mallory.name]:
        ppfs.attach("sweep", shared.mnt, trust=whom).results()
    assert trap.read_text() == "0 ran it" * 3
    trap.write_text("")
    assert program(alice, shared.mnt, attach.replace("')", "', trust=%r)" % mallory.name, 1)) == ("", "")
    assert trap.read_text() == "%d ran it" % alice.uid


def test_a_result_of_another(shared, alice, mallory, trap):
    sets(mallory, shared.mnt, trap, "file", "x")
    refused(lambda: ppfs.result("x", mount=shared.mnt, load=True), mallory)
    refused(lambda: ppfs.result("x", mount=shared.mnt, load=True, timeout=9, trust=alice.name), mallory)
    refused(lambda: asyncio.run(ppfs.result_async("x", mount=shared.mnt, load=True)), mallory)
    assert ppfs.result("x", mount=shared.mnt).startswith(b"\x80")  # bytes do nothing
    assert trap.read_text() == ""
    ppfs.result("x", mount=shared.mnt, load=True, trust=[mallory.uid])
    assert trap.read_text() == "0 ran it"


def test_a_name_that_somebody_else_has_now(shared, alice, mallory, trap):
    """The job that one submitted was forgotten, and another has taken its name."""
    assert program(alice, shared.mnt, "import ppfs; ppfs.submit_file((pow, (2, 5)), 'x'); print(ppfs.result('x', load=True));"
                                      "ppfs.forget('x')") == ("32\n", "")
    sets(mallory, shared.mnt, trap, "file", "x")
    out, err = program(alice, shared.mnt, "import ppfs; ppfs.result('x', load=True)")
    assert "NotTrusted" in err and trap.read_text() == ""


def test_ones_own_and_roots(shared, alice):
    with ppfs.Executor(shared.mnt, name="roots") as ex:
        (shared.jobs / "roots").chmod(0o644)
        ex.submit(pow, 2, 6)
    assert program(alice, shared.mnt, """
import ppfs
print(ppfs.attach("roots").results())
with ppfs.Executor(name="mine") as ex:
    print(ex.submit(pow, 2, 7).result())
print(ppfs.attach("mine").results())
""") == ("[64]\n128\n[128]\n", "")


def test_what_a_program_printed_is_data(shared, mallory, trap):
    """Root's job, and so root's result, of bytes that mallory has chosen."""
    sets(mallory, shared.mnt, trap, "file", "x")
    (shared.jobs / "copy").write_text("#!/bin/sh\ncat %s/x\n" % shared.results)
    (shared.jobs / "text.json").write_text('{"call": "os.getuid"}')
    for name in "copy", "text.json":
        for load in (lambda: ppfs.result(name, mount=shared.mnt, load=True),
                     lambda: asyncio.run(ppfs.result_async(name, mount=shared.mnt, load=True))):
            with pytest.raises(ValueError, match="'%s' is no pickled call" % name):
                load()
    assert ppfs.result("copy", mount=shared.mnt).startswith(b"\x80") and trap.read_text() == ""


def test_a_session_is_not_joined(shared, alice, mallory, trap):
    sets(mallory, shared.mnt, trap, "session", "sweep")
    with pytest.raises(FileExistsError):
        ppfs.Executor(shared.mnt, name="sweep")
    assert "PermissionError" in program(alice, shared.mnt, "import ppfs; ppfs.forget('sweep')")[1]
    assert trap.read_text() == ""


def test_who_is_named(shared, monkeypatch):
    with pytest.raises(ValueError, match="no user"):
        ppfs.attach("sweep", shared.mnt, trust="no-such-user")
    with pytest.raises(TypeError):
        ppfs.Executor(shared.mnt, trust=1.5)
    monkeypatch.setenv("PPFS", str(shared.mnt))
    with pytest.raises(ValueError, match="no user"):
        ppfs.pp.Server(trust=["root", "no-such-user"])
    joblib = need_module("joblib")
    ppfs.joblib.register(trust="no-such-user")
    with pytest.raises(ValueError, match="no user"), joblib.parallel_backend("ppfs"):
        joblib.Parallel()([joblib.delayed(abs)(-1)])


USERS_MOUNT = r"""
set -e
mount --make-rprivate /
mknod -m 666 "$1/fuse" c 10 229
mount --bind "$1/fuse" /dev/fuse
echo user_allow_other > "$1/fuse.conf"
touch /etc/fuse.conf
mount --bind "$1/fuse.conf" /etc/fuse.conf
shift
"$@"
"""
IN_HERE = r"""
import os, subprocess, sys
home, ppfs_program, python, scripts, mallory, alice = sys.argv[1:]
def run(uid, *argv, **env):
    def become():
        os.setgroups([]); os.setgid(int(uid)); os.setuid(int(uid))
    p = subprocess.run(argv, preexec_fn=become, cwd="/", capture_output=True, text=True,
                       env={"PATH": os.environ["PATH"], "HOME": home, "PYTHONPATH": scripts, "PYTHONDONTWRITEBYTECODE": "1", **env})
    print(p.stdout + p.stderr.strip().rpartition("\n")[2])
mnt = home + "/mnt"
roots = os.path.dirname(home) + "/roots"
os.mkdir(roots)
try:
    run(mallory, ppfs_program, "-o", "allow_other", "--state", home + "/state", mnt)
    table = "import ppfs, sys; from ppfs import mount; print(sys.argv[1] in dict(mount.mounted()))"
    run(mallory, python, "-c", table, mnt)
    run(alice, python, "-c", table, mnt)
    run("0", python, "-c", table, mnt)
    run(mallory, python, "-c", "import pickle, sys; open(sys.argv[1] + '/jobs/x', 'wb').write(pickle.dumps((pow, (2, 8))))", mnt)
    run(alice, python, "-c", "import ppfs, sys; print(ppfs.Executor(sys.argv[1]).submit(pow, 2, 8).result())", mnt)
    load = "import ppfs, sys; print(ppfs.result('x', load=True, %s))"
    run(alice, python, "-c", load % "mount=sys.argv[1]", mnt)
    run(alice, python, "-c", load % "mount=None", PPFS=mnt)
    run(alice, python, "-c", load % "trust=int(sys.argv[1])", mallory, PPFS=mnt)
    run(mallory, python, "-c", load % "mount=sys.argv[1]", mnt)
    run("0", ppfs_program, "-o", "allow_other", "--state", roots + "-state", roots)
    run(mallory, python, "-c", "import ppfs, sys; print(ppfs.find_mount() == sys.argv[1])", mnt)
finally:
    run(mallory, "fusermount3", "-u", mnt)
    run("0", "fusermount3", "-u", roots)
"""


def test_a_mount_of_another(base, fuse, alice, mallory):
    """Who serves a mount makes up what is in it, owners too: it is not taken where none is named, and not believed."""
    need_programs("unshare")
    (mallory.home / "mnt").mkdir()
    os.chown(mallory.home / "mnt", mallory.uid, mallory.gid)
    mallory.home.chmod(0o755)
    p = subprocess.run(["unshare", "-m", "--propagation", "unchanged", "sh", "-c", USERS_MOUNT, "sh", str(base), PYTHON, "-c", IN_HERE,
                        str(mallory.home), str(PPFS), PYTHON, SCRIPTS, str(mallory.uid), str(alice.uid)],
                       capture_output=True, text=True, timeout=60)
    if "mknod" in p.stderr or "mount:" in p.stderr:
        pytest.skip("no device nodes or mounts can be made here: " + p.stderr)
    lines = [line for line in p.stdout.split("\n") if line]
    assert len(lines) == 9 and p.stderr == "", p.stdout + p.stderr
    assert lines[:3] == ["True", "False", "False"], lines
    for line in lines[3:6]:
        assert "NotTrusted" in line and "is on a mount of %s" % mallory.name in line
    assert lines[6:] == ["256", "256", "True"], "her own ppfs comes before root's, though that is newer"
