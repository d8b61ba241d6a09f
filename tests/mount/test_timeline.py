"""ppfs(5): trace.json, checked against the rules of the Trace Event Format."""
import errno
import json
import os
from collections import defaultdict

import pytest
from ppfsmount import wait_until


def events_of(text):
    """The slices of a trace, after a look at everything that the format says of it."""
    trace = json.loads(text)
    assert isinstance(trace["traceEvents"], list) and trace["displayTimeUnit"] in ("ms", "ns")
    threads, named, slices = defaultdict(list), set(), []
    for e in trace["traceEvents"]:
        assert isinstance(e["name"], str) and isinstance(e["pid"], int) and isinstance(e["tid"], int), e
        assert e["ph"] in ("X", "M"), e
        if e["ph"] == "M":
            assert e["name"] in ("process_name", "thread_name", "process_sort_index") and isinstance(e["args"], dict), e
            named.add((e["pid"], e["tid"], e["name"]))
            continue
        assert isinstance(e["ts"], int) and e["ts"] > 0 and isinstance(e["dur"], int) and e["dur"] >= 0, e
        assert (e["pid"], e["tid"], "thread_name") in named and (e["pid"], 1, "process_name") in named, "a thread has a name before it is used"
        threads[e["pid"], e["tid"]].append(e)
        slices.append(e)
    assert [e["ts"] for e in slices] == sorted(e["ts"] for e in slices)
    for thread in threads.values():
        for a, b in zip(thread, thread[1:]):
            assert a["ts"] + a["dur"] <= b["ts"], "two slices of a thread overlap: %s %s" % (a, b)
    return slices


def slices(m):
    return events_of((m.mnt / "trace.json").read_text())


def test_nothing_has_run(m):
    m.put("held", "#!/bin/sh\n#ppfs: hold=1\n")
    assert slices(m) == []


def test_slices_with_attempt_and_outcome(m):
    (m.jobs / "G").mkdir()
    m.put("G/good", "#!/bin/sh\n")
    m.put("bad", "#!/bin/sh\n#ppfs: retries=1\nexit 3\n")
    m.put("held", "#!/bin/sh\n#ppfs: hold=1\n")
    m.put("s.jsonl", '{"call": "abs", "args": [-1]}\n')
    m.put("runs", "#!/bin/sh\necho; exec sleep 1000\n")
    m.result("s.jsonl")
    assert m.wait("G/good") == "done" and m.wait("bad") == "failed"
    wait_until(lambda: m.state("runs") == "running", "it to run")
    seen = {e["name"]: e for e in slices(m)}
    assert {n: (e["args"]["attempt"], e["args"]["outcome"]) for n, e in seen.items()} == {
        "G/good": (1, "done"), "bad": (2, "failed"), "s.jsonl": (1, "done"), "runs": (1, "running")}
    assert seen["bad"]["args"]["why"] == "exit status 3"
    assert seen["s.jsonl"]["pid"] != seen["bad"]["pid"] == seen["G/good"]["pid"]
    os.unlink(m.jobs / "runs")


def test_as_many_threads_as_slots_were_in_use(m):
    """Also where jobs start in another order than they were submitted."""
    m.put("first", "#!/bin/sh\nread line < %s\n" % (m.work / "fifo"))
    os.mkfifo(m.work / "fifo")
    for i in range(40):
        m.put("job%02d" % i, "#!/bin/sh\n#ppfs: priority=%d\n" % i)
    (m.work / "fifo").write_text("go\n")
    (m.mnt / "info/.wait").read_text()
    seen = slices(m)
    assert len(seen) == 41 and {e["tid"] for e in seen} <= {1, 2}


def test_names_are_data(m):
    name = 'a"\\\n<script><img src=x onerror=alert(1)>\033\udcff\u2028'
    m.put(name, "#!/bin/sh\n")
    m.wait(name)
    text = (m.mnt / "trace.json").read_bytes()
    assert text.isascii() and b"\033" not in text
    assert [e["name"] for e in events_of(text)] == [name]


def test_cancelled_between_two_attempts(m):
    """When its last attempt ended is not known, so it has no slice."""
    m.put("x", "#!/bin/sh\n#ppfs: retries=9\nexit 3\n")
    wait_until(lambda: "attempt 2 failed" in (m.info / "x/why").read_text(), "a pause between attempts")
    os.unlink(m.jobs / "x")
    assert slices(m) == []


def test_pages_and_small_reads(m):
    for i in range(300):
        m.put("job%03d" % i, '{"call": "abs", "args": [1]}')
    (m.mnt / "info/.wait").read_text()
    fd = os.open(m.mnt / "trace.json", os.O_RDONLY)
    text = b"".join(iter(lambda: os.read(fd, 997), b""))
    os.close(fd)
    assert sorted(e["name"] for e in events_of(text)) == ["job%03d" % i for i in range(300)]


def test_the_old_end_is_cut(m):
    """More jobs than it has room for: the newest are there."""
    (m.jobs / ".G").mkdir()
    for i in range(10200):
        (m.jobs / ".G" / str(i)).write_text('{"call": "abs", "args": [1]}')
    (m.jobs / ".G").rename(m.jobs / "G")
    (m.info / "G/.wait").read_text()
    names = {int(e["name"].split("/")[1]) for e in slices(m)}
    assert len(names) == 10000 and min(names) >= 10200 - 10000 - 2048


def test_an_open_one_says_that_its_daemon_died(m):
    for i in range(300):
        m.put("job%03d" % i, '{"call": "abs", "args": [1]}')
    (m.mnt / "info/.wait").read_text()
    fd = os.open(m.mnt / "trace.json", os.O_RDONLY)
    assert os.read(fd, 64)
    m.kill_daemon()
    with pytest.raises(OSError) as e:
        while os.read(fd, 1 << 20):
            pass
    assert e.value.errno == errno.EIO
    os.close(fd)
    assert len(slices(m)) == 300


def test_who_sees_what(shared, alice, mallory):
    p = alice.sh(r"""cd $M; umask 022; mkdir jobs/open; (umask 077; mkdir jobs/closed)
job() { printf '#!/bin/sh\necho hush\n' > jobs/$1; cat results/$1 >/dev/null; }
job open/seen; job closed/b; (umask 077; job d); cat trace.json""", M=shared.mnt)
    assert sorted(e["name"] for e in events_of(p.stdout)) == ["closed/b", "d", "open/seen"], p.stderr
    text = mallory.sh("cat $M/trace.json", M=shared.mnt).stdout
    assert [e["name"] for e in events_of(text)] == ["open/seen"] and "closed" not in text
    assert len(slices(shared)) == 3
    p = mallory.sh("for i in $(seq 9); do exec {fd}< $M/trace.json || exit 3; done", M=shared.mnt)
    assert p.returncode != 0 and "Too many open files" in p.stderr
    assert alice.sh("cat $M/trace.json", M=shared.mnt).returncode == 0
