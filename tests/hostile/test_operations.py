"""All that can be done to jobs, groups and streams, in any order, while workers, the fork server, the daemon and a node are killed
and stopped, the node's link is cut, and the mount is unmounted and mounted again: each client compares every answer with what ppfs(5) lets it be (operator_client.py), and what the jobs wrote themselves
is compared with all of them afterwards.

PPFS_ROUNDS says how many faults there are (60), or PPFS_SECONDS for how long; PPFS_SEED replays the choices of a run.
"""
import bisect
import collections
import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from noderig import Node, key_of
from ppfsmount import PYTHON, sanitized, wait_until
from processes import kill
from relay import Relay
from torture import PLANTED, TOP

ROUNDS = int(os.environ.get("PPFS_ROUNDS", 15 if sanitized() else 60))
SECONDS = float(os.environ.get("PPFS_SECONDS", 0))
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
HERE = Path(__file__).resolve().parent
S = 1_000_000_000
SLACK = 100_000_000  # nanoseconds: what was started in time may have been slow to say so
AWAY = {"stop": SLACK, "link": 5 * S}  # for how much longer: a node dials again
FAULTS = ("worker", "forkserver", "daemon", "daemon", "stop daemon", "stop worker", "stop forkserver", "stop supervisor", "node",
          "stop node", "link", "mount")


def mount_again(m, stop, clients):
    """Unmounts when no client has anything open, with whatever runs and waits, and mounts."""
    rest, resting = Path(str(stop) + ".rest"), Path(str(stop) + ".resting")
    rest.touch()
    wait_until(lambda: len(os.listdir(resting)) == sum(p.poll() is None for p in clients), "the clients to rest", 200)
    done = subprocess.run(["fusermount3", "-u", str(m.mnt)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # another test's mount namespace may have a copy of the mount for a while
    wait_until(lambda: not m.marked(), "every process to end after unmounting; copies of the mount: %s" % m.copies(), 200)
    m.start()
    rest.unlink()


def fault(m, node, relay, rng, mount):
    """One, at a random moment. (when it began, when it was over, what), or None."""
    what = rng.choice(FAULTS)
    time.sleep(rng.random() ** 2 * 0.3)
    pids, before = m.pids(), time.time_ns()
    pids["worker"], pids["node"] = next(iter(pids["workers"]), 0), node.process.pid
    if what == "mount":
        mount()
    elif what == "link":
        relay.cut()
        time.sleep(rng.random() * 0.2)
    elif what == "node":
        node.kill9()
        node.restart()
    else:
        victim = pids[what.removeprefix("stop ")]
        if not victim:
            return None
        if what.startswith("stop"):
            kill(victim, signal.SIGSTOP)
            time.sleep(rng.random() * 0.2)
            kill(victim, signal.SIGCONT)
        else:
            kill(victim)
            if what != "worker":
                wait_until(lambda: m.pids()[what] not in (0, victim), "another %s" % what)
    return before, time.time_ns(), what


def events(paths):
    """{what: [(version, other or None, nanoseconds)]} of all histories."""
    found = collections.defaultdict(list)
    for path in paths:
        for line in path.read_text().splitlines():
            what, version, *other, when = line.split()
            found[what].append((version, other[0] if other else None, int(when)))
    return found


def started(runs):
    """({version: [nanoseconds of its starts, in order]}, {version: how often it ended}, {version: [when it asked for another]})"""
    starts, ends, asked = collections.defaultdict(list), collections.Counter(), collections.defaultdict(list)
    for line in runs.splitlines():
        what, version, *when = line.split()
        if what == "end":
            ends[version] += 1
        else:
            bisect.insort((starts if what == "start" else asked)[version], int(when[0]))
    return starts, ends, asked


def differences(told, starts, ends, asked, faults):
    """What the runs of the jobs contradict, a sentence each."""
    wrong = ["%s ran, but was never written" % v for v in set(starts) - {version for version, _, _ in told["in"]}]
    again = collections.defaultdict(list, {version: list(when) for version, when in asked.items()})
    for version, _, when in told["again"]:
        again[version].append(when)
    for what in ("over", "shown"):
        for version, _, when in told[what]:
            # What was stopped or cut off meanwhile had been given it before, and hears of its end when it goes on.
            late = [t for t in starts[version] if t > when + SLACK and not any(when < a < t for a in again[version])
                    and not any(fault.split()[0] in AWAY and before <= t and after + AWAY[fault.split()[0]] >= when
                                for before, after, fault in faults)]
            wrong += ["%s ran again %d ms after it was %s" % (version, (t - when) // 1_000_000, what) for t in late]
    for version, _, _ in told["shown"]:
        if not ends[version]:
            wrong.append("%s was shown as done, but never ran to its end" % version)
    for version, times in starts.items():
        for first, second in zip(times, times[1:]):
            excused = any(first - SLACK < a < second + SLACK for a in again[version])
            if not excused and not any(before <= second and after + SLACK >= first for before, after, _ in faults):
                wrong.append("%s ran twice, and nothing happened in between" % version)
    for version, other, _ in told["after"]:
        if starts[version] and (not ends[other] or starts[version][0] < starts[other][0]):
            wrong.append("%s started before %s, which it was to wait for" % (version, other))
    return wrong


def about(version, told, ran, faults):
    """All that is known of it, in the order in which it happened, and the faults around it."""
    lines = [(when, "%s %s" % (what, other or "")) for what in told for v, other, when in told[what] if v == version]
    lines += [(when, "start") for when in ran[0][version]] + [(when, "asks for another attempt") for when in ran[2][version]]
    first, last = min(lines)[0], max(lines)[0]
    lines += [(when, "fault: %s, for %d ms" % (what, (end - when) // 1_000_000)) for when, end, what in faults
              if first - 5 * S < when < last + S]
    return ["%s: %9.3f s %s" % (version, (when - first) / S, what) for when, what in sorted(lines)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.mark.limit(300 + 2 * ROUNDS + SECONDS)
def test_every_answer_is_one_that_the_manual_allows(new_mount, base):
    print("PPFS_ROUNDS=%d PPFS_SEED=%d" % (ROUNDS, SEED))
    rng, port = random.Random(SEED), free_port()
    m = new_mount(options=["--listen", "127.0.0.1:%d" % port]).start()
    m.may_restart = True
    runs, stop = m.work / "runs", m.work / "stop"
    runs.touch()
    (m.work / "stop.resting").mkdir()
    histories = [m.work / ("history%d" % i) for i in range(3)]
    faults, end = [], time.monotonic() + SECONDS
    with Relay("127.0.0.1:%d" % port) as relay:
        node = Node(base, "--name", "far", key=key_of(m), join=relay.address, cpus=1).start()
        try:
            node.up(m)
            clients = [m.popen(PYTHON, HERE / "operator_client.py", m.mnt, histories[i], runs, "c%d" % i, SEED + i, stop) for i in range(3)]
            while (time.monotonic() < end if SECONDS else len(faults) < ROUNDS) and all(p.poll() is None for p in clients):
                happened = fault(m, node, relay, rng, lambda: mount_again(m, stop, clients))
                faults += [happened] if happened else []
            stop.touch()
            for p in clients:
                _, complaint = p.communicate()
                assert p.returncode == 0, complaint.decode()
        finally:
            node.finish()
    told = events(histories)
    faults += [(int(since), when, "daemon, when it had answered") for _, since, when in told["killed"]]
    ran = started(runs.read_text())
    print("%d jobs, %d results, %d cancelled or written over; %s" % (
        len(told["in"]), len(told["shown"]), len(told["over"]), dict(collections.Counter(what for _, _, what in faults))))
    assert len(told["shown"]) > len(faults), "too little load to say anything"
    wrong = differences(told, *ran, faults)
    assert wrong == [], "\n".join(wrong + [line for sentence in wrong[:3] for line in about(sentence.split()[0], told, ran, faults)])
    m.works("afterwards")



@pytest.mark.parametrize("history, runs, says", [
    ("in a 1\nshown a %d" % (3 * S), "start a %d\nend a" % (2 * S), None),
    ("in a 1\nshown a %d" % (3 * S), "start a %d\nend a\nstart a %d\nend a" % (2 * S, 4 * S), "ran again"),
    ("in a 1\nover a %d" % (3 * S), "start a %d" % (4 * S), "ran again"),
    ("in a 1\nshown a %d" % (3 * S), "start a %d" % (2 * S), "never ran to its end"),
    ("in a 1", "start a %d\nstart a %d\nend a" % (S, 2 * S), "ran twice"),
    ("in a 1", "start a %d\nagain a %d\nstart a %d\nend a" % (S, 2 * S, 3 * S), None),
    ("in a 1\nagain a %d" % (2 * S), "start a %d\nend a\nstart a %d\nend a" % (S, 3 * S), None),
    ("in a 1", "start a %d\nstart a %d\nend a" % (10 * S, 12 * S), None),  # the fault is at 11
    ("in a 1\nin b 1\nafter b a 1", "start b %d\nend b\nstart a %d\nend a" % (S, 2 * S), "which it was to wait for"),
    ("in a 1", "start b %d" % S, "never written"),
])
def test_a_history_that_is_wrong_is_told(tmp_path, history, runs, says):
    (tmp_path / "h").write_text(history + "\n")
    wrong = differences(events([tmp_path / "h"]), *started(runs), [(11 * S, 11 * S, "daemon")])
    assert any(says in sentence for sentence in wrong) if says else wrong == [], wrong


@pytest.mark.parametrize("name", PLANTED)
def test_every_bug_has_a_place_to_be_planted_in(name):
    _, file, old, *_ = PLANTED[name]
    assert (TOP / file).read_text().count(old) == 1
