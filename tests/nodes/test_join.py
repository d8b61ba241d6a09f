"""A node and a ppfs find each other, and what is written into the mount runs there."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest
from noderig import NODE, key_of, listens, node_dir, nodes_of, up, value
from ppfsmount import PPFS, SLOW, wait_until
from processes import alive, in_fuse, text_of
from relay import Relay


def test_every_kind_of_job_runs_on_a_node(pair):
    m, node = pair
    m.put("s.sh", "#!/bin/sh\necho $PPFS_NODE $PPFS_JOB $PPFS_ATTEMPT\n")
    m.put("p.py", "import os, sys\nprint(os.environ['PPFS_NODE'])\nprint('more', file=sys.stderr)\n")
    m.put("c", {"call": "math.sqrt", "args": [2.25]})
    m.put("r", {"run": ["wc", "-c"], "stdin": "12345"})
    assert m.result("s.sh") == b"far s.sh 1\n"
    assert m.result("p.py") == b"far\n" and m.get("p.py", "stderr") == "more"
    assert json.loads(m.result("c")) == 1.5
    assert m.result("r").strip() == b"5"
    assert m.call("k", (divmod, (17, 5))) == (3, 2)
    for name in ("s.sh", "p.py", "c", "r", "k"):
        assert m.get(name, "node") == "far"
    assert value(m, "far", "done") == "5"


def test_no_mount_on_a_node(ml, new_node):
    """What $PPFS the node was started with is not the mount whose jobs it runs."""
    new_node("--name", "far", join=ml, env={"PPFS": "/elsewhere"}).up(ml)
    ml.put("s.sh", "#!/bin/sh\necho ${PPFS-none}\n")
    ml.put("c", {"call": "os.getenv", "args": ["PPFS", "none"]})
    ml.put("e.sh", "#!/bin/sh\n#ppfs: env=PPFS:/mnt/ppfs\necho ${PPFS-none}\n")
    assert [ml.result(name) for name in ("s.sh", "c", "e.sh")] == [b"none\n", b'"none"\n', b"/mnt/ppfs\n"]


def test_failures_come_back_with_their_reasons(pair):
    m, node = pair
    m.put("exit.sh", "#!/bin/sh\necho out; echo err >&2; exit 7\n")
    m.put("signal.sh", "#!/bin/sh\nkill -SEGV $$\n")
    m.put("raise", {"call": "math.sqrt", "args": [-1]})
    m.put("missing", {"call": "no_such_module.x"})
    m.put("slow.sh", "#!/bin/sh\n#ppfs: timeout=1s\nsleep 100\n")
    assert "err" in m.failed("exit.sh") and m.get("exit.sh", "exit") == "7"
    m.failed("signal.sh")
    assert m.get("signal.sh", "exit") == "SIGSEGV"
    assert "ValueError" in m.failed("raise")
    assert "no_such_module" in m.failed("missing")
    assert "timed out" in m.failed("slow.sh", 110)


def test_a_listening_node_is_dialled_by_mkdir_and_let_go_by_rmdir(new_mount, new_node):
    m = new_mount(cpus=0).start()
    node = new_node("--listen", "127.0.0.1:0", "--name", "box", key=key_of(m))
    address = node.address()
    (m.mnt / "nodes" / address).mkdir()
    assert address in nodes_of(m)
    up(m, address)
    assert value(m, address, "cpus") == "2" and value(m, address, "address") == address
    m.put("a.sh", "#!/bin/sh\necho here\n")
    assert m.result("a.sh") == b"here\n" and m.get("a.sh", "node") == address
    m.put("b.sh", "#!/bin/sh\n#ppfs: node=box\necho by its own name\n")
    assert m.result("b.sh") == b"by its own name\n"
    with pytest.raises(FileExistsError):
        (m.mnt / "nodes" / address).mkdir()
    m.put("last", m.gate("last"))
    m.pid_of("last")
    (m.mnt / "nodes" / address).rmdir()
    assert address not in nodes_of(m)
    m.put("after.sh", "#!/bin/sh\n")
    m.open_gate("last")
    assert m.result("last") == b"through last\n"  # it finished what it ran
    assert m.state("after.sh") == "queued"
    assert alive(node.pid)
    (m.mnt / "nodes" / address).mkdir()
    up(m, address)
    assert m.wait("after.sh") == "done"


@pytest.mark.parametrize("name", ["box", "127.0.0.1", "127.0.0.1:", "127.0.0.1:port", "127.0.0.1:70000", ":1", "[::1:9"])
def test_what_is_no_address_is_refused(m, name):
    with pytest.raises(OSError) as e:
        (m.mnt / "nodes" / name).mkdir()
    assert e.value.errno == 22
    assert nodes_of(m).count(name) == 0


def test_the_local_node_stays(m):
    with pytest.raises(OSError) as e:
        (m.mnt / "nodes" / "local").rmdir()
    assert e.value.errno == 16
    with pytest.raises(FileNotFoundError):
        (m.mnt / "nodes" / "127.0.0.1:9").rmdir()


def test_dialled_nodes_are_kept(new_mount, new_node):
    m = new_mount(cpus=0).start()
    node = new_node("--listen", "127.0.0.1:0", key=key_of(m))
    address = node.address()
    (m.mnt / "nodes" / address).mkdir()
    (node_dir(m, address) / "cpus").write_text("1\n")
    up(m, address)
    m.unmount()
    m.start()
    up(m, address)
    wait_until(lambda: value(m, address, "cpus") == "1", "the node to have one slot again")
    m.kill_daemon()
    up(m, address)
    m.works()
    (m.mnt / "nodes" / address).rmdir()
    m.unmount()
    m.start()
    assert nodes_of(m) == ["local"]


def test_a_node_that_is_away_is_down_and_comes_back(new_mount, new_node):
    m = new_mount(cpus=0).start()
    node = new_node("--listen", "127.0.0.1:0", key=key_of(m))
    address = node.address()
    node.kill9()
    (m.mnt / "nodes" / address).mkdir()
    assert value(m, address, "state") == "down"
    m.put("a.sh", "#!/bin/sh\n")
    wait_until(lambda: address in m.why("a.sh") and "away" in m.why("a.sh"), "the job to say what it waits for")
    node.argv[node.argv.index("--listen") + 1] = address
    node.restart()
    up(m, address)
    assert m.wait("a.sh") == "done"


def test_drain_and_up(trio):
    m, nodes = trio
    (node_dir(m, "far0") / "state").write_text("drain\n")
    assert value(m, "far0", "state") == "drain"
    for i in range(6):
        m.put("j%d" % i, "#!/bin/sh\n")
    for i in range(6):
        assert m.wait("j%d" % i) == "done" and m.get("j%d" % i, "node") == "far1"
    (node_dir(m, "far1") / "state").write_text("drain\n")
    m.put("x.sh", "#!/bin/sh\n")
    assert m.state("x.sh") == "queued" and "drain" in m.why("x.sh")
    (node_dir(m, "far0") / "state").write_text("up\n")
    assert m.wait("x.sh") == "done" and m.get("x.sh", "node") == "far0"


def test_a_job_for_a_node_without_slots_says_which(pair):
    m, node = pair
    (node_dir(m, "far") / "cpus").write_text("0\n")
    wait_until(lambda: value(m, "far", "cpus") == "0", "the node to have no slot")
    m.put("x.sh", "#!/bin/sh\n#ppfs: node=far\n")
    assert "echo 2 > nodes/far/cpus" in m.why("x.sh")
    (node_dir(m, "far") / "cpus").write_text("2\n")
    assert m.wait("x.sh") == "done"


def test_slots_of_a_node_are_set_from_here(pair):
    m, node = pair
    (node_dir(m, "far") / "cpus").write_text("3\n")
    wait_until(lambda: value(m, "far", "cpus") == "3", "the node to have three slots")
    names = ["g%d" % i for i in range(4)]
    for name in names:
        m.put(name, m.gate(name))
    for name in names[:3]:
        m.pid_of(name)
    assert m.state("g3") == "queued" and value(m, "far", "running") == "3"
    (node_dir(m, "far") / "cpus").write_text("1\n")
    wait_until(lambda: value(m, "far", "cpus") == "1", "the node to have one slot")
    m.open_gate("g0")
    m.wait("g0")
    m.put("later.sh", "#!/bin/sh\n")
    assert m.state("g3") == "queued"
    for name in names[1:]:
        m.open_gate(name)
    for name in [*names, "later.sh"]:
        assert m.wait(name) == "done"


def test_a_job_goes_only_where_its_pattern_says(trio):
    m, nodes = trio
    for i in range(4):
        m.put("a%d.sh" % i, "#!/bin/sh\n#ppfs: node=far1\necho $PPFS_NODE\n")
        m.put("b%d.sh" % i, "#!/bin/sh\n#ppfs: node=*0\necho $PPFS_NODE\n")
    for i in range(4):
        assert m.result("a%d.sh" % i) == b"far1\n"
        assert m.result("b%d.sh" % i) == b"far0\n"


def test_a_pattern_that_matches_nobody_waits_and_says_so(ml, new_node):
    m = ml
    (m.node / "cpus").write_text("1\n")
    m.put("g.sh", "#!/bin/sh\n#ppfs: node=gpu*\necho $PPFS_NODE\n")
    assert m.state("g.sh") == "waiting" and "gpu*" in m.why("g.sh")
    m.works()
    node = new_node("--name", "gpu7", join=m)
    node.up(m)
    assert m.result("g.sh") == b"gpu7\n"


def test_those_that_wait_for_a_busy_node_hold_up_nobody(pair):
    m, node = pair
    (m.node / "cpus").write_text("1\n")
    for i in range(2):
        m.put("busy%d" % i, m.gate("busy%d" % i).replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: node=far\n"))
        m.pid_of("busy%d" % i)
    for i in range(20):
        m.put("only%d" % i, "#!/bin/sh\n#ppfs: node=far\n")
    for i in range(5):
        m.put("any%d" % i, "#!/bin/sh\necho $PPFS_NODE\n")
        assert m.result("any%d" % i) == b"local\n"
    assert m.state("only0") == "queued"
    for i in range(2):
        m.open_gate("busy%d" % i)
    for i in range(20):
        assert m.wait("only%d" % i) == "done"


def test_work_is_spread_over_all_that_have_a_slot(trio):
    m, nodes = trio
    (m.node / "cpus").write_text("2\n")
    names = ["g%d" % i for i in range(6)]
    for name in names:
        m.put(name, m.gate(name))
    for name in names:
        m.pid_of(name)
    assert sorted(m.get(n, "node") for n in names) == ["far0", "far0", "far1", "far1", "local", "local"]
    for name in names:
        m.open_gate(name)
        assert m.wait(name) == "done"


def test_a_job_of_several_slots_goes_where_they_are(pair):
    m, node = pair
    (m.node / "cpus").write_text("1\n")
    m.put("two.sh", "#!/bin/sh\n#ppfs: cpus=2\necho $PPFS_NODE\n")
    assert m.result("two.sh") == b"far\n"
    m.put("three.sh", "#!/bin/sh\n#ppfs: cpus=3\n")
    assert m.state("three.sh") == "waiting" and "3 slots" in m.why("three.sh")


def test_output_of_a_node_is_live(pair):
    m, node = pair
    m.put("talk.py", "import sys, time\nprint('first', flush=True)\nwhile not __import__('os').path.exists(%r): time.sleep(0.02)\n"
          "print('last')\n" % str(m.work / "go"))
    with open(m.info / "talk.py" / "stdout", "rb", buffering=0) as f:
        assert f.read(6) == b"first\n"
        (m.work / "go").touch()
        assert f.read(5) == b"last\n"
        assert f.read(1) == b""


def test_large_things_come_and_go(pair):
    m, node = pair
    text = os.urandom(1 << 20).hex().encode()
    m.put("big.sh", b"#!/bin/sh\ntail -n 1 \"$0\" | sha256sum\nexit 0\n" + text + b"\n")
    want = subprocess.run(["sha256sum"], input=text + b"\n", capture_output=True).stdout
    assert m.result("big.sh") == want
    assert m.call("big.pickle", (bytes, (5_000_000,))) == bytes(5_000_000)
    value = "x" * 3_000_000
    assert m.call("both", (str.upper, (value,))) == value.upper()


def test_cancel_kills_the_whole_tree_on_the_node(pair):
    m, node = pair
    m.put("t", m.tree_job())
    pids = m.tree_pids()
    (m.jobs / "t").unlink()
    wait_until(lambda: not any(map(alive, pids)), "the tree to die")
    m.works()


def test_two_of_one_name(ml, new_node):
    a = new_node("--name", "twin", join=ml)
    a.up(ml)
    b = new_node("--name", "twin", join=ml)
    wait_until(lambda: len(nodes_of(ml)) == 3, "both nodes to be there")
    other = next(n for n in nodes_of(ml) if n not in ("local", "twin"))
    up(ml, other)
    assert other == "twin-2"


def test_a_node_takes_the_place_of_one_that_no_longer_answers(new_mount, new_node):
    """As when its machine was started again before anybody missed it: the old connection looks alive for a minute yet."""
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "60"]).start()
    old = new_node("--name", "far", join=m)
    old.up(m)
    address = value(m, "far", "address")
    m.put("g", m.gate("g"))
    m.pid_of("g")
    old.signal(signal.SIGSTOP)
    (m.work / "g.pid").unlink()
    new_node("--name", "far", join=m)
    wait_until(lambda: value(m, "far", "address") not in ("", address), "the new node to have the name")
    assert sorted(nodes_of(m)) == ["far", "local"]
    m.pid_of("g")  # it runs there, and so it does once only
    assert m.get("g", "attempt") == "2"
    m.open_gate("g")
    assert m.result("g") == b"through g\n"
    old.signal(signal.SIGCONT)
    wait_until(lambda: sorted(nodes_of(m)) == ["far", "far-2", "local"], "the old one to be back, as another")


def test_what_a_dead_node_sent_before_is_no_sign_of_life(new_mount, new_node):
    """Its bytes are on their way for a while yet when it has been started again."""
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "60"]).start()
    relay = Relay(listens(m))
    try:
        old = new_node("--name", "far", key=key_of(m), join=relay.address).up(m)
        address = value(m, "far", "address")
        relay.delay(4, 0)
        wait_until(lambda: relay.count()[2] > 0, "the relay to be up")
        m.put("g", m.gate("g"))
        m.pid_of("g")  # DONE of nothing, output, heartbeats: they come four seconds late
        old.kill9()
        new_node("--name", "far", join=m)
        wait_until(lambda: value(m, "far", "address") not in ("", address), "the new node to have the name")
        assert sorted(nodes_of(m)) == ["far", "local"]
    finally:
        relay.close()


def test_a_node_with_another_key_learns_nothing(ml, new_node, base):
    wrong = base / "wrong"
    wrong.write_text(re.sub("secret: ..", "secret: 00", key_of(ml).read_text()))
    wrong.chmod(0o600)
    outsider = new_node("--name", "stranger", key=wrong, join=listens(ml))
    friend = new_node("--name", "friend", join=ml)
    friend.up(ml)
    wait_until(lambda: "key" in ml.log(), "the refusal to be logged")
    assert nodes_of(ml) == ["local", "friend"] and alive(outsider.pid)


@pytest.mark.parametrize("make, word", [
    (lambda p: None, "No such file"),
    (lambda p: (p.write_bytes(b"short"), p.chmod(0o600)), "this ppfs"),
    (lambda p: (p.write_bytes(bytes(40)), p.chmod(0o600)), "not text"),
    (lambda p: (p.write_bytes(bytes(range(32))), p.chmod(0o644)), "600"),
    (lambda p: p.symlink_to("/etc/shadow") or os.lchown(p, 65534, 65534), "a symbolic link of user 65534"),
])
def test_a_bad_key_file_is_refused_with_one_line(new_mount, base, make, word):
    key = base / "k"
    make(key)
    m = new_mount(options=["--key", key])
    p = m.run()
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and word in p.stderr and str(key) in p.stderr
    n = subprocess.run([str(NODE), "--key", str(key), "--join", "127.0.0.1:9"], capture_output=True, text=True,
                       timeout=30 * SLOW, env=m.env)
    assert n.returncode == 1 and n.stderr.count("\n") == 1 and word in n.stderr


def test_keys_are_made_at_the_first_start_and_stay(m):
    secret, join = m.statedir / "key", key_of(m)
    before = [p.read_text() for p in (secret, join)]
    assert [p.stat().st_mode & 0o777 for p in (secret, join)] == [0o600, 0o600]
    assert before[0].startswith("ppfs mount key 1\n") and before[1].startswith("ppfs node key 1\nname: *\n")
    assert before[0].split()[-1] not in before[1]  # the mount's secret stays where it is
    m.unmount()
    m.start()
    assert [p.read_text() for p in (secret, join)] == before


def test_a_key_of_before_which_nodes_had_is_made_anew(new_mount, base):
    """As versions before made it, and had it copied to every node."""
    m = new_mount()
    m.statedir.mkdir(parents=True)
    (m.statedir / "key").write_text("ab" * 32 + "\n")
    (m.statedir / "key").chmod(0o600)
    m.start()
    assert (m.statedir / "key").read_text().startswith("ppfs mount key 1\n") and "join.key" in m.log()


def test_the_secret_of_a_mount_is_no_key_for_nodes_and_the_other_way_round(m, new_mount, base):
    (base / "second").mkdir()
    p = subprocess.run([str(NODE), "--key", str(m.statedir / "key"), "--join", "127.0.0.1:9"], capture_output=True, text=True,
                       timeout=30 * SLOW, env=m.env)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "must not leave its machine" in p.stderr and "join.key" in p.stderr
    p = new_mount(base=base / "second", options=["--key", key_of(m)]).run()
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "is a key for nodes" in p.stderr


@pytest.mark.parametrize("address", ["", "here", "127.0.0.1", "1.2.3.4:x"])
def test_a_bad_listen_address_is_a_wrong_command_line(new_mount, address):
    p = new_mount().run("--listen", address)
    assert p.returncode == 2 and p.stderr.count("\n") == 1 and "--listen" in p.stderr


def test_an_address_that_is_taken_is_said(ml, new_mount, base):
    (base / "second").mkdir()
    second = new_mount(base=base / "second", options=["--listen", listens(ml)])
    p = second.run()
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and listens(ml) in p.stderr


def test_nobody_may_join_by_default(m):
    assert text_of(m.mnt / "nodes" / ".listen") == ""
    assert text_of(m.mnt / "nodes" / ".discover") == "0\n"


def test_sigterm_drains_a_node(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    m.pid_of("g")
    node.signal(signal.SIGTERM)
    wait_until(lambda: value(m, "far", "state") == "drain", "the node to drain")
    m.put("later.sh", "#!/bin/sh\n")
    m.open_gate("g")
    assert m.result("g") == b"through g\n"
    assert node.wait() == 0
    wait_until(lambda: nodes_of(m) == ["local"], "the node to be gone")
    assert m.state("later.sh") in ("queued", "waiting")


# --- what nodes/ tells -----------------------------------------------------------------------------------------------

def says(m, name, *words):
    wait_until(lambda: all(w in value(m, name, "why") for w in words), "nodes/%s/why to say %s" % (name, " ".join(words)))


def test_a_node_that_cannot_be_reached_says_why(m, new_node, base):
    nodes = m.mnt / "nodes"
    with socket.socket() as taken:  # nobody else has it meanwhile
        taken.bind(("127.0.0.1", 0))
        address = "127.0.0.1:%d" % taken.getsockname()[1]
        (nodes / address).mkdir()
        says(m, address, "refused")
    assert value(m, address, "state") == "down"
    (nodes / "no.such.host.invalid:60000").mkdir()
    says(m, "no.such.host.invalid:60000", "no.such.host.invalid")
    other_key = base / "other-key"
    other_key.write_text(re.sub("secret: ..", "secret: 00", key_of(m).read_text()))
    other_key.chmod(0o600)
    outsider = new_node("--listen", "127.0.0.1:0", key=other_key)
    (nodes / outsider.address()).mkdir()
    says(m, outsider.address(), "key")
    node = new_node("--listen", "127.0.0.1:0", key=key_of(m))
    (nodes / node.address()).mkdir()
    up(m, node.address())
    assert value(m, node.address(), "why") == value(m, "local", "why") == ""
    node.kill9()
    says(m, node.address(), "refused")


@pytest.mark.parametrize("where", ["0.0.0.0", "[::]"])
def test_a_ppfs_that_listens_everywhere_gives_its_name(new_mount, new_node, where):
    """An address that may be given to --join on another machine; here, too, if this machine knows its own name."""
    m = new_mount(cpus=0, options=["--listen", where + ":0"])
    try:
        m.start()
    except AssertionError as e:
        if where != "[::]" or "Address family" not in str(e):
            raise
        pytest.skip("no IPv6 here")
    host, _, port = listens(m).rpartition(":")
    assert host == socket.gethostname() and int(port) > 0
    try:
        socket.getaddrinfo(host, port)
    except OSError:
        host = "localhost"
    new_node("--name", "far", key=key_of(m), join=host + ":" + port).up(m)


def test_slots_in_use_are_counted(pair):
    """Those of calls too; a stream that has nothing to do uses none."""
    m, node = pair
    m.put("j", m.gate("j"))
    m.pid_of("j")
    assert value(m, "far", "running") == "1"
    gate = str(m.work / "go")
    with open(m.jobs / "s.jsonl", "w") as f:
        f.write('{"call": "os.mkfifo", "args": ["%s"]}\n{"call": "os.open", "args": ["%s", 0]}\n' % (gate, gate))
        f.flush()
        wait_until(lambda: value(m, "far", "running") == "2", "a slot to be used by a call")
        wait_until(lambda: os.path.exists(gate), "the gate")
        assert value(m, "far", "running") == "2"
        with open(gate, "w"):
            wait_until(lambda: value(m, "far", "running") == "1", "the call to end")
        m.open_gate("j")
        assert m.result("j")
        wait_until(lambda: value(m, "far", "running") == "0", "no slot to be used")


@pytest.mark.parametrize("what", ["job", "stream"])
def test_a_job_on_a_node_that_falls_silent_says_so(pair, what):
    m, node = pair
    name = "x" if what == "job" else "x.jsonl"
    gate = m.gate("x")
    m.put(name, gate if what == "job" else json.dumps({"call": "time.sleep", "args": [3]}) + "\n")
    wait_until(lambda: value(m, "far", "running") == "1", "it to run")
    assert "heard" not in m.why(name)
    node.signal(signal.SIGSTOP)
    wait_until(lambda: "nodes/far has not been heard of for" in m.why(name) and "given up after 5 s" in m.why(name), "the job to say it")
    says(m, "far", "has not been heard of for")
    node.signal(signal.SIGCONT)
    wait_until(lambda: "heard" not in m.why(name) and value(m, "far", "why") == "", "the node to be heard again")
    m.open_gate("x")
    assert m.wait(name) == "done"
