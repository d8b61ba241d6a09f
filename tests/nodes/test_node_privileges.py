"""What the processes of root's node may do."""
import os

import pytest
from ppfsmount import wait_until
from processes import text_of

NODE = {"KILL": 5, "NET_BIND_SERVICE": 10, "SYS_RESOURCE": 24}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")


def capabilities(pid, which="CapEff"):
    line = next(line for line in text_of("/proc/%s/status" % pid).splitlines() if line.startswith(which + ":"))
    return int(line.split()[1], 16)


def test_the_node_has_the_capabilities_that_it_needs_and_its_jobs_what_root_has(pair):
    m, node = pair
    needed = sum(1 << bit for bit in NODE.values()) & capabilities("self")
    for task in os.listdir("/proc/%d/task" % node.pid):
        assert hex(capabilities("%d/task/%s" % (node.pid, task))) == hex(needed)
        assert hex(capabilities("%d/task/%s" % (node.pid, task), "CapPrm")) == hex(needed)
    m.put("x", "#!/bin/sh\ngrep CapEff /proc/self/status")
    assert int(m.result("x").split()[1], 16) == capabilities("self")


def test_what_a_job_of_another_user_left_on_a_node_is_killed(new_mount, new_node, alice):
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "-o", "allow_other"])
    m.work.chmod(0o777)
    m.start()
    new_node("--name", "far", join=m).up(m)
    alice.sh("printf '#!/bin/sh\\nsetsid sleep 1000 &\\necho $!; sleep 1000' > $M/jobs/x", M=m.mnt)
    with open(m.info / "x" / "stdout") as live:
        child = int(live.readline())
    assert os.stat("/proc/%d" % child).st_uid == alice.uid
    alice.sh("rm $M/jobs/x", M=m.mnt)
    wait_until(lambda: not os.path.exists("/proc/%d" % child), "it to be killed")
