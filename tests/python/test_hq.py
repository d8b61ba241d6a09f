"""ppfs-hq, by the command lines that Nextflow's HyperQueueExecutor makes and the headers that it writes. Nextflow itself is in no
package of Debian's, so no pipeline of its runs here."""
import json
import os
import subprocess

import pytest
from conftest import SCRIPTS
import ppfsmount
from ppfsmount import wait_until

SUBMIT = ["hq", "--output-mode=quiet", "submit", "--directives=file", ".command.run"]
LIST = ["hq", "--output-mode=quiet", "job", "list", "--all"]
HEADER = """#!/bin/bash
#HQ --name nf-task-1
#HQ --log %(log)s
#HQ --cwd %(cwd)s
%(more)s
# NEXTFLOW TASK: task-1
set -e
"""
EVERYTHING = """#HQ --resource mem=104857600
#HQ --cpus 2
#HQ --time-limit 60sec
"""


class Nextflow:
    """Does with a task what Nextflow's grid executor does."""

    def __init__(self, m):
        self.m = m
        self.env = {**m.client_env(), "PPFS": str(m.mnt),
                    "PATH": os.pathsep.join((str(SCRIPTS / "nextflow"), str(SCRIPTS), "/usr/bin", "/bin"))}

    def call(self, words, cwd=None, status=0):
        p = subprocess.run(words, cwd=cwd, env=self.env, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, timeout=60)
        assert p.returncode == status, p.stdout
        return p.stdout

    def submit(self, text, name="work", more="", **how):
        place = self.m.work / name
        place.mkdir(exist_ok=True)
        path = str(place)
        if " " in path:
            path = '"%s"' % path.replace(" ", "\\ ")
        log = path[:-1] + '/.command.log"' if path[-1] == '"' else path + "/.command.log"
        (place / ".command.run").write_text(HEADER % {"cwd": path, "log": log, "more": more} + text)
        said = self.call(SUBMIT, cwd=place, **how)
        return (str(int(said.strip())) if not how else said), place

    def states(self):
        return dict(line.split(" ") for line in self.call(LIST).splitlines())


@pytest.fixture
def nextflow(m):
    return Nextflow(m)


def test_a_task(m, nextflow):
    job, place = nextflow.submit("echo printed; echo error >&2; echo $PPFS_CPUS $PWD > out; echo 0 > .exitcode\n", more=EVERYTHING)
    wait_until(lambda: nextflow.states()[job] == "FINISHED", "the task to end")
    assert (place / "out").read_text() == "2 %s\n" % place
    assert (place / ".command.log").read_text() == "printed\nerror\n" and (place / ".exitcode").exists()
    options = (m.mnt / "info" / ("hq-%d" % os.geteuid()) / job / "spec").read_text()
    assert json.loads(options).items() >= {"cpus": 2, "memory": "104857600", "timeout": "60s", "keep": "24h"}.items(), options


def test_states_and_cancel(m, nextflow):
    """Those that wait, run, fail and are cancelled, several in one command."""
    ended, _ = nextflow.submit("exit 3\n", "failing")
    running = [nextflow.submit("sleep 60\n", "r%d" % n)[0] for n in range(2)]
    wait_until(lambda: [nextflow.states()[one] for one in running] == ["RUNNING"] * 2, "two to run")
    waiting, _ = nextflow.submit("echo 1 > ran\n", "waits")
    states = nextflow.states()
    assert (states[ended], states[waiting]) == ("FAILED", "WAITING")
    assert set(nextflow.call(["hq", "job", "list"]).split()[::2]) == {*running, waiting}
    assert nextflow.call(["hq", "job", "cancel", ",".join([*running, waiting, ended, "17"])]) == ""
    wait_until(lambda: [nextflow.states()[one] for one in (*running, waiting)] == ["CANCELED"] * 3, "all to be cancelled")
    assert not (m.work / "waits" / "ran").exists() and nextflow.states()[ended] == "FAILED"


def test_a_name_with_blanks(m, nextflow):
    job, place = nextflow.submit("echo 1 > ran; echo x\n", "a dir")
    wait_until(lambda: nextflow.states()[job] == "FINISHED", "the task to end")
    assert (place / "ran").exists() and (place / ".command.log").read_text() == "x\n"


def test_a_daemon_that_is_killed(m, nextflow):
    """Each task runs to its end."""
    jobs = [nextflow.submit("sleep 0.1; echo 1 >> ran\n", "t%d" % n) for n in range(6)]
    m.kill_daemon()
    wait_until(lambda: [nextflow.states().get(job) for job, _ in jobs] == ["FINISHED"] * 6, "all to end")
    assert all((place / "ran").exists() for _, place in jobs)


def test_what_is_not_understood(m, nextflow):
    """Is said, and nothing runs."""
    said, _ = nextflow.submit("", more="#HQ --crash-limit 3", status=1)
    assert "does not know the directive --crash-limit 3" in said
    said, _ = nextflow.submit("", more="#HQ --cpus all", status=1)
    assert "--cpus all" in said
    said, _ = nextflow.submit("", more="#HQ --resource mem=none", status=1)
    assert "option memory=none is not understood" in said
    assert nextflow.states() == {} if (m.mnt / "info" / ("hq-%d" % os.geteuid())).exists() else True
    assert nextflow.call(["hq", "worker", "start"], status=2).startswith("Usage: hq")
    assert "job cancel takes numbers" in nextflow.call(["hq", "job", "cancel", "last"], status=1)
    nextflow.env["PPFS"] = str(m.base)
    assert "ppfs-hq: " in nextflow.call(LIST, status=1)
