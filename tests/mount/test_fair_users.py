"""Turns between users: what one of them has queued, and however he calls it, holds up nobody else. Nothing here looks at a
clock: jobs write their user's name into one file, and the order of the lines is what counts."""
import json

import pytest

from ppfsmount import wait_until


@pytest.fixture
def one(new_user, new_mount):
    """A mount of root's with one slot for everybody; root's job "gate" has it until the file "go" is made."""
    mount = new_mount(cpus=1, options=["-o", "allow_other"])
    mount.work.chmod(0o777)
    mount.start()
    mount.log_file = mount.work / "order"
    mount.log_file.touch()
    mount.log_file.chmod(0o666)
    mount.put("gate", "#!/bin/sh\nuntil [ -e %s/go ]; do sleep 0.02; done\n" % mount.work)
    wait_until(lambda: (mount.mnt / "info/gate/state").read_text() == "running\n", "the gate to run")
    return mount


def queue(user, mount, n, name="j", seconds=0, options=""):
    """n jobs of the user's, each of which says so when it runs."""
    p = user.sh("for i in $(seq $N); do printf '#!/bin/sh\\n#ppfs: %s\\nsleep %s\\necho %s >> %s\\n' '%s' > $M/jobs/$USER-%s$i || exit; done"
                % ("%s", seconds, user.name, mount.log_file, options, name), N=n, M=mount.mnt)
    assert (p.returncode, p.stderr) == (0, "")


def order(mount, of, n):
    """The names in the file once that user has written n lines."""
    mount.work.joinpath("go").touch()
    wait_until(lambda: mount.log_file.read_text().split().count(of.name) >= n, "%d jobs of %s" % (n, of.name))
    return mount.log_file.read_text().split()


def test_priority_is_among_ones_own(one, alice, mallory):
    queue(mallory, one, 40, seconds=0.05, options="priority=1000000")
    queue(alice, one, 3)
    assert order(one, alice, 3).count(mallory.name) < 20


def test_root_raises_above_all(one, alice):
    queue(alice, one, 30, seconds=0.02, options="priority=9")
    for i in range(3):
        one.put("r%d" % i, "#!/bin/sh\n#ppfs: priority=1\necho root >> %s\n" % one.log_file)
    lines = order(one, alice, 1)
    assert lines[:3] == ["root"] * 3


def test_many_jobs_do_not_outrun_few(one, alice, mallory):
    queue(mallory, one, 60, seconds=0.05)
    queue(alice, one, 5)
    assert order(one, alice, 5).count(mallory.name) < 30


def test_groups_give_no_more_turns(one, alice, mallory):
    p = mallory.sh("for g in $(seq 12); do mkdir $M/jobs/g$g || exit; for i in 1 2 3 4; do "
                   "printf '#!/bin/sh\\nsleep 0.05\\necho %s >> %s\\n' > $M/jobs/g$g/$i || exit; done; done"
                   % (mallory.name, one.log_file), M=one.mnt)
    assert (p.returncode, p.stderr) == (0, "")
    queue(alice, one, 4)
    assert order(one, alice, 4).count(mallory.name) < 24


def stream(user, mount, name, calls):
    line = json.dumps({"call": "os.system", "args": ["sleep 0.02; echo %s >> %s" % (user.name, mount.log_file)]})
    p = user.sh("yes '%s' | head -n %d > $M/jobs/%s.jsonl" % (line, calls, name), M=mount.mnt)
    assert (p.returncode, p.stderr) == (0, "")


def test_many_streams_do_not_outrun_one(one, alice, mallory):
    for i in range(10):
        stream(mallory, one, "m%d" % i, 20)
    stream(alice, one, "a", 20)
    assert order(one, alice, 20).count(mallory.name) < 100


def test_a_stream_gives_its_slot_to_another_users_job(one, alice, mallory):
    stream(mallory, one, "m", 300)
    one.work.joinpath("go").touch()
    wait_until(lambda: mallory.name in one.log_file.read_text(), "the stream to run")
    queue(alice, one, 3)
    assert order(one, alice, 3).count(mallory.name) < 250


def test_a_large_group_that_is_opened_holds_up_no_other(shared, alice, mallory):
    """Each of mallory's jobs names 500 others: to queue all of them is the work of seconds."""
    m = shared
    names = ",".join("a%d" % i for i in range(500))
    (mallory.home / "big").write_text(json.dumps({"call": "os.getpid", "after": names}))
    p = mallory.sh("""mkdir $M/jobs/.D; for i in $(seq 0 499); do printf '#!/bin/sh\\n#ppfs: hold=1\\n' > $M/jobs/.D/a$i || exit; done
for i in $(seq 400); do cp big $M/jobs/.D/b$i || exit; done; mv $M/jobs/.D $M/jobs/D""", M=m.mnt)
    assert (p.returncode, p.stderr) == (0, "")
    p = alice.sh("""mkdir $M/jobs/.g; echo 'print("hers")' > $M/jobs/.g/x; mv $M/jobs/.g $M/jobs/g; cat $M/results/g/x""", M=m.mnt)
    assert p.stdout == "hers\n", p.stderr
    assert (m.info / "D/b400/state").read_text() == "draft\n", "mallory's group was queued before"
