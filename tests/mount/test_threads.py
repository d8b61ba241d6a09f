"""Threads of numeric libraries: as many as a job has processors, unless its user says otherwise."""
import json

import pytest

NAMES = ("PPFS_CPUS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS",
         "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
SHOWN = "echo " + " ".join("$" + name for name in NAMES) + "\n"
PYTHON = "import os\nprint(*map(os.environ.get, %r))\n" % (NAMES,)
CALL = "[__import__('os').getenv(name) for name in %r]" % (NAMES,)


def said(m, name):
    assert m.wait(name) == "done", m.why(name)
    return m.result(name).decode().split()


@pytest.fixture
def wide(new_mount):
    """A mount of four slots whose environment says nothing of threads."""
    def start(slots=4, **env):
        mount = new_mount(cpus=slots)
        for name in NAMES:
            mount.env.pop(name, None)
        mount.env.update(env)
        return mount.start()
    return start


def test_as_many_as_processors(wide):
    """For every kind of job, in one process with others or in one of its own."""
    m = wide()
    for n, (options, expected) in enumerate([("priority=1", ["1"] * 7), ("cpus=3", ["3"] * 7),
                                             ("cpus=3 env=MKL_NUM_THREADS:2", ["3", "3", "3", "2", "3", "3", "3"]),
                                             ("cpus=3 env=OMP_NUM_THREADS:2", ["3"] + ["2"] * 6),
                                             ("env=OMP_NUM_THREADS:2", ["1"] + ["2"] * 6),
                                             ("cpus=2 env=LC_ALL:C", ["2"] * 7)]):
        more = dict(word.split("=") for word in options.split())
        m.put("program%d" % n, "#!/bin/sh\n#ppfs: %s\n%s" % (options, SHOWN))
        m.put("python%d.py" % n, "#ppfs: %s\n%s" % (options, PYTHON))
        m.put("run%d" % n, json.dumps({"run": ["sh", "-c", SHOWN], **more}))
        m.put("call%d" % n, json.dumps({"call": "eval", "args": [CALL], **more}))
        m.put("stream%d.jsonl" % n, json.dumps({"call": "eval", "args": [CALL], **more}) + "\n" +
              json.dumps({"call": "eval", "args": [CALL]}) + "\n")
        for name in ("program%d" % n, "python%d.py" % n, "run%d" % n):
            assert said(m, name) == expected, (name, options)
        assert json.loads(m.result("call%d" % n)) == expected
        assert [json.loads(line) for line in m.result("stream%d.jsonl" % n).splitlines()] == [expected, ["1"] * 7]


@pytest.mark.parametrize("env, expected", [
    ({"OPENBLAS_NUM_THREADS": "7"}, ["2", "2", "7", "2", "2", "2", "2"]),
    ({"OMP_NUM_THREADS": "7", "MKL_NUM_THREADS": "5"}, ["2", "7", "7", "5", "7", "7", "7"])])
def test_what_the_mount_was_started_with_stays(wide, env, expected):
    m = wide(**env)
    m.put("program", "#!/bin/sh\n#ppfs: cpus=2\n" + SHOWN)
    assert said(m, "program") == expected
    m.put("python.py", PYTHON)
    assert said(m, "python.py") == ["1"] + [n if n != "2" else "1" for n in expected[1:]]


def test_of_another_user(shared, alice):
    """Whose jobs have nothing of the environment that ppfs was started in."""
    p = alice.sh("printf '#!/bin/sh\\n%s' > $M/jobs/one; printf '#!/bin/sh\\n#ppfs: cpus=2\\n%s' > $M/jobs/two\n"
                 "cat $M/results/one $M/results/two" % (SHOWN.strip(), SHOWN.strip()), M=shared.mnt)
    assert (p.stdout.split(), p.stderr) == (["1"] * 7 + ["2"] * 7, "")


def test_no_library_was_loaded_before(wide):
    """What calls have loaded in a worker has read the environment: a call with another one starts without that."""
    m = wide(slots=1)
    load = "[bool(__import__('ctypes').CDLL('libgomp.so.1')), 'gomp' in open('/proc/self/maps').read()]"
    ask = "['gomp' in open('/proc/self/maps').read(), __import__('ctypes').CDLL('libgomp.so.1').omp_get_max_threads()]"
    m.put("load", json.dumps({"call": "eval", "args": [load]}))
    assert json.loads(m.result("load")) == [True, True]
    m.put("ask", json.dumps({"call": "eval", "args": [ask], "env": "OMP_NUM_THREADS:3"}))
    assert json.loads(m.result("ask")) == [False, 3]
