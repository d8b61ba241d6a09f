"""What ppfs is started with and where: closed descriptors, few descriptors, paths that the mount would hide; mounting beside and
after another; and how it ends."""
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from ppfsmount import BUILD, PPFS, wait_until, without_call
from processes import mount_line


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_started_with_closed_descriptors(new_mount, closed):
    m = new_mount()

    def close():
        for fd in closed:
            os.close(fd)

    m.start(preexec_fn=close)
    m.works()
    other = m.base / "other"
    other.mkdir()
    argv = [*m.argv()[:-1], str(other)]
    p = subprocess.run(argv, env=m.env, capture_output=True, text=True, preexec_fn=lambda: os.close(0), timeout=50)
    assert (p.returncode, p.stdout) == (1, "")
    assert "in use by ppfs (pid %d)" % m.supervisor in p.stderr
    standard = [os.readlink("/proc/%d/fd/%d" % (m.first_daemon, fd)) for fd in range(3)]
    assert standard == ["/dev/null", "/dev/null", str(m.statedir / "ppfs.log")]


def test_the_soft_limit_is_raised_for_us_alone(new_mount):
    m = new_mount()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    m.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard)))
    assert resource.prlimit(m.first_daemon, resource.RLIMIT_NOFILE) == (hard, hard)
    m.put("limit", "#!/bin/sh\nulimit -Sn\n")
    assert m.result("limit") == b"100\n"
    m.put("limit.py", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE) == (100, %d))" % hard)
    assert m.result("limit.py") == b"True\n"


def test_more_slots_than_descriptors(new_mount):
    m = new_mount(cpus=80)
    m.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    (m.jobs / ".some").mkdir()
    for i in range(80):
        m.put(".some/%d" % i, "#!/bin/sh\nsleep 0.3; echo $PPFS_ATTEMPT\n")
    os.rename(m.jobs / ".some", m.jobs / "some")
    m.put("large", b"#!/bin/sh\nexec echo large\n" + b"#" * 300000)
    m.put("calls.jsonl", "".join('{"call": "abs", "args": [%d]}\n' % i for i in range(200)))
    wait_until(lambda: "there cannot be more than" in m.why("some/79") or m.state("some/79") == "done", "a reason")
    assert [m.result("some/%d" % i) for i in range(80)] == [b"1\n"] * 80
    assert m.result("large") == b"large\n"
    assert len(m.result("calls.jsonl").splitlines()) == 200
    assert "no more descriptors (ulimit -Hn is 128)" in m.log()
    m.works()


# --- paths that the mount would hide ---------------------------------------------------------------------------------

def refused(m, *words, cwd=None, **env):
    """Runs ppfs with these words; it must say one line, mount nothing and make nothing. Returns the line."""
    before = sorted(m.base.rglob("*"))
    p = subprocess.run([str(PPFS), *map(str, words)], cwd=cwd, env=dict(m.env, **env), stdin=subprocess.DEVNULL,
                       capture_output=True, text=True, timeout=50)
    assert (p.returncode, p.stdout) == (1, ""), p
    assert p.stderr.startswith("ppfs: ") and p.stderr.count("\n") == 1
    assert not mount_line(m.mnt) and sorted(m.base.rglob("*")) == before
    return p.stderr


def test_a_state_below_the_mountpoint_is_refused(new_mount):
    m = new_mount()
    (m.mnt / "in").mkdir()
    for name, target in (("link", m.mnt / "in"), ("loop", "mnt/../loop2"), ("loop2", "mnt"), ("dead", "mnt/in/none")):
        (m.base / name).symlink_to(target)
    for state in ("mnt", "mnt/in", "mnt/new/s", "./work/../mnt/s", "link", "link/a/b", "loop/s", "dead/s", "none/../mnt/s",
                  "none/./x/../../link/s", m.mnt / "s", "work/../link"):
        assert "hide the state directory" in refused(m, "--state", state, "mnt", cwd=m.base), state
    assert "hide the state" in refused(m, "--state", "s", ".", cwd=m.mnt)
    assert "hide the state" in refused(m, "--state", "s", "..", cwd=m.mnt)
    assert "hide the state" in refused(m, "-o", "state=s", m.mnt / "in" / "..", cwd=m.mnt)
    assert "hide the state" in refused(m, ".", cwd=m.base, HOME=str(m.base), XDG_STATE_HOME="")
    os.rmdir(m.mnt / "in")
    # what is only beside it, or is left again on the way, is fine
    for words, cwd in ((("--state", "../state", "."), m.mnt), (("--state", "mnt/../state", "mnt"), m.base)):
        p = subprocess.run([str(PPFS), "--cpus", "1", *words], cwd=cwd, env=m.env, capture_output=True, text=True, timeout=50)
        assert (p.returncode, p.stderr) == (0, "")
        m.started().works()
        m.unmount()


def test_whatever_else_it_needs_below_the_mountpoint_is_refused(new_mount):
    m = new_mount()
    keep = ("--state", m.statedir)
    assert "hide the key" in refused(m, *keep, "--key", "key", m.mnt, cwd=m.mnt)
    assert "hide the directory for temporary files" in refused(m, *keep, m.mnt, TMPDIR=str(m.mnt / "tmp"))
    worker = m.mnt / "ppfs-worker"
    worker.symlink_to(PPFS.parent / "ppfs-worker")
    assert "hide the program of the workers" in refused(m, *keep, m.mnt, PPFS_WORKER=str(worker))
    worker.unlink()
    python = m.mnt / "python3"
    python.symlink_to("/usr/bin/python3")
    assert "hide the workers' Python" in refused(m, *keep, "--python", python, m.mnt)


@pytest.mark.skipif(os.geteuid() != 0, reason="bind mounts need root")
def test_a_state_in_a_bind_mount_of_the_mountpoint_is_refused(new_mount):
    m = new_mount()
    other = m.base / "other"
    other.mkdir()
    subprocess.run(["mount", "--bind", m.mnt, other], check=True)
    try:
        assert "hide the state" in refused(m, "--state", other / "s", m.mnt)
    finally:
        subprocess.run(["umount", other], check=True)


# --- beside and after another ----------------------------------------------------------------------------------------

def test_mounting_over_a_mounted_ppfs(new_mount):
    m = new_mount().start()
    other = m.base / "other"
    other.mkdir()
    p = m.run("--state", m.base / "state2")
    assert p.returncode == 1 and p.stderr == ("ppfs: cannot mount on %s: a ppfs is mounted there already "
                                              "(fusermount3 -u unmounts it)\n" % m.mnt)
    p = subprocess.run([*m.argv()[:-1], str(other)], env=m.env, capture_output=True, text=True, timeout=50)
    assert p.returncode == 1 and "in use by ppfs (pid %d), mounted on %s" % (m.supervisor, m.mnt) in p.stderr
    m.works()


def test_mounting_waits_for_one_that_is_on_its_way_out(new_mount):
    m = new_mount().start()
    os.kill(m.first_daemon, signal.SIGSTOP)
    subprocess.run(["fusermount3", "-u", m.mnt], check=True)
    p = subprocess.Popen(m.argv(), env=m.env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):  # it would say at once that the state is in use
        p.wait(timeout=1)
    os.kill(m.first_daemon, signal.SIGCONT)
    assert (p.wait(timeout=50), p.stderr.read()) == (0, b"")
    p.stderr.close()
    m.supervisor = 0
    m.started().works()


def test_a_comma_in_a_mount_option(new_mount):
    m = new_mount(options=["-o", r"fsname=a\,b\\c"]).start()
    assert mount_line(m.mnt).split(" - ")[1].split()[1] == r"a,b\134c"
    m.works()


# --- a daemon that hangs ---------------------------------------------------------------------------------------------

def test_a_daemon_that_is_stopped_is_replaced(new_mount):
    m = new_mount().start()
    m.may_restart = True
    m.put("g", m.gate("g"))
    m.pid_of("g")
    m.put("done.py", "print('kept')")
    assert m.result("done.py") == b"kept\n"
    reader = m.reader(m.results / "g")
    os.kill(m.first_daemon, signal.SIGSTOP)
    late = m.popen("cat", m.results / "done.py")  # this one it never reads
    wait_until(lambda: m.pids()["daemon"] not in (0, m.first_daemon), "another daemon")
    assert late.wait() == 0 and late.stdout.read() == b"kept\n"
    m.open_gate("g")
    assert reader.wait() == 0 and reader.stdout.read() == b"through g\n"
    assert re.search(r"the daemon \(pid %d\) was stopped for 10 seconds: killed; starting it again" % m.first_daemon, m.log())
    for p in (reader, late):
        p.stdout.close()
        p.stderr.close()
    m.works()


def test_a_daemon_that_hangs_is_unmounted(new_mount):
    m = new_mount().start()
    m.put("g", "#!/bin/sh\nexec sleep 1000\n")
    reader = m.reader(m.results / "g")
    os.kill(m.first_daemon, signal.SIGSTOP)
    reader.kill()
    subprocess.run(["fusermount3", "-u", "-z", m.mnt], check=True, timeout=5)
    assert not mount_line(m.mnt)
    os.kill(m.first_daemon, signal.SIGCONT)  # or the supervisor kills it, and the next one finds no mount
    m.gone()
    assert reader.wait() == -signal.SIGKILL
    reader.stdout.close()
    reader.stderr.close()


# --- its end ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("call", [None, 434], ids=["", "without pidfd_open"])
def test_unmounting_by_signal_names_who_had_files_open(new_mount, call):
    if call and os.geteuid() != 0:
        pytest.skip("fusermount3 has no privileges under a filter of an ordinary user")
    m = new_mount().start(preexec_fn=call and without_call(call))
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    reader = m.reader(m.results / "g")
    sleeper = m.popen("sh", "-c", "cd %s && exec sleep 1000" % m.jobs)
    wait_until(lambda: os.readlink("/proc/%d/cwd" % sleeper.pid) == str(m.jobs), "the shell to go there")
    os.kill(m.supervisor, signal.SIGTERM)
    m.gone()
    assert not mount_line(m.mnt) and reader.wait() == 1 and pid
    assert "unmounted while process %d (sleep) still had %s" % (sleeper.pid, m.jobs) in m.log()
    sleeper.kill()
    sleeper.wait()
    for p in (reader, sleeper):
        p.stdout.close()
        p.stderr.close()


def test_temporary_directories_of_killed_ones_are_removed(new_mount):
    tmp = {}

    def left():
        return set(os.listdir(tmp["dir"]))

    m = new_mount()
    tmp["dir"] = m.base / "tmp"
    tmp["dir"].mkdir(mode=0o1777)
    m.env["TMPDIR"] = str(tmp["dir"])
    (tmp["dir"] / "ppfs-jobs-mylink").symlink_to(m.work)
    (tmp["dir"] / "ppfs-jobs-longer-name").mkdir()
    keep = left()
    (m.base / "second").mkdir()
    other = new_mount(base=m.base / "second", env={"TMPDIR": str(tmp["dir"])}).start()
    other.put("g", other.gate("g"))
    other.pid_of("g")
    keep |= left()
    assert len(keep) == 3
    m.start()
    for stop in (m.kill_daemon, m.kill_all):
        m.put("t", "#!/bin/sh\nmkdir -p d/e\ntouch d/e/f\necho > %s/there\nexec sleep 1000\n" % m.work)
        wait_until((m.work / "there").exists, "the job to run")
        (m.work / "there").unlink()
        assert len(left() - keep) == 1
        mine = left() - keep
        stop()
        if stop == m.kill_all:
            m.start()
        wait_until(lambda: len(left() - keep) == 1 and not mine & left(), "what it left to go")
        (m.jobs / "t").unlink()
    other.open_gate("g")
    assert other.result("g") == b"through g\n"
    m.unmount()
    other.unmount()
    assert left() == {"ppfs-jobs-mylink", "ppfs-jobs-longer-name"}


def test_uninstall_leaves_no_directory_of_ours(base):
    if not (BUILD / "Makefile").exists():
        pytest.skip("no Makefile in %s" % BUILD)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "PYTHON"))}
    make = ["make", "-s", "-C", BUILD, "DESTDIR=%s" % base]
    subprocess.run([*make, "install"], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    package = next(p.parent for p in base.rglob("executor.py"))
    subprocess.run([sys.executable, "-c", "import ppfs"], env=dict(env, PYTHONPATH=str(package.parent)), check=True)
    assert list(package.glob("__pycache__/*.pyc"))
    subprocess.run([*make, "uninstall"], env=env, check=True, stdout=subprocess.DEVNULL)
    assert [p for p in base.rglob("*") if not p.is_dir() or "ppfs" in p.name] == []


def test_rm_r_in_info_forgets_what_was_cancelled(new_mount):
    m = new_mount(cpus=0).start()
    m.put("x", "#!/bin/sh\n")
    p = m.sh("rm -r $M/info/x", check=False)
    assert p.returncode == 1 and b"busy" in p.stderr and m.state("x") == "queued"
    (m.jobs / "x").unlink()
    assert m.state("x") == "cancelled" and "x" in os.listdir(m.info)
    (m.info / "x" / "exit").unlink()  # no more than a step of rm -r
    assert m.state("x") == "cancelled"
    m.sh("rm -r $M/info/x")
    assert "x" not in os.listdir(m.info) and not (m.info / "x").exists()
