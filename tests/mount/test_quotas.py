"""What one user may take: of memory, of the disk, of the queue."""

import pytest

from ppfsmount import sanitized, wait_until


def high_water(pid):
    with open("/proc/%d/status" % pid) as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))


@pytest.mark.parametrize("head,says", [
    ("", "Python source may have 16 MiB at most"),
    ("#!/usr/bin/python3", "Python source may have 16 MiB at most"),
    ("[1", "Python source may have 16 MiB at most"),
    ("{", "16 MiB"),
])
def test_a_large_text_is_not_read_whole(shared, mallory, head, says):
    before = high_water(shared.pids()["daemon"])
    p = mallory.sh("(echo '%s'; yes '# filler' | head -c 20000000; truncate -s 6G /dev/fd/1) > $M/jobs/x" % head,
                   M=shared.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: shared.state("x") == "failed", "x to be refused")
    assert says in shared.why("x")
    if not sanitized():
        assert high_water(shared.pids()["daemon"]) - before < 100 << 20


def test_a_large_file_of_holes_is_refused(shared, mallory):
    before = high_water(shared.pids()["daemon"])
    p = mallory.sh("truncate -s 6G $M/jobs/x", M=shared.mnt)
    assert p.returncode == 0, p.stderr
    wait_until(lambda: shared.state("x") == "failed", "x to be refused")
    assert "none of what a job may be" in shared.why("x")
    if not sanitized():
        assert high_water(shared.pids()["daemon"]) - before < 100 << 20
