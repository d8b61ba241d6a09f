"""A node whose workers embed a Python of another minor version: what is no pickle runs there, what is one does not."""
import json
import sys
from pathlib import Path

import otherpython
import pytest
from noderig import node_dir, value
from ppfsmount import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402

pytestmark = pytest.mark.xdist_group("another Python")  # the others do not wait while it is built
OURS = "%d.%d" % sys.version_info[:2]
WHICH = "import sys\nprint('%d.%d' % sys.version_info[:2])\n"


@pytest.fixture(scope="module")
def built_for_another():
    try:
        return otherpython.build()
    except otherpython.NoOther as e:
        pytest.skip(str(e))


@pytest.fixture
def other(built_for_another, ml, new_node):
    """(mount without slots, its only node "other", of another Python, the version of that)"""
    where, version = built_for_another
    node = new_node("--name", "other", join=ml, program=where / "ppfs-node", env={"PPFS_WORKER": str(where / "ppfs-worker")})
    return ml, node.up(ml), version


def on_other(m, name):
    """The result of a job that must have run there."""
    result = m.result(name)
    assert m.get(name, "node") == "other"
    return result


def test_it_says_which_python_it_has(other):
    m, node, version = other
    text = value(m, "other", "python")
    assert text.startswith(version + ".") and "no pickles" in text
    assert "no pickles" not in value(m, "local", "python")
    why = value(m, "other", "why")
    assert version in why and OURS in why and "no pickles" in why and "\n" not in why
    assert value(m, "local", "why") == ""


def test_scripts_source_and_programs_run_there(other):
    m, node, version = other
    m.put("script.py", "#!/usr/bin/env python3\n" + WHICH)
    m.put("text", WHICH)
    m.put("sh", "#!/bin/sh\necho $PPFS_NODE\n")
    m.put("run", {"run": ["wc", "-c"], "stdin": "12345"})
    m.put("ends.py", "import atexit, sys\natexit.register(print, 'at exit')\nprint('out')\nsys.exit(3)\n")
    m.put("raises.py", "def f():\n    raise KeyError('which')\nf()\n")
    assert on_other(m, "script.py") == on_other(m, "text") == version.encode() + b"\n"
    assert on_other(m, "sh") == b"other\n"
    assert on_other(m, "run").strip() == b"5"
    m.failed("ends.py")
    assert m.get("ends.py", "exit") == "3" and m.get("ends.py", "stdout") == "out\nat exit"
    assert "KeyError: 'which'" in m.failed("raises.py") and ", in f\n" in m.get("raises.py", "stderr")


def test_json_calls_and_lines_run_there(other):
    m, node, version = other
    m.put("call", {"call": "platform.python_version"})
    m.put("limited", {"call": "platform.python_version", "memory": "1G", "env": "X:1"})
    for name in ("call", "limited"):
        assert json.loads(on_other(m, name)).startswith(version + ".")
    m.put("bad", {"call": "math.sqrt", "args": [-1]})
    assert "ValueError" in m.failed("bad") and m.get("bad", "node") == "other"
    m.put("lines.jsonl", "".join(json.dumps({"call": "abs", "args": [-i]}) + "\n" for i in range(2000)) +
          json.dumps({"call": "platform.python_version"}) + "\n" + json.dumps({"run": ["echo", "x"]}) + "\n")
    *numbers, python, echo = map(json.loads, m.result("lines.jsonl").splitlines())
    assert numbers == list(range(2000)) and python.startswith(version + ".") and echo == "x\n"
    assert int(value(m, "other", "done")) >= 2002


def test_a_pickle_waits_for_a_python_that_understands_it(other):
    m, node, version = other
    m.put("pickle", (divmod, (17, 5)))
    m.put("named", {"call": "abs", "args": [-1]})  # behind it, and not held up
    assert m.wait("named") == "done"
    assert m.state("pickle") in ("queued", "waiting")
    why = m.why("pickle")
    assert OURS in why and version in why and "other" in why and "\n" not in why
    (m.node / "cpus").write_text("1\n")
    assert m.call("again", (divmod, (17, 5))) == (3, 2)
    assert m.wait("pickle") == "done"
    assert m.get("pickle", "node") == m.get("again", "node") == "local"


def test_a_pickle_for_that_node_alone_waits_and_says_so(other):
    m, node, version = other
    (m.node / "cpus").write_text("1\n")
    (m.jobs / "G").mkdir()
    (m.jobs / "G" / ".options").write_text("node=other\n")
    m.put("G/x", (divmod, (17, 5)))
    assert m.state("G/x") == "waiting"
    why = m.why("G/x")
    assert OURS in why and version in why and "other" in why and "\n" not in why
    m.works()


def test_calls_of_an_executor_run_where_they_are_understood(other):
    m, node, version = other
    with ppfs.Executor(str(m.mnt), name="s") as ex:
        futures = [ex.submit(pow, i, 2) for i in range(100)]
        stream = next(n for n in m.jobs.rglob("*") if n.is_file()).relative_to(m.jobs)
        wait_until(lambda: version in m.why(stream), "the stream to say what it waits for")
        assert OURS in m.why(stream) and not any(f.done() for f in futures)
        (m.node / "cpus").write_text("1\n")
        assert [f.result() for f in futures] == [i * i for i in range(100)]
    assert value(m, "other", "done") == "0"


def which(x):
    """By its source, since no test module is there."""
    import sys
    return x, "%d.%d" % sys.version_info[:2]


@pytest.mark.parametrize("options", [{}, {"priority": 3}])
def test_calls_by_their_source_run_there(other, options):
    m, node, version = other
    with ppfs.Executor(str(m.mnt), serializer="source") as ex:
        assert list(ex.options(**options).map(which, range(50))) == [(i, version) for i in range(50)]
        with pytest.raises(ZeroDivisionError):
            ex.options(**options).submit(lambda x: 1 // x, 0).result()
    assert value(m, "other", "done") == "50" and value(m, "other", "failed") == "1"


def test_it_works_on_while_one_of_ours_takes_the_pickles(other, new_node):
    m, node, version = other
    new_node("--name", "ours", join=m).up(m)
    (node_dir(m, "other") / "cpus").write_text("1\n")
    for i in range(20):
        m.put("p%d" % i, (divmod, (i, 5)))
        m.put("s%d.py" % i, WHICH)
    for i in range(20):
        assert m.wait("p%d" % i) == "done" and m.get("p%d" % i, "node") == "ours"
        assert m.wait("s%d.py" % i) == "done"
    assert {m.get("s%d.py" % i, "node") for i in range(20)} >= {"other"}
