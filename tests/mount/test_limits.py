"""max= and max_fails= of a group: as many of it run at once as it says, whatever else runs; after so many failures the rest is
cancelled, and says so. Each job notes that it runs and waits for a file, so the counts are exact and no time is looked at."""
import json
import sqlite3

import pytest

from ppfsmount import database_of, wait_until

RUNS = '#!/bin/sh\nmkdir {work}/on/$(echo $PPFS_JOB | tr / :)\nuntil [ -e {work}/go ]; do sleep 0.02; done\n'
CALL = 'import os, time\nopen(f"{work}/on/call{n}", "w").close()\nwhile not os.path.exists("{work}/go"): time.sleep(0.02)\n'


@pytest.fixture
def wide(new_mount):
    """A mount of six slots; the jobs of work() name themselves in work/on and run until work/go is there."""
    mount = new_mount(cpus=6)
    mount.start()
    (mount.work / "on").mkdir()
    return mount


def group(mount, name, options, n=0, content=RUNS):
    """A group with these options and n jobs, queued at once."""
    path = mount.jobs / ("." + name)
    path.mkdir()
    (path / ".options").write_text(options)
    for i in range(n):
        (path / ("j%d" % i)).write_text(content.format(work=mount.work))
    path.rename(mount.jobs / name)


def on(mount):
    return sorted(p.name for p in (mount.work / "on").iterdir())


def run_all(mount, name, tally):
    (mount.work / "go").touch()
    assert (mount.info / name / ".wait").read_text() == tally


def running_in(mount, names):
    return [name for name in names if mount.state(name) == "running"]


def test_as_many_run_as_the_group_says(wide):
    group(wide, "G", "max=2", 5)
    wait_until(lambda: len(on(wide)) == 2, "two of the group to run")
    wide.put("other", RUNS.format(work=wide.work))  # behind them, and not of the group
    wait_until(lambda: "other" in on(wide), "a job behind the full group to run")
    names = ["G/j%d" % i for i in range(5)]
    assert len(running_in(wide, names)) == 2
    waiting = [name for name in names if wide.state(name) == "queued"]
    whys = [wide.why(name).partition("; ")[0] for name in waiting]  # behind it: how many are before it
    assert set(whys) == {"queued: its group has 2 running, and jobs/G/.options says max=2"}
    run_all(wide, "G", "done 5 failed 0\n")


def test_a_limit_holds_for_the_groups_in_it(wide):
    group(wide, "G", "max=3")
    for inner in "ab":
        (wide.jobs / "G" / inner).mkdir()
    (wide.jobs / "G/a/.options").write_text("max=2")
    for i in range(3):
        for inner in "ab":
            wide.put("G/%s/j%s%d" % (inner, inner, i), RUNS.format(work=wide.work))
    wait_until(lambda: len(on(wide)) == 3, "three of both to run")
    wide.put("last", RUNS.format(work=wide.work))
    wait_until(lambda: "last" in on(wide), "a job outside to run")
    assert len(on(wide)) == 4 and len([name for name in on(wide) if name.startswith("G:a:")]) <= 2
    run_all(wide, "G", "done 6 failed 0\n")


def test_calls_of_a_stream_count(wide):
    group(wide, "G", "max=2")
    lines = [json.dumps({"call": "exec", "args": [CALL.format(work=wide.work, n=n)]}) for n in range(6)]
    with open(wide.jobs / "G/s.jsonl", "w") as f:
        f.write("\n".join(lines) + "\n")
    wait_until(lambda: len(on(wide)) == 2, "two calls to run")
    wide.put("G/job", RUNS.format(work=wide.work))
    wide.put("out", RUNS.format(work=wide.work))
    wait_until(lambda: "out" in on(wide), "a job outside to run")
    assert len(on(wide)) == 3 and wide.state("G/job") == "queued"
    run_all(wide, "G", "done 2 failed 0\n")
    assert len(wide.result("G/s.jsonl").splitlines()) == 6


def test_a_change_counts_for_what_is_queued(wide):
    group(wide, "G", "max=1", 4)
    wait_until(lambda: len(on(wide)) == 1, "one to run")
    (wide.jobs / "G/.options").write_text("max=3")
    wait_until(lambda: len(on(wide)) == 3, "three to run")
    (wide.jobs / "G/.options").unlink()
    wait_until(lambda: len(on(wide)) == 4, "all to run")
    run_all(wide, "G", "done 4 failed 0\n")


def test_a_job_that_waits_for_another_of_its_group(wide):
    """It lends its place in the group as it lends its slot."""
    group(wide, "G", "max=1")
    (wide.work / "go").touch()
    wide.put("G/outer", "#!/bin/sh\nprintf '#!/bin/sh\\necho inner\\n' > %s/jobs/G/inner; cat %s/results/G/inner\n" % (wide.mnt, wide.mnt))
    assert wide.result("G/outer") == b"inner\n"


def test_the_limit_is_there_after_a_kill(wide):
    group(wide, "G", "max=2", 5)
    wait_until(lambda: len(on(wide)) == 2, "two to run")
    wide.kill_daemon()
    for name in on(wide):
        (wide.work / "on" / name).rmdir()
    wait_until(lambda: len(on(wide)) == 2, "two to run again")
    wide.put("other", RUNS.format(work=wide.work))
    wait_until(lambda: "other" in on(wide), "another job to run")
    assert len(on(wide)) == 3
    run_all(wide, "G", "done 5 failed 0\n")


FAILS = "#!/bin/sh\nexit 3\n"


@pytest.mark.parametrize("killed", [False, True])
def test_after_so_many_failures_the_rest_is_cancelled(wide, killed):
    group(wide, "G", "max_fails=2 max=1")
    (wide.jobs / "G/sub").mkdir()
    wide.put("G/gate", RUNS.format(work=wide.work))
    wait_until(lambda: on(wide) == ["G:gate"], "the gate to run")
    for i in range(3):
        wide.put("G/f%d" % i, FAILS)
    wide.put("G/held", "#!/bin/sh\n#ppfs: hold=1\n")
    for i in range(40):
        wide.put("G/sub/j%d" % i, "#!/bin/sh\n#ppfs: priority=-1\n")
    (wide.jobs / "G/.draft").write_text("not closed as a job")
    (wide.work / "go").touch()
    if killed:
        wait_until(lambda: wide.state("G/f1") == "failed", "the second failure")
        wide.kill_daemon()
    assert (wide.info / "G/.wait").read_text() == "done 1 failed 2 cancelled 42\n"
    for name in ("G/f2", "G/held", "G/sub/j0", "G/sub/j39"):
        assert wide.state(name) == "cancelled"
        assert wide.why(name) == "cancelled: 2 jobs of its user have failed in this group, and jobs/G/.options says max_fails=2"
    assert (wide.jobs / "G/.draft").read_text() == "not closed as a job"
    wide.put("G/later", "#!/bin/sh\necho later\n")  # what comes afterwards runs
    assert wide.result("G/later") == b"later\n"


def test_a_running_job_says_why_it_was_cancelled(wide):
    group(wide, "G", "max_fails=1", 1)
    wait_until(lambda: on(wide) == ["G:j0"], "the job to run")
    wide.put("G/f", FAILS)
    assert (wide.info / "G/.wait").read_text() == "done 0 failed 1 cancelled 1\n"
    assert (wide.info / "G/j0/wait").read_text() == "cancelled\n"
    assert (wide.info / "G/j0/exit").read_text() == "SIGKILL\n"
    assert wide.why("G/j0") == "cancelled: 1 job of its user has failed in this group, and jobs/G/.options says max_fails=1"


def test_places_of_a_full_group_go_to_its_users_in_turn(shared, alice, mallory):
    """Also where one of them has calls of a stream, and slots are free."""
    (shared.jobs / "G").mkdir()
    (shared.jobs / "G").chmod(0o1777)
    (shared.jobs / "G/.options").write_text("max=1")
    lines = "\n".join(json.dumps({"call": "time.sleep", "args": [0.02]}) for _ in range(2000))
    p = mallory.sh("cd $M/jobs/G; echo \"$L\" > s.jsonl; for i in $(seq 300); do printf '#!/bin/sh\\nsleep 0.02' > m$i; done",
                   M=shared.mnt, L=lines)
    assert p.stderr == ""
    for i in range(5):
        p = alice.sh("printf '#!/bin/sh\\necho hers' > $M/jobs/G/a%d; cat $M/results/G/a%d" % (i, i), M=shared.mnt)
        assert (p.stdout, p.stderr) == ("hers\n", "")
    p = alice.sh("cd $M/jobs/G; echo '{\"call\": \"operator.add\", \"args\": [1, 2]}' > hers.jsonl; cat $M/results/G/hers.jsonl", M=shared.mnt)
    assert (p.stdout, p.stderr) == ("3\n", "")
    assert shared.state("G/m300") != "done" and shared.state("G/s.jsonl") == "running"


HELD = "printf '#!/bin/sh\\n#ppfs: hold=1' > "
FAIL = "for f in {f}; do echo 1/0 > $M/jobs/G/$f; cat $M/info/G/$f/wait; done"


def states(mount, *names):
    return [mount.state("G/" + name) for name in names]


@pytest.mark.parametrize("killed", [False, True])
def test_failures_of_a_user_end_only_jobs_of_his(shared, alice, mallory, killed):
    """In a group that several write into, each one's failures count for himself."""
    (shared.jobs / "G").mkdir()
    (shared.jobs / "G").chmod(0o1777)
    (shared.jobs / "G/.options").write_text("max_fails=2")
    assert mallory.sh(HELD + "$M/jobs/G/m; " + HELD + "$M/jobs/G/m2", M=shared.mnt).stderr == ""
    p = alice.sh(HELD + "$M/jobs/G/a; mkdir $M/jobs/G/A; " + HELD + "$M/jobs/G/A/a; printf '#!/bin/sh\\nsleep 1000' > $M/jobs/G/runs;" +
                 FAIL.format(f="fa"), M=shared.mnt)
    assert (p.stdout, p.stderr) == ("failed\n", "")
    wait_until(lambda: shared.state("G/runs") == "running", "her job to run")
    assert mallory.sh(FAIL.format(f="f1"), M=shared.mnt).stdout == "failed\n"
    assert states(shared, "m", "a") == ["held", "held"]  # two have failed, but not two of one user
    if killed:
        shared.kill_daemon()
    assert mallory.sh(FAIL.format(f="f2"), M=shared.mnt).stdout == "failed\n"
    for name in "m", "m2":
        wait_until(lambda: shared.state("G/" + name) == "cancelled", "mallory's to be cancelled")
        assert shared.why("G/" + name) == "cancelled: 2 jobs of its user have failed in this group, and jobs/G/.options says max_fails=2"
    wait_until(lambda: shared.state("G/runs") == "running", "her job to run on")
    assert states(shared, "a", "A/a") == ["held", "held"]
    p = mallory.sh("rm $M/failures/G/f1; " + HELD + "$M/jobs/G/m3; " + FAIL.format(f="f3"), M=shared.mnt)
    assert (p.stdout, p.stderr) == ("failed\n", "")  # again two of his are there
    wait_until(lambda: shared.state("G/m3") == "cancelled", "mallory's to be cancelled")
    assert states(shared, "a", "A/a") == ["held", "held"]
    assert alice.sh(FAIL.format(f="fb"), M=shared.mnt).stdout == "failed\n"
    for name in "a", "A/a", "runs":
        wait_until(lambda: shared.state("G/" + name) == "cancelled", "hers to be cancelled")


def test_a_failure_that_is_gone_or_runs_again_counts_no_longer(wide):
    group(wide, "G", "max_fails=2")
    wide.put("G/held", "#!/bin/sh\n#ppfs: hold=1\n")
    for i in range(2):
        wide.put("G/f%d" % i, FAILS)
        wide.wait("G/f%d" % i)
        (wide.failures / ("G/f%d" % i)).unlink()
    wide.put("G/again", "#!/bin/sh\ntest -e %s/go\n" % wide.work)
    wide.wait("G/again")
    (wide.work / "go").touch()
    (wide.failures / "G/again").rename(wide.jobs / "G/again")
    assert wide.wait("G/again") == "done"
    wide.put("G/last", FAILS)
    wide.wait("G/last")
    assert wide.state("G/held") == "held"
    wide.put("G/f", FAILS)
    wait_until(lambda: wide.state("G/held") == "cancelled", "the held one to be cancelled by the second failure")
    wide.sh("rm -r $M/info/G; rm -r $M/failures/G", check=False)
    wide.unmount()
    assert sqlite3.connect(database_of(wide.statedir)).execute("SELECT count(*) FROM fails").fetchone() == (0,)


def test_jobs_in_another_users_group_are_cancelled_only_by_root(shared, alice, mallory):
    p = mallory.sh("mkdir -p $M/jobs/G/own; chmod 777 $M/jobs/G $M/jobs/G/own", M=shared.mnt)
    assert p.stderr == ""
    p = alice.sh("cd $M; mkdir jobs/G/A; for d in own A .; do " + HELD + "jobs/G/$d/held; done; "
                 "mkdir jobs/G/A/B; " + HELD + "jobs/G/A/B/held; printf '#!/bin/sh\\nsleep 1000' > jobs/G/A/runs", M=shared.mnt)
    assert p.stderr == ""
    wait_until(lambda: shared.state("G/A/runs") == "running", "her job to run")
    assert mallory.sh("echo max_fails=1 > $M/jobs/G/.options", M=shared.mnt).stderr == ""
    assert alice.sh(FAIL.format(f="f"), M=shared.mnt).stdout == "failed\n"
    for name in "held", "own/held":
        wait_until(lambda: shared.state("G/" + name) == "cancelled", "what she has in mallory's groups to be cancelled")
    assert states(shared, "A/held", "A/runs", "A/B/held") == ["held", "running", "held"]
    mallory.sh("rm $M/jobs/G/.options", M=shared.mnt)
    (shared.jobs / "G/.options").write_text("max_fails=1")
    assert alice.sh(FAIL.format(f="f2"), M=shared.mnt).stdout == "failed\n"
    for name in "A/held", "A/runs", "A/B/held":
        wait_until(lambda: shared.state("G/" + name) == "cancelled", "%s to be cancelled by root's limit" % name)


def test_failed_calls_do_not_count_as_jobs(wide):
    group(wide, "G", "max_fails=1")
    (wide.jobs / "G/s.jsonl").write_text('{"call": "operator.truediv", "args": [1, 0]}\n{"call": "operator.add", "args": [1, 2]}\n')
    assert len(wide.result("G/s.jsonl").splitlines()) == 2


@pytest.mark.parametrize("options", ["max=0", "max=-1", "max=x", "max_fails=0", "max=1.5"])
def test_what_is_no_limit_is_refused(m, options):
    (m.jobs / "G").mkdir()
    with pytest.raises(OSError):
        (m.jobs / "G/.options").write_text(options)


@pytest.mark.parametrize("option", ["max=1", "max_fails=1"])
def test_a_job_alone_has_none(m, option):
    m.put("j", "#!/bin/sh\n#ppfs: %s\n" % option)
    assert m.failed("j")
    assert m.why("j") == "option %s= is of a group: it belongs into a .options file" % option.partition("=")[0]


def test_one_that_has_lent_its_slot_counts_again_whatever_changed_meanwhile(wide):
    """So many limited groups that those which nothing holds leave memory when one is changed."""
    (wide.node / "cpus").write_text("1")
    names = ["g%d" % i for i in range(70)]
    for name in [*names, "G"]:
        group(wide, name, "max=1")
    for name in names:
        wide.put(name + "/j", "#!/bin/sh\ntrue\n")
    for name in names:
        wide.wait(name + "/j")
    first, rest = wide.gate("inner").split("\n", 1)
    wide.put("inner", first + "\n#ppfs: hold=1\n" + rest)
    wide.put("G/outer", "#!/bin/sh\ncat %s\n" % (wide.results / "inner") + RUNS.format(work=wide.work))
    wide.is_running("G/outer")
    (wide.info / "inner" / "hold").write_text("0")
    wide.pid_of("inner")  # on the slot of G/outer
    (wide.jobs / "g0" / ".options").write_text("max=2")
    (wide.node / "cpus").write_text("6")
    wide.open_gate("inner")
    wait_until(lambda: on(wide), "G/outer to go on")
    wide.put("G/second", RUNS.format(work=wide.work))
    wide.put("other", RUNS.format(work=wide.work))
    wait_until(lambda: "other" in on(wide), "a job behind it to run")
    assert wide.why("G/second") == "queued: its group has 1 running, and jobs/G/.options says max=1"
    run_all(wide, "G", "done 2 failed 0\n")
