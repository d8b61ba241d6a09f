"""Options that are too many, or too long: their job fails, and nobody else's is held up or taken back."""
import json
import textwrap

import pytest
from ppfsmount import PYTHON, wait_until

# Twenty groups below each other, which say 60 things each; then the same name is written over and over.
DEEP = """
    import collections, errno, os, sys
    os.chdir(sys.argv[1])
    for level in range(int(sys.argv[2])):
        os.mkdir("g%d" % level)
        os.chdir("g%d" % level)
        with open(".options", "w") as f:
            f.write("".join("env=K%d_%d:v\\n" % (level, n) for n in range(60)))
    ends = collections.Counter()
    for n in range(int(sys.argv[3])):
        try:
            with open("job", "w") as f:
                f.write(sys.argv[4])
            ends["done"] += 1
        except OSError as e:
            ends[errno.errorcode[e.errno]] += 1
    print(dict(ends), flush=True)
"""
INSIDE = "/".join("g%d" % level for level in range(20))

# A hundred jobs that each wait for a hundred others, which wait for a hundred.
LAYERS = """
    import os, sys
    def after(group):
        return "".join("#ppfs: after=/%s/%d\\n" % (group, i) for i in range(100))
    os.chdir(sys.argv[1])
    for name, options in ("a", "#ppfs: hold=1\\n"), ("b", after("a")), ("c", after("b")):
        os.mkdir("." + name)
        for i in range(100):
            with open(".%s/%d" % (name, i), "w") as f:
                f.write("#!/bin/sh\\n" + options)
        os.rename("." + name, name)
    for name, options in ("x", "#ppfs: hold=1\\n" + after("c")), ("y", "#ppfs: after=x\\n"):
        with open(name, "w") as f:
            f.write("#!/bin/sh\\n" + options)
"""


def deep(m, user, levels, times, text):
    return user.popen([PYTHON, "-c", textwrap.dedent(DEEP), m.mnt / "jobs", levels, times, text], text=True, stdout=-1)


def test_groups_that_together_say_too_much(shared, alice, mallory):
    m = shared
    process = deep(m, mallory, 20, 100, "print(1)")
    p = alice.sh("for i in $(seq 50); do echo 'print(6)' > $M/jobs/a$i || echo refused; done; cat $M/results/a50", M=m.mnt)
    assert (p.stdout, p.stderr) == ("6\n", "")
    assert process.communicate()[0] == "{'EPERM': 100}\n"
    assert "say more env= than a job may have" in m.get("%s/job" % INSIDE, "why")
    assert "nothing of this turn was kept" not in m.log()


def test_a_job_and_its_groups_that_together_say_too_much(shared, mallory):
    m = shared
    own = json.dumps({"run": ["true"], "env": ["O%d:v" % n for n in range(1000)]})
    process = deep(m, mallory, 1, 1, own)
    assert process.communicate()[0] == "{'done': 1}\n"
    assert m.get("g0/job", "wait") == "failed"
    assert "option env= has more than 1024 entries" in (m.failures / "g0/job").read_text()
    assert "nothing of this turn was kept" not in m.log()


@pytest.mark.parametrize("what", ["env", "after"])
def test_a_list_that_is_too_long(m, what):
    """Each look at a job reads its options again."""
    entry = "K%d:" if what == "env" else "a%d"
    m.put("x", json.dumps({"run": ["true"], what: [entry % n + "v" * 60000 for n in range(200)]}))
    assert m.get("x", "wait") == "failed"
    assert "option %s= has more than 1024 entries, or they are more than 256 KiB" % what in (m.failures / "x").read_text()


def test_an_environment_that_goes_into_no_order(m):
    m.put("x", json.dumps({"run": ["true"], "env": ["K%d:%s" % (n, "v" * 1000) for n in range(100)]}))
    assert m.get("x", "wait") == "failed"
    assert "its env=, needs= and gives= are more than 64 KiB" in (m.failures / "x").read_text()


def test_many_that_wait_for_each_other(shared, alice, mallory):
    """Whether one of them waits for itself is a walk over all of these, a hundred times."""
    m = shared
    p = mallory.popen([PYTHON, "-c", textwrap.dedent(LAYERS), m.mnt / "jobs"])
    assert p.wait() == 0
    wait_until(lambda: (m.mnt / "info/c/.progress").read_text().endswith("waiting 100 of 100\n"), "all to be taken in")
    assert mallory.sh("echo 0 > $M/info/x/hold", M=m.mnt).returncode == 0
    assert ": others wait for this, and that for too many to tell whether one waits for this one" in m.failed("x")
    assert "x did not succeed" in m.failed("y")
    p = alice.sh("echo 'print(6)' > $M/jobs/mine && cat $M/results/mine", M=m.mnt)
    assert (p.stdout, p.stderr) == ("6\n", "")
