"""The trace of transitions: what it says of a job, and the switch that turns it while ppfs runs."""
import os
import signal

from ppfsmount import wait_until


def transitions(m, name):
    """The states that the log has of that job, in their order."""
    lines = [line.split(" %s: " % name)[1] for line in m.log().splitlines() if "trace: job " in line and " %s: " % name in line]
    return [lines[0].split(" -> ")[0], *(line.split(" -> ")[1] for line in lines)] if lines else []


def turn(m, says):
    before = m.log().count(says)
    os.kill(int((m.statedir / "lock").read_text()), signal.SIGUSR2)
    wait_until(lambda: m.log().count(says) > before, "the log says that the trace was turned")


def test_from_the_start(new_mount):
    m = new_mount(options=["--trace"]).start()
    m.put("good", "#!/bin/sh\ntrue\n")
    m.result("good")
    m.put("bad", "#!/bin/sh\nfalse\n")
    m.failed("bad")
    assert transitions(m, "good") == ["draft", "running", "done"]
    assert transitions(m, "bad") == ["draft", "running", "failed"]


def test_of_a_request_that_waits(new_mount):
    m = new_mount(options=["--trace"]).start()
    m.put("g", m.gate("g"))
    reader = m.reader(m.results / "g")
    m.open_gate("g")
    assert reader.communicate()[0] == b"through g\n"
    said = [line.split(": ", 3)[2:] for line in m.log().splitlines() if "trace: request " in line]
    steps = [step for request, step in said if request == said[0][0]]
    assert steps[0] == "handled -> parked" and steps[-1] == "parked -> answered", steps


def test_turned_on_and_off_while_it_runs(m):
    m.put("silent", "1")
    m.result("silent")
    turn(m, "transitions are traced\n")
    m.put("told", "1")
    m.result("told")
    m.kill_daemon()
    m.put("after", "1")  # the next daemon goes on with it
    m.result("after")
    turn(m, "transitions are traced no longer\n")
    m.put("quiet", "1")
    m.result("quiet")
    assert transitions(m, "silent") == transitions(m, "quiet") == []
    assert transitions(m, "told")[-1] == transitions(m, "after")[-1] == "done"


def test_the_daemon_itself_is_not_ended_by_the_signal(m):
    os.kill(m.pids()["daemon"], signal.SIGUSR2)
    m.works()
    assert m.pids()["daemon"] == m.first_daemon


def test_of_a_stream_and_its_lease(new_mount):
    m = new_mount(options=["--trace"]).start()
    m.put("s.jsonl", '{"call": "math.sqrt", "args": [16]}\n')
    assert m.result("s.jsonl") == b"4.0\n"
    wait_until(lambda: "-> ended" in m.log(), "its lease has ended")
    said = [line.split("trace: ")[1] for line in m.log().splitlines() if "trace: " in line]
    stream = [line.split(": ")[1] for line in said if line.startswith("stream ")]
    lease = [line.split(": ")[1] for line in said if line.startswith("lease ")]
    assert stream[0] == "stored -> open" and stream[-1] == "parsed -> stored", stream
    assert lease == ["live -> finishing", "finishing -> ended"], lease
