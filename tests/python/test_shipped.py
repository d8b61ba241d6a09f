"""What Executor(modules=) sends, and that it is its own."""
import importlib
import sys

import ppfs
import pytest


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module of that name and text, and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def write(name, text):
        (tmp_path / (name + ".py")).write_text(text)
        importlib.invalidate_caches()
        sys.modules.pop(name, None)
        made.append(name)
        return importlib.import_module(name)
    yield write
    for name in made:
        sys.modules.pop(name, None)


def test_each_executor_has_its_own(m, own):
    """In one worker, whatever the file says meanwhile."""
    text = "def f():\n    return %r, __file__.startswith('<ppfs modules>')\n"
    (m.mnt / "nodes/local/cpus").write_text("1\n")
    executors = []
    for i in range(2):
        module = own("changing", text % i)
        executors.append(ppfs.Executor(str(m.mnt), modules=[module]))
        assert executors[i].submit(module.f).result() == (i, True)
    module = own("changing", text % "the file")
    executors.append(ppfs.Executor(str(m.mnt)))
    for _ in range(3):
        for i, expected in enumerate([(0, True), (1, True), ("the file", False)]):
            assert executors[i].submit(module.f).result() == expected
    for ex in executors:
        ex.shutdown()


def test_none_is_sent(m):
    with ppfs.Executor(str(m.mnt), modules=None) as ex:
        assert ex.submit(abs, -1).result() == 1


def test_what_is_not_sent(m, own):
    for modules, error, words in ((["json"], ValueError, "installed or built in"), (["sys"], ValueError, "installed or built in"),
                                  (["nosuchmodule"], ImportError, "nosuchmodule"), ([1], TypeError, "wants modules"),
                                  ([own("large", "#" * (5 << 20))], ValueError, "bytes of text")):
        with pytest.raises(error, match=words):
            ppfs.Executor(str(m.mnt), modules=modules)
