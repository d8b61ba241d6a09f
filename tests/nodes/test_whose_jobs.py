"""Whose jobs a node runs: a node of root's those of its users but not root's, a node of a user's those of one user."""
import os
import subprocess

import pytest
from noderig import NODE, key_of, listens, up, value
from ppfsmount import wait_until


@pytest.fixture
def root_mount(new_user, new_mount):
    """A mount of root's for everybody, without slots of its own."""
    def make(*options):
        m = new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0", *options])
        m.work.chmod(0o777)
        return m.start()
    return make


@pytest.fixture
def node_of(base):
    """Starts a ppfs-node that a user runs, with a key that is his."""
    made = []

    def make(user, m, name):
        key = user.home / "key"
        key.write_text(key_of(m).read_text())
        key.chmod(0o600)
        os.chown(key, user.uid, user.gid)
        with open(user.home / "log", "wb") as log:
            made.append(user.popen([NODE, "--join", listens(m), "--key", key, "--name", name, "--cpus", "1"], stdout=log, stderr=log))
        up(m, name)
        return made[-1]

    yield make
    for process in made:
        process.terminate()
        process.wait()


def why_of(m, user, name, words):
    wait_until(lambda: words in user.sh("cat $M/info/%s/why" % name, M=m.mnt).stdout, "info/%s/why to say %s" % (name, words))


def test_a_node_of_roots_runs_nothing_of_root_unless_told(root_mount, new_node, alice):
    m = root_mount()
    new_node("--name", "far", join=m, root_jobs=False).up(m)
    assert "--root-jobs" in value(m, "far", "why")
    m.put("mine.sh", "#!/bin/sh\n#ppfs: node=far\nid -u\n")
    assert "--root-jobs" in m.why("mine.sh") and m.state("mine.sh") == "waiting"
    m.put("any.sh", "#!/bin/sh\nid -u\n")
    assert "--root-jobs" in m.why("any.sh") and m.state("any.sh") == "queued"
    p = alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/hers && cat $M/results/hers", M=m.mnt)
    assert p.stdout == "%d\n" % alice.uid, p.stderr
    new_node("--name", "told", join=m, root_jobs=True).up(m)
    assert m.result("any.sh") == b"0\n" and m.get("any.sh", "node") == "told"


def test_a_node_of_roots_for_some_users_only(root_mount, new_node, alice, mallory):
    m = root_mount()
    new_node("--name", "far", "--uids", "%s,4000000000-4000000001" % alice.name, join=m, root_jobs=False).up(m)
    alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/hers", M=m.mnt)
    mallory.sh("printf '#!/bin/sh\\n#ppfs: node=far\\nid -u\\n' > $M/jobs/his", M=m.mnt)
    assert m.result("hers") == b"%d\n" % alice.uid
    why_of(m, mallory, "his", "--uids")
    new_node("--name", "far2", join=m).up(m)
    mallory.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/his2", M=m.mnt)
    assert m.result("his2") == b"%d\n" % mallory.uid and m.get("his2", "node") == "far2"


def test_a_node_of_a_users_gets_jobs_of_who_mounted(root_mount, node_of, alice, mallory):
    """Whose processes those of the others would be: they could read one another's."""
    m = root_mount()
    node_of(mallory, m, "his")
    assert "user %d" % mallory.uid in value(m, "his", "why") and "user 0 only" in value(m, "his", "why")
    m.put("roots.sh", "#!/bin/sh\nid -u\n")
    assert m.result("roots.sh") == b"%d\n" % mallory.uid
    alice.sh("printf '#!/bin/sh\\n#ppfs: node=his\\nid -u\\n' > $M/jobs/hers; seq 3 | sed 's/.*/{\"call\":\"abs\",\"args\":[-&]}/' > $M/jobs/all.jsonl",
             M=m.mnt)
    why_of(m, alice, "hers", "--node-user his=%d" % alice.uid)
    mallory.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/mallorys", M=m.mnt)  # his own uid there is none here
    why_of(m, mallory, "mallorys", "--node-user")
    (m.node / "cpus").write_text("1\n")
    assert [line.split(b":")[-1] for line in m.result("all.jsonl").splitlines()] and m.get("all.jsonl", "state") == "done"


def test_a_node_of_a_users_gets_jobs_of_who_is_named_for_it(root_mount, node_of, alice, mallory):
    m = root_mount("--node-user", "hers=%s" % alice.name)
    node_of(alice, m, "hers")
    m.put("roots.sh", "#!/bin/sh\nid -u\n")
    p = alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/hers && cat $M/results/hers", M=m.mnt)
    assert p.stdout == "%d\n" % alice.uid, p.stderr
    assert "--node-user" in m.why("roots.sh")
    mallory.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/his", M=m.mnt)
    why_of(m, mallory, "his", "--node-user")


def test_a_node_that_is_named_for_a_user_gets_his_jobs_whatever_it_says(root_mount, new_node, alice, mallory):
    """It says that it runs as root; that cannot be known here."""
    m = root_mount("--node-user", "hers=%s" % alice.name)
    new_node("--name", "hers", join=m).up(m)
    assert "user %d only" % alice.uid in value(m, "hers", "why")
    p = alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/hers && cat $M/results/hers", M=m.mnt)
    assert p.stdout == "%d\n" % alice.uid, p.stderr
    mallory.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/his", M=m.mnt)
    why_of(m, mallory, "his", "nodes/hers runs none of his (ppfs --node-user)")
    mallory.sh("printf '#!/bin/sh\\n#ppfs: node=hers\\nid -u\\n' > $M/jobs/his2", M=m.mnt)
    why_of(m, mallory, "his2", "nodes/hers gets jobs of user %d only" % alice.uid)
    m.put("roots.sh", "#!/bin/sh\nid -u\n")
    assert "--node-user" in m.why("roots.sh")


def test_what_binds_a_name_binds_the_second_of_that_name(root_mount, new_node, alice, mallory):
    long = "n" * 60
    m = root_mount("--node-user", "hers=%s" % alice.name, "--node-user", "hers-3=%s" % mallory.name, "--node-user", "%s=%s" % (long, alice.name))
    for said, name, user in (("hers", "hers", alice), ("hers", "hers-2", alice), ("hers-2", "hers-2-2", alice), ("hers-3", "hers-3", mallory), ("hers-4x", "hers-4x", None),
                             (long, long, alice), (long, "n" * 50 + "-2", alice)):
        new_node("--name", said, join=m).up(m, name)
        assert ("user %d only" % user.uid in value(m, name, "why")) if user else value(m, name, "why") == "", name


def test_a_node_of_a_users_for_two_mounts_has_jobs_of_one_user(new_user, new_mount, base, alice, mallory):
    """Each ppfs gives it those of one user; that they are the same user the node sees to."""
    (base / "second").mkdir()
    (base / "mount.key").write_text("ppfs mount key 1\nsecret: %s\n" % os.urandom(32).hex())
    (base / "mount.key").chmod(0o600)
    mounts = []
    for at, user in (base, alice), (base / "second", mallory):
        m = new_mount(base=at, cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0", "--key", base / "mount.key",
                                                "--node-user", "far=%s" % user.name])
        m.work.chmod(0o777)
        mounts.append(m.start())
    key = mallory.home / "key"
    key.write_text(key_of(mounts[0]).read_text())
    key.chmod(0o600)
    os.chown(key, mallory.uid, mallory.gid)
    joins = [w for m in mounts for w in ("--join", listens(m))]
    node = mallory.popen([NODE, *joins, "--key", key, "--name", "far", "--cpus", "1"])
    try:
        for m in mounts:
            up(m, "far")
        p = alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/hers && cat $M/results/hers", M=mounts[0].mnt)
        assert p.stdout == "%d\n" % mallory.uid, p.stderr
        wait_until(lambda: "one user's" in value(mounts[1], "far", "why"), "the other ppfs to be told")
        mallory.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/his", M=mounts[1].mnt)
        why_of(mounts[1], mallory, "his", "nodes/far runs none of his")
        p = alice.sh("printf '#!/bin/sh\\nid -u\\n' > $M/jobs/more && cat $M/results/more", M=mounts[0].mnt)
        assert p.stdout == "%d\n" % mallory.uid and mounts[1].state("his") == "queued"
    finally:
        node.terminate()
        node.wait()


@pytest.mark.parametrize("words, said", [
    (["--uids", "nobody-such"], "--uids: this machine knows no user 'nobody-such'"), (["--uids", "9-1"], "'9-1' ends before it begins"),
    (["--uids", ""], "one is empty"), (["--uids", "1,,2"], "one is empty"), (["--uids", "1x"], "'1x' is no number"), (["--uids", "1-"], "'1-' is no number"),
    (["--uids", "0-5"], "--root-jobs"), (["--uids", "1-4294967295"], "beyond 4294967294"), (["--uids", "1," * 32 + "1"], "more than 32"),
])
def test_users_that_are_none(base, words, said):
    p = subprocess.run([NODE, "--join", "127.0.0.1:9", *words], capture_output=True, text=True)
    assert p.returncode == 2 and p.stderr.count("\n") == 1 and said in p.stderr


@pytest.mark.parametrize("value", ["n", "n=", "=0", "n=nobody-such", "n=-1", "n=1x", "a=b=0", "a b=0", "*=0", ".a=0", "a:=0"])
def test_a_node_user_that_is_none(new_mount, value):
    p = new_mount().run("--node-user", value)
    assert p.returncode == 2 and p.stderr.count("\n") == 1 and "--node-user" in p.stderr
