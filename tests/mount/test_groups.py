"""ppfs(5), jobs/: groups, their commit by rename, and .options."""
import errno
import os
import pickle
import select
import shutil
import stat
import subprocess

import pytest
from ppfsmount import wait_until
from processes import alive


def err(e):
    return errno.errorcode[e.value.errno]


# --- groups ------------------------------------------------------------------------------------------------------

def test_groups(m):
    os.makedirs(m.jobs / "G/H/I")
    m.put("G/x", "print('g')\n")
    m.put("G/H/I/x", "print('i')\n")
    m.put("x", "print('top')\n")
    m.put("G/H/bad", "raise SystemExit(1)\n")
    assert m.result("G/x") == b"g\n" and m.result("G/H/I/x") == b"i\n" and m.result("x") == b"top\n"
    m.failed("G/H/bad")
    assert sorted(os.listdir(m.results)) == ["G", "x"]
    assert sorted(os.listdir(m.results / "G")) == ["H", "x"]
    assert {"H", "x"} <= set(os.listdir(m.info / "G"))
    assert "bad" in os.listdir(m.failures / "G/H") and "bad" not in os.listdir(m.results / "G/H")
    assert stat.S_ISDIR((m.results / "G/H").stat().st_mode)


def test_group_and_job_share_one_name_space(m):
    m.put("x", m.gate("x"))
    with pytest.raises(FileExistsError):
        os.mkdir(m.jobs / "x")
    os.mkdir(m.jobs / "G")
    with pytest.raises(FileExistsError):
        os.mkdir(m.jobs / "G")
    with pytest.raises(IsADirectoryError):
        os.open(m.jobs / "G", os.O_WRONLY | os.O_CREAT)
    m.open_gate("x")
    m.result("x")


@pytest.mark.parametrize("sides", ["info", "results failures info"])
def test_a_whole_group_is_forgotten(queue, sides):
    m = queue
    os.makedirs(m.jobs / "G/H")
    (m.jobs / "G/.options").write_text("retries=1\n")
    for group in ("G", "G/H"):
        m.put(group + "/done", "print(1)\n")
        m.put(group + "/failed", "#!/bin/sh\n#ppfs: retries=0\nexit 1\n")
        m.put(group + "/cancelled", "#!/bin/sh\n#ppfs: hold=1\n")
    (m.node / "cpus").write_text("2")
    for name in ("G/done", "G/failed", "G/H/done", "G/H/failed"):
        m.wait(name)
    p = m.sh("rm -r $M/info/G", check=False)  # those that are held have not ended
    assert p.returncode == 1 and b"busy" in p.stderr and os.listdir(m.jobs / "G/H") == ["cancelled"]
    m.sh("rm $M/jobs/G/cancelled $M/jobs/G/H/cancelled; mkdir -p $M/jobs/G; echo 'print(1)' >$M/jobs/G/done; "
         "echo 'raise SystemExit(1)' >$M/jobs/G/failed; cat $M/info/G/.wait; rm -r %s"
         % " ".join("$M/%s/G" % side for side in sides.split()))
    assert [name for d in (m.jobs, m.results, m.failures, m.info) for name in os.listdir(d)
            if name not in (".events", ".failed", ".hold", ".priority", ".wait", ".ok", ".progress")] == []
    for side in (m.jobs, m.results, m.failures, m.info):
        assert not (side / "G").exists()
    assert m.sh("rm $M/info/.wait", check=False).returncode == 1
    os.mkdir(m.jobs / "G")
    m.put("G/new", "print(2)\n")
    assert m.result("G/new") == b"2\n"


@pytest.mark.parametrize("array", [False, True])
def test_name_of_a_forgotten_group_is_free_for_a_file(m, array):
    if array:
        m.put("G", "#ppfs: array=1-2\nprint(1)\n")
    else:
        os.mkdir(m.jobs / "G")
        m.put("G/x", "print(1)\n")
    (m.info / "G/.wait").read_text()
    assert os.listdir(m.jobs) == ["G"] and (m.jobs / "G").is_dir()
    shutil.rmtree(m.info / "G")
    m.put("G", "print(2)\n")
    assert m.result("G") == b"2\n"


def test_rmdir_of_a_group(queue):
    m = queue
    os.mkdir(m.jobs / "G")
    m.put("G/x", "print(1)\n")
    with pytest.raises(OSError) as e:
        os.rmdir(m.jobs / "G")
    assert err(e) == "ENOTEMPTY"
    (m.node / "cpus").write_text("1")
    m.result("G/x")
    os.rmdir(m.jobs / "G")
    assert os.listdir(m.jobs) == []
    assert m.result("G/x") == b"1\n"  # results stay until they are removed
    m.sh("rm -r $M/results/G")
    assert os.listdir(m.results) == []
    os.mkdir(m.jobs / "G")
    m.put("G/x", "print(2)\n")
    assert m.result("G/x") == b"2\n"


def test_rm_r_cancels_a_group(m):
    os.makedirs(m.jobs / "G/H")
    for name in ("G/a", "G/b", "G/H/c"):
        m.put(name, m.gate(name))
    m.put("G/.draft", "print(1)\n")
    pid = m.pid_of("G/a")
    m.sh("rm -r $M/jobs/G")
    wait_until(lambda: not alive(pid), "the job to die")
    assert os.listdir(m.jobs) == []
    m.works()


def test_group_is_committed_by_rename(m):
    os.makedirs(m.jobs / ".G/sub")
    names = ["a", "b", "sub/c"]
    for name in names:
        m.put(".G/" + name, "#!/bin/sh\necho %s $PPFS_JOB\n" % name)
    m.works()
    assert [m.state(".G/" + name) for name in names] == ["draft"] * 3
    os.rename(m.jobs / ".G", m.jobs / "G")
    for name in names:
        assert m.result("G/" + name).decode() == "%s G/%s\n" % (name, name)
    with pytest.raises(FileNotFoundError):
        os.listdir(m.jobs / ".G")
    assert (m.info / "G/.wait").read_text() == "done 3 failed 0\n"


def test_older_group_is_committed_while_a_newer_one_is_being_queued(m):
    os.mkdir(m.jobs / ".old")
    m.put(".old/x", "print('old')\n")
    os.mkdir(m.jobs / ".new")
    m.put(".new/held", "#!/bin/sh\n#ppfs: hold=1\ntrue\n")
    for i in range(1200):
        m.put(".new/%d" % i, "#!/bin/sh\n#ppfs: after=held\ntrue\n")
    os.rename(m.jobs / ".new", m.jobs / "new")
    wait_until(lambda: m.state("new/8") != "draft", "the newer group to begin")
    os.rename(m.jobs / ".old", m.jobs / "old")
    assert m.why("new/1199") in ("it is being queued, with the others of its group", "waits for new/held, which is held")
    assert m.result("old/x") == b"old\n"
    wait_until(lambda: m.state("new/1199") == "waiting", "the newer group to be queued")


def test_group_rename_onto_a_group(m):
    os.mkdir(m.jobs / "G")
    m.put("G/x", m.gate("G/x"))
    os.mkdir(m.jobs / ".G")
    m.put(".G/y", "print(1)\n")
    with pytest.raises(OSError) as e:
        os.rename(m.jobs / ".G", m.jobs / "G")
    assert err(e) in ("ENOTEMPTY", "EEXIST")
    assert m.state(".G/y") == "draft"
    m.open_gate("G/x")
    m.result("G/x")


def test_moved_between_groups(queue):
    m = queue
    os.mkdir(m.jobs / "A")
    os.mkdir(m.jobs / "B")
    m.put("A/x", "#!/bin/sh\necho $PPFS_JOB\n")
    os.rename(m.jobs / "A/x", m.jobs / "B/y")
    assert os.listdir(m.jobs / "A") == [] and os.listdir(m.jobs / "B") == ["y"]
    (m.node / "cpus").write_text("1")
    assert m.result("B/y") == b"B/y\n"


def test_relative_and_strange_paths(m):
    os.mkdir(m.jobs / "G")
    with pytest.raises(FileNotFoundError):
        m.put("nowhere/x", "print(1)\n")
    m.put("G/../x", "print(1)\n")
    assert m.result("x") == b"1\n"
    with pytest.raises(NotADirectoryError):
        os.listdir(m.results / "x" / "y")


# --- .options ----------------------------------------------------------------------------------------------------

def test_options_of_all_jobs(m):
    (m.jobs / ".options").write_text("priority=5 env=K:top timeout=30s\n")
    assert m.call("x", (os.getenv, ("K",))) == "top"
    assert m.get("x", "priority") == "5"
    m.put("y", "#!/bin/sh\n#ppfs: env=K:own priority=7\necho $K\n")
    assert m.result("y") == b"own\n" and m.get("y", "priority") == "7"
    assert (m.jobs / ".options").read_text() == "priority=5 env=K:top timeout=30s\n"
    os.unlink(m.jobs / ".options")
    assert m.call("z", (os.getenv, ("K",))) is None


def test_options_of_a_group(m):
    (m.jobs / ".options").write_text("env=A:top env=B:top priority=1\n")
    os.makedirs(m.jobs / "G/H")
    (m.jobs / "G/.options").write_text("env=B:group priority=2")
    what = (eval, ("[__import__('os').getenv(k) for k in 'AB']",))
    assert m.call("x", what) == ["top", "top"]
    assert m.call("G/x", what) == ["top", "group"]
    assert m.call("G/H/x", what) == ["top", "group"]
    assert [m.get(n, "priority") for n in ("x", "G/x", "G/H/x")] == ["1", "2", "2"]


def test_options_hold_for_later_jobs_only(queue):
    m = queue
    m.put("before", (os.getenv, ("K",)))
    (m.jobs / ".options").write_text("env=K:V\n")
    m.put("after", (os.getenv, ("K",)))
    (m.node / "cpus").write_text("1")
    assert pickle.loads(m.result("before")) is None and pickle.loads(m.result("after")) == "V"


def test_options_hold_for_a_committed_group(m):
    os.mkdir(m.jobs / ".G")
    (m.jobs / ".G/.options").write_text("env=K:V\n")
    m.put(".G/x", (os.getenv, ("K",)))
    os.rename(m.jobs / ".G", m.jobs / "G")
    assert pickle.loads(m.result("G/x")) == "V"


@pytest.mark.parametrize("where", ["", "G/"])
@pytest.mark.parametrize("text", ["colour=green", "priority=high", "timeout", "timeout=5x", "cpus=0", "\x00\x01"])
def test_options_that_are_not_understood(m, where, text):
    os.mkdir(m.jobs / "G")
    path = m.jobs / (where + ".options")
    path.write_text("priority=3\n")
    with pytest.raises(OSError) as e:
        path.write_text(text)
    assert err(e) == "EINVAL"
    # what was there holds on, and is what one reads
    wait_until(lambda: path.read_text() == "priority=3\n", "the options in force to be shown")
    m.put(where + "x", (abs, (1,)))
    m.result(where + "x")
    assert m.get(where + "x", "priority") == "3"


def test_options_are_refused_as_they_are_written(m):
    """In write(), which every program looks at; what is refused leaves nothing."""
    path = m.jobs / ".options"
    p = m.sh("echo priorty=5 > $M/jobs/.options", check=False)
    assert p.returncode == 1 and b"nvalid argument" in p.stderr
    wait_until(lambda: not path.exists(), "the refused file to be gone")
    assert "option priorty is not known" in m.log()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for part in (b"prio", b"rity=", b"4 'env=A", b":x y' ti"):  # what may still become right is taken
        os.write(fd, part)
    with pytest.raises(OSError):
        os.write(fd, b"le=3")
    os.write(fd, b"meout=5s\n")
    os.close(fd)
    m.put("x", {"call": "os.getenv", "args": ["A"]})
    assert m.result("x") == b'"x y"\n' and m.get("x", "priority") == "4"
    with open(path, "ab", buffering=0) as f:
        for name in (b"B", b"C"):
            f.write(b"env=%s:%s\n" % (name, b"x" * 6000))
    m.put("y", "#!/bin/sh\nprintf %s \"$A$B$C\" | wc -c\n")
    assert m.result("y") == b"12003\n"


def test_options_that_go_on_in_force(m):
    """A writer that is killed, or stops in the middle of a word, changes nothing; an empty file says that none are."""
    path = m.jobs / ".options"
    path.write_text("priority=3 timeout=90s 'env=A:b c' after=\n".replace(" after=", ""))
    p = m.popen("bash", "-c", "exec cat > $M/jobs/.options", stdin=subprocess.PIPE)
    p.stdin.write(b"priority=4\n")
    p.stdin.flush()
    wait_until(lambda: path.read_bytes() == b"priority=4\n", "the text to be there")
    p.kill()
    p.wait()
    wait_until(lambda: path.read_text() == "priority=3\ntimeout=90s\n'env=A:b c'\n", "the options in force")
    with pytest.raises(OSError) as e:
        path.write_text("priority=4 time")
    assert err(e) == "EINVAL"
    wait_until(lambda: path.read_text().startswith("priority=3\n"), "the options in force")
    m.put("x", {"call": "os.getenv", "args": ["A"]})
    assert m.result("x") == b'"b c"\n' and m.get("x", "priority") == "3"
    m.sh(": > $M/jobs/.options")
    m.put("y", {"call": "os.getenv", "args": ["A"]})
    assert m.result("y") == b"null\n" and m.get("y", "priority") == "0"


def test_options_by_rename(m):
    m.put(".good", "priority=5\n")
    m.put(".bad", "priorty=5\n")
    m.put(".options", "priority=1\n")
    with pytest.raises(OSError) as e:
        os.rename(m.jobs / ".bad", m.jobs / ".options")
    assert err(e) == "EINVAL" and (m.jobs / ".options").read_text() == "priority=1\n" and (m.jobs / ".bad").exists()
    os.rename(m.jobs / ".good", m.jobs / ".options")
    m.put("x", (abs, (1,)))
    assert m.get("x", "priority") == "5" and not (m.jobs / ".good").exists()
    os.rename(m.jobs / ".options", m.jobs / ".away")
    m.put("y", (abs, (1,)))
    assert m.get("y", "priority") == "0"


@pytest.mark.parametrize("what", ["draft", "group", "options", "job"])
def test_rename_with_sync_full(new_mount, what):
    m = new_mount(options=["--sync", "full"]).start()
    if what == "group":
        os.mkdir(m.jobs / ".x")
        m.put(".x/y", "print(1)\n")
    elif what == "job":
        m.put(".x", "#ppfs: hold=1\nprint(1)\n")
    else:
        m.put(".x", "priority=5\n")
    to = ".options" if what == "options" else "x"
    os.rename(m.jobs / ".x", m.jobs / to)
    if what == "job":
        os.rename(m.jobs / "x", m.jobs / "z")
    assert not (m.jobs / ".x").exists()
    m.put("after", (abs, (1,)))
    assert m.get("after", "priority") == ("5" if what == "options" else "0")


def test_dotted_again(m):
    """A group that gets a dot is a draft with all below it."""
    (m.jobs / "D/sub").mkdir(parents=True)
    os.rename(m.jobs / "D", m.jobs / ".D")
    m.put(".D/sub/x", "print('too early')\n")
    m.works()
    assert m.state(".D/sub/x") == "draft"
    os.rename(m.jobs / ".D", m.jobs / "D")
    assert m.result("D/sub/x") == b"too early\n"


def test_groups_in_groups_have_an_end(m):
    """64 levels, also where a group is moved: what is below that would not be counted at the top."""
    deep = m.jobs / "/".join(["d"] * 60)
    deep.mkdir(parents=True)
    (m.jobs / "e/e/e/e").mkdir(parents=True)
    with pytest.raises(OSError) as e:
        os.rename(m.jobs / "d", m.jobs / "e/e/e/e/e")
        os.rename(m.jobs / "e/e/e/e/e", m.jobs / "e/e/e/e/.d")
        (m.jobs / "f").mkdir()
        os.rename(m.jobs / "e", m.jobs / "f/e")
    assert e.value.errno == errno.ENAMETOOLONG and (m.jobs / "e").exists()
    os.rename(m.jobs / "e/e/e/e/.d", m.jobs / "e/e/e/e/d")
    path = "e/e/e/e/" + "/".join(["d"] * 60)
    m.put(path + "/y", "#!/bin/sh\n#ppfs: hold=1\n")
    assert " waiting 1 of 1\n" in (m.info / ".progress").read_text()


def test_a_long_chain_opens_at_once(m):
    (m.jobs / ".C").mkdir()
    for i in range(300):
        m.put(".C/j%d" % i, "#!/bin/true\n" + ("#ppfs: after=j%d\n" % (i - 1) if i else ""))
    os.rename(m.jobs / ".C", m.jobs / "C")
    assert (m.info / "C/.wait").read_text() == "done 300 failed 0\n"


def test_ok(queue):
    """Its open waits for all jobs of a group, and succeeds only if all have succeeded."""
    m = queue
    os.makedirs(m.jobs / "G/H")
    assert (m.info / "G/.ok").read_text() == "done 0 failed 0\n"  # nothing in there has failed
    m.put("G/x", "print(1)\n")
    m.put("G/H/y", "#!/bin/sh\nexit $(cat %s)\n" % (m.work / "status"))
    (m.work / "status").write_text("1")
    with pytest.raises(BlockingIOError):
        os.read(fd := os.open(m.info / "G/.ok", os.O_RDONLY | os.O_NONBLOCK), 100)
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(0) == []
    reader = m.reader(m.info / "G/.ok")
    (m.node / "cpus").write_text("2")
    assert b"Input/output error" in reader.communicate()[1] and reader.returncode == 1
    assert poll.poll(40_000) == [(fd, select.POLLIN)]
    with pytest.raises(OSError) as e:
        os.read(fd, 100)
    assert e.value.errno == errno.EIO
    (m.work / "status").write_text("0")
    m.sh("mv $M/failures/G/H/y $M/jobs/G/H/y && [ \"$(cat $M/info/G/.ok)\" = 'done 2 failed 0' ]")
    assert os.read(fd, 100) == b"done 2 failed 0\n"
    os.close(fd)
    m.put("G/H/gone", "#!/bin/sh\n#ppfs: hold=1\n")
    os.unlink(m.jobs / "G/H/gone")
    with pytest.raises(OSError) as e:
        (m.info / ".ok").read_text()
    assert e.value.errno == errno.EIO and (m.info / ".wait").read_text() == "done 2 failed 0 cancelled 1\n"
    m.sh("rm -r $M/info/G && cat $M/info/.ok")


def test_ok_waits_over_a_kill(m):
    os.mkdir(m.jobs / "G")
    m.put("G/x", m.gate("G/x"))
    reader = m.reader(m.info / "G/.ok")
    m.kill_daemon()
    m.open_gate("G/x")
    assert reader.communicate() == (b"done 1 failed 0\n", b"")
