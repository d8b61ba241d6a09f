"""Jobs that are run again: mv failures/x jobs/x, cp info/x/spec jobs/x; where, with what, and what is counted."""
import errno
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from ppfsmount import wait_until

PLACE = "#!/bin/sh\n#ppfs: env=WORD:kept priority=3%s\n[ -e %s/mended ] || exit 1\necho $PPFS_ATTEMPT $WORD; /bin/pwd\n"


@pytest.fixture
def places(m):
    """Two directories: jobs are first written in the one, and run again from the other."""
    for name in ("first", "second"):
        os.mkdir(m.work / name)
    os.chdir(m.work / "first")
    return m.work / "first", m.work / "second"


def test_mv_of_a_failure(m, places):
    m.put("x", PLACE % ("", m.work))
    m.failed("x")
    (m.work / "mended").touch()
    os.chdir(places[1])
    os.rename(m.failures / "x", m.jobs / "x")
    assert os.listdir(m.failures) == []
    assert m.result("x").decode() == "2 kept\n%s\n" % places[0]
    assert m.get("x", "attempt") == "2" and m.get("x", "priority") == "3" and m.why("x") == ""
    assert (m.info / ".wait").read_text() == "done 1 failed 0\n"


def test_mv_of_the_failures_of_a_group(m, places):
    os.mkdir(m.jobs / "G")
    for i in range(20):
        m.put("G/%d" % i, PLACE % (" retries=1" if i == 7 else "", m.work))
    assert (m.info / "G/.wait").read_text() == "done 0 failed 20\n"
    (m.work / "mended").touch()
    m.sh("cd %s && mv $M/failures/G/* $M/jobs/G/" % places[1])
    assert (m.info / "G/.wait").read_text() == "done 20 failed 0\n"
    assert m.result("G/3").decode() == "2 kept\n%s\n" % places[0] and m.result("G/7").startswith(b"3 ")


def test_it_is_there_at_once(m, places):
    """Under its new name, also where the kernel still knows the old one."""
    m.put("x", "#!/bin/sh\nexit 1\n")
    m.failed("x")
    (m.node / "cpus").write_text("0")
    for _ in range(3):
        text = (m.failures / "x").read_text()
        assert text and (m.failures / "x").stat().st_size == len(text)
        os.rename(m.failures / "x", m.jobs / "x")
        assert (m.jobs / "x").stat().st_size == 17 and (m.jobs / "x").read_text() == "#!/bin/sh\nexit 1\n"
        assert not (m.failures / "x").exists() and m.state("x") == "queued"
        with pytest.raises(FileNotFoundError):
            open(m.failures / "x")
        (m.node / "cpus").write_text("2")
        m.failed("x")
        (m.node / "cpus").write_text("0")
    assert m.get("x", "attempt") == "4"


@pytest.mark.parametrize("source", ["failures/x", "jobs/.x", "jobs/y", "jobs/H/x"])
def test_who_renamed_it_finds_it_though_it_has_ended(m, source):
    """As on any filesystem, for its first look; who does not ask at once sees that it has ended."""
    hold = "" if source == "failures/x" else "#ppfs: hold=1\n"
    text = "#!/bin/sh\n%s[ -e %s/mended ] || exit 1\n" % (hold, m.work)
    os.mkdir(m.jobs / "H")
    m.put("x" if source == "failures/x" else source.removeprefix("jobs/"), text)
    if source == "failures/x":
        m.failed("x")
    (m.work / "mended").touch()

    def elsewhere(what, *args):
        """By another thread, which has not renamed it."""
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(what, *args).result()

    def end():
        if hold:
            (m.info / "x/hold").write_text("0")
        m.result("x")

    os.rename(m.mnt / source, m.jobs / "x")
    elsewhere(end)
    assert not elsewhere(os.path.exists, m.jobs / "x")
    assert os.stat(m.jobs / "x").st_size == len(text)
    assert not elsewhere(os.path.exists, m.jobs / "x") and elsewhere(os.listdir, m.jobs) == ["H"]
    os.utime(m.jobs / "x")
    os.chmod(m.jobs / "x", 0o600)
    assert (m.jobs / "x").read_text() == text
    m.result("x")
    assert not (m.jobs / "x").exists()


def test_what_follows_a_rename_is_a_new_job(m):
    """Though who renamed the last one of that name would still find that."""
    for i in range(20):
        m.put(".x", "print(%d)\n" % i)
        os.rename(m.jobs / ".x", m.jobs / "x")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(m.result, "x").result() == b"%d\n" % i
        m.put("x", "print('next')\n")
        assert m.result("x") == b"next\n"


def test_mv_to_another_name_and_group(m, places):
    os.mkdir(m.jobs / "G")
    m.put("x", PLACE % ("", m.work))
    m.put("G/y", "print('in the way')\n")
    m.failed("x")
    m.result("G/y")
    (m.work / "mended").touch()
    os.rename(m.failures / "x", m.jobs / "G/y")
    assert m.result("G/y").startswith(b"2 kept\n")
    assert (m.info / ".wait").read_text() == (m.info / "G/.wait").read_text() == "done 1 failed 0\n"
    wait_until(lambda: not (m.info / "x").exists(), "the old name to be forgotten, which is known for a second")


def test_mv_of_what_never_ran(m, places):
    """What it waited for failed: it is submitted again, and waits again."""
    m.put("a", PLACE % ("", m.work))
    m.failed("a")
    m.put("b", "#!/bin/sh\n#ppfs: after=a\n/bin/pwd\n")
    m.failed("b")
    m.put("c", "#!/bin/sh\n#ppfs: colour=red\ntrue\n")
    m.failed("c")
    (m.work / "mended").touch()
    os.chdir(places[1])
    os.rename(m.failures / "a", m.jobs / "a")
    os.rename(m.failures / "b", m.jobs / "b")
    assert m.result("b").decode() == "%s\n" % places[0]
    os.rename(m.failures / "c", m.jobs / "c")
    assert "colour" in m.failed("c")


def test_mv_after_one_that_is_forgotten(m, places):
    m.put("a", "print(1)\n")
    m.result("a")
    m.put("x", PLACE % (" after=a", m.work))
    m.failed("x")
    os.unlink(m.results / "a")
    (m.work / "mended").touch()
    os.rename(m.failures / "x", m.jobs / "x")
    assert m.result("x").startswith(b"2 ")


def test_mv_that_is_refused_copies_no_failure(m):
    os.mkdir(m.jobs / "G")
    m.put("G/x", "raise ValueError\n")
    m.put("y", "raise ValueError\n")
    m.failed("G/x")
    m.failed("y")
    for line in ("mv $M/failures/G $M/jobs/H", "mv $M/failures/y $M/jobs/.y", "mv $M/failures/y $M/jobs/.G/y"):
        os.makedirs(m.jobs / ".G", exist_ok=True)
        p = m.sh(line, check=False)
        assert p.returncode == 1 and p.stderr
    m.put("y2", m.gate("y2"))
    m.pid_of("y2")
    with pytest.raises(OSError) as e:
        os.rename(m.failures / "y", m.jobs / "y2")
    assert e.value.errno == errno.ETXTBSY
    m.open_gate("y2")
    m.result("y2")
    assert sorted(os.listdir(m.jobs)) == [".G", "G"] and sorted(os.listdir(m.failures)) == ["G", "y"]


def test_daemon_dies_meanwhile(m, places):
    m.put("x", PLACE % ("", m.work))
    m.failed("x")
    (m.work / "mended").touch()
    (m.node / "cpus").write_text("0")
    os.rename(m.failures / "x", m.jobs / "x")
    m.kill_daemon()
    (m.node / "cpus").write_text("1")
    assert m.result("x").decode() == "2 kept\n%s\n" % places[0]


@pytest.mark.parametrize("how", ["cp", "install", "shutil"])
def test_copy_of_a_spec(m, places, how):
    """It is the same job again, and runs where that ran; the file of a user runs where the user is."""
    m.put("x", PLACE % ("", m.work))
    m.failed("x")
    (m.work / "mended").touch()
    os.chdir(places[1])
    if how == "shutil":
        shutil.copyfile(m.info / "x/spec", m.jobs / "x")
        shutil.copyfile(m.info / "x/spec", m.jobs / "y")
    else:
        m.sh("cd %s && %s $M/info/x/spec $M/jobs/x && %s $M/info/x/spec $M/jobs/y" % (places[1], how, how))
    assert m.result("x").decode() == m.result("y").decode() == "1 kept\n%s\n" % places[0]
    shutil.copyfile(m.info / "x/spec", m.work / "mine")
    m.sh("cd %s && cp %s/mine $M/jobs/x" % (places[1], m.work))
    assert m.result("x").decode() == "1 kept\n%s\n" % places[1]
    with open(m.info / "y/spec", "rb") as f:
        text = f.read()
    wait_until(lambda: m.put("z", text) and m.result("z").decode() == "1 kept\n%s\n" % places[1], "a closed spec to mean nothing")


def test_one_whose_predecessor_failed_waits_for_it_anew(m):
    """It never ran, so it is submitted again: what it waits for has still failed, or runs again by then."""
    go = m.work / "go"
    m.put("a", "#!/bin/sh\ntest -e %s\n" % go)
    m.put("b", "#!/bin/sh\n#ppfs: after=a\necho ran\n")
    for _ in range(2):
        assert "not started" in m.failed("b") or "after=a" in m.failed("b")
        os.rename(m.failures / "b", m.jobs / "b")
    m.failed("b")
    assert m.state("b") == "failed"
    go.touch()
    os.rename(m.failures / "a", m.jobs / "a")
    os.rename(m.failures / "b", m.jobs / "b")
    assert m.result("b") == b"ran\n"
