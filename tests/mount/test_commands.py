"""ppfs(1): the command line, its errors, mounting, unmounting, and who may do so."""
import errno
import os
import re
import shutil
import signal
import stat
import subprocess
import uuid

import pytest
from ppfsmount import BUILD, PENDING, PPFS, SLOW, clean_env, database_of, need_programs, wait_until
from processes import alive, kill, mount_line, text_of


def ppfs(base, *args, **kw):
    return subprocess.run([str(PPFS), *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, env=kw.pop("env", None) or clean_env(base),
                          timeout=40 * SLOW, **kw)


def one_line(p, status, *words):
    """It failed with this exit status and one line on stderr that has all the words."""
    assert p.returncode == status, p
    assert p.stdout == ""
    assert p.stderr.endswith("\n") and p.stderr.count("\n") == 1, "not one line: %r" % p.stderr
    assert p.stderr.startswith("ppfs: "), p.stderr
    for word in words:
        assert str(word) in p.stderr, "%r does not say %r" % (p.stderr, word)


# --- words and exit statuses -----------------------------------------------------------------------------------------

def test_help(base):
    p = ppfs(base, "--help")
    assert (p.returncode, p.stderr) == (0, "")
    for program in ("ppfs", "ppfs-run", "ppfs-node"):  # of a terminal, with the next prompt
        lines = subprocess.run([BUILD / program, "--help"], capture_output=True, text=True, timeout=40 * SLOW).stdout.splitlines()
        assert len(lines) < 24 and max(map(len, lines)) <= 80, program
    for word in ("MOUNTPOINT", "-f", "-o", "--state", "--cpus", "--python", "--sync", "--help", "--version"):
        assert word in p.stdout, word


def test_version(base):
    p = ppfs(base, "--version")
    assert (p.returncode, p.stderr) == (0, "")
    assert re.fullmatch(r"ppfs \d+\.\d+\S*( \([0-9a-f]{12}(-dirty)?\))?\n", p.stdout)


@pytest.mark.parametrize("args, word", [
    ([], "mount"),
    (["--no-such-option", "mnt"], "--no-such-option"),
    (["-Z", "mnt"], "Z"),
    (["--cpus", "many", "mnt"], "many"),
    (["--cpus", "-1", "mnt"], "-1"),
    (["--cpus", "3x", "mnt"], "3x"),
    (["--cpus", "", "mnt"], "cpus"),
    (["--sync", "perhaps", "mnt"], "perhaps"),
    (["--cpus", "1", "-o", "cpus=2", "mnt"], "--cpus is given twice"),
    (["one", "two", "three"], "three"),
    (["-o", "nonsense", "mnt"], "unknown option -o nonsense (ppfs --help shows the options)"),
], ids=lambda v: " ".join(v) or "nothing" if isinstance(v, list) else "")
def test_wrong_command_line(base, args, word):
    (base / "mnt").mkdir()
    one_line(ppfs(base, *args, cwd=base), 2, word)
    assert not mount_line(base / "mnt")


def test_mountpoint_missing(base, fuse):
    one_line(ppfs(base, "--state", base / "state", base / "nowhere"), 1, base / "nowhere")


@pytest.mark.parametrize("words", [["--listen", "192.0.2.1:0"], ["--key", "/etc/passwd"], ["--quota", "/nonexistent", "-o", "allow_other"]],
                         ids=lambda words: words[0])
@pytest.mark.parametrize("front", [["-f"], []], ids=["in front", "behind"])
def test_a_refused_mount_leaves_no_state_directory(base, fuse, words, front):
    (base / "mnt").mkdir()
    before = os.listdir(base)
    p = ppfs(base, *front, *words, "--state", base / "new", base / "mnt")
    assert p.returncode in (1, 2) and p.stderr.count("\n") == 1
    wait_until(lambda: sorted(os.listdir(base)) == sorted(before), "what it made to go")
    (base / "old").mkdir(mode=0o700)
    (base / "old" / "mine").touch()
    assert ppfs(base, *front, *words, "--state", base / "old", base / "mnt").returncode in (1, 2)
    assert (base / "old" / "mine").exists()


def test_mountpoint_is_a_file(base, fuse):
    (base / "file").touch()
    one_line(ppfs(base, "--state", base / "state", base / "file"), 1, base / "file")


def test_state_directory_cannot_be_made(new_mount):
    m = new_mount()
    m.statedir = "/proc/version/state"
    one_line(m.run(), 1, "/proc/version/state")
    m.statedir = m.base / "state"
    assert not mount_line(m.mnt)


def test_state_is_no_database(new_mount):
    m = new_mount()
    m.start().unmount()
    database = database_of(m.statedir)
    database.write_bytes(b"this was a database" * 1000)
    one_line(m.run(), 1, m.statedir)
    assert not mount_line(m.mnt) and not m.marked()


def test_python_missing(new_mount):
    m = new_mount(options=["--python", "/nowhere/python3"])
    one_line(m.run(), 1, "/nowhere/python3")
    assert not mount_line(m.mnt)


def test_no_fuse_device(new_mount):
    """Without /dev/fuse one line says so. Tried in a mount namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to hide /dev/fuse")
    m = new_mount()
    (m.base / "empty").mkdir()
    p = subprocess.run(["unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev && exec "$@"', "sh", *m.argv()],
                       stdin=subprocess.DEVNULL, capture_output=True, text=True, env=m.env, timeout=40)
    one_line(p, 1, "fuse")
    assert not m.marked()


# --- mounting ----------------------------------------------------------------------------------------------------

def test_ready_when_it_returns(m):
    assert os.listdir(m.jobs) == os.listdir(m.results) == os.listdir(m.failures) == []
    m.put("x", {"call": "math.sqrt", "args": [4]})
    assert m.result("x") == b"2.0\n" or m.result("x") == b"2.0"
    fields = mount_line(m.mnt).split()
    after = fields[fields.index("-") + 1:]
    assert after[0] == "fuse.ppfs" and after[1] == "ppfs"
    assert "default_permissions" in after[2]


def test_what_is_in_the_root(m):
    names = set(os.listdir(m.mnt))
    assert {"README", "jobs", "results", "failures", "info", "nodes", "stats", "stats.json", "metrics.prom", "running", "events", "version"} <= names
    assert re.fullmatch(r"ppfs \d+\.\d+\S*\n", (m.mnt / "version").read_text())
    readme = (m.mnt / "README").read_text()
    assert "jobs/" in readme and "results/" in readme
    assert (m.mnt / "README").stat().st_size == len(readme.encode())
    m.put("a", "#!/bin/sh\necho a\n")
    m.result("a")
    assert "done" in (m.mnt / "stats").read_text()
    assert "local" in os.listdir(m.mnt / "nodes")
    vfs = os.statvfs(m.mnt)
    assert vfs.f_blocks > 0 and vfs.f_namemax == 255
    m.sh("find $M >/dev/null; df $M >/dev/null; ls -laR $M > /dev/null; du -s $M >/dev/null")


@pytest.mark.parametrize("path", ["README", "new", "results/new", "failures/new", "info/new", "nodes/local/new"])
def test_nothing_is_written_where_nothing_belongs(m, path):
    with pytest.raises(OSError) as e:
        os.close(os.open(m.mnt / path, os.O_WRONLY | os.O_CREAT, 0o644))
    assert e.value.errno in (errno.EACCES, errno.EPERM, errno.EROFS)


def test_state_directory_is_private(m):
    assert stat.S_IMODE(m.statedir.stat().st_mode) == 0o700


@pytest.mark.parametrize("xdg", [True, False])
def test_default_state_directory(new_mount, xdg):
    m = new_mount(cpus=1)
    if not xdg:
        del m.env["XDG_STATE_HOME"]
    wanted = m.base / "xdg/ppfs" if xdg else m.base / ".local/state/ppfs"
    p = subprocess.run([str(PPFS), "--cpus", "1", str(m.mnt)], env=m.env, capture_output=True, text=True, timeout=40)
    assert (p.returncode, p.stderr) == (0, "")
    m.statedir = wanted
    m.started()
    assert database_of(wanted) and stat.S_IMODE(wanted.stat().st_mode) == 0o700


def test_relative_paths(new_mount):
    m = new_mount()
    p = subprocess.run([str(PPFS), "--state", "state", "--cpus", "1", "mnt"], cwd=m.base, env=m.env,
                       capture_output=True, text=True, timeout=40)
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    m.put("x", "print(1)\n")
    assert m.result("x") == b"1\n"
    assert database_of(m.base / "state")


def test_path_with_odd_characters(new_mount, base):
    odd = base / "a b\\c 'd' é"
    odd.mkdir()
    m = new_mount(base=odd).start()
    m.put("x", "#!/bin/sh\necho here\n")
    assert m.result("x") == b"here\n"


def test_options_as_in_fstab(new_mount):
    """A source in front, everything behind -o: what mount(8) calls for a line of fstab."""
    m = new_mount()
    p = subprocess.run([str(PPFS), "ppfs", str(m.mnt), "-o",
                        "rw,nosuid,nodev,fsname=mine,cpus=1,state=%s" % m.statedir],
                       env=m.env, capture_output=True, text=True, timeout=40)
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    assert (m.node / "cpus").read_text() == "1\n"
    line = mount_line(m.mnt)
    assert " mine " in line and "nosuid" in line and "nodev" in line


def test_mount_command(new_mount):
    if os.geteuid() != 0:
        pytest.skip("only root may call mount")
    need_programs("mount.fuse3")
    m = new_mount()
    p = subprocess.run(["mount", "-t", "fuse3", "-o", "state=%s,cpus=1" % m.statedir, "%s#mine" % PPFS, str(m.mnt)],
                       env=m.env, capture_output=True, text=True, timeout=40)
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    m.put("x", "print(2)\n")
    assert m.result("x") == b"2\n"


@pytest.mark.parametrize("sync", ["full", "normal"])
def test_sync(new_mount, sync):
    m = new_mount(options=["--sync", sync]).start()
    for i in range(20):
        m.put("x%d" % i, "#!/bin/sh\necho %d\n" % i)
    assert [m.result("x%d" % i) for i in range(20)] == [b"%d\n" % i for i in range(20)]


def test_option_with_equals_sign(new_mount):
    m = new_mount(cpus=None, options=["--cpus=3"]).start()
    assert (m.node / "cpus").read_text() == "3\n"


# --- how many slots ----------------------------------------------------------------------------------------------

def test_cpus_follow_the_affinity_mask(new_mount):
    one = min(os.sched_getaffinity(0))
    m = new_mount(cpus=None).start(preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert (m.node / "cpus").read_text() == "1\n"


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("quota, cpus", [(50000, 1), (100000, 1)])
def test_cpus_follow_the_cgroup_quota(new_mount, nested, quota, cpus):
    """Version 1 layout, which is what this kernel mounts; a nested group without a quota has its parent's."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors to tell a quota from the mask")
    top = "/sys/fs/cgroup/cpu/ppfs-test-%s" % uuid.uuid4().hex[:8]
    inner = top + "/inner" if nested else top
    try:
        os.makedirs(inner)
        with open(top + "/cpu.cfs_quota_us", "w") as f:
            f.write(str(quota))
    except OSError as e:
        shutil.rmtree(top, ignore_errors=True)
        pytest.skip("no cgroup v1 cpu controller to write to: %s" % e)
    m = new_mount(cpus=None)

    def enter():
        with open(inner + "/cgroup.procs", "w") as f:
            f.write("0")

    try:
        m.start(preexec_fn=enter)
        assert (m.node / "cpus").read_text() == "%d\n" % cpus
        m.unmount()
    finally:
        m.abort()
        for group in dict.fromkeys((inner, top)):
            wait_until(lambda: rmdir(group), "%s to be empty" % group, 10)


def rmdir(path):
    try:
        os.rmdir(path)
    except OSError as e:
        return e.errno == errno.ENOENT
    return True


def test_no_slots(queue):
    m = queue
    m.put("x", "print(1)\n")
    assert (m.node / "cpus").read_text() == "0\n"
    assert m.state("x") in PENDING and m.why("x")
    (m.node / "cpus").write_text("1\n")
    assert m.result("x") == b"1\n"


# --- foreground --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_foreground(new_mount, sig):
    m = new_mount()
    with open(m.base / "stderr", "w") as err:
        p = subprocess.Popen(m.argv("-f"), stdin=subprocess.DEVNULL, stdout=err, stderr=err, env=m.env)
    try:
        wait_until(lambda: mount_line(m.mnt) or p.poll() is not None, "the mount")
        assert p.poll() is None, text_of(m.base / "stderr")
        wait_until(lambda: m.pids()["supervisor"] == p.pid, "its daemon")
        m.started()
        m.put("x", "print(3)\n")
        assert m.result("x") == b"3\n"
        m.put("held", "#ppfs: hold=1\nprint(4)\n")
        p.send_signal(sig)
        assert p.wait(30 * SLOW) == 0, text_of(m.base / "stderr")
        assert not mount_line(m.mnt)
        m.gone()
    finally:
        if p.poll() is None:
            p.kill()
            p.wait()
    m.start()
    assert m.state("held") == "held" and m.result("x") == b"3\n"


def test_signal_to_the_background_supervisor_unmounts(m):
    m.may_restart = True
    kill(m.supervisor, signal.SIGTERM)
    m.gone()
    assert not mount_line(m.mnt)


# --- one state directory, one ppfs -------------------------------------------------------------------------------

def test_second_ppfs_is_refused(m, base):
    (base / "other").mkdir()
    p = ppfs(base, "--state", m.statedir, base / "other", env=m.env)
    one_line(p, 1, m.statedir)
    assert not mount_line(base / "other")
    m.works()


def test_jobs_outlive_an_unmount(m):
    m.put("a", "#!/bin/sh\necho a\n")
    m.result("a")
    m.put("f", "#!/bin/sh\nexit 4\n")
    m.failed("f")
    m.put("h", "#!/bin/sh\n#ppfs: hold=1\necho held\n")
    m.put(".draft", "#!/bin/sh\necho draft\n")
    os.mkdir(m.jobs / "G")
    m.put("G/x", "#!/bin/sh\necho in a group\n")
    m.result("G/x")
    m.unmount()
    m.start()
    assert sorted(os.listdir(m.results)) == ["G", "a"] and m.result("a") == b"a\n"
    assert m.result("G/x") == b"in a group\n"
    assert "f" in os.listdir(m.failures)
    m.failed("f")
    assert m.state("h") == "held"
    (m.info / "h/hold").write_text("0\n")
    assert m.result("h") == b"held\n"
    os.rename(m.jobs / ".draft", m.jobs / "draft")
    assert m.result("draft") == b"draft\n"


def test_unmount_puts_running_jobs_back(m):
    """Also more often than three times: being unmounted is nobody's death."""
    m.put("x", m.gate("x"))
    for _ in range(4):
        pid = m.pid_of("x")
        m.unmount()
        assert not alive(pid)
        (m.work / "x.pid").unlink()
        m.start()
    m.open_gate("x")
    assert m.result("x") == b"through x\n"


def test_unmount_while_in_use_is_refused(m):
    with open(m.mnt / "README"):
        p = subprocess.run(["fusermount3", "-u", str(m.mnt)], capture_output=True, text=True)
        assert p.returncode != 0 and "busy" in p.stderr
        m.put("x", "print(5)\n")
        assert m.result("x") == b"5\n"


def test_stale_mountpoint_is_cleaned_up(m):
    m.put("done", "print('before')\n")
    m.result("done")
    m.put("x", m.gate("x"))
    m.pid_of("x")
    m.may_restart = True
    kill(m.supervisor)
    kill(m.pids()["daemon"])
    m.gone()
    with pytest.raises(OSError) as e:
        os.listdir(m.mnt)
    assert e.value.errno == errno.ENOTCONN
    m.start()
    assert len([line for line in text_of("/proc/self/mountinfo").splitlines() if str(m.mnt) in line]) == 1
    m.open_gate("x")
    assert m.result("x") == b"through x\n" and m.result("done") == b"before\n"


def test_supervisor_dead_mount_goes_on(m, base):
    m.put("x", m.gate("x"))
    m.pid_of("x")
    kill(m.supervisor)
    wait_until(lambda: not alive(m.supervisor), "the supervisor to die")
    m.put("y", "print('y')\n")
    assert m.result("y") == b"y\n"
    m.open_gate("x")
    assert m.result("x") == b"through x\n"
    (base / "other").mkdir()
    one_line(ppfs(base, "--state", m.statedir, base / "other", env=m.env), 1, m.statedir)
    m.unmount()
    m.start()
    assert m.result("y") == b"y\n"
