"""Who a job belongs to is who it runs as: chown by root, and what it means at each point of a job's life."""
import errno
import json
import os
import stat

import pytest
from ppfsmount import need_programs, wait_until

SAYS = "print(__import__('os').environ.get('WHO'), __import__('os').getuid())"


def refused(path, uid=-1, gid=-1):
    before = os.stat(path)
    with pytest.raises(OSError) as e:
        os.chown(path, uid, gid)
    after = os.stat(path)
    return e.value.errno == errno.ETXTBSY and (before.st_uid, before.st_gid) == (after.st_uid, after.st_gid)


def test_a_stream_that_runs_stays_its_writers(shared, alice, mallory):
    """Calls of it would go on in workers of the old owner, or in workers of the new one that the old one writes to."""
    m = shared
    call = json.dumps({"call": "os.getuid"})
    writer = alice.popen(["sh", "-c", "exec 3> $M/jobs/s.jsonl; echo '%s' >&3; read x; echo '%s' >&3" % (call, call)],
                         env={"M": str(m.mnt)}, stdin=-1)
    wait_until((m.results / "s.jsonl").exists, "the stream to begin")
    with open(m.results / "s.jsonl") as answers:
        assert answers.readline() == "%d\n" % alice.uid
        assert refused(m.jobs / "s.jsonl", mallory.uid) and refused(m.jobs / "s.jsonl", -1, mallory.gid)
        os.chown(m.jobs / "s.jsonl", alice.uid, alice.gid)  # as it is
        os.chmod(m.jobs / "s.jsonl", 0o640)
        writer.communicate(b"\n")
        assert answers.readline() == "%d\n" % alice.uid and answers.read() == ""
    assert (m.results / "s.jsonl").stat().st_uid == alice.uid


def test_what_is_queued_or_runs_stays_its_writers(shared, alice, mallory):
    m = shared
    alice.sh("printf '#!/bin/sh\necho begun; exec sleep 1000' > $M/jobs/runs; head -n 1 $M/info/runs/stdout; "
             "printf '#!/bin/sh\n#ppfs: hold=1\nid -ru; id -rg' > $M/jobs/held; "
             "printf '#!/bin/sh\n#ppfs: after=runs\nid -u' > $M/jobs/waits", M=m.mnt)
    for name in "runs", "held", "waits":
        assert refused(m.jobs / name, mallory.uid), name
    assert refused(m.jobs / "runs", -1, mallory.gid)
    os.chown(m.jobs / "held", -1, mallory.gid)  # it has no process yet
    (m.info / "held/hold").write_text("0")
    assert m.result("held") == b"%d\n%d\n" % (alice.uid, mallory.gid)


def test_what_has_run_as_one_is_not_anothers(shared, alice):
    """install -o gives a file away after it has closed it: too late, and it says so."""
    m = shared
    (m.work / "f").write_text("import os\nprint(os.getuid())\n")
    p = m.sh("install -o %s f $M/jobs/x" % alice.name, check=False)
    assert p.returncode == 1 and b"Text file busy" in p.stderr
    assert m.result("x") == b"0\n" and (m.results / "x").stat().st_uid == 0
    with open(m.jobs / "y", "wb") as f:
        f.write(b"#!/bin/sh\nhead -n 1 /proc/self/status\n")
        reader = os.open(m.jobs / "y", os.O_RDONLY)
    m.wait("y")
    with pytest.raises(OSError):
        os.fchown(reader, alice.uid, -1)
    os.close(reader)
    assert (m.results / "y").stat().st_uid == 0


COPIES = {
    "cp -p": "cp -p x $M/jobs/x",
    "cp -a": "cp -a x $M/jobs/x",
    "mv": "mv x $M/jobs/x",
    "rsync -a": "rsync -a x $M/jobs/x",
    "tar": "tar -cf - x | tar -xpf - -C $M/jobs",
    "cpio": "echo x | cpio -o --quiet | (cd $M/jobs && cpio -i --quiet)",
    "chown of a draft": "cp x $M/jobs/.x; chown --reference=x $M/jobs/.x; mv $M/jobs/.x $M/jobs/x",
}


@pytest.mark.parametrize("how", COPIES)
def test_what_root_copies_with_its_owner_runs_as_him(shared, alice, how):
    m = shared
    need_programs(how.split()[0])
    (m.work / "x").write_text("import os\nprint(os.getuid(), os.getgid())\n")
    os.chown(m.work / "x", alice.uid, alice.gid)
    p = m.sh(COPIES[how], check=False)
    assert (p.returncode, p.stderr) == (0, b"")
    assert m.result("x") == b"%d %d\n" % (alice.uid, alice.gid)
    assert (m.results / "x").stat().st_uid == alice.uid


def test_a_stream_that_root_copies_with_its_owner(shared, alice):
    """Its calls run while it is copied, and so as root: said. As a draft it becomes his."""
    m = shared
    need_programs("rsync")
    (m.work / "s.jsonl").write_text(json.dumps({"call": "os.getuid"}) + "\n")
    os.chown(m.work / "s.jsonl", alice.uid, alice.gid)
    p = m.sh("cp -p s.jsonl $M/jobs/s.jsonl", check=False)
    assert p.returncode == 1 and b"Text file busy" in p.stderr
    assert m.result("s.jsonl") == b"0\n" and (m.results / "s.jsonl").stat().st_uid == 0
    m.sh("rm $M/results/s.jsonl; rsync -a s.jsonl $M/jobs/")
    assert m.result("s.jsonl") == b"%d\n" % alice.uid and (m.results / "s.jsonl").stat().st_uid == alice.uid


def test_a_job_that_is_pulled_back_and_given_away(shared, alice, mallory):
    """It runs as its new owner, and nothing of the old one goes with it but its text: no options of a group of his, no
    directory, where he has chosen what a program finds."""
    m = shared
    mallory.sh("mkdir -m 1777 $M/jobs/G; echo env=WHO:mallory hold=1 > $M/jobs/G/.options; "
               "echo 'raise SystemExit(0)' > wave.py; chmod 755 .; "
               "printf 'import wave\n%s\nimport os; print(os.getcwd())\n' > $M/jobs/G/x" % SAYS.replace("'", "\""), M=m.mnt)
    assert m.state("G/x") == "held" and refused(m.jobs / "G/x", alice.uid)
    os.rename(m.jobs / "G/x", m.jobs / ".x")
    os.chown(m.jobs / ".x", alice.uid, alice.gid)
    os.rename(m.jobs / ".x", m.jobs / "x")
    who, where = m.result("x").decode().splitlines()
    assert who == "None %d" % alice.uid and where != str(mallory.home)
    assert "directory of its own" in m.why("x")


def test_options_of_a_group_are_left_with_it(shared, alice):
    m = shared
    alice.sh("mkdir $M/jobs/G; echo env=WHO:alice hold=1 timeout=1h > $M/jobs/G/.options; echo \"%s\" > $M/jobs/G/x; "
             "mv $M/jobs/G/x $M/jobs/.x; mv $M/jobs/.x $M/jobs/x" % SAYS, M=m.mnt)
    assert m.result("x") == b"None %d\n" % alice.uid


def test_who_had_it_reads_it_no_more(shared, alice, mallory):
    m = shared
    mallory.sh("umask 077; echo 'print(1)' > $M/jobs/.x; cat $M/jobs/.x $M/info/.x/spec", M=m.mnt)
    os.chown(m.jobs / ".x", alice.uid, alice.gid)
    p = mallory.sh("cat $M/jobs/.x; cat $M/info/.x/spec; cat $M/info/.x/stdout; echo x >> $M/jobs/.x; mv $M/jobs/.x $M/jobs/x; "
                   "rm -f $M/jobs/.x", M=m.mnt)
    assert p.stdout == ""
    assert alice.sh("cat $M/jobs/.x; mv $M/jobs/.x $M/jobs/x; cat $M/results/x", M=m.mnt).stdout == "print(1)\n1\n"
    assert mallory.sh("cat $M/results/x", M=m.mnt).stdout == ""
    assert stat.S_IMODE((m.results / "x").stat().st_mode) == 0o400
