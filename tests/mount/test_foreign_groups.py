"""Groups that belong to somebody else: what their .options may say of a job, and what their owner may do with it."""
import errno
import os

import pytest
from ppfsmount import wait_until

BINDING = ["env=WHO:mallory", "cwd=/tmp", "node=lo*", "retries=3", "cpus=2", "memory=500M", "after=first"]
SAYS = "echo \"print(__import__('os').environ.get('WHO'), __import__('os').getuid())\""


def group_of(user, m, options, name="nightly", mode="1777"):
    p = user.sh("mkdir -p -m %s $M/jobs/%s && echo '%s' > $M/jobs/%s/.options" % (mode, name, options, name), M=m.mnt)
    assert (p.returncode, p.stderr) == (0, "")


def why_failed(m, name):
    assert m.state(name) == "failed"
    return (m.failures / name).read_text()


@pytest.mark.parametrize("option", BINDING)
def test_options_of_others_bind_nobody(shared, alice, mallory, option):
    m = shared
    group_of(mallory, m, option)
    p = alice.sh("%s > x; mkdir -p $M/jobs/nightly; cp x $M/jobs/nightly/x; cat $M/results/nightly/x" % SAYS, M=m.mnt)
    assert p.returncode == 1 and p.stdout == ""
    assert "cp: " in p.stderr and "Operation not permitted" in p.stderr  # close() said so
    why = why_failed(m, "nightly/x")
    assert option.split("=")[0] + "=" in why and "jobs/nightly/.options" in why and str(mallory.uid) in why
    assert alice.sh("cat $M/info/nightly/x/why", M=m.mnt).stdout == why


def test_nor_root(shared, mallory):
    """The cron job that ran as root with another's LD_PRELOAD."""
    m = shared
    group_of(mallory, m, "env=LD_PRELOAD:%s/evil.so env=PATH:%s" % (mallory.home, mallory.home))
    with pytest.raises(PermissionError):
        m.put("nightly/x", "#!/bin/sh\nid -u\n")
    assert "env=" in why_failed(m, "nightly/x")
    assert m.get("nightly/x", "attempt") == "0"


def test_what_counts_for_whom(shared, alice, mallory):
    """Those of root for everybody, one's own for oneself; and when a job may start, for everybody, as who owns the group may
    remove it anyway."""
    m = shared
    group_of(mallory, m, "env=WHO:mallory")
    p = mallory.sh(SAYS + " > $M/jobs/nightly/own; cat $M/results/nightly/own", M=m.mnt)
    assert p.stdout == "mallory %d\n" % mallory.uid
    group_of(mallory, m, "priority=-3 hold=1 timeout=1h", "later")
    assert alice.sh(SAYS + " > x; cp x $M/jobs/later/x && cat $M/info/later/x/state $M/info/later/x/priority",
                    M=m.mnt).stdout == "held\n-3\n"
    os.mkdir(m.jobs / "all", 0o777)
    (m.jobs / "all").chmod(0o1777)
    (m.jobs / "all/.options").write_text("env=WHO:root")
    p = alice.sh(SAYS + " > $M/jobs/all/x && cat $M/results/all/x", M=m.mnt)
    assert (p.stdout, p.stderr) == ("root %d\n" % alice.uid, "")


def test_all_groups_above_count(shared, alice, mallory):
    m = shared
    group_of(mallory, m, "env=WHO:mallory", "a")
    p = alice.sh("mkdir -p $M/jobs/a/b/c; echo priority=1 > $M/jobs/a/b/.options; %s > $M/jobs/a/b/c/x; "
                 "cat $M/results/a/b/c/x" % SAYS, M=m.mnt)
    assert p.stdout == "" and "jobs/a/.options" in why_failed(m, "a/b/c/x")
    # and in a group of her own that stands in his, hers are what she says
    mallory.sh("rm $M/jobs/a/.options", M=m.mnt)
    p = alice.sh("echo env=WHO:alice > $M/jobs/a/b/.options; %s > $M/jobs/a/b/c/x; cat $M/results/a/b/c/x" % SAYS, M=m.mnt)
    assert p.stdout == "alice %d\n" % alice.uid
    p = mallory.sh("mkdir $M/jobs/a/m && " + SAYS + " > $M/jobs/a/m/x; cat $M/results/a/m/x", M=m.mnt)
    assert p.stdout == "None %d\n" % mallory.uid


def test_a_job_that_is_moved_there(shared, alice, mallory):
    m = shared
    group_of(mallory, m, "env=WHO:mallory")
    alice.sh(SAYS + " > $M/jobs/.x", M=m.mnt)
    p = alice.sh("mv $M/jobs/.x $M/jobs/nightly/x; cat $M/info/.x/why; mv $M/jobs/.x $M/jobs/x; cat $M/results/x", M=m.mnt)
    assert "Operation not permitted" in p.stderr and "jobs/nightly/.options says env=" in p.stdout
    assert p.stdout.endswith("\nNone %d\n" % alice.uid)
    # as what was in there already under the name of a draft
    p = alice.sh(SAYS + " > $M/jobs/nightly/.y; mv $M/jobs/nightly/.y $M/jobs/nightly/y", M=m.mnt)
    assert p.returncode == 1 and m.state("nightly/.y") == "draft"
    assert "says env=" in m.why("nightly/.y")


def test_a_group_that_is_opened(shared, alice, mallory):
    m = shared
    group_of(mallory, m, "env=WHO:mallory", ".night")
    alice.sh(SAYS + " > $M/jobs/.night/x", M=m.mnt)
    mallory.sh(SAYS + " > $M/jobs/.night/own", M=m.mnt)
    os.rename(m.jobs / ".night", m.jobs / "night")
    mallory.sh("cat $M/info/night/.wait", M=m.mnt)
    assert "says env=" in why_failed(m, "night/x")
    assert m.result("night/own") == b"mallory %d\n" % mallory.uid


def test_a_group_that_is_moved_below(shared, alice, mallory):
    """Alice's own group is put under one of mallory's: what she writes there next is not run with his options."""
    m = shared
    group_of(mallory, m, "env=WHO:mallory", "his")
    alice.sh("mkdir $M/jobs/hers && echo hold=1 > $M/jobs/hers/.options && %s > $M/jobs/hers/a && "
             "mv $M/jobs/hers $M/jobs/his/ && %s > $M/jobs/his/hers/b" % (SAYS, SAYS), M=m.mnt)
    assert "jobs/his/.options says env=" in why_failed(m, "his/hers/b")
    (m.info / "his/hers/a/hold").write_text("0")  # submitted before: its options are settled
    assert m.result("his/hers/a") == b"None %d\n" % alice.uid


def test_a_failed_job_that_is_run_again_there(shared, alice, mallory):
    m = shared
    group_of(mallory, m, "env=WHO:mallory")
    alice.sh("echo 'raise SystemExit(3)' > $M/jobs/ran; printf '#ppfs: nonsense=1\\n' > $M/jobs/never; "
             "cat $M/results/ran $M/results/never", M=m.mnt)
    p = alice.sh("mv $M/failures/never $M/jobs/nightly/never", M=m.mnt)
    assert p.returncode == 1 and m.state("never") == "failed"
    p = alice.sh("mv $M/failures/ran $M/jobs/nightly/ran && cat $M/results/nightly/ran", M=m.mnt)  # its options as they were
    assert m.state("nightly/ran") == "failed" and m.get("nightly/ran", "attempt") == "2"


def test_lines_of_a_stream(shared, alice, mallory):
    """Also those that become jobs after the group has got its options."""
    m = shared
    group_of(mallory, m, "priority=1")
    line = '{"run": ["sh", "-c", "echo $WHO; id -u"]}'
    writer = alice.popen(["sh", "-c", "exec 3> $M/jobs/nightly/s.jsonl; echo '%s' >&3; read x; echo '%s' >&3" % (line, line)],
                         env={"M": str(m.mnt)}, stdin=-1)
    wait_until((m.results / "nightly/s.jsonl").exists, "the stream")
    fd = os.open(m.results / "nightly/s.jsonl", os.O_RDONLY)
    assert str(alice.uid) in os.read(fd, 1000).decode()
    os.close(fd)
    mallory.sh("echo env=WHO:mallory > $M/jobs/nightly/.options", M=m.mnt)
    writer.communicate(b"\n")
    text = alice.sh("cat $M/results/nightly/s.jsonl", M=m.mnt).stdout.splitlines()
    assert len(text) == 2 and "mallory\\n" not in text[1] and "says env=" in text[1]
    p = alice.sh("echo '%s' > s.jsonl; cp s.jsonl $M/jobs/nightly/t.jsonl" % line, M=m.mnt)
    assert "Operation not permitted" in p.stderr and "says env=" in why_failed(m, "nightly/t.jsonl")


def test_groups_and_options_that_change_hands(shared, alice, mallory):
    m = shared
    group_of(mallory, m, "env=WHO:mallory")
    os.chown(m.jobs / "nightly", alice.uid, alice.gid)  # the file is still his
    alice.sh(SAYS + " > $M/jobs/nightly/x", M=m.mnt)
    assert str(mallory.uid) in why_failed(m, "nightly/x")
    mallory.sh(SAYS + " > $M/jobs/nightly/y", M=m.mnt)
    assert str(alice.uid) in why_failed(m, "nightly/y")
    p = alice.sh("rm $M/jobs/nightly/.options; echo env=WHO:alice > $M/jobs/nightly/.options; %s > $M/jobs/nightly/x; "
                 "cat $M/results/nightly/x" % SAYS, M=m.mnt)
    assert (p.stdout, p.stderr) == ("alice %d\n" % alice.uid, "")


def test_who_may_write_options(shared, alice, mallory):
    """Nobody but the group's owner and root; and who may not leaves nothing that is in the owner's way."""
    m = shared
    alice.sh("mkdir -m 1777 $M/jobs/G", M=m.mnt)
    for command in ("echo env=A:b > $M/jobs/G/.options", "touch $M/jobs/G/.options", "mknod $M/jobs/G/.options p",
                    "echo env=A:b > $M/jobs/G/.o; mv $M/jobs/G/.o $M/jobs/G/.options",
                    "echo env=A:b > $M/jobs/.options"):
        assert mallory.sh(command, M=m.mnt).returncode != 0, command
        assert not (m.jobs / "G/.options").exists()
    p = alice.sh("umask 0; echo priority=2 > $M/jobs/G/.options && cat $M/jobs/G/.options", M=m.mnt)
    assert (p.stdout, p.stderr) == ("priority=2\n", "")
    for command in ("echo env=A:b > $M/jobs/G/.options", "echo env=A:b >> $M/jobs/G/.options",
                    "truncate -s 0 $M/jobs/G/.options", "rm -f $M/jobs/G/.options",
                    "mv $M/jobs/G/.options $M/jobs/G/.old"):  # its mode is 0666
        assert mallory.sh(command, M=m.mnt).returncode != 0, command
    alice.sh("chmod 0777 $M/jobs/G", M=m.mnt)  # no sticky bit: whoever may write there may remove jobs
    for command in ("rm -f $M/jobs/G/.options", "mv $M/jobs/G/.options $M/jobs/G/.old",
                    "truncate -s 0 $M/jobs/G/.options", "rm -r $M/info/G"):
        assert mallory.sh(command, M=m.mnt).returncode != 0, command
    assert (m.jobs / "G/.options").read_text() == "priority=2\n"


def test_a_refused_options_file_is_in_nobodys_way(shared, alice, mallory):
    m = shared
    group_of(alice, m, "priority=2", "G", "0777")
    alice.sh("rm $M/jobs/G/.options", M=m.mnt)
    program = "import os,sys\ntry: f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600)\nexcept OSError as e: print(e.errno)\n" \
              "sys.stdout.flush(); sys.stdin.read()"
    p = mallory.popen(["/usr/bin/python3", "-c", program, m.jobs / "G/.options"], stdin=-1, stdout=-1, text=True)
    try:
        assert p.stdout.readline() == "1\n"
        q = alice.sh("echo priority=3 > $M/jobs/G/.options && cat $M/jobs/G/.options", M=m.mnt)
        assert (q.stdout, q.stderr) == ("priority=3\n", "")
    finally:
        p.communicate("")


# --- what others have in a group ---------------------------------------------------------------------------------------

def test_the_owner_of_a_group_submits_nothing_for_others(shared, alice, mallory):
    m = shared
    mallory.sh("umask 0; mkdir -m 0777 $M/jobs/G", M=m.mnt)
    alice.sh("echo 'print(1)' > $M/jobs/G/.half; echo 'raise SystemExit(1)' > $M/jobs/G/bad; cat $M/results/G/bad", M=m.mnt)
    assert mallory.sh("mv $M/jobs/G/.half $M/jobs/G/half", M=m.mnt).returncode == 1
    assert mallory.sh("mv $M/failures/G/bad $M/jobs/G/bad", M=m.mnt).returncode == 1
    assert mallory.sh("mv $M/failures/G/bad $M/jobs/bad", M=m.mnt).returncode == 1
    assert (m.state("G/.half"), m.get("G/bad", "attempt")) == ("draft", "1")
    assert alice.sh("mv $M/jobs/G/.half $M/jobs/G/half; cat $M/results/G/half", M=m.mnt).stdout == "1\n"
    alice.sh("mkdir $M/jobs/G/.many; echo 'print(2)' > $M/jobs/G/.many/x", M=m.mnt)
    assert mallory.sh("mv $M/jobs/G/.many $M/jobs/G/many", M=m.mnt).returncode == 1
    assert m.state("G/.many/x") == "draft"
    assert alice.sh("mv $M/jobs/G/.many $M/jobs/G/many; cat $M/results/G/many/x", M=m.mnt).stdout == "2\n"


def test_who_opens_a_group_submits_what_is_his_own(shared, alice, mallory):
    """What others have in a directory of his, root too, or in theirs below it, does not run when he opens it."""
    m = shared
    mallory.sh("umask 0; mkdir $M/jobs/.G; mkdir $M/jobs/.G/.later", M=m.mnt)
    os.mkdir(m.jobs / ".G/roots")
    m.put(".G/roots/x", "print(1)")
    assert "not permitted" in mallory.sh("mv $M/jobs/.G $M/jobs/G", M=m.mnt).stderr
    p = mallory.sh("mkdir $M/jobs/.H && mv $M/jobs/.G $M/jobs/.H/G && ! mv $M/jobs/.H $M/jobs/H && mv $M/jobs/.H/G $M/jobs/.G", M=m.mnt)
    assert p.returncode == 0 and "not permitted" in p.stderr, p.stderr
    assert m.state(".G/roots/x") == "draft"
    os.unlink(m.jobs / ".G/roots/x")
    alice.sh("echo 'print(2)' > $M/jobs/.G/a", M=m.mnt)
    assert "not permitted" in mallory.sh("mv $M/jobs/.G $M/jobs/G", M=m.mnt).stderr and m.state(".G/a") == "draft"
    alice.sh("mv $M/jobs/.G/a $M/jobs/.G/.a; echo 'print(3)' > $M/jobs/.G/.later/b", M=m.mnt)
    p = mallory.sh("echo 'print(4)' > $M/jobs/.G/own; mv $M/jobs/.G $M/jobs/G && cat $M/results/G/own", M=m.mnt)
    assert (p.stdout, p.stderr) == ("4\n", "")
    assert (m.state("G/.a"), m.state("G/.later/b")) == ("draft", "draft"), "what stays a draft is in nobody's way"


def test_nobody_writes_what_runs_as_another(shared, alice, mallory):
    """Whatever the file's mode says."""
    m = shared
    alice.sh("umask 0; echo 'print(1)' > $M/jobs/.draft; printf '#!/bin/sh\\n#ppfs: hold=1\\nid -u\\n' > $M/jobs/held; "
             "chmod 666 $M/jobs/held", M=m.mnt)
    for name in (".draft", "held"):
        for how in (">", ">>"):
            p = mallory.sh("echo 'import os' %s $M/jobs/%s" % (how, name), M=m.mnt)
            assert "Permission denied" in p.stderr
        assert mallory.sh("truncate -s 3 $M/jobs/%s" % name, M=m.mnt).returncode == 1
    with open(m.jobs / "held", "a") as f:  # root adds to it, and it stays hers, in her directory
        f.write("pwd\n")
    (m.info / "held/hold").write_text("0")
    assert m.result("held").decode() == "%d\n%s\n" % (alice.uid, alice.home)


def test_a_removed_group_is_not_made_by_another(shared, alice, mallory):
    """Its results are still there, and with them its owner and mode."""
    m = shared
    mallory.sh("mkdir -m 1777 $M/jobs/G; echo 'print(1)' > $M/jobs/G/x; cat $M/results/G/x; rmdir $M/jobs/G", M=m.mnt)
    assert alice.sh("mkdir $M/jobs/G", M=m.mnt).returncode == 1
    os.mkdir(m.jobs / "G", 0o700)
    assert (m.jobs / "G").stat().st_uid == 0 and (m.jobs / "G").stat().st_mode & 0o7777 == 0o700
    assert mallory.sh("echo env=A:b > $M/jobs/G/.options", M=m.mnt).returncode != 0
    os.rmdir(m.jobs / "G")


def test_a_draft_changes_hands_when_it_is_closed(shared, alice, mallory):
    """What its writer still wrote would run as its new owner."""
    m = shared
    writer = mallory.popen(["sh", "-c", "exec 3> $M/jobs/.x; echo 'print(1)' >&3; echo; read x"], env={"M": str(m.mnt)},
                           stdin=-1, stdout=-1)
    writer.stdout.readline()
    with pytest.raises(OSError) as e:
        os.chown(m.jobs / ".x", alice.uid, alice.gid)
    assert e.value.errno == errno.ETXTBSY
    writer.communicate(b"\n")
    wait_until(lambda: "open for writing" not in m.why(".x"), "the close")
    os.chown(m.jobs / ".x", alice.uid, alice.gid)
    assert (m.jobs / ".x").stat().st_uid == alice.uid


def test_a_copy_of_anothers_job_runs_where_its_writer_is(shared, alice, mallory):
    m = shared
    mallory.sh("echo pwd > $M/jobs/x.sh; printf '#!/bin/sh\\npwd\\n' > $M/jobs/x; cat $M/results/x", M=m.mnt)
    p = alice.sh("cp $M/info/x/spec $M/jobs/y; cat $M/results/y", M=m.mnt)
    assert p.stdout == "%s\n" % alice.home
    p = mallory.sh("cd /; cp $M/info/x/spec $M/jobs/z; cat $M/results/z", M=m.mnt)
    assert p.stdout == "%s\n" % mallory.home


@pytest.mark.parametrize("command", ["unlink $M/results/x", "rmdir $M/info/x"])
def test_a_name_that_root_has_taken(shared, mallory, command):
    """What the kernel still keeps of the name says that it is his."""
    m = shared
    mallory.sh("echo 'print(1)' > $M/jobs/x; cat $M/results/x; ls -l $M/results/x $M/info/x", M=m.mnt)
    m.put("x", "print(2)\n")
    (m.info / ".wait").read_text()  # until root's has ended
    mallory.sh(command, M=m.mnt)
    assert m.result("x") == b"2\n"


def test_a_job_has_the_group_of_its_writer(shared, alice, mallory):
    """Whatever the set-group-ID bit of the directory says."""
    m = shared
    assert alice.sh("mkdir $M/jobs/G && chmod 3777 $M/jobs/G && stat -c %a $M/jobs/G", M=m.mnt).stdout == "3777\n"
    p = mallory.sh("printf '#!/bin/sh\\nid -g\\n' > $M/jobs/G/x; stat -c %g $M/jobs/G/x; cat $M/results/G/x", M=m.mnt)
    assert str(alice.gid) not in p.stdout.split() and p.stdout.split()[-1] == str(mallory.gid)


def test_what_else_another_may_not_change(shared, alice, mallory):
    """Modes, owners, times, links, attributes: of a job, a group, a result, and of what is known of them."""
    m = shared
    long = "n" * 255
    alice.sh("mkdir $M/jobs/G; printf '#!/bin/sh\\n#ppfs: hold=1\\n' > $M/jobs/G/held; echo 'print(1)' > $M/jobs/%s; "
             "cat $M/results/%s" % (long, long), M=m.mnt)
    what = ["jobs/G", "jobs/G/held", "results/" + long, "info/" + long, "info/G/held/hold", "info/G/held/priority"]
    for path in what:
        for command in ("chmod 777", "chown %d" % mallory.uid, "chgrp %d" % mallory.gid, "touch -d 2001-01-01", "truncate -s 0",
                        "ln -t /tmp", "rm -rf", "sh -c 'echo 0 > \"$0\"'"):
            p = mallory.sh("%s \"$M/%s\"" % (command, path), M=m.mnt)
            assert p.returncode != 0, (command, path)
    for command in ("ln -s /etc/passwd $M/jobs/link", "ln $M/jobs/G/held $M/jobs/link", "mv $M/results/%s $M/results/y" % long,
                    "mv $M/results/%s $M/jobs/y" % long, "mv $M/jobs/G $M/jobs/H", "rmdir $M/jobs/G $M/info/G",
                    "mkdir $M/nodes/127.0.0.1:9", "echo 0 > $M/nodes/local/cpus", "echo drain > $M/nodes/local/state",
                    "echo 1 > $M/nodes/.discover"):
        assert mallory.sh(command, M=m.mnt).returncode != 0, command
    for name in ("user.x", "trusted.x", "system.posix_acl_access"):
        with pytest.raises(OSError):
            os.setxattr(m.jobs / "G/held", name, b"1")
    assert m.state("G/held") == "held" and m.result(long) == b"1\n"
    assert (m.jobs / "G").stat().st_mode & 0o7777 == 0o755


def test_who_has_it_open_may_cut_it(shared, alice):
    """A shell's redirection, of which the command runs as somebody else."""
    m = shared
    fd = os.open(m.jobs / ".x", os.O_RDWR | os.O_CREAT, 0o644)
    os.write(fd, b"print(1)\nprint(2)\n")
    program = "import os; os.ftruncate(1, 9)"
    assert alice.popen(["/usr/bin/python3", "-c", program], stdout=fd).wait() == 0
    os.close(fd)
    os.rename(m.jobs / ".x", m.jobs / "x")
    assert m.result("x") == b"1\n"


def test_what_one_user_wrote_is_made_options_by_no_other(shared, alice, mallory):
    m = shared
    assert alice.sh("mkdir -m 777 $M/jobs/alices", M=m.mnt).stderr == ""
    assert mallory.sh("mkdir -m 777 $M/jobs/mallorys", M=m.mnt).stderr == ""
    assert alice.sh("echo env=WHO:alice > $M/jobs/mallorys/.notes", M=m.mnt).stderr == ""
    move = "mv $M/jobs/mallorys/.notes $M/jobs/alices/.options"
    assert "Operation not permitted" in mallory.sh(move, M=m.mnt).stderr
    assert not (m.jobs / "alices/.options").exists()
    assert alice.sh(move, M=m.mnt).stderr == ""
    assert (m.jobs / "alices/.options").read_text() == "env=WHO:alice\n"


def test_names_of_ppfs_are_nobodys(shared, alice, mallory):
    """In a group that others may write into, nobody takes the name of its options, nor of what info/ has in each group."""
    m = shared
    assert alice.sh("mkdir -m 1777 $M/jobs/G", M=m.mnt).stderr == ""
    own = [name for name in os.listdir(m.info / "G") if name.startswith(".")]
    assert {".wait", ".ok", ".events"} <= set(own)
    for where in "jobs/", "jobs/G/":
        p = mallory.sh("cd $M; mkdir $P.options; mkdir $P.tmp; mv -T $P.tmp $P.options", M=m.mnt, P=where)
        assert p.stderr.count("Operation not permitted") == 2, p.stderr
        for name in own:
            p = mallory.sh("cd $M; mkdir $P$N; echo x > $P$N; echo x > $P.n; mv $P.n $P$N; mv -T $P.tmp $P$N; rm $P.n", M=m.mnt, P=where, N=name)
            assert p.stderr.count("Operation not permitted") == 4, p.stderr
        assert mallory.sh("rmdir $M/$P.tmp", M=m.mnt, P=where).stderr == ""
    assert alice.sh("echo max=1 > $M/jobs/G/.options", M=m.mnt).stderr == ""
    (m.jobs / ".options").write_text("timeout=100")
