"""What ppfs is started with: closed descriptors, few descriptors."""
import os
import resource
import subprocess

import pytest


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_started_with_closed_descriptors(new_mount, closed):
    m = new_mount()

    def close():
        for fd in closed:
            os.close(fd)

    m.start(preexec_fn=close)
    m.works()
    second = m.run("--state", m.statedir, preexec_fn=lambda: os.close(0))
    assert second.returncode == 1
    assert "in use by ppfs (pid %d)" % m.keeper in second.stderr or "mounted there already" in second.stderr
    other = m.base / "other"
    other.mkdir()
    argv = [*m.argv()[:-1], str(other)]
    p = subprocess.run(argv, env=m.env, capture_output=True, text=True, preexec_fn=lambda: os.close(0), timeout=50)
    assert (p.returncode, p.stdout) == (1, "")
    assert "in use by ppfs (pid %d)" % m.keeper in p.stderr
    standard = [os.readlink("/proc/%d/fd/%d" % (m.first_daemon, fd)) for fd in range(3)]
    assert standard == ["/dev/null", "/dev/null", str(m.statedir / "ppfs.log")]


def test_the_soft_limit_is_raised_for_us_alone(new_mount):
    m = new_mount()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    m.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard)))
    assert resource.prlimit(m.first_daemon, resource.RLIMIT_NOFILE) == (hard, hard)
    m.put("limit", "#!/bin/sh\nulimit -Sn\n")
    assert m.result("limit") == b"100\n"
    m.put("limit.py", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE) == (100, %d))" % hard)
    assert m.result("limit.py") == b"True\n"


def test_more_slots_than_descriptors(new_mount):
    m = new_mount(cpus=80)
    m.start(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    (m.jobs / ".some").mkdir()
    for i in range(80):
        m.put(".some/%d" % i, "#!/bin/sh\nsleep 0.3; echo $PPFS_ATTEMPT\n")
    os.rename(m.jobs / ".some", m.jobs / "some")
    m.put("large", b"#!/bin/sh\nexec echo large\n" + b"#" * 300000)
    m.put("calls.jsonl", "".join('{"call": "abs", "args": [%d]}\n' % i for i in range(200)))
    assert [m.result("some/%d" % i) for i in range(80)] == [b"1\n"] * 80
    assert m.result("large") == b"large\n"
    assert len(m.result("calls.jsonl").splitlines()) == 200
    assert "no more descriptors (ulimit -Hn is 128)" in m.log()
    m.works()
