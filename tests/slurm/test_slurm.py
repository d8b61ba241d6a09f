"""ppfs-slurm against a real Slurm: machines join, are asked for and let go as work comes and goes."""
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from ppfsmount import BUILD, clean_env, wait_until
from processes import exe_of, text_of
from slurmrig import PROGRAM, Lender

HOST = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname().split(".")[0])[:40]


def stay(m, name):
    """A job that runs until its gate is opened; returns when it runs."""
    m.put(name, m.gate(name))
    m.pid_of(name)


def ended(lend):
    wait_until(lambda: not lend.cluster.jobs(), "all machines to leave")
    wait_until(lambda: not lend.names(), "nodes/ to be empty")


def test_start_brings_machines_that_run_jobs_and_stop_ends_them(ml, lend):
    out = lend("start", "--nodes", 2, "--cpus", 1, "--time", "1h", "--wait")
    assert len(re.findall(r"has joined with 1 slots", out)) == 2
    names = lend.names()
    assert len(names) == 2 and all(re.fullmatch(re.escape(HOST) + r"-\d+", n) for n in names)
    ml.put("a.sh", "#!/bin/sh\n#ppfs: node=%s\necho $PPFS_NODE\n" % names[1])
    assert ml.result("a.sh").decode() == names[1] + "\n"
    said = lend("status")
    assert all(re.search(r"^\d+_[01] +running .* %s +up +1 " % n, said, re.MULTILINE) for n in names)
    assert said.splitlines()[-1] == "Slurm lends 2 machines to %s" % ml.mnt
    assert lend.cluster.run("squeue", "--noheader", "--format=%l").split() == ["1:00:00"] * 2
    assert "told 2 machines to leave" in lend("stop", "--wait")
    assert not lend.cluster.jobs()
    assert [p.name for p in (ml.mnt / "nodes").iterdir() if p.name[0] != "."] == ["local"]
    assert lend("status") == "Slurm lends no machines to %s\n" % ml.mnt
    words = [word for word in lend.argv("status") if word != str(ml.mnt)]
    p = subprocess.run(words, env={**lend.env, "PPFS": str(ml.mnt)}, capture_output=True, text=True, timeout=50)
    assert p.stdout == "Slurm lends no machines to %s\n" % ml.mnt


def test_a_whole_machine_lends_all_its_processors(ml, lend):
    lend("start", "--wait")
    name, = lend.names()
    assert text_of(ml.mnt / "nodes" / name / "cpus") == "4\n"


def test_an_idle_machine_leaves(ml, lend):
    lend("start", "--cpus", 1, "--idle-exit", 1, "--wait")
    ended(lend)


def test_stop_lets_end_what_runs_and_cancels_what_has_not_begun(ml, lend):
    lend("start", "--nodes", 2, "--cpus", 3)
    wait_until(lend.names, "one to join")
    stay(ml, "g")
    assert sorted(state for _, state in lend.cluster.jobs()) == ["PENDING", "RUNNING"]
    lend("stop")
    name, = [p.name for p in (ml.mnt / "nodes").iterdir() if p.name.startswith(HOST)]
    wait_until(lambda: text_of(ml.mnt / "nodes" / name / "state") == "drain\n", "the machine to drain")
    assert [state for _, state in lend.cluster.jobs()] == ["RUNNING"]
    ml.open_gate("g")
    assert ml.result("g") == b"through g\n" and ml.get("g", "attempt") == "1"
    ended(lend)


@pytest.mark.parametrize("how", [(), ("--wait",), ("--now",)])
def test_stop_while_most_are_pending(ml, lend, how):
    """Those that are told to leave do so at once, and make room for those that wait: none of these may begin and stay."""
    lend("start", "--nodes", 99, "--cpus", 1)
    wait_until(lambda: len(lend.names()) == 4, "as many to join as there are processors")
    assert lend("status").splitlines()[-1] == "Slurm lends 4 machines to %s (4 running of 99 asked for)" % ml.mnt
    out = lend("stop", *how)
    assert "told 4 machines to leave, cancelled 95 machines that had not begun" in out
    if how:
        assert not lend.cluster.jobs()
    ended(lend)


def test_stop_goes_on_after_an_error_and_says_it_at_the_end(ml, lend):
    """One that has ended between the look and the scancel is no error, one that cannot be told is."""
    lend("start", "--nodes", 4, "--cpus", 1, "--wait")
    deaf = lend.cluster.jobs()[1][0]
    bin = ml.base / "bin"
    bin.mkdir()
    (bin / "scancel").write_text("#!/bin/sh\ncase \" $* \" in *' %s '*) [ -e %s/hears ] || exit 1;; esac\n"
                                 "exec /usr/bin/scancel \"$@\"\n" % (deaf, bin))
    (bin / "scancel").chmod(0o755)
    lend.env["PATH"] = "%s:%s" % (bin, lend.env["PATH"])
    p = lend.run("stop")
    assert p.returncode == 1 and p.stdout.startswith("told 4 machines to leave")
    assert p.stderr == "ppfs-slurm: 1 machine could not be told to leave; of job %s: scancel failed: it said nothing\n" % deaf
    wait_until(lambda: [job for job, _ in lend.cluster.jobs()] == [deaf], "the others to leave")
    (bin / "hears").touch()
    lend("stop", "--wait")


def test_stop_now_gives_the_job_back(ml, lend):
    lend("start", "--cpus", 1, "--wait")
    stay(ml, "g")
    lend("stop", "--now")
    assert not lend.cluster.jobs() and not lend.names()
    wait_until(lambda: ml.state("g") == "queued", "the job to be queued again")
    ml.open_gate("g")
    (ml.node / "cpus").write_text("1\n")
    assert ml.result("g") == b"through g\n" and ml.get("g", "attempt") == "2"


def test_a_plain_scancel_gives_back_what_bears_it(ml, lend):
    """Slurm sends SIGTERM to the jobs as well; what does not mind is given back at once, before Slurm kills the machine."""
    lend("start", "--cpus", 1, "--wait")
    go, log = ml.work / "go", ml.base / "logs"
    ml.put("g", "#!/bin/sh\ntrap '' TERM\nuntil [ -e %s ]; do sleep 0.05; done\necho $PPFS_ATTEMPT\n" % go)
    ml.is_running("g")
    lend.cluster.run("scancel", lend.cluster.jobs()[0][0])
    wait_until(lambda: ml.state("g") == "queued", "the job to be queued again")
    ended(lend)
    assert any(text_of(path).rstrip().endswith(" leaves") for path in log.iterdir()), "it was killed"
    go.touch()
    (ml.node / "cpus").write_text("1\n")
    assert ml.result("g") == b"2\n"


def test_before_its_time_is_up_a_machine_takes_no_more_and_gives_back_what_still_runs(ml, lend):
    lend("start", "--cpus", 2, "--time", "2m", "--wait")
    stay(ml, "g")
    lend.cluster.run("scancel", "--batch", "--signal=USR1", lend.cluster.jobs()[0][0])
    wait_until(lambda: not lend.names(), "the machine to drain")
    ml.put("more.sh", "#!/bin/sh\n")
    assert ml.state("g") == "running"
    ended(lend)
    wait_until(lambda: ml.state("g") == "queued", "the job to be queued again")
    assert ml.state("more.sh") == "queued"


def test_auto_asks_when_jobs_wait_and_lets_go_when_none_do(ml, lend):
    ml.put("held.sh", "#!/bin/sh\n#ppfs: hold=1\n")  # waits, but not for a machine
    auto = lend.auto("--cpus", 1, "--max", 1, "--idle-exit", "2")
    for i in range(3):
        ml.put("j%d" % i, "#!/bin/sh\necho $PPFS_NODE\n")
    for i in range(3):
        assert ml.result("j%d" % i).decode().startswith(HOST)
    ended(lend)
    wait_until(lambda: "has left" in lend.log(), "the end to be noticed")
    assert lend.log().count("asked Slurm for 1 machine:") == 1 and "asked Slurm for 2" not in lend.log()
    assert ml.state("held.sh") == "held"
    auto.send_signal(signal.SIGINT)
    assert auto.wait(20) == 130 and "Traceback" not in lend.log()


def test_auto_asks_for_as_many_as_the_calls_of_a_stream_can_use(ml, lend):
    lend.auto("--cpus", 1, "--max", 3, "--idle-exit", "2")
    gate = ml.work / "go"
    ml.put("s.jsonl", "".join('{"run": ["sh", "-c", "until [ -e %s ]; do sleep 0.05; done; echo %d"]}\n' % (gate, i)
                              for i in range(8)))
    wait_until(lambda: len(lend.names()) == 3, "three to join")
    gate.touch()
    assert len(ml.result("s.jsonl").splitlines()) == 8
    ended(lend)
    assert "asked Slurm for 4" not in lend.log()


def test_auto_learns_how_large_a_machine_is_and_keeps_the_fewest(ml, lend):
    auto = lend.auto("--min", 1, "--max", 2, "--idle-exit", "2")
    wait_until(lend.names, "the one that is kept")
    for i in range(4):  # as many as it has slots
        stay(ml, "g%d" % i)
    assert len(lend.cluster.jobs()) == 1
    again = lend.run("auto")
    assert again.returncode == 1 and "process %d" % auto.pid in again.stderr
    assert "process %d" % auto.pid in lend("status")
    for i in range(4):
        ml.open_gate("g%d" % i)
        ml.wait("g%d" % i)
    out = lend("stop", "--wait")
    assert "ended ppfs-slurm auto, process %d" % auto.pid in out
    assert auto.wait(20) == 143
    assert not lend.cluster.jobs()


def test_auto_cancels_what_has_not_begun_and_is_not_needed(ml, lend):
    lend("start", "--cpus", 3, "--wait", "--idle-exit", "0")  # so that no other fits
    (ml.mnt / "nodes" / lend.names()[0] / "state").write_text("drain\n")
    lend.auto("--cpus", 2, "--max", 1, "--idle-exit", "2")
    ml.put("a.sh", "#!/bin/sh\n")
    wait_until(lambda: "PENDING" in dict(lend.cluster.jobs()).values(), "one to be asked for")
    (ml.jobs / "a.sh").unlink()
    wait_until(lambda: [s for _, s in lend.cluster.jobs()] == ["RUNNING"], "it to be cancelled")


def test_auto_outlives_a_slurmctld_that_is_restarted(ml, lend):
    auto = lend.auto("--cpus", 1, "--max", 1, "--idle-exit", "2")
    lend.cluster.stop_controller()
    wait_until(lambda: "squeue failed" in lend.log(), "auto to notice")
    lend.cluster.start_controller()
    ml.put("a.sh", "#!/bin/sh\necho $PPFS_NODE\n")
    assert ml.result("a.sh").decode().startswith(HOST)
    assert auto.poll() is None and lend.log().count("it is tried again") == 1


def test_auto_gives_up_when_no_machine_can_join(ml, lend):
    ml.put("a.sh", "#!/bin/sh\n")
    auto = lend.auto("--cpus", 1, "--max", 1, "--program", "/nonexistent/ppfs-node")
    assert auto.wait(50) == 1
    last = [line for line in lend.log().splitlines() if line.startswith("ppfs-slurm: ")]
    assert len(last) == 1 and "3 machines in a row did not join" in last[0] and "no /nonexistent/ppfs-node" in last[0]


def test_start_wait_says_why_a_machine_did_not_join(ml, lend):
    p = lend.run("start", "--wait", "--cpus", 1, "--python", "/nonexistent")
    assert p.returncode == 1 and p.stderr.count("\n") == 1 and "no Python at /nonexistent" in p.stderr


def fds_of(pid):
    try:
        return ["/proc/%d/fd/%s" % (pid, n) for n in os.listdir("/proc/%d/fd" % pid)]
    except OSError:
        return []


def test_a_key_can_be_sent_with_the_job(ml, lend):
    key = ml.base / "key"
    key.write_bytes((ml.statedir / "join.key").read_bytes())
    lend("start", "--key", key, "--send-key", "--cpus", 1, sbatch=["--hold"])  # an option of sbatch
    key.unlink()
    job, = lend.cluster.jobs()
    lend.cluster.run("scontrol", "release", job[0])
    wait_until(lend.names, "it to join")
    node, = [pid for pid in lend.cluster.marked() if exe_of(pid) == str(BUILD / "ppfs-node")]
    words = text_of("/proc/%d/cmdline" % node).split("\0")
    sent = Path("/proc/%d/fd" % node) / Path(words[words.index("--key") + 1]).name
    assert sent.read_bytes() == (ml.statedir / "join.key").read_bytes() and sent.stat().st_mode & 0o777 == 0o600
    assert os.readlink(sent).endswith(" (deleted)")  # kill -9 leaves nothing
    holders = [pid for pid in lend.cluster.marked() for fd in fds_of(pid) if os.path.exists(fd) and os.path.samefile(fd, sent)]
    assert holders == [node]
    lend("stop", "--wait")


def test_a_machine_with_another_key_does_not_join_and_status_says_so(ml, lend):
    key = ml.base / "key"
    key.write_text(re.sub("secret: ..", "secret: 00", (ml.statedir / "join.key").read_text()))
    key.chmod(0o600)
    lend("start", "--key", key, "--cpus", 1)
    wait_until(lambda: "not joined" in lend("status"), "it to run")
    assert not lend.names()


def test_machines_belong_to_one_mount(ml, new_mount, cluster, lend, base):
    (base / "second").mkdir()
    other = Lender(new_mount(base=base / "second", cpus=0, options=["--listen", "127.0.0.1:0"]).start(), cluster)
    lend("start", "--cpus", 1, "--wait")
    assert "no machines" in other("stop") and "no machines" in other("status")
    assert len(lend.names()) == 1
    lend("stop", "--wait")


def one_line(p, status, *says):
    assert p.returncode == status and p.stdout == "", p.stderr
    assert p.stderr.startswith("ppfs-slurm: ") and p.stderr.count("\n") == 1, p.stderr
    assert all(say in p.stderr for say in says), p.stderr


@pytest.mark.parametrize("words, says", [
    (["start", "--nodes", "0"], "--nodes"),
    (["start", "--time", "60"], "write 30m, 2h, 1d or HH:MM:SS"),
    (["start", "--time", "soon"], "--time"),
    (["start", "--cpus", "many"], "--cpus"),
    (["start", "--frobnicate"], "--frobnicate"),
    (["auto", "--min", "3", "--max", "2"], "--min 3 is more than --max 2"),
    (["auto", "--every", "9", "--idle-exit", "10"], "twice --every"),
    (["begin"], "begin"),
])
def test_a_wrong_command_line(ml, lend, words, says):
    one_line(lend.run(*words), 2, says)


def test_sentences_for_what_cannot_be(ml, lend, new_mount, cluster, base):
    one_line(lend.run("start", "--key", "/nonexistent"), 1, "/nonexistent", "--key FILE")
    one_line(lend.run("start", env={"PATH": "/nonexistent"}), 1, "is not in PATH")
    one_line(lend.run("start", "--partition", "nowhere"), 1, "sbatch failed", "partition")
    one_line(lend.run("start", sbatch=["--frobnicate"]), 1, "sbatch failed", "frobnicate")
    words = lend.argv("start", "--cpus", "1")
    words[words.index("--address"):words.index("--address") + 2] = []
    p = subprocess.run(words, env=lend.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=50)
    one_line(p, 1, "listens at 127.0.0.1", "--listen 0.0.0.0", "--address")
    (base / "deaf").mkdir()
    deaf = Lender(new_mount(base=base / "deaf", cpus=0).start(), cluster)
    for command in ("start", "auto"):
        one_line(deaf.run(command), 1, "lets nobody join", "ppfs --listen")
    deaf.mount.unmount()
    for command in ("start", "auto"):
        one_line(deaf.run(command), 1, "no ppfs mounted at %s" % deaf.mount.mnt)
    assert not cluster.jobs()


def test_help_and_version(base):
    env = {**clean_env(base), "PATH": "/usr/bin:/bin"}  # where no ppfs is installed
    for words in (["--help"], ["start", "--help"], ["auto", "--help"]):
        p = subprocess.run([PROGRAM, *words], env=env, stdout=subprocess.PIPE, text=True, timeout=50)
        assert p.returncode == 0 and "usage: ppfs-slurm" in p.stdout
    p = subprocess.run([PROGRAM, "--version"], env=env, stdout=subprocess.PIPE, text=True, timeout=50)
    ppfs = subprocess.run([BUILD / "ppfs", "--version"], env=env, stdout=subprocess.PIPE, text=True, timeout=50)
    assert p.stdout.split() == ["ppfs-slurm", ppfs.stdout.split()[1]]
