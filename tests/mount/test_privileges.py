"""What the processes of root's mount may do."""
import os
import shutil

import pytest

from ppfsmount import PPFS, wait_until
from processes import text_of

CAPS = {"DAC_READ_SEARCH": 2, "KILL": 5, "NET_BIND_SERVICE": 10, "SYS_PTRACE": 19, "SYS_ADMIN": 21, "SYS_RESOURCE": 24}
DAEMON = ["KILL", "SYS_PTRACE", "SYS_RESOURCE", "NET_BIND_SERVICE"]
SUPERVISOR = DAEMON + ["DAC_READ_SEARCH", "SYS_ADMIN"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to give up")


def mask(names):
    """Those of names that this process has itself: a container may lack some."""
    return sum(1 << CAPS[n] for n in names) & capabilities("self", "CapEff")


def capabilities(pid, which):
    lines = text_of("/proc/%s/status" % pid).splitlines()
    return int(next(line for line in lines if line.startswith(which + ":")).split()[1], 16)


def has_only(pid, names):
    assert [hex(capabilities(pid, which)) for which in ("CapEff", "CapPrm", "CapInh")] == [hex(mask(names))] * 2 + ["0x0"]


def run(mount):
    mount.put("x", "#!/bin/sh\ngrep CapEff /proc/self/status")
    return mount.result("x")


def test_daemon_and_supervisor_have_the_capabilities_that_they_need(m):
    run(m)
    pids = m.pids()
    for task in os.listdir("/proc/%d/task" % pids["daemon"]):
        has_only("%d/task/%s" % (pids["daemon"], task), DAEMON)
    has_only(pids["supervisor"], SUPERVISOR)
    m.kill_daemon()
    assert (m.mnt / "stats").read_text()  # so the new one has begun its work
    has_only(wait_until(lambda: m.pids()["daemon"], "a daemon"), DAEMON)


def test_jobs_of_root_are_roots(m):
    assert int(run(m).split()[1], 16) == capabilities("self", "CapEff")


def test_a_worker_below_a_closed_directory_of_another_user_is_reached(new_mount, alice):
    alice.sh("mkdir -m 700 closed")
    worker = shutil.copy(PPFS.parent / "ppfs-worker", alice.home / "closed")
    mount = new_mount(env={"PPFS_WORKER": worker}).start()
    run(mount)
    has_only(mount.pids()["daemon"], DAEMON + ["DAC_READ_SEARCH"])


def test_jobs_of_others_are_killed_with_all_that_they_started(shared, alice):
    alice.sh("printf '#!/bin/sh\\nsetsid sleep 1000 &\\necho $!; sleep 1000' > $M/jobs/x", M=shared.mnt)
    with open(shared.info / "x" / "stdout") as live:
        child = int(live.readline())
    assert os.stat("/proc/%d" % child).st_uid == alice.uid
    alice.sh("rm $M/jobs/x", M=shared.mnt)
    wait_until(lambda: not os.path.exists("/proc/%d" % child), "it to be killed")
