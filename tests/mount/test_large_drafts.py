"""Job files too large for their row are read in another thread before they are queued: what may happen meanwhile."""
import errno
import os

import pytest
from ppfsmount import wait_until

LARGE = 30 << 20  # of Python it would be too much
SMALLER = 1 << 20


def large(command):
    return ("#!/bin/sh\n%s\nexit\n#" % command + "x" * LARGE + "\n").encode()


@pytest.mark.parametrize("group", [False, True])
def test_renamed_into_place_and_the_daemon_killed(m, group):
    """rename() returned 0: it ends in results/, whatever is killed."""
    if group:
        (m.jobs / ".G").mkdir()
    m.put(".G/x" if group else ".x", large("echo ran"))
    os.rename(m.jobs / (".G" if group else ".x"), m.jobs / ("G" if group else "x"))
    m.kill_daemon()
    assert m.result("G/x" if group else "x") == b"ran\n"


def test_everything_killed_before_it_was_read(m):
    m.put(".x", large("echo ran"))
    os.rename(m.jobs / ".x", m.jobs / "x")
    m.kill_all()
    m.start()
    assert m.result("x") == b"ran\n"


def test_after_a_large_one(m):
    m.put("a", large("> '%s/a'" % m.work))
    m.put("b", "#ppfs: after=a\nimport os\nprint(os.path.exists('%s/a'))\n" % m.work)
    assert m.result("b") == b"True\n"


def test_wait_counts_it(m):
    (m.jobs / "G").mkdir()
    m.put("G/x", large("echo 1"))
    assert (m.info / "G/.wait").read_text() == "done 1 failed 0\n"
    assert m.result("G/x") == b"1\n"


def test_rewritten_small_while_it_is_read(m):
    m.put("x", large("echo large"))
    m.put("x", "print('small')\n")
    wait_until(lambda: m.result("x") == b"small\n", "the second of them")


def test_appended_to(queue):
    m = queue
    m.put("x", "print('one')\n#" + "x" * SMALLER + "\n")
    wait_until(lambda: m.state("x") in ("queued", "waiting"), "the large one to be read")
    with open(m.jobs / "x", "a") as f:
        f.write("print('two')\n")
    (m.node / "cpus").write_text("2")
    assert m.result("x") == b"one\ntwo\n"


def test_renamed_to_a_draft_while_it_is_read(m):
    m.put("x", large("echo ran"))
    os.rename(m.jobs / "x", m.jobs / ".x")
    m.put("later", large("echo 1"))  # the files are read in their order
    m.result("later")
    assert m.state(".x") == "draft"
    os.rename(m.jobs / ".x", m.jobs / "x")
    assert m.result("x") == b"ran\n"


def test_its_group_is_not_closed_while_it_is_read(m):
    """Else it would be queued in a group in which nothing is."""
    (m.jobs / "G").mkdir()
    m.put("G/x", large("echo ran"))
    with pytest.raises(OSError) as e:
        os.rename(m.jobs / "G", m.jobs / ".G")
    assert e.value.errno == errno.EBUSY
    assert m.result("G/x") == b"ran\n"
