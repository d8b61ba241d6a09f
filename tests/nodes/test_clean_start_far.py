"""On a node, too, a job of another user begins as at a login of his."""
import json

import pytest


@pytest.fixture
def far(new_user, new_mount, new_node):
    """A mount of root's for everybody that has all its slots on a node of root's with a secret in its environment."""
    m = new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0"]).start()
    new_node("--name", "far", join=m, env={"AWS_SECRET_ACCESS_KEY": "of the node"}).up(m)
    return m


@pytest.mark.parametrize("kind, content", [
    ("script", "import json, os\nprint(json.dumps(dict(os.environ)))\n"),
    ("call", '{"call": "eval", "args": ["dict(__import__(\'os\').environ)"]}'),
    ("lines.jsonl", '{"call": "eval", "args": ["dict(__import__(\'os\').environ)"]}\n'),
    ("program", "#!/bin/sh\nexec /usr/bin/python3 -c 'import json, os; print(json.dumps(dict(os.environ)))'\n"),
])
def test_the_environment_on_a_node_is_that_of_the_jobs_user(far, alice, kind, content):
    (alice.home / "content").write_text(content)
    p = alice.sh("cp content $M/jobs/%s && cat $M/results/%s" % (kind, kind), M=far.mnt)
    found = json.loads(p.stdout)
    found = found.get("result", found)
    assert {found.pop(name) for name in ("HOME", "PWD")} == {str(alice.home)}
    assert {found.pop(name) for name in ("USER", "LOGNAME")} == {alice.name}
    assert found.pop("PPFS_NODE") == "far"
    assert set(found) <= {"PATH", "SHELL", "LANG", "LC_CTYPE", "PPFS_JOB", "PPFS_ATTEMPT", "_"}
