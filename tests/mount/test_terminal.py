"""What users write does not act on the log, nor on the terminal of who reads a reason: it is shown escaped."""
import os
import re
import subprocess
import textwrap

import pytest
from ppfsmount import PPFS, PYTHON, SLOW, TOP, wait_until

FORGED = "x\n2026-01-01T00:00:00Z ppfs[1]: all is well"
NASTY = ["\x1b]0;owned\x07\x1b[2J", "a\nb\rc\td", "\u202egnp.exe", "\x9b31m", "\u2028", os.fsdecode(b"\xff\xfe")]
LINE = re.compile(rb"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ )?ppfs(-node)?(\[\d+\])?: ")


def is_tame(text):
    """One line that a terminal only shows."""
    return not re.search("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]", text)


def reason(m, name):
    text = (m.info / name / "why").read_bytes().decode()
    failure = (m.failures / name).read_bytes().decode()
    first = failure.partition("\n")[0]
    assert text.endswith("\n") and (text[:-1] == first or text.startswith(first + "; ")) and is_tame(first)
    return text[:-1]


@pytest.mark.parametrize("word", NASTY)
def test_reasons(shared, mallory, word):
    m = shared
    name = word
    m.put("bad option", os.fsencode("#!/bin/sh\n#ppfs: '%s=1'\n" % re.sub("[\n\r]", "-", word)))
    m.put("exception", "raise ValueError(%r)\n" % word)
    m.put("after", {"run": ["true"], "after": name})
    m.put("directory", {"run": ["true"], "cwd": "/" + name})
    m.put("program", {"run": ["/nonexistent/" + name]})
    m.put(name, "#!/bin/sh\n#ppfs: hold=1\n")
    for job in ("bad option", "exception", "directory", "program"):
        m.wait(job)
        assert is_tame(reason(m, job)), job
    for job in ("after", name):
        assert is_tame((m.info / job / "why").read_text().rstrip("\n"))
    assert "\\x" in (m.info / name / "why").read_text()


def test_what_a_group_is_called(shared, alice, mallory):
    m = shared
    group = "g\x1b[31m\nred"
    p = mallory.sh("mkdir -m 1777 \"$M/jobs/$G\" && echo env=A:b > \"$M/jobs/$G/.options\"", M=m.mnt, G=group)
    assert p.returncode == 0
    alice.sh("echo true > \"$M/jobs/$G/x\"", M=m.mnt, G=group)
    assert is_tame(reason(m, group + "/x")) and "g\\x1b[31m\\x0ared/.options" in reason(m, group + "/x")


@pytest.mark.parametrize("word", NASTY)
def test_what_programs_say_of_the_jobs_of_others(shared, alice, mallory, word):
    """ppfs-run and the Python package, of names in a group of another user's; a list of them that no terminal shows is as it is."""
    m = shared
    mallory.sh("mkdir $M/jobs/G; printf '#!/bin/sh\\n#ppfs: cwd=/nonexistent\\n' > \"$M/jobs/G/$W\"; cat $M/info/G/.wait", M=m.mnt, W=word)
    run = "%s -m %s" % (PPFS.parent / "ppfs-run", m.mnt)
    for command in ("--retry G", "--wait \"G/$W\"", "--wait \"$W\"", "-g \"G/$W\" true ::: 1"):
        p = alice.sh("%s %s" % (run, command), W=word)
        assert p.returncode and p.stderr.startswith("ppfs-run: ") and is_tame(p.stderr[:-1]), command
    listed = subprocess.run([PPFS.parent / "ppfs-run", "-m", m.mnt, "--failed", "G"], capture_output=True).stdout
    assert listed == os.fsencode(word) + b"\n"
    shown = alice.sh("script -qec '%s --failed G' /dev/null" % run).stdout
    assert shown.endswith("\n") and is_tame(shown[:-1])
    program = ("import os, ppfs\ntry:\n    ppfs.result('G/' + os.environ['W'], mount=os.environ['M'])\n"
               "except ppfs.JobFailed as e:\n    print(e)\n")
    p = alice.sh("%s -c \"$PROGRAM\"" % PYTHON, PROGRAM=program, PYTHONPATH=TOP / "scripts", W=word, M=m.mnt)
    assert "no directory" in p.stdout and is_tame(p.stdout[:-1]), p.stderr


def test_the_log(shared, alice):
    """A refused .options is in the log with what it said, and where."""
    m = shared
    p = alice.sh("mkdir \"$M/jobs/$G\"; printf \"$G=1\" > \"$M/jobs/$G/.options\"; "
                 "printf \"'priority=$G'\" > \"$M/jobs/$G/.options\"", M=m.mnt, G=FORGED)
    assert "Invalid argument" in p.stderr
    raw = (m.statedir / "ppfs.log").read_bytes()
    assert b"was refused" in raw and b"\\x0a" in raw
    assert all(LINE.match(line) and b"ppfs[1]" not in line[:40] for line in raw.splitlines())


def test_jobs_do_not_have_the_log(shared, alice):
    m = shared
    look = "import os\nfor n in os.listdir('/proc/self/fd'):\n  try: print(os.readlink('/proc/self/fd/' + n))\n  except OSError: pass\n"
    p = alice.sh("printf '#!/bin/sh\\nls -l /proc/self/fd\\n' > $M/jobs/sh; printf \"$LOOK\" > $M/jobs/py; "
                 "cat $M/results/sh $M/results/py", M=m.mnt, LOOK=look)
    assert "/dev/null" in p.stdout and "ppfs.log" not in p.stdout and "ppfs.db" not in p.stdout


@pytest.mark.parametrize("who", ["node", "user"])
def test_how_much_the_log_has_of_one(shared, alice, who):
    """So many lines a minute, and how many more there were."""
    m = shared
    if who == "node":
        for _ in range(30):
            (m.mnt / "nodes/127.0.0.1:1").mkdir()
            wait_until(lambda: "refused" in (m.mnt / "nodes/127.0.0.1:1/why").read_text(), "the dial to fail")
            (m.mnt / "nodes/127.0.0.1:1").rmdir()
    else:
        alice.sh("mkdir $M/jobs/G; for i in $(seq 30); do echo bad$i=1 > $M/jobs/G/.options; done 2> /dev/null", M=m.mnt)
    assert m.log().count("is not there" if who == "node" else "is not known") == 20


MANY = """
    import os, sys
    jobs = sys.argv[1]
    for uid in range(200000, 200060):  # as who has subordinate ones can be
        os.seteuid(uid)
        os.mkdir("%s/G%d" % (jobs, uid))
        for n in range(20):
            try:
                with open("%s/G%d/.options" % (jobs, uid), "w") as f:
                    f.write("bad=1")
            except OSError:
                pass
        os.seteuid(0)
"""


def test_how_much_the_log_has_of_all_users(shared):
    m = shared
    p = subprocess.run([PYTHON, "-c", textwrap.dedent(MANY), m.mnt / "jobs"], cwd="/", timeout=50 * SLOW)
    assert p.returncode == 0
    assert 300 <= m.log().count("is not known") <= 600  # a minute may have passed meanwhile
