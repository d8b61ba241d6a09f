"""Writers of job files that are killed: what is not whole stays a draft, whatever its text looks like."""
import os
import pickle
import signal
import subprocess

import pytest
from ppfsmount import wait_until
from processes import alive, kill, text_of

def write_half(m, name, command, text, pid=None):
    """A shell command whose input is written to jobs/NAME through it, so far; the process."""
    p = m.popen("bash", "-c", command, stdin=subprocess.PIPE, start_new_session=True)
    p.stdin.write(text)
    p.stdin.flush()
    wait_until(lambda: (m.jobs / name).exists() and (m.jobs / name).read_bytes() == text, "the text to be there")
    return p


def stays_draft(m, name, signal_name):
    wait_until(lambda: m.why(name).startswith("stays a draft"), "%s to say why it does not run" % name)
    assert m.state(name) == "draft" and name in os.listdir(m.jobs) and signal_name in m.why(name)


WHOLE = {"sh": b"#!/bin/sh\necho one\n", "json": b'{"run": ["echo", "one"]}', "pickle": pickle.dumps((abs, (1,)), 4)}


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGKILL, signal.SIGSEGV], ids=lambda s: s.name)
@pytest.mark.parametrize("kind", WHOLE)
def test_writer_killed_where_the_text_looks_whole(m, kind, sig):
    """As Ctrl-C, kill -9 and a crash of cat > jobs/x, after any of its lines."""
    p = write_half(m, "x", "exec cat > $M/jobs/x", WHOLE[kind])
    os.kill(p.pid, sig)
    p.wait()
    stays_draft(m, "x", sig.name)
    os.utime(m.jobs / "x")
    with open(m.jobs / "x", "ab"):
        pass  # opened and closed, it is no more whole than before
    m.works()
    stays_draft(m, "x", sig.name)
    m.put("x", "#!/bin/sh\necho whole\n")
    assert m.result("x") == b"whole\n"


def test_what_was_cut_is_written_on(m):
    p = write_half(m, "x", "exec cat > $M/jobs/x", WHOLE["sh"])
    p.kill()
    p.wait()
    stays_draft(m, "x", "SIGKILL")
    with open(m.jobs / "x", "ab") as f:
        f.write(b"echo two\n")
    assert m.result("x") == b"one\ntwo\n"


def test_cat_is_killed_and_its_shell_goes_on(m):
    """The shell closes the file after it, and has not written: the file is not whole. What it writes itself makes it so."""
    # cat tells its number itself: a shell that did so would close its copy of the file, and that after cat had written.
    kill_cat = "(echo '#!/bin/sh'; sh -c 'echo $$ > $M/../work/pid; exec cat' <&3 & wait $!%s) > $M/jobs/x 3<&0"
    for then, whole in (("; true", False), ("; echo echo two", True)):
        p = m.popen("bash", "-c", kill_cat % then, stdin=subprocess.PIPE)
        p.stdin.write(b"echo one\n")
        p.stdin.flush()
        wait_until(lambda: (m.jobs / "x").exists() and b"one" in (m.jobs / "x").read_bytes(), "the text to be there")
        kill(int(wait_until(lambda: text_of(m.work / "pid"), "cat's pid")), signal.SIGTERM)
        assert p.wait() == 0
        if whole:
            assert m.result("x") == b"one\ntwo\n"
        else:
            stays_draft(m, "x", "SIGTERM")
            os.unlink(m.jobs / "x")
            os.unlink(m.work / "pid")


def test_shell_is_killed_and_its_cat_ends_by_itself(m):
    """Who holds the file has ended well."""
    p = write_half(m, "x", "cat <&0 > $M/jobs/x; true", WHOLE["sh"])
    p.kill()
    p.wait()
    p.stdin.close()
    assert m.result("x") == b"one\n"


def test_child_that_has_the_file_is_killed(m):
    """Its parent wrote and closed it, and was told that it is accepted: that holds."""
    p = m.popen("/usr/bin/python3", "-c",
                "import os, time\nfd = os.open(os.environ['M'] + '/jobs/x', os.O_WRONLY | os.O_CREAT)\n"
                "os.write(fd, b'#!/bin/sh\\necho one\\n')\nchild = os.fork()\nif child == 0:\n    time.sleep(1000)\n"
                "os.close(fd)\nprint(child, flush=True)\nprint('closed', flush=True)\nos.wait()\n")
    child = int(p.stdout.readline())
    assert p.stdout.readline().strip() == b"closed"
    kill(child)
    assert m.result("x") == b"one\n"
    p.communicate()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGKILL], ids=lambda s: s.name)
@pytest.mark.parametrize("shell", ["bash", "dash"])
@pytest.mark.parametrize("how", ["{ echo '#!/bin/sh'; /bin/echo echo one; cat; echo echo two; } > $M/jobs/x",
                                 "exec 3> $M/jobs/x; echo '#!/bin/sh' >&3; echo echo one >&3; cat; echo echo two >&3"])
def test_commands_of_a_shell_are_killed_half_way(m, shell, how, sig):
    """Some of them have ended, and closed the file that the shell has open: the next one is cut off."""
    p = m.popen(shell, "-c", how + "; true", stdin=subprocess.PIPE, start_new_session=True)
    wait_until(lambda: (m.jobs / "x").exists() and b"one\n" in (m.jobs / "x").read_bytes(), "the text to be there")
    cat = int(wait_until(lambda: [child for child in text_of("/proc/%d/task/%d/children" % (p.pid, p.pid)).split()
                                  if text_of("/proc/%s/cmdline" % child) == "cat\0"], "cat")[0])
    os.killpg(p.pid, sig)
    p.wait()
    wait_until(lambda: not alive(cat), "cat to have closed the file, too")
    stays_draft(m, "x", sig.name)
    with open(m.jobs / "x", "ab") as f:
        f.write(b"echo two\n")
    assert m.result("x") == b"one\ntwo\n"


def test_threads_that_are_killed(m):
    p = m.popen("/usr/bin/python3", "-c",
                "import os, threading, time\nfd = os.open(os.environ['M'] + '/jobs/x', os.O_WRONLY | os.O_CREAT)\n"
                "threads = [threading.Thread(target=time.sleep, args=(1000,)) for _ in range(4)]\n[t.start() for t in threads]\n"
                "os.write(fd, b'#!/bin/sh\\necho one\\n')\nprint(flush=True)\ntime.sleep(1000)\n")
    p.stdout.readline()
    kill(p.pid)
    p.communicate()
    stays_draft(m, "x", "SIGKILL")


def test_writer_that_ends_without_closing(m):
    m.sh("/usr/bin/python3 -c \"import os; os.write(os.open('$M/jobs/x', os.O_WRONLY | os.O_CREAT), b'print(1)'); os._exit(3)\" || true")
    assert m.result("x") == b"1\n"


def test_writer_of_a_stream_is_killed(m):
    """Its whole lines are jobs, and are run; why says what happened."""
    p = m.popen("bash", "-c", "exec cat > $M/jobs/x.jsonl", stdin=subprocess.PIPE)
    p.stdin.write(b'{"call": "abs", "args": [-1]}\n{"call": "abs", "ar')
    p.stdin.flush()
    with open(wait_until(lambda: (m.jobs / "x.jsonl").exists() and m.results / "x.jsonl", "the stream")) as f:
        assert f.readline() == "1\n"
        wait_until(lambda: (m.jobs / "x.jsonl").stat().st_size == 49, "the second line")
        p.kill()
        p.wait()
        assert "not valid JSON" in f.readline() and f.readline() == ""
    assert m.wait("x.jsonl") == "done" and "SIGKILL" in m.why("x.jsonl")


@pytest.mark.limit(40)
def test_a_writer_that_becomes_another_program(m):
    """The kernel closes the file in the middle of exec, when what /proc says of the process waits for the end of that."""
    text = "import os; os.write(os.open(%r, os.O_WRONLY | os.O_CREAT), b'#!/bin/sh\\necho hi\\n'); os.execv('/bin/true', ['true'])" % str(m.jobs / "x.sh")
    subprocess.run(["/usr/bin/python3", "-c", text], check=True, timeout=30)
    assert (m.results / "x.sh").read_text() == "hi\n"
