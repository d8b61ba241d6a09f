"""ppfs-top(1) in a real terminal, tmux: what it shows, and what its keys do."""
import os
import subprocess
import sys
import uuid

import pytest
from ppfsmount import TOP, need_programs, wait_until

PROGRAM = TOP / "scripts/ppfs-top"


class Terminal:
    """A terminal of that size in which ppfs-top runs."""

    def __init__(self, mount, width=80, height=24, *, env=("LANG=C.UTF-8",)):
        self.name = "ppfs-" + uuid.uuid4().hex[:8]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), "env", *env, "sh", "-c",
                  'trap : INT; %s %s --delay 0.1 %s; echo "it ended with $?"; exec sleep 1000' % (sys.executable, PROGRAM, mount))

    def tmux(self, *args):
        return subprocess.run(["tmux", "-L", self.name, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    def screen(self):
        return self.tmux("capture-pane", "-p").stdout.decode(errors="replace").split("\n")[:-1]

    def press(self, *keys):
        for key in keys:
            self.tmux("send-keys", key)

    def until(self, text):
        """The screen that has that text."""
        return wait_until(lambda: text in "\n".join(self.screen()) and self.screen(), "the screen to show %r" % text)

    def line(self, text):
        """The first line with that text, once there is one."""
        return next((line for line in self.until(text) if text in line), "")


@pytest.fixture
def terminal():
    need_programs("tmux")
    made = []

    def start(*args, **words):
        made.append(Terminal(*args, **words))
        return made[-1]

    yield start
    for t in made:
        t.tmux("kill-server")


def some_work(m):
    (m.jobs / "G").mkdir()
    m.put("runs", "#!/bin/sh\necho epoch 7; exec sleep 1000\n")
    m.put("G/good", "#!/bin/sh\n")
    m.put("G/bad", "#!/bin/sh\necho last words >&2\nexit 3\n")
    m.put("G/held", "#!/bin/sh\n#ppfs: hold=1\n")
    m.put("later", "#!/bin/sh\n#ppfs: hold=1\n")
    assert m.wait("G/good") == "done" and m.wait("G/bad") == "failed"


@pytest.mark.parametrize("env", [("TERM=vt100",), ("TERM=ansi",), ("LC_ALL=xx_XX.UTF-8",)], ids=["vt100", "ansi", "no such locale"])
def test_terminals_and_locales_that_lack_something(m, terminal, env):
    m.put("runs", "#!/bin/sh\necho caf\u00e9; exec sleep 1000\n")
    t = terminal(m.mnt, env=env)
    t.until("caf")
    t.press("q")
    t.until("it ended with 0")


@pytest.mark.parametrize("width, height", [(80, 24), (200, 60)])
def test_what_it_shows(m, terminal, width, height):
    some_work(m)
    m.put("never", "#!/bin/sh\n#ppfs: cpus=9\n")
    t = terminal(m.mnt, width, height)
    lines = t.until("epoch 7")
    assert len(lines) == height and all(len(line) <= width for line in lines)
    assert "running 1/2  waiting 3  done 1  failed 1" in lines[0]
    for section in "nodes", "running", "waiting", "groups", "failures":
        t.until("-- %s " % section)  # the screen may be caught half drawn
    assert t.line("runs ").startswith(">runs") and "local" in t.line("runs ")
    assert "held" in t.line("later") and "needs 9 slots, and no" in t.line("never") and "exit status 3" in t.line("G/bad")
    group = t.line(" G ")
    assert "1/3  1 failed" in group and abs(group.count("#") - group.count("x")) <= 1 and group.count("x") > 2
    t.press("q")
    t.until("it ended with 0")


def test_keys_cancel_hold_and_run_again(m, terminal):
    some_work(m)
    t = terminal(m.mnt)
    t.until("epoch 7")
    t.press("c")
    t.until("cancel runs? (y/n)")
    t.press("n", "c")
    t.until("cancel runs? (y/n)")
    assert m.state("runs") == "running"
    t.press("y")
    assert m.wait("runs") == "cancelled"
    t.until("nothing runs")
    t.press("Tab", "+", "+", "-")  # of the job that is held
    wait_until(lambda: (m.info / "later/priority").read_text() == "1\n", "a higher priority")
    t.press("h")
    assert m.wait("later") == "done"
    t.until("nothing waits")
    t.press("Tab", "+", "h")  # of the group
    wait_until(lambda: m.state("G/held") in ("queued", "running", "done"), "it to be let go")
    t.press("Tab", "r")
    wait_until(lambda: (m.info / "G/bad/attempt").read_text() == "2\n", "its second attempt")
    t.press("r")
    t.press("Tab", "d")
    wait_until(lambda: (m.node / "state").read_text() == "drain\n", "the node to be drained")


def test_a_group_is_cancelled_as_a_whole(m, terminal):
    some_work(m)
    t = terminal(m.mnt)
    t.until("epoch 7")
    t.press("Tab", "Tab", "c")
    t.until("cancel G, all of it? (y/n)")
    t.press("y")
    assert m.wait("G/held") == "cancelled" and m.state("runs") == "running"
    os.unlink(m.jobs / "runs")


def test_a_group_is_held_and_let_go_as_a_whole(queue, terminal):
    (queue.jobs / "G/sub").mkdir(parents=True)
    names = ["G/0", "G/1", "G/sub/2"]
    queue.put(names[0], "#!/bin/sh\n#ppfs: hold=1\n")
    for name in names[1:]:
        queue.put(name, "#!/bin/sh\n")
    t = terminal(queue.mnt)
    t.line("0/3")
    t.press("Tab", "Tab", "h")
    wait_until(lambda: not any(queue.state(name) == "held" for name in names), "all to be let go")
    t.press("h")
    wait_until(lambda: all(queue.state(name) == "held" for name in names), "all to be held")
    t.press("h")
    wait_until(lambda: not any(queue.state(name) == "held" for name in names), "all to be let go")


def test_output_is_followed(m, terminal):
    os.mkfifo(m.work / "fifo")
    m.put("x", "#!/bin/sh\nseq 100; read line < %s; echo after that; echo to stderr >&2; exec sleep 1000\n" % (m.work / "fifo"))
    m.put("bad", "#!/bin/sh\necho last words >&2\nexit 3\n")
    t = terminal(m.mnt)
    t.until("100")
    t.press("Enter")
    lines = t.until("output of x")
    assert [line.strip() for line in lines[1:23]] == [str(i) for i in range(79, 101)]
    t.press("Up")
    wait_until(lambda: t.screen()[1].strip() == "78", "the text before")
    t.press("Down")
    (m.work / "fifo").write_text("go\n")
    t.until("after that")
    t.until("to stderr")
    t.press("q")
    t.until("-- failures")
    t.press("BTab", "BTab", "Enter")
    t.until("output of bad")
    t.until("last words")
    os.unlink(m.jobs / "x")


def test_what_a_terminal_would_obey_is_escaped(m, terminal):
    name = "a\033]0;title\007\u202eb"
    m.put(name, "#!/bin/sh\nprintf 'x\\033[2J\\033[31m\\007y'; printf 'why \\033[2J' >&2; exit 3\n")
    m.put("日本語" * 20, "#!/bin/sh\n#ppfs: hold=1\n")
    m.wait(name)
    t = terminal(m.mnt)
    assert "a\\x1b]0;tit" in t.line("a\\x1b")
    assert len(t.line("日本語")) <= 80
    t.press("BTab", "BTab", "Enter")
    t.until("output of a\\x1b]0;title\\x07\\u202eb")
    t.until("\\x1b[2J")


LOOK = r"""
import importlib.machinery, importlib.util, os, pathlib, sys
loader = importlib.machinery.SourceFileLoader("top", sys.argv[1])
top = importlib.util.module_from_spec(importlib.util.spec_from_loader("top", loader))
sys.modules["top"] = top
loader.exec_module(top)
asked = []
sys.addaudithook(lambda what, args: asked.append(args[0]) if what == "open" and str(args[0]).endswith("/state") else None)
shown = top.Mount(pathlib.Path(os.environ["M"])).look()["waiting"]
print(len(asked), len(shown))
"""


def test_jobs_that_tell_nothing_do_not_stop_it(shared, alice, mallory):
    p = mallory.sh(r"umask 077; for i in $(seq 500); do printf '#!/bin/sh\n#ppfs: hold=1\n' > $M/jobs/$i; done", M=shared.mnt)
    assert (p.returncode, p.stderr) == (0, "")
    p = alice.sh('/usr/bin/python3 -c "$LOOK" "$PROGRAM"', M=shared.mnt, LOOK=LOOK, PROGRAM=PROGRAM)
    asked, shown = map(int, p.stdout.split())
    assert 0 < asked <= 200 and shown == 0


def test_ctrl_c_and_faults(m, terminal, tmp_path):
    t = terminal(m.mnt)
    t.until("nothing runs")
    t.press("C-c")
    lines = t.until("it ended with 130")
    assert "Traceback" not in "\n".join(lines)
    p = subprocess.run([sys.executable, str(PROGRAM), str(m.mnt)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and p.stderr == "ppfs-top: this is no terminal; cat %s/stats shows the numbers\n" % m.mnt
    p = subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and p.stderr.startswith("ppfs-top: there is no ppfs mounted on ") and p.stderr.count("\n") == 1


def test_it_says_when_the_mount_has_gone(new_mount, terminal):
    mount = new_mount().start()
    t = terminal(mount.mnt)
    t.until("nothing runs")
    mount.unmount()
    t.until("does not answer")
    t.press("q")
    t.until("it ended with 0")


@pytest.mark.parametrize("size", [(30, 10), (41, 12)])
def test_small_terminals(m, terminal, size):
    some_work(m)
    t = terminal(m.mnt, *size)
    t.until("too small" if size[0] < 40 else "nodes")
    os.unlink(m.jobs / "runs")
