"""A job that waits for others lends its slot out, however many it waits for; how many of a user's do so is bounded."""
import os

import pytest

from ppfsmount import wait_until
from processes import in_fuse, text_of

REFUSED = "Resource deadlock avoided"


def test_one_slot_and_three_results_at_once(m):
    (m.node / "cpus").write_text("1")
    parts = "".join("printf '#!/bin/sh\\necho %s\\n' > %s\n" % (n, m.jobs / n) for n in "abc")
    reads = "".join("cat %s > %s &\n" % (m.results / n, m.work / n) for n in "abc")
    m.put("outer", "#!/bin/sh\n" + parts + reads + "wait\necho all\n")
    assert m.result("outer") == b"all\n"
    assert [(m.work / n).read_text() for n in "abc"] == ["a\n", "b\n", "c\n"]


def test_nested_ten_deep_on_one_slot(m):
    (m.node / "cpus").write_text("1")
    m.put("j0", "print(0)\n")
    for i in range(1, 11):
        m.put("j%d" % i, "print(int(open('%s').read()) + 1)\n" % (m.results / ("j%d" % (i - 1))))
    assert m.result("j10") == b"10\n"


WAYS = {
    "wait": "cat $M/info/inner/wait",
    "stdout": "cat $M/info/inner/stdout",
    "stderr": "cat $M/info/inner/stderr; cat $M/info/inner/wait",
    "group's wait": "cat $M/info/G/.wait",
    "group's ok": "cat $M/info/G/.ok",
    "events": "grep -q -m1 'G/second.*done' $M/events",
}


@pytest.mark.parametrize("way", WAYS)
def test_one_slot_and_all_that_can_be_waited_for(m, way):
    (m.node / "cpus").write_text("1")
    os.mkdir(m.jobs / "G")
    m.put("outer", "#!/bin/sh\nM=%s\nprintf '#!/bin/sh\\necho 1\\n' > $M/jobs/inner\nprintf '#!/bin/sh\\necho 2\\n' > $M/jobs/G/second\n%s\n"
          % (m.mnt, WAYS[way]))
    assert m.wait("outer") == "done", m.why("outer")
    assert m.result("inner") == b"1\n" and m.result("G/second") == b"2\n"


def test_one_who_would_wait_too_much_is_refused_a_read(new_mount, mallory):
    m = new_mount(options=["-o", "allow_other"])
    m.work.chmod(0o777)
    m.work.parent.joinpath("quota").write_text("%s waits=0\n" % mallory.name)
    m.start("--quota", m.work.parent / "quota")
    (m.node / "cpus").write_text("1")
    sh(mallory, m, "cd %s; mkdir $M/jobs/G; printf '#!/bin/sh\necho > %s/jobs/G/x; cat %s/info/G/.wait\n' > $M/jobs/outer" % (m.work, m.mnt, m.mnt))
    assert m.wait("outer") == "failed" and REFUSED in text_of(m.info / "outer" / "stderr")


@pytest.fixture
def eight(new_mount, mallory):
    """A mount for all with two slots, where mallory may have eight jobs that wait for others."""
    mount = new_mount(options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    mount.work.parent.joinpath("quota").write_text("%s waits=8\n" % mallory.name)
    return mount.start("--quota", mount.work.parent / "quota")


def sh(user, mount, text):
    p = user.sh(text, M=mount.mnt)
    assert (p.returncode, p.stderr) == (0, "")
    return p.stdout


def test_a_chain_within_the_bound_ends_and_a_longer_one_is_refused(eight, mallory, alice):
    """Each waits for the one before it, which is queued after it: the first is to run last."""
    m = eight
    m.put("gate", "#!/bin/sh\nuntil [ -e %s/go ]; do sleep 0.02; done\n" % m.work)
    wait_until(lambda: m.state("gate") == "running", "the gate to run")
    chain = ("mkdir $M/jobs/.G; for i in $(seq %d -1 1); do printf '#!/bin/sh\\ncat %%s/results/G/%%d\\n' $M $((i - 1)) > "
             "$M/jobs/.G/$i; done; printf '#!/bin/sh\\necho end\\n' > $M/jobs/.G/0; mv $M/jobs/.G $M/jobs/G")
    sh(mallory, m, chain.replace("G", "short") % 8)
    assert sh(mallory, m, "cat $M/results/short/8") == "end\n"
    sh(mallory, m, chain.replace("G", "long") % 12)
    for i in range(12, 3, -1):
        wait_until(lambda: m.state("long/%d" % i) == "failed", "%d to fail" % i)
    assert sh(mallory, m, "cat $M/results/long/3") == "end\n"
    refused = [i for i in range(4, 13) if REFUSED in (m.mnt / ("info/long/%d/stderr" % i)).read_text()]
    assert refused == [4]
    assert m.why("long/4").startswith("exit status 1; it was refused a result that it would wait for, for its user has "
                                      "as many jobs that wait for others as he may; its last line is: ")
    assert "8 jobs of user %d wait for others, and he may have no more such jobs" % mallory.uid in m.log()
    m.work.joinpath("go").touch()


def test_who_would_be_refused_a_result_that_is_there_by_now_gets_it(new_mount, mallory):
    """The end of x, one turn of the loop, makes y queued, so that a slot is waited for and w is looked at, and is what w waits for."""
    m = new_mount(options=["-o", "allow_other"])
    m.work.chmod(0o777)
    m.work.parent.joinpath("quota").write_text("%s waits=0\n" % mallory.name)
    m.start("--quota", m.work.parent / "quota")
    m.put("x", m.gate("x"))
    m.pid_of("x")
    sh(mallory, m, "printf '#!/bin/sh\necho $$ > %s/w\nexec cat %s\n' > $M/jobs/w" % (m.work, m.results / "x"))
    w = int(wait_until(lambda: text_of(m.work / "w").strip(), "w to run"))
    wait_until(lambda: in_fuse(w), "w to wait for x")
    m.put("y", "#!/bin/sh\n#ppfs: after=x\ntrue\n")
    (m.node / "cpus").write_text("1")
    m.open_gate("x")
    assert m.result("w") == b"through x\n"


def test_many_that_wait_for_what_is_queued_behind_them(eight, mallory, alice):
    """All of those that wait are queued before what they wait for; none is refused, and they are never many at once."""
    m = eight
    sh(mallory, m, "mkdir $M/jobs/.g; for i in $(seq 60); do printf '#!/bin/sh\\ncat %s/results/g/b%d\\n' $M $i > $M/jobs/.g/a$i; "
                   "done; for i in $(seq 60); do printf '#!/bin/sh\\necho %s\\n' '$(pgrep -cu $USER cat)' > $M/jobs/.g/b$i; done; "
                   "mv $M/jobs/.g $M/jobs/g; printf '#!/bin/sh\\necho hello\\n' > $M/jobs/x")
    assert sh(alice, m, "printf '#!/bin/sh\\necho alice\\n' > $M/jobs/alices; cat $M/results/alices") == "alice\n"
    counts = [int(n) for n in sh(mallory, m, "for i in $(seq 60); do cat $M/results/g/a$i; done").split()]
    assert len(counts) == 60
    assert max(counts) <= 8 + 2, counts
    assert sh(mallory, m, "cat $M/results/x") == "hello\n"


def test_who_waits_in_vain_is_refused_at_once_and_others_go_on(eight, mallory, alice):
    """What twenty jobs wait for never comes."""
    m = eight
    sh(mallory, m, "printf '#!/bin/sh\\n#ppfs: hold=1\\ntrue\\n' > $M/jobs/never; "
                   "for i in $(seq 20); do printf '#!/bin/sh\\ncat %s/results/never\\n' $M > $M/jobs/w$i; done")
    assert sh(alice, m, "printf '#!/bin/sh\\necho alice\\n' > $M/jobs/alices; cat $M/results/alices") == "alice\n"
    sh(mallory, m, "printf '#!/bin/sh\\necho last\\n' > $M/jobs/last")
    assert sh(mallory, m, "cat $M/results/last") == "last\n"
    failed = []

    def settled():
        states = [m.state("w%d" % i) for i in range(1, 21)]
        failed[:] = [i for i in range(1, 21) if states[i - 1] == "failed"]
        return states.count("running") in (8, 9) and len(failed) == 20 - states.count("running")

    wait_until(settled, "all but eight, and one that has a slot, to fail")
    assert REFUSED in (m.mnt / ("info/w%d/stderr" % failed[0])).read_text()
