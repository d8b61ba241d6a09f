"""Every tool that people write files with works on jobs/ without an error message, and the job runs."""
import os
import shutil
import stat
import tempfile

import pytest
from ppfsmount import need_programs, wait_until

SCRIPT = "#!/bin/sh\necho hi from the job\n"
ANSWER = b"hi from the job\n"

# $W/f is the script, the job is x. Each line runs in $W.
WRITERS = {
    "cp": "cp f $M/jobs/x",
    "cp into the directory": "cp f x && cp x $M/jobs/",
    "cp -a": "cp -a f $M/jobs/x",
    "cp -p": "cp -p f $M/jobs/x",
    "cp --reflink": "cp --reflink=auto --sparse=always f $M/jobs/x",
    "mv": "mv f $M/jobs/x",
    "install": "install f $M/jobs/x",
    "install -m": "install -m 0640 f $M/jobs/x",
    "install -p -D": "install -p -D f $M/jobs/x",
    "tee": "tee $M/jobs/x < f > /dev/null",
    "tee -a": "head -n 1 f | tee -a $M/jobs/.x > /dev/null; tail -n +2 f | tee -a $M/jobs/.x > /dev/null; "
              "mv $M/jobs/.x $M/jobs/x",
    "dd": "dd if=f of=$M/jobs/x status=none",
    "dd small blocks": "dd if=f of=$M/jobs/x bs=3 status=none",
    "dd conv=fsync": "dd if=f of=$M/jobs/x conv=fsync status=none",
    "dd notrunc": "dd if=f of=$M/jobs/x conv=notrunc status=none",
    "rsync": "rsync f $M/jobs/x",
    "rsync -a": "rsync -a f $M/jobs/x",
    "rsync -a of a directory": "mkdir d && cp f d/x && rsync -a d/ $M/jobs/",
    ">": "cat f > $M/jobs/x",
    "> of a builtin": "printf '%s\\n' '#!/bin/sh' 'echo hi from the job' > $M/jobs/x",
    "echo >": "echo 'print(\"hi from the job\")' > $M/jobs/x",
    ">>": "cat f >> $M/jobs/x",
    "> of two commands": "(head -n 1 f; tail -n +2 f) > $M/jobs/x",
    ">| with noclobber": "set -C; cat f >| $M/jobs/x",
    "> with noclobber": "set -C; cat f > $M/jobs/x",
    "<>": "cat f 1<> $M/jobs/x",
    "exec": "exec 5> $M/jobs/x; head -n 1 f >&5; tail -n +2 f >&5; exec 5>&-",
    "here document": "cat > $M/jobs/x <<'END'\n" + SCRIPT + "END",
    "pipe": "cat f | cat > $M/jobs/x",
    "sort -o": "echo 'print(\"hi from the job\")' | sort -o $M/jobs/x",
    "split": "split -b 1M f s && mv saa $M/jobs/x",
    "touch first": "touch $M/jobs/x; cat f > $M/jobs/x",
    "touch -c afterwards": "cp f $M/jobs/x; touch -c $M/jobs/x",
    "truncate first": "truncate -s 0 $M/jobs/x; cat f > $M/jobs/x",
    "chmod": "cp f $M/jobs/.x; chmod 755 $M/jobs/.x; mv $M/jobs/.x $M/jobs/x",
    "chown": "cp f $M/jobs/.x; chown $(id -u):$(id -g) $M/jobs/.x; mv $M/jobs/.x $M/jobs/x",
    "touch -d": "cp f $M/jobs/.x; touch -d 2001-02-03 $M/jobs/.x; mv $M/jobs/.x $M/jobs/x",
    "tar": "cp f x; tar -cf - x | tar -xf - -C $M/jobs",
    "tar -p": "cp f x; tar -cf - x | tar -xpf - -C $M/jobs",
    "cpio": "cp f x; echo x | cpio -o --quiet | (cd $M/jobs && cpio -i --quiet)",
    "vim -es": "vim -u NONE -es -c '0read f' -c wq $M/jobs/x",
    "vim -es :w": "vim -u NONE -es -c 'w '$M/jobs/x -c q f",
    "vim -es with all its defaults": "vim -u /dev/null -N -es -c '0read f' -c x $M/jobs/x",
    "ex": "printf '0r f\\nwq\\n' | ex -s $M/jobs/x",
    "ed": "(printf 'a\\n'; cat f; printf '.\\nw\\nq\\n') | ed -s $M/jobs/x 2> /dev/null",  # it says that x is new
    "awk": "awk -v o=$M/jobs/x '{ print > o }' f",
    "perl": "perl -e 'open F, \">\", \"$ENV{M}/jobs/x\" or die $!; print F <>; close F or die $!' f",
    "python": "/usr/bin/python3 -c 'import os; open(os.environ[\"M\"] + \"/jobs/x\", \"w\").write(open(\"f\").read())'",
    "curl": "curl -sS file://$W/f -o $M/jobs/x",
}


@pytest.mark.parametrize("how", WRITERS)
def test_writer(m, how):
    tool = how.split()[0]
    if tool in ("vim", "ex", "rsync", "cpio", "ed", "perl", "curl"):
        need_programs(tool)
    (m.work / "f").write_text(SCRIPT)
    (m.work / "f").chmod(0o755)
    m.sh(WRITERS[how])
    assert m.result("x") == ANSWER
    (m.info / ".wait").read_text()
    assert [name for name in os.listdir(m.jobs) if not name.startswith(".")] == []
    assert sorted(os.listdir(m.results)) == ["x"] and os.listdir(m.failures) == []


@pytest.mark.parametrize("how", ["cp -r", "cp -a", "rsync -a", "rsync -r", "mv", "tar"])
def test_tree(m, how):
    """A directory filled with jobs, taken as a group."""
    os.makedirs(m.work / "G/sub")
    for name in ("a", "b", "sub/c"):
        (m.work / "G" / name).write_text("#!/bin/sh\necho %s\n" % name)
    m.sh({"mv": "mv G $M/jobs/", "tar": "tar -cf - G | tar -xf - -C $M/jobs"}.get(how, how + " G $M/jobs/"))
    for name in ("a", "b", "sub/c"):
        assert m.result("G/" + name) == name.encode() + b"\n"
    assert (m.info / "G/.wait").read_text() == "done 3 failed 0\n"


@pytest.mark.parametrize("how", [
    "sed -i s/old/new/ $M/jobs/x",
    "perl -pi -e s/old/new/ $M/jobs/x",
    "vim -u NONE -es -c '%s/old/new/' -c wq $M/jobs/x",
    "vim -u NONE -es -c 'set backupcopy=yes' -c '%s/old/new/' -c wq $M/jobs/x",
    "vim -u NONE -es -c 'set backupcopy=no' -c '%s/old/new/' -c wq $M/jobs/x",
    "sed s/old/new/ $M/jobs/x > y && cp y $M/jobs/x",
    "sed s/old/new/ $M/jobs/x > y && mv y $M/jobs/x",
    "sed s/old/new/ $M/jobs/x > y && rsync -I y $M/jobs/x",
    "sed s/old/new/ $M/jobs/x > y && rsync -I --inplace y $M/jobs/x",
    "sed s/old/new/ $M/jobs/x > y && install y $M/jobs/x",
    "/usr/bin/python3 -c 'import os; f = open(os.environ[\"M\"] + \"/jobs/x\", \"r+\"); t = f.read(); f.seek(0); "
    "f.write(t.replace(\"old\", \"new\")); f.truncate(); f.close()'",
], ids=["sed -i", "perl -pi", "vim", "vim backupcopy=yes", "vim backupcopy=no", "cp", "mv", "rsync", "rsync --inplace", "install",
        "python r+"])
def test_edit_a_queued_job(queue, how):
    m = queue
    m.put("x", "#!/bin/sh\necho old text\n")
    m.sh(how)
    assert os.listdir(m.jobs) == ["x"], os.listdir(m.jobs)
    assert (m.jobs / "x").read_text() == "#!/bin/sh\necho new text\n"
    (m.node / "cpus").write_text("2")
    assert m.result("x") == b"new text\n"
    assert (m.info / ".wait").read_text() == "done 1 failed 0\n"


@pytest.mark.parametrize("copy", [shutil.copy, shutil.copy2, shutil.copyfile, shutil.move], ids=lambda f: f.__name__)
def test_shutil(m, copy):
    (m.work / "f").write_text(SCRIPT)
    copy(m.work / "f", m.jobs / "x")
    assert m.result("x") == ANSWER


@pytest.mark.parametrize("mode", ["w", "wb", "x", "a", "w+", "a+"])
def test_python_open(m, mode):
    with open(m.jobs / "x", mode) as f:
        f.write(SCRIPT.encode() if "b" in mode else SCRIPT)
    assert m.result("x") == ANSWER


def test_python_tempfile_and_replace(m):
    """How careful Python writers do it: a temporary file, synced and renamed."""
    fd, name = tempfile.mkstemp(dir=m.jobs, prefix=".")
    with os.fdopen(fd, "w") as f:
        f.write(SCRIPT)
        f.flush()
        os.fsync(f.fileno())
    os.replace(name, m.jobs / "x")
    assert m.result("x") == ANSWER


def test_mode_owner_and_times_are_accepted(m):
    """On a draft, a queued job, and by path when the job may have ended already (as install and cp -a do)."""
    m.put("x", "#ppfs: hold=1\nprint(1)\n")
    os.chmod(m.jobs / "x", 0o640)
    assert stat.S_IMODE((m.jobs / "x").stat().st_mode) == 0o640
    os.chown(m.jobs / "x", os.getuid(), os.getgid())
    os.utime(m.jobs / "x", (1, 2))
    for i in range(30):
        fd = os.open(m.jobs / ("j%d" % i), os.O_WRONLY | os.O_CREAT)
        os.write(fd, SCRIPT.encode())
        os.fchmod(fd, 0o600)
        os.close(fd)
    assert (m.info / "x/state").read_text() == "held\n"
    for i in range(30):
        assert m.result("j%d" % i) == ANSWER


def test_install_many(m):
    """install and cp -a touch the file again by its path after close, when the job may have gone: no message."""
    (m.work / "f").write_text("#!/bin/true\n")
    m.sh("for i in $(seq 50); do install -m 755 f $M/jobs/i$i; cp -a f $M/jobs/c$i; done")
    assert (m.info / ".wait").read_text() == "done 100 failed 0\n"


@pytest.mark.parametrize("reader", [
    "cat $M/results/x", "cp $M/results/x o && cat o", "dd if=$M/results/x status=none", "tail -n 100 $M/results/x",
    "head -c 100 $M/results/x",
    "tail -c +1 $M/results/x", "while read -r line; do echo \"$line\"; done < $M/results/x", "grep -a '' $M/results/x",
    "sed '' $M/results/x", "awk 1 $M/results/x", "sort $M/results/x",
    "mapfile -t a < $M/results/x; printf '%s\\n' \"${a[@]}\"",
    "tar -cf - -C $M/results x | tar -xOf -", "rsync $M/results/x o && cat o", "install $M/results/x o && cat o",
    "cp -a $M/results/x o && cat o", "mv $M/results/x o && cat o && ! test -e $M/info/x", "xargs -a $M/results/x echo",
    "/usr/bin/python3 -c 'import os, sys; sys.stdout.write(open(os.environ[\"M\"] + \"/results/x\").read())'",
], ids=lambda r: r.split(" ")[0] + " " + r.split(" ")[1][:6])
def test_reader(m, reader):
    m.put("x", SCRIPT)
    m.wait("x")
    assert m.sh(reader).stdout == ANSWER


@pytest.mark.parametrize("reader", ["cat $M/results/x", "cp $M/results/x o && cat o", "grep -a hi $M/results/x",
                                    "tail -n 5 $M/results/x",
                                    "head $M/results/x", "dd if=$M/results/x status=none", "sort $M/results/x"])
def test_whole_program_on_one_line(m, reader):
    """cp j jobs/ && cat results/j: the reader comes before the job has ended."""
    (m.work / "f").write_text("#!/bin/sh\nsleep 0.1\necho hi from the job\n")
    assert m.sh("cp f $M/jobs/x && " + reader).stdout == ANSWER


def test_ls_and_find(m):
    os.mkdir(m.jobs / "G")
    for name in ("a", "G/b"):
        m.put(name, SCRIPT)
        m.result(name)
    m.put("h", "#ppfs: hold=1\nprint(1)\n")
    found = m.sh("cd $M && find jobs results | sort").stdout.decode().split()
    assert found == ["jobs", "jobs/G", "jobs/h", "results", "results/G", "results/G/b", "results/a"]
    out = m.sh("cd $M && ls -l results jobs failures && stat -c '%n %s %F' results/a").stdout.decode()
    assert "results/a %d regular file" % len(ANSWER) in out
    m.sh("rm $M/results/* 2>/dev/null; rm -r $M/results/G; rm $M/jobs/h")
    wait_until(lambda: os.listdir(m.results) == [], "results to be empty")


@pytest.mark.parametrize("how", ["tar -xf f.tar -C $M/jobs", "cp x $M/jobs/", "cp -a x $M/jobs/", "install x $M/jobs/", "cp x y && mv y $M/jobs/x",
                                 "cd $M/jobs && cpio -i --quiet < $W/f.cpio", "rsync x $M/jobs/"])
@pytest.mark.parametrize("umask", ["022", "077"])
def test_the_same_once_more(m, how, umask):
    """What is copied or unpacked again runs again, also under a name that has had its job."""
    (m.work / "x").write_text("#!/bin/sh\nid=$(cat /proc/sys/kernel/random/uuid)\necho $id\n")
    (m.work / "x").chmod(0o755)
    m.sh("tar -cf f.tar x && echo x | cpio -o --quiet > f.cpio")
    seen = set()
    for _ in range(3):
        m.sh("umask %s && %s" % (umask, how.replace("$W", str(m.work))))
        seen.add(m.result("x"))
    assert len(seen) == 3


@pytest.mark.parametrize("how", ["bash -c 'set -o noclobber; cat x > $M/jobs/x'", "dash -c 'set -C; cat x > $M/jobs/x'",
                                 "/usr/bin/python3 -c 'open(\"'$M'/jobs/x\", \"x\")'",
                                 "/usr/bin/python3 -c 'import os; os.open(\"'$M'/jobs/x\", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0)'"],
                         ids=["bash", "dash", "python", "nobody can read it"])
@pytest.mark.parametrize("umask", ["022", "077", "000"])
def test_a_name_that_has_had_its_job_is_a_key(m, how, umask):
    """Who must not clobber submits once."""
    (m.work / "x").write_text(SCRIPT)
    m.sh("umask %s; cat x > $M/jobs/x; cat $M/results/x" % umask)
    assert m.sh("umask %s; if %s 2>/dev/null; then echo written; else echo refused; fi" % (umask, how)).stdout == b"refused\n"
    assert m.result("x") == ANSWER and m.get("x", "attempt") == "1"


def test_who_has_made_a_copy_finds_it_though_it_has_run(m):
    """install(1) looks at the name after it has closed the file, then sets its mode."""
    fd = os.open(m.jobs / "x", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, b"#!/bin/sh\necho ran\n")
    os.close(fd)
    assert m.sh("cat $M/results/x").stdout == b"ran\n"  # another process: we have asked for nothing since
    assert os.stat(m.jobs / "x").st_size
    os.chmod(m.jobs / "x", 0o755)
    assert m.sh("ls -A $M/jobs; [ ! -e $M/jobs/x ]").stdout == b""  # it is so for nobody else
