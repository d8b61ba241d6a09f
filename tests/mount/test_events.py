"""ppfs(5): events, as JSON lines: of everything, of a job, of a group, and since a time."""
import errno
import json
import os
import select
import subprocess
import time

import pytest
from ppfsmount import wait_until


class Reader:
    """An open events file; next() waits for the next event that has these keys and values."""

    def __init__(self, path, flags=0):
        self.fd = os.open(path, os.O_RDONLY | flags)
        self.buffer, self.reads = b"", 0

    def more(self):
        got = os.read(self.fd, 65536)
        self.reads += 1
        self.buffer += got
        return got

    def lines(self):
        *lines, self.buffer = self.buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def until(self, **wanted):
        """All events up to one like that."""
        seen = []
        while True:
            for i, event in enumerate(new := self.lines()):
                seen.append(event)
                if all(event.get(key) == value for key, value in wanted.items()):
                    self.buffer = b"".join(json.dumps(e).encode() + b"\n" for e in new[i + 1:]) + self.buffer
                    return seen
            assert self.more(), "events have ended"

    def rest(self):
        while self.more():
            pass
        return self.lines()

    def close(self):
        os.close(self.fd)


@pytest.fixture
def reader(m):
    r = Reader(m.mnt / "events")
    yield r
    r.close()


def kinds(events, job):
    return [e["event"] for e in events if e.get("job") == job]


def all_of(m, what):
    """What a file of events that ends has."""
    return [json.loads(line) for line in (m.info / what).read_text().splitlines()]


def test_the_life_of_a_job(m, reader):
    before = time.time()
    m.put("x", "#!/bin/sh\necho hi\n")
    events = reader.until(job="x", event="ended")
    assert kinds(events, "x") == ["submitted", "started", "ended"]
    for e in events:
        assert e["v"] == 1 and e["group"] == "" and e["user"] == os.getuid() and "why" not in e
        when = time.strptime(e["time"][:19] + "UTC", "%Y-%m-%dT%H:%M:%S%Z")
        assert abs(time.mktime(when) - time.timezone - before) < 3600 and e["time"].endswith("Z")
    assert [e["state"] for e in events] == ["queued", "running", "done"]
    assert [e["attempt"] for e in events] == [0, 1, 1] and [e.get("node") for e in events] == [None, "local", "local"]
    assert len({e["id"] for e in events}) == 1


def test_held_failed_retried_cancelled_and_run_again(m, reader):
    m.put("h", "#!/bin/sh\n#ppfs: hold=1\n")
    m.put("r", "#!/bin/sh\n#ppfs: retries=1\nexit 3\n")
    assert kinds(reader.until(job="r", event="ended"), "r") == ["submitted", "started", "retried", "started", "ended"]
    (m.info / "h/hold").write_text("0")
    reader.until(job="h", event="ended")
    os.rename(m.failures / "r", m.jobs / "r2")
    again = reader.until(job="r2", event="started")
    assert again[-1]["attempt"] == 3
    reader.until(job="r2", event="ended")
    m.put("c", "#!/bin/sh\n#ppfs: hold=1\n")
    os.unlink(m.jobs / "c")
    events = reader.until(job="c", event="cancelled")
    assert kinds(events, "c") == ["submitted", "cancelled"] and events[-1]["state"] == "cancelled"


def test_the_reason_of_a_failure(m, reader):
    m.put("f", "#!/bin/sh\nexit 3\n")
    failed = reader.until(job="f", event="ended")[-1]
    assert failed["state"] == "failed" and failed["why"] == "exit status 3" == m.why("f").partition(";")[0]


def test_retries(m, reader):
    m.put("r", "#!/bin/sh\n#ppfs: retries=1\n[ $PPFS_ATTEMPT = 2 ]\n")
    events = [e for e in reader.until(job="r", event="ended") if e.get("job") == "r"]
    assert [e["event"] for e in events] == ["submitted", "started", "retried", "started", "ended"]
    assert events[2]["why"] and events[-1]["attempt"] == 2


def test_nodes_and_slots(m, reader):
    (m.node / "cpus").write_text("5")
    slots = reader.until(event="slots changed")[-1]
    assert (slots["node"], slots["slots"]) == ("local", 5) and "job" not in slots
    (m.node / "state").write_text("drain")
    assert reader.until(event="node drains")[-1]["node"] == "local"
    (m.node / "state").write_text("up")
    assert reader.until(event="node up")[-1]["slots"] == 5


def test_each_open_has_its_own_place(m, reader):
    m.put("a", "#!/bin/sh\n")
    m.result("a")
    second = Reader(m.mnt / "events")
    m.put("b", "#!/bin/sh\n")
    assert {e.get("job") for e in second.until(job="b", event="ended")} == {"b"}
    assert {e.get("job") for e in reader.until(job="b", event="ended")} == {"a", "b"}
    second.close()


def test_poll_and_nonblock(m):
    r = Reader(m.mnt / "events", os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        r.more()
    poll = select.epoll()
    poll.register(r.fd, select.EPOLLIN)
    assert poll.poll(0) == []
    m.put("x", "#!/bin/sh\n")
    seen = []
    while kinds(seen, "x")[-1:] != ["ended"]:
        assert poll.poll(40), "no wake-up"
        try:
            r.more()
        except BlockingIOError:
            pass
        seen += r.lines()
    poll.close()
    r.close()


def test_a_reader_is_woken_no_more_than_20_times_a_second(m, reader):
    """So that it costs little where there are thousands of jobs a second; what it reads has all of them."""
    began = time.monotonic()
    for i in range(200):
        m.put("x%d" % i, "#!/bin/sh\n#ppfs: hold=1\n")
    m.put("last", "#!/bin/sh\n")
    events = reader.until(job="last", event="ended")
    assert len([e for e in events if e["event"] == "submitted"]) == 201
    assert reader.reads <= (time.monotonic() - began) / 0.05 + 2


def test_small_reads_lose_nothing(m):
    fd = os.open(m.mnt / "events", os.O_RDONLY)
    m.put("x", "#!/bin/sh\n")
    m.result("x")
    text = b""
    while text.count(b"\n") < 3:
        text += os.read(fd, 5)
    os.close(fd)
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["submitted", "started", "ended"]


def test_a_job_that_waits_for_a_slot_is_queued(m, reader):
    (m.node / "cpus").write_text("0")
    m.put("x", "#!/bin/sh\n#ppfs: hold=1\n")
    (m.info / "x/hold").write_text("0")
    assert kinds(reader.until(job="x", event="queued"), "x") == ["submitted", "queued"]
    (m.info / "x/hold").write_text("1")
    assert reader.until(job="x")[-1]["event"] == "held"


def test_of_a_job(m):
    m.put("other", "#!/bin/sh\n")
    m.put("x", "#!/bin/sh\n#ppfs: hold=1\n")
    live = Reader(m.info / "x/events")
    assert live.until(event="submitted")[-1]["state"] == "held"
    (m.info / "x/hold").write_text("0")
    assert kinds(live.rest(), "x") == ["started", "ended"]
    live.close()
    assert [e["event"] for e in all_of(m, "x/events")] == ["submitted", "started", "ended"]


def test_of_a_job_of_an_earlier_daemon(m):
    m.put("x", "#!/bin/sh\nexit 4\n")
    m.wait("x")
    m.kill_daemon()
    events = wait_until(lambda: all_of(m, "x/events"), "the next daemon")
    assert [e["event"] for e in events] == ["submitted", "started", "ended"]
    assert events[-1]["why"] and events[-1]["state"] == "failed" and events[1]["node"] == "local"


def test_of_a_group(m):
    (m.jobs / "G/H").mkdir(parents=True)
    for name in "G/a", "G/H/b", "c":
        m.put(name, "#!/bin/sh\n")
    m.result("c")
    events = all_of(m, "G/.events")
    assert {e["job"] for e in events} == {"G/a", "G/H/b"}
    assert {(e["job"], e["group"]) for e in events} == {("G/a", "G"), ("G/H/b", "G/H")}
    m.put("G/d", "#!/bin/sh\n#ppfs: hold=1\n")
    live = Reader(m.info / "G/.events")
    live.until(job="G/d", event="submitted")
    os.unlink(m.jobs / "G/d")
    assert kinds(live.rest(), "G/d") == ["cancelled"]
    live.close()


def test_since_a_time(m):
    m.put("a", "#!/bin/sh\n")
    m.result("a")
    all_events = all_of(m, ".events")
    since = next(e for e in all_events if e["event"] == "ended")["time"]
    r = Reader(m.mnt / ("events?since=" + since))
    m.put("b", "#!/bin/sh\n")
    events = r.until(job="b", event="ended")
    assert kinds(events, "a") == ["ended"] and kinds(events, "b") == ["submitted", "started", "ended"]
    r.close()
    for text in "0", "1700000000.5", "2020-01-01T00:00:00Z":
        r = Reader(m.mnt / ("events?since=" + text))
        assert r.until(job="b", event="ended")[0]["event"] == "began"
        r.close()


@pytest.mark.parametrize("text", ["", "x", "-1", "nan", "inf", "1e30", "2020-01-01", "2020-01-01T00:00:00Zx", "1 2"])
def test_no_time(m, text):
    with pytest.raises(OSError) as e:
        os.open(m.mnt / ("events?since=" + text), os.O_RDONLY)
    assert e.value.errno == errno.EINVAL


def test_a_reader_goes_on_with_the_next_daemon(m, reader):
    m.put("a", "#!/bin/sh\n")
    reader.until(job="a", event="ended")
    m.kill_daemon()
    m.put("b", "#!/bin/sh\n")
    events = reader.until(job="b", event="ended")
    assert [e["event"] for e in events][:2] == ["lost", "began"] and "count" not in events[0]
    assert kinds(events, "b") == ["submitted", "started", "ended"]


def test_what_is_not_plain_is_escaped(m, reader):
    name = os.fsdecode(b"a\x1b[31m\"\\\n\xff\xc2\x9b\xe2\x80\xae\xf0\x9f\x98\x80")
    m.put(name, "#!/bin/sh\n#ppfs: hold=1\n")
    while b"\n" not in reader.buffer:
        reader.more()
    assert all(32 <= b < 127 for b in reader.buffer.strip())
    assert reader.lines()[0]["job"] == name


def test_it_is_read_only(m):
    for flags in os.O_WRONLY, os.O_RDWR:
        with pytest.raises(PermissionError):
            os.open(m.mnt / "events", flags)


def test_a_reader_can_be_interrupted(m):
    p = subprocess.Popen(["cat", m.mnt / "events"])
    wait_until(lambda: "request_wait" in open("/proc/%d/wchan" % p.pid).read() or open("/proc/%d/stat" % p.pid).read().split()[2] == "S", "it to wait")
    p.terminate()
    p.wait(20)


def test_who_sees_what(shared, alice, mallory):
    m = shared
    hers = Reader(m.mnt / "events")
    p = mallory.popen(["timeout", "40", "sh", "-c", "exec 3< $M/events; echo ready; grep -m 1 last <&3 >&2; cat $M/info/.events"],
                      env={"M": str(m.mnt)}, text=True, stdout=-1, stderr=-1)
    assert p.stdout.readline() == "ready\n"
    q = alice.sh(r"""cd $M; umask 022; mkdir jobs/open; (umask 077; mkdir jobs/closed)
echo 'print()' > jobs/open/public; (umask 077; echo 'print()' > jobs/open/private); echo 'print()' > jobs/closed/inside
cat info/open/.wait info/closed/.wait; (umask 077; echo 'print()' > jobs/secret); cat results/secret; cat info/closed/.events""", M=m.mnt)
    assert q.returncode == 0 and '"closed/inside"' in q.stdout, q.stderr
    assert mallory.sh("cat $M/info/closed/.events", M=m.mnt).returncode != 0
    assert mallory.sh("cat $M/info/secret/events", M=m.mnt).returncode != 0
    alice.sh("echo 'print()' > $M/jobs/last; cat $M/results/last", M=m.mnt)
    out, err = p.communicate()
    seen = {json.loads(line).get("job") for line in (out + err).splitlines() if line.startswith("{")}
    assert "open/public" in seen and "last" in seen
    assert not {"open/private", "closed/inside", "secret"} & seen
    assert {"open/private", "closed/inside", "secret", "last"} <= {e.get("job") for e in hers.until(job="last", event="ended")}
    hers.close()


def test_what_was_closed_afterwards_is_not_read(shared, alice, mallory):
    """By the mode of the job as it is, not only as it was."""
    made = alice.sh("""umask 022; for n in open shut; do printf '#ppfs: hold=1\\nprint()\\n' > $M/jobs/$n; done; chmod 600 $M/jobs/shut""", M=shared.mnt)
    assert made.returncode == 0, made.stderr
    seen = {json.loads(line).get("job") for line in mallory.sh("timeout 3 cat '%s/events?since=0'" % shared.mnt).stdout.splitlines()}
    assert "open" in seen and "shut" not in seen
