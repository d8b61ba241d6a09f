"""What is killed, stopped or cut off: its jobs run elsewhere, and no result comes twice or too late."""
import contextlib
import signal
import subprocess
import time

import pytest
from noderig import key_of, listens, up, value
from ppfsmount import need_programs, wait_until
from processes import alive
from relay import Relay


def where(m, names, node):
    return [n for n in names if m.state(n) == "running" and m.get(n, "node") == node]


def test_jobs_of_a_killed_node_run_elsewhere(trio):
    m, nodes = trio
    names = ["g%d" % i for i in range(4)]
    for name in names:
        m.put(name, m.gate(name))
    for name in names:
        m.pid_of(name)
    lost = where(m, names, "far0")
    assert len(lost) == 2
    pids = [m.pid_of(n) for n in lost]
    nodes[0].kill9()
    assert not any(map(alive, pids))
    wait_until(lambda: value(m, "far0", "state") == "down", "the dead node to be noticed")
    assert value(m, "far0", "address").startswith("127.0.0.1")
    for name in names:
        m.open_gate(name)
    for name in names:
        assert m.result(name) == b"through %s\n" % name.encode()
        assert m.get(name, "node") == "far1"
        assert m.get(name, "attempt") == ("2" if name in lost else "1")


def test_a_job_at_which_three_nodes_die_fails(ml, new_node):
    m = ml
    node = new_node("--name", "far", join=m)
    node.up(m)
    m.put("killer.py", "import os, signal\nopen(%r, 'a').write('x')\nos.kill(int(open(%r).read()), signal.SIGKILL)\n"
          "import time; time.sleep(1000)\n" % (str(m.work / "runs"), str(m.work / "victim")))
    for i in range(3):
        (m.work / "victim").write_text(str(node.pid))
        node.wait()
        node.gone()
        if i < 2:
            node.restart()
            (m.work / "victim").write_text(str(node.pid))
    assert "three deaths" in m.failed("killer.py")
    assert (m.work / "runs").read_text() == "xxx"


def test_what_a_job_on_a_node_printed_is_kept_when_it_is_cancelled(pair):
    m, _ = pair
    for size in (0, 200000):
        m.put("x", "#ppfs: node=far\nimport sys, time\nsys.stdout.write('x' * %d)\nprint('said', flush=True)\n"
              "print('and complained', file=sys.stderr, flush=True)\ntime.sleep(1000)\n" % size)
        with open(m.info / "x/stderr") as f:
            assert f.readline() == "and complained\n"
        (m.jobs / "x").unlink()
        assert m.wait("x") == "cancelled" and m.get("x", "exit") == "SIGKILL"
        assert (m.info / "x/stdout").read_text() == "x" * size + "said\n" and m.get("x", "stderr") == "and complained"


@pytest.mark.limit(120)
def test_a_node_that_is_stopped_longer_than_its_lease(trio):
    m, nodes = trio
    m.put("g", m.gate("g").replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: node=far0\n"))
    pid = m.pid_of("g")
    m.put("h", m.gate("h").replace("#!/bin/sh\n", "#!/bin/sh\n#ppfs: node=far*\n"))
    m.pid_of("h")
    victim = m.get("h", "node")
    node = nodes[int(victim[-1])]
    (m.work / "h.pid").unlink()
    node.signal(signal.SIGSTOP)
    wait_until(lambda: value(m, victim, "state") == "down", "the node to be lost")
    if victim != "far0":
        assert m.get("g", "node") == "far0"
    m.pid_of("h")  # it runs on the other one now
    assert m.get("h", "node") != victim and m.get("h", "attempt") == "2"
    node.signal(signal.SIGCONT)
    up(m, victim)  # it has come back, and what it ran was killed
    wait_until(lambda: not alive(pid) or victim != "far0", "the old attempt to end")
    for name in "gh":
        m.open_gate(name)
    assert m.result("h") == b"through h\n" and m.get("h", "attempt") == "2"
    assert m.result("g") == b"through g\n"


def test_a_short_stop_costs_nothing(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    m.pid_of("g")
    node.signal(signal.SIGSTOP)
    quiet = time.monotonic() + 2
    wait_until(lambda: time.monotonic() > quiet, "two seconds to pass")
    node.signal(signal.SIGCONT)
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "1"


def test_a_second_way_to_a_node_disturbs_nothing_that_is_under_way(ml, new_node):
    m = ml
    node = new_node("--name", "far", "--listen", "127.0.0.1:0", join=m).up(m)
    m.put("large.sh", "#!/bin/sh\nhead -c 150000000 /dev/zero\n")
    wait_until(lambda: (m.info / "large.sh" / "stdout").stat().st_size > 10000000, "it to be on its way")
    (m.mnt / "nodes" / node.address()).mkdir()
    wait_until(lambda: "is nodes/far already" in m.log(), "the second way to be taken")
    result = m.result("large.sh")
    assert len(result) == result.count(0) == 150000000
    assert m.get("large.sh", "attempt") == "1" and value(m, "far", "state") == "up"


@pytest.mark.parametrize("dials", ["node", "ppfs"])
def test_a_way_that_breaks_every_connection_is_not_tried_without_a_pause(ml, new_node, dials):
    m = ml
    node = None if dials == "node" else new_node("--name", "far", "--listen", "127.0.0.1:0", key=key_of(m))
    with Relay(listens(m) if dials == "node" else node.address()) as relay:
        node = node or new_node("--name", "far", join=relay.address, key=key_of(m))
        name = "far" if dials == "node" else relay.address
        if dials == "ppfs":
            (m.mnt / "nodes" / name).mkdir()
        node.up(m, name)
        relay.limit(8000)  # a greeting, and less than a piece of the job's output
        m.put("large.sh", "#!/bin/sh\nhead -c 1000000 /dev/zero\n")
        before, began = relay.count()[1], time.monotonic()
        wait_until(lambda: relay.count()[1] >= before + 6, "six connections more")
        assert time.monotonic() - began >= 2  # 0, 0.2, 0.4, 0.8, 1 and 1 s, at least
        relay.limit(0)
        assert len(m.result("large.sh")) == 1000000
        assert m.get("large.sh", "attempt") == "1"


def test_the_daemon_is_killed_while_a_node_works(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    (m.work / "g.pid").unlink()
    m.kill_daemon()
    new = m.pid_of("g")  # by the new daemon
    assert new != pid
    wait_until(lambda: not alive(pid), "the attempt of the old daemon to be killed")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"
    m.works()


def test_unmounting_takes_back_what_runs(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    (m.work / "g.pid").unlink()
    address = node.argv[node.argv.index("--join") + 1]
    m.unmount()
    wait_until(lambda: not alive(pid), "what it ran to be killed")
    m.options[m.options.index("--listen") + 1] = address
    m.start()
    m.pid_of("g")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "1"


def test_everything_of_ppfs_is_killed(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    (m.work / "g.pid").unlink()
    address = node.argv[node.argv.index("--join") + 1]
    m.kill_all()
    m.options[m.options.index("--listen") + 1] = address
    m.start()
    m.pid_of("g")
    wait_until(lambda: not alive(pid), "the attempt of the old daemon to be killed")
    m.open_gate("g")
    assert m.result("g") == b"through g\n"


def test_a_worker_of_a_node_that_dies_fails_its_job_alone(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    m.pid_of("g")
    m.put("crash", {"call": "os.kill", "args": [0, 0]})
    m.put("die.py", "import os\nos.kill(os.getppid(), 9)\nimport time; time.sleep(100)\n")
    m.failed("die.py")
    m.open_gate("g")
    assert m.result("g") == b"through g\n"
    m.wait("crash")


def test_a_node_that_comes_and_goes_while_jobs_run(ml, new_node):
    """Every job ends, whichever node it was on."""
    m = ml
    (m.node / "cpus").write_text("1\n")
    node = new_node("--name", "far", join=m)
    names = []
    for i in range(2):  # at three deaths a job would be given up
        node.up(m)
        for j in range(16):
            names.append(m.put("j%d-%d" % (i, j), "#!/bin/sh\nsleep 0.05\necho %d %d\n" % (i, j)))
        wait_until(lambda: value(m, "far", "running") not in ("", "0") or m.state(names[-1]) == "done", "it to run some")
        node.kill9()
        node.restart()
    for name in names:
        i, j = name[1:].split("-")
        assert m.result(name) == ("%s %s\n" % (i, j)).encode()


def test_a_node_that_dies_on_every_job_eats_none(ml, new_node):
    """Jobs that die on one node run on another, and the bad one is tried with less and less."""
    m = ml
    bad = new_node("--name", "bad", join=m, cpus=4)
    good = new_node("--name", "good", join=m, cpus=1)
    bad.up(m)
    good.up(m)
    (m.work / "bad").write_text(str(bad.pid))
    names = [m.put("j%d" % i, "#!/bin/sh\n[ $PPFS_NODE = good ] || { kill -9 $(cat %s/bad); sleep 100; }\necho %d\n"
                   % (m.work, i)) for i in range(30)]
    ended = lambda: m.state(names[-1]) in ("done", "failed") and all(m.state(n) in ("done", "failed") for n in names)
    deaths = 0
    while not ended():
        wait_until(lambda: bad.process.poll() is not None or ended(), "the bad node to die, or the end")
        if bad.process.poll() is not None:
            deaths += 1
            bad.gone()
            bad.restart()
            (m.work / "bad").write_text(str(bad.pid))
    for i, name in enumerate(names):
        assert m.result(name) == b"%d\n" % i
    assert deaths < len(names)


@pytest.fixture
def full_disk(base):
    """A directory with almost no room."""
    path = base / "full"
    path.mkdir()
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(path)], capture_output=True, text=True)
    if p.returncode:
        pytest.skip("no tmpfs here: " + p.stderr.strip())
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


@pytest.fixture
def hanging_disk(base):
    """A directory on a filesystem of its own, and a context in which who writes to it hangs."""
    image, path = base / "image", base / "hanging"
    path.mkdir()
    with open(image, "wb") as f:
        f.truncate(64 << 20)
    need_programs("mkfs.ext4", "fsfreeze")
    p = subprocess.run("mkfs.ext4 -q %s && mount -o loop %s %s" % (image, image, path), shell=True, capture_output=True, text=True)
    if p.returncode:
        pytest.skip("no filesystem on a loop device here: " + p.stderr.strip())

    @contextlib.contextmanager
    def frozen():
        subprocess.run(["fsfreeze", "-f", str(path)], check=True)
        try:
            yield
        finally:
            subprocess.run(["fsfreeze", "-u", str(path)], check=True)

    yield path, frozen
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_hangs_holds_up_nobody_else(hanging_disk, new_mount, new_node):
    path, frozen = hanging_disk
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", 1]).start()
    node = new_node("--name", "far", "--silence", 1, join=m, cpus=3, env={"TMPDIR": str(path)}).up(m)
    call = '{"call": "math.gcd", "args": [84, 36]}'
    m.put("first", call)
    assert m.result("first") == b"12\n"  # a worker is there
    text = b"#!/bin/sh\necho $PPFS_NODE\nexit 0\n" + b"x" * 20_000_000 + b"\n"
    with frozen():
        for name in ("kept", "killed"):
            m.put(name, text)
        end, i = time.monotonic() + 4, 0
        while time.monotonic() < end:  # four times what a node may be silent
            m.put("small%d" % i, call)
            wait_until(lambda: m.state("small%d" % i) == "done", "a small job beside those whose bytes hang")
            assert value(m, "far", "state") == "up"
            i += 1
        (m.jobs / "killed").unlink()
        wait_until(lambda: m.state("killed") == "cancelled", "the work to be killed while its bytes hang")
    assert m.result("kept") == b"far\n"
    assert m.get("kept", "attempt") == "1"
    assert "is down" not in node.log()


def test_a_node_whose_disk_is_full(full_disk, ml, new_node):
    m = ml
    new_node("--name", "full", join=m, cpus=4, env={"TMPDIR": str(full_disk)}).up(m)
    m.put("small.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert m.result("small.sh") == b"full\n"
    m.put("alone.sh", b"#!/bin/sh\nexit 0\n" + b"x" * 2_000_000 + b"\n")
    assert "No space left" in m.failed("alone.sh")
    new_node("--name", "good", join=m, cpus=1).up(m)
    for i in range(6):
        m.put("j%d" % i, b"#!/bin/sh\necho $PPFS_NODE\nexit 0\n" + b"x" * 2_000_000 + b"\n")
    for i in range(6):
        assert m.result("j%d" % i) == b"good\n"
