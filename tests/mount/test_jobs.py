"""ppfs(5), jobs/: what a job file may hold, and what a job is given to run in."""
import errno
import json
import math
import os
import pickle
import shutil

import pytest
from ppfsmount import PYTHON, need_module


def err(e):
    return errno.errorcode[e.value.errno]


# --- what a job file may hold ------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_protocols(m, protocol):
    m.put("x", pickle.dumps((pow, (2, 10), {"mod": 1000}), protocol))
    answer = m.result("x")
    assert answer[:1] == b"\x80" and pickle.loads(answer) == 24


@pytest.mark.parametrize("what, answer", [
    ((math.hypot, (3, 4), {}), 5.0),
    ((math.hypot, (3, 4)), 5.0),
    ((dict, {"a": 1}), {"a": 1}),
    ((dict, (), {"b": 2}), {"b": 2}),
    ((list,), []),
    (dict, {}),
    ((sorted, [[3, 1, 2]], {"reverse": True}), [3, 2, 1]),
], ids=["func args kwargs", "func args", "func kwargs", "no args", "func", "callable", "args as a list"])
def test_pickle_forms(m, what, answer):
    assert m.call("x", what) == answer


def test_cloudpickle(m):
    cloudpickle = need_module("cloudpickle")
    bound = 30
    m.put("x", cloudpickle.dumps((lambda n: [i for i in range(n, bound) if i % 7 == 0], (1,))))
    assert pickle.loads(m.result("x")) == [7, 14, 21, 28]


def test_prints_of_a_call(m):
    assert m.call("x", (print, ("said", "aloud"))) is None
    assert m.get("x", "stdout") == "said aloud"


@pytest.mark.parametrize("what, answer", [
    ({"call": "math.sqrt", "args": [2]}, math.sqrt(2)),
    ({"call": "int", "args": ["ff"], "kwargs": {"base": 16}}, 255),
    ({"call": "os.path.join", "args": ["a", "b"]}, "a/b"),
    ({"call": "dict", "kwargs": {"käse": "ä"}}, {"käse": "ä"}),
    ({"call": "list"}, []),
    ({"call": "print", "args": ["x"]}, None),
], ids=lambda v: v["call"] if isinstance(v, dict) and "call" in v else "")
def test_json_call(m, what, answer):
    m.put("x", what)
    assert json.loads(m.result("x")) == answer


def test_json_run(m):
    m.put("x", {"run": ["wc", "-l"], "stdin": "one\ntwo\nthree\n"})
    assert m.result("x").split() == [b"3"]
    m.put("y", {"run": ["/bin/sh", "-c", "echo out; echo err >&2; cat"], "stdin": "ä\n"})
    assert m.result("y") == "out\nä\n".encode()
    assert m.get("y", "stderr") == "err"
    m.put("z", {"run": ["cat"]})
    assert m.result("z") == b""


def test_json_with_spaces_and_options(m):
    m.put("x", '{\n  "run": ["sh", "-c", "echo $K"],\n  "env": "K:V",\n  "priority": 3,\n  "timeout": "30s"\n}\n')
    assert m.result("x") == b"V\n"
    assert m.get("x", "priority") == "3"


def test_json_run_large_stdin(m):
    m.put("x", {"run": ["wc", "-c"], "stdin": "0123456789" * 30000})
    assert m.result("x").split() == [b"300000"]


def test_python_text(m):
    m.put("x", "import sys\nprint(__name__, sys.argv)\n")
    assert m.result("x") == b"__main__ ['x']\n"


@pytest.mark.parametrize("line", ["#!" + PYTHON, "#!/usr/bin/env python3", "#! %s " % PYTHON])
def test_python_script_runs_warm(m, line):
    m.put("x.py", line + "\nimport os\nprint(os.path.basename(os.readlink('/proc/self/exe')))\n")
    assert m.result("x.py") == b"ppfs-worker\n"


@pytest.mark.parametrize("script, answer", [
    ("#!/bin/sh\necho shell $0 | cut -d' ' -f1\n", b"shell\n"),
    ("#! /bin/sh -e\nfalse\necho not here\n", None),
    ("#!/bin/bash\necho ${BASH_VERSION:+bash}\n", b"bash\n"),
    ("#!/usr/bin/env -S sh -u\necho ${nothing-unset}\n", b"unset\n"),
    ("#!/usr/bin/awk -f\nBEGIN { print 6 * 7 }\n", b"42\n"),
    ("#!/bin/cat\nitself\n", b"#!/bin/cat\nitself\n"),
    ("#!/bin/true\n", b""),
    ("#!/bin/sh\nprintf 'no newline'", b"no newline"),
], ids=["sh", "sh -e", "bash", "env -S", "awk", "cat", "true", "no newline"])
def test_script_for_an_interpreter(m, script, answer):
    m.put("x", script)
    if answer is None:
        m.failed("x")
        assert m.get("x", "exit") == "1"
    else:
        assert m.result("x") == answer


def test_script_name_is_kept(m):
    m.put("prog.sh", "#!/bin/sh\nbasename $0\n")
    assert m.result("prog.sh") == b"prog.sh\n"


@pytest.mark.parametrize("program, answer", [("true", b""), ("echo", b"\n"), ("false", None)])
def test_program(m, program, answer):
    shutil.copy("/bin/" + program, m.jobs / "x")
    if answer is None:
        assert "exit status 1" in m.failed("x")
    else:
        assert m.result("x") == answer


def test_decided_by_content_not_by_name(m):
    m.put("x.json", "print('python')\n")
    m.put("y.py", {"call": "abs", "args": [-1]})
    m.put("z.sh", pickle.dumps((abs, (-2,))))
    assert m.result("x.json") == b"python\n"
    assert json.loads(m.result("y.py")) == 1
    assert pickle.loads(m.result("z.sh")) == 2


@pytest.mark.parametrize("content", [b"\x00\x01\x02\xff", b"caf\xe9\n", bytes(range(255, 0, -1)), b"\x80\x63garbage"])
def test_anything_else_fails(m, content):
    m.put("x", content)
    text = m.failed("x")
    assert "Python" in text or "pickle" in text or "expected" in text
    m.works()


def test_exit_status(m):
    m.put("x", "#!/bin/sh\necho so far; echo complaint >&2; exit 7\n")
    text = m.failed("x")
    assert "7" in text.split("\n")[0]
    assert text.split("\n")[1] == "" and "complaint" in text
    assert m.get("x", "exit") == "7" and m.get("x", "stdout") == "so far"
    m.put("y", "import sys\nprint('py')\nsys.exit(9)\n")
    assert "9" in m.failed("y") and m.get("y", "exit") == "9"
    m.put("z", "raise ValueError('so bad')\n")
    text = m.failed("z")
    assert "Traceback" in text and "ValueError: so bad" in text and m.get("z", "exit") == "1"


def test_call_that_raises(m):
    m.put("w", (int, ("no number",)))
    text = m.failed("w")
    assert "ValueError" in text.split("\n")[0] and "no number" in text.split("\n")[0]
    m.put("x", (json.loads, ("no JSON",)))
    text = m.failed("x")
    assert text.split("\n")[1] == "" and "Traceback" in text
    m.put("y", {"call": "math.sqrt", "args": [-1]})
    assert "ValueError" in m.failed("y").split("\n")[0]


# --- what a job is given -----------------------------------------------------------------------------------------

def test_surroundings(m):
    os.mkdir(m.jobs / "G")
    m.put("G/x", "#!/bin/sh\necho $PPFS_JOB $PPFS_ATTEMPT $PPFS_NODE; pwd; readlink /proc/self/fd/0; "
          "for f in /proc/$$/fd/*; do [ -L $f ] && printf '%s ' ${f##*/}; done; ps -o pgid= -p $$; echo $$\n")
    out = m.result("G/x").decode().split("\n")
    assert out[0] == "G/x 1 local"
    assert out[1] == str(m.work)  # where the writer was
    assert out[2] == "/dev/null"
    fds, group = out[3].rsplit(" ", 1)
    assert not set(fds.split()) - {"0", "1", "2", "10",
                                   "255"}, "a descriptor leaked: %s" % fds  # 10, 255: the shell's own
    assert group.strip() == out[4], "not a process group of its own"


@pytest.mark.parametrize("kind", ["call", "script"])
def test_surroundings_of_python(m, kind):
    expr = ("__import__('os').environ['PPFS_JOB'], __import__('os').environ['PPFS_ATTEMPT'], __import__('os').getcwd(),"
            " __import__('sys').stdin.read(), __import__('os').getpgrp() == __import__('os').getpid()")
    if kind == "call":
        assert m.call("x", (eval, (expr,))) == ("x", "1", str(m.work), "", True)
    else:
        m.put("x", "print((%s))\n" % expr)
        assert m.result("x").decode() == "%r\n" % (("x", "1", str(m.work), "", True),)


def test_a_job_submits_jobs(new_mount):
    """$PPFS is the mount that the job is of, whatever the one who mounted had there; env= may say something else for one
    job and what that starts, and the next has the mount again."""
    m = new_mount(cpus=1, env={"PPFS": "/elsewhere"}).start()
    (m.work / "inner").write_text("#!/bin/sh\necho inner of $PPFS\n")
    m.put("x", "#!/bin/sh\ncp inner $PPFS/jobs/ && cat $PPFS/results/inner\n")
    assert m.result("x").decode() == "inner of %s\n" % m.mnt
    m.put("y", "import os, subprocess\nprint(os.environ['PPFS'], end=' ', flush=True)\n"
          "subprocess.run('echo $PPFS', shell=True)\n")
    assert m.result("y").decode() == "%s %s\n" % (m.mnt, m.mnt)
    m.put("c", {"call": "os.getenv", "args": ["PPFS"]})
    m.put("r", {"run": ["printenv", "PPFS"]})
    m.put("s.jsonl", '{"call": "os.getenv", "args": ["PPFS"]}\n')
    assert [json.loads(m.result(name)) for name in ("c", "s.jsonl")] == [str(m.mnt)] * 2
    assert m.result("r").decode() == "%s\n" % m.mnt
    for name, job in {"ec": {"call": "os.getenv", "args": ["PPFS"]}, "er": {"run": ["printenv", "PPFS"]}}.items():
        m.put(name, dict(job, env="PPFS:/mine"))
        assert m.result(name).decode().strip().strip('"') == "/mine"
        m.put("after", job)
        assert m.result("after").decode().strip().strip('"') == str(m.mnt)


def test_signals_are_as_a_shell_would_have_them(m):
    """A program does not inherit what the daemon or Python ignores or blocks."""
    m.put("x", "#!/bin/sh\ngrep -E 'SigBlk|SigIgn' /proc/self/status\n")
    for line in m.result("x").decode().splitlines():
        assert int(line.split()[1], 16) & ((1 << 31) - 1) == 0, line
    m.put("y", "#!/bin/bash\nset -o pipefail\nyes | head -n 1\n[ ${PIPESTATUS[0]} = 141 ] && echo as expected\n")
    assert m.result("y") == b"y\nas expected\n" and m.get("y", "stderr") == ""


TRACED = """import ctypes, os, signal, sys
signal.signal(signal.SIGUSR1, lambda *what: print("got it"))
assert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0
os.kill(os.getpid(), signal.SIGUSR1)
sys.stdout.flush()
%s
"""


def test_a_program_that_wants_to_be_traced(m):
    """It looks for a debugger, or is one: a signal, or that it calls exec, is not its end."""
    m.put("signal", {"run": [PYTHON, "-c", TRACED % "print('goes on')"]})
    m.put("exec", {"run": [PYTHON, "-c", TRACED % "os.execv('/bin/echo', ['echo', 'goes on'])"]})
    for name in "signal", "exec":
        assert m.result(name) == b"got it\ngoes on\n"
    m.put("calls.jsonl", json.dumps({"call": "exec", "args": [TRACED % ""]}) + "\n" + '{"call": "os.getppid"}\n')
    assert m.result("calls.jsonl").startswith(b"null\n")


def test_writer_inside_the_mount(m):
    """Then there is no sensible directory to run in: a fresh one, which is gone afterwards."""
    m.sh("cd $M/jobs && printf '#!/bin/sh\\npwd; ls -A; touch litter\\n' > x")
    where = m.result("x").decode().split()
    assert len(where) == 1 and not where[0].startswith(str(m.mnt))
    assert not os.path.exists(where[0])


def test_jobs_do_not_share_state(m1):
    """Directory, environment and arguments that a call changes are its own."""
    m = m1
    change = ("[__import__('os').chdir('/'), __import__('os').environ.update(LEAK='1'), "
              "__import__('sys').argv.append('leak')]")
    m.call("a", (eval, (change,)))
    where, leak, argv = m.call("b", (eval, ("__import__('os').getcwd(), __import__('os').environ.get('LEAK'), "
                                            "__import__('sys').argv",)))
    assert where == str(m.work) and leak is None and "leak" not in argv
    m.put("c", "import json\njson.leak = 1\nleak = 1\n")
    m.result("c")
    m.put("d", "import json\nprint(hasattr(json, 'leak'), 'leak' in globals())\n")
    assert m.result("d") == b"False False\n"
