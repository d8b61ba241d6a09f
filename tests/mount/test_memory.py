"""memory= is reserved on the node as long as the job has its slots there: what does not fit beside what runs waits, and
nothing else does. Each job of more than half of the machine's memory, so that no two fit, notes that it runs and waits
for a file."""
import os

import pytest

from ppfsmount import sanitized, wait_until

LARGE = "%dM" % (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 6 // 10 >> 20)
SMALL = "256M"
RUNS = "#!/bin/sh\n#ppfs: %s\ntouch {work}/on/$PPFS_JOB\nuntil [ -e {work}/go ]; do sleep 0.02; done\n"
CALL = '{"call": "eval", "args": ["(open(\'%s/on/c%d\', \'w\').close(), __import__(\'time\').sleep(0.05), ' \
       '__import__(\'os\').unlink(\'%s/on/c%d\'))[0]"]}\n'


@pytest.fixture
def wide(new_mount):
    """A mount of four slots; work/on names what runs, and all end when work/go is there."""
    mount = new_mount(cpus=4)
    mount.start()
    (mount.work / "on").mkdir()
    return mount


def put(mount, name, options):
    mount.put(name, (RUNS % options).format(work=mount.work))


def on(mount):
    return sorted(p.name for p in (mount.work / "on").iterdir())


def go(mount, *names):
    (mount.work / "go").touch()
    for name in names:
        assert mount.wait(name) == "done", mount.why(name)


def test_what_does_not_fit_waits(wide):
    put(wide, "first", "memory=" + LARGE)
    wait_until(lambda: on(wide) == ["first"], "the first to run")
    put(wide, "second", "memory=" + LARGE)
    put(wide, "plain", "cpus=1")
    wait_until(lambda: on(wide) == ["first", "plain"], "the one without memory= to run")
    assert wide.state("second") == "queued"
    assert "of memory" in wide.why("second") and "nodes/local" in wide.why("second")
    go(wide, "first", "second", "plain")
    assert on(wide) == ["first", "plain", "second"]


def test_nothing_is_kept_where_ones_own_jobs_have_the_rest(wide):
    """Else one user's job that runs for ever, and one that waits for it, would keep all memory from others."""
    put(wide, "first", "memory=" + LARGE)
    wait_until(lambda: on(wide) == ["first"], "the first to run")
    put(wide, "second", "memory=" + LARGE)
    put(wide, "third", "memory=" + SMALL)
    wait_until(lambda: on(wide) == ["first", "third"], "the small one to run")
    assert wide.state("second") == "queued"
    go(wide, "first", "second", "third")


def test_small_ones_run_beside(wide):
    put(wide, "first", "memory=" + LARGE)
    put(wide, "small", "memory=" + SMALL)
    wait_until(lambda: on(wide) == ["first", "small"], "both to run")
    go(wide, "first", "small")


@pytest.mark.skipif(sanitized(), reason="an address space limit does not go with AddressSanitizer")
def test_calls_of_a_stream(wide):
    """A call with memory= is a job of its own; the calls without it go on beside it."""
    plain = CALL % ((wide.work, 9) * 2), CALL % ((wide.work, 8) * 2)
    large = "".join((CALL % ((wide.work, i) * 2)).replace('{', '{"memory": "%s", ' % LARGE) for i in range(4))
    wide.put("s.jsonl", plain[0] + large + plain[1])
    most = 0
    while wide.state("s.jsonl") not in ("done", "failed"):
        most = max(most, len([n for n in on(wide) if n < "c8"]))
    assert most == 1
    assert wide.result("s.jsonl") == b"null\n" * 6


@pytest.mark.parametrize("later", [False, True])
def test_who_waits_for_a_result_lends_its_memory(wide, later):
    waits = "#!/bin/sh\n#ppfs: memory=%s\ntouch %s/on/a\ncat %s/b\n" % (LARGE, wide.work, wide.results)
    made = "#!/bin/sh\n#ppfs: memory=%s\necho b\n" % LARGE
    if not later:
        wide.put("a", waits.replace("cat", "until [ -e %s/go ]; do sleep 0.02; done; cat" % wide.work))
        wait_until(lambda: on(wide) == ["a"], "a to run")
        wide.put("b", made)
        go(wide)
    else:
        wide.put("a", waits.replace("cat", "until cat").replace("/b\n", "/b 2>/dev/null; do sleep 0.02; done\n"))
        wait_until(lambda: on(wide) == ["a"], "a to run")
        wide.put("b", made)
    assert wide.result("a") == b"b\n"


def test_what_failed_or_was_cancelled_gives_it_back(wide):
    put(wide, "first", "memory=%s timeout=0.3" % LARGE)
    assert wide.wait("first") == "failed"
    put(wide, "second", "memory=" + LARGE)
    wait_until(lambda: "second" in on(wide), "the second to run")
    os.unlink(wide.jobs / "second")
    put(wide, "third", "memory=" + LARGE)
    wait_until(lambda: "third" in on(wide), "the third to run")
    go(wide, "third")
