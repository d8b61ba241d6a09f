"""Many streams that are open at once: what has nothing to do is in nobody's way."""
import contextlib
import os
import resource

from ppfsmount import wait_until

MANY = 1000
ACTIVE = 1024  # streams that may have something to do at once: sched/calls/stream_int.h


@contextlib.contextmanager
def descriptors(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(n, hard)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def begin(m, name):
    return os.open(m.jobs / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def ask(fd, n):
    os.write(fd, b'{"call": "abs", "args": [-%d]}\n' % n)


def answers(m, name):
    return open(m.results / name).read()


def plain_job(m):
    m.put("plain", '{"call": "abs", "args": [-3]}')
    return m.result("plain")


def done(m):
    return int((m.node / "done").read_text())


def test_a_thousand_open_streams_hold_up_nobody(m):
    with descriptors(MANY + 100):
        fds = [begin(m, "s%d.jsonl" % i) for i in range(MANY)]
        for i, fd in enumerate(fds):
            ask(fd, i)
        wait_until(lambda: done(m) == MANY, "all calls to be answered", 120)
        assert plain_job(m) == b"3\n"
        assert "still open for writing" in m.why("s0.jsonl") and m.why("s0.jsonl").startswith("1 calls are answered")
        for i, fd in enumerate(fds):  # those that left memory come back
            if i % 100 == 0:
                ask(fd, i + 1)
        os.close(fds[1])  # one is closed with no line more
        assert answers(m, "s1.jsonl") == "1\n"
        for i, fd in enumerate(fds):
            if i != 1:
                os.close(fd)
        for i in range(MANY):
            more = "%d\n" % (i + 1) if i % 100 == 0 else ""
            assert answers(m, "s%d.jsonl" % i) == "%d\n%s" % (i, more)


def test_open_streams_survive_a_kill(m):
    fds = [begin(m, "s%d.jsonl" % i) for i in range(150)]
    for i, fd in enumerate(fds):
        ask(fd, i)
    wait_until(lambda: done(m) == 150, "all calls to be answered")
    m.kill_daemon()
    for i, fd in enumerate(fds):
        ask(fd, i + 1)
        os.close(fd)
    for i in range(150):
        assert answers(m, "s%d.jsonl" % i) == "%d\n%d\n" % (i, i + 1)


def test_streams_that_wait_hold_up_no_job(m):
    (m.mnt / "nodes/local/cpus").write_text("0\n")
    with descriptors(ACTIVE + 100):
        fds = [begin(m, "s%d.jsonl" % i) for i in range(ACTIVE + 20)]
        for i, fd in enumerate(fds):
            ask(fd, i)
        last = "s%d.jsonl" % (ACTIVE + 19)
        wait_until(lambda: "1024 streams have calls under way" in m.why(last), "the last one to wait")
        assert m.state(last) == "queued"
        (m.mnt / "nodes/local/cpus").write_text("2\n")
        assert plain_job(m) == b"3\n"
        for i, fd in enumerate(fds):
            os.close(fd)
        for i in range(ACTIVE + 20):
            assert answers(m, "s%d.jsonl" % i) == "%d\n" % i
