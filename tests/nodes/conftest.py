"""The tests with nodes use the fixtures of tests/mount, and some of their own."""
import importlib.util
import sys
from pathlib import Path

import pytest

MOUNT = Path(__file__).resolve().parents[1] / "mount"
sys.path.insert(0, str(MOUNT))
sys.path.insert(0, str(Path(__file__).resolve().parent))
_spec = importlib.util.spec_from_file_location("mount_conftest", MOUNT / "conftest.py")
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)
globals().update({name: value for name, value in vars(_module).items() if not name.startswith("_")})

import noderig  # noqa: E402


@pytest.fixture
def new_node(base, request):
    """Makes a Node and starts it; it is ended, with all checks, when the test ends (before the mounts are: depend on m
    or new_mount first)."""
    made = []

    def make(*options, **kw):
        node = noderig.Node(base, *options, **kw)
        made.append(node)
        return node.start()

    yield make
    faults = []
    for node in made:
        try:
            node.finish()
        except AssertionError as e:
            faults.append(str(e))
    assert not faults, "\n".join(faults)


@pytest.fixture
def ml(new_mount):
    """A mount without slots of its own that listens for nodes."""
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()


@pytest.fixture
def pair(ml, new_node):
    """(mount, node): the node has joined and has all the slots there are, two."""
    node = new_node("--name", "far", join=ml)
    node.up(ml)
    return ml, node


@pytest.fixture
def trio(ml, new_node):
    """(mount, [node, node]): two nodes, "far0" and "far1", of two slots each."""
    nodes = [new_node("--name", "far%d" % i, join=ml) for i in range(2)]
    for node in nodes:
        node.up(ml)
    return ml, nodes
