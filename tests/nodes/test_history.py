"""Promises 1 to 3 with nodes: they are killed, stopped, cut off and made deaf at random moments, and the daemon with them.
Every job whose close() returned 0 ends in exactly one of results/ and failures/ with the right contents, no result is
one of an overtaken attempt, no attempt runs twice, and every call of a stream is answered once.

PPFS_ROUNDS says how many disturbances there are (100; 10 with sanitizers), PPFS_SEED replays the choices of a run.
"""
import collections
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from noderig import listens, value
from ppfsmount import PYTHON, SLOW, sanitized, wait_until
from relay import Relay

TOP = Path(__file__).resolve().parents[2]
HOSTILE = TOP / "tests" / "hostile"
sys.path += [str(HOSTILE), str(TOP / "scripts")]
import client  # noqa: E402
import ppfs  # noqa: E402

ROUNDS = int(os.environ.get("PPFS_ROUNDS", 10 if sanitized() else 100))
SEED = int(os.environ.get("PPFS_SEED", time.time_ns() % 1_000_000))
SILENCE = 1  # seconds
BLOWS = ("kill", "kill", "stop", "long stop", "cut", "reset", "freeze", "long freeze", "one way", "long one way",
         "refuse", "drain", "daemon")


class Stamps(threading.Thread):
    """Submits scripts whose result says which attempt wrote it, on which node."""

    def __init__(self, m, runs, stop):
        super().__init__()
        self.m, self.runs, self.stop, self.names, self.error = m, runs, stop, [], None

    def run(self):
        try:
            while not self.stop.exists():
                name = "stamp-%d" % len(self.names)
                self.m.put(name, "#!/bin/sh\nid=$(cat /proc/sys/kernel/random/uuid)\n"
                           "echo stamp $PPFS_JOB $PPFS_ATTEMPT $PPFS_NODE $id >> %s\nsleep 0.0%d\n"
                           "echo $PPFS_ATTEMPT $PPFS_NODE $id\n" % (self.runs, len(self.names) % 10))
                self.names.append(name)
                time.sleep(0.02)
        except OSError as e:
            self.error = e



def nap():
    def napping(i):
        import time
        time.sleep(0.002 * (i % 5))
        return 3 * i
    return napping


class Calls(threading.Thread):
    """Submits calls of a stream and keeps their futures."""

    def __init__(self, m, stop):
        super().__init__()
        self.m, self.stop, self.futures, self.error = m, stop, [], None

    def run(self):
        try:
            napping = nap()
            self.executor = ppfs.Executor(str(self.m.mnt))
            while not self.stop.exists():
                for i in range(20):
                    self.futures.append(self.executor.submit(napping, len(self.futures)))
                time.sleep(0.05)
        except Exception as e:
            self.error = e


class Blows:
    def __init__(self, m, rng, nodes, relays):
        self.m, self.rng, self.nodes, self.relays = m, rng, nodes, relays
        self.count = collections.Counter()

    def strike(self):
        time.sleep(self.rng.random() ** 2 * 0.5)
        what = self.rng.choice(BLOWS)
        i = self.rng.randrange(len(self.nodes))
        node, relay = self.nodes[i], self.relays[i]
        pause = SILENCE * (2.5 if what.startswith("long") else 0.3) * SLOW
        self.count[what] += 1
        if what == "kill":
            node.kill9()
            time.sleep(self.rng.random() * 0.3)
            node.restart()
        elif what.endswith("stop"):
            node.signal(signal.SIGSTOP)
            time.sleep(pause)
            node.signal(signal.SIGCONT)
        elif what in ("cut", "reset"):
            getattr(relay, what)()
        elif what.endswith("freeze") or what.endswith("one way"):
            relay.freeze(self.rng.choice(("up", "down")) if what.endswith("one way") else "both")
            time.sleep(pause)
            if self.rng.random() < 0.5:
                relay.cut()
            relay.thaw()
        elif what == "refuse":
            relay.refuse()
            relay.cut()
            time.sleep(pause)
            relay.accept()
        elif what == "drain":
            node.signal(signal.SIGTERM)
            if self.rng.random() < 0.5:
                node.wait()
            else:
                node.kill9()
            node.restart()
        else:
            self.m.kill_daemon()


def stamps_of(path):
    """{name: {attempt: [(node, id)]}}"""
    found = collections.defaultdict(lambda: collections.defaultdict(list))
    for line in path.read_text().splitlines():
        words = line.split()
        if words[0] == "stamp":
            found[words[1]][int(words[2])].append((words[3], words[4]))
    return found


def given_up(why):
    return "three deaths" in why


@pytest.mark.limit(300 + 6 * ROUNDS)
def test_nodes_are_killed_stopped_and_cut_off(new_mount, new_node):
    print("PPFS_ROUNDS=%d PPFS_SEED=%d" % (ROUNDS, SEED))
    rng = random.Random(SEED)
    m = new_mount(cpus=1, options=["--listen", "127.0.0.1:0", "--silence", SILENCE]).start()
    m.may_restart = True
    runs, stop = m.work / "runs", m.work / "stop"
    runs.touch()
    relays = [Relay(listens(m)) for _ in range(3)]
    try:
        nodes = [new_node("--name", "n%d" % i, "--silence", SILENCE, key=m.statedir / "join.key", join=relay.address, cpus=1)
                 for i, relay in enumerate(relays)]
        for node in nodes:
            node.up(m)
        histories = [m.work / ("history%d" % i) for i in range(2)]
        clients = [m.popen(PYTHON, HOSTILE / "client.py", m.mnt, histories[i], runs, "c%d" % i, SEED + i, stop)
                   for i in range(2)]
        threads = [Stamps(m, runs, stop), Calls(m, stop)]
        for thread in threads:
            thread.start()
        blows = Blows(m, rng, nodes, relays)
        try:
            for _ in range(ROUNDS):
                blows.strike()
                for p in clients:
                    assert p.poll() is None, "a client gave up: %s" % p.communicate()[1].decode()
                for thread in threads:
                    assert not thread.error, thread.error
        finally:
            stop.touch()
            for thread in threads:
                thread.join()
        for p in clients:
            complaint = p.communicate()[1]
            assert p.returncode == 0, complaint.decode()
        stamps, calls = threads
        check_calls(calls)
        calls.executor.shutdown()
        check_jobs(m, histories, stamps.names)
        check_stamps(m, runs, stamps.names)
        print("%d stamps, %d calls; %s" % (len(stamps.names), len(calls.futures), dict(blows.count)))
        for node in nodes:
            wait_until(lambda: value(m, node.name, "state") == "up", "every node to be back")
    finally:
        for relay in relays:
            relay.close()


def check_calls(calls):
    lost = 0
    for i, future in enumerate(calls.futures):
        error = future.exception(timeout=120 * SLOW)
        if error is not None:
            assert given_up(str(error)), "call %d: %r" % (i, error)
            lost += 1
        else:
            assert future.result() == 3 * i
    assert lost <= len(calls.futures) // 20, "%d of %d calls were given up" % (lost, len(calls.futures))


def check_jobs(m, histories, stamps):
    words = (m.info / ".wait").read_text().split()
    kinds, acked = {name: "stamp" for name in stamps}, set(stamps)
    for path in histories:
        for line in path.read_text().splitlines():
            what, name, *rest = line.split()
            if what == "try":
                kinds[name] = rest[0]
            elif what == "ack":
                acked.add(name)
            else:
                assert rest[0] in ("right", "EIO"), line
    done, failed = set(os.listdir(m.results)), set(os.listdir(m.failures))
    assert len(acked) > ROUNDS, "too little load to say anything"
    assert not done & failed, "in both: %s" % sorted(done & failed)[:5]
    assert not acked - done - failed, "lost: %s" % sorted(acked - done - failed)[:5]
    assert [words[1], words[3]] == [str(len(done)), str(len(failed))]
    assert done | failed <= set(kinds), "nobody wrote %s" % sorted((done | failed) - set(kinds))[:5]
    for name in sorted(done):
        assert kinds[name] != "fails", "%s is done" % name
        if kinds[name] != "stamp":
            assert client.same(kinds[name], name, m.result(name)), "%s (%s) has a wrong result" % (name, kinds[name])
    for name in sorted(failed):
        why = m.why(name)
        assert given_up(why) or (kinds[name] == "fails" and "exit status 3" in why), "%s (%s): %s" % (name, kinds[name], why)


def check_stamps(m, runs, names):
    """The result is that of the attempt that the job is at, and no attempt ran twice."""
    ran = stamps_of(runs)
    for name in names:
        for attempt, starts in ran[name].items():
            assert len(starts) == 1, "attempt %d of %s ran %d times" % (attempt, name, len(starts))
        if m.state(name) != "done":
            continue
        attempt, node, stamp = m.result(name).decode().split()
        assert attempt == m.get(name, "attempt") and node == m.get(name, "node"), name
        assert ran[name][int(attempt)] == [(node, stamp)], name
        assert int(attempt) == max(ran[name]), "%s was run on after its result" % name
