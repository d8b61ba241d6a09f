"""sandbox= on a node."""
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest
from ppfsmount import need_landlock

MOUNT = str(Path(__file__).resolve().parents[1] / "mount")  # ppfsmount is there

TRYING = """
import errno, json, socket
def told(call):
    try:
        call()
        return "done"
    except OSError as e:
        return errno.errorcode[e.errno]
def both(path):
    return [told(lambda: open(path, "w")), told(socket.socket), told(lambda: open("own", "w"))]
"""


@pytest.fixture(autouse=True)
def landlock():
    need_landlock()


@pytest.mark.parametrize("kind", ["script", "call", "program", "lease"])
def test_a_job_on_a_node_is_kept_in(pair, kind):
    m, node = pair
    (m.work / "trying.py").write_text(TRYING)
    fd, path = tempfile.mkstemp(dir="/var/tmp")
    os.close(fd)
    call = {"call": "trying.both", "args": [path]}
    try:
        if kind == "script":
            m.put("x", "#ppfs: sandbox=ro,net-off\nimport json, trying\nprint(json.dumps(trying.both(%r)))\n" % path)
        elif kind == "program":
            m.put("x", "#!/bin/sh\n#ppfs: sandbox=net-off,ro\nexec /usr/bin/python3 -c 'import json, trying\n"
                  "print(json.dumps(trying.both(\"%s\")))'\n" % path)
        elif kind == "call":
            m.put("x", {**call, "sandbox": "ro,net-off"})
        else:
            (m.jobs / "g").mkdir()
            (m.jobs / "g" / ".options").write_text("sandbox=ro,net-off\n")
            m.put("g/x.jsonl", json.dumps(call) + "\n")
        assert json.loads(m.result("g/x.jsonl" if kind == "lease" else "x")) == ["EACCES", "EAFNOSUPPORT", "done"]
    finally:
        os.unlink(path)


def test_a_node_that_cannot_refuses(ml, new_node):
    node = new_node("--name", "far", join=ml, wrap=[sys.executable, "-c", (
        "import os, sys\nsys.path.insert(0, %r)\nfrom ppfsmount import without_call\nwithout_call(444)()  # landlock_create_ruleset\n"
        "os.execv(sys.argv[1], sys.argv[1:])" % MOUNT)])
    node.up(ml)
    ml.put("x", {"run": ["true"], "sandbox": "ro"})
    assert "sandbox=ro cannot be had here: Landlock" in ml.failed("x") and "(on nodes/far)" in ml.failed("x")
    ml.put("y", {"call": "abs", "args": [-1]})
    assert ml.result("y") == b"1\n"
