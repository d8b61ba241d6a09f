"""A job of another user than the one who mounted begins as at a login of his: nothing of the mount's owner reaches it."""
import json
import os
import pickle
import re
import shlex

import pytest
from ppfsmount import PYTHON

HALVES = "wJalrXUtn", "FEMIK7MDENG"
SECRET = "".join(HALVES)
OURS = {"AWS_SECRET_ACCESS_KEY": SECRET, "SSH_AUTH_SOCK": "/tmp/%s/agent" % SECRET, "PYTHONPATH": "/tmp/%s" % SECRET,
        "TERM": "xterm", "LD_LIBRARY_PATH": "/tmp/%s" % SECRET, "PATH": "/tmp/%s:/usr/bin:/bin" % SECRET, "LANG": "C.UTF-8"}

LOOKING = '''"""What a job finds."""
import json, os, re, sys

def memory(half, other):
    """Where in this process the two stand together."""
    found = []
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as mem:
        for line in maps:
            start, end = (int(x, 16) for x in line.split()[0].split("-"))
            if "r" in line.split()[1] and "[v" not in line:
                try:
                    mem.seek(start)
                    data = mem.read(end - start)
                except (OSError, OverflowError):
                    continue
                for m in re.finditer(b"%b(?=%b)" % (half.encode(), other.encode()), data):
                    found.append("%s %s" % (line.split()[-1], data[max(0, m.start() - 60):m.start()]))
    return found

def look():
    with open("/proc/self/environ", "rb") as f:
        begun = f.read().decode()
    return {"environ": dict(os.environ), "begun": dict(p.split("=", 1) for p in begun.split("\\0") if p),
            "memory": memory(*HALVES)}

HALVES = @HALVES@
if __name__ == "__main__":
    print(json.dumps(look()))
'''.replace("@HALVES@", repr(HALVES))

CALL = "__import__('looking').look()"
KINDS = {
    "script.py": "import json, looking\nprint(json.dumps(looking.look()))\n",
    "fresh.py": "#ppfs: env=PYTHONHASHSEED:1\nimport json, looking\nprint(json.dumps(looking.look()))\n",
    "program": "#!/bin/sh\nexec %s looking.py\n" % shlex.quote(PYTHON),
    "run": {"run": [PYTHON, "looking.py"]},
    "json": {"call": "eval", "args": [CALL]},
    "limited": {"call": "eval", "args": [CALL], "memory": "2G"},
    "lines.jsonl": json.dumps({"call": "eval", "args": [CALL]}) + "\n",
    "pickle": pickle.dumps((eval, ("__import__('json').dumps(%s)" % CALL,)), 2),
}


def job_of(user, name, mnt):
    """Submits it as the user; what look() returned."""
    (user.home / "looking.py").write_text(LOOKING)
    content = KINDS[name]
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    (user.home / "content").write_bytes(content)
    p = user.sh("(cp content $M/jobs/{0} && cat $M/results/{0} || cat $M/failures/{0}) | tr -cd '[:print:]'".format(name), M=mnt)
    text = p.stdout
    if name == "pickle":
        text = text[text.index("{"):text.rindex("}") + 1]
    try:
        found = json.loads(text)
    except ValueError:
        raise AssertionError("%s: %s %s" % (name, p.stdout, p.stderr)) from None
    return found.get("result", found) if isinstance(found, dict) else found


@pytest.fixture
def rich(new_user, new_mount):
    """A mount of root's for everybody, that was started with much in its environment."""
    return new_mount(options=["-o", "allow_other"], env=OURS).start()


def login_path(user):
    with open("/etc/login.defs") as f:
        return re.search(r"^ENV_PATH\s+PATH=(\S+)", f.read(), re.MULTILINE).group(1)


def expected(user, m):
    return {"PATH": login_path(user), "HOME": str(user.home), "USER": user.name, "LOGNAME": user.name, "SHELL": "/bin/bash",
            "LANG": "C.UTF-8", "PPFS": str(m.mnt), "PPFS_NODE": "local", "PPFS_ATTEMPT": "1", "PWD": str(user.home)}


@pytest.mark.parametrize("name", KINDS)
def test_the_environment_is_that_of_the_jobs_user(rich, alice, name):
    found = job_of(alice, name, rich.mnt)
    want = expected(alice, rich)
    if name == "fresh.py":
        want["PYTHONHASHSEED"] = "1"
    for environ in found["environ"], found["begun"]:
        assert environ.pop("PPFS_JOB", name).startswith(name)
        for of_the_shell_or_python in "_", "LC_CTYPE":
            environ.pop(of_the_shell_or_python, None)
        assert environ == want
    assert found["memory"] == []


def test_the_owner_of_the_mount_keeps_his(rich):
    os.chdir(rich.work)
    rich.put("x.py", "import os; print(os.environ['AWS_SECRET_ACCESS_KEY'])")
    rich.put("y", "#!/bin/sh\nprintenv AWS_SECRET_ACCESS_KEY TERM\n")
    assert rich.result("x.py").decode() == SECRET + "\n"
    assert rich.result("y").decode() == SECRET + "\nxterm\n"
