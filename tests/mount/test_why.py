"""ppfs(5), info/NAME/why: what a job waits for, and why it failed."""
import os

from ppfsmount import wait_until
from streamframes import MAGIC, call, lines


def test_why_says_that_its_directory_goes(m):
    """Of a job whose writer is inside the mount, unless it names a directory; nobody else's."""
    m.sh("cd $M/jobs && printf '#!/bin/sh\\npwd; cat %s/fifo; exit $CODE\\n' > x; echo '#ppfs: cwd=/' > c.py; "
         "printf '#!/bin/sh\\nexit 1\\n' > f; echo '{\"call\": \"abs\", \"args\": [1]}' > call" % m.work)
    os.mkfifo(m.work / "fifo")
    m.is_running("x")
    assert "it runs in a directory of its own that will be removed" in m.why("x")
    (m.work / "fifo").write_text("")
    assert not m.result("x").startswith(bytes(m.mnt)) and "it ran in a directory of its own that was removed" in m.why("x")
    assert "exit status 1; it ran in a directory of its own that was removed" in m.failed("f")
    m.put("own", "print(1)\n")
    for name in ("c.py", "call", "own"):
        assert m.wait(name) == "done" and m.why(name) == ""


def test_why_of_a_failure_says_where_to_look(m):
    wide = "x" * 300
    for name, text, why in (
            ("err", "echo out; echo first >&2; printf 'the \\033 last\\n\\n' >&2; exit 3",
             "exit status 3; its last line is: the \\x1b last; see failures/err"),
            ("out", "echo only; exit 4", "exit status 4; its last line is: only; see info/out/stdout"),
            ("none", "exit 5", "exit status 5; it printed nothing"),
            ("signal", "echo oh >&2; kill -SEGV $$", "killed by SIGSEGV; its last line is: oh; see failures/signal"),
            ("wide", "echo %s >&2; exit 6" % wide, "exit status 6; its last line is: %s; see failures/wide" % wide[:200]),
            ("long", "yes | head -c 100000 >&2; exit 7", "exit status 7; see failures/long"),
            ("G/in", "echo in >&2; exit 8", "exit status 8; its last line is: in; see failures/G/in")):
        if "/" in name:
            (m.jobs / "G").mkdir()
        m.put(name, "#!/bin/sh\n%s\n" % text)
        assert m.wait(name) == "failed" and m.why(name) == why
        assert (m.failures / name).read_text().split("\n")[0] == why.split(";")[0]
    m.put("python", "1 / 0\n")
    assert m.wait("python") == "failed" and m.why("python") == "exit status 1: ZeroDivisionError: division by zero; see failures/python"
    m.put("memory", "#!/bin/sh\n#ppfs: memory=50M\necho no room >&2; exit 9\n")
    assert m.wait("memory") == "failed" and m.why("memory") == ("exit status 9; its last line is: no room; see failures/memory; "
                                                                 "its processes could have 51200 KiB of memory each (memory=)")
    m.put("call", '{"call": "os.nofun"}')
    assert m.wait("call") == "failed" and m.why("call") == "there is no 'os.nofun' to call"
    m.put("nowhere", '{"run": ["nosuchprogram"]}')
    assert m.wait("nowhere") == "failed" and m.why("nowhere") == "there is no program nosuchprogram in PATH"
    m.put("never", "#!/bin/sh\n#ppfs: after=err\n")
    assert m.wait("never") == "failed" and m.why("never") == "not started, because err failed"


def test_why_calls_wait(m):
    """One with options for what it says, as nothing else shows it; others for a slot."""
    streams = []
    m.put("od\033d", "#!/bin/sh\n#ppfs: hold=1\n")
    for name, options, why in (("held", b'{"hold": 1}', "it is held"), ("after", b'{"after": "held"}', "waits for held, which is running"),
                               ("odd", b'{"after": "od\\u001bd"}', "waits for od\\x1bd, which is held"),
                               ("cpus", b'{"cpus": 9}', "needs 9 slots, and no node that it may run on has more than 2")):
        streams.append(open(m.jobs / name, "wb", buffering=0))
        streams[-1].write(MAGIC + call(1, abs, -1, options=options))
        wait_until(lambda: m.why(name) == "0 calls are answered, 1 are under way; it is still open for writing; call 1 has options and waits: " + why, name)
    m.put("s.jsonl", lines(*[{"call": "time.sleep", "args": [1000]}] * 5))
    wait_until(lambda: m.why("s.jsonl") == "0 calls are answered, 5 are under way; 3 of them wait: waits for 1 of 2 slots to be free",
               "two to run")
    for f in streams:
        f.close()
