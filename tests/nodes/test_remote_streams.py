"""Streams whose calls run on nodes."""
import functools
import json
import os
import signal
import sys
from pathlib import Path

import pytest
from noderig import key_of, listens, node_dir, up, value
from ppfsmount import SLOW, high_water, need_module, sanitized, wait_until
from relay import Relay

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402


def functions():
    """Functions that no worker could import from here: they travel by value."""
    def slow_name(i):
        import os
        import time
        time.sleep(0.01)
        return os.environ["PPFS_NODE"]

    def gate(path):
        import os
        import time
        while not os.path.exists(path):
            time.sleep(0.02)
        return "through"

    def mark_and_gate(mark, path):
        import os
        import time
        open(mark, "w").close()
        while not os.path.exists(path):
            time.sleep(0.02)

    def name_and_gate(marks, path):
        import os
        import time
        open(os.path.join(marks, os.environ["PPFS_NODE"]), "w").close()
        while not os.path.exists(path):
            time.sleep(0.02)
        return os.environ["PPFS_NODE"]

    def late_answer(mark, path, size):
        mark_and_gate(mark, path)
        return "x" * size
    return slow_name, gate, mark_and_gate, name_and_gate, late_answer


slow_name, gate, mark_and_gate, name_and_gate, late_answer = functions()


def lines(n, call="abs"):
    return "".join(json.dumps({"call": call, "args": [i]}) + "\n" for i in range(n))


def answers(data):
    return [json.loads(line) for line in data.splitlines()]


def test_a_stream_of_lines(pair):
    m, node = pair
    m.put("s.jsonl", lines(3000))
    assert answers(m.result("s.jsonl")) == list(range(3000))
    assert value(m, "far", "done") == "3000"


def test_an_executor(pair):
    m, node = pair
    with ppfs.Executor(str(m.mnt)) as ex:
        assert list(ex.map(pow, range(500), [2] * 500)) == [i * i for i in range(500)]
        assert ex.submit(slow_name, 0).result() == "far"
        with pytest.raises(ZeroDivisionError):
            ex.submit(divmod, 1, 0).result()
        big = "x" * 3_000_000
        assert ex.submit(str.upper, big).result() == big.upper()


def test_a_call_that_kills_its_worker_fails_alone(pair):
    m, node = pair
    with ppfs.Executor(str(m.mnt)) as ex:
        before = [ex.submit(abs, -i) for i in range(20)]
        victim = ex.submit(os._exit, 3)
        after = [ex.submit(abs, -i) for i in range(20)]
        assert [f.result() for f in before + after] == list(range(20)) * 2
        assert victim.exception() is not None


def test_all_hosts_take_part(trio):
    m, nodes = trio
    (m.node / "cpus").write_text("1\n")
    with ppfs.Executor(str(m.mnt)) as ex:
        names = set(ex.map(slow_name, range(200)))
    assert names == {"local", "far0", "far1"}


def test_a_stream_with_a_pattern(trio):
    m, nodes = trio
    (m.node / "cpus").write_text("1\n")
    (m.jobs / "G").mkdir()
    (m.jobs / "G" / ".options").write_text("node=far1\n")
    m.put("G/s.jsonl", lines(300))
    assert answers(m.result("G/s.jsonl")) == list(range(300))
    assert value(m, "far1", "done") == "300"


def test_calls_of_a_killed_node_run_elsewhere(trio):
    m, nodes = trio
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = [ex.submit(slow_name, i) for i in range(400)]
        wait_until(lambda: sum(f.done() for f in futures) > 20, "some to be done")
        nodes[0].kill9()
        assert {f.result() for f in futures} >= {"far1"}
        assert "far1" in {f.result() for f in futures[-100:]}


@pytest.mark.limit(120)
def test_calls_of_a_node_that_is_cut_off_run_elsewhere(trio):
    m, nodes = trio
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = [ex.submit(slow_name, i) for i in range(200)]
        wait_until(lambda: sum(f.done() for f in futures) > 10, "some to be done")
        nodes[0].signal(signal.SIGSTOP)
        assert len([f.result() for f in futures]) == 200
        nodes[0].signal(signal.SIGCONT)
        up(m, "far0")


def test_the_daemon_dies_under_a_stream(pair):
    m, node = pair
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = [ex.submit(slow_name, i) for i in range(300)]
        wait_until(lambda: sum(f.done() for f in futures) > 20, "some to be done")
        m.kill_daemon()
        assert {f.result() for f in futures} == {"far"}


def test_a_node_that_drains_ends_its_leases(trio):
    m, nodes = trio
    with ppfs.Executor(str(m.mnt)) as ex:
        assert len(list(ex.map(slow_name, range(50)))) == 50
        nodes[0].signal(signal.SIGTERM)
        assert nodes[0].wait() == 0
        assert set(ex.map(slow_name, range(50))) == {"far1"}


def test_a_call_that_is_cancelled_on_a_node(pair):
    m, node = pair
    (node_dir(m, "far") / "cpus").write_text("1\n")
    wait_until(lambda: value(m, "far", "cpus") == "1", "one slot")
    with ppfs.Executor(str(m.mnt)) as ex:
        first = ex.submit(gate, str(m.work / "go"))
        wait_until(first.running, "it to run")
        others = [ex.submit(abs, -i) for i in range(10)]
        assert others[4].cancel()
        (m.work / "go").touch()
        assert first.result() == "through"
        assert [f.result() for f in others if not f.cancelled()] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_calls_that_are_cancelled_together_on_a_node(ml, new_node):
    """One runs, the others wait behind it in its worker, and what the node says of the first is still on its way when the
    next is cancelled: the worker is killed all the same, and its slot is there for others."""
    m = ml
    with Relay(listens(m), 0.1, 0.1) as relay:
        new_node("--name", "far", join=relay.address, key=key_of(m), cpus=1).up(m)
        with ppfs.Executor(str(m.mnt)) as ex:
            assert list(ex.map(abs, range(100))) == list(range(100))
            held = [ex.submit(mark_and_gate, str(m.work / "begun"), str(m.work / "go")) for _ in range(4)]
            wait_until((m.work / "begun").exists, "the first to run")
            assert all(f.kill() for f in held)
            assert ex.submit(abs, -1).result(timeout=20 * SLOW) == 1
            (m.work / "go").touch()


def test_calls_that_were_sent_ahead_go_to_a_slot_that_is_free(ml, new_node):
    """They are quick at first, so that all of the slow ones are sent to the node before anyone knows better."""
    m = ml
    new_node("--name", "far", join=m, cpus=1).up(m)
    with ppfs.Executor(str(m.mnt)) as ex:
        before, marks, go = m.work / "before", m.work / "marks", m.work / "go"
        before.mkdir()
        marks.mkdir()
        quick = [ex.submit(name_and_gate, str(before), str(before)) for _ in range(300)]
        assert {f.result() for f in quick} == {"far"}
        slow = [ex.submit(name_and_gate, str(marks), str(go)) for _ in range(50)]
        wait_until((marks / "far").exists, "one to run on the node, with others behind it")
        (m.node / "cpus").write_text("1\n")
        wait_until((marks / "local").exists, "another to run here")
        go.touch()
        assert {f.result() for f in slow} == {"far", "local"}


@pytest.mark.parametrize("module", ["cloudpickle", "dill"])
def test_a_node_without_what_functions_are_sent_with(ml, new_node, module):
    """The error says which node that is and what to install there; what needs it not runs."""
    need_module(module)
    away = ml.base / "away"
    away.mkdir()
    (away / (module + ".py")).write_text("raise ModuleNotFoundError(\"No module named '%s'\", name='%s')\n" % (module, module))
    new_node("--name", "bare", join=ml, env={"PYTHONPATH": str(away)}).up(ml)
    offset = 1
    with ppfs.Executor(str(ml.mnt), serializer=module) as ex:
        for call in (lambda: ex.submit(lambda x: x + offset, 1), lambda: ex.options(priority=2).submit(lambda x: x + offset, 1),
                     lambda: ex.submit(functools.partial(lambda x: x + offset, 1))):
            with pytest.raises((ppfs.CallFailed, ModuleNotFoundError), match="on the node bare, whose Python has no %s.*install python3-%s there"
                               % (module, module)):
                call().result()
    with ppfs.Executor(str(ml.mnt), serializer="source") as ex:
        assert ex.submit(lambda x: x + offset, 1).result() == 2


def test_large_answers_of_all_slots_of_a_node(ml, new_node):
    """The node is told to wait with them: the daemon holds some 192 MiB and two of them."""
    slots, size, go = 8, 70 << 20, ml.work / "go"
    new_node("--name", "far", join=ml, cpus=slots).up(ml)
    with ppfs.Executor(str(ml.mnt), max_workers=slots) as ex:
        (ml.work / "marks").mkdir()
        held = [ex.submit(late_answer, str(ml.work / "marks" / str(i)), str(go), size) for i in range(slots)]
        wait_until(lambda: len(os.listdir(ml.work / "marks")) == slots, "all of them to run")
        before = high_water(ml.pids()["daemon"])
        go.touch()
        assert [len(f.result()) for f in held] == [size] * slots
        assert sanitized() or high_water(ml.pids()["daemon"]) - before < (128 << 20) + 2 * size + (60 << 20)


@pytest.fixture
def relayed(ml, new_node):
    """(mount, node, relay): a node of one slot whose link goes through the relay."""
    with Relay(listens(ml)) as relay:
        node = new_node("--name", "far", join=relay.address, key=key_of(ml), cpus=1).up(ml)
        yield ml, node, relay


def crossed(relay):
    return sum(relay.count()[2:])


@pytest.mark.limit(120)
def test_a_node_does_not_put_large_calls_together(relayed):
    """Nor values that are too large to keep."""
    m, node, relay = relayed
    data = b"x" * (200 << 20)
    with ppfs.Executor(str(m.mnt)) as ex:
        assert ex.submit(len, data).result() == len(data)
        assert sanitized() or high_water(node.pid) < 64 << 20
        assert list(ex.map(len, [data] * 3)) == [len(data)] * 3
        assert sanitized() or high_water(node.pid) < 160 << 20  # the first 64 MiB of a value it would keep


@pytest.mark.limit(120)
def test_a_link_that_dies_in_the_middle_of_a_call(relayed):
    """The session goes on with the next piece; with the next daemon no half of the call is left."""
    m, node, relay = relayed
    data = b"x" * (100 << 20)
    with ppfs.Executor(str(m.mnt)) as ex:
        worker = ex.submit(os.getpid).result()
        relay.limit(crossed(relay) + (20 << 20))
        large = ex.submit(len, data)
        wait_until(lambda: relay.count()[1] > 1, "the link to be cut and made again")
        relay.limit(0)
        assert large.result() == len(data)
        assert ex.submit(os.getpid).result() == worker

        before = crossed(relay)
        large = ex.submit(len, data)
        wait_until(lambda: crossed(relay) - before > 1 << 20, "some of it to be sent")
        relay.freeze("both")
        m.kill_daemon()
        relay.thaw()
        assert large.result() == len(data)
        wait_until(lambda: not os.path.exists("/proc/%d" % worker), "what had the half of it to be killed")
