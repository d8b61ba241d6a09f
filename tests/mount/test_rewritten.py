"""A name that is written again and again: whoever opens a file of it is given what the name means, never an error of the change."""
import errno
import os
import threading

import pytest
from test_info import FILES

STATES = {"draft", "queued", "running", "done", "failed"}


def text(i):
    """Odd ones fail."""
    return "#!/bin/sh\n[ %d = 0 ] && echo %d || { echo no %d >&2; exit 1; }\n" % (i % 2, i, i)


def read(path):
    """The text, or the name of the error."""
    try:
        return path.read_text()
    except OSError as e:
        return errno.errorcode[e.errno]


@pytest.mark.limit(150)
def test_each_file_right_after_the_name_was_written_again(m):
    """What the kernel remembers of the old job is a second old at most: so it does, all the time."""
    files = sorted(FILES - {"wait", "stdout", "stderr"})
    for i in range(1000):
        name = files[i % len(files)]
        read(m.info / "x" / name)
        m.put("x", "print(%d)\n" % i)
        value = read(m.info / "x" / name)
        if name == "state":
            assert value.strip() in STATES
        elif name == "spec":
            assert value == "print(%d)\n" % i
        else:
            assert value not in errno.errorcode.values(), name
        assert read(m.results / "x") == "%d\n" % i
        assert read(m.failures / "x") == "ENOENT"


def test_readers_of_each_file_while_the_name_is_written_again(m):
    """They read on and on, in the middle of each change."""
    faults, count = [], dict.fromkeys(sorted(FILES) + ["results", "failures", ".wait", ".progress"], 0)
    over = threading.Event()
    os.mkdir(m.jobs / "G")
    m.put("G/x", text(0))
    m.result("G/x")

    def check(name):
        if name == "results":
            value = read(m.results / "G/x")
            good = value == "EIO" or value.strip().isdigit()
        elif name == "failures":
            value = read(m.failures / "G/x")
            good = value == "ENOENT" or "exit status 1" in value
        else:
            value = read(m.info / "G" / name if name[0] == "." else m.info / "G/x" / name)
            good = value.strip() in STATES if name in ("state", "wait") else value not in errno.errorcode.values()
        count[name] += 1
        if not good:
            faults.append((name, value))

    def loop(names):
        while not over.is_set() and len(faults) < 20:
            for name in names:
                check(name)

    names = list(count)
    readers = [threading.Thread(target=loop, args=(part,)) for part in (names[::2], names[1::2])]
    for t in readers:
        t.start()
    for i in range(400):
        m.put("G/x", text(i))
        value = read(m.results / "G/x")
        assert value in ("EIO", "%d\n" % i), value
        assert m.wait("G/x") in ("done", "failed")
    over.set()
    for t in readers:
        t.join()
    assert not faults and min(count.values()) > 10, count


@pytest.mark.parametrize("what", ["wait", "stdout"])
def test_a_reader_follows_to_the_job_that_took_the_name(queue, what):
    """As one of results/x does: nothing of the old job was seen."""
    m = queue
    m.put("x", "print('old')\n")
    reader = m.reader(m.info / "x" / what)
    m.put("x", "print('new')\n")
    m.put("x", "print('newer')\n")
    (m.node / "cpus").write_text("1")
    assert reader.communicate(timeout=40) == ({"wait": b"done\n", "stdout": b"newer\n"}[what], b"")


def test_the_values_of_a_name_whose_old_result_is_still_read(m):
    """The old job lives on for its reader alone."""
    m.put("x", "print('old')\n")
    m.result("x")
    assert m.state("x") == "done"
    with open(m.results / "x", "rb") as f:
        m.put("x", "#ppfs: hold=1\nprint('new')\n")
        assert m.state("x") == "held" and m.get("x", "exit") == "" and "hold" in m.get("x", "spec")
        assert f.read() == b"old\n"
    os.unlink(m.jobs / "x")


@pytest.mark.parametrize("value", ["state", "why", "priority", "hold", "times", "attempt", "node"])
def test_a_value_of_a_name_that_was_written_again_is_read_over_the_death_of_the_daemon(m, value):
    """The kernel opens the old one, which it has just looked up; the daemon gives the new one, and the next one goes on."""
    m.put("x", "print('old')\n")
    m.result("x")
    path = m.info / "x" / value
    path.read_text()
    m.put("x", "#ppfs: hold=1\nprint('new')\n")
    fd = os.open(path, os.O_RDONLY)
    m.kill_daemon()
    try:
        assert os.read(fd, 4096).decode() == path.read_text()
    finally:
        os.close(fd)
    assert m.state("x") == "held"
