"""Which host takes what, by how long it takes there. A node is slow here because the test's functions sleep longer where its
name says so; no time is asserted, only where calls ran."""
import collections
import os
import sys
from pathlib import Path

import pytest
from ppfsmount import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402


def functions():
    """Functions that no worker could import from here: they travel by value."""
    def work(seconds):
        import os
        import time
        name = os.environ["PPFS_NODE"]
        time.sleep(seconds * (6 if name == "slow" else 1))
        return name

    def sleep_or_not(seconds):
        import os
        import time
        if seconds:
            time.sleep(seconds)
        return os.environ["PPFS_NODE"]
    return work, sleep_or_not


work, sleep_or_not = functions()


@pytest.fixture
def fast_and_slow(ml, new_node):
    """(mount, executor): two nodes, "fast" and "slow", of one slot each; both have run work() often enough to be known."""
    for name in ("fast", "slow"):
        new_node("--name", name, join=ml, cpus=1).up(ml)
    with ppfs.Executor(str(ml.mnt)) as ex:
        known = collections.Counter(ex.map(work, [0.1] * 40))
        assert known["slow"] >= 4 and known["fast"] >= 25  # while much waits both work
        yield ml, ex


def test_the_last_calls_do_not_wait_on_a_slow_node(fast_and_slow):
    """Two calls, again and again: the second one has ended on the fast node before it could on the
    slow one, which is idle. On a busy machine calls that take unlike times are not waited for: not every time, then."""
    m, ex = fast_and_slow
    rounds = []
    wait_until(lambda: rounds.append(set(ex.map(work, [0.1, 0.1]))) or rounds.count({"fast"}) >= 3, "the slow node to be left alone")


def test_what_is_not_known_waits_for_nobody(fast_and_slow):
    m, ex = fast_and_slow
    held = ex.submit(work, 3)
    wait_until(held.running, "a call to run")
    first = ex.submit(sleep_or_not, 0).result()
    assert first != held.result()


def test_a_slow_node_takes_what_the_fast_one_does_not_come_to(fast_and_slow):
    """The fast one is thought to be free soon, and is not."""
    m, ex = fast_and_slow
    held = ex.submit(work, 6)
    wait_until(held.running, "a call to run")
    others = [ex.submit(work, 0.1) for _ in range(3)]
    assert "slow" in [f.result() for f in others]
    assert not held.done()
    held.result()


def test_slow_and_fast_calls_in_one_stream_on_one_node(pair):
    """Calls of no time are sent ahead, those of a function that takes long are not, whatever was before them."""
    m, node = pair
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = []
        for i in range(40):
            futures += [ex.submit(sleep_or_not, 0.03)] + [ex.submit(abs, -n) for n in range(50)]
        assert [f.result() for f in futures[1::51]] == [0] * 40
        assert {f.result() for f in futures[0::51]} == {"far"}


def test_jobs_of_a_directory(ml, new_node):
    """Those of G take half a second on "fast" and two on "slow", as both have shown."""
    m = ml
    for name in ("fast", "slow"):
        new_node("--name", name, join=m, cpus=1).up(m)
    (m.jobs / "G").mkdir()

    def put(name, seconds=0.5, node="*"):
        m.put("G/" + name, "#!/bin/sh\n#ppfs: node=%s\n[ $PPFS_NODE = slow ] && sleep 2 || sleep %s\necho $PPFS_NODE\n" % (node, seconds))

    def where(name):
        return m.result("G/" + name).decode().strip()

    known = [(name, "%s%d.sh" % (name, i)) for name in ("fast", "slow") for i in range(5)]
    for name, job in known:
        put(job, node=name)
    assert [where(job) for _, job in known] == [name for name, _ in known]
    # The second one ends sooner when it waits for the first; who comes after them does not wait with it.
    put("one.sh")
    put("two.sh")
    m.put("other.py", "import os; print(os.environ['PPFS_NODE'])\n")
    assert m.result("other.py") == b"slow\n"
    assert where("one.sh") == where("two.sh") == "fast"
    # While many wait both work.
    for i in range(10):
        put("%d.sh" % i)
    assert 1 <= [where("%d.sh" % i) for i in range(10)].count("slow") <= 4
    # The first one takes longer than it should: nobody waits for it any more.
    put("long.sh", 8)
    wait_until(lambda: m.state("G/long.sh") == "running", "it to run")
    put("next.sh")
    seen = []
    wait_until(lambda: seen.append(m.why("G/next.sh")) or m.state("G/next.sh") != "queued", "it to start")
    assert any("ends sooner when it waits" in why for why in seen)
    assert where("next.sh") == "slow"
    assert m.state("G/long.sh") == "running"


# --- memory ----------------------------------------------------------------------------------------------------------

@pytest.fixture
def small_node(new_mount, new_node, base):
    """A mount whose own machine has what it has, and a node, "small", that thinks its machine has 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("another /proc/meminfo takes a mount namespace")
    (base / "meminfo").write_text("MemTotal: 65536 kB\n")
    m = new_mount(cpus=1, options=["--listen", "127.0.0.1:0"]).start()
    new_node("--name", "small", join=m,
             wrap=["unshare", "-m", "--propagation", "slave", "sh", "-c", "mount --bind %s /proc/meminfo && exec \"$@\"" % (base / "meminfo"), "sh"]).up(m)
    return m


def test_a_job_does_not_go_where_it_has_no_memory(small_node):
    m = small_node
    for i in range(6):
        m.put("%d.sh" % i, "#!/bin/sh\n#ppfs: memory=500M\necho $PPFS_NODE\n")
    m.put("run", {"run": ["printenv", "PPFS_NODE"], "memory": "500M"})
    assert {m.result("%d.sh" % i) for i in range(6)} == {b"local\n"}
    assert m.result("run") == b"local\n"
    m.put("less.sh", "#!/bin/sh\n#ppfs: memory=60M node=small\necho $PPFS_NODE\n")
    assert m.result("less.sh") == b"small\n"


def test_a_job_that_has_nowhere_enough_memory_says_so(small_node, new_node):
    m = small_node
    m.put("a.sh", "#!/bin/sh\n#ppfs: memory=500M node=sm*\necho $PPFS_NODE\n")
    assert m.why("a.sh") == "needs 500 MiB of memory, and no node that it may run on has more than 64 MiB"
    m.put("b.sh", "#!/bin/sh\n#ppfs: memory=900000G\n")
    assert "needs 900000.0 GiB of memory, and no node has more than" in m.why("b.sh")
    m.put("c.sh", "#!/bin/sh\n#ppfs: memory=500M node=none\n")
    assert m.why("c.sh") == "no node has a name that its option node=none asks for"
    assert m.state("a.sh") == "waiting"
    new_node("--name", "smith", join=m).up(m)
    assert m.result("a.sh") == b"smith\n"
