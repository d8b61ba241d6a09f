"""A state directory that is full: writers are told, nothing is lost, and it goes on when there is room again."""
import os

import pytest
from fulldisk import Balloon, FULL, ended, fill, has_them, try_write
from ppfsmount import PENDING, wait_until


@pytest.mark.limit(120)
@pytest.mark.parametrize("size", [200, 20_000, 200_000])
def test_jobs_fill_the_disk(small, size):
    m = small.start()
    names, refused = fill(m, "x", size)
    assert names, "not one job fitted"
    # what was acknowledged is there, what was refused is not queued
    has_them(m, names)
    assert (m.jobs / names[0]).stat().st_size > size
    names += fill(m, "more", size)[0]  # the log has become smaller meanwhile
    # cancelling makes room
    cancelled = [name for name in names if m.state(name) in PENDING][:len(names) // 2]
    kept = [name for name in names if name not in cancelled]
    for name in cancelled:
        os.unlink(m.jobs / name)
        os.rmdir(m.info / name)  # a cancelled job keeps what it was until it is forgotten
    wait_until(lambda: try_put(m, "again", "#!/bin/sh\necho again\n#" + "x" * size + "\n"), "room for another job")
    (m.node / "cpus").write_text("2")
    assert m.result("again") == b"again\n"
    for name in kept:
        assert m.result(name) == name.encode() + b"\n"
    assert set(kept) <= set(os.listdir(m.results)) and os.listdir(m.failures) == []
    assert refused not in os.listdir(m.results)


@pytest.mark.limit(120)
@pytest.mark.parametrize("size", [40_000, 200_000])
@pytest.mark.parametrize("again", [False, True])
def test_a_write_finds_no_room(small, size, again):
    """What was refused makes the file another than its writer meant: closed so, it is never queued. Written again, it is."""
    m = small.start()
    head, tail = b"#!/bin/sh\necho head\n#" + b"x" * size + b"\n", b"echo tail\n#" + b"y" * size + b"\n"
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT)
    try:
        assert os.write(fd, head) == len(head)
        balloon = Balloon(m)
        balloon.inflate()
        tails = 0
        while try_pwrite(fd, tail, len(head) + tails * len(tail)):  # the ballast and what the database has spare go first
            tails += 1
            assert tails < 200
        balloon.burst()
        if again:
            wait_until(lambda: try_pwrite(fd, tail, len(head) + tails * len(tail)), "room for the rest")
    finally:
        e = closed(fd)
    (m.node / "cpus").write_text("1")
    m.put("y", "#!/bin/sh\necho y\n")
    assert m.result("y") == b"y\n"
    if again:
        assert e == 0 and m.result("x") == b"head\n" + (tails + 1) * b"tail\n"
    else:
        assert e in FULL and "x" in os.listdir(m.jobs) and "x" not in os.listdir(m.results)
        wait_until(lambda: m.why("x"), "why it stays a draft")
        assert m.state("x") == "draft" and "write" in m.why("x") and "space" in m.why("x")
        os.truncate(m.jobs / "x", 0)
        m.put("x", "#!/bin/sh\necho whole\n")
        assert m.result("x") == b"whole\n"


def try_pwrite(fd, bytes_, at):
    try:
        return os.pwrite(fd, bytes_, at) == len(bytes_)
    except OSError as e:
        assert e.errno in FULL
        return False


def closed(fd):
    """The errno of close()."""
    try:
        os.close(fd)
        return 0
    except OSError as e:
        return e.errno


def try_put(m, name, text):
    try:
        return m.put(name, text)
    except OSError as e:
        assert e.errno in FULL
        return None


@pytest.mark.limit(120)
def test_full_from_outside(small):
    """Somebody else took all the room: nothing is lost, reading works, removal works, and it goes on by itself."""
    m = small.start()
    m.put("before", "#!/bin/sh\necho before\n")
    m.put("other", "#!/bin/sh\necho other\n")
    for name in ("before", "other"):  # a release that is refused meanwhile would give the ballast up, to the balloon
        wait_until(lambda name=name: m.state(name) == "queued", "%s to be queued" % name)
    balloon = Balloon(m)
    balloon.inflate()
    names, _ = fill(m, "x", 1000)
    has_them(m, ["before", "other", *names])
    assert (m.jobs / "before").read_text() == "#!/bin/sh\necho before\n"
    os.unlink(m.jobs / "other")
    assert "other" not in os.listdir(m.jobs)
    balloon.burst()
    m.put("after", "#!/bin/sh\necho after\n")  # at once
    (m.node / "cpus").write_text("2")
    assert m.result("before") == b"before\n" and m.result("after") == b"after\n"
    for name in names:
        assert m.result(name) == name.encode() + b"\n"


@pytest.mark.parametrize("leave", [0, 80_000])
@pytest.mark.parametrize("size", [10, 60_000])
def test_rm_is_never_refused(tight, leave, size):
    """Nor when what the ballast left is taken as well."""
    m = tight
    m.cpus = 2
    m.start()
    names = ended(m, 30, size)
    balloon = Balloon(m)
    balloon.inflate(leave)
    for name in names[:10]:
        os.unlink(m.results / name)
    balloon.inflate()
    for name in names[10:]:
        os.unlink(m.results / name)
        balloon.inflate()
    assert os.listdir(m.results) == []
    balloon.burst()
    wait_until(lambda: try_works(m), "room again")


@pytest.mark.parametrize("killed", [False, True])
def test_starts_on_a_full_disk(tight, killed):
    """And what is there is read and removed."""
    m = tight
    m.cpus = 2
    m.start()
    names = ended(m, 20, 10_000)
    balloon = Balloon(m)
    for part in names[:10], names[10:]:
        if killed:
            m.kill_all()
        else:
            m.unmount()
        balloon.inflate()
        m.start()
        for name in part:
            assert (m.results / name).stat().st_size == 10_000
            os.unlink(m.results / name)
    assert os.listdir(m.results) == []
    m.unmount()
    balloon.burst()
    m.start().works()


def test_no_room_to_start(small):
    """It says so, and nothing of moving the database away."""
    m = small.start()
    m.put("x", "#!/bin/sh\necho x\n")
    m.unmount()
    os.unlink(m.statedir / "ballast")
    balloon = Balloon(m)
    balloon.inflate()
    p = m.run()
    assert (p.returncode, p.stderr) == (1, "ppfs: %s cannot be used, for its disk is full: make room there, and try again\n"
                                        % (m.statedir / "ppfs.db"))
    balloon.burst()
    m.start()
    assert m.state("x") == "queued"


@pytest.mark.limit(120)
def test_results_find_no_room(small):
    """Jobs end while the disk is full: each ends in exactly one place, whole, when there is room."""
    m = small.start()
    names = ["x%d" % i for i in range(30)]
    for name in names:
        m.put(name, "#!/bin/sh\necho %s >> %s/ran\nhead -c 50000 /dev/zero | tr '\\0' x\n" % (name, m.work))
    balloon = Balloon(m)
    balloon.inflate(leave=300_000)
    try_write(m.node / "cpus", "2")
    wait_until(lambda: (m.work / "ran").exists(), "jobs to run")
    wait_until(lambda: os.statvfs(m.statedir).f_bavail == 0 or not os.listdir(m.jobs) or stuck(m),
               "the disk to be full")
    balloon.burst()
    assert (m.info / ".wait").read_text().split()[0] == "done"
    done, failed = set(os.listdir(m.results)), set(os.listdir(m.failures))
    assert done | failed == set(names) and not done & failed
    for name in done:
        assert m.result(name) == b"x" * 50_000
    for name in failed:
        assert "room" in m.why(name) or "space" in m.why(name), m.why(name)
    m.works()


def stuck(m):
    """Little room is left and jobs wait for more."""
    return os.statvfs(m.statedir).f_bavail * os.statvfs(m.statedir).f_frsize < 200_000


def try_state(m, name):
    """The state; None where a change of the same moment could not be kept, so that nobody may be told of it."""
    try:
        return m.state(name)
    except OSError as e:
        assert e.errno in FULL
        return None


@pytest.mark.limit(120)
def test_output_larger_than_the_disk(small):
    """One job writes more than there ever can be: it fails and says so, or waits for room and can be cancelled."""
    m = small.start()
    (m.node / "cpus").write_text("2")
    m.put("x", "#!/bin/sh\nhead -c 50000000 /dev/zero\n")
    wait_until(lambda: try_state(m, "x") == "failed" or stuck(m), "the disk to be full")
    if try_state(m, "x") != "failed":
        try:
            os.unlink(m.jobs / "x")
        except FileNotFoundError:
            pass  # it failed meanwhile
        wait_until(lambda: try_state(m, "x") in ("cancelled", "failed"), "the job to end")
    else:
        assert "room" in m.why("x") or "space" in m.why("x"), m.why("x")
    os.rmdir(m.info / "x")
    wait_until(lambda: try_put(m, "y", "#!/bin/sh\necho y\n"), "room for a job after the large one")
    assert m.result("y") == b"y\n"
    wait_until(lambda: try_works(m), "everything to work again")


def try_works(m):
    try:
        m.works()
        return True
    except OSError as e:
        assert e.errno in FULL
        return False


@pytest.mark.limit(180)
def test_killed_with_a_full_disk(small):
    """kill -9 of everything while nothing can be written; then it starts, when there is room at the latest."""
    m = small.start()
    m.put("done", "#!/bin/sh\necho done\n")
    (m.node / "cpus").write_text("1")
    m.result("done")
    (m.node / "cpus").write_text("0")
    names, _ = fill(m, "x", 3000)
    balloon = Balloon(m)
    balloon.inflate()
    m.may_restart = True
    for round_ in range(5):
        if round_ % 2:
            m.kill_daemon()
        else:
            m.kill_all()
            p = m.run()
            if p.returncode != 0:
                assert p.returncode == 1 and p.stderr.count("\n") == 1, p.stderr
                assert "room" in p.stderr or "space" in p.stderr or "full" in p.stderr, p.stderr
                balloon.burst()
                m.start()
                balloon.inflate()
            else:
                m.started()
        has_them(m, names)
    balloon.burst()
    (m.node / "cpus").write_text("2")
    for name in names:
        assert m.result(name) == name.encode() + b"\n"
    assert m.result("done") == b"done\n"
    assert (m.info / ".wait").read_text() == "done %d failed 0\n" % (len(names) + 1)


def test_statfs_shows_the_room_there_is(small):
    m = small.start()
    before = os.statvfs(m.mnt)
    assert before.f_blocks * before.f_frsize <= 8 << 20
    Balloon(m).inflate()
    assert os.statvfs(m.mnt).f_bavail == 0


def try_rename(old, new):
    try:
        os.rename(old, new)
        return True
    except OSError as e:
        assert e.errno in FULL
        return False


@pytest.mark.limit(120)
def test_a_large_file_whose_name_found_no_room(small):
    """It is looked at as it gets a name that runs: a hole in it needs no room then, and without the name it stays a draft."""
    m = small.start()
    balloon = Balloon(m)
    with open(m.jobs / ".x", "wb", buffering=0) as f:
        f.write(b"#!/bin/sh\n#")
        f.truncate(4 << 20)
    with open(m.jobs / ".later", "wb", buffering=0) as f:
        balloon.inflate()
        while try_rename(m.jobs / ".x", m.jobs / "x"):  # the ballast and what the database has spare go first
            os.rename(m.jobs / "x", m.jobs / ".x")
        os.fsync(f.fileno())  # done when what was begun before it is
    assert m.state(".x") == "draft"
    balloon.burst()
    wait_until(lambda: try_rename(m.jobs / ".x", m.jobs / "x"), "room for a name")
    wait_until(lambda: m.state("x") in PENDING, "x to be read")
