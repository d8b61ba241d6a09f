"""ppfs(5) keep=, ppfs(1) --keep: ended jobs are forgotten after a time, and only those of which that was asked."""
import os
import subprocess

import pytest
from ppfsmount import wait_until
from processes import in_fuse

JOB = "#!/bin/sh\necho x\n"
BAD = "#!/bin/sh\nexit 1\n"


def there(m):
    """The names in info/, of jobs."""
    return {name for name in os.listdir(m.info) if not name.startswith(".")}


def put(m, name, text, *options):
    m.put(name, text.replace("\n", "\n#ppfs: %s\n" % " ".join(options), 1) if options else text)


def forgotten(m, *names):
    wait_until(lambda: not there(m) & set(names), "%s to be forgotten" % ", ".join(names))


def test_of_a_job(m):
    put(m, "stays", JOB)
    put(m, "held", JOB, "keep=1ms", "hold=1")
    put(m, "long", JOB, "keep=1h")
    put(m, "ever", JOB, "keep=0")
    put(m, "done", JOB, "keep=1ms")
    put(m, "failed", BAD, "keep=1ms")
    put(m, "cancelled", JOB, "keep=1ms", "hold=1")
    m.put("json", {"call": "abs", "args": [-1], "keep": "1ms"})
    os.unlink(m.jobs / "cancelled")
    forgotten(m, "done", "failed", "cancelled", "json")
    for name in ("stays", "long", "ever"):
        m.wait(name)
    assert there(m) == {"stays", "held", "long", "ever"}
    assert "done" not in os.listdir(m.results) and "failed" not in os.listdir(m.failures)
    (m.info / "held/hold").write_text("0")
    forgotten(m, "held")


def test_of_a_group_and_streams(m):
    os.makedirs(m.jobs / "G/H")
    (m.jobs / "G/.options").write_text("keep=1500us\n")
    assert (m.jobs / "G/.options").read_text() == "keep=1500us\n"
    (m.jobs / "G/H/.options").write_text("keep=0\n")
    assert (m.jobs / "G/H/.options").read_text() == "keep=0\n"
    m.put("G/x", JOB)
    m.put("G/s.jsonl", '{"call": "abs", "args": [-1]}\n')
    m.put("G/H/x", JOB)
    m.wait("G/H/x")
    wait_until(lambda: m.sh("cat $M/info/G/.wait").stdout == b"done 1 failed 0\n", "the others to be forgotten")
    assert os.listdir(m.results / "G") == ["H"] and m.result("G/H/x") == b"x\n"


def test_of_arrays(m):
    """What waits for an array hears of an element that failed, however short that was to be kept."""
    for name in ("fifo0", "fifo1"):
        os.mkfifo(m.work / name)
    put(m, "A", "#!/bin/sh\nread line < %s/fifo$PPFS_INDEX; exit $line\n" % m.work, "array=0-1", "keep=1ms")
    put(m, "then", JOB, "after=A")
    (m.work / "fifo0").write_text("1\n")
    assert m.wait("A/0") == "failed"
    put(m, "other", JOB, "keep=1ms")
    forgotten(m, "other")
    assert m.state("A/0") == "failed"
    (m.work / "fifo1").write_text("0\n")
    assert m.wait("then") == "failed" and "A" in m.why("then")
    put(m, "B", "#!/bin/sh\n", "array=0-2", "keep=1ms")
    m.sh("cat $M/info/B/.wait")
    wait_until(lambda: m.sh("ls $M/info/B", check=False).stdout == b"", "its elements to be forgotten")


def test_one_that_runs_again_is_kept_anew(m):
    put(m, "x", BAD, "keep=1ms", "hold=1")
    put(m, "y", BAD, "keep=1h")
    m.wait("y")
    m.sh("mv $M/jobs/x $M/jobs/.x; mv $M/failures/y $M/jobs/y; sed -i s/keep=1ms/keep=1h/ $M/jobs/.x; mv $M/jobs/.x $M/jobs/x; "
         "echo 0 > $M/info/x/hold")
    assert m.wait("x") == m.wait("y") == "failed"
    put(m, "z", JOB, "keep=1ms")
    forgotten(m, "z")
    assert there(m) == {"x", "y"}


def test_what_is_read_stays(m):
    put(m, "read", JOB, "keep=1ms", "hold=1")
    reader = m.popen("bash", "-c", "exec 3< $0; echo open; read; cat <&3", m.results / "read", stdin=subprocess.PIPE)
    wait_until(lambda: in_fuse(reader.pid), "the open to wait")
    (m.info / "read/hold").write_text("0")
    assert reader.stdout.readline() == b"open\n"
    put(m, "other", JOB, "keep=1ms")
    forgotten(m, "other")
    assert m.state("read") == "done"
    assert reader.communicate(b"\n")[0] == b"x\n"


def test_over_a_kill(m):
    put(m, "x", JOB, "keep=2s")
    m.wait("x")
    m.kill_daemon()
    forgotten(m, "x")


def test_of_the_mount(new_mount):
    m = new_mount().start()
    for name in ("a", "b"):
        put(m, name, JOB)
    put(m, "ever", JOB, "keep=0")
    put(m, "held", JOB, "hold=1")
    for name in ("a", "b", "ever"):
        m.wait(name)
    m.unmount()
    m.options = ("--keep", "1500ms")
    m.start()
    forgotten(m, "a", "b")
    put(m, "c", BAD)
    put(m, "mine", JOB, "keep=1h")
    m.wait("mine")
    forgotten(m, "c")
    (m.info / "held/hold").write_text("0")
    forgotten(m, "held")
    assert there(m) == {"ever", "mine"}
    m.unmount()
    m.options = ("--keep", "1h")
    m.start()
    put(m, "d", JOB)
    m.wait("d")
    m.unmount()
    m.options = ()
    m.start()
    put(m, "e", JOB)
    put(m, "f", JOB, "keep=1ms")
    forgotten(m, "f")
    assert there(m) == {"ever", "mine", "d", "e"}


def test_empty_groups_go_with_their_last_job(new_mount):
    m = new_mount()
    m.options = ("--keep", "500ms")
    m.start()
    for name in ("gone/below", "own", "fails", "later"):
        os.makedirs(m.jobs / name)
    (m.jobs / "own/.options").write_text("priority=1\n")
    for name, text in ("gone/below/x", JOB), ("own/x", JOB), ("fails/x", BAD):
        m.put(name, text)
    put(m, "array", JOB, "array=0-3")
    put(m, "later/x", JOB, "hold=1")
    forgotten(m, "gone", "array")
    wait_until(lambda: os.listdir(m.results / "own") == [], "the other to be forgotten")
    assert there(m) == {"own", "fails", "later"} and m.state("later/x") == "held"
    with pytest.raises(FileNotFoundError):
        (m.jobs / "gone/below/y").write_text(JOB)
    os.mkdir(m.jobs / "gone")
    m.put("gone/y", JOB)
    assert m.result("gone/y") == b"x\n"


def test_nobody_removes_the_group_of_another(shared, alice, mallory):
    m = shared
    m.unmount()
    m.options = (*m.options, "--keep", "500ms")
    m.start()
    alice.sh("mkdir -m 777 $M/jobs/hers $M/jobs/other", M=m.mnt)
    write = "echo 'print(1)' >$M/jobs/%s/j; cat $M/results/%s/j"
    mallory.sh("mkdir $M/jobs/hers/his; " + write % (("hers/his",) * 2), M=m.mnt)
    alice.sh(write % (("other",) * 2), M=m.mnt)
    forgotten(m, "other")
    wait_until(lambda: not (m.info / "hers/his").exists(), "his own to go")
    assert (m.jobs / "hers").stat().st_uid == alice.uid
    m.put("hers/root", JOB)
    m.wait("hers/root")
    wait_until(lambda: not (m.info / "hers/root").exists(), "that to go")
    assert there(m) == {"hers"}


@pytest.mark.parametrize("option", [("--keep-results", "1"), ("--keep", "1ms")])
def test_a_group_with_a_failure_is_no_success(new_mount, option):
    """Whether all of it succeeded is asked after it was forgotten, too; who gave it a keep= has asked for that."""
    m = new_mount().start()
    os.mkdir(m.jobs / "own")
    (m.jobs / "own/.options").write_text("keep=1ms\n")
    for name in ("early", "late"):
        os.mkdir(m.jobs / name)
        for n in range(4):
            put(m, "%s/%d" % (name, n), JOB if n else BAD)
        assert m.sh("cat $M/info/%s/.wait" % name, check=False).stdout.endswith(b"failed 1\n")
        if name == "early":
            m.unmount()
            m.options = option
            m.start()
    put(m, "own/bad", BAD)
    put(m, "array", "#!/bin/sh\n[ $PPFS_INDEX != 3 ]\n", "array=0-7")
    put(m, "last", JOB)
    wait_until(lambda: os.listdir(m.results / "late") in (["3"], []) and not os.listdir(m.results / "early"), "what succeeded to be forgotten")
    wait_until(lambda: m.sh("cat $M/info/array/.wait", check=False).stdout.endswith(b"failed 1\n"), "the array to end")
    for name in ("early", "late", "array"):
        assert m.sh("cat $M/info/%s/.ok" % name, check=False).returncode == 1
        assert m.sh("cat $M/info/%s/.wait" % name, check=False).stdout.endswith(b"failed 1\n")
    assert m.sh("cat $M/info/own/.ok", check=False).stdout.startswith(b"done 0 failed 0")


@pytest.mark.parametrize("value", ["", "x", "-1", "1w", "99999d", "0s"])
def test_what_is_no_time(m, value):
    put(m, "x", JOB, "keep=" + value)
    assert m.wait("x") == "failed" and "keep" in m.why("x")
    p = m.run("--keep", value)
    assert p.returncode == 2 and "--keep needs a time" in p.stderr and p.stderr.count("\n") == 1


# --- --keep-results -----------------------------------------------------------------------------------------------

def ended(m, prefix, count, text=JOB):
    """The names of so many jobs that have ended one after the other."""
    names = ["%s%d" % (prefix, i) for i in range(count)]
    for name in names:
        m.put(name, text)
        m.wait(name)
    return names


def test_so_many_are_kept(new_mount):
    m = new_mount().start()
    old = ended(m, "old", 4)
    put(m, "ever", JOB, "keep=0")
    put(m, "long", BAD, "keep=1h")
    put(m, "held", JOB, "hold=1")
    for name in ("ever", "long"):
        m.wait(name)
    m.unmount()
    m.options = ("--keep-results", "3")
    m.start()
    forgotten(m, old[0])
    others = {"ever", "long", "held"}
    assert there(m) == {*old[1:], *others}
    new = ended(m, "new", 1, BAD)
    forgotten(m, old[1])
    os.unlink(m.results / old[3])  # what was forgotten by hand makes room
    new += ended(m, "more", 1)
    m.kill_daemon()
    assert there(m) == {old[2], *new, *others}
    m.sh("mv $M/failures/new0 $M/jobs/new0; rm $M/jobs/held")  # cancelled ones count, and who runs again is a new one
    m.wait("new0")
    forgotten(m, old[2])
    assert there(m) == {*new, *others}
    m.unmount()
    m.options = ()
    m.start()
    rest = ended(m, "x", 3)
    os.unlink(m.results / "x0")
    assert there(m) == {*new, *others, *rest[1:]}
    m.unmount()
    m.options = ("--keep-results", "2")
    m.start()
    forgotten(m, *new, "held")
    assert there(m) == {"ever", "long", *rest[1:]}


def test_so_many_of_each_user(shared, alice, mallory):
    m = shared
    m.unmount()
    m.options = (*m.options, "--keep-results", "2")
    m.start()
    hers = "echo 'print(1)' >$M/jobs/hers; cat $M/results/hers"
    assert alice.sh(hers, M=m.mnt).stdout == "1\n"
    mallory.sh("for i in 1 2 3 4 5; do echo 'print(1)' >$M/jobs/$i; cat $M/results/$i; done", M=m.mnt)
    forgotten(m, "1", "2", "3")
    assert there(m) == {"hers", "4", "5"}


def test_what_one_reads_keeps_nothing_of_others(shared, alice):
    m = shared
    m.unmount()
    m.options = (*m.options, "--keep-results", "1")
    m.start()
    put(m, "root", JOB)
    m.wait("root")
    with open(m.results / "root"):  # root is looked at first
        ended(m, "r", 1)
        alice.sh("for i in 1 2 3; do echo 'print(1)' >$M/jobs/$i; cat $M/results/$i; done", M=m.mnt)
        forgotten(m, "1", "2")


def test_what_is_read_is_kept(new_mount):
    m = new_mount(options=("--keep-results", "1")).start()
    put(m, "read", JOB)
    with open(m.results / "read", "rb") as file:
        ended(m, "y", 2)
        forgotten(m, "y0")
        assert file.read() == b"x\n" and "read" in there(m)


# --- what else could grow -----------------------------------------------------------------------------------------

def test_df_tells_the_room_of_the_state_directory(m):
    mount, state = os.statvfs(m.mnt), os.statvfs(m.statedir)
    assert (mount.f_frsize, mount.f_blocks) == (state.f_frsize, state.f_blocks)


def test_the_log_is_cut_at_its_size(m):
    log = m.statedir / "ppfs.log"
    with open(log, "ab") as file:
        file.write(b"ppfs: old\n" * 105000)
    for name in ("first", "second"):
        with pytest.raises(OSError):
            (m.jobs / ".options").write_text("%s=1\n" % name)
    assert (m.statedir / "ppfs.log.1").stat().st_size >= 1 << 20 > log.stat().st_size
    assert "option second is not known" in log.read_text()
