"""What is refused at once, and with which words: options of calls and jobs, names of sessions."""
import json

import pytest

import ppfs
from ppfs._stream import frames as stream
from ppfs.options import check

BAD = [("priority", "high"), ("priority", 1000001), ("priority", 1.5), ("priority", True), ("priority", ""),
       ("priority", [1]), ("priority", "5 "), ("timeout", "soon"), ("timeout", -1), ("timeout", 0), ("timeout", "1w"),
       ("timeout", "nan"), ("timeout", "."), ("timeout", "11000d"), ("timeout", None), ("timeout", "1e"),
       ("retries", -1), ("retries", 1001), ("retries", "2x"), ("after", ""), ("after", "a,,b"), ("after", ["a", 1]),
       ("after", [""]), ("after", {"a": 1}), ("cpus", -1), ("cpus", 0), ("cpus", 4097), ("cpus", "two"),
       ("memory", "lots"), ("memory", 0), ("memory", "5MB"), ("memory", -5), ("memory", "2000000T"), ("env", "A"),
       ("env", "A=1:2"), ("env", ["A:1", "B"]), ("env", {"": "x"}), ("env", {"A=B": "x"}), ("env", {"A": None}),
       ("env", {"A": [1]}), ("env", True), ("env", "x" * 70), ("cwd", "work"), ("cwd", ""), ("cwd", 5), ("node", ""),
       ("node", ["a"]), ("hold", 2), ("hold", "yes"), ("hold", []),
       ("sandbox", "rw"), ("sandbox", ""), ("sandbox", ["ro"]), ("sandbox", True)]
GOOD = [("priority", 5), ("priority", "-7"), ("priority", " +8"), ("priority", 3.0), ("timeout", 90), ("timeout", 0.5),
        ("timeout", "1.5h"), ("timeout", ".5s"), ("timeout", "90ms"), ("timeout", "1e3"), ("retries", "0"),
        ("after", []), ("cpus", 1.0), ("memory", "8G"), ("memory", "8GiB"), ("memory", 8e9), ("env", "A:1"),
        ("env", ["A:1", "B:x:y"]), ("env", []), ("env", {"A": 1, "B": True, "C": 1.5, "D:E": ""}), ("cwd", "/"),
        ("node", "l*"), ("hold", 0), ("hold", False), ("sandbox", "ro"), ("sandbox", "net-off,ro"),
        ("sandbox", "none")]


def refused(pair):
    """What the package says, '' when it takes the option."""
    try:
        check(dict([pair]))
        return ""
    except (ValueError, TypeError) as error:
        return str(error)


def test_options_are_refused_as_the_daemon_does(m):
    """The package takes what a job file may say and refuses the rest, with the same sentence."""
    (m.jobs / "G").mkdir()
    for i, (name, value) in enumerate(BAD + GOOD):
        m.put("G/%d" % i, json.dumps({"call": "abs", "args": [-1], name: value}))
    assert ppfs.wait("G", mount=m.mnt) == "done %d failed %d" % (len(GOOD), len(BAD))
    for i, pair in enumerate(BAD + GOOD):
        failure = m.failures / "G" / str(i)
        said = failure.read_text().splitlines()[0] if failure.exists() else ""
        assert refused(pair) == said, pair
    assert all(map(refused, BAD)) and not any(map(refused, GOOD))


def test_options_are_refused_at_once(m, ex):
    """Wherever options are given; nothing is submitted."""
    for give in (ex.options, lambda **o: ppfs.Executor(m.mnt, **o), lambda **o: ex.options(priority=1).options(**o),
                 lambda **o: ppfs.submit_file({"call": "abs"}, "j", mount=m.mnt, **o),
                 lambda **o: ppfs.submit_file(b"print(1)", "j", mount=m.mnt, **o)):
        with pytest.raises(ValueError, match="option timeout=soon is not understood: a time such as 90, 30s, 5m"):
            give(timeout="soon")
        with pytest.raises(TypeError, match="option priority has a value of a wrong type"):
            give(priority=[1])
        with pytest.raises(ValueError, match="has no option 'colour'"):
            give(colour=1)
    assert not list(m.jobs.iterdir())
    assert ex.options(priority=1, timeout="9s").submit(abs, -1).result() == 1


def test_options_that_only_the_daemon_refuses(m, ex, monkeypatch):
    """Those of a client that does not check come back as a ValueError too."""
    monkeypatch.setattr(stream, "check", lambda options: None)
    for options in {"priority": "high"}, {"colour": 1}:
        with pytest.raises(ValueError, match="^option (colour|priority=high) is not "):
            ex.options(**options).submit(abs, 1).result()
    assert ex.submit(abs, -1).result() == 1


def test_env_of_a_script(m):
    """Each variable stands for itself."""
    ppfs.submit_file(b"import os\nprint(os.environ['A'], os.environ['B'])\n", "a.py", mount=m.mnt, env=["A:1", "B:2"])
    ppfs.submit_file(b"import os\nprint(os.environ['A'], os.environ['B'])\n", "b.py", mount=m.mnt,
                     env={"A": 3, "B": "x"}, hold=False)
    assert [m.result(name) for name in ("a.py", "b.py")] == [b"1 2\n", b"3 x\n"]
