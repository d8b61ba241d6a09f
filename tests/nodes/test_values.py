"""Large arguments that many calls have, through a node: how often they cross the link."""
import os
import sys
from pathlib import Path

import pytest
from noderig import key_of, listens, node_dir, value
from ppfsmount import wait_until
from relay import Relay

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402

SIZE = 4 << 20


@pytest.fixture
def far(ml, new_node):
    """(mount, relay): a node of two slots whose link goes through the relay."""
    with Relay(listens(ml)) as relay:
        new_node("--name", "far", key=key_of(ml), join=relay.address).up(ml)
        yield ml, relay


def crossed(relay):
    return sum(relay.count()[2:])


@pytest.mark.parametrize("options", [{}, {"priority": 1}])
def test_an_argument_crosses_the_link_once(far, options):
    m, relay = far
    data, calls = os.urandom(SIZE), 100
    before = crossed(relay)
    with ppfs.Executor(str(m.mnt)) as ex:
        view = ex.options(**options)
        if options:  # a job of its own brings all that it needs
            assert list(view.map(len, [data] * 5)) == [SIZE] * 5
            return
        assert list(view.map(len, [data] * calls)) == [SIZE] * calls
    assert SIZE < crossed(relay) - before < 3 * SIZE


def test_two_executors_have_it_once(far):
    """The node keeps values for all streams of a ppfs, and so does each worker."""
    m, relay = far
    data = os.urandom(SIZE)
    with ppfs.Executor(str(m.mnt)) as ex:
        assert list(ex.map(len, [data] * 20)) == [SIZE] * 20
    before = crossed(relay)
    with ppfs.Executor(str(m.mnt)) as ex:
        assert list(ex.map(len, [data] * 20)) == [SIZE] * 20
    assert crossed(relay) - before < 2 * SIZE  # whole the first time, when nobody knows that it comes again


@pytest.mark.limit(120)
def test_what_the_node_has_thrown_away_comes_again(far):
    """One slot: of two workers each may keep the half that it happens to get."""
    m, relay = far
    (node_dir(m, "far") / "cpus").write_text("1\n")
    wait_until(lambda: value(m, "far", "cpus") == "1", "one slot")
    data = [os.urandom(5 << 20) for _ in range(16)]  # 80 MiB: more than a node, or a worker, keeps
    with ppfs.Executor(str(m.mnt)) as ex:
        for _ in range(2):
            assert list(ex.map(len, data)) == [5 << 20] * 16
        before = crossed(relay)
        assert list(ex.map(len, data)) == [5 << 20] * 16
        assert crossed(relay) - before > 5 << 20
        assert ex.submit(max, *data[:15]).result() == max(data[:15])  # more than the worker keeps, at once
        before = crossed(relay)
        assert list(ex.map(len, [data[0]] * 20)) == [5 << 20] * 20
        assert crossed(relay) - before < 2 * (5 << 20)


@pytest.mark.limit(120)
def test_a_node_that_dies_while_values_come(ml, new_node):
    m, data = ml, os.urandom(8 << 20)
    nodes = [new_node("--name", "far%d" % i, join=ml).up(ml) for i in range(2)]
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = [ex.submit(len, data) for _ in range(40)]
        nodes[0].kill9()
        assert {f.result() for f in futures} == {8 << 20}
