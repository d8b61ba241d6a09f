"""Promises 1 to 4: whatever is killed with -9 at whatever moment, every job whose close() returned 0 ends in exactly
one of results/ and failures/, with the right contents; none ran twice unless something died under it; and clients that
waited over the death of a daemon get their answers.

PPFS_ROUNDS says how many kills there are in all (200), PPFS_SEED replays the choices of a run.
"""
import collections
import contextlib
import os
import random
import re
import select
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ppfsmount import PYTHON, SLOW, database_of, wait_until
from processes import alive, kill, text_of

sys.path.insert(0, str(Path(__file__).resolve().parent))
import client  # noqa: E402

ROUNDS = int(os.environ.get("PPFS_ROUNDS", 200))
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
HERE = Path(__file__).resolve().parent
SLACK = 20_000_000  # nanoseconds: a worker that was forked while the victims were looked up
VICTIMS = ("worker", "worker", "worker", "guard", "forkserver", "forkserver", "daemon", "daemon", "daemon", "supervisor", "all")


def remount(m):
    """Mounts again after everything was killed, as somebody would: the same command."""
    m.gone()
    m.start()


class Killer:
    """Kills something at a random moment, and remembers when: [(before, after, what)] in nanoseconds."""

    def __init__(self, m, rng):
        self.m, self.rng, self.kills = m, rng, []

    def shoot(self, what, *pids, with_them=(), until=None):
        """with_them: those who die of it; what they had been given to do they may still have begun, until that is true."""
        before = time.time_ns()
        hit = [kill(pid) for pid in pids if pid]
        if any(hit):
            gone = [pid for pid in (*pids, *with_them) if pid]
            wait_until(lambda: not any(map(alive, gone)), "the victims to be dead")
            if until:
                wait_until(until, "all that the %s had begun to be dead" % what)
            self.kills.append((before, time.time_ns() + SLACK, what))
        return any(hit)

    def round(self):
        m, what = self.m, self.rng.choice(VICTIMS)
        time.sleep(self.rng.random() ** 2 * 0.4)  # the moment: mostly soon
        pids = m.pids()
        workers = (*pids["guards"], *pids["workers"])
        if what in ("worker", "guard"):
            group = pids[what + "s"]
            return group and self.shoot(what, self.rng.choice(group))
        if what in ("forkserver", "daemon"):
            # who takes its place is started when what it leaves is dead
            return self.shoot(what, pids[what], with_them=(pids["forkserver"], *workers),
                              until=lambda: m.pids()[what] not in (0, pids[what]))
        if what == "supervisor":
            # alone it disturbs nobody; the daemon goes on, until it is unmounted or dies too
            if not self.shoot(what, pids["supervisor"]):
                return False
            time.sleep(self.rng.random() * 0.05)
            if self.rng.random() < 0.5:
                self.shoot("daemon", pids["daemon"], with_them=(pids["forkserver"], *workers), until=lambda: not m.marked())
            else:
                before = time.time_ns()
                p = subprocess.run(["fusermount3", "-u", "-z", str(m.mnt)], capture_output=True, text=True)
                assert p.returncode == 0, p.stderr  # lazily, as clients are in it: the last of them lets it end
                m.gone()
                self.kills.append((before, time.time_ns(), "unmount"))
            remount(m)
            return True
        everything = [p for p in (pids["supervisor"], pids["daemon"], pids["forkserver"], *pids["guards"],
                                  *pids["workers"]) if p]
        self.rng.shuffle(everything)
        if not self.shoot(what, *everything):
            return False
        while left := m.marked():  # the supervisor may have started another daemon before its turn came
            self.shoot(what, *left)
        remount(m)
        return True


def read_history(paths):
    """(kinds of all tried, names known to be in, [(name, what was read)])"""
    kinds, acked, reads = {}, set(), []
    for path in paths:
        for line in path.read_text().splitlines():
            words = line.split()
            if words[0] == "try":
                kinds[words[1]] = words[2]
            elif words[0] == "ack":
                acked.add(words[1])
            else:
                reads.append((words[1], words[2]))
    return kinds, acked, reads


def check_integrity(m):
    with contextlib.closing(sqlite3.connect(database_of(m.statedir))) as db:  # or its lock stays, and the next ppfs waits for it
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.limit(360 + ROUNDS)
def test_kill_anything_at_any_time(new_mount):
    print("PPFS_ROUNDS=%d PPFS_SEED=%d" % (ROUNDS, SEED))
    rng = random.Random(SEED)
    m = new_mount().start()
    m.may_restart = True
    runs, stop = m.work / "runs", m.work / "stop"
    runs.touch()
    histories = [m.work / ("history%d" % i) for i in range(3)]
    clients = [m.popen(PYTHON, HERE / "client.py", m.mnt, histories[i], runs, "c%d" % i, SEED + i,
                       stop) for i in range(3)]
    killer = Killer(m, rng)
    rounds = 0
    while rounds < ROUNDS:
        rounds += bool(killer.round())
        for p in clients:
            assert p.poll() is None, "a client gave up: %s" % p.communicate()[1].decode()
    stop.touch()
    for p in clients:
        out, complaint = p.communicate()
        assert p.returncode == 0, complaint.decode()

    words = (m.info / ".wait").read_text().split()
    kinds, acked, reads = read_history(histories)
    done, failed = set(os.listdir(m.results)), set(os.listdir(m.failures))
    count = collections.Counter(what for _, _, what in killer.kills)
    print("%d jobs, %d done, %d failed; killed: %s" % (len(acked), len(done), len(failed), dict(count)))
    assert len(acked) > ROUNDS, "too little load to say anything"

    # every job is in exactly one place
    assert not done & failed, "in both: %s" % sorted(done & failed)[:5]
    assert not acked - done - failed, "lost: %s" % [(n, kinds[n]) for n in sorted(acked - done - failed)[:5]]
    assert done | failed <= set(kinds), "nobody wrote %s" % sorted((done | failed) - set(kinds))[:5]
    assert [words[1], words[3]] == [str(len(done)), str(len(failed))]
    for name in os.listdir(m.jobs):
        assert m.state(name) == "draft" and name not in acked, name

    # with the right contents; one that failed without being meant to was killed, and says so
    started = read_runs(runs)
    killed = []
    for name in sorted(done):
        assert kinds[name] != "fails", "%s is done" % name
        assert client.same(kinds[name], name, m.result(name)), "%s (%s) has a wrong result" % (name, kinds[name])
        assert started[name]["ends"] > 0, "%s never ran to its end" % name
    for name in sorted(failed):
        why = m.why(name)
        if kinds[name] != "fails" or "exit status 3" not in why:
            killed.append((name, kinds[name], why))
    gave_up = [k for k in killed if k[2].startswith("gave up")]  # each after three deaths of what was above it
    most = m.cpus * sum(count[what] for what in ("forkserver", "daemon", "supervisor", "all", "unmount")) // 3
    assert len(gave_up) <= most, "more gave up than were running at three deaths: %s" % gave_up
    signalled = [k for k in killed if "SIGKILL" in k[2] and k not in gave_up]
    most = count["worker"] + count["guard"] + m.cpus * count["all"]
    assert len(signalled) <= most, "more failed than were killed: %s" % signalled
    for name, kind, why in gave_up:  # a worker had taken it each time, which may have died before the job wrote a line
        assert int((m.info / name / "attempt").read_text()) >= 3, "%s (%s) gave up, but never began: %s" % (name, kind, why)
    for name, kind, why in killed:
        assert re.search("SIGKILL|die|death", why), "%s (%s) failed although nothing hit it: %s" % (name, kind, why)

    # what was read while it went on was right
    for name, what in reads:
        assert what == "right" and name in done or what == "EIO" and name in failed, "%s was read as %s" % (name, what)

    # no job ran twice without a death in between
    for name, run in started.items():
        for (first, _), (second, _) in zip(run["starts"], run["starts"][1:]):
            assert any(before <= second and after >= first for before, after,
                       what in killer.kills if what != "worker"), \
                "%s (%s) ran twice with nothing killed in between: %s; kills near: %s" % (
                    name, kinds[name], run, [k for k in killer.kills if abs(k[0] - first) < 2e9])
    m.works("afterwards")
    m.unmount()
    check_integrity(m)
    m.start()
    assert set(os.listdir(m.results)) == done and set(os.listdir(m.failures)) == failed


def read_runs(path):
    """{name: {"starts": [(nanoseconds, attempt)] in order, "ends": how many}}"""
    table = collections.defaultdict(lambda: {"starts": [], "ends": 0})
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "start":
            table[words[1]]["starts"].append((int(words[3]), int(words[2])))
        else:
            table[words[1]]["ends"] += 1
    for run in table.values():
        run["starts"].sort()
    return table


@pytest.mark.limit(200)
@pytest.mark.parametrize("options", [(), ("-o", "no_resend")], ids=["resend", "no resend"])
@pytest.mark.parametrize("deaths", [1, 2])
def test_clients_that_wait_over_the_death_of_a_daemon(new_mount, deaths, options):
    """Every kind of wait goes on: open of a result, reading live output, wait files, poll, and a half-written job."""
    m = new_mount(options=options).start()
    m.may_restart = True
    for i in range(max(ROUNDS // 20, 1)):
        name = "x%d" % i
        m.put(name, m.gate(name))
        m.pid_of(name)
        os.mkdir(m.jobs / ("G%d" % i))
        m.put("G%d/h" % i, "#ppfs: hold=1\nprint('held')\n")
        readers = {path: m.reader(m.mnt / path) for path in
                   ("results/" + name, "info/%s/wait" % name, "info/G%d/.wait" % i, "results/G%d/h" % i)}
        follower = m.popen("cat", m.info / name / "stderr")
        polled = os.open(m.results / name, os.O_RDONLY | os.O_NONBLOCK)
        poller = select.poll()
        poller.register(polled, select.POLLIN)
        assert poller.poll(0) == []
        half = os.open(m.jobs / ("half%d" % i), os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        os.write(half, b"#!/bin/sh\necho first half\n")
        listing = os.listdir(m.jobs)
        for _ in range(deaths):
            (m.work / (name + ".pid")).unlink()
            m.kill_daemon()
            m.pid_of(name)  # it runs again
        assert sorted(os.listdir(m.jobs)) == sorted(listing)
        os.write(half, b"echo second half\n")
        assert m.state("half%d" % i) == "draft"
        os.close(half)
        assert m.result("half%d" % i) == b"first half\nsecond half\n"
        m.open_gate(name)
        (m.info / ("G%d/h/hold" % i)).write_text("0")
        answers = {path: p.communicate() for path, p in readers.items()}
        assert answers == {"results/" + name: (b"through %s\n" % name.encode(), b""),
                           "info/%s/wait" % name: (b"done\n", b""),
                           "info/G%d/.wait" % i: (b"done 1 failed 0\n", b""), "results/G%d/h" % i: (b"held\n", b"")}
        assert follower.communicate() == (b"", b"") and follower.returncode == 0
        assert wait_until(lambda: poller.poll(100), "poll to wake")
        assert os.read(polled, 100) == b"through %s\n" % name.encode()
        os.close(polled)


@pytest.mark.limit(120)
@pytest.mark.parametrize("options", [(), ("-o", "no_resend")], ids=["resend", "no resend"])
def test_a_reader_over_deaths_of_the_daemon(new_mount, options):
    """A large result is read to its end while daemons die; so is a directory."""
    m = new_mount(options=options).start()
    m.may_restart = True
    m.put("x", "#!/bin/sh\nhead -c 30000000 /dev/zero | tr '\\0' x\n")
    m.wait("x")
    for i in range(200):
        m.put("j%d" % i, "#ppfs: hold=1\nprint(1)\n")
    for _ in range(5):
        with open(m.results / "x", "rb", buffering=0) as f, os.scandir(m.jobs) as entries:
            size, names = 0, set()
            for k in range(300):
                piece = os.pread(f.fileno(), 100_000, size)
                size += len(piece)
                assert piece == b"x" * 100_000
                entry = next(entries, None)
                if entry:
                    names.add(entry.name)
                if k % 100 == 50:
                    m.kill_daemon()
            names |= {entry.name for entry in entries}
        assert size == 30_000_000 and names == {"j%d" % i for i in range(200)}


@pytest.mark.parametrize("victim", ["daemon", "forkserver", "all"])
def test_three_deaths(m, victim):
    """A job that was running at three deaths fails and says so."""
    m.may_restart = True
    m.put("x", m.gate("x"))
    m.put("other", "#ppfs: hold=1\nprint('other')\n")
    for _ in range(3):
        m.pid_of("x")
        m.is_running("x")
        (m.work / "x.pid").unlink()
        if victim == "daemon":
            m.kill_daemon()
        elif victim == "forkserver":
            old = m.pids()["forkserver"]
            kill(old)
            wait_until(lambda: m.pids()["forkserver"] not in (0, old), "another fork server")
        else:
            m.kill_all()
            remount(m)
    text = m.failed("x")
    assert "three" in text or "3" in text
    assert not (m.work / "x.pid").exists()
    (m.info / "other/hold").write_text("0")
    assert m.result("other") == b"other\n"


def test_two_deaths_are_survived(m):
    m.may_restart = True
    m.put("x", m.gate("x"))
    for _ in range(2):
        m.pid_of("x")
        (m.work / "x.pid").unlink()
        m.kill_daemon()
    m.pid_of("x")
    m.open_gate("x")
    assert m.result("x") == b"through x\n" and int(m.get("x", "attempt")) == 3


def test_killed_worker_fails_its_job_alone(m):
    """The worker itself is killed: its job fails at once with the signal named, the one beside it never notices."""
    m.put("x", (eval,
                ("open(%r, 'w').write(str(__import__('os').getpid())) and __import__('time').sleep(1000)" %
                  str(m.work / "pid"),)))
    m.put("y", m.gate("y"))
    m.pid_of("y")
    kill(int(wait_until(lambda: text_of(m.work / "pid"), "the call to say its pid")))
    assert "SIGKILL" in m.failed("x").split("\n")[0]
    assert m.state("y") == "running"
    m.open_gate("y")
    assert m.result("y") == b"through y\n" and m.get("y", "attempt") == "1"
    m.works()


def test_killed_forkserver_fails_nobody(m):
    """The jobs that ran run again; nothing is anybody's fault."""
    for name in "xy":
        m.put(name, m.gate(name))
        m.pid_of(name)
        (m.work / (name + ".pid")).unlink()
    kill(m.pids()["forkserver"])
    for name in "xy":
        m.pid_of(name)
        m.open_gate(name)
        assert m.result(name) == b"through %s\n" % name.encode()
    m.works()


def test_nothing_outlives_its_daemon(m):
    """Jobs of a daemon that was killed are dead before the next one starts them again."""
    m.may_restart = True
    m.put("x", m.tree_job())
    pids = m.tree_pids()
    for i in range(1, 6):
        (m.work / ("p%d" % i)).unlink()
    m.kill_daemon()
    again = m.tree_pids()
    assert not set(pids) & set(again) and not any(map(alive, pids))
    os.unlink(m.jobs / "x")
    wait_until(lambda: not any(map(alive, again)), "the second tree to be dead")


def test_acknowledged_but_not_yet_released(m):
    """close() has returned 0 and everything is killed in the same moment: the job is there after the next start."""
    m.may_restart = True
    for i in range(6):
        pids = m.pids()
        m.put("x%d" % i, "#!/bin/sh\necho %d\n" % i)
        for pid in (pids["supervisor"], pids["daemon"], pids["forkserver"]):  # looked up before: no moment is lost
            kill(pid)
        remount(m)
        assert m.result("x%d" % i) == b"%d\n" % i


def test_unfinished_writer_over_a_death_of_everything(m):
    """Its bytes were not acknowledged: it stays a draft, says why, and does not run."""
    m.may_restart = True
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"#!/bin/sh\necho half\n")
    m.kill_all()
    with pytest.raises(OSError):
        os.write(fd, b"echo other half\n")
        os.fsync(fd)
    try:
        os.close(fd)
    except OSError:
        pass
    remount(m)
    m.works()
    if "x" in os.listdir(m.jobs):
        assert m.state("x") == "draft" and m.why("x")
    assert "x" not in os.listdir(m.results)
    m.put("x", "#!/bin/sh\necho whole\n")
    assert m.result("x") == b"whole\n"


def test_killed_while_it_starts(new_mount):
    """ppfs is killed at random moments of its own start, again and again; then it starts as if nothing had been."""
    rng = random.Random(SEED)
    m = new_mount().start()
    m.may_restart = True
    m.put("x", "print('before')\n")
    m.result("x")
    m.put("h", "#ppfs: hold=1\nprint('held')\n")
    m.unmount()
    for _ in range(max(ROUNDS // 10, 1)):
        p = subprocess.Popen(m.argv(), env=m.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
        time.sleep(rng.random() * 0.15 * SLOW)
        for _ in range(3):
            for pid in m.marked():
                kill(pid)
        p.wait()
        m.gone()
    m.start()
    assert m.result("x") == b"before\n" and m.state("h") == "held"
    (m.info / "h/hold").write_text("0")
    assert m.result("h") == b"held\n"
    m.unmount()
    check_integrity(m)
    m.start()


def test_killed_during_a_group_commit_by_rename(m):
    """All or none, also when the daemon dies in the middle: 15 times."""
    m.may_restart = True
    for i in range(15):
        os.mkdir(m.jobs / (".G%d" % i))
        for k in range(20):
            m.put(".G%d/%d" % (i, k), {"call": "abs", "args": [k]})
        daemon = m.pids()["daemon"]
        p = m.popen("mv", m.jobs / (".G%d" % i), m.jobs / ("G%d" % i))
        time.sleep(0.0005 * i)
        kill(daemon)
        assert p.communicate() == (b"", b"") and p.returncode == 0
        assert (m.info / ("G%d/.wait" % i)).read_text() == "done 20 failed 0\n"
        assert not (m.jobs / (".G%d" % i)).exists()


def test_a_daemon_that_stops_is_not_taken_for_dead(m):
    """SIGSTOP and SIGCONT lose nothing."""
    daemon = m.pids()["daemon"]
    m.put("x", m.gate("x"))
    m.pid_of("x")
    kill(daemon, 19)
    reader = m.reader(m.results / "x")
    m.open_gate("x")
    kill(daemon, 18)
    assert reader.communicate() == (b"through x\n", b"")
