"""Rows of jobs that were damaged where the indexes beside them are whole, and a database that is locked."""
import os
import sqlite3
import subprocess
from pathlib import Path

import pytest
from ppfsmount import PPFS, SLOW, database_of, text_of, wait_until
from test_damaged import change, check, state  # noqa: F401 - a fixture


def change_row_only(m, name, what):
    """As a bit on the disk does: no index hears of it."""
    def hidden(*statements):
        change(m, *statements, "PRAGMA schema_version=%d" % (version + 1 + len(statements)))

    with sqlite3.connect(database_of(m.statedir)) as db:
        of_jobs = "type IN ('index', 'trigger') AND tbl_name='jobs'"
        schema = db.execute("SELECT * FROM sqlite_master WHERE %s" % of_jobs).fetchall()
        [version] = db.execute("PRAGMA schema_version").fetchone()
    db.close()
    hidden("DELETE FROM sqlite_master WHERE %s" % of_jobs)
    hidden("UPDATE jobs SET %s WHERE name='%s'" % (what, name), *(("INSERT INTO sqlite_master VALUES(?,?,?,?,?)", row) for row in schema))


@pytest.mark.parametrize("state_is", [5, 77])
def test_a_queued_job_whose_row_has_another_state(m, state_is):
    """The queue has it still: it does not start, ends nothing else, and those behind it go on, also after the next start."""
    for i in range(m.cpus):
        m.put("busy%d" % i, m.gate("busy%d" % i))
        m.pid_of("busy%d" % i)
    for name in "abc":
        m.put(name, "#!/bin/sh\n#ppfs: priority=9\necho $PPFS_JOB >> %s/ran\n" % m.work)
    m.unmount()
    change_row_only(m, "b", "state=%d" % state_is)
    assert any("(b)" in line for line in check(m))
    m.start()
    assert m.result("c") == m.result("a") == b""
    for i in range(m.cpus):
        (m.jobs / ("busy%d" % i)).unlink()
    m.unmount()
    m.start()
    m.works()
    assert sorted((m.work / "ran").read_text().split()) == ["a", "c"]


def test_check_waits_for_a_lock(state):
    """SQLite has the database locked for a moment when another program closes it."""
    db = sqlite3.connect(database_of(state.statedir), isolation_level=None)
    for statement in "PRAGMA locking_mode=EXCLUSIVE", "BEGIN IMMEDIATE", "UPDATE meta SET value=value", "COMMIT":
        db.execute(statement).fetchall()
    p = subprocess.Popen([str(PPFS), "--check", str(state.statedir)], stdout=subprocess.PIPE, text=True)
    wait_until(lambda: p.poll() is not None or " S " in text_of("/proc/%d/stat" % p.pid) and any(
        os.path.basename(os.readlink(fd)) == "ppfs.db" for fd in Path("/proc/%d/fd" % p.pid).iterdir()), "it to meet the lock")
    db.close()
    assert p.communicate(timeout=60 * SLOW)[0] == "" and p.returncode == 0
