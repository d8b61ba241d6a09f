"""Machines in network namespaces: README's two machines in four commands, and cables that are pulled."""
import os
import re
import signal
import subprocess
import time

import netns
import pytest
from noderig import up, value
from ppfsmount import BUILD, LIVE, SLOW, TOP, wait_until
from processes import alive


@pytest.fixture
def net():
    reason = netns.why_not("nft")
    if reason:
        pytest.skip(reason)
    with netns.Net(3) as net:
        yield net


class Machine:
    """A host of its own network, name and home."""

    def __init__(self, host, name, hosts_file, home, env):
        self.home = home
        home.mkdir()
        self.env = dict(env, HOME=str(home), XDG_STATE_HOME=str(home / ".local" / "state"),
                        PATH="%s:%s" % (BUILD, env["PATH"]))
        # A mount namespace of its own would hide what ppfs mounts, so only the other machine has one, for its name.
        inner = "mount --bind %s /etc/hosts && hostname %s && exec \"$@\"" % (hosts_file, name)
        self.wrap = [*host.wrap]
        if name != "first":
            self.wrap += ["unshare", "--mount", "--uts", "/bin/sh", "-c", inner, "sh"]

    def popen(self, command, **kw):
        return subprocess.Popen([*self.wrap, "/bin/bash", "-c", command], cwd=self.home, env=self.env, text=True,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **kw)


def commands():
    """[(machine, command, what it prints or None)] of README's section."""
    text = (TOP / "README.md").read_text()
    block = re.search(r"^## Two machines.*?^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL).group(1)
    found = [re.fullmatch(r"(\w+)\$ (.*?)(?:\s+#= (.*))?", line).groups() for line in block.splitlines()]
    assert len(found) == 4
    return found


def test_readme_two_machines_in_four_commands(new_mount, net, base):
    m = new_mount()
    hosts = base / "hosts"
    hosts.write_text("127.0.0.1 localhost\n%s first\n%s second\n" % (net.hosts[0].address, net.hosts[1].address))
    env = {k: v for k, v in m.env.items() if k != "PPFS_WORKER"}
    machines = {name: Machine(net.hosts[i], name, hosts, base / name, env) for i, name in enumerate(("first", "second"))}
    m.mnt, m.statedir = base / "first" / "ppfs", base / "first" / ".local" / "state" / "ppfs"
    scp = "scp() { cp \"$1\" %s/\"${2#*:}\"; }; " % base  # the copy that ssh would make
    LIVE.append(m)
    background = []
    try:
        for name, command, expected in commands():
            machine = machines[name]
            if command.endswith("&"):
                root = " --root-jobs" if os.geteuid() == 0 else ""  # who runs tests as root has jobs of root
                background.append(machine.popen("exec " + command.rstrip(" &") + root))
                continue
            p = machine.popen(scp.replace(str(base) + "/", str(base) + "/${2%%:*}/") + command)
            out = p.communicate(timeout=50 * SLOW)[0]
            assert p.returncode == 0, out
            assert out.split() == (expected or "").split(), command
        assert value(m, "second", "state") == "up" and value(m, "second", "address").startswith(net.hosts[1].address)
    finally:
        subprocess.run(["fusermount3", "-u", "-z", str(m.mnt)], capture_output=True)
        for p in background:
            for _ in range(2):
                p.send_signal(signal.SIGTERM)
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
            p.stdout.close()
            p.wait()


@pytest.fixture
def far(new_mount, new_node, net):
    """(mount on host 0, [node on host 1, node on host 2], net)"""
    m = new_mount(cpus=0, options=["--listen", "0.0.0.0:7700"])
    p = subprocess.run([*net.hosts[0].wrap, *m.argv()], env=m.env, capture_output=True, text=True, timeout=50 * SLOW)
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    key = m.statedir / "join.key"
    nodes = [new_node("--name", "far%d" % i, key=key, join=net.hosts[0].address + ":7700", wrap=net.hosts[i + 1].wrap)
             for i in range(2)]
    for node in nodes:
        node.up(m)
    return m, nodes, net


def gate_on(m, name, node):
    """A job on that node, running; its pid."""
    m.put(name, m.gate(name).replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: node=%s\n" % node))
    pid = m.pid_of(name)
    (m.work / (name + ".pid")).unlink()
    return pid


def lost(m, name):
    wait_until(lambda: value(m, name, "state") == "down", "nodes/%s to be down" % name)


def test_a_pulled_cable(far):
    m, nodes, net = far
    pid = gate_on(m, "g", "far*")
    where = m.get("g", "node")
    host = net.hosts[1 + int(where[-1])]
    net.unplug(host)
    lost(m, where)
    m.pid_of("g")
    assert m.get("g", "node") != where
    wait_until(lambda: not alive(pid), "the cut-off node to give up what it ran")
    net.plug(host)
    up(m, where)
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"


@pytest.mark.parametrize("deaf", ["ppfs", "node"])
def test_a_cable_that_works_one_way_only(far, deaf):
    m, nodes, net = far
    pid = gate_on(m, "g", "far*")
    where = m.get("g", "node")
    host = net.hosts[1 + int(where[-1])]
    if deaf == "ppfs":
        net.deaf(net.hosts[0], host)
    else:
        net.deaf(host, net.hosts[0])
    lost(m, where)
    m.pid_of("g")
    wait_until(lambda: not alive(pid), "the cut-off node to give up what it ran")
    net.hear(net.hosts[0] if deaf == "ppfs" else host)
    up(m, where)
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"


def test_a_short_cut_costs_nothing(far):
    m, nodes, net = far
    gate_on(m, "g", "far0")
    m.put("s.jsonl", "".join('{"call": "time.sleep", "args": [0.01]}\n' for _ in range(300)))
    wait_until(lambda: (m.results / "s.jsonl").stat().st_size > 50, "some answers")
    net.unplug(net.hosts[1])
    end = time.monotonic() + 1
    wait_until(lambda: time.monotonic() > end, "a second to pass")
    net.plug(net.hosts[1])
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "1"
    assert m.result("s.jsonl") == b"null\n" * 300


def test_the_daemon_dies_while_the_cable_is_out(far):
    m, nodes, net = far
    pid = gate_on(m, "g", "far0")
    net.unplug(net.hosts[1])
    m.kill_daemon()
    net.plug(net.hosts[1])
    m.pid_of("g")
    wait_until(lambda: not alive(pid), "the old attempt to be killed")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"
