"""Job files as text: byte order marks, names that are no UTF-8, numbers and half characters of JSON, ends of lines,
and what other programs' scripts are told."""
import json
import os
import pathlib

import pytest

MARK = b"\xef\xbb\xbf"
NAME = b"caf\xe9"  # of a file, and no UTF-8
SHOWN = b"caf\\xe9"  # in a reason


# --- what stands before the text ---------------------------------------------------------------------------------

@pytest.mark.parametrize("name, text, result", [
    ("run", b'{"run": ["echo", "ran"], "env": {"A": 1}}', b"ran\n"), ("call", b'{"call": "abs", "args": [-3]}', b"3\n"),
    ("sh", b"#!/bin/sh\n#ppfs: env=WORD:ran\necho $WORD\n", b"ran\n"), ("py", b"#!/usr/bin/env python3\nprint('ran')\n", b"ran\n"),
    ("source", b"#ppfs: env=WORD:ran\nimport os\nprint(os.environ['WORD'])\n", b"ran\n"),
    ("s.jsonl", b'{"call": "abs", "args": [-3]}\n{"run": ["echo", "ran"]}\n', b'3\n"ran\\n"\n'),
    ("large", b"#!/bin/sh\n#ppfs: env=WORD:ran\necho $WORD\n" + b"# more\n" * 20000, b"ran\n"),
    ("large.json", b'{"call": "len", "args": ["' + b"x" * 100000 + b'"]}', b"100000\n"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_byte_order_mark(m, name, text, result):
    m.put(name, MARK + text)
    assert m.result(name) == result


def test_byte_order_mark_is_not_lost_on_options(m):
    m.put("x", MARK + b'{"run": ["sleep", "100"], "timeout": "0.2"}')
    assert m.wait("x") == "failed" and "timed out" in m.why("x")
    (m.jobs / ".options").write_bytes(MARK + b"env=WORD:ran\n")
    m.put("y", b"#!/bin/sh\necho $WORD\n")
    assert m.result("y") == b"ran\n"
    m.put("both.jsonl", MARK + b'{"call": "abs", "args": [-1]}\n' + MARK + b'{"call": "abs", "args": [-2], "retries": 1}\n')
    assert m.result("both.jsonl") == b"1\n2\n"  # as cat makes it of two files


def test_blank_lines_before(m):
    m.put("json", b'\n  {"run": ["echo", "ran"]}\n')
    assert m.result("json") == b"ran\n"
    m.put("sh", b"\n#!/bin/sh\nX=3\n")
    assert "blank lines" in m.failed("sh")


# --- names are bytes ---------------------------------------------------------------------------------------------

def write(m, name, text):
    fd = os.open(os.path.join(os.fsencode(m.jobs), name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, text)
    os.close(fd)


@pytest.mark.parametrize("form", ["script", "json", "line", "group"])
def test_after_a_name_that_is_no_utf8(m, form):
    write(m, NAME, b"#!/bin/sh\n#ppfs: hold=1\necho first >> %s/order\n" % os.fsencode(m.work))
    second = b"echo second >> %s/order" % os.fsencode(m.work)
    if form == "script":
        write(m, b"x", b"#!/bin/sh\n#ppfs: after=" + NAME + b"\n" + second + b"\n")
    elif form == "group":
        (m.jobs / ".options").write_bytes(b"after=" + NAME + b"\n")
        write(m, b"x", b"#!/bin/sh\n" + second + b"\n")
    else:
        job = {"run": ["sh", "-c", second.decode()], "after": os.fsdecode(NAME)}
        write(m, b"x.jsonl" if form == "line" else b"x", json.dumps(job).encode() + b"\n")
    if form != "line":
        assert m.state("x") == "waiting" and (m.info / "x/why").read_bytes() == b"waits for " + SHOWN + b", which is held\n"
    pathlib.Path(os.fsdecode(os.path.join(os.fsencode(m.info), NAME, b"hold"))).write_text("0")
    assert m.wait("x.jsonl" if form == "line" else "x") == "done"
    assert (m.work / "order").read_text() == "first\nsecond\n"


def test_directory_and_environment_that_are_no_utf8(m):
    directory = os.path.join(os.fsencode(m.work), NAME)
    os.mkdir(directory)
    write(m, b"script", b"#!/bin/sh\n#ppfs: 'cwd=" + directory + b"' env=KEY:" + NAME + b"\n/bin/pwd\necho $KEY\n")
    assert m.result("script") == directory + b"\n" + NAME + b"\n"
    m.put("json", {"run": ["sh", "-c", "/bin/pwd; echo $KEY $1", "sh", os.fsdecode(NAME)], "cwd": os.fsdecode(directory), "env": {"KEY": os.fsdecode(NAME)}})
    assert m.result("json") == directory + b"\n" + NAME + b" " + NAME + b"\n"
    m.put("stdin", {"run": ["cat"], "stdin": os.fsdecode(NAME)})
    assert m.result("stdin") == NAME
    m.put("node", b"#!/bin/sh\n#ppfs: node=" + NAME + b"\ntrue\n")
    assert m.state("node") == "waiting" and SHOWN in (m.info / "node/why").read_bytes()
    m.put("raw", b'{"run": ["cat", "' + NAME + b'"]}')
    assert "UTF-8" in m.failed("raw")


# --- JSON --------------------------------------------------------------------------------------------------------

LARGE = '[18446744073709551616, 1e400, "\\udce9", -0.0]'


@pytest.mark.parametrize("name", ["x", "x.jsonl"])
def test_arguments_are_handed_on_as_they_are(m, name):
    m.put(name, '{"call": "repr", "args": [%s]}\n' % LARGE)
    assert json.loads(m.result(name)) == "[18446744073709551616, inf, '\\udce9', -0.0]"
    m.put("y" + name, '{"call": "repr", "args": [%s], "priority": 2}\n' % LARGE)
    assert json.loads(m.result("y" + name)) == "[18446744073709551616, inf, '\\udce9', -0.0]"
    m.put("env" + name, '{"call": "os.getenv", "args": ["N"], "env": {"N": 18446744073709551616}}\n')
    assert json.loads(m.result("env" + name)) == "18446744073709551616"


def test_option_that_is_too_large_is_named(m):
    m.put("x", '{"call": "abs", "args": [1], "priority": 18446744073709551616}')
    assert "priority=18446744073709551616" in m.failed("x")


def test_nan_is_no_json(m):
    m.put("x", '{"call": "float", "args": ["nan"]}')
    assert '"nan": "null"' in m.failed("x")
    m.put("y", '{"call": "eval", "args": ["[1.5, float(\'inf\'), {\'a\': float(\'nan\')}]"], "nan": "null"}')
    assert json.loads(m.result("y")) == [1.5, None, {"a": None}]
    m.put("s.jsonl", '{"call": "float", "args": ["nan"], "nan": "null"}\n{"call": "float", "args": ["-inf"]}\n{"call": "abs", "args": [1], "nan": 0}\n'
          '{"call": "float", "args": ["nan"], "nan": "null", "retries": 1}\n')
    lines = m.result("s.jsonl").decode().splitlines()
    assert lines[0] == lines[3] == "null" and '"nan": "null"' in json.loads(lines[1])["error"] and "nan" in json.loads(lines[2])["error"]


def test_reason_in_a_line_is_text(m):
    m.put("s.jsonl", b'{"run": ["x"], "cwd": "%s\\udce9"}\n' % b"\\udce9")
    answer = json.loads(m.result("s.jsonl"))
    assert "option cwd=" in answer["error"] and "directory" in answer["error"]


# --- what it is taken for ----------------------------------------------------------------------------------------

def test_ends_of_lines_of_windows(m):
    m.put("x", b"#!/bin/sh\r\necho hello\r\n")
    assert "CR LF" in m.failed("x") and "/bin/sh" in m.why("x")
    m.put("y", b"#!/usr/bin/env python3\r\n#ppfs: env=A:b\r\nimport os\r\nprint(os.environ['A'])\r\n")
    assert m.result("y") == b"b\n"


@pytest.mark.parametrize("name, text, told", [
    ("x.sh", "echo hello\n", True), ("x.sh", "hostname\n", True), ("x.js", "console.log(1)\n", True), ("x.R", "x <- 3\n", True),
    ("x.pl", "print 'hello'\n", True), ("x", "echo hello\n", True), ("x", "hostname\n", False), ("x.py", "echo hello\n", False),
    ("x.sh", "#!/usr/bin/env python3\necho hello\n", False)], ids=lambda value: str(value).split()[0])
def test_taken_as_python(m, name, text, told):
    m.put(name, text)
    m.failed(name)
    assert ("taken as Python, for it has no #! line: " in m.why(name)) == told
    assert "Error" in m.why(name)


def test_sbatch_lines_are_named_once(m):
    m.put("x", "#!/bin/sh\n#SBATCH -n 4\n#SBATCH --time=1\n#ppfs: hold=1\ntrue\n")
    assert m.why("x").startswith("held") and m.why("x").count("#SBATCH") == 1
    (m.info / "x/hold").write_text("0")
    assert m.wait("x") == "done" and m.why("x").count("#SBATCH") == 1
    m.put("y", "#!/bin/sh\necho '#SBATCH'\n")
    assert m.wait("y") == "done" and m.why("y") == ""


@pytest.mark.parametrize("line, told", [("# ppfs: timeout=7s", True), ("#PPFS: timeout=7s", True), ("#ppfs timeout=7s", True),
                                        ("#ppfs : timeout=7s", True), ("#ppfs: timeout=7s", False), ("# ppfs runs it", False),
                                        ("# a=b", False), ("#ppfs", False), ("#", False)])
def test_options_that_are_misspelt_are_named(m, line, told):
    m.put("x", "#!/bin/sh\n%s\ntrue\n" % line)
    assert m.wait("x") == "done" and ("#ppfs: to the letter" in m.why("x")) == told


@pytest.mark.parametrize("text", ['["call", "len"]', ' \n[]', '[{"call": "len", "args": ["a"]},\n {"run": ["true"]}]\n'])
def test_a_json_array_is_no_job(m, text):
    """As Python it would be an expression: done, and nothing ran."""
    m.put("x", text)
    assert "JSON array" in m.failed("x")
    m.put("x", "[print(n) for n in [1, 2]]\n")
    assert m.result("x") == b"1\n2\n"


def test_a_key_that_stands_twice(m):
    """Which of them was meant nobody knows."""
    lines = ['{"call": "len", "args": ["a"], "args": ["bb"]}', '{"call": "len", "\\u0061rgs": ["a"], "args": ["bb"]}',
             '{"call": "len", "args": [{"args": 1, "call": 2}]}', '{"call": "len", "args": ["\\n"]}']
    m.put("x.jsonl", "".join(line + "\n" for line in lines))
    answers = [json.loads(line) for line in m.result("x.jsonl").splitlines()]
    assert ["twice" in str(answer) for answer in answers] == [True, True, False, False]
    m.put("x", lines[0])
    assert "twice" in m.failed("x") or "duplicate" in m.failed("x")
