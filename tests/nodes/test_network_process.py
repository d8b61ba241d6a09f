"""ppfs-net: what faces the network has no privileges, and when it dies the connections come back."""
import json
import os
import signal
import socket
import subprocess
import textwrap

import pytest
from noderig import NODE, key_of, listens, nodes_of, up, value
from ppfsmount import SLOW, sanitized, wait_until
from processes import alive, exe_of, kill, parents, text_of
from rogue import network_process

NET = os.path.realpath(os.environ.get("PPFS_NET", NODE.parent / "ppfs-net"))


def net_of(pid):
    """The network process of a ppfs or ppfs-node, 0: none."""
    return next((p for p, parent in parents().items() if parent == pid and exe_of(p) == NET), 0)


def status(pid):
    return dict(line.split(":\t", 1) for line in text_of("/proc/%d/status" % pid).splitlines() if ":\t" in line)


def sockets(pid):
    """The inodes of the sockets that a process has."""
    found = set()
    for fd in os.listdir("/proc/%d/fd" % pid):
        try:
            name = os.readlink("/proc/%d/fd/%s" % (pid, fd))
        except OSError:
            continue
        if name.startswith("socket:["):
            found.add(name[8:-1])
    return found


def established(port):
    """The inodes of this machine's connections that came to a port."""
    rows = [line.split() for line in text_of("/proc/net/tcp").splitlines()[1:]]
    return {r[9] for r in rows if int(r[1].split(":")[1], 16) == port and r[3] == "01"}


def has_no_privileges(pid):
    s = status(pid)
    assert {s[k] for k in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert s["NoNewPrivs"] == "1"
    if not sanitized():
        assert s["Seccomp"] == "2"
    limits = text_of("/proc/%d/limits" % pid)
    assert "Max file size             0 " in limits and "Max processes             0 " in limits
    assert {os.readlink("/proc/%d/fd/%d" % (pid, fd)) for fd in (0, 1)} == {"/dev/null"}
    environment = open("/proc/%d/environ" % pid, "rb").read().split(b"\0")
    assert {e.split(b"=")[0] for e in environment if e} <= {b"LD_LIBRARY_PATH", b"OPENSSL_CONF", b"ASAN_OPTIONS",
                                                            b"UBSAN_OPTIONS", b"LSAN_OPTIONS"}
    return s


@pytest.mark.skipif(os.geteuid() != 0, reason="looks into processes of another user")
def test_it_has_no_privileges(pair):
    m, node = pair
    for pid in (net_of(m.pids()["daemon"]), net_of(node.pid)):
        s = has_no_privileges(pid)
        assert s["Uid"].split() == s["Gid"].split() == ["65533"] * 4
        assert s["Groups"].split() == [] and s["CapBnd"] == "0" * 16


# As 65534, what else runs so; one limit of descriptors that is too small, and no node could join again.
AS_NOBODY = """
    import errno, os, resource, sys
    pid = int(sys.argv[1])
    attempts = {
        "signal": lambda: os.kill(pid, 0), "descriptors": lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)),
        "nice": lambda: os.setpriority(os.PRIO_PROCESS, pid, 19), "processors": lambda: os.sched_setaffinity(pid, {0}),
        "idle": lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
            print(name, "done")
        except OSError as e:
            assert e.errno == errno.EPERM or e.errno == errno.EACCES, e
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_nobody_else_limits_or_signals_it(ml):
    pid = wait_until(lambda: net_of(ml.pids()["daemon"]), "the network process")
    wait_until(lambda: status(pid).get("NoNewPrivs") == "1", "its jail")
    p = subprocess.run(["/usr/bin/python3", "-c", textwrap.dedent(AS_NOBODY), str(pid)], user=65534, group=65534,
                       extra_groups=[], capture_output=True, text=True, cwd="/")
    assert (p.stdout, p.stderr, p.returncode) == ("", "", 0)


def test_one_of_an_ordinary_user_has_none_either(ml, alice):
    key = alice.home / "node.key"
    key.write_bytes(key_of(ml).read_bytes())
    os.chown(key, alice.uid, alice.gid)
    key.chmod(0o600)
    process = alice.popen([NODE, "--join", listens(ml), "--key", key, "--cpus", "1", "--name", "hers"])
    try:
        pid = wait_until(lambda: net_of(process.pid), "its network process")
        wait_until(lambda: status(pid).get("NoNewPrivs") == "1" and (sanitized() or status(pid)["Seccomp"] == "2"), "its jail")
        assert has_no_privileges(pid)["Uid"].split() == [str(alice.uid)] * 4
    finally:
        process.terminate()
        process.wait(30 * SLOW)
    wait_until(lambda: not alive(pid), "it to end with its node")


def test_a_connection_without_a_key_is_never_the_daemons(ml):
    """Its bytes can only be read by who has the socket."""
    host, port = listens(ml).rsplit(":", 1)
    daemon = ml.pids()["daemon"]
    with socket.create_connection((host, int(port))) as s:
        s.sendall(b"\x16\x03\x01")  # as TLS begins, and it waits for the rest
        inode = wait_until(lambda: established(int(port)) & sockets(net_of(daemon)), "it to be accepted")
        assert not inode & sockets(daemon)
        s.sendall(b"\xff" * 1000)
        try:
            while s.recv(1000):
                pass
        except ConnectionResetError:
            pass
    wait_until(lambda: "does not speak TLS 1.3" in ml.log(), "the complaint")
    assert not established(int(port)) & sockets(daemon)


def test_members_connections_are_never_the_daemons(pair):
    m, node = pair
    port = int(listens(m).rsplit(":", 1)[1])
    assert established(port) and not established(port) & sockets(m.pids()["daemon"])
    assert established(port) <= sockets(net_of(m.pids()["daemon"]))
    assert not established(port) & sockets(node.pid)


def test_without_nodes_there_is_none(new_mount):
    m = new_mount().start()
    m.put("x", "#!/bin/sh\necho hello")
    assert m.result("x") == b"hello\n"
    assert net_of(m.pids()["daemon"]) == 0
    (m.mnt / "nodes" / "127.0.0.1:1").mkdir()
    wait_until(lambda: net_of(m.pids()["daemon"]), "one that dials")


def test_it_dies_and_nothing_is_lost(pair):
    m, node = pair
    m.put("s.jsonl", b"".join(b'{"call": "time.sleep", "args": [0.01]}\n{"call": "math.sqrt", "args": [%d]}\n' % (i * i)
                              for i in range(300)))
    for who in (m.pids()["daemon"], node.pid, m.pids()["daemon"]):
        wait_until(lambda: value(m, "far", "running") == "2", "calls to run")
        old = wait_until(lambda: net_of(who), "a network process")
        kill(old)
        wait_until(lambda: net_of(who) not in (0, old), "another one")
    answers = [json.loads(line) for line in m.result("s.jsonl").splitlines()]
    assert len(answers) == 600 and sorted(a for a in answers if a is not None) == list(range(300))
    assert "was killed by signal 9 (SIGKILL); it is started again" in m.log() and "(SIGKILL); it is started again" in node.log()
    assert nodes_of(m) == ["local", "far"] and value(m, "far", "state") == "up"


def test_it_dies_with_its_daemon(pair):
    m, node = pair
    old = net_of(m.pids()["daemon"])
    daemon = m.kill_daemon()
    wait_until(lambda: not alive(old), "it to end")
    wait_until(lambda: net_of(daemon), "one of the next daemon")
    up(m, "far")
    m.put("x", "#!/bin/sh\necho hello")
    assert m.result("x") == b"hello\n"


def test_it_ends_when_it_is_let_go(pair):
    m, node = pair
    pid = net_of(node.pid)
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    node.status = 0
    assert not alive(pid)


def test_jobs_do_not_see_it_as_theirs(pair):
    """The end of a fork server sweeps up what is below the node, but for it."""
    m, node = pair
    pid = net_of(node.pid)
    m.put("x", "#!/bin/sh\nsetsid sleep 1000 &\nkill -9 0; kill -9 $PPID\n")
    wait_until(lambda: m.state("x") not in ("queued", "running"), "it to end")
    m.put("y", "#!/bin/sh\necho hello")
    assert m.result("y") == b"hello\n"
    assert alive(pid) and net_of(node.pid) == pid


LIAR = """\
    size = len(s.recv(65536))
    chance = random.Random(os.getpid())
    def say(kind, fds=(), **at):
        m = bytearray(chance.randbytes(size) if chance.random() < 0.5 else size)
        struct.pack_into("<IIIIi", m, 0, kind, chance.randrange(4), chance.randrange(4), 3, chance.choice([0, -1, 1, -13, 2**31 - 1, -2**31]))
        if chance.random() < 0.5:
            struct.pack_into("<H", m, 24, 2)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        s.sendmsg([m], rights)
    other = socket.socketpair()
    null = os.open("/dev/null", os.O_RDONLY)
    for i in range(3000):
        say(chance.randrange(9, 16), chance.choice([(), (null,), (other[0].fileno(),), (null,) * 4]))
    mode = open(here + "/mode").read()
    if mode == "short":
        s.send(b"x")
    elif mode == "unknown":
        say(99)
    s.recv(65536)
    while True:
        if not s.recv(65536):
            sys.exit()
"""


@pytest.mark.parametrize("mode, said", [("short", "it is started again"), ("unknown", "it is started again"), ("quiet", "")])
def test_what_it_says_is_checked(new_mount, base, mode, said):
    """A network process that belongs to somebody else by now."""
    (base / "mode").write_text(mode)
    m = new_mount(cpus=1, options=["--listen", "127.0.0.1:0"], env=network_process(base, LIAR)).start()
    daemon = m.pids()["daemon"]
    if said:
        wait_until(lambda: said in m.log(), "the complaint")
    for i in range(3):
        m.put("x%d" % i, "#!/bin/sh\necho hello")
        assert m.result("x%d" % i) == b"hello\n"
    assert m.pids()["daemon"] == daemon and nodes_of(m) == ["local"]


FLOOD = """\
    key = None
    while not key:
        m = s.recv(65536)
        if struct.unpack_from("<I", m)[0] == 2:  # a key of a node
            key = m[200:216]
    for n in itertools.count(1):
        ours, theirs = socket.socketpair()
        m = bytearray(len(m))
        struct.pack_into("<III", m, 0, 10, 1, n)  # somebody with that key has come to the first listener, and gone
        struct.pack_into("<HH4B", m, 24, 2, n & 65535, 10, n >> 16 & 255, n >> 8 & 255, n & 255)
        m[152:168] = key
        s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()] * 4))])
        ours.close()
        theirs.close()
"""


def test_what_it_says_without_end_stops_nobody(new_mount, base):
    m = new_mount(cpus=1, options=["--listen", "127.0.0.1:0"], env=network_process(base, FLOOD)).start()
    wait_until(lambda: "was not taken" in m.log(), "it to be heard")
    daemon = m.pids()["daemon"]
    pid = next(p for p, parent in parents().items() if parent == daemon and "/rogue-net" in text_of("/proc/%d/cmdline" % p))
    for i in range(3):
        m.put("x%d" % i, "#!/bin/sh\necho hello")
        assert m.result("x%d" % i) == b"hello\n"
    assert len(os.listdir("/proc/%d/fd" % m.pids()["daemon"])) < 1000 and alive(pid)
    assert m.log().count("was not taken") < 1000  # each from another address


NODE_SIDE = """\
    # Carries the first connection to the mount, and pretends that all later ones are to it, too, with what it has heard.
    key, heard, dials, other = None, b"", 0, {}
    while True:
        for ready in select.select([s, *other], [], [])[0]:
            if ready is not s and ready in other:
                data = ready.recv(65536)
                if ready is mount:
                    heard += data
                if data:
                    other[ready].sendall(data)
                else:
                    mount.close(), ours.close(), other.clear()
                continue
            m = s.recv(65536)
            if not m:
                sys.exit()
            kind, number = struct.unpack_from("<II", m)
            if kind == 2:
                key = m[200:216]
            elif kind == 8:
                s.send(struct.pack("<I", 15) + bytes(len(m) - 4))
            elif kind == 5:
                dials += 1
                ours, theirs = socket.socketpair()
                if dials == 1:
                    mount = socket.socket(socket.AF_UNIX)
                    mount.connect(here + "/door")
                    mount.sendall(socket.inet_aton("127.0.0.1"))
                    other = {mount: ours, ours: mount}
                else:
                    ours.sendall(heard[:160])  # HELLO and RESUME
                m = bytearray(len(m))
                struct.pack_into("<III", m, 0, 12, number, dials)
                m[152:168], m[168:200] = key, b"b" * 32
                s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
                theirs.close()
"""


def test_a_greeting_of_before_is_worth_nothing(new_mount, new_node, base):
    """A node's network process that is somebody else's has seen the mount greet, and says so again when the mount has gone."""
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0"], env=network_process(base)).start()
    with socket.create_server(("127.0.0.1", 0)) as there:
        node = new_node("--name", "far", join="127.0.0.1:%d" % there.getsockname()[1], key=key_of(m),
                        env=network_process(base, NODE_SIDE, "node-net"))
        node.up(m)
        m.put("x", "#!/bin/sh\necho hello")
        assert m.result("x") == b"hello\n"
        m.unmount()
        wait_until(lambda: "has not the secret of the mount" in node.log(), "it to be refused")
        assert node.log().count("has come") == 1


FINDS = """\
    # Finds five thousand nodes; what is dialled it leaves unanswered, and counts.
    port = int(open(here + "/port").read())
    dials = []
    while True:
        m = s.recv(65536)
        if not m:
            sys.exit()
        kind, number = struct.unpack_from("<II", m)
        if kind == 8:
            s.send(struct.pack("<I", 15) + bytes(len(m) - 4))
        elif kind == 5:
            dials.append(number)
            with open(here + "/dials", "w") as f:
                f.write(str(len(dials)))
        elif kind == 6 and os.fork() == 0:
            for n in range(5000):
                m = bytearray(len(m))
                struct.pack_into("<II", m, 0, 14, number)
                struct.pack_into("<HHBBBB", m, 24, 2, socket.htons(port), 127, 1 + n // 200, 1 + n % 200, 1)
                struct.pack_into("<I", m, len(m) - 16, n)
                s.send(m)
            open(here + "/said", "w").close()
            os._exit(0)
"""


def test_finds_without_end_are_not_dialled_all_at_once(new_mount, base):
    """Who has a key of a node can forge what discovery hears; nodes that were named have their turn before."""
    with socket.create_server(("0.0.0.0", 0)) as there:
        port = there.getsockname()[1]
        (base / "port").write_text(str(port))
        m = new_mount(cpus=1, env=network_process(base, FINDS)).start()
        (m.mnt / "nodes" / ".discover").write_text("239.255.77.70%lo:60071\n")
        wait_until(lambda: (base / "said").exists(), "the finds")
        wait_until(lambda: text_of(base / "dials") == "128", "some of them to be dialled")
        for n in range(3):
            (m.mnt / "nodes" / ("127.0.0.%d:%d" % (n + 1, port))).mkdir()
        wait_until(lambda: text_of(base / "dials") == "131", "those that were named to be dialled")
        m.put("x", "#!/bin/sh\necho hello")
        assert m.result("x") == b"hello\n" and text_of(base / "dials") == "131"


DEAD = """\
    # Finds a thousand nodes that are not there, and when each was dialled once another one.
    port = int(open(here + "/port").read())
    discovery, dials, answered = 0, 0, False
    def find(n):
        m = bytearray(size)
        struct.pack_into("<II", m, 0, 14, discovery)
        struct.pack_into("<HHBBBB", m, 24, 2, socket.htons(port), 127, 1 + n // 200, 1 + n % 200, 1)
        struct.pack_into("<I", m, size - 16, n)
        s.send(m)
    while True:
        m, fds, flags, _ = socket.recv_fds(s, 65536, 4)
        if not m:
            sys.exit()
        size, (kind, number) = len(m), struct.unpack_from("<II", m)
        if kind == 8:
            s.send(struct.pack("<I", 15) + bytes(size - 4))
        elif kind == 5:
            dials += 1
            try:
                last = socket.socket(fileno=os.dup(fds[0])).getpeername()[0]
            except OSError:
                last = ""
            if last == "127.100.1.1":
                open(here + "/said", "w").close()
            else:
                s.send(struct.pack("<IIIIi", 12, number, 0, 0, -111) + bytes(size - 20))
            if dials == 1024:
                find(99 * 200)
        elif kind == 6:
            discovery = number
            for n in range(1024):
                find(n)
        for fd in fds:
            os.close(fd)
"""


def test_dead_addresses_that_were_found_give_way(new_mount, base):
    """Who has a key of a node can name as many as are kept, again and again."""
    with socket.create_server(("0.0.0.0", 0), backlog=4096) as there:
        (base / "port").write_text(str(there.getsockname()[1]))
        m = new_mount(cpus=1, env=network_process(base, DEAD)).start()
        (m.mnt / "nodes" / ".discover").write_text("239.255.77.70%lo:60071\n")
        wait_until(lambda: (base / "said").exists(), "one more to be dialled")


def test_a_program_that_cannot_be_run_is_named(new_mount, base):
    m = new_mount(options=["--listen", "127.0.0.1:0"], env={"PPFS_NET": str(base / "nothing")})
    p = m.run()
    assert p.returncode == 1 and "nothing cannot be run: No such file or directory (is ppfs installed completely?)" in p.stderr


def test_by_hand_it_says_what_it_is_for():
    p = subprocess.run([NET], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30 * SLOW)
    assert (p.returncode, p.stdout) == (2, "") and p.stderr.startswith("ppfs-net: ppfs and ppfs-node start it")


def test_a_dial_for_which_it_has_no_descriptors_is_made_again(new_mount, new_node, base):
    """The handshake succeeds, and then there is no pair of sockets for the connection."""
    wrapper, limit = base / "ppfs-net", base / "limit"
    wrapper.write_text("#!/bin/sh\nulimit -n $(cat %s)\nexec %s\n" % (limit, NET))
    wrapper.chmod(0o755)
    limit.write_text("1000")
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0"], env={"PPFS_NET": str(wrapper)}).start()
    node = new_node("--name", "far", "--listen", "127.0.0.1:0", key=key_of(m))

    def another(after):
        def jailed():
            now = net_of(m.pids()["daemon"])
            return now if now != after and status(now).get("NoNewPrivs") == "1" else 0
        return wait_until(jailed, "its network process")

    first = another(0)
    wait_until(lambda: len(sockets(first)) >= 2, "it to listen")
    used = {int(fd) for fd in os.listdir("/proc/%d/fd" % first)}
    limit.write_text(str(next(n for n in range(1000) if len(set(range(n)) - used) == 1)))  # one is free
    kill(first)
    second = another(first)
    (m.mnt / "nodes" / node.address()).mkdir()
    wait_until(lambda: "open files" in value(m, node.address(), "why"), "a reason")
    limit.write_text("1000")
    kill(second)
    node.up(m, node.address())
