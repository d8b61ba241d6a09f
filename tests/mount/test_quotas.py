"""What one user may take: of memory, of the disk, of the queue."""

import os
import subprocess

import pytest

from ppfsmount import PPFS, high_water, sanitized, wait_until
from streamframes import ERROR, MAGIC, RESULT, Named, frames, naming, sent


@pytest.mark.parametrize("head,says", [
    ("", "Python source may have 16 MiB at most"),
    ("#!/usr/bin/python3", "Python source may have 16 MiB at most"),
    ("[1", "Python source may have 16 MiB at most"),
    ("{", "16 MiB"),
])
def test_a_large_text_is_not_read_whole(shared, mallory, head, says):
    before = high_water(shared.pids()["daemon"])
    p = mallory.sh("(echo '%s'; yes '# filler' | head -c 20000000; truncate -s 6G /dev/fd/1) > $M/jobs/x" % head,
                   M=shared.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: shared.state("x") == "failed", "x to be refused")
    assert says in shared.why("x")
    if not sanitized():
        assert high_water(shared.pids()["daemon"]) - before < 100 << 20


def test_a_large_file_of_holes_is_refused(shared, mallory):
    before = high_water(shared.pids()["daemon"])
    p = mallory.sh("truncate -s 6G $M/jobs/x", M=shared.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: shared.state("x") == "failed", "x to be refused")
    assert "none of what a job may be" in shared.why("x")
    if not sanitized():
        assert high_water(shared.pids()["daemon"]) - before < 100 << 20


# --- what a user may have ---------------------------------------------------------------------------------------


@pytest.fixture
def limited(new_mount, mallory):
    """Mounts for all, with that quota for mallory."""
    def start(quota, cpus=0):
        mount = new_mount(cpus=cpus, options=["-o", "allow_other"])
        mount.work.chmod(0o777)
        mount.work.parent.joinpath("quota").write_text("# as the admin says\n\n* drafts=1000\n%s %s\n" % (mallory.name, quota))
        return mount.start("--quota", mount.work.parent / "quota")
    return start


OVER = "Disk quota exceeded"


def write(user, mount, name, text="true"):
    return user.sh("printf '#!/bin/sh\\n%s\\n' > src && cp src $M/jobs/%s" % (text, name), M=mount.mnt).stderr


def test_jobs_that_have_not_ended(limited, alice, mallory):
    m = limited("jobs=3")
    for name in "abc":
        assert write(mallory, m, name) == ""
    assert OVER in write(mallory, m, "d")
    assert (m.state("d"), m.why("d")) == ("draft", "stays a draft: its user has as many jobs that have not ended as the "
                                          "quota allows; write it again later, or remove it")
    assert write(mallory, m, ".e") == ""
    assert OVER in mallory.sh("mv $M/jobs/.e $M/jobs/e", M=m.mnt).stderr
    assert OVER in mallory.sh("echo '{\"call\": \"abs\", \"args\": [1]}' | tee $M/jobs/s.jsonl", M=m.mnt).stderr
    assert write(alice, m, "alices") == "" and m.state("alices") == "queued"
    assert mallory.sh("rm $M/jobs/a && mv $M/jobs/.e $M/jobs/e", M=m.mnt).stderr == ""
    assert m.state("e") == "queued"
    m.kill_daemon()
    assert OVER in write(mallory, m, "d")
    (m.mnt / "nodes/local/cpus").write_text("2\n")
    wait_until(lambda: m.state("e") == "done", "what was queued to run")
    wait_until(lambda: (m.mnt / "info/.wait").read_text(), "all to end")
    assert write(mallory, m, "d") == ""
    wait_until(lambda: m.state("d") == "done", "d to run")
    assert "user %d is refused more: he has 3 jobs that have not ended, and would be over his quota" % mallory.uid in m.log()


def test_a_name_that_runs_is_refused_to_what_is_still_open(limited, mallory):
    """Closed once under the name of a draft, and open elsewhere, it would be queued without being asked."""
    m = limited("jobs=2")
    names = "abc"
    for name in names:
        p = mallory.sh("cd $M/jobs; exec 3> .%s; echo 'x = 1' >&3; true 4>&3; mv .%s %s" % (name, name, name), M=m.mnt)
        assert p.stderr == "" if name != "c" else OVER in p.stderr
    assert [m.state(name) for name in "ab"] == ["queued"] * 2 and (m.jobs / ".c").exists()


def test_a_job_that_asks_for_more_than_a_new_quota_holds_up_nobody(limited, mallory):
    m = limited("slots=2")
    assert write(mallory, m, "large", "#ppfs: cpus=2") == "" and write(mallory, m, "small") == ""
    m.unmount()
    (m.work.parent / "quota").write_text("* slots=1\n")
    m.cpus = 2
    m.start("--quota", m.work.parent / "quota")
    assert m.result("small") == b""
    wait_until(lambda: m.state("large") == "waiting", "it to be put aside")
    assert m.why("large") == "it asks for 2 slots, and the quota of its user allows 1"


def test_a_group_is_let_go_as_a_whole(limited, mallory):
    m = limited("jobs=3")
    assert mallory.sh("mkdir $M/jobs/.g", M=m.mnt).stderr == ""
    for name in "abcd":
        assert write(mallory, m, ".g/" + name) == ""
    assert mallory.sh("mv $M/jobs/.g $M/jobs/g", M=m.mnt).stderr == ""
    wait_until(lambda: m.state("g/d") == "queued", "all of it to be queued")
    assert mallory.sh("mkdir $M/jobs/.h", M=m.mnt).stderr == ""
    assert write(mallory, m, ".h/a") == ""
    assert OVER in mallory.sh("mv $M/jobs/.h $M/jobs/h", M=m.mnt).stderr


def test_drafts_and_directories(limited, alice, mallory):
    m = limited("drafts=4")
    assert mallory.sh("cd $M/jobs; mkdir d; echo x > .a; echo x > .b; echo x > d/.c", M=m.mnt).stderr == ""
    assert OVER in mallory.sh("echo x > $M/jobs/.e", M=m.mnt).stderr
    assert OVER in mallory.sh("mkdir $M/jobs/f", M=m.mnt).stderr
    assert sorted(p.name for p in m.jobs.iterdir()) == [".a", ".b", "d"]
    os.chown(m.jobs / ".a", alice.uid, alice.gid)
    assert mallory.sh("echo x > $M/jobs/.e", M=m.mnt).stderr == ""
    assert OVER in mallory.sh("echo x > $M/jobs/.f", M=m.mnt).stderr
    assert mallory.sh("rm $M/jobs/d/.c && rmdir $M/jobs/d && echo x > $M/jobs/.f && mkdir $M/jobs/g", M=m.mnt).stderr == ""


def test_bytes(limited, alice, mallory):
    m = limited("bytes=2M", cpus=2)
    assert OVER in mallory.sh("truncate -s 3M $M/jobs/.a", M=m.mnt).stderr
    assert OVER in mallory.sh("head -c 3M /dev/zero > $M/jobs/.b", M=m.mnt).stderr
    for name in "cdef":  # what is open at once counts together
        mallory.sh("head -c 1M /dev/zero > $M/jobs/.%s" % name, M=m.mnt)
    have = sum(p.stat().st_size for p in m.jobs.iterdir())
    assert 1 << 20 <= have <= 2 << 20
    assert "not ended" not in m.log() and "bytes, and would be over his quota" in m.log()
    assert mallory.sh("rm $M/jobs/.*", M=m.mnt).stderr == ""
    assert write(mallory, m, "x", "head -c 3M /dev/zero") == ""
    wait_until(lambda: m.state("x") == "failed", "x to fail")
    assert m.why("x").startswith("its output was not kept to its end: that would have been more bytes than the quota of its "
                                 "user allows; ")
    assert write(alice, m, "y", "head -c 3M /dev/zero") == "" and len(m.result("y")) == 3 << 20
    mallory.sh("rm $M/failures/x", M=m.mnt)
    assert write(mallory, m, "z", "head -c 1M /dev/zero") == "" and len(m.result("z")) == 1 << 20
    assert write(mallory, m, "w", "head -c 1M /dev/zero") == ""
    wait_until(lambda: m.state("w") == "failed", "w to fail")


def test_bytes_of_a_stream(limited, mallory):
    m = limited("bytes=1M", cpus=2)
    line = '{"call": "operator.mul", "args": ["xxxxxxxxxx", 10000]}'
    mallory.sh("yes '%s' | head -n 100 > $M/jobs/s.jsonl" % line, M=m.mnt)
    wait_until(lambda: m.state("s.jsonl") == "failed", "the stream to end")
    assert "more bytes than the quota allows" in m.why("s.jsonl")


def test_answers_that_wait_for_an_older_one_count_as_what_they_are(limited, mallory):
    m = limited("bytes=20M", cpus=3)
    wait = "until [ -e %s/go ]; do sleep 0.02; done" % m.work
    p = mallory.sh("""(echo '{"call": "os.system", "args": ["%s"]}'
                      yes '{"call": "operator.mul", "args": ["xxxxxxxxxx", 100]}' | head -n 9000) > $M/jobs/s.jsonl"""
                   % wait, M=m.mnt)
    assert p.stderr == ""
    wait_until(lambda: m.why("s.jsonl").startswith("9000 calls are answered"), "all but the first to be answered")
    (m.work / "go").touch()
    wait_until(lambda: m.state("s.jsonl") != "running", "the stream to end")
    assert (m.state("s.jsonl"), m.result("s.jsonl").count(b"\n")) == ("done", 9001)
    assert mallory.sh("truncate -s 8M $M/jobs/.a", M=m.mnt).stderr == ""
    assert OVER in mallory.sh("truncate -s 12M $M/jobs/.a", M=m.mnt).stderr


def test_answers_that_wait_are_refused_when_they_are_too_many(limited, mallory):
    m = limited("bytes=4M", cpus=3)
    mallory.sh("""(echo '{"call": "time.sleep", "args": [1000]}'
                   yes '{"call": "operator.mul", "args": ["xxxxxxxxxx", 100]}' | head -n 9000) > $M/jobs/s.jsonl""", M=m.mnt)
    wait_until(lambda: m.state("s.jsonl") == "failed", "the stream to fail")
    assert "more bytes than the quota allows" in m.why("s.jsonl")


def test_values_of_streams(limited, mallory):
    """They outlive their streams, as long as an older one has not ended; what that keeps is bounded too."""
    m = limited("bytes=66M", cpus=1)
    (m.work / "magic").write_bytes(MAGIC)
    p = mallory.popen(["/bin/bash", "-c", "exec 3> %s/jobs/open; cat magic >&3; read" % m.mnt], stdin=subprocess.PIPE,
                      cwd=m.work)
    wait_until(lambda: (m.jobs / "open").exists() and m.state("open") == "running", "a stream that stays open")

    def kind_of_answer(n):
        digest, func = sent(b"%d" % n * (60 << 20))
        (m.work / "stream").write_bytes(MAGIC + func + naming(1, len, Named(digest), lists=[digest]))
        assert mallory.sh("cp %s $M/jobs/s" % (m.work / "stream"), M=m.mnt).stderr == ""
        kind, = (kind for kind, _, _ in frames(m.result("s")) if kind in (RESULT, ERROR))
        assert mallory.sh("rm $M/results/s", M=m.mnt).stderr == ""
        return kind

    assert [kind_of_answer(n) for n in range(6)] == [RESULT] * 5 + [ERROR]
    assert "bytes of functions and values, and would be over his quota" in m.log()
    p.communicate(b"\n")
    wait_until(lambda: m.state("open") == "done", "the stream to end")
    assert kind_of_answer(7) == RESULT, "what it kept is thrown away first"


def test_slots(limited, alice, mallory):
    m = limited("slots=1", cpus=2)
    wait = "until [ -e %s/go ]; do sleep 0.02; done" % m.work
    for name in "ab":
        assert write(mallory, m, name, wait) == ""
    wait_until(lambda: m.state("a") == "running", "a to run")
    assert (m.state("b"), m.why("b")) == ("queued", "queued: its user has 1 slots now, and the quota allows 1")
    assert write(alice, m, "c") == ""
    assert m.result("c") == b""
    assert write(mallory, m, "d", "#ppfs: cpus=2") == ""
    wait_until(lambda: m.state("d") == "failed", "d to be refused")
    assert m.why("d") == "it asks for 2 slots, and the quota of its user allows 1"
    (m.work / "go").touch()
    assert m.result("b") == b""


@pytest.mark.parametrize("slots", [1, 2])
def test_a_stream_that_is_idle_keeps_no_slot_from_a_job_of_its_user(limited, mallory, slots):
    m = limited("slots=%d" % slots, cpus=3)
    p = mallory.sh("""exec 3> $M/jobs/s.jsonl; echo '{"call": "abs", "args": [-1]}' >&3; read -r a < $M/results/s.jsonl; echo $a
                      printf '#!/bin/sh\n#ppfs: cpus=%d\necho ran\n' > src; cp src $M/jobs/x
                      timeout 20 cat $M/results/x; cat $M/info/s.jsonl/state""" % slots, M=m.mnt)
    assert (p.stdout, p.stderr) == ("1\nran\nrunning\n", "")


def test_a_stream_of_a_user_at_his_quota_gives_turns_to_his_other_work(limited, mallory):
    m = limited("slots=1", cpus=2)
    p = mallory.sh("""yes '{"call": "time.sleep", "args": [0.01]}' | head -n 3000 > $M/jobs/s.jsonl
                      read -r a < $M/results/s.jsonl; echo $a; echo 'print("ran")' > src; cp src $M/jobs/x
                      timeout 20 cat $M/results/x; echo '{"call": "abs", "args": [-1]}' > $M/jobs/t.jsonl
                      timeout 20 cat $M/results/t.jsonl; cat $M/info/s.jsonl/state""", M=m.mnt)
    assert (p.stdout, p.stderr) == ("null\nran\n1\nrunning\n", "")


@pytest.mark.parametrize("allowed,inner", [(1, 1), (2, 2)])
def test_a_job_that_waits_for_another_has_no_slot_of_the_quota(limited, mallory, allowed, inner):
    """Its own could not begin, and it would wait for ever, with all other slots free."""
    m = limited("slots=%d" % allowed, cpus=4)
    assert write(mallory, m, "outer", "until [ -e %s/go ]; do sleep 0.02; done; exec cat $PPFS/results/inner" % m.work) == ""
    wait_until(lambda: m.state("outer") == "running", "outer to run")
    assert write(mallory, m, "inner", "#ppfs: cpus=%d\necho in" % inner) == ""
    wait_until(lambda: m.why("inner").endswith("the quota allows %d" % allowed), "inner to wait")
    (m.work / "go").touch()
    assert m.result("outer") == b"in\n"


@pytest.mark.parametrize("text,says", [
    ("root jobs=3\nnobody-of-that-name jobs=1\n", "line 2: there is no user nobody-of-that-name"),
    ("* jobs=3 bites=4\n", "line 1: bites=4 is none of jobs=N, bytes=SIZE, drafts=N, slots=N, waits=N"),
    ("# x\n\n0 jobs=-3\n", "line 3: jobs=-3 is none of jobs=N, bytes=SIZE, drafts=N, slots=N, waits=N"),
    ("* bytes=99999999999G\n", "line 1: bytes=99999999999G is none of jobs=N, bytes=SIZE, drafts=N, slots=N, waits=N"),
    ("* jobs=4k\n", "line 1: jobs=4k is none of jobs=N, bytes=SIZE, drafts=N, slots=N, waits=N"),
    ("* jobs=4 bytes=1G jobs=none\n", "line 1: jobs= stands twice"),
    ("nobody waits=1\n* jobs=4\n65534 waits=9\n", "line 3: 65534 has a line already"),
    ("* waits=1\n\n* jobs=4\n", "line 3: * has a line already"),
])
def test_a_file_that_is_wrong_is_refused(new_mount, text, says):
    m = new_mount(options=["-o", "allow_other"])
    (m.work.parent / "quota").write_text(text)
    p = m.run("--quota", m.work.parent / "quota")
    assert (p.returncode, p.stderr) == (1, "ppfs: --quota %s, %s\n" % (m.work.parent / "quota", says))
    p = m.run("--quota", m.work / "none")
    assert (p.returncode, p.stderr) == (1, "ppfs: --quota %s: No such file or directory\n" % (m.work / "none"))


@pytest.mark.parametrize("mode", [0o602, 0o620])
def test_a_file_that_others_write_is_refused(new_mount, mallory, mode):
    m = new_mount(options=["-o", "allow_other"])
    (m.work.parent / "quota").write_text("* jobs=3\n")
    os.chown(m.work.parent / "quota", 0, mallory.gid)
    (m.work.parent / "quota").chmod(mode)
    p = m.run("--quota", m.work.parent / "quota")
    assert p.returncode == 1 and "it has mode %04o, so another user could say" % mode in p.stderr


def test_a_quota_that_binds_nobody_is_refused(new_mount, mallory):
    """Only with root's allow_other are there other users who submit; whoever relies on it is not to be left without."""
    says = ("ppfs: --quota would bind nobody: other users submit only where root mounts with -o allow_other "
            "(ppfs --help shows the options)\n")
    m = new_mount()
    (m.work.parent / "quota").write_text("* jobs=3\n")
    for options in ["--quota", m.work.parent / "quota"], ["-o", "quota=%s" % (m.work / "quota")]:
        p = m.run(*options)
        assert (p.returncode, p.stderr) == (2, says)
    p = mallory.sh("mkdir mnt; echo '* jobs=3' > quota; %s -o allow_other --quota quota --state $PWD/state mnt" % PPFS)
    assert (p.returncode, p.stderr) == (2, says)


@pytest.mark.parametrize("quota,cpus,options", [
    ("slots=2", 3, "cpus=2"), ("slots=2", 3, "cpus=2 memory=256M"), ("slots=9", 2, "cpus=2"), ("slots=9", 2, "cpus=2 memory=256M"),
    ("slots=4", 5, "cpus=4"), ("slots=9", 4, "cpus=4")])
def test_a_job_of_several_slots_beside_a_stream_of_its_user_that_is_never_idle(limited, mallory, quota, cpus, options):
    m = limited(quota, cpus=cpus)
    p = mallory.sh("""yes '{"call": "time.sleep", "args": [0.005]}' | head -n 20000 > $M/jobs/s.jsonl
                      read -r a < $M/results/s.jsonl; printf '#!/bin/sh\\n#ppfs: %s\\necho ran\\n' > src; cp src $M/jobs/x
                      timeout 20 cat $M/results/x; cat $M/info/s.jsonl/state; rm $M/jobs/s.jsonl""" % options, M=m.mnt)
    assert (p.stdout, p.stderr) == ("ran\nrunning\n", "")


def test_files_that_travel_count(limited, mallory):
    m = limited("bytes=1M", cpus=1)
    p = mallory.sh(r"head -c 2000000 /dev/zero > a; head -c 20 a > b; for i in a b; do "
                   r"printf '#!/bin/sh\n#ppfs: needs=%s gives=c\nhead -c 2000000 /dev/zero > c; [ -e b ] && echo > c; true' $i > $M/jobs/$i; "
                   r"cat $M/results/$i; done; printf '#!/bin/sh\n#ppfs: gives=c\nhead -c 2000000 /dev/zero > c' > $M/jobs/c; cat $M/results/c", M=m.mnt)
    assert p.stderr.count("Input/output error") == 2 and not (mallory.home / "c").read_bytes().strip()
    assert m.why("a").startswith("needs=: these files are more bytes than the quota of its user allows")
    assert m.state("b") == "done" and "the quota of its user allows" in m.why("c")
