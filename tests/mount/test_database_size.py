"""The database gives back what it does not need any more; nobody else has it open."""
import errno
import os
import sqlite3
import subprocess

import pytest
from ppfsmount import database_of, wait_until
from processes import text_of

LARGE = "#!/bin/sh\n#" + "x" * 60_000 + "\n"
MB = 1 << 20


def size(m):
    return sum(p.stat().st_size for p in (database_of(m.statedir), *(m.statedir / "spool").iterdir()))


def test_it_shrinks_when_jobs_are_forgotten(queue):
    m = queue
    os.mkdir(m.jobs / "G")
    for i in range(250):
        m.put("G/j%d" % i, LARGE)
    wait_until(lambda: size(m) > 8 * MB, "the database to have grown")
    m.put("kept", "print('kept')\n")
    m.sh("rm -r $M/jobs/G; rm -r $M/info/G")
    wait_until(lambda: size(m) < 4 * MB, "the database to shrink")
    (m.node / "cpus").write_text("1")
    assert m.result("kept") == b"kept\n"


def test_the_log_goes_into_the_database_while_jobs_come(queue):
    m = queue
    before = database_of(m.statedir).stat().st_size
    for i in range(150):  # 15 pages each, and nothing is quiet
        m.put("j%d" % i, LARGE)
    wait_until(lambda: database_of(m.statedir).stat().st_size > before + MB, "the log to be copied")
    (m.node / "cpus").write_text("2")
    assert m.result("j149") == b""


def test_a_filesystem_that_reserves_no_room_is_not_taken_for_full(new_mount):
    m = new_mount(cpus=0)
    m.statedir.mkdir(0o700)
    subprocess.run(["mount", "-t", "ramfs", "-o", "mode=0700", "none", m.statedir], check=True)
    try:
        m.start()
        for i in range(20):
            m.put("j%d" % i, LARGE)
        log = database_of(m.statedir).with_name("ppfs.db-wal")
        assert log.stat().st_size > 200 * 4096  # it was not emptied to make room
        m.unmount()
    finally:
        subprocess.run(["umount", "--lazy", m.statedir], check=True)


def test_one_that_was_made_before_shrinks_too(m):
    m.put("x", "print('x')\n")
    m.result("x")
    m.unmount()
    path = database_of(m.statedir)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA auto_vacuum=NONE")
        db.execute("VACUUM")
        db.execute("CREATE TABLE junk(data BLOB)")
        db.executemany("INSERT INTO junk VALUES(?)", [(b"x" * MB,)] * 20)
        db.commit()
        db.execute("DROP TABLE junk")
    db.close()
    assert path.stat().st_size > 20 * MB
    m.start()
    wait_until(lambda: size(m) < 2 * MB, "the database to shrink")
    assert m.result("x") == b"x\n"
    m.unmount()
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA auto_vacuum").fetchone() == (2,) and db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()


@pytest.mark.parametrize("piece", [50_000, MB], ids=["in the database", "in a file"])
def test_the_input_of_a_cancelled_stream_is_freed_at_once(queue, piece):
    m = queue
    line = b'{"call": "len", "args": ["%s"]}\n' % (b"x" * (piece - 40))
    with open(m.jobs / "s.jsonl", "wb", buffering=0) as f:
        for _ in range(10 * MB // piece):
            f.write(line)
        wait_until(lambda: size(m) > 5 * MB, "the log to be copied")
        (m.jobs / "s.jsonl").unlink()
        with pytest.raises(OSError) as e:
            f.write(line)
        assert e.value.errno == errno.ESTALE
    assert m.state("s.jsonl") == "cancelled"
    with pytest.raises(OSError) as e:
        (m.info / "s.jsonl" / "spec").read_bytes()
    assert e.value.errno == errno.ENODATA
    wait_until(lambda: size(m) < 3 * MB, "its input to be freed")  # forgotten it is not
    assert text_of(m.info / "s.jsonl" / "state") == "cancelled\n"


def test_another_program_that_has_it_open(m):
    m.put("x", "print('x')\n")
    m.result("x")
    m.unmount()
    db = sqlite3.connect(database_of(m.statedir))
    db.execute("BEGIN")
    assert db.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    p = m.run()
    assert p.returncode == 1 and "ppfs.db is open in another program" in p.stderr and p.stderr.count("\n") == 1, p.stderr
    db.close()
    m.start()
    assert m.result("x") == b"x\n"
