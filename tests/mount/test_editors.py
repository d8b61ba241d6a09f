"""Editors, and programs that save as they do, on jobs that are queued, held, run or have ended: what was saved is what runs, once,
and nothing beside it."""
import os
import pty
import string
import subprocess
import tempfile

import pytest
from ppfsmount import need_programs, wait_until

TEXT = "#!/bin/sh\n#ppfs: env=SAID:first%s\necho $SAID\n"
EMACS = ("(setq backup-enable-predicate (lambda (_) t) create-lockfiles t)", "(progn (find-file \"%s\") (auto-save-mode 1)"
         " (while (search-forward \"first\" nil t) (replace-match \"second\")) (do-auto-save) (save-buffer))")


def replaced(path):
    return path.read_text().replace("first", "second")


def emacs(path, *first):
    words = [w for e in (*first, EMACS[0], EMACS[1] % path) for w in ("--eval", e)]
    return ["emacs", "--batch", "-Q", *words]


def vim(path, *settings):
    return ["vim", "-u", "NONE", "-N", "-i", "NONE", "-es", *(w for s in ("backup", *settings) for w in ("-c", "set " + s)),
            "-c", "%s/first/second/", "-c", "w", "-c", "q!", str(path)]


def code(path, text=None):
    """VS Code: opens what is there, cuts it, writes."""
    text = (text or replaced(path)).encode()
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        os.ftruncate(fd, 0)
        os.pwrite(fd, text, 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def qsavefile(path, text=None):
    """Qt: a file NAME.XXXXXX made as mkstemp does, renamed."""
    text = (text or replaced(path)).encode()
    random = "".join(string.ascii_letters[b % 52] for b in os.urandom(6))
    new = path.with_name(path.name + "." + random)
    fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, text)
    os.fsync(fd)
    os.fchmod(fd, 0o644)
    os.close(fd)
    os.rename(new, path)


def jetbrains(path, text=None):
    """A new file beside it; the old one is renamed away, the new one takes its place."""
    there = text is None
    text = text or replaced(path)
    new, old = path.with_name(path.name + "___jb_tmp___"), path.with_name(path.name + "___jb_old___")
    new.write_text(text)
    try:
        if there:
            os.rename(path, old)
    except OSError:
        os.unlink(new)
        raise
    os.rename(new, path)
    if there:
        os.unlink(old)


def mkstemp(path, text=None):
    """As careful Python programs do, under any name."""
    text = text or replaced(path)
    fd, new = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(fd, "w") as f:
        f.write(text)
    try:
        os.replace(new, path)
    except OSError:
        os.unlink(new)
        raise


SAVERS = {
    "vim": vim, "vim backupcopy=yes": lambda p: vim(p, "backupcopy=yes"), "vim backupcopy=no": lambda p: vim(p, "backupcopy=no"),
    "emacs": emacs, "emacs copies": lambda p: emacs(p, "(setq backup-by-copying t)"),
    "emacs precious": lambda p: emacs(p, "(setq file-precious-flag t)"),
    "nano": lambda p: ["nano", "-I", "-B", str(p)],
    "ed": lambda p: ["ed", "-s", str(p)],
    "sed -i": lambda p: ["sed", "-i", "s/first/second/", str(p)], "sed -i.bak": lambda p: ["sed", "-i~", "s/first/second/", str(p)],
    "VS Code": code, "QSaveFile": qsavefile, "JetBrains": jetbrains, "mkstemp": mkstemp,
}
PROGRAMS = (code, qsavefile, jetbrains, mkstemp)
NANO = b"\x1cfirst\rsecond\ra\x0f\r\x18n"  # replace all, write, leave, and save no more


def on_a_terminal(words, ready, keys, **kw):
    """Runs it, with the keys typed once it has written ready (what comes before that an editor throws away); its status."""
    ours, its = pty.openpty()
    process = subprocess.Popen(words, stdin=its, stdout=its, stderr=its, start_new_session=True, **kw)
    os.close(its)
    seen = b""
    try:
        while ready not in seen:
            seen += os.read(ours, 65536)
        os.write(ours, keys)
        while os.read(ours, 65536):
            pass
    except OSError:  # it has left the terminal
        pass
    try:
        return process.wait(20)
    finally:
        os.close(ours)
        process.kill()


def save(m, how, path):
    """Runs it; whether it said that it saved."""
    saver = SAVERS[how]
    if saver in PROGRAMS:
        try:
            saver(path)
        except OSError:
            return False
        return True
    words = saver(path)
    need_programs(words[0])
    kw = {"cwd": m.work, "env": dict(m.client_env(), HOME=str(m.work), TERM="xterm")}
    if how == "nano":
        return on_a_terminal(words, b"^G", NANO, **kw) == 0
    keys = b",s/first/second/\nw\nq\n" if how == "ed" else b""
    return subprocess.run(words, input=keys, capture_output=True, timeout=40, **kw).returncode == 0


def leftovers(m):
    """What stands in jobs/ but is no draft for ever: those never run."""
    return sorted(n for n in os.listdir(m.jobs) if m.state(n) != "draft")


@pytest.mark.parametrize("how", SAVERS)
def test_a_queued_job(queue, how):
    m = queue
    m.put("x", TEXT % "")
    assert save(m, how, m.jobs / "x")
    assert leftovers(m) == ["x"]
    (m.node / "cpus").write_text("2")
    assert m.result("x") == b"second\n"
    assert (m.info / ".wait").read_text() == "done 1 failed 0\n"


@pytest.mark.parametrize("how", SAVERS)
def test_a_held_job(m, how):
    m.put("x", TEXT % " hold=1")
    assert save(m, how, m.jobs / "x")
    assert m.state("x") == "held" and leftovers(m) == ["x"]
    assert (m.jobs / "x").read_text() == TEXT.replace("first", "second") % " hold=1"


@pytest.mark.parametrize("how", SAVERS)
def test_a_running_job(m, how):
    """It goes on, and the editor is told."""
    m.put("x", TEXT % "" + "while [ ! -e %s/go ]; do sleep 0.05; done\n" % m.work)
    wait_until(lambda: m.state("x") == "running", "it to run")
    saved = save(m, how, m.jobs / "x")
    assert not saved or how.split()[0] in ("emacs", "nano")  # whose status says nothing of it
    assert m.state("x") == "running" and leftovers(m) == ["x"]
    (m.work / "go").touch()
    assert m.result("x") == b"first\n"
    assert (m.info / ".wait").read_text().startswith("done 1 failed 0")  # what mkstemp made has been a job, and was removed


@pytest.mark.parametrize("saver", PROGRAMS, ids=lambda f: f.__name__)
def test_a_name_that_has_just_run(m, saver):
    """The next save is a new job, though the one before may be ending just then."""
    for i in range(100):
        copy = m.work / "x"
        copy.write_text(TEXT % "" + "# %d\n" % i)
        saver(m.jobs / "x", copy.read_text())
        assert m.result("x") == b"first\n"
        assert leftovers(m) == [] and not (m.jobs / "x").exists()
    assert os.listdir(m.results) == ["x"]
