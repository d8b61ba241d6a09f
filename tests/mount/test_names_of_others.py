"""A name that one user had and another has now: what is kept open of the old one opens nothing of the new one."""
import os

import pytest

KEPT = r"""
import os, sys
m, name = sys.argv[1:]
def job(text):
    with open("%s/jobs/%s" % (m, name), "w") as f:
        f.write(text)
    return open("%s/results/%s" % (m, name))
kept = [job("print('mine')\n"), open("%s/info/%s/stdout" % (m, name)), open("%s/info/%s/spec" % (m, name))]
[f.read() for f in kept]
kept.append(os.open("%s/info/%s" % (m, name), os.O_PATH))
os.rmdir("%s/info/%s" % (m, name))
print("ready", flush=True)
sys.stdin.readline()
def show(path):
    try:
        with open(path) as f:
            print(repr(f.read()))
    except OSError as e:
        print(e.strerror)
for f in kept[:3]:
    show("/proc/self/fd/%d" % f.fileno())
for file in "stdout", "spec", "why", "state":
    show("/proc/self/fd/%d/%s" % (kept[3], file))
"""


def test_what_is_kept_of_a_name_that_is_anothers_now(shared, alice, mallory):
    p = mallory.popen(["/usr/bin/python3", "-c", KEPT, shared.mnt, "x"], stdin=-1, stdout=-1, text=True)
    assert p.stdout.readline() == "ready\n"
    q = alice.sh("umask 077; echo 'print(\"secret\")' > $M/jobs/x; cat $M/results/x; stat -c %a $M/results/x", M=shared.mnt)
    assert (q.stdout, q.stderr) == ("secret\n400\n", "")
    out = p.communicate("\n")[0]
    assert "secret" not in out, out


@pytest.mark.parametrize("old,new,job", [("x", "hidden/y", "x"), ("G", "hidden/G", "G/x")])
def test_a_renamed_job_leaves_its_name_everywhere(shared, alice, mallory, old, new, job):
    """Who has just looked it up finds by the old name the job that is there now, or none."""
    (shared.node / "cpus").write_text("0")
    p = mallory.popen(["/bin/bash", "-c", "cd $M; read; stat -c %s results/$J info/$J; echo; read; "
                       "cat info/$J/spec; cat info/$J/state; [ -e results/$J ] || echo none"],
                      env={"M": str(shared.mnt), "J": job}, text=True, stdin=-1, stdout=-1, stderr=-3)
    q = alice.sh("cd $M/jobs; mkdir -m 700 hidden; mkdir G; echo 'print(\"secret\")' > $J", M=shared.mnt, J=job)
    assert q.stderr == ""
    p.stdin.write("\n")
    p.stdin.flush()
    assert [p.stdout.readline() for _ in range(3)][-1] == "\n"
    os.rename(shared.jobs / old, shared.jobs / new)
    assert p.communicate("\n")[0] == "none\n"


def test_the_result_of_a_name_that_was_renamed_away_is_that_of_the_next(shared):
    (shared.node / "cpus").write_text("0")
    shared.put("x", "print('old')\n")
    assert (shared.results / "x").exists() and shared.state("x") in ("queued", "waiting")
    os.rename(shared.jobs / "x", shared.jobs / "y")
    shared.put("x", "print('new')\n")
    (shared.node / "cpus").write_text("2")
    assert (shared.result("x"), shared.result("y")) == (b"new\n", b"old\n")


FOLLOWS = r"""
import os, sys
m = sys.argv[1]
files = [os.open("%s/%s" % (m, p), os.O_RDONLY) for p in ("results/G/x", "info/G/x/stdout", "info/G/x/spec")]
files += [os.open("%s/info/G/x" % m, os.O_PATH), os.open("%s/info/G/x/why" % m, os.O_PATH)]
events = open("%s/info/G/y/events" % m)
print(events.readline(), flush=True)
sys.stdin.readline()
def show(path):
    try:
        with open(path) as f:
            print(repr(f.read()))
    except OSError as e:
        print(e.strerror)
for fd in files:
    show("/proc/self/fd/%d" % fd)
for file in "stdout", "spec", "why", "state":
    show("/proc/self/fd/%d/%s" % (files[3], file))
print(events.read())
"""


def test_what_is_kept_of_a_group_that_was_closed(shared, alice, mallory):
    """The next job of a name, and what happens to the old ones, are in the closed group alone."""
    q = alice.sh("cd $M/jobs; mkdir G; echo 'print(\"old\")' > G/x; cat ../results/G/x; printf '#!/bin/sh\\n#ppfs: hold=1\\n' > G/y",
                 M=shared.mnt)
    assert (q.stdout, q.stderr) == ("old\n", "")
    p = mallory.popen(["/usr/bin/python3", "-c", FOLLOWS, shared.mnt], stdin=-1, stdout=-1, text=True)
    assert '"submitted"' in p.stdout.readline()
    q = alice.sh("cd $M/jobs; chmod 700 G; echo 'print(\"secret\")' > G/x; cat ../results/G/x; mkdir -m 700 hidden; mv G/y hidden/secret;"
                 "echo 0 > ../info/hidden/secret/hold; cat ../info/hidden/secret/wait; cat ../info/hidden/secret/events", M=shared.mnt)
    assert q.stdout.startswith("secret\ndone\n") and '"hidden/secret"' in q.stdout and q.stderr == ""
    out = p.communicate("\n")[0]
    assert "secret" not in out, out


def test_a_rewritten_name_in_a_closed_group_is_read_by_its_user(shared, alice):
    """By what he keeps of the old one, as in an open group."""
    q = alice.sh("cd $M; mkdir -m 700 jobs/G; echo 'print(1)' > jobs/G/x; cat results/G/x; exec 3< results/G/x;"
                 "echo 'print(2)' > jobs/G/x; cat results/G/x; cat /dev/fd/3", M=shared.mnt)
    assert (q.stdout, q.stderr) == ("1\n2\n2\n", "")
