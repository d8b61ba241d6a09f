"""Nodes that are found in the local network: by real multicast on the loopback interface, and in namespaces."""
import errno
import os
import socket
import subprocess

import netns
import pytest
from noderig import make_key, nodes_of, value
from ppfsmount import SLOW, wait_until
from processes import alive


@pytest.fixture
def place():
    """A port for discovery that nobody else on this machine uses, on the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("", 0))
        return "239.255.77.70%%lo:%d" % s.getsockname()[1]


def discover(m, where):
    (m.mnt / "nodes" / ".discover").write_text(where + "\n")


def test_a_node_is_found_used_and_let_go(new_mount, new_node, place, base):
    m = new_mount(cpus=0).start()
    other_key = make_key(base / "other.key")
    outsider = new_node("--discover=" + place, "--name", "stranger", key=other_key)
    discover(m, place)
    assert (m.mnt / "nodes" / ".discover").read_text() == place + "\n"
    node = new_node("--discover=" + place, "--name", "found", key=m.statedir / "join.key").up(m)
    m.put("who.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert m.result("who.sh") == b"found\n"
    wait_until(lambda: "another key" in outsider.log(), "the stranger to refuse a query")
    assert nodes_of(m).count("stranger") == 0
    node.kill9()
    wait_until(lambda: value(m, "found", "state") in ("", "down"), "the node to be missed")
    node.restart()  # says that it has come
    node.up(m)
    os.rmdir(m.mnt / "nodes" / "found")
    wait_until(lambda: "found" not in nodes_of(m), "the node to be let go")
    discover(m, "0")
    assert (m.mnt / "nodes" / ".discover").read_text() == "0\n"


@pytest.mark.parametrize("where, number", [("10.0.0.1", errno.EINVAL), ("2", errno.EINVAL), ("%", errno.EINVAL), ("a b", errno.EINVAL),
                                           ("%nosuch0", errno.ENODEV), ("x" * 200, errno.EINVAL)])
def test_what_is_no_place_is_refused(new_mount, where, number):
    m = new_mount(cpus=1).start()
    with pytest.raises(OSError) as e:
        discover(m, where)
    assert e.value.errno == number
    assert (m.mnt / "nodes" / ".discover").read_text() == "0\n"


def test_it_goes_on_after_the_daemon_has_died(new_mount, new_node, place):
    m = new_mount(cpus=0).start()
    discover(m, place)
    m.kill_daemon()
    assert (m.mnt / "nodes" / ".discover").read_text() == place + "\n"
    new_node("--discover=" + place, "--name", "found", key=m.statedir / "join.key").up(m)


@pytest.mark.parametrize("family", [4, 6])
def test_a_machine_is_found_on_its_network(new_mount, new_node, family):
    reason = netns.why_not()
    if reason:
        pytest.skip(reason)
    group = "239.255.77.70" if family == 4 else "[ff12::7070:6673]"
    with netns.Net(2) as net:
        m = new_mount(cpus=0)
        try:
            done = subprocess.run([*net.hosts[0].wrap, *m.argv()], env=m.env, capture_output=True, text=True, timeout=50 * SLOW)
            assert (done.returncode, done.stderr) == (0, "")
            m.started()
            discover(m, group + "%eth0")
            node = new_node("--discover=" + group + "%eth0", "--name", "found", key=m.statedir / "join.key", wrap=net.hosts[1].wrap)
            node.up(m)
            m.put("who.sh", "#!/bin/sh\necho $PPFS_NODE\n")
            assert m.result("who.sh") == b"found\n"
            address = value(m, "found", "address")
            assert address.startswith(net.hosts[1].address if family == 4 else "[")
            assert alive(node.pid)
        finally:
            m.finish()
