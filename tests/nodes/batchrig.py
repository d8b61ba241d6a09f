#!/usr/bin/python3
"""Stands in for the commands of PBS, SGE and HTCondor, under whose names it is called in $BATCH_DIR/bin: jobs are processes here,
and what it prints has the form of the real ones' documentation. It writes each command line to $BATCH_DIR/calls."""
import json
import os
import pathlib
import pwd
import re
import signal
import subprocess
import sys

DIR = pathlib.Path(os.environ["BATCH_DIR"])
ME = pwd.getpwuid(os.getuid()).pw_name
NAME, WORDS = pathlib.Path(sys.argv[0]).name, sys.argv[1:]
SYSTEM = os.environ["BATCH_SYSTEM"]


def jobs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(DIR.glob("*.job"), key=lambda p: int(p.stem))}


def runs(job):
    try:
        return pathlib.Path("/proc/%d/stat" % job["pid"]).read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def begin(script, name, **variables):
    number = len(jobs()) + 1
    pid = 0
    if not (DIR / "full").exists():
        (DIR / ("%d.sh" % number)).write_text(script)
        env = {k: v.replace("#", str(number)) for k, v in {**os.environ, **variables}.items()}
        pid = subprocess.Popen(["/bin/sh", DIR / ("%d.sh" % number)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True).pid
    (DIR / ("%d.job" % number)).write_text(json.dumps({"pid": pid, "name": name}))
    return number


def end(number):
    job = jobs()[str(number)]
    if job["pid"] and runs(job):
        os.kill(job["pid"], signal.SIGTERM)
    (DIR / ("%s.job" % number)).write_text(json.dumps({"pid": -1, "name": job["name"]}))


def shown():
    """Jobs that wait (pid 0) or run."""
    return [(n, job) for n, job in jobs().items() if job["pid"] == 0 or job["pid"] > 0 and runs(job)]


def pbs_qstat():
    for n, job in shown():
        print("Job Id: %s.head\n    Job_Name = %s\n    Job_Owner = %s@a.very.long.name.of.a.login.machine.of.the.cluster.exa\n\tmple.org"
              % (n, job["name"], ME))
        print("    job_state = %s\n    queue = batch" % ("R" if job["pid"] else "Q"))
        print("    exec_host = n003/0-1\n    resources_used.walltime = 00:00:09\n" if job["pid"] else "    comment = Not Running: none free\n")
    print("Job Id: 999.head\n    Job_Name = another\n    Job_Owner = %s@login\n    job_state = R\n" % ME)


def sge_qstat():
    def row(n, job):
        state, where = ("r", "all.q@n003") if job["pid"] else ("qw", "")
        start = "<JAT_start_time>2026-01-02T03:04:05</JAT_start_time>" if job["pid"] else "<JB_submission_time>2026-01-02T03:04:05</JB_submission_time>"
        return ("<job_list state='x'><JB_job_number>%s</JB_job_number><JAT_prio>0.5</JAT_prio><JB_name>%s</JB_name><JB_owner>%s</JB_owner>"
                "<state>%s</state>%s<queue_name>%s</queue_name><slots>1</slots></job_list>" % (n, job["name"], ME, state, start, where))
    print("<?xml version='1.0'?>\n<job_info xmlns:xsd='http://www.w3.org/2001/XMLSchema'><queue_info>%s</queue_info><job_info>%s</job_info></job_info>"
          % ("".join(row(*one) for one in shown() if one[1]["pid"]), "".join(row(*one) for one in shown() if not one[1]["pid"])))


def condor_q():
    found = [{"ClusterId": int(n), "ProcId": 0, "JobStatus": 2 if job["pid"] else 1, **({"RemoteHost": "slot1@n003"} if job["pid"] else {})}
             for n, job in shown()]
    if found:
        print(json.dumps(found))


def main():
    with open(DIR / "calls", "a") as calls:
        calls.write(" ".join([NAME, *WORDS]) + "\n")
    if (DIR / "refuse").exists() and NAME in ("qsub", "condor_submit"):
        sys.exit("%s: would exceed the queue's limit of jobs" % NAME)
    if NAME == "qsub":
        number = begin(sys.stdin.read(), WORDS[WORDS.index("-N") + 1], PBS_JOBID="#.head", JOB_ID="#")
        print("%d.head" % number if SYSTEM == "pbs" else number)
    elif NAME == "condor_submit":
        about = dict(re.findall(r"^(\S+) = (.*)$", sys.stdin.read(), re.MULTILINE))
        number = begin(pathlib.Path(about["executable"]).read_text(), about["My.PpfsMount"].strip('"'), PPFS_JOB="#-0")
        print("%d.0 - %d.0" % (number, number))
    elif NAME == "qstat":
        pbs_qstat() if SYSTEM == "pbs" else sge_qstat()
    elif NAME == "condor_q":
        condor_q()
    elif NAME == "qdel" or NAME == "condor_rm":
        for word in re.findall(r"ClusterId == (\d+)", WORDS[1]) if "-constraint" in WORDS else WORDS:
            end(word.partition(".")[0])


if __name__ == "__main__":
    main()
