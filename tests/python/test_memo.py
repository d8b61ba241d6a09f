"""ppfs.memo: what was made before is answered from what is kept, and never wrongly."""
import os
import pickle

import pytest

import ppfs
import ppfs.memory
from ppfs._pickle import witness
from ppfsmount import wait_until


def noted(path, x):
    """Leaves a line for each time that it is made."""
    with open(path, "a") as file:
        file.write("%r\n" % (x,))
    return [x, x * 10]


def made(path):
    return len(path.read_text().splitlines()) if path.exists() else 0


def kept(m):
    group = m.mnt / "results" / ("memo-%d" % os.geteuid())
    return sorted(os.listdir(group)) if group.exists() else []


@pytest.fixture
def memo(m, ex):
    return ppfs.memo(ex)


def test_the_same_call(m, memo):
    """Is made once, and each caller has a value of his own."""
    log = m.work / "log"
    first = memo.submit(noted, str(log), 1).result()
    assert first == [1, 10] and made(log) == 1
    first.append("mine")
    again = memo.submit(noted, str(log), 1)
    assert again.done() and again.result() == [1, 10]
    wait_until(lambda: len(kept(m)) == 1, "the result to be kept")
    with ppfs.Executor(str(m.mnt)) as other:
        assert ppfs.memo(other).submit(noted, str(log), 1).result() == [1, 10] and made(log) == 1
        assert ppfs.memo(other.options(priority=3)).submit(noted, str(log), 1).result() == [1, 10] and made(log) == 1
        assert ppfs.memo(other.options(env={"A": "b"})).submit(noted, str(log), 1).result() == [1, 10] and made(log) == 2
    assert list(memo.map(noted, [str(log)] * 3, [1, 2, 1])) == [[1, 10], [2, 20], [1, 10]] and made(log) == 3


def test_what_is_removed_is_forgotten(m, memo):
    log = m.work / "log"
    memo.submit(noted, str(log), 1).result()
    wait_until(lambda: len(kept(m)) == 1, "the result to be kept")
    memo.submit(noted, str(log), 1).result()
    assert made(log) == 1
    os.unlink(m.mnt / "results" / ("memo-%d" % os.geteuid()) / kept(m)[0])
    memo.submit(noted, str(log), 1).result()
    assert made(log) == 2


def test_what_a_function_refers_to(m, memo):
    """Closures, defaults, globals, code."""
    log = str(m.work / "log")

    def make(n, text="return n * m + FACTOR"):
        space = {"FACTOR": 2, "__name__": "__main__"}
        exec("def outer(n):\n  def f(m):\n    open(%r, 'a').write('x\\n')\n    %s\n  return f" % (log, text), space)
        return space["outer"](n), space

    f, space = make(3)
    assert memo.submit(f, 5).result() == 17 == memo.submit(f, 5).result() and made(m.work / "log") == 1
    space["FACTOR"] = 4
    assert memo.submit(f, 5).result() == 19
    assert memo.submit(make(4)[0], 5).result() == 22
    assert memo.submit(make(3, "return n + m + FACTOR")[0], 5).result() == 10
    assert memo.submit(make(3)[0], 5).result() == 17


@pytest.mark.parametrize("how", ["first", "in the call"])
def test_sources_of_modules(m, run, how):
    """Also of those that are imported in the call, and by others; also new ones that stand before them."""
    log = m.work / "log"
    (m.work / "outer_module.py").write_text("import inner_module\ndef f(): return inner_module.VALUE\n")
    inner = m.work / "inner_module.py"
    program = """
import sys, ppfs
%s
def call(log):
    import outer_module
    open(log, "a").write("x\\n")
    return outer_module.f()
with ppfs.Executor() as ex: print(ppfs.memo(ex).submit(call, sys.argv[1]).result())
""" % ("import outer_module" if how == "first" else "")
    inner.write_text("VALUE = 1\n")
    assert (run(program, log), made(log)) == ("1\n", 1)
    wait_until(lambda: len(kept(m)) == 1, "the result to be kept")
    (m.work / "program0.py").unlink()  # the next one has the name of this
    assert (run(program, log), made(log)) == ("1\n", 1)
    stat = inner.stat()
    inner.write_text("VALUE = 2\n")
    os.utime(inner, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (m.work / "program0.py").unlink()
    assert (run(program, log), made(log)) == ("2\n", 2)
    inner.write_text("VALUE = 1\n")
    (m.work / "program0.py").unlink()
    assert run(program, log) == "1\n"
    (m.work / "inner_module").mkdir()
    (m.work / "inner_module" / "__init__.py").write_text("VALUE = 3\n")
    (m.work / "program0.py").unlink()
    assert run(program, log) == "3\n"


def test_a_module_that_changes_while_a_call_runs(m, memo):
    """What was loaded counts, not what is there at the end."""
    module = m.work / "changing.py"
    module.write_text("VALUE = 1\n")

    def call(path):
        import sys
        sys.path.insert(0, path)
        import changing
        with open(changing.__file__, "w") as file:
            file.write("VALUE = 2\n")
        return changing.VALUE

    assert memo.submit(call, str(m.work)).result() == 1
    assert memo.submit(call, str(m.work)).result() == 2


def test_versions_of_packages(m, memo, monkeypatch):
    """What was kept with others is not given."""
    log = m.work / "log"
    memo.submit(noted, str(log), 1).result()
    seen = list(memo._versions)
    monkeypatch.setattr(memo, "_current", lambda: (seen[0], seen[1], b"others"))
    memo.submit(noted, str(log), 1).result()
    assert made(log) == 2
    place = m.work / "site"
    (place / "some-1.0.dist-info").mkdir(parents=True)
    before = witness.packages((str(place),))
    (place / "some-1.0.dist-info").rename(place / "some-1.1.dist-info")
    assert witness.packages((str(place),)) != before


def test_results_of_others_are_not_loaded(shared, mallory):
    """Nor is anything kept in a group of theirs."""
    with ppfs.Executor(str(shared.mnt)) as ex:
        memo = ppfs.memo(ex)
        seen = ex.submit(eval, *witness.arguments(pickle.dumps((abs, (-1,), {})))).result()[1]
        key, group = memo._key(memo._core.serializer.call(abs, (-1,), {})), "memo-%d" % os.geteuid()
        forged = shared.base / "forged"
        forged.write_bytes(pickle.dumps((bytes, (pickle.dumps((seen, "planted")),))))
        forged.chmod(0o644)
        said = mallory.sh("mkdir -m 777 %s/jobs/%s && cp %s %s/jobs/%s/%s && cat %s/results/%s/%s > /dev/null" % (
            shared.mnt, group, forged, shared.mnt, group, key, shared.mnt, group, key))
        assert said.returncode == 0, said.stderr
        assert memo.submit(abs, -1).result() == 1 == memo.submit(abs, -1).result()
        assert os.stat(shared.mnt / "results" / group / key).st_uid == mallory.uid and kept(shared) == [key]
        assert memo.submit(abs, -2).result() == 2 and kept(shared) == [key]
        mallory.sh("rm %s/results/%s/%s; rmdir %s/jobs/%s" % (shared.mnt, group, key, shared.mnt, group))
        memo._new.clear()
        (shared.mnt / "jobs" / group).mkdir(exist_ok=True)
        (shared.mnt / "jobs" / group / key).write_bytes(forged.read_bytes())
        wait_until(lambda: memo._kept(key), "one's own to be there")
        assert memo.submit(abs, -1).result() == "planted", "the forged one was well made"


def test_failures_and_what_cannot_be_kept(m, memo, monkeypatch):
    """Are made each time."""
    monkeypatch.setattr(ppfs.memory, "LARGEST", 5000)
    log = m.work / "log"
    for count in (1, 2):
        with pytest.raises(ZeroDivisionError):
            memo.submit(divmod, 1, 0).result()
        assert memo.submit(bytes, 6000).result() == bytes(6000)
    assert kept(m) == []
    (m.jobs / ("memo-%d" % os.geteuid())).write_text("#!/bin/sh\n")
    assert memo.submit(noted, str(log), 1).result() == [1, 10]
    with ppfs.Executor(str(m.mnt), name="named") as session, pytest.raises(ValueError, match="the session named keeps"):
        ppfs.memo(session)


def test_a_cancelled_one(m, memo):
    from called import until
    future = memo.submit(until, str(m.work / "go"), 7)
    wait_until(future.running, "the call to run")
    assert not future.cancel()
    (m.work / "go").touch()
    assert future.result() == 7
