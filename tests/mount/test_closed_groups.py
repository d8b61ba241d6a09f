"""A directory that is closed to somebody tells him nothing: not by after=, not by the reasons of his own jobs."""
import os

import pytest
from ppfsmount import wait_until

JOB = "printf '#!/bin/sh\\n#ppfs: %s\\ntrue\\n'"


def reason(m, user, after, name="probe"):
    user.sh((JOB % ("after=" + after)) + " > $M/jobs/%s; cat $M/results/%s" % (name, name), M=m.mnt)
    return (m.failures / name).read_text().replace(after, "NAME")


@pytest.fixture
def closed(shared, alice):
    """A group of alice's that nobody else may look into, with a job in every state, a draft, and a group."""
    m = shared
    alice.sh("mkdir -m 700 $M/jobs/G $M/jobs/G/sub; echo true > $M/jobs/G/.draft; echo 'print(1)' > $M/jobs/G/done; "
             "echo 'raise SystemExit(1)' > $M/jobs/G/failed; %s > $M/jobs/G/held; %s > $M/jobs/G/cancelled; "
             "%s > $M/jobs/G/sub/held; rm $M/jobs/G/cancelled; cat $M/results/G/done $M/results/G/failed"
             % ((JOB % "hold=1",) * 3), M=m.mnt)
    return m


def test_after_tells_nothing(closed, alice, mallory):
    m = closed
    answers = {reason(m, mallory, "/" + path) for path in (
        "G/nothing", "G/done", "G/failed", "G/held", "G/cancelled", "G/.draft", "G/sub", "G/sub/held", "G/sub/nothing",
        "none/x")}
    assert len(answers) == 1 and "closed" in answers.pop()
    assert "that is a group" in reason(m, mallory, "/G")  # it stands in jobs/, for everybody to see
    assert "failed" in reason(m, alice, "/G/failed", "hers")  # she may look
    alice.sh("chmod 711 $M/jobs/G", M=m.mnt)  # who knows a name may look it up
    assert "was cancelled" in reason(m, mallory, "/G/cancelled")
    assert "closed" in reason(m, mallory, "/G/sub/held")
    alice.sh("chmod 701 $M/jobs/G", M=m.mnt)  # but not her group
    assert "closed" in reason(m, mallory, "/G/cancelled")


def test_after_tells_nothing_of_a_closed_array(shared, alice, mallory):
    m = shared
    alice.sh("umask 077; printf '#!/bin/sh\n#ppfs: array=0-1\n' > $M/jobs/good; "
             "printf '#!/bin/sh\n#ppfs: array=0-1\nexit 1\n' > $M/jobs/bad; cat $M/info/good/.wait $M/info/bad/.wait; "
             "chmod 700 $M/jobs/good $M/jobs/bad", M=m.mnt)
    assert m.get("good", ".progress") and m.get("bad", ".progress")
    answers = {reason(m, mallory, "/" + name) for name in ("good", "bad", "none")}
    assert len(answers) == 1 and "closed" in answers.pop()
    assert "not all" in reason(m, alice, "/bad", "hers")
    p = alice.sh("printf '#!/bin/sh\n#ppfs: after=good\necho ran\n' > $M/jobs/too; cat $M/results/too", M=m.mnt)
    assert (p.stdout, p.stderr) == ("ran\n", "")


def test_a_closed_group_from_inside(closed, alice, mallory):
    """Who is let into a group by its mode alone: names are looked up from where the job is."""
    m = closed
    alice.sh("mkdir -m 733 $M/jobs/in; mkdir -m 700 $M/jobs/in/own; %s > $M/jobs/in/own/x; "
             "%s > $M/jobs/in/held" % ((JOB % "hold=1",) * 2), M=m.mnt)
    mallory.sh((JOB % "after=held") + " > $M/jobs/in/a; " + (JOB % "after=own/x") + " > $M/jobs/in/b", M=m.mnt)
    wait_until(lambda: m.state("in/b") == "failed", "the refused one")
    assert (m.state("in/a"), m.why("in/a")) == ("waiting", "waits for in/held, which is held")


def test_what_is_moved_into_a_closed_group(closed, alice, mallory):
    """Who waits for it does not learn its new name, whether it waits on or is told that it will never start."""
    m = closed
    alice.sh((JOB % "hold=1") + " > $M/jobs/open", M=m.mnt)
    mallory.sh((JOB % "after=open") + " > $M/jobs/probe", M=m.mnt)
    assert m.why("probe") == "waits for open, which is held"
    alice.sh("chmod 600 $M/jobs/open", M=m.mnt)
    assert m.why("probe") == "waits for open"
    alice.sh("mv $M/jobs/open $M/jobs/G/secret", M=m.mnt)
    assert m.state("probe") == "waiting" and "secret" not in m.why("probe") and "G/" not in m.why("probe")
    alice.sh("rm $M/jobs/G/secret", M=m.mnt)
    wait_until(lambda: m.state("probe") == "failed", "the end of what waits")
    assert "secret" not in m.why("probe")


def test_what_a_slot_is_kept_for(closed, alice, mallory):
    m = closed
    program = "#!/bin/sh\nread x < %s\n"
    os.mkfifo(m.work / "gate")
    os.chmod(m.work / "gate", 0o666)
    m.put("runs", program % (m.work / "gate"))
    wait_until(lambda: m.state("runs") == "running", "the first job")
    alice.sh((JOB % "cpus=2") + " > $M/jobs/G/secret", M=m.mnt)
    mallory.sh("echo 'print(1)' > $M/jobs/probe", M=m.mnt)
    wait_until(lambda: "keeps" in m.why("probe"), "the slot to be kept")
    assert "secret" not in m.why("probe") and "another user's job" in m.why("probe")
    (m.work / "gate").write_text("\n")
    assert m.result("probe") == b"1\n"


# --- a name that is written again ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("what", ["results/x", "info/x/stdout", "info/x/wait"])
def test_who_waits_for_a_result_may_not_read_the_next_one(shared, alice, mallory, what):
    """Its name was given to a job that is closed to him: he is asked for his rights again."""
    m = shared
    alice.sh((JOB % "hold=1") + " > $M/jobs/x", M=m.mnt)
    reader = mallory.popen(["cat", m.mnt / what], stdout=-1, stderr=-1, text=True)
    wait_until(lambda: open("/proc/%d/wchan" % reader.pid).read() == "request_wait_answer", "the reader to wait")
    alice.sh("umask 077; echo 'print(\"secret\")' > $M/jobs/.x; mv $M/jobs/.x $M/jobs/x; cat $M/results/x", M=m.mnt)
    out, error = reader.communicate()
    assert out == "" and ("Permission denied" in error or "Stale" in error)
