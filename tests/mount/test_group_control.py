"""ppfs(5): info/G/.hold and .priority, which act on all that waits in a group."""
import os

import pytest
from ppfsmount import wait_until

JOB = "#!/bin/sh\n"


def control(m, path, value):
    (m.info / path).write_text("%s\n" % value)


def settled(m, path):
    wait_until(lambda: (m.info / path).read_text() == "", "what was asked of %s" % path)


def states(m, *names):
    return [m.state(name) for name in names]


def test_a_group_is_held_and_let_go(queue):
    m = queue
    os.makedirs(m.jobs / "G/H/I")
    os.mkdir(m.jobs / "N")
    for name in ("x", "N/x", "G/x", "G/H/I/x"):
        m.put(name, JOB)
    m.put("G/after", JOB + "#ppfs: after=x\n")
    m.put("G/.draft", JOB)
    inside = ("G/x", "G/after", "G/H/I/x")
    control(m, "G/.hold", 1)
    settled(m, "G/.hold")
    assert states(m, *inside) == ["held"] * 3 and states(m, "x", "N/x", "G/.draft") == ["queued", "queued", "draft"]
    m.put("G/later", JOB)  # was not meant
    assert m.state("G/later") == "queued"
    (m.info / "G/x/hold").write_text("0")
    control(m, "G/.hold", 0)
    settled(m, "G/.hold")
    assert states(m, *inside) == ["queued", "waiting", "queued"]
    (m.node / "cpus").write_text("2")
    assert m.sh("cat $M/info/.ok").stdout == b"done 6 failed 0\n"


def test_priority_of_a_group(queue):
    m = queue
    os.makedirs(m.jobs / "G/H")
    names = ("x", "G/x", "G/H/x")
    for name in names:
        m.put(name, "#!/bin/sh\necho %s >> %s/order\n" % (name, m.work))
    control(m, "G/H/.priority", 7)
    control(m, "G/.priority", 5)  # the later one decides
    settled(m, "G/.priority")
    control(m, "G/H/.priority", 9)
    settled(m, "G/H/.priority")
    assert [m.get(name, "priority") for name in names] == ["0", "5", "9"]
    (m.node / "cpus").write_text("1")
    m.sh("cat $M/info/.ok")
    assert (m.work / "order").read_text().split() == ["G/H/x", "G/x", "x"]
    control(m, ".priority", -3)  # nothing waits


@pytest.mark.parametrize("file, value", [(".hold", "2"), (".hold", "-1"), (".hold", "x"), (".hold", ""),
                                         (".priority", "1000001"), (".priority", "x"), (".priority", "99999999999")])
def test_what_is_no_value(m, file, value):
    m.put("x", JOB + "#ppfs: hold=1\n")
    with pytest.raises(OSError):
        with open(m.info / file, "wb", buffering=0) as f:
            f.write(value.encode() + b"\n")
    assert m.state("x") == "held" and m.get("x", "priority") == "0"


def test_it_goes_on_over_a_kill(queue):
    m = queue
    for group in (".G", ".G/H"):
        os.mkdir(m.jobs / group)
        for i in range(400):
            m.put("%s/%d" % (group, i), JOB)
    os.rename(m.jobs / ".G", m.jobs / "G")
    wait_until(lambda: b" waiting 800 " in m.sh("cat $M/info/G/.progress").stdout, "the group to be queued")
    control(m, "G/.hold", 1)
    m.kill_daemon()
    control(m, "G/.priority", 3)
    m.kill_daemon()
    settled(m, "G/.hold")
    settled(m, "G/.priority")
    (m.node / "cpus").write_text("1")
    held = [m.get("%s/%d" % (group, i), what) for group in ("G", "G/H") for i in range(400) for what in ("state", "priority")]
    assert held == ["held", "3"] * 800
    m.sh("rm -r $M/jobs/G")


def test_each_his_own_and_the_owner_of_a_group_all_in_it(shared, alice, mallory):
    m = shared
    (m.node / "cpus").write_text("0")
    m.sh("mkdir -m 777 $M/jobs/G")
    for user in (alice, mallory):
        assert user.sh("cd $M/jobs/G; mkdir -m 777 of-$USER; printf '#!/bin/sh\\n' | tee $USER > of-$USER/x",
                       M=m.mnt).returncode == 0
    assert alice.sh("cd $M/jobs/G; printf '#!/bin/sh\\n' > of-%s/alice" % mallory.name, M=m.mnt).returncode == 0
    m.put("G/root", JOB)
    a, o = "G/of-%s/" % alice.name, "G/of-%s/" % mallory.name
    every = ["G/" + alice.name, "G/" + mallory.name, "G/root", a + "x", o + "x", o + "alice"]
    for user, mine in ((mallory, {every[1], o + "x", o + "alice"}), (alice, {every[0], a + "x", o + "alice"})):
        assert user.sh("echo 1 > $M/info/G/.hold; echo 4 > $M/info/G/.priority", M=m.mnt).returncode == 0
        wait_until(lambda: user.sh("cat $M/info/G/.hold $M/info/G/.priority", M=m.mnt).stdout == "", "it")
        assert {name for name in every if m.state(name) == "held"} == mine
        assert {name for name in every if m.get(name, "priority") == "4"} == mine
        control(m, "G/.hold", 0)  # root's: all
        control(m, "G/.priority", 0)
        settled(m, "G/.hold")
        settled(m, "G/.priority")
        assert states(m, *every) == ["queued"] * 6 and {m.get(name, "priority") for name in every} == {"0"}
