"""ppfs-run(1): a command as a job, and many of them; each line of its page."""
import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from ppfsmount import BUILD, TOP, need_programs, wait_until

RUN = BUILD / "ppfs-run"
CANNOT = 125


def argv(m, *words):
    return [str(RUN), "-m", str(m.mnt), *map(str, words)]


def run(m, *words, stdin=subprocess.DEVNULL, **kw):
    """How it ended, with bytes of what it printed. stdin: bytes, or what Popen takes."""
    given = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin}
    kw.setdefault("cwd", m.work)
    return subprocess.run(argv(m, *words), capture_output=True, timeout=60, **given, **kw)


def started(m, *words, **kw):
    return subprocess.Popen(argv(m, *words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=m.work, **kw)


def says(p, status, out=b"", err=b""):
    assert (p.returncode, p.stdout, p.stderr) == (status, out, err)


def is_forgotten(m):
    left = [name for shelf in (m.jobs, m.info, m.results, m.failures) for name in os.listdir(shelf)
            if not name.startswith(".")]
    assert left == []


def test_the_examples_of_the_page(m):
    page = (Path(__file__).parents[2] / "man/ppfs-run.1").read_text()
    example = page.split(".Sh EXAMPLES\n.Bd -literal -offset indent\n$ ")[1].split("\n.Ed")[0].replace("\\e", "\\")
    env = {**os.environ, "PPFS": str(m.mnt), "PATH": "%s:%s" % (BUILD, os.environ["PATH"])}
    for line, *shown in (one.split("\n") for one in example.split("\n$ ")):
        p = subprocess.run(line, shell=True, cwd=m.work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert (p.returncode, p.stdout, p.stderr) == (0, "".join(s + "\n" for s in shown), ""), line


def test_every_line_of_the_page(m):
    """Each option, and each command that stands in it; the examples are above."""
    need_programs("make")
    page = (TOP / "man/ppfs-run.1").read_text()
    table = re.findall(r"^\.It .* Ta (ppfs-run .*)$", page, re.MULTILINE)
    quoted = re.findall(r"Ql ((?:ppfs-run|make) .*?)(?: \.)?$", page, re.MULTILINE)
    assert len(table) >= 5 and len(quoted) >= 2
    (m.work / "lines").write_text("a\nb\n")
    (m.work / "Makefile").write_text("all:\n\techo made\n")
    shell = {"PPFS": str(m.mnt), "PATH": "%s:%s" % (BUILD, os.environ["PATH"])}
    job = subprocess.run("ppfs-run -d echo x", shell=True, cwd=m.work, env=shell, capture_output=True, text=True, timeout=60).stdout.strip()
    lines = {"-d, --detach": ("ppfs-run --wait $(ppfs-run -d true)", ""), "-n, --no-stdin": ("echo no | ppfs-run -n cat", ""),
             "-o, --option": ("ppfs-run -o priority=1,timeout=5m --option cpus=2 echo o", "o\n"),
             "-m, --mount": ("PPFS= ppfs-run -m $PPFS echo m && ppfs-run --mount $PPFS true", "m\n"),
             "-c": ("ppfs-run -c 'echo c; true'", "c\n"), "--help, --version": ("ppfs-run --help >&2 && ppfs-run --version >&2", ""),
             "-g, --group": ("ppfs-run -g A echo '<{}>' ::: x y; ppfs-run --group B/A echo -- ::: z; rm -r $PPFS/info/A", "<x>\n<y>\n-- z\n"),
             ":::": ("ppfs-run -- echo ::: a", "::: a\n"),
             "--lines": ("ppfs-run -g C --lines lines echo; ppfs-run -g D --lines - echo < lines", "a\nb\na\nb\n"),
             "--array": ("ppfs-run -g E --array 1-2 sh -c 'echo $PPFS_INDEX'; ppfs-run -d -g F --array 1-3 false", "1\n2\nF\n"),
             "--max": ("ppfs-run -g H --max 1 echo ::: h", "h\n"), "--max-fails": ("ppfs-run -g I --max-fails 1 true ::: a b", ""),
             "--progress": ("ppfs-run -g J --progress true ::: a", ""), "--wait": ("ppfs-run --wait F; echo $?", "3\n"),
             "--failed": ("ppfs-run --failed F", "1\n2\n3\n"), "--retry": ("ppfs-run --retry F && ppfs-run --wait F; echo $?", "3\n"),
             "--cancel": ("ppfs-run --cancel $(ppfs-run -d sleep 1000)", "")}
    options = [(kind, text.split(" Ar ")[0].split(" , ")) for kind, text in re.findall(r"^\.It (Fl|Li) (.*)$", page, re.MULTILINE)]
    assert list(lines) == [", ".join("-" * (kind == "Fl") + name for name in names) for kind, names in options]
    for i, command in enumerate(", ".join(table).split(", ")):
        command = command.replace(" G ", " T%d " % i).replace("cmd", "echo").replace("-c line", "-c 'echo line'").replace("NAME", job)
        lines[command] = (command, None)
    lines.update((command, (command, None)) for command in quoted)
    for line, (command, out) in lines.items():
        p = subprocess.run(command, shell=True, cwd=m.work, env=shell, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        assert p.returncode == 0 and out in (None, p.stdout), (line, p)


# --- one command ---------------------------------------------------------------------------------------------------

def test_output_and_status(m):
    says(run(m, "sh", "-c", "echo out; echo err >&2; exit 7"), 7, b"out\n", b"err\n")
    says(run(m, "--", "true"), 0)
    says(run(m, "false"), 1)
    is_forgotten(m)


def test_what_is_printed_is_shown_at_once(m):
    p = started(m, "sh", "-c", "echo first; until [ -e go ]; do sleep 0.01; done; echo second")
    assert p.stdout.readline() == b"first\n"
    (m.work / "go").touch()
    assert p.communicate(timeout=60) == (b"second\n", b"") and p.returncode == 0


def test_words_are_bytes_and_nothing_quotes_them_again(m):
    words = [b"a b", b"", b"it's", b"$HOME `id` \\ \" * ?", b"two\nlines", b"\xff\xfe", "ü".encode(), b"-n", b"--", b"{}"]
    p = subprocess.run([*map(os.fsencode, argv(m)), b"printf", b"[%s]", *words], stdin=subprocess.DEVNULL, capture_output=True,
                       cwd=m.work, timeout=60)
    says(p, 0, b"".join(b"[%s]" % w for w in words))


def test_directory_umask_and_environment(m):
    env = {**os.environ, "MINE": "a 'b'\n$c", "UTF": "ü"}
    p = run(m, "sh", "-c", 'pwd; umask; printf "%s|%s" "$MINE" "$UTF"', env=env, preexec_fn=lambda: os.umask(0o027))
    says(p, 0, b"%s\n0027\na 'b'\n$c|\xc3\xbc" % os.fsencode(m.work))


def test_no_other_user_can_read_the_environment_and_the_input(shared, alice, mallory):
    """The job has them in it, and /proc shows them to nobody else either."""
    for name, words in (("lone", "-d true"), ("group", "-d -g group true ::: a b")):
        p = alice.sh("umask 022; echo secret | %s -m %s %s" % (RUN, shared.mnt, words), PASSWORD="secret")
        assert p.returncode == 0, (name, p.stderr)
    assert alice.sh("%s -m %s --wait group" % (RUN, shared.mnt)).returncode == 0
    specs = alice.sh("cd %s/info; grep -l secret */spec */*/spec" % shared.mnt).stdout.split()
    assert len(specs) == 3
    for spec in specs:
        p = mallory.sh("cat %s/info/%s" % (shared.mnt, spec))
        assert p.returncode == 1 and "Permission denied" in p.stderr and not p.stdout


@pytest.mark.parametrize("size", [0, 1, 100_000, 20_000_000])
def test_standard_input_of_any_size(m, size):
    data = (os.urandom(1000) * (size // 1000 + 1))[:size]
    says(run(m, "cat", stdin=data), 0, data)
    (m.work / "data").write_bytes(data)
    with open(m.work / "data", "rb") as f:
        f.seek(size // 2)
        says(run(m, "cat", stdin=f), 0, data[size // 2:])


def test_standard_input_that_does_not_block(m):
    """As another program with the same pipe may have made it, and nothing has come yet."""
    for words in (("cat",), ("-g", "G", "--lines", "-", "echo")):
        r, w = os.pipe()
        os.set_blocking(r, False)
        threading.Timer(0.3, lambda: (os.write(w, b"late\n"), os.close(w))).start()
        says(run(m, *words, stdin=r), 0, b"late\n")
        os.close(r)


def test_items_are_of_a_group(m):
    p = run(m, "true", ":::", "a", "b")
    assert p.returncode == CANNOT and b"':::' and items need -g GROUP" in p.stderr and p.stderr.count(b"\n") == 1
    says(run(m, "--", "echo", ":::", "a"), 0, b"::: a\n")
    is_forgotten(m)


def test_standard_input_is_left_alone_where_that_is_asked(m):
    r, w = os.pipe()  # never ends
    says(run(m, "-n", "cat", stdin=r), 0)
    os.write(w, b"x")
    assert os.read(r, 1) == b"x"
    os.close(r)
    os.close(w)


def test_options(m):
    m.work.joinpath("there").mkdir()
    options = ["-o", "cwd=%s/there,env=A:1,env=B:2,retries=0" % m.work, "-o", "priority=3"]
    p = run(m, *options, "sh", "-c", "pwd; echo $A$B; cat $PPFS/info/$PPFS_JOB/priority", env={**os.environ, "A": "not this"})
    assert (p.returncode, p.stdout) == (0, b"%s/there\n12\n3\n" % os.fsencode(m.work)), p
    for words, sentence in ((["-o", "nosuch=1"], b"option nosuch is not known"), (["-o", "cwd=a b"], b"a value with a blank")):
        p = run(m, *words, "true")
        assert p.returncode == CANNOT and sentence in p.stderr and p.stderr.count(b"\n") == 1
    name = run(m, "-d", "true").stdout.decode().strip()
    says(run(m, "-o", "after=%s,%s" % (name, name), "echo", "behind"), 0, b"behind\n")


def test_what_is_not_there_or_cannot_be_run(m):
    says(run(m, "no-such-program"), 127, b"", b"ppfs-run: no-such-program: not found\n")
    (m.work / "text").write_text("x")
    for words in (["./text"], [m.work], ["-g", "g", "{}", ":::", "./text"]):
        p = run(m, *words)
        assert p.stderr == b"ppfs-run: %s: this is no program (a script needs chmod +x)\n" % os.fsencode(str(words[-1])), p
        assert p.returncode == (1 if "-g" in words else 126)


def test_what_is_refused_is_not_said_to_be_queued(m):
    for words, sentence in ((["-o", "cpus=0"], "option cpus=0 is not understood"), (["-o", "nosuch=1"], "option nosuch is not known"),
                            (["-o", "after=none"], "after=none: there is no such job"),
                            (["-g", "G", "-o", "cpus=0"], "option cpus=0"), (["-g", "A", "-o", "cpus=0", "--array", "1-3"], "option cpus=0")):
        p = run(m, "-d", *words, "echo", *([":::", "a", "b"] if "G" in words else []))
        assert (p.returncode, p.stdout, p.stderr.count(b"\n")) == (CANNOT, b"", 1) and sentence.encode() in p.stderr, p
    assert {name for name in os.listdir(m.info) if not name.startswith(".")} == {"G", "A"}
    p = run(m, "-d", "-n", "sh", "-c", "exit 3")
    assert p.returncode == 0 and run(m, "--wait", p.stdout.decode().strip()).returncode == 3


def test_ends_by_signal_and_time(m):
    p = run(m, "sh", "-c", "kill -9 $$")
    assert (p.returncode, p.stdout) == (128 + 9, b"") and b"SIGKILL" in p.stderr
    p = run(m, "-o", "timeout=1", "sleep", "60")
    assert p.returncode == 124 and b"timed out" in p.stderr
    is_forgotten(m)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_cancels_the_job(m, number):
    p = started(m, "sh", "-c", "echo $$; exec sleep 600")
    pid = int(p.stdout.readline())
    p.send_signal(number)
    assert p.wait(60) == -number
    assert not os.path.exists("/proc/%d" % pid)
    assert p.communicate() == (b"", b"")
    is_forgotten(m)


def test_a_reader_that_ends_cancels_the_job(m):
    p = started(m, "yes")
    p.stdout.readline()
    p.stdout.close()
    assert p.wait(60) == -signal.SIGPIPE
    is_forgotten(m)


def test_a_signal_while_it_reads_its_input_leaves_nothing(m):
    r, w = os.pipe()
    os.write(w, b"some")
    p = subprocess.Popen(argv(m, "cat"), stdin=r, cwd=m.work)
    wait_until(lambda: os.listdir(m.jobs), "the file to be begun")
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == -signal.SIGINT
    assert os.listdir(m.jobs) == []
    os.close(r)
    os.close(w)


def test_what_others_cancel_is_said(m):
    p = started(m, "sh", "-c", "echo up; exec sleep 600")
    p.stdout.readline()
    (m.jobs / os.listdir(m.jobs)[0]).unlink()
    _, err = p.communicate(timeout=60)
    assert p.returncode in (CANNOT, 128 + 9) and b"cancelled" in err


def test_detached_waited_for_and_cancelled(m):
    p = run(m, "-d", "sh", "-c", "until [ -e go ]; do sleep 0.01; done; exit 4")
    name = p.stdout.decode().strip()
    assert p.returncode == 0 and m.state(name) in ("queued", "running")
    waiter = started(m, "--wait", name)
    (m.work / "go").touch()
    assert waiter.communicate(timeout=60) == (b"", b"") and waiter.returncode == 4
    name = run(m, "-d", "sleep", "600").stdout.decode().strip()
    says(run(m, "--cancel", name), 0)
    assert m.wait(name) == "cancelled"
    assert run(m, "--wait", name).returncode != 0


def test_it_goes_on_over_the_death_of_the_daemon(m):
    p = started(m, "sh", "-c", "echo one; until [ -e go ]; do sleep 0.01; done; echo two")
    assert p.stdout.readline() == b"one\n"
    m.kill_daemon()
    (m.work / "go").touch()
    out, err = p.communicate(timeout=60)
    assert (p.returncode, err) == (0, b"") and out.endswith(b"two\n")


def test_what_cannot_be(m, new_mount):
    away = {k: v for k, v in os.environ.items() if k != "PPFS"}
    p = subprocess.run([RUN, "-m", m.work, "true"], capture_output=True, env=away, timeout=60)
    assert p.returncode == CANNOT and b"there is no ppfs mounted on %s" % os.fsencode(m.work) in p.stderr
    p = subprocess.run([RUN, "true"], capture_output=True, env={**away, "PPFS": "/nowhere"}, timeout=60)
    assert p.returncode == CANNOT and b"named by $PPFS" in p.stderr
    for words in ([], ["-x", "true"], ["-g", "g", "true"], ["--lines", "x", "true"], ["--wait", ".x"], ["--wait", "a", "--retry", "b"],
                  ["--array", "5-1", "-g", "g", "true"], ["-g", "../x", "true", ":::", "a"], ["--wait"], ["-o", "max=2", "true"],
                  ["-g", "g", "-o", "cpus=1,max_fails=2", "true", ":::", "a"], ["-g", "a", "-g", "b", "true", ":::", "a"],
                  ["-c", "true", "-c", "true"]):
        p = run(m, *words)
        assert p.returncode == CANNOT and p.stderr.count(b"\n") == 1 and not p.stdout, words
    assert b"max= is of a group: give --max N, and -g GROUP" in run(m, "-o", "max=2", "true").stderr
    for what in ("--wait", "--failed", "--retry", "--cancel"):
        p = run(m, what, "nosuch")
        assert (p.returncode, p.stderr) == (CANNOT, b"ppfs-run: there is no job and no group nosuch\n"), what
    is_forgotten(m)


def test_a_mount_that_is_closed_to_one(shared, alice, base):
    closed = base / "closed"
    closed.mkdir(mode=0o700)
    (closed / "x").symlink_to(shared.mnt)
    said = "%s/x (named by $PPFS) cannot be used: Permission denied" % closed
    p = alice.sh("%s true" % RUN, PPFS=closed / "x")
    assert (p.returncode, p.stderr) == (CANNOT, "ppfs-run: %s\n" % said)
    p = alice.sh("PYTHONPATH=%s exec /usr/bin/python3 -c 'import ppfs; ppfs.find_mount()'" % (TOP / "scripts"), PPFS=closed / "x")
    assert p.returncode == 1 and p.stderr.endswith("NoMount: %s\n" % said)


def test_the_mount_is_found(m):
    env = {**os.environ, "PPFS": str(m.mnt)}
    says(subprocess.run([RUN, "echo", "x"], stdin=subprocess.DEVNULL, capture_output=True, env=env, timeout=60), 0, b"x\n")
    for flag in ("--help", "--version"):
        p = subprocess.run([RUN, flag], capture_output=True, text=True, timeout=60)
        assert p.returncode == 0 and "ppfs-run" in p.stdout and not p.stderr


ALONE = """\
mount --bind "$1" "$2" && cat /proc/self/mounts >mounts || exit
while read -r _ where type _; do
    where=$(printf %b "$where")
    [ "$type" != fuse.ppfs ] || [ "$where" = "$2" ] || umount -lc "$where"
done <mounts
exec "$3" -n echo x
"""


def test_a_long_line_of_the_mount_table_is_read_to_its_end(m):
    """Cut off, it would name no user, or one with fewer digits."""
    if os.geteuid():
        pytest.skip("only root can have a mount table of his own")
    where = m.work.joinpath(*["%200s" % "x"] * 8)
    where.mkdir(parents=True)
    env = {k: v for k, v in os.environ.items() if k != "PPFS"}
    says(subprocess.run(["unshare", "-m", "sh", "-c", ALONE, "sh", m.mnt, where, RUN], cwd=m.work, env=env, capture_output=True,
                        timeout=60), 0, b"x\n")


def test_as_the_shell_of_make(m):
    need_programs("make")
    (m.work / "Makefile").write_text("SHELL = %s\nall: a b c\n\techo all > all\na b c:\n\techo $@ $$PPFS_NODE > $@\nbad:\n\tfalse\n" % RUN)
    env = {**os.environ, "PPFS": str(m.mnt)}
    p = subprocess.run(["make", "-j8", "-s"], cwd=m.work, env=env, capture_output=True, text=True, timeout=100)
    assert p.returncode == 0, p.stderr
    assert (m.work / "b").read_text() == "b local\n" and (m.work / "all").read_text() == "all\n"
    assert subprocess.run(["make", "-s", "bad"], cwd=m.work, env=env, capture_output=True, timeout=100).returncode == 2
    is_forgotten(m)


# --- groups --------------------------------------------------------------------------------------------------------

def test_a_group_of_items(m):
    p = run(m, "-g", "G", "echo", "<{}>", ":::", "a b", "", "c'd")
    says(p, 0, b"<a b>\n<>\n<c'd>\n")
    assert sorted(os.listdir(m.results / "G")) == ["1", "2", "3"]
    assert run(m, "-g", "H", "echo", "first", ":::", "x", "y").stdout == b"first x\nfirst y\n"
    p = run(m, "-g", "G", "true", ":::", "x")
    assert p.returncode == CANNOT and b"File exists" in p.stderr
    assert not [name for name in os.listdir(m.jobs) if name.startswith(".")]


def test_lines_and_numbers(m):
    (m.work / "items").write_bytes(b"one\ntwo words\n\nlast")
    says(run(m, "-g", "L", "--lines", "items", "printf", "[%s %s]", "{}", "{}"), 0, b"[one one][two words two words][ ][last last]")
    says(run(m, "-g", "S", "--lines", "-", "echo", stdin=b"1\n2\n"), 0, b"1\n2\n")
    says(run(m, "-g", "N", "wc", "-c", ":::", "-", stdin=b"not for the jobs of a group"), 0, b"0 -\n")
    says(run(m, "-g", "A", "--array", "8-12", "sh", "-c", "echo {} $PPFS_INDEX"), 0, b"8 8\n9 9\n10 10\n11 11\n12 12\n")
    assert sorted(os.listdir(m.results / "A"), key=int) == ["8", "9", "10", "11", "12"]
    (m.work / "zero").write_bytes(b"a\0b\n")
    p = run(m, "-g", "Z", "--lines", "zero", "echo")
    assert p.returncode == CANNOT and b"zero byte" in p.stderr
    p = run(m, "-g", "Z", "--lines", "/dev/null", "echo")
    assert p.returncode == CANNOT and b"no items" in p.stderr


def test_an_array(m):
    says(run(m, "-d", "-g", "A", "--max", "1", "--array", "0-19", "sh", "-c", "echo {}-$PPFS_INDEX it\\'s; test {} != 7"), 0,
         b"A\n")
    says(run(m, "--wait", "A"), 1)
    assert m.result("A/12") == b"12-12 it's\n" and len(os.listdir(m.results / "A")) == 19
    assert m.get("A/3", "spec").startswith("#!/bin/sh\n#ppfs: array=0-19%1\n")
    says(run(m, "--failed", "A"), 0, b"7\n")
    says(run(m, "--retry", "A"), 0)
    says(run(m, "--wait", "A"), 1)
    assert m.get("A/7", "attempt") == "2"
    p = run(m, "-d", "-g", "A", "--array", "0-19", "true")
    assert p.returncode == CANNOT and b"File exists" in p.stderr
    says(run(m, "-d", "-g", "B", "--array", "0-9999999", "sleep", "1000"), 0, b"B\n")
    says(run(m, "--cancel", "B"), 0)
    wait_until(lambda: m.sh("cat $M/info/B/.wait").stdout == b"done 0 failed 0 cancelled 10000000\n", "all to be cancelled")
    p = run(m, "-o", "array=1-2", "true")
    assert p.returncode == CANNOT and b"use -d" in p.stderr
    says(run(m, "-g", "N", "--array", "0-1", "sh", "-c", "echo {} $PPFS_INDEX"), 0, b"0 0\n1 1\n")


def test_failures_of_a_group(m):
    p = run(m, "-g", "G", "sh", "-c", "test -e ok || test {} = b", ":::", "a", "b", "c")
    assert (p.returncode, p.stderr) == (2, b"")
    says(run(m, "--failed", "G"), 0, b"1\n3\n")
    says(run(m, "--wait", "G"), 2)
    (m.work / "ok").touch()
    says(run(m, "--retry", "G"), 0)
    says(run(m, "--wait", "G"), 0)
    says(run(m, "--failed", "G"), 0)
    says(run(m, "--retry", "G"), 0)


def test_many_items_in_order(m):
    """Those that have ended before they are looked at are shown as those that are followed."""
    text = "case $1 in 3) exec sleep 0.3;; *5) echo bad $1 >&2; exit 5;; *7) echo word $1 >&2;; *8) exec head -c 70000 /dev/zero;; *9) ;; *) echo $1; esac"
    p = run(m, "-g", "G", "--progress", "sh", "-c", text, "x", ":::", *range(60))
    out = b"".join(b"\0" * 70000 if i % 10 == 8 else b"%d\n" % i for i in range(60) if i != 3 and i % 10 not in (5, 7, 9))
    assert (p.returncode, p.stdout) == (6, out)
    err = [line for line in p.stderr.decode().splitlines() if not line.startswith("done")]
    assert err == [line for i in range(60) if i % 10 in (5, 7) for line in ["bad %d" % i if i % 10 == 5 else "word %d" % i]]
    p = started(m, "-g", "H", "sh", "-c", "sleep $1", "x", ":::", *[0] * 40, 1000, 1000)
    wait_until(lambda: (m.info / "H/.progress").exists() and "done 40 " in (m.info / "H/.progress").read_text(), "the others to end")
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == -signal.SIGINT and p.stderr.read() == b""


def test_an_array_is_followed(m):
    """Also one that begins late, and one that never does."""
    p = run(m, "-g", "G", "--array", "8-90", "--max", "2", "sh", "-c", "echo {}; [ {} != 9 ]")
    assert (p.returncode, p.stdout, p.stderr) == (1, b"".join(b"%d\n" % i for i in range(8, 91)), b"")
    assert run(m, "--failed", "G").stdout == b"9\n"
    m.put("gate", m.gate("gate"))
    p = started(m, "-g", "late", "-o", "after=gate", "--array", "1-3", "echo")
    wait_until(lambda: (m.info / "late/state").exists() and m.state("late") == "waiting", "it to wait")
    m.open_gate("gate")
    assert p.communicate(timeout=60) == (b"1\n2\n3\n", b"") and p.returncode == 0
    p = started(m, "-g", "never", "-o", "hold=1", "--array", "1-3", "echo")
    wait_until(lambda: (m.info / "never/state").exists() and m.state("never") == "held", "it to be held")
    os.unlink(m.jobs / "never")
    assert p.communicate(timeout=60)[0] == b"" and p.returncode == CANNOT
    p = started(m, "-g", "ends", "--array", "1-1000000", "sh", "-c", "echo up; exec sleep 1000")
    assert p.stdout.readline() == b"up\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == -signal.SIGINT
    assert (m.info / "ends/.wait").read_text() == "done 0 failed 0 cancelled 1000000\n"


def test_limits_of_a_group(m):
    p = run(m, "-g", "G", "--max", "1", "--max-fails", "2", "sh", "-c", "echo {}; exit {}", ":::", "0", "1", "0", "3", "0", "0")
    assert p.stdout == b"0\n1\n0\n3\n" and p.returncode == 4, p.stderr  # 2 failed, 2 cancelled
    assert sorted((m.jobs / "G/.options").read_text().split()) == ["max=1", "max_fails=2"]
    assert sorted(os.listdir(m.failures / "G")) == ["2", "4"] and (m.info / "G/.wait").read_text() == "done 2 failed 2 cancelled 2\n"
    for words in (["--max", "0"], ["--max-fails", "-1"], ["--max", "2x"]):
        p = run(m, "-g", "H", *words, "true", ":::", "a")
        assert p.returncode == CANNOT and b"a whole number from 1" in p.stderr
    assert run(m, "--max", "2", "true").returncode == CANNOT and not (m.jobs / "H").exists()


def test_a_group_inside_another_with_options_and_progress(m):
    p = run(m, "-g", "out/in", "-o", "retries=0,priority=2", "--progress", "echo", ":::", "1", "2")
    assert (p.returncode, p.stdout) == (0, b"1\n2\n") and b"done 2 failed 0" in p.stderr
    assert os.listdir(m.jobs) == ["out"] and sorted(os.listdir(m.results / "out/in")) == ["1", "2"]


def test_a_log_has_each_progress_once(m):
    p = run(m, "-g", "G", "--progress", "sleep", ":::", "2.5")
    told = p.stderr.decode().splitlines()
    assert p.returncode == 0 and len(told) == len(set(told)) > 1 and told[-1].startswith("done 1 failed 0")


def test_detached_group_cancelled(m):
    says(run(m, "-d", "-g", "G", "sleep", ":::", "600", "601", "602", "603"), 0, b"G\n")
    says(run(m, "--cancel", "G"), 0)
    says(run(m, "--wait", "G"), 4)
    assert run(m, "--failed", "G").stdout == b""


def test_a_signal_cancels_the_group(m):
    p = started(m, "-g", "G", "sh", "-c", "echo up; sleep {}", ":::", "600", "601", "602")
    assert p.stdout.readline() == b"up\n"
    p.send_signal(signal.SIGINT)
    assert p.wait(60) == -signal.SIGINT
    assert (m.info / "G/.wait").read_text() == "done 0 failed 0 cancelled 3\n"


def test_all_of_a_group_or_nothing(m):
    p = subprocess.Popen(argv(m, "-g", "G", "--array", "1-100000", "--max-fails", "9", "true"), cwd=m.work, stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    wait_until(lambda: os.listdir(m.jobs), "the group to be begun")
    p.send_signal(signal.SIGTERM)
    assert p.wait(100) == -signal.SIGTERM and p.stdout.read() == b""
    is_forgotten(m)


def test_a_group_of_which_a_job_was_forgotten_says_so(new_mount):
    m = new_mount(options=("--keep-results", "1")).start()
    p = run(m, "-g", "G", "sh", "-c", "test $1 != 1 || while [ -e $PPFS/info/G/4 ]; do sleep 0.1; done", "x", ":::", *"12345")
    assert p.returncode == 125 and b"G/2 was forgotten" in p.stderr and p.stderr.count(b"\n") == 1, p
