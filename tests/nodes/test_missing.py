"""A node where something is missing: what fails there and works elsewhere goes elsewhere."""
import json
import pickle
import sys
from pathlib import Path

import pytest
from noderig import value
from ppfsmount import wait_until

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402

# What a worker elsewhere may take before it is known: three failures, and what its slots had begun by then.
LOST_MOST = 12
SCRIPT = "#!/bin/sh\n%s[ $PPFS_NODE = local ] || exit 3\nsleep 0.1\n"


@pytest.fixture
def both(new_mount, new_node):
    """A mount with two slots of its own and a node, "far", that has two."""
    m = new_mount(cpus=2, options=["--listen", "127.0.0.1:0"]).start()
    new_node("--name", "far", join=m).up(m)
    return m


def functions():
    def here_only(i):
        import os
        import time
        if os.environ["PPFS_NODE"] != "local":
            raise ImportError("it is not installed")
        time.sleep(0.05)
        return i

    def nowhere(i):
        raise ValueError(i)
    return here_only, nowhere


here_only, nowhere = functions()


def ended(m, names):
    return [n for n in names if m.state(n) in ("done", "failed")]


def test_jobs_go_where_they_work(both):
    names = ["j%d" % i for i in range(60)]
    for name in names:
        both.put(name, SCRIPT % "")
    wait_until(lambda: len(ended(both, names)) == len(names), "the jobs to end")
    lost = [n for n in names if both.state(n) == "failed"]
    assert len(lost) <= LOST_MOST, lost
    assert all("nodes/far" in both.why(n) for n in lost)
    assert not lost or "fails here" in value(both, "far", "why")
    assert value(both, "local", "why") == ""


def test_a_retry_goes_elsewhere(both):
    names = ["j%d" % i for i in range(20)]
    for name in names:
        both.put(name, SCRIPT % "#ppfs: retries=1\n")
    wait_until(lambda: len(ended(both, names)) == len(names), "the jobs to end")
    assert [n for n in names if both.state(n) == "failed"] == []


def test_calls_go_where_they_work(both):
    with ppfs.Executor(str(both.mnt)) as ex:
        futures = [ex.submit(here_only, i) for i in range(100)]
        errors = [f.exception() for f in futures]
    lost = [e for e in errors if e]
    assert len(lost) <= LOST_MOST
    assert all(isinstance(e, ImportError) and "nodes/far" in str(e.__cause__) for e in lost)


def test_lines_name_the_node(pair):
    m, node = pair
    m.put("s.jsonl", "".join(json.dumps({"call": "os.stat", "args": ["/dev/null/%d" % i]}) + "\n" for i in range(200)))
    answers = [json.loads(line) for line in m.result("s.jsonl").splitlines()]
    assert len(answers) == 200 and all("NotADirectoryError" in a["error"] for a in answers)
    assert all("(on nodes/far)" in a["error"] for a in answers)


def test_what_fails_everywhere_is_no_fault_of_a_node(both):
    with ppfs.Executor(str(both.mnt)) as ex:
        futures = [ex.submit(nowhere, i) for i in range(300)]
        assert all(isinstance(f.exception(), ValueError) for f in futures)
    assert value(both, "local", "why") == "" and value(both, "far", "why") == ""


@pytest.fixture
def onlyhere(both, monkeypatch):
    """(mount, module): a module of the user's that is not to be found on the node."""
    (both.work / "onlyhere.py").write_text(
        "import os, time\n"
        "if os.environ.get('PPFS_NODE') == 'far':\n"
        "    raise ModuleNotFoundError(\"No module named 'onlyhere'\", name='onlyhere')\n"
        "def f(i):\n"
        "    time.sleep(0.02)\n"
        "    return i, os.environ['PPFS_NODE']\n")
    monkeypatch.syspath_prepend(str(both.work))
    monkeypatch.chdir(both.work)
    import onlyhere
    yield both, onlyhere
    del sys.modules["onlyhere"]


def found_missing(m):
    wait_until(lambda: "no module 'onlyhere'" in value(m, "far", "why"), "the node to be known for it")
    wait_until(lambda: value(m, "far", "failed") != "0", "its failures to be counted")
    assert value(m, "local", "why") == "" and value(m, "far", "done") == "0"


def test_no_call_is_lost_to_a_missing_module(onlyhere):
    m, module = onlyhere
    with ppfs.Executor(str(m.mnt)) as ex:
        futures = [ex.submit(module.f, i) for i in range(100)]
        assert [f.result() for f in futures] == [(i, "local") for i in range(100)]
        found_missing(m)
        futures = [ex.options(priority=1).submit(module.f, i) for i in range(10)]  # jobs of their own
        assert [f.result() for f in futures] == [(i, "local") for i in range(10)]


def test_no_line_is_lost_to_a_missing_module(onlyhere):
    m, _ = onlyhere
    m.put("s.jsonl", "".join('{"call": "onlyhere.f", "args": [%d]}\n' % i for i in range(100)))
    answers = [json.loads(line) for line in m.result("s.jsonl").splitlines()]
    assert answers == [[i, "local"] for i in range(100)]
    found_missing(m)


def test_no_job_is_lost_to_a_missing_module(onlyhere):
    m, module = onlyhere
    names = ["j%d" % i for i in range(20)]
    for i, name in enumerate(names):
        m.put(name, pickle.dumps((module.f, (i,))))
    wait_until(lambda: len(ended(m, names)) == len(names), "the jobs to end")
    assert [pickle.loads(m.result(name)) for name in names] == [(i, "local") for i in range(20)]
    found_missing(m)
    names = ["l%d" % i for i in range(10)]
    for i, name in enumerate(names):
        m.put(name, json.dumps({"call": "onlyhere.f", "args": [i]}))
    wait_until(lambda: len(ended(m, names)) == len(names), "the jobs to end")
    assert [json.loads(m.result(name)) for name in names] == [[i, "local"] for i in range(10)]


class Nowhere:
    """Cannot be unpickled for want of a module; each try leaves a line in a file."""
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return exec, ("with open(%r, 'a') as f: f.write('.')\nraise ModuleNotFoundError('No module named \\'x\\'', name='x')"
                      % self.path,)


def test_a_call_that_can_begin_nowhere_does_not_go_round(both):
    """Though others of its function succeed on each host."""
    def nap(x):
        import time
        time.sleep(0.005)

    paths = [both.base / ("tries%d" % i) for i in range(10)]
    with ppfs.Executor(str(both.mnt)) as ex:
        futures = [ex.submit(nap, Nowhere(paths[i // 60]) if i % 60 == 30 else i) for i in range(600)]
        errors = [f.exception() for f in futures]
        jobs = [ex.options(priority=1).submit(nap, Nowhere(path)) for path in paths[:2]]
        assert all(isinstance(f.exception(), ModuleNotFoundError) for f in jobs)
    assert [i for i, e in enumerate(errors) if e] == list(range(30, 600, 60))
    assert max(path.stat().st_size for path in paths[2:]) <= 3 and max(path.stat().st_size for path in paths) <= 6


def test_a_module_that_no_node_has_fails_and_is_named(both):
    both.put("s.jsonl", '{"call": "nosuchmodule.f"}\n' * 20)
    answers = [json.loads(line) for line in both.result("s.jsonl").splitlines()]
    assert len(answers) == 20 and all("there is no module 'nosuchmodule'" in a["error"] for a in answers)
