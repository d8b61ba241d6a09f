"""The program ppfs-node: its command line, its signals, when it leaves, and what it leaves behind."""
import os
import re
import signal
import subprocess

import pytest
from noderig import NODE, key_of, listens, make_key, nodes_of, up, value
from ppfsmount import SLOW, clean_env, wait_until
from processes import alive, kill, parents


def run(base, *words):
    return subprocess.run([str(NODE), *map(str, words)], capture_output=True, text=True, timeout=30 * SLOW,
                          env=clean_env(base))


@pytest.mark.parametrize("words, say", [
    ([], "--join HOST:PORT"),
    (["--join"], "--join needs an argument"),
    (["--join", "nowhere"], "--join"),
    (["--join", "h:0"], "--join"),
    (["--listen", "here"], "--listen"),
    (["--discover=[x"], "--discover"),
    (["--join", "h:1", "--cpus", "0"], "--cpus needs a number from 1 to 4096"),
    (["--join", "h:1", "--cpus", "2x"], "--cpus"),
    (["--join", "h:1", "--name", "a/b"], "--name"),
    (["--join", "h:1", "--name", ".x"], "--name"),
    (["--join", "h:1", "--name=-rf"], "--name"),
    (["--join", "h:1", "--name", "x" * 64], "--name"),
    (["--join", "h:1", "--idle-exit", "0"], "--idle-exit"),
    (["--join", "h:1", "--silence", "-1"], "--silence"),
    (["--join", "h:1", "--frobnicate"], "unknown option --frobnicate"),
    (["--join", "h:1", "-x"], "unknown option -x"),
    (["--join", "h:1", "more"], "'more' is one argument too many"),
    (["--join", "h:1", "--cpus", "1", "--cpus", "2"], "--cpus is given twice"),
])
def test_a_wrong_command_line(base, words, say):
    p = run(base, *words)
    assert p.returncode == 2 and p.stdout == ""
    assert p.stderr.count("\n") == 1 and p.stderr.startswith("ppfs-node: ") and say in p.stderr


def test_help_and_version(base):
    p = run(base, "--help")
    assert p.returncode == 0 and p.stderr == ""
    for option in ("--join", "--listen", "--discover", "--key", "--cpus", "--name", "--python", "--idle-exit", "--pid-file"):
        assert option in p.stdout
    assert re.fullmatch(r"ppfs-node \d+\.\d+\.\d+\n", run(base, "--version").stdout)


@pytest.mark.parametrize("words, say", [
    (["--python", "/nonexistent"], "no Python at /nonexistent"),
    (["--pid-file", "/nonexistent/pid"], "/nonexistent/pid"),
    (["--listen", "192.0.2.1:0"], "192.0.2.1"),
])
def test_what_cannot_be_is_said_in_one_line(base, words, say):
    key = make_key(base / "k")
    p = run(base, "--join", "127.0.0.1:9", "--key", key, *words)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and say in p.stderr


def test_a_node_whose_workers_do_not_start_never_offers_to_work(ml, base):
    broken = base / "broken-worker"
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    env = clean_env(base) | {"PPFS_WORKER": str(broken)}
    p = subprocess.run([str(NODE), "--join", listens(ml), "--key", str(key_of(ml)), "--name", "b"], capture_output=True,
                       text=True, timeout=30 * SLOW, env=env)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "does not start" in p.stderr
    assert nodes_of(ml) == ["local"] and "nodes/b" not in ml.log()


def test_a_node_whose_workers_start_no_more_gives_its_work_back(ml, new_node, base):
    """As when its Python is taken away under it: it leaves, and what it had runs elsewhere."""
    worker = base / "worker"
    worker.symlink_to(os.environ.get("PPFS_WORKER", NODE.parent / "ppfs-worker"))
    node = new_node("--name", "sick", "--cpus", "1", join=ml, env={"PPFS_WORKER": str(worker)})
    node.up(ml)
    ml.put("g", ml.gate("g"))
    ml.pid_of("g")
    (ml.work / "g.pid").unlink()
    worker.unlink()
    worker.symlink_to("/bin/false")
    for pid in node.marked():
        if parents().get(pid) == node.pid:
            kill(pid)  # the fork server; a network process may have ended meanwhile
    assert node.wait() == 1 and "cannot be started any more" in node.log()
    new_node("--name", "sound", join=ml).up(ml)
    ml.pid_of("g")
    ml.open_gate("g")
    assert ml.result("g") == b"through g\n" and ml.get("g", "node") == "sound"


def test_the_default_key_is_that_of_a_ppfs_of_the_same_user(ml, new_node):
    home = ml.base / "home2"
    (home / ".local/state/ppfs").mkdir(parents=True)
    (home / ".local/state/ppfs/join.key").write_bytes(key_of(ml).read_bytes())
    (home / ".local/state/ppfs/join.key").chmod(0o600)
    env = clean_env(ml.base) | {"HOME": str(home)}
    env.pop("XDG_STATE_HOME", None)
    node = subprocess.Popen([str(NODE), "--join", listens(ml), "--name", "n"], env=env, stderr=subprocess.DEVNULL)
    try:
        up(ml, "n")
    finally:
        node.send_signal(signal.SIGTERM)
        assert node.wait(30 * SLOW) == 0


def test_the_name_is_the_hosts_by_default(ml, new_node):
    new_node(join=ml)
    wait_until(lambda: len(nodes_of(ml)) == 2, "the node to come")
    name = next(n for n in nodes_of(ml) if n != "local")
    assert name == re.sub(r"[^A-Za-z0-9._-]", "-", os.uname().nodename)[:63]


def test_a_second_sigterm_leaves_at_once(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    node.signal(signal.SIGTERM)
    wait_until(lambda: value(m, "far", "state") == "drain", "the node to drain")
    assert alive(node.pid) and alive(pid)
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    assert not alive(pid)
    wait_until(lambda: m.state("g") == "queued", "the job to be queued again")  # it is nobody's fault, and nobody is there
    node.restart()
    node.up(m)
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "attempt") == "2"


def test_sighup_leaves_at_once(pair):
    m, node = pair
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    node.signal(signal.SIGHUP)
    assert node.wait() == 0 and not alive(pid)


def test_sigusr2_traces_its_work_and_workers(pair):
    m, node = pair
    node.signal(signal.SIGUSR2)
    wait_until(lambda: "transitions are traced" in node.log(), "the trace to be on")
    m.put("traced", {"call": "math.sqrt", "args": [4]})
    m.result("traced")
    wait_until(lambda: "running -> ended" in node.log(), "the end of the work to be told")
    log = node.log()
    assert "traced: receiving -> running" in log
    assert ": idle -> busy" in log and ": busy -> idle" in log


def test_sigusr1_prints_statistics(pair):
    m, node = pair
    for i in range(3):
        m.put("c%d" % i, {"call": "math.sqrt", "args": [i]})
        m.wait("c%d" % i)
    m.put("bad", {"call": "math.sqrt", "args": [-1]})
    m.wait("bad")
    node.signal(signal.SIGUSR1)
    wait_until(lambda: "in all:" in node.log() and "bytes on the way" in node.log(), "the statistics")
    assert "far: 2 slots" in node.log() and "4 works begun, 3 done, 1 failed" in node.log()
    m.works()


def test_it_leaves_when_there_was_nothing_to_do(ml, new_node):
    node = new_node("--name", "idler", "--idle-exit", "1", join=ml)
    node.up(ml)
    ml.put("g", ml.gate("g"))
    ml.pid_of("g")
    ml.put("s", "#!/bin/sh\nsleep 2\n")
    assert ml.wait("s") == "done"  # longer than that: work keeps it
    ml.open_gate("g")
    assert ml.wait("g") == "done"
    assert node.wait() == 0
    wait_until(lambda: nodes_of(ml) == ["local"], "the node to be gone")


def test_it_leaves_also_when_nobody_came(new_node, base):
    key = make_key(base / "k")
    node = new_node("--listen", "127.0.0.1:0", "--idle-exit", "1", key=key)
    assert node.wait() == 0


def test_the_pid_file(ml, new_node):
    path = ml.base / "node.pid"
    node = new_node("--name", "n", "--pid-file", path, join=ml)
    node.up(ml)
    assert int(path.read_text()) == node.pid
    node.signal(signal.SIGTERM)
    assert node.wait() == 0 and not path.exists()


def test_the_pid_file_is_not_written_through_a_link(ml, new_node, base):
    """Nor into what was there under a second name."""
    victim, path = base / "victim", base / "node.pid"
    for make, word in (path.symlink_to, "symbolic link"), (lambda v: os.link(v, path), "second name"):
        victim.write_text("mine\n")
        make(victim)
        node = new_node("--name", "n", "--pid-file", path, join=ml)
        assert node.wait() == 1 and word in node.log()
        assert victim.read_text() == "mine\n"
        path.unlink()


def test_the_key_of_another(new_node, base, mallory):
    """Whoever it belongs to would decide who is let in."""
    key = mallory.home / "key"
    mallory.sh("umask 077; head -c 32 /dev/urandom > key")
    node = new_node("--listen", "127.0.0.1:0", key=key)
    assert node.wait() == 1 and "belongs to user %d" % mallory.uid in node.log()
    key = make_key(base / "his")
    os.chown(key, mallory.uid, mallory.gid)
    node = new_node("--listen", "127.0.0.1:0", key=key)
    assert node.wait() == 1 and "%s is not taken, as somebody could put another in its place: it belongs to user %d" % (key, mallory.uid) in node.log()


@pytest.mark.parametrize("program", ["ppfs", "ppfs-node"])
def test_a_key_of_roots_where_another_can_put_another(base, mallory, fuse, program):
    """Another one of root's, by rename(2)."""
    key = mallory.home / "key"
    key.write_text({"ppfs": "ppfs mount key 1\nsecret: %s\n" % os.urandom(32).hex(), "ppfs-node": make_key(base / "key").read_text()}[program])
    key.chmod(0o600)
    (base / "mnt").mkdir()
    argv = {"ppfs": ["--state", base / "state", base / "mnt"], "ppfs-node": ["--listen", "127.0.0.1:0"]}[program]
    p = subprocess.run([str(NODE.parent / program), *map(str, argv), "--key", str(key)], capture_output=True, text=True, timeout=60 * SLOW)
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "%s belongs to user %d" % (mallory.home, mallory.uid) in p.stderr


def test_who_only_joins_ends_when_it_is_let_go(pair):
    m, node = pair
    (m.mnt / "nodes" / "far").rmdir()
    assert node.wait() == 0 and "let it go" in node.log()
    assert nodes_of(m) == ["local"]


def test_one_node_for_two_ppfs(ml, new_mount, new_node, base):
    (base / "second").mkdir()
    other = new_mount(base=base / "second", cpus=0, options=["--listen", "127.0.0.1:0", "--key", ml.statedir / "key"]).start()
    node = new_node("--name", "both", "--join", listens(other), cpus=1, join=ml)
    node.up(ml)
    node.up(other)
    ml.put("g", ml.gate("g"))
    ml.pid_of("g")
    other.put("s.sh", "#!/bin/sh\necho mine\n")  # its only slot is taken: it waits over there
    ml.open_gate("g")
    assert other.result("s.sh") == b"mine\n"
    (other.mnt / "nodes" / "both").rmdir()
    wait_until(lambda: nodes_of(other) == ["local"], "the node to be let go")
    ml.works()
    assert alive(node.pid)


def test_nothing_is_left_of_a_killed_node(pair):
    m, node = pair
    m.put("t", m.tree_job())
    pids = m.tree_pids()
    m.put("big.sh", m.gate("big.sh").encode() + b"exit 0\n" + os.urandom(300_000).hex().encode())
    m.pid_of("big.sh")
    node.kill9()
    wait_until(lambda: not any(map(alive, pids)), "the tree to die")
    assert not [p for p in node.base.rglob("*payload*")]


def test_a_ppfs_that_is_killed_and_back_at_once_finds_free_slots(pair):
    m, node = pair
    for i in range(2):
        m.put("g%d" % i, m.gate("g%d" % i))
        m.pid_of("g%d" % i)
    m.kill_daemon()
    node.up(m)
    for i in range(2):
        m.open_gate("g%d" % i)
        assert m.result("g%d" % i) == b"through g%d\n" % i
    wait_until(lambda: "it was started again" in node.log(), "the node to know it again")


def test_a_node_started_with_closed_descriptors(ml, new_node):
    node = new_node("--name", "bare", join=ml, wrap=("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh"))
    node.up(ml)
    assert [os.readlink("/proc/%d/fd/%d" % (node.pid, fd)) for fd in range(3)] == ["/dev/null"] * 3
    ml.works()


def test_a_node_with_more_slots_than_descriptors(ml, new_node):
    node = new_node("--name", "small", join=ml, cpus=80, wrap=("prlimit", "--nofile=128:128"))
    node.up(ml)
    assert value(ml, "small", "cpus") == "16" and "16 slots instead of 80" in node.log()
    (ml.jobs / ".some").mkdir()
    for i in range(80):
        ml.put(".some/%d" % i, "#!/bin/sh\nsleep 0.3; echo $PPFS_ATTEMPT\n")
    os.rename(ml.jobs / ".some", ml.jobs / "some")
    ml.put("calls.jsonl", "".join('{"call": "abs", "args": [%d]}\n' % i for i in range(200)))
    assert [ml.result("some/%d" % i) for i in range(80)] == [b"1\n"] * 80
    assert len(ml.result("calls.jsonl").splitlines()) == 200
