"""The trace has each transition of a node."""
from noderig import node_dir
from ppfsmount import wait_until


def transitions(m, name):
    """The states that the log has of that node, in their order."""
    lines = [line.split(" %s: " % name)[1] for line in m.log().splitlines() if "trace: host " in line and " %s: " % name in line]
    return [lines[0].split(" -> ")[0], *(line.split(" -> ")[1] for line in lines)] if lines else []


def test_of_a_node_that_comes_drains_and_goes(new_mount, new_node):
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--trace"]).start()
    node = new_node("--name", "far", join=m)
    node.up(m)
    (node_dir(m, "far") / "state").write_text("drain\n")
    (node_dir(m, "far") / "state").write_text("up\n")
    assert transitions(m, "far") == ["away", "up", "drains", "up"]
    node.kill9()
    wait_until(lambda: transitions(m, "far") == ["away", "up", "drains", "up", "away"], "the dead node to be given up")
    node_dir(m, "far").rmdir()
    wait_until(lambda: transitions(m, "far")[-1] == "leaves", "the node to leave")
