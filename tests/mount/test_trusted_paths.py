"""Where ppfs keeps its state, and what it writes by name: nobody else has a hand in that."""
import os
import subprocess

import pytest
from ppfsmount import PPFS

LEFT = "what was in it\n"


def run(mount, name, script):
    mount.put(name, script)
    return mount.result(name)


@pytest.fixture
def refused(base, fuse):
    """Root's ppfs with that state directory does not start, and says why in one line."""
    def check(state, *words):
        mnt = base / "refused"
        mnt.mkdir(exist_ok=True)
        p = subprocess.run([str(PPFS), "--state", str(state), str(mnt)], capture_output=True, text=True, timeout=60)
        if p.returncode == 0:
            subprocess.run(["fusermount3", "-u", str(mnt)])
        assert (p.returncode, p.stdout, p.stderr.count("\n")) == (1, "", 1), p.stderr
        for word in (str(state), *words):
            assert word in p.stderr
    return check


@pytest.fixture
def victim(base):
    """A file of root's that is to stay what it is."""
    path = base / "victim"
    path.write_text(LEFT)
    path.chmod(0o644)
    yield path
    assert path.read_text() == LEFT


@pytest.mark.parametrize("name", ["lock", "mounted", "key", "id", "ppfs.log", "ppfs.db", "ppfs.db-wal", "ballast", "spool"])
def test_a_link_in_the_state_directory(base, mallory, victim, refused, name):
    """Of root's own directory too: a link that was put there once is there still."""
    state = base / "state"
    state.mkdir(mode=0o700)
    (state / name).symlink_to(victim)
    refused(state, name, "symbolic link")
    os.lchown(state / name, mallory.uid, mallory.gid)
    refused(state, name, "symbolic link", str(mallory.uid))


def test_what_is_examined_and_salvaged(base, mallory, new_mount, fuse):
    """Another user's state directory would run jobs as whom he says, and a link or FIFO in it leads elsewhere."""
    def refused(*argv):
        p = subprocess.run([str(PPFS), *map(str, argv)], capture_output=True, text=True, timeout=60)
        assert p.returncode and not p.stdout and p.stderr.count("\n") == 1
        assert "out of the reach of others" in p.stderr, p.stderr

    mount = new_mount()
    mount.start()
    mount.put("x", "print(1)")
    assert mount.result("x") == b"1\n"
    mount.unmount()
    state, new = mount.statedir, base / "new"
    (state / "more").symlink_to("/root")
    refused("--check", state)
    refused("--salvage", state, new)
    (state / "more").unlink()
    os.mkfifo(state / "more")
    refused("--check", state)
    (state / "more").unlink()
    for into in mallory.home / "new", mallory.home:
        refused("--salvage", state, into)
    os.chown(state, mallory.uid, mallory.gid)
    refused("--check", state)
    refused("--salvage", state, new)
    os.chown(state, 0, 0)
    assert not new.exists() and os.listdir(mallory.home) == []
    assert subprocess.run([str(PPFS), "--salvage", str(state), str(new)], timeout=60).returncode == 0


@pytest.mark.parametrize("name", ["lock", "mounted", "key", "id", "join.key", "ppfs.log", "ppfs.db", "ppfs.db-wal", "ballast", "spool", "other"])
def test_a_fifo_in_the_state_directory(base, fuse, refused, name):
    """Nobody waits for somebody to write into it."""
    state = base / "state"
    state.mkdir(mode=0o700)
    os.mkfifo(state / name, 0o600)
    refused(state, "%s/%s is neither a file nor a directory" % (state, name))


def test_a_state_directory_of_another(mallory, victim, refused):
    state = mallory.home / "state"
    mallory.sh("mkdir state; ln -s %s state/lock" % victim)
    refused(state, "%s belongs to user %d" % (mallory.home, mallory.uid))


def test_a_file_of_another_in_it(base, mallory, refused):
    state = base / "state"
    state.mkdir()
    (state / "ppfs.db").write_bytes(b"")
    os.chown(state / "ppfs.db", mallory.uid, mallory.gid)
    refused(state, "%s/ppfs.db belongs to user %d" % (state, mallory.uid))


def test_a_directory_that_others_write(base, refused):
    """It may not be such a one, nor may what it is in; /tmp is, but nobody removes there what is another's."""
    state = base / "open" / "state"
    state.mkdir(parents=True)
    state.chmod(0o777)
    refused(state, "others may write into %s" % state)
    state.chmod(0o700)
    state.parent.chmod(0o775)
    os.chown(state.parent, 0, 1)
    refused(state, "others may write into %s" % state.parent)


def test_a_way_that_leads_over_links(base, mallory, new_mount, refused):
    """One's own links are followed, another's are not."""
    directory = base / "directory"
    directory.mkdir(mode=0o1777)
    directory.chmod(0o1777)
    mallory.sh("ln -s %s %s/his" % (base, directory))
    refused(directory / "his" / "state", "%s/his is a symbolic link of user %d" % (directory, mallory.uid))
    (base / "own").symlink_to(base / "real")
    m = new_mount(options=["--state", str(base / "own" / "state")])
    (base / "real").mkdir()
    m.start()
    assert run(m, "x", "print(6)") == b"6\n"
    m.unmount()
    assert (base / "real" / "state" / "ppfs.db").exists()


def test_the_log_begins_anew(m, base, victim):
    """At its size it is made anew, and never through a link."""
    log = m.statedir / "ppfs.log"
    log.unlink()
    log.symlink_to(victim)
    m.kill_daemon()
    assert run(m, "x", "print(6)") == b"6\n"
    assert m.log() == LEFT
    log.unlink()
    with open(log, "w") as file:
        file.truncate(2 << 20)
    m.kill_daemon()
    assert run(m, "y", "print(7)") == b"7\n"
    assert (m.statedir / "ppfs.log.1").stat().st_size == 2 << 20 and "SIGKILL" in m.log()


def test_all_that_is_made_is_ones_own(base, new_mount):
    """Whatever the umask is."""
    m = new_mount(options=["--listen", "127.0.0.1:0"])
    before = os.umask(0)
    try:
        m.start()
    finally:
        os.umask(before)
    assert run(m, "x", "print('x' * 1000000)").startswith(b"xxx")
    m.kill_daemon()
    assert run(m, "y", "print(7)") == b"7\n"
    made = [m.statedir, *m.statedir.rglob("*")]
    assert {"lock", "mounted", "key", "id", "ppfs.log", "ppfs.db", "spool"} <= {path.name for path in made}
    assert {str(path): oct(path.stat().st_mode) for path in made if path.stat().st_mode & 0o077} == {}


def test_a_mountpoint_behind_a_link(base, mallory, fuse):
    """What root mounts on is not for others to choose."""
    (base / "own").mkdir()
    mallory.sh("ln -s %s/own mnt" % base)
    p = subprocess.run([str(PPFS), "--state", str(base / "state"), str(mallory.home / "mnt")], capture_output=True, text=True,
                       timeout=60)
    assert p.returncode == 1 and "%s/mnt is a symbolic link of user %d" % (mallory.home, mallory.uid) in p.stderr
    assert not os.path.ismount(base / "own")


@pytest.mark.parametrize("program", ["ppfs", "ppfs-node"])
def test_a_directory_for_temporary_files(base, mallory, fuse, program):
    """What root makes in another user's directory could be put elsewhere; in /tmp it cannot."""
    (base / "mnt").mkdir()
    (base / "key").write_bytes(os.urandom(32))
    (base / "key").chmod(0o600)
    argv = {"ppfs": ["--state", base / "state", base / "mnt"], "ppfs-node": ["--listen", "127.0.0.1:0", "--key", base / "key"]}[program]
    p = subprocess.run([str(PPFS.parent / program), *map(str, argv)], env={**os.environ, "TMPDIR": str(mallory.home)},
                       capture_output=True, text=True, timeout=60)
    assert p.returncode == 1 and "%s belongs to user %d" % (mallory.home, mallory.uid) in p.stderr and "TMPDIR" in p.stderr


def test_the_quotas_are_not_another_users_to_say(base, mallory, fuse):
    (base / "mnt").mkdir()
    mallory.sh("echo '* jobs=none' > quota")
    (mallory.home / "roots").write_text("* jobs=none\n")
    os.mkfifo(base / "fifo", 0o600)
    (base / "open").write_text("* jobs=none\n")
    (base / "open").chmod(0o666)
    for path, says in ((mallory.home / "quota", "belongs to user %d" % mallory.uid), (base / "open", "mode 0666"),
                       (mallory.home / "roots", "%s belongs to user %d" % (mallory.home, mallory.uid)), (base / "fifo", "no regular file")):
        p = subprocess.run([str(PPFS), "-o", "allow_other", "--quota", str(path), "--state", str(base / "state"), str(base / "mnt")],
                           capture_output=True, text=True, timeout=60)
        assert p.returncode == 1 and str(path) in p.stderr and says in p.stderr


def test_a_user_with_a_group_of_his_own(alice, fuse):
    """Where the umask is 002 his directories are his group's, and that is he alone."""
    p = alice.sh("umask 002; mkdir -p .local/state mnt && %s mnt && echo 'print(6)' > mnt/jobs/x && cat mnt/results/x; "
                 "fusermount3 -u mnt" % PPFS)
    if os.stat("/dev/fuse").st_mode & 0o006 == 0o006:
        assert (p.stdout, p.stderr) == ("6\n", "")
    else:
        assert "/dev/fuse" in p.stderr or "fusermount3" in p.stderr, "all but the mount itself went well"
    assert (alice.home / ".local/state/ppfs/lock").exists()


@pytest.mark.parametrize("words", [["DIR", "extra"], ["-o", "allow_other", "DIR", "extra"], ["DIR", "DIR"]])
def test_one_argument_too_many(base, words):
    """A second directory is not taken for the one that was meant; mount(8) alone names a source first."""
    (base / "dir").mkdir()
    p = subprocess.run([str(PPFS), *[str(base / "dir") if w == "DIR" else w for w in words]], capture_output=True, text=True,
                       cwd=base)
    assert p.returncode == 2 and "one directory" in p.stderr and words[-1] in p.stderr.replace(str(base / "dir"), "DIR")
