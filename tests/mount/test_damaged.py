"""A state directory that was damaged while nothing was mounted: EIO or one clear line, never a hang, never a wrong result;
and `ppfs --check` says what is wrong.

PPFS_SEED replays the choices of a run, PPFS_FLIPS says how many states get bits flipped anywhere (6).
"""
import errno
import json
import os
import random
import shutil
import sqlite3
import subprocess
import time

import ppfsmount
import pytest
from ppfsmount import PPFS, SLOW, database_of, text_of, wait_until

SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
FLIPS = int(os.environ.get("PPFS_FLIPS", 6))  # states with bits that are flipped anywhere
ENDED = {"done", "failed", "cancelled"}


def check(m):
    """The lines that --check prints."""
    p = subprocess.run([str(PPFS), "--check", str(m.statedir)], capture_output=True, text=True, timeout=60 * SLOW)
    assert not p.stderr and p.returncode == (1 if p.stdout else 0), p
    return p.stdout.splitlines()


def salvage(m):
    """(exit status, the lines that --salvage prints); what it makes takes the place of the state, which is damaged.N then."""
    new = m.statedir.parent / "new"
    shutil.rmtree(new, ignore_errors=True)
    p = subprocess.run([str(PPFS), "--salvage", str(m.statedir), str(new)], capture_output=True, text=True, timeout=60 * SLOW)
    assert p.returncode in (0, 1) and not p.stderr and (p.returncode == 1) == bool(p.stdout), p
    old = m.statedir.parent / ("damaged.%d" % len(list(m.statedir.parent.glob("damaged.*"))))
    m.statedir.rename(old)
    new.rename(m.statedir)
    assert check(m) == []
    return p.returncode, p.stdout.splitlines()


def change(m, *statements):
    with sqlite3.connect(database_of(m.statedir)) as db:
        db.execute("PRAGMA writable_schema=ON")
        for statement in statements:
            db.execute(*statement) if isinstance(statement, tuple) else db.execute(statement)
    db.close()


def flip(m, table, rng, job):
    """One bit of a body in the database; False: it has none there."""
    with sqlite3.connect(database_of(m.statedir)) as db:
        rows = db.execute("SELECT id, data FROM %s WHERE typeof(data)='blob' AND length(data)>0 AND %s>>3=?"
                          % (table, "id" if table == "bodies" else "log"), (job,)).fetchall()
        if rows:
            row, data = rng.choice(rows)
            data = bytearray(data)
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            db.execute("UPDATE %s SET data=? WHERE id=?" % table, (bytes(data), row))
    db.close()
    return bool(rows)


def ids_of(m):
    with sqlite3.connect(database_of(m.statedir)) as db:
        ids = {name: i for i, name in db.execute("SELECT id, name FROM jobs")}
    db.close()
    return ids


@pytest.fixture
def state(m):
    """Unmounted, with jobs of each kind; what is in them is in .wanted."""
    os.mkdir(m.jobs / "G")
    m.wanted = {}
    for i in range(20):
        name = "G/j%d" % i
        m.put(name, "#!/bin/sh\necho %s; echo error %d >&2\n" % ("x%d" % i * (1 + i * 50), i))
        m.wanted[name] = b"x%d" % i * (1 + i * 50) + b"\n"
    m.put("s.jsonl", b"".join(b'{"call": "abs", "args": [-%d]}\n' % i for i in range(50)))
    for name in m.wanted:
        assert m.result(name) == m.wanted[name]
    m.wanted["s.jsonl"] = m.result("s.jsonl")
    m.put(".options", "hold=1\n")
    m.put("held", "#!/bin/sh\necho held\n")
    assert m.state("held") == "held"
    m.unmount()
    m.ids = ids_of(m)
    assert check(m) == []
    return m


def goes_on(m):
    """What is not damaged does; the root's .options holds jobs."""
    m.put("new", "#!/bin/sh\n#ppfs: hold=0\necho new\n")
    assert m.result("new") == b"new\n"


def test_a_flipped_bit_is_never_shown(state):
    print("PPFS_SEED=%d" % SEED)
    m, rng = state, random.Random(SEED)
    hit = {name for name in list(m.wanted)[:-1] if rng.random() < 0.5} | {"G/j3"}
    for name in hit:
        assert flip(m, "bodies", rng, m.ids[os.path.basename(name)])
    assert flip(m, "logs", rng, m.ids["s.jsonl"])
    lines = check(m)
    assert len(lines) == len(hit) + 1 and all(line.endswith("is damaged") for line in lines), lines
    m.start()
    for name, wanted in m.wanted.items():
        found = []
        for where in (m.results / name, m.info / name / "stdout", m.info / name / "stderr", m.info / name / "spec"):
            try:
                found.append(where.read_bytes())
            except OSError as e:
                assert e.errno == errno.EIO, (where, e)
                found.append(None)
        assert found[0] in (wanted, None), name
        assert (None in found) == (name in hit or name == "s.jsonl"), (name, found)
        if name in hit:
            assert "is damaged on the disk" in m.why(name)
    goes_on(m)


def test_a_view_in_the_place_of_a_table_is_not_asked(state):
    """It would have rows without end."""
    with sqlite3.connect(database_of(state.statedir)) as db:
        columns = [row[1] for row in db.execute("PRAGMA table_info(groups)")]
    db.close()
    what = {"id": "n", "name": "'g' || n", "mode": "493"}
    change(state, "DROP TABLE groups", "CREATE VIEW groups AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c) SELECT %s FROM c"
           % ", ".join("%s AS %s" % (what.get(column, "0"), column) for column in columns))
    assert any("groups" in line for line in check(state))


@pytest.mark.parametrize("column", ["exit_status", "uid", "node"])
def test_a_changed_row_is_never_shown(state, column):
    m = state
    change(m, "UPDATE jobs SET %s=%s WHERE name='j3'" % (column, "'there'" if column == "node" else column + "|1<<9"))
    lines = check(m)
    assert lines == ["the row of job %d (j3) is damaged" % m.ids["j3"]]
    m.start()
    for act in ((m.results / "G/j3").read_bytes, (m.info / "G/j3/state").read_text, (m.info / "G/j3").stat, (m.results / "G/j3").unlink):
        with pytest.raises(OSError) as e:
            act()
        assert e.value.errno == errno.EIO, act
    assert {"j%d" % i for i in range(20)} <= set(os.listdir(m.info / "G"))
    assert m.result("G/j4") == m.wanted["G/j4"]
    goes_on(m)
    m.unmount()
    assert len(salvage(m)[1]) == 1


def test_a_body_of_another_job_is_never_shown(state):
    m = state
    a, b = m.ids["j3"] * 8, m.ids["j4"] * 8
    change(m, "UPDATE bodies SET id=-id WHERE id>=%d AND id<%d" % (a, a + 8), "UPDATE bodies SET id=id+%d WHERE id>=%d AND id<%d" % (a - b, b, b + 8))
    assert check(m)
    m.start()
    with pytest.raises(OSError) as e:
        (m.results / "G/j3").read_bytes()
    assert e.value.errno == errno.EIO
    goes_on(m)


def test_a_job_whose_row_is_damaged_does_not_start(m):
    """It holds up nobody: not those behind it, nor who waits for its group."""
    os.mkdir(m.jobs / "G")
    for i in range(m.cpus):
        m.put("busy%d" % i, m.gate("busy%d" % i))
        m.pid_of("busy%d" % i)
    names = ["G/a", "G/b", "G/c"]
    for name in names:
        m.put(name, "#!/bin/sh\n#ppfs: priority=9\necho $PPFS_JOB >> %s/ran\n" % m.work)
    m.unmount()
    change(m, "UPDATE jobs SET uid=uid+1 WHERE name='a'", "UPDATE jobs SET cwd='/', mode=mode|4096 WHERE name='b'")
    assert len(check(m)) == 2
    m.start()
    assert m.result("G/c") == b""
    assert (m.info / "G" / ".wait").read_text() == "done 1 failed 2\n"
    assert (m.work / "ran").read_text() == "G/c\n"
    with pytest.raises(OSError) as e:
        (m.info / "G/a/state").read_text()
    assert e.value.errno == errno.EIO
    for i in range(m.cpus):
        (m.jobs / ("busy%d" % i)).unlink()
    m.unmount()
    assert len(check(m)) == 2


def test_a_job_does_not_start_from_a_damaged_file(state):
    m, rng = state, random.Random(SEED)
    assert flip(m, "bodies", rng, m.ids["held"])
    m.start()
    (m.info / "held" / "hold").write_text("0")
    assert m.wait("held") == "failed" and "damaged on the disk" in m.why("held")
    with pytest.raises(OSError) as e:
        (m.results / "held").read_bytes()
    assert e.value.errno == errno.EIO


@pytest.mark.parametrize("row", [0, -1], ids=["at its beginning", "at its end"])
def test_a_stream_whose_input_is_damaged_fails(m, row):
    """One that runs, as soon as what is damaged is read; it is not tried again."""
    go = m.work / "go"  # no call has ended when it is damaged
    wait = "any(__import__('time').sleep(0.05) or __import__('os').path.exists('%s') for _ in iter(int, 1)) and '%s'" % (go, "x" * 2000)
    line = json.dumps({"call": "eval", "args": [wait]}).encode() + b"\n"
    with open(m.jobs / "s.jsonl", "wb", buffering=0) as f:
        for _ in range(100):
            f.write(line)
    m.is_running("s.jsonl")
    m.unmount()
    with sqlite3.connect(database_of(m.statedir)) as db:
        rows = db.execute("SELECT logs.id, data FROM logs JOIN jobs ON log=jobs.id*8 WHERE name='s.jsonl' ORDER BY start")
        number, data = rows.fetchall()[row]
        db.execute("UPDATE logs SET data=? WHERE id=?", (data.replace(b"x", b"y", 1), number))
    db.close()
    assert len(check(m)) == 1
    go.touch()
    m.start()
    assert m.wait("s.jsonl") == "failed"
    assert m.why("s.jsonl") == "the rest of it could not be read: it is damaged on the disk, or that cannot be read"
    m.works()


@pytest.mark.parametrize("statement, line", [
    ("UPDATE jobs SET state=77 WHERE name='j1'", "(j1) is in state 77, which there is not"),
    ("UPDATE jobs SET shelf=9 WHERE name='j1'", "(j1) is listed in 9, which there is not"),
    ("UPDATE jobs SET name='a/b' WHERE name='j1'", "is named 'a/b', which is no name"),
    ("UPDATE jobs SET grp=987654 WHERE name='j1'", "(j1) is in group 987654, which there is not"),
    ("UPDATE groups SET parent=id WHERE name='G'", "(G) is in no directory"),
    ("DROP INDEX job_shelves", "index job_shelves is missing"),
    ("DROP TABLE deps", "table deps is missing"),
    ("DELETE FROM sqlite_master WHERE name='job_names'", "index job_names is missing"),
    ("PRAGMA user_version=1000", "written by a newer ppfs (schema 1000"),
], ids=["state", "shelf", "name", "group", "parent", "index", "table", "schema", "version"])
def test_what_no_ppfs_writes(state, statement, line):
    m = state
    change(m, statement)
    assert any(line in found for found in check(m)), check(m)
    m.may_restart = True
    p = m.run()
    if p.returncode:
        assert p.returncode == 1 and p.stderr.count("\n") == 1 and str(m.statedir) in p.stderr, p.stderr
        return
    for name, wanted in m.wanted.items():  # never a wrong result, never a hang
        try:
            assert (m.results / name).read_bytes() == wanted
        except OSError as e:
            assert e.errno in (errno.EIO, errno.ENOENT, errno.ESTALE), (name, e)
    for where in (m.jobs, m.results, m.failures, m.info):
        try:
            assert all("/" not in name for name in os.listdir(where))
        except OSError as e:
            assert e.errno == errno.EIO
    m.unmount()


def test_a_spool_file_that_is_gone_or_cut(m):
    m.put("large", "#!/bin/sh\nhead -c 300000 /dev/zero\n")
    assert len(m.result("large")) == 300_000
    m.unmount()
    spool = next((m.statedir / "spool").iterdir())
    os.truncate(spool, 1000)
    assert [line.partition(":")[0] for line in check(m)] == ["the result or output of job 1 is cut"] or check(m)[0].count("is cut")
    spool.unlink()
    assert len(check(m)) == 1 and "is missing" in check(m)[0]


def flip_file(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)[0]
        f.seek(at)
        f.write(bytes([byte ^ 4]))


def test_a_flipped_bit_in_the_spool_is_never_shown(m):
    """A result, what a run printed, an answer of a stream and what was written to one, each larger than a row."""
    print("PPFS_SEED=%d" % SEED)
    rng = random.Random(SEED)
    size = 1_000_000
    m.put("out", "#!/bin/sh\ncd /; head -c %d /dev/urandom; head -c %d /dev/urandom >&2\n" % (size, size))
    m.put("s.jsonl", b'{"call": "eval", "args": ["\'y\' * %d"]}\n{"call": "len", "args": ["%s"]}\n' % (size, b"x" * size))
    wanted = {m.results / "out": m.result("out"), m.info / "out" / "stderr": (m.info / "out" / "stderr").read_bytes(),
              m.results / "s.jsonl": m.result("s.jsonl"), m.info / "s.jsonl" / "spec": (m.info / "s.jsonl" / "spec").read_bytes()}
    m.unmount()
    assert check(m) == []
    files = list((m.statedir / "spool").iterdir())
    assert len(files) == len(wanted)
    for f in files:
        flip_file(f, f.stat().st_size - 1 - rng.randrange(500_000))  # a log has rows at its beginning
    lines = check(m)
    assert len(lines) == len(files) and all(" is damaged: " in line for line in lines), lines
    m.start()
    for path, whole in wanted.items():
        with open(path, "rb") as f:
            with pytest.raises(OSError) as e:
                f.read()
            assert e.value.errno == errno.EIO, path
            f.seek(0)
            assert whole.startswith(f.read(1000))  # what is before is whole
        assert "is damaged on the disk" in m.why(path.parent.name if path.parent.parent == m.info else path.name)
    m.works()


def test_a_large_job_file_has_checksums(m):
    """Until it is a draft again, which is written anywhere."""
    text = b"#!/bin/sh\n#ppfs: hold=1\necho new\n#" + b"x" * 300_000 + b"\n"
    m.put("x", text)
    m.put("y", text)
    m.put("later", text)
    os.rename(m.jobs / "later", m.jobs / ".later")
    assert (m.info / "x" / "spec").read_bytes() == text
    m.unmount()
    assert check(m) == []
    [f] = [f for f in (m.statedir / "spool").iterdir() if f.name.startswith("%s-" % ids_of(m)["x"])]
    flip_file(f, 200_000)
    assert len(check(m)) == 1 and "the job file of job" in check(m)[0]
    m.start()
    with pytest.raises(OSError) as e:
        (m.info / "x" / "spec").read_bytes()
    assert e.value.errno == errno.EIO
    assert (m.info / "y" / "spec").read_bytes() == text
    with open(m.jobs / ".later", "r+b") as f:
        f.seek(250_000)
        f.write(b"yyy")
    assert (m.jobs / ".later").read_bytes() == text[:250_000] + b"yyy" + text[250_003:]
    os.rename(m.jobs / ".later", m.jobs / "later")
    wait_until(lambda: m.state("later") == "held", "it to be taken")
    (m.info / "later" / "hold").write_text("0")
    assert m.result("later") == b"new\n"
    m.unmount()
    assert len(check(m)) == 1


def test_a_job_that_runs_again_is_not_damaged_any_more(m):
    """Nor is what another attempt printed."""
    again = m.statedir.parent / "again"
    m.put("x", "#!/bin/sh\nhead -c 1000000 /dev/zero; test -e %s\n" % again)
    m.failed("x")
    [f] = (m.statedir / "spool").iterdir()
    flip_file(f, 500_000)
    with pytest.raises(OSError):
        (m.info / "x" / "stdout").read_bytes()
    assert "its standard output is damaged on the disk" in m.why("x")
    again.touch()
    os.rename(m.failures / "x", m.jobs / "x")
    assert m.result("x") == bytes(1_000_000) and "damaged" not in m.why("x")


def test_what_cannot_be_examined(m):
    p = subprocess.run([str(PPFS), "--check", str(m.statedir)], capture_output=True, text=True, timeout=60 * SLOW)
    assert p.returncode == 1 and "is in use" in p.stderr and not p.stdout
    p = subprocess.run([str(PPFS), "--check", "/nonexistent"], capture_output=True, text=True, timeout=60 * SLOW)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "/nonexistent" in p.stderr
    p = subprocess.run([str(PPFS), "--check", str(m.statedir), "x"], capture_output=True, text=True, timeout=60 * SLOW)
    assert p.returncode == 2 and p.stderr.count("\n") == 1


# --- what is whole in it ---------------------------------------------------------------------------------------------


def test_what_is_whole_is_brought_over(state):
    m = state
    status, lines = salvage(m)
    assert (status, lines) == (0, [])
    m.start()
    for name, wanted in m.wanted.items():
        assert m.result(name) == wanted
    assert (m.info / "G" / ".wait").read_text() == "done 20 failed 0\n"
    (m.info / "held" / "hold").write_text("0")
    assert m.result("held") == b"held\n"
    goes_on(m)


def test_what_keep_results_counts_is_counted_anew(new_mount):
    m = new_mount(options=("--keep-results", "3")).start()
    for name in "abc":
        m.put(name, "print(1)\n")
        m.result(name)
    m.unmount()
    assert salvage(m) == (0, [])
    m.start()
    m.put("d", "print(1)\n")
    m.result("d")
    wait_until(lambda: sorted(os.listdir(m.results)) == ["b", "c", "d"], "a is forgotten")


def test_what_is_damaged_stays_behind_and_is_named(state):
    m, rng = state, random.Random(SEED)
    hit = {"G/j3", "G/j7", "held"}
    for name in hit:
        assert flip(m, "bodies", rng, m.ids[os.path.basename(name)])
    change(m, "UPDATE jobs SET state=77 WHERE name='j1'", "UPDATE jobs SET name='a/b' WHERE name='j2'")
    status, lines = salvage(m)
    assert status == 1 and len(lines) == 5 and all(line.startswith("left out: ") for line in lines), lines
    m.start()
    for name, wanted in m.wanted.items():
        if name in hit or name in ("G/j1", "G/j2"):
            assert not (m.info / name).exists()
        else:
            assert m.result(name) == wanted
    assert (m.info / "G" / ".wait").read_text() == "done 16 failed 0\n"
    goes_on(m)


def test_directories_count_what_is_below_them(m):
    """Also one that was opening, which counts as a job until it is open."""
    os.makedirs(m.jobs / "a" / "b")
    for name in "a/x", "a/b/y", "a/b/z":
        m.put(name, "#!/bin/sh\necho 1\n")
        assert m.result(name) == b"1\n"
    m.put("held", "#!/bin/sh\n#ppfs: hold=1\necho held\n")
    m.put("a/b/held", "#!/bin/sh\n#ppfs: hold=1\necho held\n")
    m.unmount()
    change(m, "UPDATE jobs SET state=77 WHERE name='z'", "UPDATE groups SET opening=1 WHERE name='b'",
           "UPDATE groups SET active=active+1 WHERE id=0 OR name IN ('a', 'b')")
    assert salvage(m)[0] == 1
    m.start()
    for name in "held", "a/b/held":
        (m.info / name / "hold").write_text("0")
        assert m.result(name) == b"held\n"
    assert [(m.info / where / ".wait").read_text() for where in ("a", "a/b")] == ["done 3 failed 0\n", "done 2 failed 0\n"]
    tally = [json.loads((m.mnt / "stats.json").read_text())["jobs"][x] for x in ("waiting", "running", "done")]
    assert tally == [0, 0, 4]


def test_who_waits_for_what_stays_behind_fails(m):
    m.put("first", "#!/bin/sh\n#ppfs: hold=1\necho first\n")
    m.put("second", "#!/bin/sh\n#ppfs: after=first\necho second\n")
    assert m.state("second") == "waiting"
    m.unmount()
    change(m, "UPDATE bodies SET data=x'00' WHERE id=(SELECT id*8 FROM jobs WHERE name='first')")
    status, lines = salvage(m)
    assert status == 1 and len(lines) == 1
    m.start()
    assert "did not succeed" in m.failed("second")


@pytest.mark.limit(60 + 10 * FLIPS)
def test_bits_flipped_anywhere(state):
    """One, or many, or a page that is gone, anywhere in the database: whatever is shown after salvage is right, and one that cannot be salvaged is said to be."""
    print("PPFS_SEED=%d" % SEED)
    m, rng = state, random.Random(SEED)
    with sqlite3.connect(database_of(m.statedir)) as db:
        assert db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    db.close()
    whole = (m.statedir / "ppfs.db").read_bytes()
    shown = left = 0
    for n in range(FLIPS):
        data = bytearray(whole)
        if rng.random() < 0.3:
            page = rng.randrange(1, len(data) // 1024) * 1024
            data[page:page + 1024] = bytes(1024)
        for _ in range(rng.choice((0, 1, 3, 20))):
            data[rng.randrange(100, len(data))] ^= 1 << rng.randrange(8)
        (m.statedir / "ppfs.db").write_bytes(data)
        new = m.statedir.parent / "new"
        shutil.rmtree(new, ignore_errors=True)
        p = subprocess.run([str(PPFS), "--salvage", str(m.statedir), str(new)], capture_output=True, text=True, timeout=60 * SLOW)
        if p.returncode == 2:
            assert p.stderr.count("\n") == 1 and not new.exists(), p
            continue
        assert not p.stderr, p
        base = m.base / ("m%d" % n)
        base.mkdir()
        other = ppfsmount.Mount(base)
        new.rename(other.statedir)
        other.start()
        try:
            for name, wanted in m.wanted.items():
                try:
                    assert (other.results / name).read_bytes() == wanted, (name, p.stdout)
                    shown += 1
                except OSError as e:
                    assert e.errno in (errno.EIO, errno.ENOENT), e
                    left += 1
        finally:
            other.finish()
    print("%d shown, %d not" % (shown, left))
    assert shown
