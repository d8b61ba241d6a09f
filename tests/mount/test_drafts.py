"""Names of what is not finished: those that programs give to it, and those that drafts= in a .options file says."""
import os

import pytest
from ppfsmount import wait_until

TEXT = "#!/bin/sh\necho ran\n"


def is_draft(m, name, *words):
    """It is closed, and stays one: what came after it has run."""
    m.put(name, TEXT)
    m.put("after it", TEXT)
    m.result("after it")
    assert m.state(name) == "draft"
    for word in ("rename it", *words):
        assert word in m.why(name)


def runs(m, name):
    m.put(name, TEXT)
    assert m.result(name) == b"ran\n"


@pytest.mark.parametrize("name", ["x~", "#x#", "4913", "x.swp", "x.tmp", "x.part", "x.crdownload", "x___jb_tmp___", "x___jb_old___"])
def test_why_says_that_it_is_the_name(m, name):
    is_draft(m, name, "because of its name")
    os.rename(m.jobs / name, m.jobs / "y")
    assert m.result("y") == b"ran\n"


def mkstemp(m, name):
    """A file as C's mkstemp makes it."""
    with open(os.open(m.jobs / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
        f.write(TEXT)


@pytest.mark.parametrize("name", ["sedabcDEF", "tmpabcDEF", "x.abcDEF"])
def test_why_of_what_mkstemp_made(m, name):
    mkstemp(m, name)
    assert m.state(name) == "draft" and "because of its name" in m.why(name) and "rename it" in m.why(name)
    runs(m, name + ".sh")


def test_patterns_of_a_group_and_below(m):
    """Besides those that hold anyway. Who says it again further in means that alone."""
    os.makedirs(m.jobs / "G/below/more")
    m.put("G/.options", "drafts=*.bak,old-? priority=3\n")
    for name in ("G/x.bak", "G/old-1", "G/below/x.bak"):
        is_draft(m, name, "because of its name", ".options", name[-5:].replace("x", "*") if "bak" in name else "old-?")
    for name in ("G/x.tmp", "G/below/x~", "G/.x"):
        is_draft(m, name)
    for name in ("x.bak", "G/old-12", "G/below/x.bak.py"):
        runs(m, name)
    assert m.get("G/old-12", "priority") == "3"
    m.put("G/below/.options", "drafts=*.new\n")
    is_draft(m, "G/below/more/x.new")
    runs(m, "G/below/more/x.bak")
    for name in ("G/x.bak", "G/old-1", "G/below/x.bak"):
        os.rename(m.jobs / name, m.jobs / (name + ".sh"))
        assert m.result(name + ".sh") == b"ran\n"


def test_none_but_dots(m):
    """An empty value: also the names that programs give are those of jobs."""
    m.put(".options", "drafts=\n")
    for name in ("x~", "#x#", "4913", "x.tmp"):
        runs(m, name)
    assert (m.jobs / ".options").read_text() == "drafts=\n"
    mkstemp(m, "sedabcDEF")
    assert m.result("sedabcDEF") == b"ran\n"
    is_draft(m, ".x")


def test_it_outlives_the_daemon(m):
    m.put(".options", "drafts=*.bak\n")
    is_draft(m, "x.bak")
    m.kill_daemon()
    assert m.state("x.bak") == "draft" and "*.bak" in m.why("x.bak")
    is_draft(m, "y.bak")
    os.unlink(m.jobs / ".options")
    assert "when it was closed" in m.why("x.bak")
    runs(m, "z.bak")
    os.rename(m.jobs / "x.bak", m.jobs / "x")
    assert m.result("x") == b"ran\n"
    runs(m, "y.bak")


def test_a_queued_job_that_gets_such_a_name(queue):
    m = queue
    m.put(".options", "drafts=*.bak\n")
    m.put("x", TEXT)
    os.rename(m.jobs / "x", m.jobs / "x.bak")
    m.put("many.bak", '{"call": "abs", "args": [-1]}\n')
    (m.node / "cpus").write_text("2")
    is_draft(m, "x.bak")
    assert m.state("many.bak") == "draft" and not os.path.lexists(m.results / "x.bak")
    os.rename(m.jobs / "x.bak", m.jobs / "y")
    assert m.result("y") == b"ran\n"


@pytest.mark.parametrize("words", ["drafts=a/b", "drafts=a,,b", "drafts=,", "drafts=" + ",".join(map(str, range(65))), "drafts=" + 256 * "x"])
def test_patterns_that_are_refused(m, words):
    with pytest.raises(OSError, match="Invalid argument"):
        m.put(".options", words + "\n")
    runs(m, "x.bak")
    wait_until(lambda: "drafts=" in m.log(), "the reason in the log")


@pytest.mark.parametrize("text", ["#!/bin/sh\n#ppfs: drafts=*.bak\n", '{"run": ["true"], "drafts": "*.bak"}', '{"run": ["true"], "drafts": ["*.bak"]}'])
def test_a_job_that_says_it(m, text):
    m.put("x", text)
    assert "belongs into a .options file" in m.failed("x")
