"""ppfs(5): running, what runs now."""
import errno
import os

import pytest
from ppfsmount import wait_until


def running(m, text=None):
    lines = (m.mnt / "running").read_text() if text is None else text
    return {line.split("\t")[0]: line.split("\t")[1:] for line in lines.splitlines()}


def test_nothing_runs(m):
    assert (m.mnt / "running").read_text() == ""


def test_a_job_with_its_last_line(m):
    (m.jobs / "G").mkdir()
    m.put("G/x", "#!/bin/sh\necho one; printf '1%%\\r2%%\\r'; echo two >&2; read line < $FIFO\n".replace("$FIFO", str(m.work / "fifo")))
    os.mkfifo(m.work / "fifo")
    wait_until(lambda: running(m).get("G/x", ["", "", ""])[2] == "two", "the last line")
    node, seconds, _ = running(m)["G/x"]
    assert node == "local" and 0 <= float(seconds) < 60
    (m.work / "fifo").write_text("go\n")
    assert m.wait("G/x") == "done" and running(m) == {}


def test_of_long_output_the_end_is_known(m):
    os.mkfifo(m.work / "fifo")
    m.put("x", "#!/bin/sh\nseq 50000; printf '%%0300d\\n' 7; printf 'caf\\303\\251 at the end'; read line < %s\n" % (m.work / "fifo"))
    wait_until(lambda: running(m).get("x", ["", "", ""])[2] == "café at the end", "the last line")
    (m.work / "fifo").write_text("go\n")


@pytest.mark.parametrize("count, shown", [(300, 160), (160, 160), (200, 160)])
def test_a_long_line_is_cut_at_a_character(m, count, shown):
    os.mkfifo(m.work / "fifo")
    m.put("x", "#!/bin/sh\nprintf '\\342\\202\\254%%.0s' $(seq %d); read line < %s\n" % (count, m.work / "fifo"))
    line = wait_until(lambda: running(m).get("x", ["", "", ""])[2], "the last line")
    wait_until(lambda: os.stat(m.info / "x/stdout").st_size == 3 * count, "its output")
    line = running(m)["x"][2]
    assert set(line) == {"€"} and len(line) == shown // 3
    (m.work / "fifo").write_text("go\n")


def test_what_a_terminal_would_obey_is_escaped(m):
    os.mkfifo(m.work / "fifo")
    m.put("a\033[31m\n\tb", "#!/bin/sh\nprintf 'x\\033]0;title\\007\\ty'; read line < %s\n" % (m.work / "fifo"))
    text = wait_until(lambda: "title" in (m.mnt / "running").read_text() and (m.mnt / "running").read_text(), "its output")
    assert text.count("\n") == 1 and text.count("\t") == 3 and "\033" not in text and "\007" not in text
    assert text.startswith("a\\x1b[31m\\x0a\\x09b\tlocal\t") and text.endswith("\tx\\x1b]0;title\\x07\\x09y\n")
    (m.work / "fifo").write_text("go\n")


def test_streams_and_their_call_jobs(m):
    os.mkfifo(m.work / "fifo")
    writer = open(m.jobs / "s.jsonl", "wb", buffering=0)
    writer.write(b'{"call": "abs", "args": [-1]}\n{"run": ["sh", "-c", "echo sub >&2; read line < %s"]}\n' % os.fsencode(m.work / "fifo"))
    wait_until(lambda: running(m).get("s.jsonl:2", ["", "", ""])[2] == "sub" or len(running(m)) == 2, "the call job")
    seen = running(m)
    assert seen["s.jsonl"][0] == "-" and "answered" in seen["s.jsonl"][2]
    assert seen["s.jsonl:2"][0] == "local"
    (m.work / "fifo").write_text("go\n")
    writer.close()
    m.result("s.jsonl")


def test_pages_and_small_reads(m):
    """More jobs than a page; read a byte at a time, every job is there once and whole."""
    (m.node / "cpus").write_text("70")
    for i in range(70):
        m.put("job%02d" % i, "#!/bin/sh\nexec sleep 1000\n")
    wait_until(lambda: len(running(m)) == 70, "all to run")
    fd = os.open(m.mnt / "running", os.O_RDONLY)
    text = b"".join(iter(lambda: os.read(fd, 7), b""))
    os.close(fd)
    assert list(running(m, text.decode())) == ["job%02d" % i for i in range(70)]


def test_it_is_read_only_and_has_no_place(m):
    for flags in os.O_WRONLY, os.O_RDWR:
        with pytest.raises(PermissionError):
            os.open(m.mnt / "running", flags)
    fd = os.open(m.mnt / "running", os.O_RDONLY)
    with pytest.raises(OSError) as e:
        os.pread(fd, 10, 0)
    assert e.value.errno == errno.ESPIPE
    os.close(fd)


def test_an_open_file_goes_on_with_the_next_daemon(m):
    with open(m.mnt / "running") as f:
        m.kill_daemon()
        assert f.read() == ""


def test_a_user_has_not_all_of_the_places(shared, alice, mallory):
    p = mallory.sh("for i in $(seq 100); do exec {fd}< $M/running || exit 3; done", M=shared.mnt)
    assert p.returncode != 0 and "Too many open files" in p.stderr
    assert alice.sh("cat $M/running", M=shared.mnt).returncode == 0


def test_who_sees_what(shared, alice, mallory):
    p = alice.sh(r"""cd $M; umask 022; mkdir jobs/open; (umask 077; mkdir jobs/closed)
job() { printf '#!/bin/sh\necho hush; exec sleep 1000\n' > jobs/$1; head -n 1 info/$1/stdout >/dev/null; }
echo 4 > nodes/local/cpus 2>/dev/null; job open/a; rm jobs/open/a; job closed/b; rm jobs/closed/b; cat running
job closed/c; (umask 077; job d); cat running""", M=shared.mnt)
    assert [line.split("\t")[0] for line in p.stdout.splitlines()] == ["closed/c", "d"], p.stderr
    assert mallory.sh("cat $M/running", M=shared.mnt).stdout == ""
    assert sorted(running(shared)) == ["closed/c", "d"]
    alice.sh("rm $M/jobs/d; umask 022; cd $M; printf '#!/bin/sh\necho seen; exec sleep 1000\n' > jobs/e; head -n 1 info/e/stdout", M=shared.mnt)
    assert list(running(shared, mallory.sh("cat $M/running", M=shared.mnt).stdout)) == ["e"]
