"""Bad input and jobs that misbehave: each ends with one sentence that says why, and the next job runs."""
import json
import os
import pickle
import random
import struct

import pytest
from ppfsmount import sanitized, wait_until
from processes import alive, text_of

no_sanitizer = pytest.mark.skipif(sanitized(), reason="an address space limit does not go with AddressSanitizer")


def ends(m, name="x", *words):
    """It fails, its sentence has the words; then the next job runs normally."""
    text = m.failed(name)
    for word in words:
        assert word.lower() in text.split("\n")[0].lower(), "%r is not in: %s" % (word, text.split("\n")[0])
    m.works()
    return text


# --- pickles -----------------------------------------------------------------------------------------------------

WHOLE = pickle.dumps((sorted, (list(range(300)),), {"reverse": True}), 4)


@pytest.mark.parametrize("size", [2, 3, 11, 40, len(WHOLE) // 2, len(WHOLE) - 1])
def test_truncated_pickle(m, size):
    m.put("x", WHOLE[:size])
    ends(m, "x", "pickle")


def test_truncated_at_every_byte(m):
    """As a group of many: every one of them ends, none hangs a worker."""
    os.mkdir(m.jobs / "G")
    short = pickle.dumps((pow, (2, 5)), 4)
    for size in range(2, len(short)):
        m.put("G/%d" % size, short[:size])
    assert (m.info / "G/.wait").read_text() == "done 0 failed %d\n" % (len(short) - 2)
    m.works()


def test_garbled_pickles(m):
    """Bytes changed at random, seeds fixed: whatever happens, each ends and the next job runs. The pickle holds no more
    than a number and the name of abs, so that nothing harmful can come of it."""
    os.mkdir(m.jobs / "G")
    rng = random.Random(5)
    base = pickle.dumps((abs, (-12345,)), 4)
    for i in range(150):
        data = bytearray(base)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(2, len(data))] = rng.randrange(256)
        m.put("G/%d" % i, bytes(data))
    words = (m.info / "G/.wait").read_text().split()
    assert int(words[1]) + int(words[3]) == 150
    for name in os.listdir(m.failures / "G"):
        assert m.why("G/" + name)
    m.works()


class Evil:
    """Unpickling it calls a function."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("what, words", [
    (Evil(os._exit, 3), ["3"]),
    (Evil(os.abort), ["SIGABRT"]),
    (Evil(eval, "__import__('os').kill(__import__('os').getpid(), 11)"), ["SIGSEGV"]),
    (Evil(eval, "1/0"), ["ZeroDivisionError"]),
    (Evil(eval, "__import__('sys').exit(0)"), []),
    (Evil(eval, "(_ for _ in ()).throw(KeyboardInterrupt)"), []),
], ids=["_exit", "abort", "segfault", "raises", "SystemExit", "KeyboardInterrupt"])
def test_malicious_pickle(m, what, words):
    m.put("x", pickle.dumps((what, ())))
    ends(m, "x", *words)


def test_malicious_pickle_that_runs_a_command(m):
    """It is a call like any other; it cannot be told apart, but it runs in a worker and not in the daemon."""
    m.put("x", pickle.dumps((Evil(eval, "__import__('os').getppid()"), ())))
    ends(m, "x", "callable")
    m.put("y", pickle.dumps(Evil(eval, "open(%r, 'w').write(str(__import__('os').getpid()))" % str(m.work / "pid"))))
    ends(m, "y")
    assert int((m.work / "pid").read_text()) not in (m.supervisor, m.first_daemon, m.pids()["forkserver"])


@pytest.mark.parametrize("data, word", [
    (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"abc.", ""),          # a string of 2^62 bytes
    (b"\x80\x02" + b"(" * 100_000 + b".", ""),                            # marks without end
    (b"\x80\x02" + b"]" * 500_000 + b"a" * 499_999 + b".", ""),           # nested lists
    (b"\x80\x02" + b"r\xff\xff\xff\xff" * 2 + b".", ""),                  # a memo index far away
    (b"\x80\x02N" + b"r\xff\xff\xff\x03" + b".", ""),
    (b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"N.", ""),           # a frame that is not there
    (b"\x80\x02N.", "callable"), (b"\x80\x02K\x05.", "callable"), (b"\x80\x02).", ""),  # no call at all
    (b"\x80\x02c__builtin__\nabs\nK\x05\x86.", ""),                       # args that are no tuple
    (b"\x80\x63rubbish", ""), (b"\x80", ""), (b"\x80\x02", ""), (b"\x80\x02.", ""),
], ids=lambda v: repr(v[:12])[2:-1] + ("..%d" % len(v)) if isinstance(v, bytes) else "")
def test_malformed_pickle(m, data, word):
    m.put("x", data)
    ends(m, "x", word)


@pytest.mark.parametrize("name, word", [("nosuchmodule\nf", "nosuchmodule"), ("math\nnosuchfunction", "nosuchfunction"),
                                        ("nosuchpackage.sub\nf", "nosuchpackage"), ("math\npi", "callable"),
                                        ("os.path\n", "")])
def test_pickle_of_what_is_not_there(m, name, word):
    m.put("x", b"\x80\x02c" + name.encode() + b"\n)\x86.")
    ends(m, "x", word)


@pytest.mark.parametrize("value, word", [("(i for i in ())", "generator"), ("__import__('sys')._getframe()", "frame"),
                                         ("__import__('socket').socket()", "socket")])
def test_result_that_cannot_be_pickled(m, value, word):
    m.put("x", (eval, (value,)))
    ends(m, "x", word)


@pytest.mark.parametrize("value, word", [("object()", "object"), ("{1, 2}", "set"), ("b'x'", "bytes"),
                                         ("1j", "complex"), ("{(1, 2): 3}", "tuple")])
def test_result_that_is_no_json(m, value, word):
    m.put("x", {"call": "eval", "args": [value]})
    ends(m, "x", word)


def test_result_whose_pickling_misbehaves(m):
    code = "type('T', (), {'__reduce__': lambda self: %s})()"
    for i, what in enumerate(("1/0", "__import__('os')._exit(4)", "'nonsense'", "self.__reduce__()")):
        m.put("x%d" % i, (eval, (code % what,)))
        ends(m, "x%d" % i)


# --- JSON --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, word", [
    ('{"call": "math.sqrt", "args": [2]', "JSON"), ('{"call": "math.sqrt",}', "JSON"), ("{", "JSON"), ("{}", "call"),
    ("{]", "JSON"),
    ('{"call": "math.sqrt", "args": [2]} and more', "JSON"), ('{"call": 5}', "call"), ('{"call": ""}', "call"),
    ('{"call": null}', "call"),
    ('{"call": "math.sqrt", "run": ["true"]}', "run"), ('{"call": "abs", "args": 5}', "args"),
    ('{"call": "abs", "args": {"a": 1}}', "args"),
    ('{"call": "abs", "kwargs": [1]}', "kwargs"), ('{"args": [1]}', "call"), ('{"run": "ls"}', "run"),
    ('{"run": []}', "run"),
    ('{"run": ["ls", 5]}', "run"), ('{"run": ["cat"], "stdin": 5}', "stdin"),
    ('{"call": "abs", "args": [NaN]}', "JSON"),
    ('{"call": "abs", "stdin": "x"}', "stdin"), ('{"call": "abs\\u0000"}', ""), ('{"run": ["echo", "a\\u0000b"]}', ""),
    ('{"call": "abs", "args": [1], "args": [2]}', ""), ("{" * 10_000, "JSON"),
    ('{"call": "abs", "args": ' + "[" * 50_000, "JSON"),
    ('{"call": "abs", "args": ' + "[" * 50_000 + "]" * 50_000 + "}", ""), ('{"call": "abs", "args": ["\\ud800"]}', ""),
    ('{"call": "abs", "args": [1e999]}', ""), ("{'call': 'abs'}", "JSON"),
], ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_json_that_is_wrong(m, text, word):
    m.put("x", text)
    ends(m, "x", word)


@pytest.mark.parametrize("call, word", [("nosuch", "nosuch"), ("math.nosuch", "nosuch"), ("nosuch.f", "nosuch"),
                                        ("math", "math"), ("os.path", ""),
                                        (".abs", ""), ("abs.", ""), ("a..b", ""), ("math.pi", "float"),
                                        ("x" * 10_000, ""), ("math.sqrt()", ""),
                                        ("ä.ö", "ä")])
def test_json_call_of_what_is_not_there(m, call, word):
    m.put("x", {"call": call})
    ends(m, "x", word)


@pytest.mark.parametrize("argv, word", [(["no-such-program-here"], "no-such-program-here"),
                                        (["/etc/passwd"], "/etc/passwd"), (["/"], "/"), ([""], "")])
def test_json_run_of_what_cannot_run(m, argv, word):
    m.put("x", {"run": argv})
    ends(m, "x", word)


def test_json_that_is_too_large(m):
    m.put("x", json.dumps({"call": "len", "args": ["x" * (17 << 20)]}))
    ends(m, "x", "16")


# --- other bytes -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(6))
def test_binary_rubbish(m, seed):
    data = bytes([[0, 1, 0xff, 0xfe, 0x90, 0x1f][seed]]) + random.Random(seed).randbytes(5000) + b"\xff\xfe"
    m.put("x", data)
    text = ends(m, "x")
    assert "expected" in text or "Python" in text


@pytest.mark.parametrize("data, word", [
    ("print('a')\0print('b')\n".encode(), ""), ("print('utf-16')\n".encode("utf-16"), ""), (b"caf\xe9 = 1\n", ""),
    (b"#!/no/such/interpreter\n", "/no/such/interpreter"), (b"#!\n", ""), (b"#!", ""), (b"#! \n", ""),
    (b"#!/etc/passwd\n", "/etc/passwd"), (b"#!/tmp\n", "/tmp"),
    (b"#!/bin/sh\r\necho crlf\r\n", ""), (b"#!" + b"x" * 5000 + b"\n", ""),
    (b"#!/usr/bin/env no-such-program-here\n", "127"),
    (b"\x7fELF", ""), (b"\x7fELF" + b"\x02\x01\x01" + bytes(500), ""), (b"\x7fELF" + random.Random(1).randbytes(5000),
                                                                        ""),
    (b"\n" * 1000 + b"(", "Syntax"), (b"\t \n  x\n y", "Indentation"), (b"(" * 500 + b"\n", ""), (b"x" * 300_000, ""),
], ids=lambda v: repr(v[:24])[2:-1] if isinstance(v, bytes) else "")
def test_files_that_are_nearly_right(m, data, word):
    m.put("x", data)
    if m.wait("x") == "failed":
        ends(m, "x", word)
    else:
        m.works()


def test_program_cut_in_half(m):
    with open("/bin/ls", "rb") as f:
        data = f.read()
    m.put("x", data[:len(data) // 2])
    ends(m)


# --- names -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127, "日本語", "with space", "-rf", "--", "a\nb", "quote'\"s",
                                  "back\\slash", "$(touch x)", "a;b",
                                  "*", "#", "~", "%s%n", "tab\t", "\x7f\x01", "\u202eabc", "x.json", "x..", "CON"])
def test_strange_names(m, name):
    for kind, text in (("sh", "#!/bin/sh\nprintf %s \"$PPFS_JOB\"\n"),
                       ("py", "import os\nprint(os.environ['PPFS_JOB'], end='')\n")):
        m.put(name, text)
        assert m.result(name).decode() == name, kind
        assert os.listdir(m.results) == [name] and m.state(name) == "done"
        os.unlink(m.results / name)
    m.put(name, (os.getenv, ("PPFS_JOB",)))
    assert pickle.loads(m.result(name)) == name
    m.put(name, {"run": ["printenv", "PPFS_JOB"]})
    assert m.result(name).decode() == name + "\n"
    os.unlink(m.results / name)
    m.works()


def test_name_that_is_no_utf8(m):
    name = b"\xff\xfe\x80name"
    path = os.path.join(os.fsencode(m.jobs), name)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"#!/bin/sh\nprintf %s \"$PPFS_JOB\"\n")
    os.close(fd)
    with open(os.path.join(os.fsencode(m.results), name), "rb") as f:
        assert f.read() == name
    m.works()


def test_name_that_is_too_long(m):
    with pytest.raises(OSError, match="too long"):
        m.put("n" * 256, "print(1)\n")
    with pytest.raises(OSError, match="too long"):
        os.mkdir(m.jobs / ("n" * 256))
    m.works()


def test_long_path_of_groups(m):
    path = "/".join(["g" * 200] * 15)
    os.makedirs(m.jobs / path)
    m.put(path + "/x", "#!/bin/sh\nprintf %s \"$PPFS_JOB\" | wc -c\n")
    assert m.result(path + "/x").split() == [str(len(path) + 2).encode()]


# --- jobs that end badly -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, words", [
    ("__import__('os')._exit(3)", ["3"]), ("__import__('os')._exit(0)", []), ("__import__('os').abort()", ["SIGABRT"]),
    ("__import__('ctypes').string_at(0)", ["SIGSEGV"]), ("__import__('os').kill(__import__('os').getpid(), 9)",
                                                         ["SIGKILL"]),
    ("__import__('os').kill(0, 15)", ["SIGTERM"]), ("__import__('os').execv('/bin/false', ['false'])", ["1"]),
    ("__import__('os').execv('/bin/true', ['true'])", []), ("__import__('sys').exit(5)", []),
    ("exec('raise KeyboardInterrupt')", ["KeyboardInterrupt"]),
    ("exec('raise BaseException(5)')", ["BaseException"]), ("exec('def f(): f()\\nf()', {})", ["Recursion"]),
    ("exec('import sys\\nsys.setrecursionlimit(10**9)\\ndef f(x): return sorted((1,), key=f)\\nf(1)', {})", []),
    ("exec('raise ValueError(\"two\\\\nlines\")')", ["ValueError", "two"]),
    ("exec('raise ValueError(\"x\" * 10**7)')", ["ValueError"]),
    ("exec('class E(Exception):\\n def __str__(self): 1/0\\nraise E()')", ["E"]),
    ("exec('raise type(\"E\", (Exception,), {\"__module__\": 5})')", []),
    ("exec('raise ValueError(chr(0xd800))')", ["ValueError"]), ("exec('raise ValueError(chr(0))')", ["ValueError"]),
    ("__import__('faulthandler')._sigsegv()", ["SIGSEGV"]), ("__import__('signal').raise_signal(31)", ["SIGSYS"]),
    ("__import__('signal').raise_signal(40)", []),
], ids=lambda v: v[:60] if isinstance(v, str) else "")
def test_call_that_ends_badly(m, code, words):
    m.put("x", (eval, (code,)))
    ends(m, "x", *words)


def test_crash_harms_no_other_job(m):
    """One slot crashes again and again, the other's jobs never notice."""
    for i in range(20):
        m.put("bad%d" % i, (eval, ("__import__('os').kill(__import__('os').getpid(), 11)",)))
        m.put("good%d" % i, "#!/bin/sh\nsleep 0.02; echo good\n")
    assert (m.info / ".wait").read_text() == "done 20 failed 20\n"
    for i in range(20):
        assert m.result("good%d" % i) == b"good\n"
        assert "SIGSEGV" in m.why("bad%d" % i)


def test_call_that_kills_its_parent(m):
    """The fork server dies; who did it runs again and fails at the third death, everybody else is served."""
    m.put("x", (eval, ("__import__('os').kill(__import__('os').getppid(), 9) or __import__('time').sleep(1000)",)))
    ends(m)


def test_script_that_kills_the_daemon(m):
    """As root it can. At the third death it fails and says so; nothing else is lost."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    m.put("other", "#ppfs: hold=1\nprint('other')\n")
    m.may_restart = True
    m.put("x", "import os, time\npid = os.getpid()\nfor _ in range(6):\n"
          "    if os.readlink('/proc/%d/exe' % pid).endswith('/ppfs'): os.kill(pid, 9); break\n"
          "    pid = int(open('/proc/%d/stat' % pid).read().rpartition(')')[2].split()[1])\ntime.sleep(1000)\n")
    ends(m)
    (m.info / "other/hold").write_text("0")
    assert m.result("other") == b"other\n"


def test_stops_itself(m):
    m.put("x", "#!/bin/sh\n#ppfs: timeout=1s\nkill -STOP $$\n")
    m.put("y", {"call": "eval", "args": ["__import__('os').kill(__import__('os').getpid(), 19)"], "timeout": "1s"})
    for name in "xy":
        assert m.wait(name) == "failed" and "time" in m.why(name)
    m.works()


# --- jobs that leave things behind -------------------------------------------------------------------------------

DAEMON = """import os, time
for i in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open('%s/d%%d' %% i, 'w').write(str(os.getpid()))
            time.sleep(1000)
        os._exit(0)
there = lambda i: os.path.exists('%s/d%%d' %% i) and os.path.getsize('%s/d%%d' %% i) > 0
while not all(there(i) for i in range(3)): time.sleep(0.01)
"""


@pytest.mark.parametrize("kind", ["script", "call", "sh"])
def test_daemons_are_killed(m, kind):
    """They hold stdout open, have left the process group and the session: the job ends, and they are dead."""
    code = DAEMON % ((m.work,) * 3)
    if kind == "sh":
        m.put("x",
              "#!/bin/bash\nfor i in 0 1 2; do\n"
              "(setsid bash -c 'echo $BASHPID > %s/d'$i'; sleep 1000 & sleep 1001' &)\n"
              "done\nuntil [ -s %s/d0 ] && [ -s %s/d1 ] && [ -s %s/d2 ]; do sleep 0.01; done\necho ended\n" %
              ((m.work,) * 4))
    else:
        m.put("x", (exec, (code, {})) if kind == "call" else code + "print('ended')\n")
    assert m.wait("x") == "done", m.why("x")
    if kind != "call":
        assert m.result("x") == b"ended\n"
    for i in range(3):
        pid = int(text_of(m.work / ("d%d" % i)))
        assert not alive(pid), "a daemon that the job left lives on"
    m.works()


def test_children_left_in_the_background(m):
    m.put("x", "#!/bin/sh\nsleep 1000 &\necho $! > %s/pid\necho ended\n" % m.work)
    assert m.result("x") == b"ended\n"
    assert not alive(int((m.work / "pid").read_text()))


def test_many_children(m):
    m.put("x",
          "import os, time\nfor _ in range(200):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(1000)\n"
          "print('many')\n")
    assert m.result("x") == b"many\n"
    forkserver = m.pids()["forkserver"]
    wait_until(lambda: len(m.marked()) <= 12 and m.pids()["forkserver"] == forkserver, "the children to be dead")
    m.works()


def test_threads_left_behind(m1):
    m = m1
    m.put("x", (exec,
                ("import threading, time\n"
                  "for _ in range(5): threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n", {})))
    assert pickle.loads(m.result("x")) is None
    m.works()
    m.put("y", (exec, ("import threading, time\nthreading.Thread(target=time.sleep, args=(1000,)).start()\n", {})))
    assert pickle.loads(m.result("y")) is None
    assert m.call("z", (eval, ("__import__('threading').active_count()",))) == 1


# --- descriptors -------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code", [
    "__import__('os').closerange(0, 65536)", "__import__('os').closerange(3, 65536)",
    "[__import__('os').close(i) for i in (0, 1, 2)]",
    "[__import__('os').dup2(__import__('os').open('/dev/null', 2), i) for i in range(3, 200)]",
    "[print('x', file=f) for f in (__import__('sys').stdout.close() or [])]",
    "exec('import os\\nfor i in range(3, 1000):\\n try: os.write(i, b\"rubbish\" * 1000)\\n except OSError: pass')",
    "exec('import os\\nfor i in range(3, 1000):\\n try: os.set_blocking(i, False)\\n except OSError: pass')",
    "exec('import socket, os\\nfor i in range(3, 1000):\\n try: socket.socket(fileno=os.dup(i)).shutdown(2)\\n"
    " except OSError: pass')",
    "__import__('resource').setrlimit(__import__('resource').RLIMIT_NOFILE, (0, 0))",
    "__import__('resource').setrlimit(__import__('resource').RLIMIT_CPU, (1, 1)) or exec('while True: pass')",
    "__import__('signal').pthread_sigmask(0, range(1, 65)) and None",
    "__import__('signal').alarm(1) or __import__('time').sleep(1000)",
    "__import__('os').umask(0o777) * 0",
    "__import__('os').chroot('/proc') if __import__('os').geteuid() == 0 else None",
    "__import__('os').setpgid(0, 0)", "__import__('os').nice(19) * 0",
    "exec('import sys; sys.stdout = sys.stderr = None')",
    "exec('import gc; gc.disable()')",
], ids=lambda v: v[-50:])
@pytest.mark.parametrize("kind", ["call", "script"])
def test_tampering(m1, code, kind):
    """Whatever it does to its own process: it ends one way or another, and the only slot serves the next job as new."""
    m = m1
    m.put("x", (eval, (code,)) if kind == "call" else "eval(%r)\n" % code)
    assert m.wait("x") in ("done", "failed")
    if m.state("x") == "failed":
        assert m.why("x")
    m.works()
    assert m.call("umask", (eval, ("(__import__('os').umask(0o22), __import__('os').getcwd())",)))[1] == str(m.work)


def test_sh_closes_its_descriptors(m):
    m.put("x",
          "#!/bin/bash\nexec <&- >&- 2>&-\nfor i in $(ls /proc/$$/fd 2>/dev/null); do eval \"exec $i>&-\"; done\n"
          "exit 0\n")
    assert m.wait("x") == "done"
    m.works()


# --- floods ------------------------------------------------------------------------------------------------------

@pytest.mark.limit(240)
def test_a_gigabyte_of_stdout(m):
    """It ends; small jobs beside it are served meanwhile."""
    m.put("x", "#!/bin/sh\nexec head -c 1000000000 /dev/zero\n")
    reader = m.popen("cat", m.results / "x", stdout=open(os.devnull, "wb"))
    beside = 0
    while m.state("x") != "done" and m.state("x") != "failed":
        m.put("beside", {"call": "abs", "args": [-beside]})
        assert json.loads(m.result("beside")) == beside
        beside += 1
    assert beside > 0
    reader.communicate()
    if m.state("x") == "done":
        assert (m.results / "x").stat().st_size == 1_000_000_000 and reader.returncode == 0
    else:
        m.failed("x")
    os.rmdir(m.info / "x")
    m.works()


@pytest.mark.limit(120)
def test_stderr_flood_of_a_call(m):
    m.put("x", (exec,
                ("import os\nfor _ in range(100): os.write(2, b'e' * 1000000)\nraise ValueError('after much noise')",
                 {})))
    text = ends(m, "x", "ValueError")
    assert len(text) < 1_000_000


def test_stderr_flood_of_a_script(m):
    m.put("x", "#!/bin/sh\nhead -c 30000000 /dev/zero | tr '\\0' e >&2; echo the end >&2; exit 1\n")
    text = ends(m)
    assert text.rstrip().endswith("the end") and len(text) < 200_000


def test_output_without_a_reader_of_its_pipe(m):
    """A program that ignores SIGPIPE and EPIPE and goes on writing is no trouble when its job is removed."""
    m.put("x", "#!/bin/sh\ntrap '' PIPE\nwhile :; do echo more; done\n")
    wait_until(lambda: m.state("x") == "running" and (m.info / "x/stdout").exists(), "x to run")
    os.unlink(m.jobs / "x")
    assert m.wait("x") == "cancelled"
    m.works()


@no_sanitizer
@pytest.mark.parametrize("what", [
    {"call": "eval", "args": ["[bytearray(10_000_000) for _ in iter(int, 1)]"], "memory": "256M"},
    {"run": ["/bin/sh", "-c", "tail /dev/zero"], "memory": "256M"},
    "#ppfs: memory=256M\nx = []\nwhile True: x.append(bytearray(1_000_000))\n",
    "#ppfs: memory=256M\nimport ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
    "while True: ctypes.memset(libc.malloc(1_000_000), 1, 1_000_000)\n",
    "#ppfs: memory=256M\nx = 'x' * 200_000_000\nimport re\nre.compile('(x+x+)+y' * 1000)\ny = x + x\n",
], ids=["call", "run", "script", "malloc unchecked", "copies"])
def test_fills_memory(m, what):
    m.put("x", what)
    ends(m)


@no_sanitizer
def test_result_larger_than_the_memory_left(m):
    m.put("x", {"call": "eval", "args": ["'x' * 150_000_000"], "memory": "256M"})
    ends(m, "x", "memory")
