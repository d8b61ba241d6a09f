"""What a job is charged with when the fork server of the workers dies: only what a worker had taken."""
import os
import signal

from ppfsmount import wait_until
from processes import kill, text_of


def with_stopped_forkserver(m, begin):
    """A fork server that makes no worker is killed after begin() has given it work."""
    forkserver = wait_until(lambda: m.pids()["forkserver"], "a fork server")
    wait_until(lambda: text_of("/proc/%d/comm" % forkserver) == "ppfs-forkserver\n", "Python to be up in it")
    kill(forkserver, signal.SIGSTOP)
    begin()
    kill(forkserver)
    wait_until(lambda: m.pids()["forkserver"] not in (0, forkserver), "the next fork server")


def test_a_job_that_never_began_is_charged_no_death(queue):
    m = queue
    m.put("job", "#!/bin/sh\necho attempt $PPFS_ATTEMPT\n")
    for _ in range(4):
        def begin():
            (m.node / "cpus").write_text("1\n")
            wait_until(lambda: m.state("job") == "running", "the job to be given away")
            (m.node / "cpus").write_text("0\n")

        with_stopped_forkserver(m, begin)
        wait_until(lambda: m.state("job") == "queued", "the job to be in the queue again")
    (m.node / "cpus").write_text("1\n")
    assert m.result("job") == b"attempt 1\n"


def test_a_job_that_was_running_at_three_deaths_gives_up(m1):
    m = m1
    m.put("job", "#!/bin/sh\necho $PPFS_ATTEMPT >> %s\nsleep 60\n" % (m.work / "runs"))
    for attempt in "123":
        wait_until(lambda: os.path.exists(m.work / "runs") and (m.work / "runs").read_text().split()[-1:] == [attempt],
                   "attempt " + attempt)
        kill(m.pids()["forkserver"])
    m.failed("job")
    assert m.why("job").startswith("gave up: it was running at three deaths of ppfs or its node; the last: the fork server")
