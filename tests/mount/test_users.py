"""Several users on one mount: each has his own, and nobody gets at what is another's. From the outside, as a user would try."""
import json
import os
import shutil
import stat

import pytest
from ppfsmount import wait_until
from processes import parents

HUSH = "hush-hush"


def test_each_runs_as_himself(shared, alice, mallory):
    for user in alice, mallory:
        p = user.sh("echo 'import os; print(os.getuid(), os.getcwd())' > $M/jobs/$USER && cat $M/results/$USER",
                    M=shared.mnt)
        assert (p.stdout, p.stderr) == ("%d %s\n" % (user.uid, user.home), "")
    p = mallory.sh("cat $M/jobs/x; rm $M/results/%s" % alice.name, M=shared.mnt)
    assert p.returncode != 0
    assert shared.result(alice.name).split()[0] == b"%d" % alice.uid


@pytest.fixture
def private(shared, alice):
    """Jobs of alice's of every state, made with umask 077. Each name, and what of it is there."""
    p = alice.sh(r"""umask 077; cd $M
printf 'print("hush-hush")' > jobs/done && cat results/done >/dev/null
printf 'import sys\nsys.exit("hush-hush")' > jobs/failed; cat info/failed/wait >/dev/null
printf '#!/bin/sh\n#ppfs: env=TOKEN:hush-hush\necho hush-hush; exec sleep 1000' > jobs/running; head -n 1 info/running/stdout >/dev/null
printf '#!/bin/sh\n#ppfs: hold=1\necho hush-hush' > jobs/held
printf 'print("hush-hush")' > jobs/.draft
mkdir jobs/G && printf 'print("hush-hush")' > jobs/G/in && cat results/G/in >/dev/null
echo '{"call": "str", "args": ["hush-hush"]}' > jobs/s.jsonl && cat results/s.jsonl""", M=shared.mnt)
    assert (p.stdout, p.stderr) == ('"hush-hush"\n', "")
    return ["done", "failed", "running", "held", ".draft", "G/in", "s.jsonl"]


def tree(mount):
    """Every name of the mount with what root sees of it, but for what changes by itself."""
    seen = {}
    for top in "jobs", "results", "failures", "info":
        for path, directories, files in os.walk(mount.mnt / top):
            for name in directories + (files if top != "info" else []):
                st = os.lstat(os.path.join(path, name))
                seen[os.path.join(path, name)] = stat.filemode(st.st_mode), st.st_uid, st.st_size
    return seen


def test_nobody_reads_what_is_private(shared, mallory, private):
    p = mallory.sh(r"""cd $M; for f in %s; do
for d in jobs results failures; do timeout 5 cat $d/$f; done
for i in spec stdout stderr why exit times usage node state attempt wait priority hold events; do timeout 5 cat info/$f/$i; done
ls info/$f info/$f/; done
ls -R jobs results failures info; timeout 1 cat events?since=0; cat running stats version nodes/*/* info/.progress; grep -r --exclude=events hush . """ % " ".join(private), M=shared.mnt)
    assert HUSH not in p.stdout and HUSH not in p.stderr
    for path in p.stdout.splitlines():
        assert not path.endswith("G/in")


CHANGES = """rm -f jobs/$f; rm -f results/$f; rm -f failures/$f; rm -rf info/$f; rmdir info/$f; mv -f jobs/$f jobs/mine; mv -f failures/$f jobs/mine
mv -f results/$f results/mine; mv -f info/$f info/mine; chmod 777 jobs/$f; chmod 777 results/$f; touch jobs/$f; truncate -s 0 jobs/$f; : > jobs/$f
: > results/$f; : >> jobs/$f; echo 0 > info/$f/hold; echo 1 > info/$f/hold; echo 9 > info/$f/priority; mkdir jobs/$f; ln jobs/$f jobs/mine
ln -s $PWD/evil jobs/$f; cp ~/evil jobs/$f; mv -f ~/evil jobs/$f; install -m 755 ~/evil jobs/$f; cp --remove-destination ~/evil jobs/$f
chown $USER jobs/$f; setfattr -n user.x -v 1 jobs/$f; mv --exchange ~/evil jobs/$f"""


def test_nobody_changes_what_is_anothers(shared, alice, mallory, private):
    before = tree(shared)
    mallory.sh("echo 'print(666)' > evil; cd $M; for f in %s; do\n%s\ndone" % (" ".join(private), CHANGES), M=shared.mnt)
    mallory.sh("cd $M; rm -rf jobs/G results/G failures/G info/G; mv jobs/G jobs/H; echo priority=1 > jobs/G/.options; "
               "chmod 777 jobs/G; cp ~/evil jobs/G/x; rm -rf info/* jobs/* results/* failures/*", M=shared.mnt)
    assert tree(shared) == before
    p = alice.sh("cd $M; echo 0 > info/held/hold; cat results/held results/done jobs/.draft; cat info/running/state", M=shared.mnt)
    assert (p.stdout, p.stderr) == ("hush-hush\nhush-hush\nprint(\"hush-hush\")running\n", "")


def test_nobody_but_root_changes_the_machines(shared, mallory):
    p = mallory.sh(r"""cd $M
! echo 0 > nodes/local/cpus && ! echo drain > nodes/local/state && ! mkdir nodes/box:60000 && ! rmdir nodes/local &&
! echo 1 > nodes/.discover && ! echo priority=1 > jobs/.options && ! chmod 777 jobs && ! rmdir jobs && ! mkdir new && ! touch new &&
! ln -s / jobs/link && ! mkfifo jobs/fifo && echo 'print(1)' > jobs/x && cat results/x && ! chown 0 results/x && echo all""", M=shared.mnt)
    assert p.stdout.splitlines() == ["1", "all"]
    assert (shared.node / "cpus").read_text() == "2\n" and (shared.node / "state").read_text() == "up\n"


def test_the_spec_of_another(shared, alice, mallory):
    """Copied, it runs as who copies it, in his directory: the other has chosen what a program finds in his."""
    alice.sh("chmod 755 .; echo 'raise SystemExit(0)' > wave.py; "
             "printf 'import os, wave; print(os.getuid(), os.getcwd(), wave.WAVE_FORMAT_PCM == 1)' > $M/jobs/x", M=shared.mnt)
    wait_until(lambda: shared.state("x") == "done", "it to end")
    assert shared.result("x") == b"", "with what is beside it"
    p = mallory.sh("cp $M/info/x/spec $M/jobs/y && cat $M/results/y; cp $M/info/y/spec $M/jobs/z; cat $M/results/z", M=shared.mnt)
    line = "%d %s True\n" % (mallory.uid, mallory.home)
    assert (p.stdout, p.stderr) == (2 * line, "")
    shared.sh("cp %s/info/x/spec %s/jobs/roots" % (shared.mnt, shared.mnt))
    assert shared.result("roots") == b"0 %s True\n" % os.fsencode(shared.work)


def test_a_draft_of_another_is_no_ones_to_write(shared, alice, mallory):
    """It would run as its owner, who may have it open: root's bytes as little as another user's."""
    mallory.sh("touch $M/jobs/bait $M/jobs/.bait; chmod 666 $M/jobs/bait $M/jobs/.bait", M=shared.mnt)
    for name in "bait", ".bait":
        for how in ">", ">>":
            assert alice.sh("echo 'print(1)' %s $M/jobs/%s" % (how, name), M=shared.mnt).returncode == 1
            with pytest.raises(PermissionError):
                open(shared.jobs / name, {">": "w", ">>": "a"}[how]).close()
        assert os.stat(shared.jobs / name).st_uid == mallory.uid and (shared.jobs / name).read_bytes() == b""
    os.unlink(shared.jobs / "bait")
    shared.put("bait", "import os; print(os.getuid())")
    assert shared.result("bait") == b"0\n" and os.stat(shared.results / "bait").st_uid == 0


def test_what_root_runs_again_is_its_writers(shared, mallory):
    mallory.sh("printf '#!/bin/sh\nid -u; exit 1' > $M/jobs/x; printf '#!/bin/sh\nid -u' > $M/jobs/.y; cat $M/info/x/wait", M=shared.mnt)
    os.rename(shared.failures / "x", shared.jobs / "again")
    os.rename(shared.jobs / ".y", shared.jobs / "y")
    shared.wait("again")
    assert (shared.info / "again" / "stdout").read_text() == "%d\n" % mallory.uid
    assert shared.result("y") == b"%d\n" % mallory.uid


LOOK = r"""#!/bin/bash
ours=" $(tr '\n' ' ' < $HOME/pids)"
for p in $ours; do
    for x in environ maps mem fd/0 io stack; do head -c 1 /proc/$p/$x >/dev/null 2>&1 && echo "reads $x of $p"; done
    for x in cwd root exe fd/1; do readlink /proc/$p/$x && echo "reads $x of $p"; done
    ls /proc/$p/fd 2>/dev/null && echo "lists descriptors of $p"
    kill -0 $p 2>/dev/null && echo "may signal $p"
done
for d in /tmp/ppfs-jobs-*; do
    [ -O "$d" ] || ls "$d" 2>/dev/null  # one that a killed ppfs of an earlier user with her number left is hers
done
ls -l /proc/self/fd | sed -n 's/.* \([0-9]*\) -> .*/fd \1/p'
echo looked
"""


def test_processes_of_ppfs_and_of_others(shared, alice, mallory, private):
    """Supervisor, daemon, fork servers, workers and jobs of others; and a job has no descriptor but its own."""
    pids, table = {shared.pids()["supervisor"]}, parents()
    while True:
        below = {pid for pid, parent in table.items() if parent in pids} - pids
        if not below:
            break
        pids |= below
    assert len(pids) > 5, "supervisor, daemon, fork servers, workers, a job of alice's"
    (mallory.home / "pids").write_text(" ".join(map(str, pids)))
    (mallory.home / "look").write_text(LOOK)
    p = mallory.sh("cp look $M/jobs/look && cat $M/results/look", M=shared.mnt)
    assert p.stdout.splitlines()[-1:] == ["looked"], p.stderr
    assert [line for line in p.stdout.splitlines() if not line.startswith("fd ")] == ["looked"]
    assert {line for line in p.stdout.splitlines() if line.startswith("fd ")} <= {"fd 0", "fd 1", "fd 2", "fd 3", "fd 255"}


SPOIL = r"""
import os, struct
for fd in range(3, 256):
    for data in (b"\xff" * 64, struct.pack("<IB3xQ", 8, 3, 1) + b"x" * 8, struct.pack("<IB3xQ", 9, 34, 1) + bytes(9), bytes(64)):
        try:
            os.write(fd, data)
        except OSError:
            pass
"""


def test_whoever_writes_into_all_that_he_has_spoils_his_own(shared, alice, mallory):
    """A stream's calls of another user than root's run in a process that has the worker's link to the daemon."""
    call = json.dumps({"call": "exec", "args": [SPOIL]}) + "\n"
    (mallory.home / "calls").write_text(5 * call)
    (mallory.home / "call").write_text(call)
    (mallory.home / "script").write_text(SPOIL)
    daemon = shared.pids()["daemon"]
    alice.sh("printf '#!/bin/sh\nexec sleep 1000' > $M/jobs/hers; head -n 0 $M/info/hers/stderr & "
             "until [ \"$(cat $M/info/hers/state)\" = running ]; do :; done; kill %1", M=shared.mnt)
    p = mallory.sh("cp calls $M/jobs/a.jsonl; cp call $M/jobs/b; cp script $M/jobs/c; cat $M/results/a.jsonl | wc -l; "
                   "cat $M/info/b/wait $M/info/c/wait >/dev/null", M=shared.mnt)
    assert p.stdout == "5\n"
    p = alice.sh("echo 'print(6 * 7)' > $M/jobs/x; cat $M/results/x $M/info/hers/state; rm $M/jobs/hers", M=shared.mnt)
    assert (p.stdout, p.stderr) == ("42\nrunning\n", "")
    assert shared.pids()["daemon"] == daemon


def test_what_a_program_lends_is_not_the_jobs(shared, alice, mallory):
    """A program with a set-group-ID or set-user-ID bit makes a file where one says; what is in it is one's own to say."""
    for tool, owner, mode in (("gid", 0, 0o2755), ("uid", alice.uid, 0o4755)):
        for name in "touch", "chgrp":
            path = mallory.home / (name + tool)
            shutil.copy(shutil.which(name), path)
            os.chown(path, owner, alice.gid)
            path.chmod(mode)
    p = mallory.sh("./touchgid mine; ./touchuid /tmp/$USER; stat -c %g mine; stat -c %u /tmp/$USER", M=shared.mnt)
    os.unlink("/tmp/" + mallory.name)
    assert p.stdout.split() == [str(alice.gid), str(alice.uid)], "the bits count here"
    p = mallory.sh("""cd $M; for f in a .b; do ~/touchgid jobs/$f && echo 'import os; print(os.getgid(), os.getgroups())' > jobs/$f; done
mv jobs/.b jobs/b; cat results/a results/b; ! ~/touchuid jobs/c && ! ls jobs/c 2>/dev/null && echo refused
echo 'import os; print(os.getgid())' > jobs/.d; ! ~/chgrpgid %d jobs/.d && mv jobs/.d jobs/d; cat results/d""" % alice.gid, M=shared.mnt)
    own = "%d [%d]\n" % (mallory.gid, mallory.gid)
    assert p.stdout == own + own + "refused\n%d\n" % mallory.gid, p.stderr
    assert "Operation not permitted" in p.stderr


def test_who_cancelled_it_is_said(shared, alice):
    alice.sh("printf '#!/bin/sh\n#ppfs: hold=1\n' | tee $M/jobs/hers >$M/jobs/his; rm $M/jobs/hers", M=shared.mnt)
    os.unlink(shared.jobs / "his")
    assert [shared.why(name) for name in ("hers", "his")] == ["cancelled: it was removed from jobs/" + by for by in ("", " by user 0")]


def test_files_travel_with_the_rights_of_their_user(shared, alice, mallory):
    """What a job needs is read, and what it gives is written, as its own user."""
    (alice.home / "secret").write_text(HUSH)
    (alice.home / "secret").chmod(0o600)
    os.chown(alice.home / "secret", alice.uid, alice.gid)
    alice.home.chmod(0o755)
    job = r"printf '#!/bin/sh\n#ppfs: cwd=%s needs=%s gives=%s\ncat secret; echo x > out\n' > $M/jobs/%s; cat $M/results/%s"
    p = alice.sh(job % (alice.home, "secret", "out", "a", "a"), M=shared.mnt)
    assert (p.stdout, p.stderr) == (HUSH, "")
    assert (alice.home / "out").stat().st_uid == alice.uid
    (alice.home / "out").unlink()
    for name, needs, home in (("m1", "secret", alice.home), ("m2", ".", mallory.home)):
        mallory.sh(job % (home, needs, "out", name, name), M=shared.mnt)
    assert "Permission denied" in shared.why("m1") and not (alice.home / "out").exists()
    mallory.sh("echo y > $H/secret", H=mallory.home)
    mallory.sh((job % (alice.home, "out", "out", "m3", "m3")).replace("needs=out ", ""), M=shared.mnt)
    assert "Permission denied" in shared.why("m3") and not (alice.home / "out").exists()
