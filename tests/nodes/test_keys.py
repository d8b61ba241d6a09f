"""nodes/.keys: a key for each node, and one for any number of them; what one who has stolen one cannot do."""
import os
import signal
import stat
import subprocess

import pytest
from noderig import NODE, key_of, listens, node_dir, nodes_of, up, value
from ppfsmount import SLOW, wait_until
from processes import alive
from relay import Relay


def keys(m):
    return m.mnt / "nodes" / ".keys"


def take(m, name, path):
    """What the administrator does: a copy of the key for the node."""
    path.write_bytes((keys(m) / name / "key").read_bytes())
    path.chmod(0o600)
    return path


def test_a_node_with_a_key_of_its_own(ml, new_node, base):
    (keys(ml) / "box").mkdir()
    text = (keys(ml) / "box" / "key").read_text()
    assert text.startswith("ppfs node key 1\nname: box\n")
    st = os.stat(keys(ml) / "box" / "key")
    assert (stat.S_IMODE(st.st_mode), st.st_uid) == (0o400, os.geteuid())
    assert stat.S_IMODE(os.stat(keys(ml)).st_mode) == 0o700
    assert sorted(os.listdir(keys(ml))) == ["box", "join"] and os.listdir(keys(ml) / "box") == ["key"]
    assert (ml.statedir / "key").read_text().split()[-1] not in text
    node = new_node(key=take(ml, "box", base / "box.key"), join=listens(ml))  # its name is in the key
    node.up(ml, "box")
    ml.put("s.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert ml.result("s.sh") == b"box\n"
    with pytest.raises(FileExistsError):
        (keys(ml) / "box").mkdir()


@pytest.mark.parametrize("name", ["local", "a b", ".x", "x" * 64])
def test_names_of_no_node(m, name):
    with pytest.raises(OSError):
        (keys(m) / name).mkdir()
    assert os.listdir(keys(m)) == ["join"]


def test_keys_stay_over_a_restart_and_a_kill(new_mount, base):
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()
    (keys(m) / "box").mkdir()
    (keys(m) / "gone").mkdir()
    (keys(m) / "gone").rmdir()
    (keys(m) / "join").rmdir()
    before = (keys(m) / "box" / "key").read_text()
    assert not key_of(m).exists()
    m.kill_daemon()
    wait_until(lambda: os.path.isdir(keys(m)), "the mount to be there")
    assert (keys(m) / "box" / "key").read_text() == before
    m.unmount()
    m.start()
    assert os.listdir(keys(m)) == ["box"] and (keys(m) / "box" / "key").read_text() == before
    assert not key_of(m).exists()


def test_a_revoked_key_costs_its_node_at_once_and_its_work_runs_elsewhere(ml, new_node, base):
    m = ml
    (keys(m) / "box").mkdir()
    stolen = take(m, "box", base / "box.key")
    box = new_node(key=stolen, join=listens(m))
    box.up(m, "box")
    m.put("g", m.gate("g"))
    pid = m.pid_of("g")
    (m.work / "g.pid").unlink()
    (keys(m) / "box").rmdir()
    wait_until(lambda: not alive(pid), "what ran there to be killed")
    new_node("--name", "other", join=m).up(m)
    m.pid_of("g")
    m.open_gate("g")
    assert m.result("g") == b"through g\n" and m.get("g", "node") == "other"
    wait_until(lambda: "revoked" in box.log(), "the node to be told")
    assert value(m, "box", "state") in ("", "down")
    (keys(m) / "box").mkdir()  # another key, of the same name
    assert (keys(m) / "box" / "key").read_text() != stolen.read_text()
    again = new_node("--name", "box", key=stolen, join=listens(m))
    wait_until(lambda: "(those that are right are in nodes/.keys of the ppfs); it goes on trying\n" in again.log(),
               "the stolen key to be refused, in a whole sentence")
    new_node(key=take(m, "box", base / "new.key"), join=listens(m)).up(m, "box")


def test_the_key_for_any_node_is_renewed(ml, new_node):
    m = ml
    old = key_of(m).read_text()
    assert old == (keys(m) / "join" / "key").read_text()
    a = new_node("--name", "a", join=m).up(m)
    (keys(m) / "join").rmdir()
    wait_until(lambda: value(m, "a", "state") in ("", "down") and "revoked" in a.log(), "the node to be let go")
    assert not key_of(m).exists()
    (keys(m) / "join").mkdir()
    assert key_of(m).read_text() == (keys(m) / "join" / "key").read_text() != old
    new_node("--name", "b", join=m).up(m)


def test_a_key_is_for_the_node_of_its_name(ml, new_node, base):
    m = ml
    (keys(m) / "a").mkdir()
    key = take(m, "a", base / "a.key")
    p = subprocess.run([str(NODE), "--key", key, "--name", "b", "--join", listens(m)], capture_output=True, text=True, timeout=30 * SLOW)
    assert p.returncode == 1 and "node a" in p.stderr and p.stderr.count("\n") == 1
    liar = base / "liar.key"  # the name in the file is the thief's to choose
    liar.write_text(key.read_text().replace("name: a\n", "name: b\n"))
    liar.chmod(0o600)
    new_node(key=liar, join=listens(m))
    wait_until(lambda: "its key is for the node a, and it calls itself b" in m.log(), "it to be refused")
    assert nodes_of(m) == ["local"]
    squatter = new_node("--name", "a", join=m)  # with the key for any node: a is taken by whom has its key
    squatter.up(m, "a-2")
    own = new_node(key=key, join=listens(m))
    own.up(m, "a")
    twin = new_node(key=key, join=listens(m))
    wait_until(lambda: "nodes/a is there already" in m.log(), "the second with one key to be refused")
    assert sorted(nodes_of(m)) == ["a", "a-2", "local"] and alive(twin.pid) and alive(own.pid)


def test_a_second_node_with_one_key_is_told_once(ml, new_node, base):
    """It knocks again and again, less and less often; what for is one sentence at both ends."""
    (keys(ml) / "a").mkdir()
    key = take(ml, "a", base / "a.key")
    own = new_node(key=key, join=listens(ml))
    own.up(ml, "a")
    with Relay(listens(ml)) as relay:
        twin = new_node(key=key, join=relay.address)
        wait_until(lambda: relay.count()[1] >= 4, "the twin to try some times")
        said = " does not take this node in: nodes/a is there already, with the same key, at 127.0.0.1:"
        assert twin.log().count(said) == 1 and "has come" not in twin.log() and "has gone" not in twin.log()
        assert ml.log().count("is not taken in: nodes/a is there already") == 1
        own.kill9()
        wait_until(lambda: "has come: there this node is called a\n" in twin.log(), "the twin to be taken in its place")


def test_who_has_the_key_for_any_node_disturbs_none_with_its_own(ml, new_node, base):
    """From the same host, and with its name, while it does not answer."""
    (keys(ml) / "a").mkdir()
    own = new_node("--silence", "60", key=take(ml, "a", base / "a.key"), join=listens(ml))
    own.up(ml, "a")
    ml.put("g", ml.gate("g"))
    ml.pid_of("g")
    own.signal(signal.SIGSTOP)
    squatter = new_node("--name", "a", join=ml)
    squatter.up(ml, "a-2")
    wait_until(lambda: "has come: there this node is called a-2\n" in squatter.log(), "it to be told its name")
    own.signal(signal.SIGCONT)
    ml.open_gate("g")
    assert ml.result("g") == b"through g\n" and ml.get("g", "node") == "a"
    assert "has gone" not in own.log() and "no longer answers" not in ml.log()


def test_a_node_that_ppfs_dials_may_have_any_of_its_keys(m, new_node, base):
    (keys(m) / "a").mkdir()
    node = new_node("--listen", "127.0.0.1:0", key=take(m, "a", base / "a.key"))
    (m.mnt / "nodes" / node.address()).mkdir()
    up(m, node.address())
    other = new_node("--listen", "127.0.0.1:0", "--name", "c", key=key_of(m))
    (m.mnt / "nodes" / other.address()).mkdir()
    up(m, other.address())
    (keys(m) / "a").rmdir()
    wait_until(lambda: value(m, node.address(), "state") == "down" and "revoked" in value(m, node.address(), "why"), "it to be dropped")
    assert value(m, other.address(), "state") == "up"


def test_nobody_but_who_mounted_sees_or_makes_keys(shared, alice):
    p = alice.sh("ls $M/nodes/.keys; cat $M/nodes/.keys/join/key; mkdir $M/nodes/.keys/mine; rmdir $M/nodes/.keys/join", M=shared.mnt)
    assert p.stdout == "" and p.stderr.count("Permission denied") == 4
    assert os.listdir(keys(shared)) == ["join"]


def test_a_stolen_key_runs_nothing_on_another_node(new_user, new_mount, new_node, base, mallory):
    """A job on a node of mallory's reads its key; with a ppfs of his own he looks for the node of root's that listens."""
    m = new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0"]).start()
    victim = new_node("--listen", "127.0.0.1:0", "--name", "victim", key=key_of(m))
    (m.mnt / "nodes" / victim.address()).mkdir()
    up(m, victim.address())
    key = take(m, "join", mallory.home / "ppfs.key")
    os.chown(key, mallory.uid, mallory.gid)
    (base / "second").mkdir()
    state = base / "second" / "state"
    thief = new_mount(base=base / "second", cpus=0, options=["--state", state])
    state.mkdir(mode=0o700)
    stolen = key.read_text()
    for line in ("secret", "mount", "find"):  # as the secret of his mount he has nothing better
        word = [w.split()[1] for w in stolen.splitlines() if w.startswith(line)][0]
        (state / "key").write_text("ppfs mount key 1\nsecret: %s\n" % word)
        (state / "key").chmod(0o600)
        thief.start()
        address = victim.address()
        (thief.mnt / "nodes" / address).mkdir()
        wait_until(lambda: value(thief, address, "why"), "the node to refuse him")
        thief.put("x.sh", "#!/bin/sh\nid > %s/owned\n" % m.work)
        assert value(thief, address, "state") == "down" and not (m.work / "owned").exists()
        (thief.mnt / "nodes" / address).rmdir()
        thief.unmount()
    assert value(m, victim.address(), "state") == "up"


@pytest.mark.parametrize("which", ["join", "victim"])
def test_who_has_the_key_of_a_node_and_not_the_secret_is_obeyed_in_nothing(ml, new_mount, new_node, base, which):
    """With a ppfs that takes the stolen key for its own, so that TLS is right and discovery too; only what it signs is not."""
    if which == "victim":
        (keys(ml) / which).mkdir()
    stolen = take(ml, which, base / "stolen.key")
    victim = new_node("--listen", "127.0.0.1:0", "--name", "victim", key=stolen)
    (base / "second").mkdir()
    thief = new_mount(base=base / "second", cpus=0, options=["--listen", "127.0.0.1:0"])
    thief.start()
    thief.unmount()
    own = thief.statedir / "join.key"
    words = dict(line.split(": ") for line in stolen.read_text().splitlines()[1:])
    words.update(name="*", mount=dict(line.split(": ") for line in own.read_text().splitlines()[1:])["mount"])
    own.write_text("ppfs node key 1\n" + "".join("%s: %s\n" % (w, words[w]) for w in ("name", "secret", "mount", "find")))
    for path in thief.statedir.glob("*.db*"):
        path.unlink()
    thief.start()  # without its database it takes what join.key says
    assert words["secret"] in (keys(thief) / "join" / "key").read_text()
    address = victim.address()
    (thief.mnt / "nodes" / address).mkdir()
    joins = new_node("--name", "victim", key=stolen, join=listens(thief))
    thief.put("x.sh", "#!/bin/sh\nid > %s/owned\n" % thief.work)
    for node in victim, joins:
        wait_until(lambda: "has not the secret of the mount that made our key" in node.log(), "the node to see who that is")
    wait_until(lambda: value(thief, address, "why"), "the thief to be told")
    assert value(thief, address, "state") == "down" and nodes_of(thief) == ["local", address]
    assert not (thief.work / "owned").exists() and thief.state("x.sh") == "queued"
    (ml.mnt / "nodes" / address).mkdir()
    up(ml, address)  # and who has it is obeyed
