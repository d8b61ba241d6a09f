"""Modules of the user's that go along (ppfs.Executor(modules=)): a node needs no file of them."""
import importlib
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402

INIT = """
import os
from .inner import Point

def moved(point):
    from . import late  # the program here has not imported it
    if point.x < 0:
        raise late.Wrong(point.x)
    return Point(point.x + late.BY), os.environ["PPFS_NODE"]
"""
INNER = "class Point:\n    def __init__(self, x):\n        self.x = x\n"
LATE = "BY = 7\n\nclass Wrong(Exception):\n    pass\n"


@pytest.fixture
def travelling(ml, new_node, monkeypatch):
    """(mount, module): a package that is nowhere to be found any more once an executor has it."""
    new_node("--name", "far", join=ml).up(ml)
    (ml.node / "cpus").write_text("1\n")
    top = ml.base / "own"
    (top / "travelling").mkdir(parents=True)
    for name, text in ("__init__", INIT), ("inner", INNER), ("late", LATE):
        (top / "travelling" / (name + ".py")).write_text(text)
    monkeypatch.syspath_prepend(str(top))
    module = importlib.import_module("travelling")
    yield ml, module, lambda: shutil.rmtree(top)
    for name in [n for n in sys.modules if n.partition(".")[0] == "travelling"]:
        del sys.modules[name]


@pytest.mark.parametrize("serializer", [None, "pickle", "source"])
@pytest.mark.parametrize("how", [["travelling"], True])
def test_a_package_goes_along(travelling, serializer, how):
    m, module, remove = travelling
    with ppfs.Executor(str(m.mnt), modules=how, serializer=serializer) as ex:
        remove()
        for node in "far", "local":
            for view in ex.options(node=node), ex.options(node=node, priority=1):
                futures = [view.submit(module.moved, module.Point(i)) for i in range(5)]
                assert [(f.result()[0].x, f.result()[1]) for f in futures] == [(i + 7, node) for i in range(5)]
            assert [p.x for p, _ in ex.options(node=node).map(module.moved, map(module.Point, range(9)), chunksize=3)] == [*range(7, 16)]
        with pytest.raises(Exception, match="Wrong: -1" if serializer else "-1") as caught:
            ex.options(node="far").submit(module.moved, module.Point(-1)).result()
        assert "raise late.Wrong(point.x)" in str(caught.value.__cause__ or caught.value)
