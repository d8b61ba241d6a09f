"""On a node, too, a job of another user begins as at a login of his."""
import json
import os
import shutil

import pytest
from test_threads import NAMES as THREADS


@pytest.fixture
def ml_for_all(new_user, new_mount):
    """A mount of root's for everybody that has all its slots on nodes."""
    return new_mount(cpus=0, options=["-o", "allow_other", "--listen", "127.0.0.1:0"]).start()


@pytest.fixture
def far(ml_for_all, new_node):
    """The same with a node of root's that has a secret in its environment."""
    new_node("--name", "far", join=ml_for_all, env={"AWS_SECRET_ACCESS_KEY": "of the node"}).up(ml_for_all)
    return ml_for_all


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
    assert set(found) <= {"PATH", "SHELL", "LANG", "LC_CTYPE", "PPFS_JOB", "PPFS_ATTEMPT", "_", *THREADS}


@pytest.mark.parametrize("asked", [False, True])
def test_set_user_id_programs_on_a_node(base, ml_for_all, new_node, alice, asked):
    m = ml_for_all
    new_node("--name", "far", *(["--suid-jobs"] if asked else []), join=m).up(m)
    whoami = base / "whoami"
    shutil.copy("/usr/bin/id", whoami)
    whoami.chmod(0o4755)
    if os.statvfs(whoami).f_flag & os.ST_NOSUID:
        pytest.skip("no program changes users below %s" % base)
    p = alice.sh("echo '{\"run\": [\"%s\", \"-u\"]}' > $M/jobs/x; cat $M/results/x" % whoami, M=m.mnt)
    assert p.stdout == "%d\n" % (0 if asked else alice.uid)
