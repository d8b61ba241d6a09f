"""The database is damaged, or goes away, under a ppfs that runs: it says so, and takes nothing that would be lost."""
import errno
import os

import pytest
from ppfsmount import database_of, wait_until


def said(m, sentence):
    return [line for line in m.log().splitlines() if sentence in line]


def refused(what, *args):
    """It fails with EIO, at whichever step."""
    with pytest.raises(OSError) as e:
        what(*args)
    assert e.value.errno == errno.EIO, e.value
    return True


def test_damaged_while_it_is_mounted(queue):
    """What is not in memory any more cannot be read: nothing is shown as empty or as not there."""
    m = queue
    body = "#!/bin/sh\n#" + "x" * 60_000 + "\n"
    os.mkdir(m.jobs / "G")
    for i in range(400):  # more than is kept in memory
        m.put("G/j%d" % i, body)
    for i in range(400):
        assert len((m.jobs / ("G/j%d" % i)).read_bytes()) == len(body)
    m.may_restart = False
    database = database_of(m.statedir)
    for path, skip in ((database, 4096), (database.with_name(database.name + "-wal"), 0)):
        with open(path, "r+b") as f:
            f.seek(skip)
            f.write(b"\x55" * max(0, path.stat().st_size - skip))
    assert refused(os.listdir, m.jobs / "G")
    lost = 0
    for i in range(400):  # which of them are in memory is SQLite's affair
        try:
            assert (m.jobs / ("G/j%d" % i)).read_bytes() == body.encode()
        except OSError as e:
            assert e.errno == errno.EIO, e
            lost += 1
    assert lost >= 50
    assert refused(m.put, "new", "print(1)\n") and refused(os.mkdir, m.jobs / "H")
    assert len(said(m, "the database is damaged")) == 1 and len(said(m, "the last changes could not be written to the database")) <= 1


@pytest.mark.parametrize("how", ["moved", "replaced"])
def test_the_state_directory_goes_while_it_is_mounted(m, how):
    away = m.base / "away"
    m.put("x", "print('x')\n")
    m.result("x")
    os.rename(m.statedir, away)
    if how == "replaced":
        os.mkdir(m.statedir)
        (m.statedir / "ppfs.db").write_bytes(b"")
    refused(m.put, "new", "print(1)\n")
    refused(m.put, "large", "#!/bin/sh\n#" + "x" * 300_000)
    refused(os.mkdir, m.jobs / "G")
    refused(os.unlink, m.results / "x")
    assert m.result("x") == b"x\n"  # what is there can still be saved
    assert os.listdir(m.jobs) == []
    log = (m.statedir if how == "replaced" else away) / "ppfs.log"
    assert wait_until(lambda: log.read_text().count("moved or removed"), "the log to say so") == 1
    if how == "replaced":
        (m.statedir / "ppfs.db").unlink()
        log.unlink()
        os.rmdir(m.statedir)
    os.rename(away, m.statedir)
    wait_until(lambda: m.put("again", "print('again')\n"), "it to take jobs again")
    assert m.result("again") == b"again\n"


def test_removed_while_a_job_runs(m):
    """Its end cannot be kept: it is not shown as done, and who waits is not told a lie."""
    m.put("x", m.gate("x"))
    m.pid_of("x")
    away = m.base / "away"
    os.rename(m.statedir, away)
    m.open_gate("x")
    wait_until(lambda: "moved or removed" in (away / "ppfs.log").read_text(), "the log to say so")
    assert m.state("x") == "running"
    os.rename(away, m.statedir)
    assert m.result("x") == b"through x\n"
