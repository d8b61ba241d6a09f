"""What the daemon writes for a request, counted: replies, what the kernel is told, commits."""
import os

from processes import text_of

JOBS = 50


def writes(pid):
    return next(int(line.split()[1]) for line in text_of("/proc/%d/io" % pid).splitlines() if line.startswith("syscw"))


def test_the_kernel_is_told_of_what_it_may_have(m):
    """A result that is removed: replies to a GETATTR, a LOOKUP and the UNLINK, a commit, and one of its files to forget."""
    for i in range(JOBS):
        m.put("j%d" % i, '{"call": "math.sqrt", "args": [2]}\n')
    for i in range(JOBS):
        assert m.result("j%d" % i) == b"1.4142135623730951\n"
    daemon = m.pids()["daemon"]
    before = writes(daemon)
    for i in range(JOBS):
        os.unlink(m.results / ("j%d" % i))
    assert writes(daemon) - before < 6 * JOBS
    assert os.listdir(m.results) == []
