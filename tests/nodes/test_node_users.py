"""Several users' jobs on a node: nobody gets at what is another's, as on the machine with the mount."""
import json
import os
import signal
import time

import pytest
from between import SEARCH, Catcher, answers, done, put, secret
from noderig import value
from ppfsmount import BUILD, wait_until
from processes import alive, text_of
from streamframes import ERROR, MAGIC, RESULT, Named, naming, sent


@pytest.fixture
def far(new_user, new_mount, new_node):
    """A mount of root's that everybody may use, and all of whose work is done by the one slot of a node."""
    m = new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0"])
    m.work.chmod(0o777)
    m.start()
    new_node("--name", "far", join=m, cpus=1, env={"NODES_TOKEN": secret()}).up(m)
    return m


@pytest.fixture
def catcher(mallory):
    c = Catcher(mallory)
    yield c
    c.end()


@pytest.mark.parametrize("whose", ["alice", "root"])
def test_pipes_do_not_outlive_the_job(far, request, mallory, catcher, whose):
    victim = request.getfixturevalue("alice") if whose == "alice" else None
    done(far, mallory, "give.py", (mallory.home / "give.py").read_text())
    assert catcher.caught() >= 2
    (far.work / "victim").mkdir()
    (far.work / "victim").chmod(0o777)
    put(far, victim, "after", "#!/bin/sh\ncd %s\necho mine\ntouch begun\nuntil [ -e go ]; do sleep 0.01; done\necho end\n"
        % (far.work / "victim"))
    wait_until((far.work / "victim" / "begun").exists, "the job of %s to begin" % whose)
    catcher.forge()
    (far.work / "victim" / "go").touch()
    assert far.result("after") == b"mine\nend\n"
    assert b"mine" not in catcher.swallowed()


def test_memory_and_addresses(far, alice, mallory):
    filler = "#" * 50000 + "\n"
    for user, name in (None, "r"), (alice, "a"):
        done(far, user, name + ".py", "%sprint('%s')\n" % (filler, secret()))
        done(far, user, name + "-large.py", "%sprint('%s')\n" % (filler * 2, secret()))
    assert done(far, mallory, "search.py", SEARCH) == b"[] True\n"
    where = "print([line.split('-')[0] for line in open('/proc/self/maps') if 'libc.so' in line])"
    assert len({done(far, user, "where%d" % i, where) for i, user in enumerate((None, alice, mallory))}) == 3


@pytest.mark.parametrize("size", [10, 300_000])
def test_a_hash_gives_nothing_of_another_users(far, alice, mallory, size):
    """The node keeps what alice's calls name, but not for him."""
    digest, func = sent(os.urandom(size))
    named = naming(1, len, Named(digest), lists=[digest])
    mine = answers(far, alice, "a", MAGIC + func + named)
    assert mine[1][0] == RESULT
    assert answers(far, mallory, "m", MAGIC + named)[1][0] == ERROR
    assert answers(far, mallory, "m2", MAGIC + func + named) == mine
    assert answers(far, alice, "a2", MAGIC + named) == mine


def test_the_module_that_a_call_misses_is_named_to_its_user(far, alice, mallory):
    alice.sh("echo '{\"call\": \"plans_of_alice.f\"}' > %s/jobs/j" % far.mnt)
    wait_until(lambda: far.state("j") == "failed", "it to end")
    said = {who: who.sh("cat %s/nodes/far/why %s/stats.json" % (far.mnt, far.mnt)).stdout for who in (alice, mallory)}
    assert "has no module 'plans_of_alice'" in said[alice] and "has no module 'plans_of_alice'" in value(far, "far", "why")
    assert "has no module that some calls need" in said[mallory] and "plans" not in said[mallory]


# A call of the user who has the workers runs in its worker, with the worker's link.
LINKED = r"""
import os, select, stat, struct
fds = {fd: os.readlink("/proc/self/fd/%d" % fd) for fd in range(200, 256) if os.path.lexists("/proc/self/fd/%d" % fd)}
link = next(fd for fd, name in fds.items() if name.startswith("socket:"))
page = next(fd for fd, name in fds.items() if "ppfs-lease" in name)
OUTPUT, DONE, RESULT, AT_TOOK = 33, 39, 2, 8
ref = struct.unpack("<Q", os.pread(page, 8, AT_TOOK))[0] & 0xffffffff
def say(kind, low, body):
    os.write(link, struct.pack("<IB3xQ", len(body), kind, ref << 32 | low) + body)
def done(user_us=0, rss=0):
    say(DONE, 0, struct.pack("<IIIqqqqI", 1, 0, 0, user_us, 0, 0, rss, 1) + b"\0")
"""

# It ends itself, waits for the next START, and says that it ends once more.
ENDS_TWICE = LINKED + r"""
say(OUTPUT, RESULT, b'"first"')
done()
select.select([link], [], [])
say(OUTPUT, RESULT, b'"second"')
done()
select.select([], [], [])
"""


def test_the_end_of_a_call_is_never_that_of_the_next(far):
    far.put("first", json.dumps({"call": "exec", "args": [ENDS_TWICE, {}]}))
    assert far.result("first") == b'"first"'
    far.put("next", json.dumps({"call": "abs", "args": [-1]}))
    far.wait("next")
    assert "killed" in far.why("next")
    far.put("last", json.dumps({"call": "abs", "args": [-2]}))
    assert far.result("last") == b"2\n"


def test_what_fails_for_one_user_keeps_no_node_from_another(new_mount, new_node, alice, mallory):
    """His jobs, in the same directory and of the same kind, fail there and work elsewhere."""
    m = new_mount(cpus=1, options=["-o", "allow_other", "--listen", "127.0.0.1:0"])
    m.work.chmod(0o777)
    m.start()
    new_node("--name", "far", join=m, cpus=6).up(m)
    done(m, mallory, "works.sh", "#!/bin/sh\n#ppfs: node=local\n")
    for i in range(4):
        put(m, mallory, "his%d.sh" % i, "#!/bin/sh\n#ppfs: node=far\nexit 3\n")
    wait_until(lambda: all(m.state("his%d.sh" % i) == "failed" for i in range(4)), "his jobs to fail")
    assert "fails here" in value(m, "far", "why")
    for i in range(7):
        put(m, alice, "hers%d.sh" % i, "#!/bin/sh\nuntil [ -e %s ]; do sleep 0.1; done\n" % (m.work / "go"))
    wait_until(lambda: all(m.state("hers%d.sh" % i) == "running" for i in range(7)), "all of hers to run at once")
    (m.work / "go").touch()


@pytest.mark.parametrize("usage", ["user_us=-1", "rss=1 << 62"])
def test_a_call_that_lies_about_its_usage_costs_nobody_the_node(far, usage):
    """The ppfs lets go of a node that says what makes no sense; all that others have there would run again."""
    far.put("lies", json.dumps({"call": "exec", "args": [LINKED + "done(%s)\nselect.select([], [], [])" % usage, {}]}))
    far.wait("lies")
    assert "killed" in far.why("lies")
    assert "is gone" not in far.log()


# Says that it began, and asks for what nobody has when it is told to. The second one answers its call then, and the first
# one ends after that.
ASKS = LINKED + r"""
import time
with open(base + "/began-" + who, "w") as began:
    began.write(str(os.getppid()))
while not os.path.exists(base + "/ask-" + who):
    time.sleep(0.01)
say(37, 1, b"x" * 32)
if who == "second":
    say(35, 1, b"1")
open(base + "/asked-" + who, "w").close()
while who == "second" or not os.path.exists(base + "/asked-second"):
    time.sleep(0.01)
os._exit(3)
"""


def test_a_call_that_answers_before_it_has_what_it_asked_for_costs_nobody_the_node(new_mount, new_node):
    """Another of the same user's has asked for the same, and when that ends it is this one's turn."""
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()
    new_node("--name", "far", join=m, cpus=3).up(m)
    who = ["first", "second"]
    for name in who:
        call = json.dumps({"call": "exec", "args": [ASKS, {"base": str(m.work), "who": name}]}) + "\n"
        m.put(name + ".jsonl", call * who.index(name) + call)
    for name in who:
        wait_until(lambda: text_of(m.work / ("began-" + name)), "%s to begin" % name)
    daemon = m.pids()["daemon"]
    os.kill(daemon, signal.SIGSTOP)  # so that the first one's question is not answered yet
    try:
        for name in who:
            (m.work / ("ask-" + name)).touch()
            wait_until((m.work / ("asked-" + name)).exists, "%s to ask" % name)
        wait_until(lambda: not alive(int((m.work / "began-first").read_text())), "the first one to end")
        time.sleep(0.2)  # until the node has noticed: without that this test sees less
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert "error" in m.result("first.jsonl").decode()
    m.put("x", json.dumps({"call": "abs", "args": [-1]}))
    assert m.result("x") == b"1\n"
    assert "is gone" not in m.log()


def test_a_node_that_cannot_start_a_users_workers_is_not_the_jobs_death(new_mount, new_node, alice):
    """It goes elsewhere, or waits and says for what; others work there meanwhile."""
    m = new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0"])
    m.start()
    broken, worker = m.base / "broken", m.base / "worker"
    worker.write_text("#!/bin/sh\n[ -e %s ] && exit 3\nexec %s \"$@\"\n"
                      % (broken, os.environ.get("PPFS_WORKER", BUILD / "ppfs-worker")))
    worker.chmod(0o755)
    new_node("--name", "far", join=m, cpus=1, env={"PPFS_WORKER": str(worker)}).up(m)
    broken.touch()  # root's workers are there already
    assert alice.sh("echo 'print(1)' > $M/jobs/hers", M=m.mnt).stderr == ""
    wait_until(lambda: "nodes/far could not begin it" in m.why("hers"), "the reason to name the node")
    assert "does not start" in m.why("hers")
    for i in range(5):  # more than the deaths that end a job
        m.put("roots%d" % i, "print(2)")
        assert m.result("roots%d" % i) == b"2\n"
    assert m.state("hers") == "queued"
    broken.unlink()
    assert m.result("hers") == b"1\n"
