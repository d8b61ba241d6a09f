"""All that can be done to jobs, groups and streams, in any order, while workers, the fork server and the daemon are killed and
stopped: each client compares every answer with what ppfs(5) lets it be (operator_client.py), and what the jobs wrote themselves
is compared with all of them afterwards.

PPFS_ROUNDS says how many faults there are (60), PPFS_SEED replays the choices of a run.
"""
import bisect
import collections
import os
import random
import signal
import time
from pathlib import Path

import pytest
from ppfsmount import PYTHON, sanitized, wait_until
from processes import kill

ROUNDS = int(os.environ.get("PPFS_ROUNDS", 15 if sanitized() else 60))
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
HERE = Path(__file__).resolve().parent
SLACK = 100_000_000  # nanoseconds: what was started in time may have been slow to say so
FAULTS = ("worker", "forkserver", "daemon", "daemon", "stop daemon", "stop worker", "stop forkserver")


def fault(m, rng):
    """One, at a random moment. (when it began, when it was over, what), or None."""
    what = rng.choice(FAULTS)
    time.sleep(rng.random() ** 2 * 0.3)
    pids, before = m.pids(), time.time_ns()
    victim = pids["daemon"] if "daemon" in what else pids["forkserver"] if "forkserver" in what else next(iter(pids["workers"]), 0)
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
    """({version: [nanoseconds of its starts, in order]}, {version: how often it ended})"""
    starts, ends = collections.defaultdict(list), collections.Counter()
    for line in runs.splitlines():
        what, version, *when = line.split()
        if what == "start":
            bisect.insort(starts[version], int(when[0]))
        else:
            ends[version] += 1
    return starts, ends


def differences(told, starts, ends, faults):
    """What the runs of the jobs contradict, a sentence each."""
    wrong = ["%s ran, but was never written" % v for v in set(starts) - {version for version, _, _ in told["in"]}]
    again = collections.defaultdict(list)
    for version, _, when in told["again"]:
        again[version].append(when)
    for what in ("over", "shown"):
        for version, _, when in told[what]:
            # What was stopped meanwhile had been given it before, and hears of its end when it goes on.
            late = [t for t in starts[version] if t > when + SLACK and not any(when < a < t for a in again[version])
                    and not any(fault.startswith("stop") and before <= t and after + SLACK >= when for before, after, fault in faults)]
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


@pytest.mark.limit(300 + 2 * ROUNDS)
def test_every_answer_is_one_that_the_manual_allows(new_mount):
    print("PPFS_ROUNDS=%d PPFS_SEED=%d" % (ROUNDS, SEED))
    rng = random.Random(SEED)
    m = new_mount().start()
    m.may_restart = True
    runs, stop = m.work / "runs", m.work / "stop"
    runs.touch()
    histories = [m.work / ("history%d" % i) for i in range(3)]
    clients = [m.popen(PYTHON, HERE / "operator_client.py", m.mnt, histories[i], runs, "c%d" % i, SEED + i, stop) for i in range(3)]
    faults = []
    while len(faults) < ROUNDS and all(p.poll() is None for p in clients):
        happened = fault(m, rng)
        faults += [happened] if happened else []
    stop.touch()
    for p in clients:
        _, complaint = p.communicate()
        assert p.returncode == 0, complaint.decode()
    told = events(histories)
    starts, ends = started(runs.read_text())
    print("%d jobs, %d results, %d cancelled or written over; %s" % (
        len(told["in"]), len(told["shown"]), len(told["over"]), dict(collections.Counter(what for _, _, what in faults))))
    assert len(told["shown"]) > ROUNDS, "too little load to say anything"
    assert differences(told, starts, ends, faults) == []
    m.works("afterwards")


S = 1_000_000_000


@pytest.mark.parametrize("history, runs, says", [
    ("in a 1\nshown a %d" % (3 * S), "start a %d\nend a" % (2 * S), None),
    ("in a 1\nshown a %d" % (3 * S), "start a %d\nend a\nstart a %d\nend a" % (2 * S, 4 * S), "ran again"),
    ("in a 1\nover a %d" % (3 * S), "start a %d" % (4 * S), "ran again"),
    ("in a 1\nshown a %d" % (3 * S), "start a %d" % (2 * S), "never ran to its end"),
    ("in a 1", "start a %d\nstart a %d\nend a" % (S, 2 * S), "ran twice"),
    ("in a 1\nagain a %d" % (2 * S), "start a %d\nend a\nstart a %d\nend a" % (S, 3 * S), None),
    ("in a 1", "start a %d\nstart a %d\nend a" % (10 * S, 12 * S), None),  # the fault is at 11
    ("in a 1\nin b 1\nafter b a 1", "start b %d\nend b\nstart a %d\nend a" % (S, 2 * S), "which it was to wait for"),
    ("in a 1", "start b %d" % S, "never written"),
])
def test_a_history_that_is_wrong_is_told(tmp_path, history, runs, says):
    (tmp_path / "h").write_text(history + "\n")
    wrong = differences(events([tmp_path / "h"]), *started(runs), [(11 * S, 11 * S, "daemon")])
    assert any(says in sentence for sentence in wrong) if says else wrong == [], wrong
