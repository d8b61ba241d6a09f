"""What is written into nodes/ happens when it is committed, and not at all when it cannot be."""
import sys
from pathlib import Path

import pytest
from noderig import key_of, node_dir, nodes_of, up, value
from ppfsmount import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "hostile"))
from fulldisk import FULL, Balloon, fill, small  # noqa: E402, F401 (a fixture)


def is_kept(what, *args):
    """Whether it was acknowledged; else there was no room."""
    try:
        what(*args)
    except OSError as e:
        assert e.errno in FULL
        return False
    return True


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


def test_a_full_disk_keeps_what_was_acknowledged_and_nothing_else(full, new_node):
    m, balloon = full
    node = new_node("--listen", "127.0.0.1:0", key=key_of(m))
    address = node.address()
    (m.mnt / "nodes" / address).mkdir()
    up(m, address)
    names = take_all(m, balloon)
    there = "5" if is_kept((node_dir(m, address) / "cpus").write_text, "5\n") else "2"
    here = "1" if is_kept((m.node / "cpus").write_text, "1\n") else "0"
    dialled = {"127.0.0.1:9"} if is_kept((m.mnt / "nodes" / "127.0.0.1:9").mkdir) else set()
    m.kill_daemon()
    up(m, address)
    assert set(nodes_of(m)) == {address, "local"} | dialled
    wait_until(lambda: value(m, address, "cpus") == there, "the node to have its slots")
    assert m.node.joinpath("cpus").read_text() == here + "\n"
    balloon.burst()
    for name in names:
        assert m.result(name)
    assert value(m, address, "cpus") == there  # and the node was told nothing else
    (node_dir(m, address) / "cpus").write_text("3\n")
    wait_until(lambda: value(m, address, "cpus") == "3", "the node to have three slots")
