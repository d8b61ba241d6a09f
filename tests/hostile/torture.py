#!/usr/bin/python3
"""torture.py [--seconds N] [--seed N]: the tests that kill, again and again with other seeds, until the time is over or one
fails; then it shows that one's output, which begins with its seed, and exits 1.

torture.py --planted [NAME...]: whether these tests find anything. Each of PLANTED is a bug: one place of a copy of the sources is
changed, the copy is built (from the objects of PPFS_BUILD, which is to be below the sources), and one of the tests is run
with it until it complains. Exits 1 when one of these bugs is not found in eight runs.
"""
import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("PPFS_BUILD") or TOP / "build").resolve()
RUNS = 8
TESTS = ("test_operations.py", "test_operations.py", "test_crash.py", "test_stream_kills.py", "test_power.py")  # the first is the broadest

PLANTED = {  # name: (what is wrong, file, old, new, which test, what it is to say)
    "reply": ("close() is answered before the commit", "fs/session/loop.c",
              "int rc = sched_commit(fs->sched);", "int rc = 0;\n        replies_send(fs, rc);\n        sched_commit(fs->sched);",
              "test_operations.py", "is None|said ENOENT"),
    "attempt": ("what an overtaken attempt printed is shown", "sched/runs/run_output.c",
                "int rc = r->attempt > 1 ? sched_drop_bodies(s, r->id, false) : 0;", "int rc = 0;", "test_operations.py", "was read as b'overtaken"),
    "part": ("a call that was answered runs again when its stream is read anew", "sched/calls/stream_calls.c",
             "return w->runs.size && number >= w->from;", "return false;", "test_stream_kills.py", "."),
    "cancel": ("a job that runs is said to be cancelled, but ends", "sched/jobs/control.c",
               "int rc = sched_transition(s, r, JOB_CANCELLED, 0);",
               "int rc = r->job.state == JOB_RUNNING ? 0 : sched_transition(s, r, JOB_CANCELLED, 0);", "test_operations.py", "was cancelled|was waited for"),
    "after": ("a job starts when what it waits for has begun", "sched/jobs/transition.c",
              "if (rc < 0 || !job_ended(to))\n", "if (rc == 0 && to == JOB_RUNNING)\n        rc = settle(s, j, true);\n"
              "    if (rc < 0 || !job_ended(to))\n", "test_operations.py", "which it was to wait for"),
    "twice": ("a job that is done is queued once more", "sched/runs/run.c",
              "return sched_transition(s, row, JOB_DONE, 0);",
              "return r->id % 8 || r->attempt > 1 ? sched_transition(s, row, JOB_DONE, 0) : sched_transition(s, row, JOB_QUEUED, 0);", "test_operations.py", "ran twice"),
}


def pytest(build, seed, *tests, **more):
    """(status, what it said)"""
    environment = {**os.environ, "PPFS_BUILD": str(build), "PPFS_WORKER": str(build / "ppfs-worker"), "PPFS_NET": str(build / "ppfs-net"),
                   "PPFS_NODE": str(build / "ppfs-node"), "PPFS_SEED": str(seed), **more}
    p = subprocess.run([sys.executable, "-B", "-m", "pytest", "-p", "no:cacheprovider", "-q", "-s", "-k", "kill or manual or binary or told",
                        *(str(Path(__file__).with_name(test)) for test in tests)], env=environment, capture_output=True, text=True)
    return p.returncode, p.stdout + p.stderr


def plant(name, where):
    """The directory with the programs that have that bug."""
    _, file, old, new, *_ = PLANTED[name]
    shutil.copytree(TOP, where, symlinks=True, ignore=lambda d, names: {n for n in names if Path(d, n) == TOP / ".git" or n.endswith(".so") or (
        Path(d) == TOP and Path(d, n) != BUILD and Path(d, n, "config.status").exists())})
    text = (where / file).read_text()
    if text.count(old) != 1:
        sys.exit("torture.py: %s has changed, and %r no longer says what to plant there" % (file, name))
    (where / file).write_text(text.replace(old, new))
    build = where / BUILD.relative_to(TOP)
    for made in (build / "config.status", build / "Makefile"):  # they name the sources by their full path
        made.write_text(made.read_text().replace(str(TOP), str(where)))
    subprocess.run(["make", "--quiet", "-C", str(build), "ppfs"], check=True, stdout=subprocess.DEVNULL)
    if filecmp.cmp(build / "ppfs", BUILD / "ppfs", shallow=False):
        sys.exit("torture.py: %r was not built" % name)
    return build


def planted(names):
    missed = []
    for name in names or PLANTED:
        what, *_, test, says = PLANTED[name]
        with tempfile.TemporaryDirectory(prefix="ppfs-planted.") as d:
            build, began = plant(name, Path(d) / "ppfs"), time.monotonic()
            for seed in range(1, RUNS + 1):
                status, said = pytest(build, seed, test)
                found = [line for line in said.splitlines() if line.startswith("E ") and re.search(says, line)]
                if status and found:
                    break
        print("%-8s %s: %s" % (name, what, "found in run %d, %.0f s: %s" % (seed, time.monotonic() - began, found[0][2:].strip()[:200])
                               if status and found else "NOT FOUND in %d runs" % RUNS), flush=True)
        if not (status and found):
            missed.append(name)
            print(said[-3000:])
    return 1 if missed else 0


def torture(seconds, seed):
    end, began = time.monotonic() + seconds, time.monotonic()
    runs = 0
    while time.monotonic() < end:
        test = TESTS[runs % len(TESTS)]
        status, said = pytest(BUILD, seed + runs, test)
        for line in said.splitlines():
            if re.match(r"\.?\d+ (jobs|calls)|\.?PPFS_", line):
                print("%s: %s" % (test, line.lstrip(".")), flush=True)
        if status:
            print(said)
            return 1
        runs += 1
    print("%d runs in %.0f s, nothing found" % (runs, time.monotonic() - began))
    return 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0, help="0: another each time")
    parser.add_argument("--planted", nargs="*", metavar="NAME", choices=(*PLANTED, []))
    options = parser.parse_args()
    return torture(options.seconds, options.seed or time.time_ns() % 1_000_000) if options.planted is None else planted(options.planted)


if __name__ == "__main__":
    sys.exit(main())
