"""The lease: what either side does while it hears nothing, when it hears again in time, and when it does not."""
import signal
import time

import pytest
from noderig import key_of, listens, value
from ppfsmount import SLOW, wait_until
from processes import alive, kill
from relay import Relay


@pytest.fixture
def apart(new_mount, new_node):
    """make(silence of ppfs, of the node): (mount without slots, node "far" behind a relay, the relay)"""
    relays = []

    def make(here=3, there=3):
        m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", here * SLOW]).start()
        relays.append(Relay(listens(m)))
        node = new_node("--name", "far", "--silence", there * SLOW, key=key_of(m), join=relays[-1].address)
        return m, node.up(m), relays[-1]

    yield make
    for relay in relays:
        relay.close()


def let_pass(seconds):
    end = time.monotonic() + seconds * SLOW
    wait_until(lambda: time.monotonic() > end, "%s seconds to pass" % seconds)


def stamp(m, name):
    """A job that says which attempt it is as soon as the test opens the gate of that attempt."""
    return ("#!/bin/sh\necho $$ > %s/new && mv %s/new %s/%s.$PPFS_ATTEMPT.pid\n" % (m.work, m.work, m.work, name) +
            "while [ ! -e %s/%s.$PPFS_ATTEMPT.go ]; do sleep 0.02; done\necho attempt $PPFS_ATTEMPT\n" % (m.work, name))


def cut_off(relay):
    """Both ends know that there is no connection any more, and cannot make another."""
    relay.refuse()
    relay.cut()


def test_a_longer_silence_is_borne_where_it_is_asked_for(apart):
    m, node, relay = apart(60, 60)
    m.put("x", stamp(m, "x"))
    m.pid_of("x.1")
    relay.freeze()
    let_pass(7)  # more than it is by default
    assert m.state("x") == "running"
    relay.thaw()
    m.open_gate("x.1")
    assert m.result("x") == b"attempt 1\n"
    assert value(m, "far", "state") == "up" and "silent" not in m.log() + node.log()


def test_a_shorter_silence_is_enough_where_it_is_asked_for(apart):
    """Each side goes by its own."""
    m, node, relay = apart(1, 60)
    m.put("x", stamp(m, "x"))
    pid = m.pid_of("x.1")
    relay.freeze()
    wait_until(lambda: value(m, "far", "state") == "down", "the node to be given up")
    assert alive(pid)  # over there they are more patient
    relay.thaw()
    wait_until(lambda: not alive(pid), "the old attempt to be killed when they meet again")
    m.pid_of("x.2")
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n"


def test_what_ended_while_ppfs_was_away_is_delivered_when_it_is_back_in_time(apart):
    m, node, relay = apart(30, 30)
    m.put("x", stamp(m, "x"))
    m.put("lines.jsonl", '{"call": "time.sleep", "args": [0.01]}\n' * 300)
    pid = m.pid_of("x.1")
    cut_off(relay)
    m.open_gate("x.1")
    wait_until(lambda: not alive(pid), "the job to end")
    assert m.state("x") == "running"
    relay.accept()
    assert m.result("x") == b"attempt 1\n" and m.get("x", "attempt") == "1"
    assert m.result("lines.jsonl") == b"null\n" * 300
    assert m.log().count("nodes/far is up") == 1


def test_what_runs_for_a_ppfs_that_stays_away_is_killed(apart):
    m, node, relay = apart()
    m.put("x", stamp(m, "x"))
    m.put("tree", m.tree_job())
    pids = [m.pid_of("x.1"), *m.tree_pids()]
    cut_off(relay)
    wait_until(lambda: not any(map(alive, pids)), "the node to kill what it ran")
    wait_until(lambda: value(m, "far", "state") == "down" and m.state("x") != "running", "ppfs to give it up as well")
    assert m.get("x", "attempt") == "1"
    relay.accept()
    m.pid_of("x.2")
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n"
    (m.jobs / "tree").unlink()


def test_the_result_of_an_overtaken_attempt_is_refused(apart, new_node):
    """The node is stopped, its job is not: it ends, but only after another node has been given it."""
    m, node, relay = apart()
    m.put("x", stamp(m, "x"))
    old = m.pid_of("x.1")
    other = new_node("--name", "other", join=m).up(m)
    node.signal(signal.SIGSTOP)
    m.pid_of("x.2")
    m.open_gate("x.1")
    wait_until(lambda: not alive(old), "the first attempt to end")
    node.signal(signal.SIGCONT)
    wait_until(lambda: value(m, "far", "state") == "up", "the first node to be back")
    assert m.state("x") == "running" and m.get("x", "attempt") == "2"
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n" and m.get("x", "node") == "other"
    assert other.process.poll() is None


def test_ppfs_is_stopped_longer_than_the_lease(apart):
    m, node, relay = apart()
    m.put("x", stamp(m, "x"))
    pid = m.pid_of("x.1")
    daemon = m.pids()["daemon"]
    kill(daemon, signal.SIGSTOP)
    try:
        wait_until(lambda: not alive(pid), "the node to kill what it ran")
    finally:
        kill(daemon, signal.SIGCONT)
    m.pid_of("x.2")
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n"
    assert m.pids()["daemon"] == daemon


def test_a_node_that_dies_unheard_leaves_a_connection_that_is_half_open(apart):
    """Of its end nothing is told: the relay holds what it is given."""
    m, node, relay = apart()
    m.put("x", stamp(m, "x"))
    m.pid_of("x.1")
    relay.freeze()
    node.kill9()
    assert value(m, "far", "state") == "up" and m.state("x") == "running"
    wait_until(lambda: value(m, "far", "state") == "down", "the silence to be noticed")
    assert m.state("x") != "running"
    relay.cut()
    relay.thaw()
    node.restart()
    node.up(m)
    m.pid_of("x.2")
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n"


def test_a_ppfs_that_dies_unheard_leaves_a_connection_that_is_half_open(apart):
    m, node, relay = apart(3, 60)
    m.put("x", stamp(m, "x"))
    pid = m.pid_of("x.1")
    relay.freeze()
    m.kill_daemon()
    assert alive(pid)
    relay.cut()
    relay.thaw()
    wait_until(lambda: not alive(pid), "the old attempt to be killed once the new daemon is known")
    m.pid_of("x.2")
    m.open_gate("x.2")
    assert m.result("x") == b"attempt 2\n"
