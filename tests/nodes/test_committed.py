"""What is written into nodes/ happens when it is committed, and not at all when it cannot be."""
import sys
from pathlib import Path

import pytest
from noderig import key_of, node_dir, nodes_of, up, value
from ppfsmount import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hostile"))
from test_disk import FULL, Balloon, fill, small  # noqa: E402, F401 (a fixture)


def fails(what, *args):
    with pytest.raises(OSError) as e:
        what(*args)
    assert e.value.errno in FULL


def take_all(m, balloon):
    """Not even the room is left that ppfs keeps in reserve. The names of jobs that were taken before."""
    balloon.inflate()
    names, _ = fill(m, "x", 1000)
    balloon.inflate()
    return names


@pytest.fixture
def full(small):  # noqa: F811
    """(mount, balloon) whose disk take_all() fills."""
    small.start()
    return small, Balloon(small)


def test_a_node_keeps_its_slots_and_its_place_on_a_full_disk(full, new_node):
    m, balloon = full
    node = new_node("--listen", "127.0.0.1:0", key=key_of(m))
    address = node.address()
    (m.mnt / "nodes" / address).mkdir()
    up(m, address)
    names = take_all(m, balloon)
    fails((node_dir(m, address) / "cpus").write_text, "5\n")
    fails((m.node / "cpus").write_text, "3\n")
    fails((m.mnt / "nodes" / address).rmdir)
    fails((m.mnt / "nodes" / "127.0.0.1:9").mkdir)
    assert sorted(nodes_of(m)) == [address, "local"]
    assert value(m, address, "cpus") == "2"
    assert m.node.joinpath("cpus").read_text() == "0\n"
    assert value(m, address, "state") == "up"
    balloon.burst()
    for name in names:
        assert m.result(name)
    assert value(m, address, "cpus") == "2"  # and the node was told nothing else
    (node_dir(m, address) / "cpus").write_text("5\n")
    wait_until(lambda: value(m, address, "cpus") == "5", "the node to have five slots")
