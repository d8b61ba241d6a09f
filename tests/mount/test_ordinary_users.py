"""Who is not root mounts too, and jobs of other users run as these; ppfs(1)."""
import os
import pwd
import stat
import subprocess
import uuid

import pytest
from ppfsmount import PPFS, TOP, need_programs, wait_until
from processes import kill


@pytest.fixture
def user():
    """An ordinary user of this machine, made for the test, who may open /dev/fuse."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a user")
    need_programs("useradd", "userdel")
    name = "ppfs%s" % uuid.uuid4().hex[:8]
    subprocess.run(["useradd", "--no-create-home", "--shell", "/bin/sh", name], check=True, capture_output=True)
    mode = stat.S_IMODE(os.stat("/dev/fuse").st_mode) if os.path.exists("/dev/fuse") else 0
    if mode:
        os.chmod("/dev/fuse", 0o666)
    try:
        yield pwd.getpwnam(name)
    finally:
        if mode:
            os.chmod("/dev/fuse", mode)
        subprocess.run(["userdel", name], capture_output=True)


def become(user):
    def call():
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)
        os.umask(0o022)
    return call


def as_user(m, user, command):
    return subprocess.run(["/bin/sh", "-c", command], preexec_fn=become(user), cwd=m.work, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, env=m.client_env(), timeout=50)


def mount_as(m, user):
    for d in (m.base, m.mnt, m.work):
        os.chown(d, user.pw_uid, user.pw_gid)
    p = as_user(m, user, "test -x %s" % PPFS)
    if p.returncode != 0:
        pytest.skip("%s cannot be reached by an ordinary user" % PPFS)
    p = m.run(preexec_fn=become(user))
    assert (p.returncode, p.stderr) == (0, "")
    m.started()


LEAVES = """#!/usr/bin/python3
import os
for n in range(260):
    if n % 50 < 2:
        os.makedirs("closed/a", 0o700)
        open("closed/f", "w").close()
        os.chmod("closed", 0o500 if n % 2 else 0)
    os.mkdir("d")
    os.chdir("d")
print("made")
"""


@pytest.mark.parametrize("whose", ["his own", "root's"])
def test_deep_and_closed_trees_that_jobs_leave_are_removed(new_mount, user, whose):
    m = new_mount(options=["-o", "allow_other"] if whose == "root's" else [])
    tmp = m.base / "tmp"
    tmp.mkdir(mode=0o755)
    m.env["TMPDIR"] = str(tmp)
    if whose == "root's":
        m.start()
    else:
        os.chown(tmp, user.pw_uid, user.pw_gid)
        mount_as(m, user)
    try:
        p = as_user(m, user, "cd $M/jobs && cat >x <<'E' && cat $M/results/x\n%sE\n" % LEAVES)
        assert (p.stdout, p.stderr) == ("made\n", "")
        wait_until(lambda: not list(tmp.glob("*/*/[cd]*")), "what it left to go")
    finally:
        m.unmount()
    assert not os.listdir(tmp)


def test_ordinary_user_mounts(new_mount, user):
    m = new_mount()
    mount_as(m, user)
    try:
        p = as_user(m, user, 'echo "id -un; pwd" > a && { echo "#!/bin/sh"; cat a; } > $M/jobs/x && cat $M/results/x'
                    ' && ls -ld $M/jobs | cut -d" " -f3')
        assert (p.returncode, p.stderr) == (0, "")
        assert p.stdout.splitlines() == [user.pw_name, str(m.work), user.pw_name]
        p = as_user(m, user, "echo 'import os; print(os.getuid())' > $M/jobs/y; cat $M/results/y")
        assert p.stdout == "%d\n" % user.pw_uid and p.stderr == ""
        # nobody else may look, not even root: that is what a mount without allow_other means
        with pytest.raises(PermissionError):
            os.listdir(m.mnt)
        # the mount outlives its daemon for an ordinary user as well
        m.kill_daemon()
        p = as_user(m, user, "echo 'print(6*7)' > $M/jobs/z; cat $M/results/z")
        assert (p.stdout, p.stderr) == ("42\n", "")
        # a stale mountpoint is cleaned up without root
        kill(m.supervisor)
        kill(m.pids()["daemon"])
        m.gone()
        p = m.run(preexec_fn=become(user))
        assert (p.returncode, p.stderr) == (0, "")
        m.started()
        assert as_user(m, user, "cat $M/results/z").stdout == "42\n"
        p = as_user(m, user, "fusermount3 -u $M")
        assert (p.returncode, p.stderr) == (0, "")
        m.gone()
    finally:
        m.abort()


def test_jobs_of_another_user_run_as_that_user(new_mount, user):
    m = new_mount(options=["-o", "allow_other"]).start()
    m.work.chmod(0o777)
    p = as_user(m, user, "printf '#!/bin/sh\\nid -u; id -g; id -G\\n' > $M/jobs/sh; cat $M/results/sh")
    assert p.stderr == "" and p.stdout.split() == [str(user.pw_uid), str(user.pw_gid), str(user.pw_gid)]
    p = as_user(m, user, "echo 'import os; print(os.getresuid())' > $M/jobs/py; cat $M/results/py")
    assert p.stderr == "" and p.stdout == "(%d, %d, %d)\n" % ((user.pw_uid,) * 3)
    p = as_user(m, user, """echo '{"call": "os.getuid"}' > $M/jobs/call; cat $M/results/call""")
    assert p.stderr == "" and p.stdout.strip() == str(user.pw_uid)
    assert (m.results / "sh").stat().st_uid == user.pw_uid
    # root's jobs stay root's
    m.put("mine", "#!/bin/sh\n#ppfs: hold=1\nid -u\n")
    os.chmod(m.jobs / "mine", 0o600)
    for command in ("cat $M/jobs/mine", "rm -f $M/jobs/mine", "echo x > $M/jobs/mine", "echo 0 > $M/info/mine/hold"):
        p = as_user(m, user, command)
        assert p.returncode != 0, command
    (m.info / "mine/hold").write_text("0")
    assert m.result("mine") == b"0\n"


def test_nobody_runs_as_root_by_chown(new_mount, user):
    """A job that an ordinary user wrote never runs as somebody else, whatever is done to its file."""
    m = new_mount(options=["-o", "allow_other"]).start()
    p = as_user(m, user,
                "printf '#!/bin/sh\\n#ppfs: hold=1\\nid -u\\n' > $M/jobs/x; chown 0 $M/jobs/x; chmod u+s $M/jobs/x;"
                " echo 0 > $M/info/x/hold; cat $M/results/x")
    assert p.stdout == "%d\n" % user.pw_uid


def test_environment_of_the_mount_reaches_jobs(new_mount):
    m = new_mount(env={"GREETING": "hello there"}).start()
    m.put("x", "#!/bin/sh\necho $GREETING\n")
    assert m.result("x") == b"hello there\n"


BASH = 'source %s/complete/ppfs.bash; _ppfs_mount'
ZSH = ('compadd() { print -rn -- $mount; }; complete_line() { source %s/complete/_ppfs; }; '
       'words=(ppfs-run --wait ""); CURRENT=3 PREFIX= complete_line')
NO_OTHERS = ('findmnt -n -r -t fuse.ppfs -o TARGET | while read -r at; do case $at in "$1" | "$2") ;; *) umount -l "$at" ;; esac; done; '
             'shift 2; unset PPFS; exec "$@"')


@pytest.mark.parametrize("shell", [["bash", "-c", BASH], ["zsh", "-fc", ZSH]], ids=lambda shell: shell[0])
def test_completion_asks_no_mount_of_another_user(new_mount, base, user, shell):
    need_programs("unshare", "findmnt", shell[0])
    (base / "his").mkdir()
    his, ours = new_mount(base=base / "his"), new_mount()
    for d in (his.base, his.mnt, his.work):
        os.chown(d, user.pw_uid, user.pw_gid)
    p = his.run(preexec_fn=become(user))
    if p.returncode:
        pytest.skip("an ordinary user cannot mount here: %s" % p.stderr)
    try:
        his.started()
        ours.start()
        p = subprocess.run(["unshare", "-m", "sh", "-c", NO_OTHERS, "sh", str(his.mnt), str(ours.mnt), *shell[:2], shell[2] % (TOP / "scripts")],
                           capture_output=True, text=True, timeout=50)
        assert (p.stdout.strip(), p.stderr) == (str(ours.mnt), "")
    finally:
        his.abort()
