"""ppfs(5): info/G/.failed, the names of the failed jobs of a group."""
import errno
import os
import shutil

import pytest

BAD = "#!/bin/sh\n#ppfs: nonsense=1\n"  # fails as it is submitted


def names(m, group="G"):
    return (m.info / group / ".failed").read_text()


def test_of_a_group_and_below(m):
    assert names(m, "") == ""
    os.makedirs(m.jobs / "G/H/I")
    os.makedirs(m.jobs / "G/J")
    for name in ("x", "G/b", "G/H/I/c", "G/J/d"):
        m.put(name, "#!/bin/sh\nexit 3\n")
    m.put("G/good", "#!/bin/sh\n")
    m.put("G/held", "#!/bin/sh\n#ppfs: hold=1\n")
    for name in ("x", "G/b", "G/H/I/c", "G/J/d", "G/good"):
        m.wait(name)
    os.unlink(m.jobs / "G/held")
    assert names(m) == "b\nH/I/c\nJ/d\n" and names(m, "G/H") == "I/c\n" and names(m, "G/J") == "d\n"
    assert names(m, "") == "x\nG/b\nG/H/I/c\nG/J/d\n"
    # a retried one is no failure any more, one that is forgotten neither
    m.sh("cd $M; for x in $(cat info/G/.failed); do printf '#!/bin/sh\\n' > jobs/G/$x; done; cat info/G/.wait; rm failures/x")
    assert names(m) == "" and names(m, "") == ""


def test_a_name_is_one_line(m):
    m.put("two\nlines \033[31m\xe9", BAD)
    assert names(m, "") == "two\\x0alines \\x1b[31m\xe9\n"


def test_pages_go_on_over_a_kill(m):
    os.makedirs(m.jobs / ".G/H")
    every = ["%04d" % i for i in range(1500)]
    for name in every:
        m.put(".G/" + name, BAD)
    for name in every[:700]:
        m.put(".G/H/" + name, BAD)
    for i in range(100):  # empty groups before the last
        os.mkdir(m.jobs / (".G/e%d" % i))
    os.mkdir(m.jobs / ".G/K")
    m.put(".G/K/last", BAD)
    os.rename(m.jobs / ".G", m.jobs / "G")
    with pytest.raises(OSError):  # nothing is unfinished
        (m.info / "G/.ok").read_text()
    whole = every + ["H/" + name for name in every[:700]] + ["K/last"]
    assert names(m).splitlines() == whole
    fd = os.open(m.info / "G/.failed", os.O_RDONLY)
    text = os.read(fd, 1000)
    m.kill_daemon()
    while part := os.read(fd, 3000):
        text += part
    os.close(fd)
    assert text.decode().splitlines() == whole


def test_a_place_that_goes_is_no_end(m):
    for group in ("G", "G/H"):
        os.mkdir(m.jobs / group)
        for i in range(1100):
            m.put("%s/%d" % (group, i), BAD)
    fd = os.open(m.info / "G/.failed", os.O_RDONLY)
    lines = 0
    while lines < 1200:  # in H
        lines += os.read(fd, 1 << 16).count(b"\n")
    shutil.rmtree(m.info / "G/H")
    with pytest.raises(OSError) as e:
        while os.read(fd, 1 << 16):
            pass
    assert e.value.errno == errno.EIO
    os.close(fd)


def test_who_may_list_may_read(shared, alice, mallory):
    alice.sh("cd $M/jobs; umask 22; mkdir G G/open G/closed G/blind; chmod 700 G/closed; chmod 711 G/blind; "
             "for g in G G/open G/closed G/blind; do printf '#!/bin/sh\\nexit 1\\n' > $g/x; done; cat $M/info/G/.wait", M=shared.mnt)
    whole = "x\nopen/x\nclosed/x\nblind/x\n"
    assert alice.sh("cat $M/info/G/.failed", M=shared.mnt).stdout == whole
    assert names(shared) == whole
    assert mallory.sh("cat $M/info/G/.failed", M=shared.mnt).stdout == "x\nopen/x\n"
    assert mallory.sh("cat $M/info/G/blind/.failed || ls $M/failures/G/blind", M=shared.mnt).stdout == ""
    assert mallory.sh("echo > $M/info/G/.failed", M=shared.mnt).returncode == 1


def test_what_is_kept_open_of_a_group_that_was_closed(shared, alice, mallory):
    """Who reads on, or only then, is told of no job that failed since; one whom nothing was closed to is."""
    q = alice.sh("mkdir $M/jobs/G; printf '#!/bin/sh\\nexit 1\\n' > $M/jobs/G/x; cat $M/info/G/.wait", M=shared.mnt)
    assert q.stderr == ""
    shell = "exec 3< $M/info/G/.failed; echo; read line; cat <&3"
    readers = [u.popen(["/bin/sh", "-c", shell], env={"M": str(shared.mnt)}, stdin=-1, stdout=-1, stderr=-1, text=True)
               for u in (alice, mallory)]
    for p in readers:
        assert p.stdout.readline() == "\n"
    q = alice.sh("chmod 700 $M/jobs/G; printf '#!/bin/sh\\nexit 1\\n' > $M/jobs/G/secret; cat $M/info/G/.wait", M=shared.mnt)
    assert q.stdout == "done 0 failed 2\n"
    (hers, _), (his, why) = [p.communicate("\n") for p in readers]
    assert hers == "x\nsecret\n" and his == "" and "Input/output error" in why
