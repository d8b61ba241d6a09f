"""ppfs(5), array=: a file that runs once for each index."""
import collections
import errno
import json
import os
import pickle
import select
import shutil
import sqlite3
import subprocess

import pytest
from ppfsmount import PPFS, database_of, wait_until

NOTE = "#!/bin/sh\n#ppfs: array=%s\necho $PPFS_INDEX >>$W/ran\n"


def waited(m, name):
    return (m.info / name / ".wait").read_text().strip()


def progress(m, name):
    """{what: number} of info/NAME/.progress"""
    words = (m.info / name / ".progress").read_text().split()
    return {what: int(n) for what, n in zip(words[::2], words[1::2])}


def note(m, indexes):
    """A script that notes that it ran."""
    return (NOTE % indexes).replace("$W", str(m.work))


def rows(m, where="1"):
    """How many rows of jobs the database has."""
    copy = m.base / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    name = database_of(m.statedir)
    for suffix in ("-wal", ""):
        shutil.copy(str(name) + suffix, str(copy / "db") + suffix)
    with sqlite3.connect(copy / "db") as db:
        return db.execute("SELECT count(*) FROM jobs WHERE " + where).fetchone()[0]


# --- which, and in what files ------------------------------------------------------------------------------------

@pytest.mark.parametrize("given,indexes", [
    ("0-4", range(5)), ("3", [3]), ("1,3,7", [1, 3, 7]), ("7,3,1", [1, 3, 7]), ("0-9:4", [0, 4, 8]),
    ("20-29:3,5,8-10", [5, 8, 9, 10, 20, 23, 26, 29]), ("999999998-999999999", [999999998, 999999999]), ("0-2%8", range(3)),
])
def test_indexes(m, given, indexes):
    m.put("a", "#!/bin/sh\n#ppfs: array=%s\necho $PPFS_INDEX $PPFS_JOB\n" % given)
    assert waited(m, "a") == "done %d failed 0" % len(indexes)
    assert sorted(os.listdir(m.results / "a"), key=int) == [str(i) for i in indexes]
    for i in indexes:
        assert m.result("a/%d" % i) == b"%d a/%d\n" % (i, i)


@pytest.mark.parametrize("given", [
    "", "-1", "0-", "5-3", "0-9:0", "a", "1,,2", "1,1", "0-5,3", "01", "0-9%0", "0-9%", "1:2", "1000000000",
    "0-10000000", " 1", "1-2-3", "0x10", ",".join(map(str, range(0, 4098, 2)))])
def test_what_is_no_list_of_indexes_is_refused(m, given):
    m.put("a", "#!/bin/sh\n#ppfs: 'array=%s'\ntouch %s/ran\n" % (given, m.work) if len(given) < 2000 else
          {"run": ["touch", str(m.work / "ran")], "array": given})
    m.failed("a")
    assert "option array=" in m.why("a") and "is not understood" in m.why("a")
    assert not (m.work / "ran").exists() and os.listdir(m.jobs) == []


def test_each_kind_of_file(m):
    m.put("python", "#ppfs: array=1-2\nimport os\nprint(os.environ['PPFS_INDEX'])\n")
    m.put("run", {"run": ["sh", "-c", "echo $PPFS_INDEX"], "array": "1-2"})
    m.put("call", {"call": "os.getenv", "args": ["PPFS_INDEX"], "array": "1-2"})
    (m.jobs / "G").mkdir()
    (m.jobs / "G/.options").write_text("array=1-2 env=PPFS_INDEX:no\n")
    m.put("G/pickle", (os.getenv, ("PPFS_INDEX",)))
    large = "#!/bin/sh\n#ppfs: array=1-2\necho $PPFS_INDEX\n#" + "x" * 100_000 + "\n"
    m.put("large", large)
    wait_until(lambda: (m.jobs / "large").is_dir() or (m.results / "large").is_dir(), "the large file to be read")
    for name, expected in (("python", "%d\n"), ("run", "%d\n"), ("large", "%d\n"), ("call", '"%d"\n')):
        assert waited(m, name) == "done 2 failed 0", name
        assert [m.result("%s/%d" % (name, i)).decode() for i in (1, 2)] == [expected % i for i in (1, 2)]
    assert waited(m, "G/pickle") == "done 2 failed 0"
    assert [pickle.loads(m.result("G/pickle/%d" % i)) for i in (1, 2)] == ["1", "2"]
    assert (m.info / "large/2/spec").read_text() == large
    assert rows(m, "array<>0 AND array<>id") == 10
    with sqlite3.connect(m.base / "copy/db") as db:  # one file for all
        assert db.execute("SELECT count(*) FROM bodies WHERE size>100000").fetchone()[0] == 1


def test_not_for_streams(m):
    m.put("x.jsonl", '{"call": "math.sqrt", "args": [4], "array": "0-3"}\n')
    assert "array= is for a job file" in m.result("x.jsonl").decode()
    (m.jobs / "G").mkdir()
    (m.jobs / "G/.options").write_text("array=0-3\n")
    with pytest.raises(PermissionError):
        m.put("G/y.jsonl", '{"call": "math.sqrt", "args": [4]}\n')
    m.failed("G/y.jsonl")


# --- what it is --------------------------------------------------------------------------------------------------

def test_a_limit(new_mount):
    m = new_mount(cpus=4).start()
    m.put("a", m.gate("a").replace("\n", "\n#ppfs: array=0-9%2\n", 1))
    wait_until(lambda: progress(m, "a")["running"] == 2, "two to run")
    assert progress(m, "a") == {"done": 0, "failed": 0, "running": 2, "waiting": 8, "of": 10}
    assert "2" in m.why("a/5") and m.state("a/5") == "queued"
    m.put("next", "echo = 1\n")
    m.result("next")
    m.open_gate("a")
    assert waited(m, "a") == "done 10 failed 0"


def test_a_limit_outlives_other_options(new_mount):
    """%1 is max=1 as long as .options says no other."""
    m = new_mount(cpus=4).start()
    m.put("a", m.gate("a").replace("\n", "\n#ppfs: array=0-9%1\n", 1))
    wait_until(lambda: progress(m, "a")["running"] == 1, "one to run")
    (m.jobs / "a/.options").write_text("max_fails=3")
    m.put("next", "echo = 1\n")
    m.result("next")
    assert progress(m, "a")["running"] == 1
    (m.jobs / "a/.options").unlink()
    m.put("after", "echo = 1\n")
    m.result("after")
    assert progress(m, "a")["running"] == 1
    (m.jobs / "a/.options").write_text("max=3")
    wait_until(lambda: progress(m, "a")["running"] == 3, "as many as .options says")
    m.open_gate("a")
    assert waited(m, "a") == "done 10 failed 0"


def test_a_held_one_is_a_file(m):
    m.put("a", "#!/bin/sh\n#ppfs: array=0-3 hold=1\necho $PPFS_INDEX\n")
    assert m.state("a") == "held" and (m.jobs / "a").is_file()
    (m.jobs / "a").rename(m.jobs / "b")
    m.sh("echo 0 >$M/info/b/hold")
    assert waited(m, "b") == "done 4 failed 0"
    m.put("c", "#!/bin/sh\n#ppfs: array=0-3 hold=1\n")
    (m.jobs / "c").unlink()
    assert m.state("c") == "cancelled"


def test_after(m):
    m.put("first", m.gate("first"))
    m.put("a", "#!/bin/sh\n#ppfs: array=0-2 after=first\ntest -e %s/first.pid\n" % m.work)
    m.put("last", "#!/bin/sh\n#ppfs: after=a\nls %s/results/a | wc -l\n" % m.mnt)
    assert m.state("a") == "waiting" and "first" in m.why("a")
    assert m.state("last") == "waiting"
    m.open_gate("first")
    assert m.result("last") == b"3\n"
    m.put("later", "#!/bin/sh\n#ppfs: after=a\necho yes\n")
    assert m.result("later") == b"yes\n"


def test_after_one_that_fails(m):
    gate = m.gate("b").replace("\n", "\n#ppfs: array=0-2\n", 1) + "test $PPFS_INDEX != 1\n"
    m.put("b", gate)
    wait_until(lambda: (m.info / "b/.wait").exists(), "b to be a group")
    m.put("after", "#!/bin/sh\n#ppfs: after=b\n")
    assert m.state("after") == "waiting"
    m.open_gate("b")
    m.failed("after")
    assert "b did not succeed" in m.why("after")
    m.put("again", "#!/bin/sh\n#ppfs: after=b\n")
    m.failed("again")
    assert "not all of b succeeded" in m.why("again")
    m.put("x", "#!/bin/sh\n#ppfs: array=0-2 after=b\n")  # fails as one job, and can be submitted again as one
    m.failed("x")
    assert (m.failures / "x").is_file()


def test_after_one_of_which_a_failure_was_forgotten(m):
    m.put("a", "#!/bin/sh\n#ppfs: array=0-1\nexit $PPFS_INDEX\n")
    assert waited(m, "a") == "done 1 failed 1"
    (m.failures / "a/1").unlink()
    m.put("then", "#!/bin/sh\n#ppfs: after=a\n")
    assert m.wait("then") == "failed" and "not all of a succeeded" in m.why("then")
    m.put("b", "#!/bin/sh\n#ppfs: array=0-1 keep=1ms\n")
    wait_until(lambda: m.sh("ls $M/info/b", check=False).stdout == b"", "all of them to be forgotten")
    m.put("later", "#!/bin/sh\n#ppfs: after=b\n")
    assert m.wait("later") == "failed" and "b" in m.why("later")


def test_nothing_else_gets_into_it(m):
    m.put("a", "#!/bin/sh\n#ppfs: array=0-2\nexit $PPFS_INDEX\n")
    assert waited(m, "a") == "done 1 failed 2"
    m.put("bad", "exit(1)\n")
    m.failed("bad")
    for command in ("cp $M/README $M/jobs/a/x", "mkdir $M/jobs/a/x", "mv $M/failures/a/1 $M/jobs/a/2",
                    "mv $M/failures/bad $M/jobs/a/bad", "mv $M/failures/bad $M/jobs/a/0"):
        p = m.sh(command, check=False)
        assert p.returncode == 1 and b"not permitted" in p.stderr, command
    with pytest.raises(IsADirectoryError):
        m.put("a", "print(1)\n")
    m.put("held", "#!/bin/sh\n#ppfs: hold=1\n")
    with pytest.raises(PermissionError):
        (m.jobs / "held").rename(m.jobs / "a/held")
    os.mkdir(m.jobs / "a-directory")
    with pytest.raises(PermissionError):
        (m.jobs / "a-directory").rename(m.jobs / "a/d")


def test_an_element_has_no_file_of_its_own(queue):
    m = queue
    m.put("a", note(m, "0-3"))
    with pytest.raises(PermissionError):
        open(m.jobs / "a/1", "a")
    with pytest.raises(PermissionError):
        (m.jobs / "a/1").rename(m.jobs / ".x")
    assert (m.jobs / "a/1").read_text() == note(m, "0-3")
    (m.jobs / "a/1").rename(m.jobs / "x")
    (m.node / "cpus").write_text("2")
    m.result("x")
    assert waited(m, "a") == "done 3 failed 0"
    assert sorted((m.work / "ran").read_text().split()) == ["0", "1", "2", "3"]


def test_the_failed_run_again(m):
    m.put("a", "#!/bin/sh\n#ppfs: array=0-9 env=K:v\ntest $PPFS_INDEX -lt 7 || test -e %s/good || exit 3\n"
               "echo $PPFS_INDEX $PPFS_ATTEMPT $K\n" % m.work)
    assert waited(m, "a") == "done 7 failed 3"
    assert sorted(os.listdir(m.failures / "a")) == ["7", "8", "9"]
    (m.work / "good").touch()
    m.sh("mv $M/failures/a/7 $M/jobs/a/7; mv $M/failures/a/9 $M/jobs/nine")
    assert m.result("a/7") == b"7 2 v\n" and m.result("nine") == b"9 2 v\n"
    m.sh("mv $M/failures/a/* $M/jobs/a/")
    assert waited(m, "a") == "done 9 failed 0"
    assert (m.info / "a/.ok").read_text() == "done 9 failed 0\n"
    m.sh("rm -r $M/info/a")
    assert not (m.jobs / "a").exists() and m.get("nine", "spec").startswith("#!/bin/sh\n#ppfs: array=0-9")
    (m.results / "nine").unlink()
    wait_until(lambda: rows(m) == 0, "the array's file to be forgotten")


# --- many of them ------------------------------------------------------------------------------------------------

def test_they_become_jobs_as_they_are_wanted(queue):
    m = queue
    m.put("a", note(m, "0-99999") + "sleep 0.02\n")  # so that thousands do not run before the rest is removed
    wait_until(lambda: (m.jobs / "a").is_dir() and len(os.listdir(m.jobs / "a")) == 64, "the first elements")
    assert rows(m) == 65
    assert progress(m, "a") == {"done": 0, "failed": 0, "running": 0, "waiting": 100000, "of": 100000}
    (m.node / "cpus").write_text("4")
    wait_until(lambda: progress(m, "a")["done"] > 200, "some to run")
    assert rows(m, "state<5") < 75
    m.sh("rm -rf $M/jobs/a")  # some of what it lists ends meanwhile
    words = waited(m, "a").split()
    assert words[::2] == ["done", "failed", "cancelled"] and sum(map(int, words[1::2])) == 100000
    ran = (m.work / "ran").read_text().split()
    assert len(ran) == len(set(ran))
    m.sh("rm -r $M/info/a")
    wait_until(lambda: rows(m) == 0, "all to be forgotten")
    jobs = json.loads((m.mnt / "stats.json").read_text())["jobs"]
    assert set(jobs.values()) == {0} and not (m.info / "a").exists()


def test_one_that_is_no_job_yet_can_be_waited_for(queue):
    m = queue
    m.put("a", "#!/bin/sh\n#ppfs: array=0-3998:2\necho $PPFS_INDEX\n")
    wait_until(lambda: (m.jobs / "a").is_dir() and len(os.listdir(m.jobs / "a")) == 64, "the first elements")
    assert (m.state("a/3998"), m.get("a/3998", "spec")) == ("waiting", m.get("a/0", "spec"))
    assert "others of its array" in m.why("a/3998") and "3998" not in os.listdir(m.info / "a")
    for name in ("3999", "4000", "1", "0002", "x", "-2"):
        assert not (m.info / "a" / name).exists() and not (m.results / "a" / name).exists()
    assert not (m.jobs / "a/3998").exists()
    with pytest.raises(OSError) as e:
        (m.info / "a/3998").rmdir()
    assert e.value.errno == errno.EBUSY
    early, late = m.reader(m.results / "a/200"), m.reader(m.results / "a/3998")
    asked = os.open(m.results / "a/3996", os.O_RDONLY | os.O_NONBLOCK)
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    assert poll.poll(0) == []
    (m.node / "cpus").write_text("2")
    assert early.communicate(timeout=60)[0] == b"200\n"
    m.kill_daemon()
    (m.node / "cpus").write_text("0")
    m.sh("rm -rf $M/jobs/a")
    assert late.wait(60) == 1
    assert poll.poll(60000)
    os.close(asked)
    assert "cancelled" in waited(m, "a") and not (m.info / "a/3998").exists()


def test_none_is_lost_nor_run_twice(m):
    m.put("a", note(m, "0-999"))
    for done in (30, 300, 600):
        wait_until(lambda: progress(m, "a")["done"] > done, "some to run")
        m.kill_daemon()
    assert waited(m, "a") == "done 1000 failed 0"
    assert sorted(map(int, os.listdir(m.results / "a"))) == list(range(1000))
    ran = collections.Counter((m.work / "ran").read_text().split())
    assert len(ran) == 1000
    for index, times in ran.items():  # twice only where it was running at a death
        assert times == 1 or int(m.get("a/" + index, "attempt")) >= times


def test_a_queue_of_them_outlives_everything(queue):
    m = queue
    m.put("a", note(m, "0-299"))
    wait_until(lambda: (m.jobs / "a").is_dir() and len(os.listdir(m.jobs / "a")) == 64, "the first elements")
    m.kill_all()
    p = subprocess.run([str(PPFS), "--check", str(m.statedir)], capture_output=True, text=True)
    assert (p.returncode, p.stdout, p.stderr) == (0, "", "")
    m.start()
    assert progress(m, "a")["waiting"] == 300
    (m.node / "cpus").write_text("2")
    assert waited(m, "a") == "done 300 failed 0"
    assert sorted(map(int, (m.work / "ran").read_text().split())) == list(range(300))


def test_all_are_cancelled(queue):
    m = queue
    m.put("a", note(m, "0-999"))
    wait_until(lambda: (m.jobs / "a").is_dir(), "a to begin")
    m.sh("rm -r $M/jobs/a")
    assert waited(m, "a") == "done 0 failed 0 cancelled 1000"
    assert not (m.jobs / "a").exists() and not (m.work / "ran").exists()
    with pytest.raises(OSError) as e:
        open(m.info / "a/.ok")
    assert e.value.errno == errno.EIO
    m.sh("mkdir $M/jobs/G; echo max_fails=1 >$M/jobs/G/.options")
    m.put("G/a", "#!/bin/sh\n#ppfs: array=0-999\nexit 1\n")
    (m.node / "cpus").write_text("1")
    words = waited(m, "G/a").split()
    assert int(words[3]) < 70 and sum(map(int, words[1::2])) == 1000


def test_all_are_held(m):
    m.put("a", note(m, "0-1999"))
    wait_until(lambda: progress(m, "a")["done"] > 100, "some to run")
    m.sh("echo 1 >$M/info/a/.hold")
    wait_until(lambda: (m.info / "a/.hold").read_text() == "", "all to be held")
    wait_until(lambda: progress(m, "a")["running"] == 0, "what ran to end")
    m.kill_daemon()
    done = progress(m, "a")["done"]
    m.put("next", "print(1)\n")
    m.result("next")
    waiting = os.listdir(m.jobs / "a")
    assert progress(m, "a")["done"] == done < 2000 and len(waiting) == 64
    assert {m.state("a/" + name) for name in waiting} == {"held"}
    m.sh("echo 7 >$M/info/a/.priority; echo 0 >$M/info/a/.hold")
    assert waited(m, "a") == "done 2000 failed 0"
    assert m.get("a/1999", "priority") == "7"


# --- users -------------------------------------------------------------------------------------------------------

def test_it_runs_as_its_writer_and_is_as_open_as_its_file(shared, alice, mallory):
    m = shared
    p = alice.sh("umask 77; printf '#!/bin/sh\\n#ppfs: array=0-2\\nid -un\\n' >$M/jobs/a; cat $M/info/a/.wait", M=m.mnt)
    assert p.stdout == "done 3 failed 0\n", p.stderr
    assert alice.sh("cat $M/results/a/*", M=m.mnt).stdout == (alice.name + "\n") * 3
    for command in ("ls $M/results/a", "cat $M/results/a/1", "ls $M/info/a", "cat $M/info/a/1/stdout", "ls $M/jobs/a"):
        p = mallory.sh(command, M=m.mnt)
        assert p.returncode and "Permission denied" in p.stderr, command
    p = alice.sh("printf '#!/bin/sh\\n#ppfs: array=0-99 hold=1\\nid -un\\n' >$M/jobs/b; echo 0 >$M/info/b/hold", M=m.mnt)
    p = mallory.sh("rmdir $M/jobs/b; rm -rf $M/jobs/b; rm -f $M/results/b/*; mv $M/jobs/b $M/jobs/c; touch $M/jobs/b/x", M=m.mnt)
    assert "not permitted" in p.stderr or "denied" in p.stderr
    assert waited(m, "b") == "done 100 failed 0"
    assert mallory.sh("cat $M/results/b/5", M=m.mnt).stdout == alice.name + "\n"


def test_the_options_of_another_users_group_make_none(shared, alice, mallory):
    m = shared
    p = mallory.sh("mkdir -m 777 $M/jobs/G; echo array=0-99 >$M/jobs/G/.options", M=m.mnt)
    assert p.returncode == 0, p.stderr
    p = alice.sh("printf 'print(1)\\n' >$M/tmp; cp /dev/stdin $M/jobs/G/x <<<'print(1)'", M=m.mnt)
    assert "not permitted" in p.stderr
    m.failed("G/x")


def test_quotas_count_those_that_are_jobs(new_user, new_mount, alice):
    m = new_mount(cpus=0, options=["-o", "allow_other"])
    (m.base / "quota").write_text("* jobs=10\n")
    m.start("--quota", m.base / "quota")
    p = alice.sh("printf '#!/bin/sh\\n#ppfs: array=0-99\\n' >$M/jobs/a", M=m.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: (m.jobs / "a").is_dir() and len(os.listdir(m.jobs / "a")) == 10, "ten of them")
    p = alice.sh("cp /dev/stdin $M/jobs/x <<<'print(1)'", M=m.mnt)
    assert "quota" in p.stderr
    (m.node / "cpus").write_text("2")
    assert waited(m, "a") == "done 100 failed 0"


def test_quotas_of_bytes_keep_them_back(new_user, new_mount, alice):
    m = new_mount(cpus=0, options=["-o", "allow_other"])
    (m.base / "quota").write_text("* bytes=20K\n")
    m.start("--quota", m.base / "quota")
    p = alice.sh("printf '#!/bin/sh\\n#ppfs: array=0-99\\n' >$M/jobs/a", M=m.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: (m.jobs / "a").is_dir(), "the array to begin")
    m.put("b", "#!/bin/sh\n#ppfs: array=0-99\n")
    wait_until(lambda: len(os.listdir(m.jobs / "b")) == 64, "those of another user, in turn with hers")
    assert 0 < len(os.listdir(m.jobs / "a")) < 20
    m.unmount()
    (m.base / "quota").write_text("* bytes=20M\n")
    m.start("--quota", m.base / "quota")
    wait_until(lambda: len(os.listdir(m.jobs / "a")) == 64, "hers, as the quota is larger")


def test_options_that_would_have_no_effect_are_refused(m):
    (m.jobs / "a").write_text("#!/bin/sh\n#ppfs: array=1-3\nuntil [ -e %s/go ]; do sleep 0.02; done\n" % m.work)
    wait_until((m.jobs / "a").is_dir, "the array to begin")
    options = m.jobs / "a/.options"
    for words in ("cpus=2\n", "max=1 priority=3\n"):
        with pytest.raises(OSError) as e:
            options.write_text(words)
        assert e.value.errno == errno.EINVAL
    with pytest.raises(OSError) as e:
        options.write_text("keep=1h")
    assert e.value.errno == errno.EINVAL
    assert "option keep= would have no effect on the elements of an array" in (m.statedir / "ppfs.log").read_text()
    options.write_text("max=1 max_fails=2")
    assert options.read_text().split() == ["max=1", "max_fails=2"]
    (m.work / "go").touch()
    assert waited(m, "a") == "done 3 failed 0"
