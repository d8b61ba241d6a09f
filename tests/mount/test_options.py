"""ppfs(5), Options: what each does, and what happens to words that are not understood."""
import errno
import os
import pickle

import pytest
from ppfsmount import sanitized, wait_until
from processes import alive, text_of

no_sanitizer = pytest.mark.skipif(sanitized(), reason="an address space limit does not go with AddressSanitizer")


def log_job(m, options=""):
    """A job that appends its name to work/order."""
    return "#!/bin/sh\n%secho $PPFS_JOB >> %s/order\n" % ("#ppfs: %s\n" % options if options else "", m.work)


def order(m):
    return text_of(m.work / "order").split()


# --- priority and turns ------------------------------------------------------------------------------------------

def test_priority(queue):
    m = queue
    wanted = {"low": -5, "a": 0, "high": 10, "b": 0, "higher": 11, "c": 0}
    for name, priority in wanted.items():
        m.put(name, log_job(m, "priority=%d" % priority))
    (m.node / "cpus").write_text("1")
    (m.info / ".wait").read_text()
    assert order(m) == ["higher", "high", "a", "b", "c", "low"]


def test_priority_of_later_jobs(m1):
    m = m1
    m.put("first", m.gate("first"))
    m.pid_of("first")
    for name, options in (("a", ""), ("b", "priority=1"), ("c", "priority=2")):
        m.put(name, log_job(m, options))
    m.open_gate("first")
    (m.info / ".wait").read_text()
    assert order(m) == ["c", "b", "a"]


def test_oldest_first(queue):
    m = queue
    names = ["j%02d" % i for i in range(60)]
    for name in names:
        m.put(name, log_job(m))
    (m.node / "cpus").write_text("1")
    (m.info / ".wait").read_text()
    assert order(m) == names


def test_turn_about_between_groups(queue):
    """A group that came with many jobs does not hold up one that came later with few."""
    m = queue
    for group, count in (("A", 20), ("B", 5), ("C", 5)):
        os.mkdir(m.jobs / group)
        for i in range(count):
            m.put("%s/%02d" % (group, i), log_job(m))
    (m.node / "cpus").write_text("1")
    (m.info / ".wait").read_text()
    names = order(m)
    for group in "ABC":
        assert [n for n in names if n[0] == group] == sorted(n for n in names if n[0] == group), "not oldest first"
    for i in range(0, 15, 3):
        assert sorted(n[0] for n in names[i:i + 3]) == ["A", "B", "C"], names[:15]


# --- timeout -----------------------------------------------------------------------------------------------------

def test_timeout_kills_the_tree(m):
    m.put("x", m.tree_job("timeout=1s"))
    pids = m.tree_pids()
    text = m.failed("x", errno.ETIMEDOUT)
    assert "1 s" in text or "1s" in text or "time" in text.split("\n")[0]
    wait_until(lambda: not any(map(alive, pids)), "the whole tree to be dead")
    m.works()


@pytest.mark.parametrize("what", [
    "#ppfs: timeout=1\nwhile True: pass\n",
    "#ppfs: timeout=1\nimport signal, time\nfor s in (15, 2, 1, 14): signal.signal(s, signal.SIG_IGN)\n"
    "time.sleep(1000)\n",
    {"call": "time.sleep", "args": [1000], "timeout": 1},
    {"call": "eval", "args": ["[0 for _ in iter(int, 1)]"], "timeout": "1s"},
    {"run": ["sleep", "1000"], "timeout": "1"},
    "#!/bin/sh\n#ppfs: timeout=1\nkill -STOP $$\n",
], ids=["busy script", "script that ignores signals", "call asleep", "busy call", "run", "stops itself"])
def test_timeout(m, what):
    m.put("x", what)
    m.failed("x", errno.ETIMEDOUT)
    m.works()


@pytest.mark.parametrize("timeout", ["90", "30s", "5m", "2h"])
def test_timeout_that_is_not_reached(m, timeout):
    m.put("x", "#ppfs: timeout=%s\nprint('in time')\n" % timeout)
    assert m.result("x") == b"in time\n"


def test_timeout_counts_run_time_only(m1):
    """Waiting in the queue is not running."""
    m = m1
    m.put("first", "#!/bin/sh\nsleep 1.5\n")
    m.put("x", "#!/bin/sh\n#ppfs: timeout=1s\necho in time\n")
    assert m.result("x") == b"in time\n"


# --- retries -----------------------------------------------------------------------------------------------------

def test_retries_until_it_succeeds(m):
    m.put("x",
          "#!/bin/sh\n#ppfs: retries=3\necho $PPFS_ATTEMPT >> %s/attempts\n"
          "[ $PPFS_ATTEMPT = 3 ] && echo third time\n" % m.work)
    assert m.result("x") == b"third time\n"
    assert (m.work / "attempts").read_text().split() == ["1", "2", "3"] and m.get("x", "attempt") == "3"
    assert os.listdir(m.failures) == []


def test_retries_used_up(m):
    m.put("x",
          "#!/bin/sh\n#ppfs: retries=1\necho $PPFS_ATTEMPT >> %s/attempts\n"
          "echo gave up in $PPFS_ATTEMPT >&2\nexit 3\n" % m.work)
    text = m.failed("x")
    assert (m.work / "attempts").read_text().split() == ["1", "2"] and m.get("x", "attempt") == "2"
    assert "gave up in 2" in text


def test_output_is_the_last_attempt_s(m):
    m.put("x", "#!/bin/sh\n#ppfs: retries=1\necho attempt $PPFS_ATTEMPT\nexit $((2 - PPFS_ATTEMPT))\n")
    assert m.result("x") == b"attempt 2\n" and m.get("x", "stdout") == "attempt 2"


def test_waiting_for_a_retry(m):
    """In the pause it says so, holds no slot, and can be cancelled."""
    m.put("x", "#!/bin/sh\n#ppfs: retries=20\nexit 1\n")
    wait_until(lambda: m.state("x") == "waiting" and int(m.get("x", "attempt")) >= 2,
               "the pause after the second attempt")
    m.works()
    assert m.why("x")
    os.unlink(m.jobs / "x")
    assert m.state("x") == "cancelled"


def test_retry_after_timeout(m):
    m.put("x", "#!/bin/sh\n#ppfs: retries=1 timeout=1s\n[ $PPFS_ATTEMPT = 2 ] || sleep 1000\necho second\n")
    assert m.result("x") == b"second\n"


def test_retry_of_a_call_that_kills_its_process(m):
    m.put("x", {"call": "eval", "retries": 1,
                "args": ["__import__('os').environ['PPFS_ATTEMPT'] == '2' or "
                         "__import__('os').kill(__import__('os').getpid(), 9)"]})
    assert m.result("x").strip() == b"true"


# --- after -------------------------------------------------------------------------------------------------------

def test_after(m):
    m.put("c", log_job(m, "after=a,b"))
    m.failed("c")  # a and b are not there
    m.put("a", m.gate("a"))
    m.put("b", m.gate("b"))
    m.put("c", log_job(m, "after=a,b"))
    m.put("d", log_job(m, "after=c"))
    assert m.state("c") == "waiting" and m.state("d") == "waiting"
    assert "a" in m.why("c") and "c" in m.why("d")
    m.open_gate("a")
    m.result("a")
    assert m.state("c") == "waiting"
    m.open_gate("b")
    m.result("d")
    assert order(m) == ["c", "d"]
    assert m.times("c")["started"] >= m.times("b")["ended"] and m.times("d")["started"] >= m.times("c")["ended"]


def test_after_one_that_has_succeeded(m):
    m.put("a", "print(1)\n")
    m.result("a")
    m.put("b", "#ppfs: after=a\nprint(2)\n")
    assert m.result("b") == b"2\n"


@pytest.mark.parametrize("when", ["before", "afterwards"])
def test_after_one_that_fails(m, when):
    m.put("a", m.gate("a") + "exit 1\n")
    if when == "before":
        m.open_gate("a")
        m.failed("a")
    m.put("b", "#ppfs: after=a\nprint(2)\n")
    m.put("c", "#ppfs: after=b\nprint(3)\n")
    m.open_gate("a")
    assert "a" in m.failed("b").split("\n")[0].split() or "'a'" in m.why("b") or "jobs/a" in m.why("b")
    m.failed("c")


def test_after_one_that_is_cancelled(m):
    m.put("a", m.gate("a"))
    m.put("b", "#ppfs: after=a\nprint(2)\n")
    m.pid_of("a")
    os.unlink(m.jobs / "a")
    assert "a" in m.failed("b")


def test_after_an_unknown_name(m):
    m.put("b", "#ppfs: after=nosuchjob\nprint(2)\n")
    assert "nosuchjob" in m.failed("b").split("\n")[0]


def test_after_itself_and_in_a_circle(queue):
    m = queue
    m.put("x", "#ppfs: after=x\nprint(2)\n")
    assert m.why("x")
    m.put("a", "#ppfs: hold=1\nprint(1)\n")
    m.put("b", "#ppfs: after=a\nprint(1)\n")
    m.put("a", "#ppfs: after=b\nprint(1)\n")
    (m.node / "cpus").write_text("1")
    m.works()
    for name in ("a", "b"):  # they fail, or wait and say for what; they can be cancelled
        assert m.state(name) in ("waiting", "failed") and m.why(name)


def test_after_in_groups(m):
    """A name is looked for in the job's own group; one that begins with / from jobs/."""
    os.makedirs(m.jobs / "G")
    m.put("G/a", m.gate("G/a"))
    m.put("a", "print('top')\n")
    m.put("G/b", "#ppfs: after=a\nprint('b')\n")
    m.put("G/c", "#ppfs: after=/a\nprint('c')\n")
    m.put("d", "#ppfs: after=G/a\nprint('d')\n")
    assert m.result("G/c") == b"c\n"
    assert m.state("G/b") == "waiting" and m.state("d") == "waiting"
    m.open_gate("G/a")
    assert m.result("G/b") == b"b\n" and m.result("d") == b"d\n"


def test_after_a_long_chain(m):
    m.put("j0", m.gate("j0"))
    for i in range(1, 60):
        m.put("j%d" % i, "#!/bin/sh\n#ppfs: after=j%d\ncat %s/results/j%d | tail -n 1 > /dev/null; echo %d\n" % (i - 1,
                                                                                                                 m.mnt,
                                                                                                                 i - 1,
                                                                                                                 i))
    m.open_gate("j0")
    assert m.result("j59") == b"59\n"


def test_after_many(m):
    for i in range(50):
        m.put("j%d" % i, log_job(m))
    m.put("last", log_job(m, "after=" + ",".join("j%d" % i for i in range(50))))
    m.result("last")
    assert len(order(m)) == 51 and order(m)[-1] == "last"


# --- cpus, memory ------------------------------------------------------------------------------------------------

def test_cpus(m):
    m.put("wide", m.gate("wide").replace("\n", "\n#ppfs: cpus=2\n", 1))
    m.pid_of("wide")
    m.put("x", "print(1)\n")
    assert m.state("x") == "queued"
    m.open_gate("wide")
    m.result("x")
    assert m.times("x")["started"] >= m.times("wide")["ended"]


def test_a_wide_job_is_not_starved(m):
    """Narrow jobs that keep coming do not keep a wide one from its turn."""
    m.put("a", m.gate("a"))
    m.pid_of("a")
    m.put("wide", log_job(m, "cpus=2"))
    for i in range(30):
        m.put("j%d" % i, "#!/bin/sh\nsleep 0.02\necho $PPFS_JOB >> %s/order\n" % m.work)
    m.open_gate("a")
    (m.info / ".wait").read_text()
    assert "wide" in order(m) and len(order(m)) == 31


def test_what_surely_ends_before_a_wide_job_passes_it(m):
    """The slot that is kept for it is used by jobs that end, by timeout= or run times, before the long one may; and by no others."""
    (m.jobs / "known").mkdir()
    for i in range(12):
        m.put("known/a%d" % i, {"call": "time.sleep", "args": [0.03]})
        m.result("known/a%d" % i)
    m.put("long", m.gate("long"))
    m.pid_of("long")
    m.put("wide", log_job(m, "cpus=2"))
    m.put("unknown", log_job(m))
    m.put("hour", log_job(m, "timeout=1h"))
    m.put("known/last", {"call": "time.sleep", "args": [0.03]})
    m.put("short", "#!/bin/sh\n#ppfs: timeout=200ms\nsleep 60\n")
    assert m.result("known/last") == b"null\n"
    assert m.wait("short") == "failed" and "timed out" in m.why("short")
    assert m.state("wide") == m.state("unknown") == m.state("hour") == "queued"
    assert m.why("wide") == "queued: waits for 2 of 2 slots to be free"
    assert "nodes/local keeps 1 of its slots for wide, which is before it and needs 2" in m.why("unknown")
    m.open_gate("long")
    m.result("hour")
    m.result("unknown")
    assert order(m)[0] == "wide"


def test_more_cpus_than_there_are(m):
    m.put("x", "#ppfs: cpus=3\nprint('wide')\n")
    assert m.state("x") in ("queued", "waiting") and "3" in m.why("x")
    m.works()
    (m.node / "cpus").write_text("3")
    assert m.result("x") == b"wide\n"


@no_sanitizer
@pytest.mark.parametrize("kind", ["script", "call", "program"])
def test_memory(m, kind):
    hungry = "len(bytearray(1_000_000_000))"
    if kind == "call":
        m.put("x", {"call": "eval", "args": [hungry], "memory": "256M"})
    elif kind == "script":
        m.put("x", "#ppfs: memory=256M\n%s\nprint('got it')\n" % hungry)
    else:
        m.put("x", {"run": ["/usr/bin/python3", "-c", hungry], "memory": "256M"})
    text = m.failed("x")
    assert "emory" in text
    m.works()


@no_sanitizer
def test_memory_that_suffices(m):
    m.put("x", "#ppfs: memory=2G\nprint(len(bytearray(100_000_000)))\n")
    assert m.result("x") == b"100000000\n"


# --- env, cwd, hold ----------------------------------------------------------------------------------------------

def test_env(m):
    m.put("x", "#!/bin/sh\n#ppfs: env=A:1 env=B:two:parts 'env=C:with spaces'\necho \"$A|$B|$C\"\n")
    assert m.result("x") == b"1|two:parts|with spaces\n"
    m.put("y", {"call": "os.getenv", "args": ["A"], "env": "A:json"})
    assert m.result("y").strip() == b'"json"'
    assert m.call("z", (os.getenv, ("A",))) is None


def test_env_of_a_python_script(m):
    m.put("x", "#ppfs: env=A:1\nimport os, subprocess\nprint(os.environ['A'], subprocess.getoutput('echo $A'))\n")
    assert m.result("x") == b"1 1\n"


def test_cwd(m):
    os.mkdir(m.work / "there")
    m.put("x", "#!/bin/sh\n#ppfs: cwd=%s/there\npwd\n" % m.work)
    assert m.result("x").decode() == "%s/there\n" % m.work
    m.put("y", {"call": "os.getcwd", "cwd": str(m.work / "there")})
    assert m.result("y").strip().decode() == '"%s/there"' % m.work
    m.put("z", "#ppfs: cwd=%s/there\nimport os\nprint(os.getcwd())\n" % m.work)
    assert m.result("z").decode() == "%s/there\n" % m.work


@pytest.mark.parametrize("where", ["/no/such/directory", "/etc/passwd"])
def test_cwd_that_is_none(m, where):
    m.put("x", "#!/bin/sh\n#ppfs: cwd=%s\npwd\n" % where)
    assert where in m.failed("x").split("\n")[0]
    m.works()


def test_writers_directory_that_has_gone(m):
    """Then the job runs in a fresh one, as on a node that does not have it."""
    m.sh("mkdir gone && cd gone && printf '#!/bin/sh\\n#ppfs: hold=1\\npwd\\n' > $M/jobs/x && cd .. && rmdir gone")
    (m.info / "x/hold").write_text("0")
    where = m.result("x").decode().strip()
    assert where.startswith("/") and where != str(m.work / "gone") and not os.path.exists(where)


def test_hold(m):
    m.put("x", "#ppfs: hold=1\nprint('held')\n")
    assert m.state("x") == "held" and m.get("x", "hold") == "1"
    m.works()
    assert m.state("x") == "held"
    m.sh("echo 0 > $M/info/x/hold")
    assert m.result("x") == b"held\n"


def test_node_pattern(m):
    m.put("x", "#ppfs: node=loc*\nprint('here')\n")
    assert m.result("x") == b"here\n"
    m.put("y", "#ppfs: node=elsewhere\nprint('there')\n")
    m.works()
    assert m.state("y") in ("queued", "waiting") and "node=" in m.why("y")


# --- words -------------------------------------------------------------------------------------------------------

def test_several_lines_of_options(m):
    m.put("x",
          "#!/bin/sh\n#ppfs: priority=5 env=A:1\n# a comment\n#ppfs: env=B:2\n#ppfs: timeout=60\necho $A$B\n"
          "#ppfs: env=A:no\n")
    assert m.result("x") == b"12\n" and m.get("x", "priority") == "5"


def test_options_after_the_first_comment_lines_are_text(m):
    m.put("x", "print('#')\n#ppfs: nonsense=1\n")
    assert m.result("x") == b"#\n"


@pytest.mark.parametrize("words, named", [
    ("colour=green", "colour"), ("priority=high", "high"), ("priority=", "priority"), ("priority", "priority"),
    ("timeout=soon", "soon"), ("timeout=-5", "-5"), ("timeout=5d5", "5d5"), ("retries=-1", "-1"), ("retries=x", "x"),
    ("cpus=0", "cpus"), ("cpus=1.5", "1.5"), ("memory=lots", "lots"), ("env=novalue", "novalue"),
    ("hold=perhaps", "perhaps"),
    ("priority=99999999999999999999", "99999999999999999999"), ("Priority=1", "Priority"), ("=5", "=5"),
    ("timeout=99999999999999999h", "99999999999999999h"), ("'priority=1", "priority"),
])
def test_words_that_are_not_understood(m, words, named):
    for name, text in (("script", "#!/bin/sh\n#ppfs: retries=1 %s\necho ran > %s/ran\n" % (words, m.work)),
                       ("python", "#ppfs: %s\nopen('%s/ran', 'w')\n" % (words, m.work))):
        m.put(name, text)
        assert named in m.failed(name).split("\n")[0], m.why(name)
    assert not (m.work / "ran").exists()
    m.works()


@pytest.mark.parametrize("key, value, named", [
    ("colour", "green", "colour"), ("priority", "high", "high"), ("priority", None, "priority"),
    ("priority", [1], "priority"),
    ("timeout", {}, "timeout"), ("cpus", 0, "cpus"), ("cpus", -1, "cpus"), ("retries", 1.5, "retries"),
    ("memory", True, "memory"),
    ("env", 5, "env"), ("arguments", [1], "arguments"), ("kwarg", {}, "kwarg"),
])
def test_keys_that_are_not_understood(m, key, value, named):
    m.put("x", {"call": "abs", "args": [1], key: value})
    assert named in m.failed("x").split("\n")[0]
    m.works()


def test_options_in_a_bare_pickle_come_from_the_group(m):
    os.mkdir(m.jobs / "G")
    (m.jobs / "G/.options").write_text("priority=5 timeout=1s\n")
    m.put("G/x", pickle.dumps((eval, ("__import__('time').sleep(1000)",))))
    assert m.get("G/x", "priority") == "5"
    m.failed("G/x", errno.ETIMEDOUT)


def test_after_a_job_that_is_rewritten(queue):
    """Who waits for a name waits for the job that takes it."""
    m = queue
    m.put("a", "print('first')\n")
    m.put("b", "#ppfs: after=a\nprint(open('%s').read())\n" % (m.results / "a"))
    m.put("a", "print('second')\n")
    (m.node / "cpus").write_text("2")
    assert m.result("b") == b"second\n\n"


def test_after_of_a_job_that_was_withdrawn(m):
    """Made a draft and a job again, it is told anew whom it waits for."""
    m.put("a", "#!/bin/sh\n#ppfs: hold=1\nexit 1\n")
    m.put("b", "#!/bin/sh\n#ppfs: after=a\necho ran\n")
    os.rename(m.jobs / "b", m.jobs / ".b")
    (m.info / "a/hold").write_text("0")
    m.failed("a")
    assert m.state(".b") == "draft"
    os.rename(m.jobs / ".b", m.jobs / "b")
    m.failed("b")
    assert "a failed" in m.why("b")


def test_hold_says_how_it_is_let_go(m):
    (m.jobs / "G").mkdir()
    m.put("G/x", "#ppfs: hold=1\nprint(1)\n")
    assert "info/G/x/hold" in m.why("G/x")


def test_hold_keeps_what_was_waited_for(m):
    m.put("a", "#!/bin/sh\ntrue\n")
    m.put("gate", "#ppfs: hold=1\nprint(1)\n")
    m.put("b", "#ppfs: after=a,gate\nprint('b')\n")
    m.wait("a")
    (m.info / "b/hold").write_text("1")
    (m.info / "gate/hold").write_text("0")
    m.wait("gate")
    os.unlink(m.results / "a")
    os.unlink(m.results / "gate")
    (m.info / "b/hold").write_text("0")
    assert m.result("b") == b"b\n"


def test_an_option_given_twice(m):
    """Names of after= add up; of anything else nothing is lost in silence."""
    m.put("twice", "#!/bin/sh\n#ppfs: priority=1\n#ppfs: timeout=5 priority=2\n")
    assert m.failed("twice").startswith("option priority= is given twice\n")
    m.put("a", m.gate("a")), m.put("b", m.gate("b"))
    m.put("both", "#!/bin/sh\n#ppfs: after=a\n#ppfs: after=b\n")
    m.open_gate("b")
    assert m.wait("b") == "done"
    assert (m.state("both"), m.why("both")) == ("waiting", "waits for a, which is running")
    m.open_gate("a")
    assert m.wait("both") == "done"
    with pytest.raises(OSError):
        (m.jobs / ".options").write_text("timeout=5 timeout=6")
