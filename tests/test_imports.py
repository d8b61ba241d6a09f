"""The rooms of the Python packages, read from their imports: the arrows run one way, and no two modules need each other."""
import ast
import pathlib

import pytest

TOP = pathlib.Path(__file__).resolve().parent.parent
ROOMS = {  # of each package from the top down: a module imports from its own room and those below
    "ppfs": [("ppfs", "ppfs.pp", "ppfs.joblib", "ppfs.parsl"),
             ("ppfs.compat",),
             ("ppfs.core", "ppfs.executor", "ppfs.files", "ppfs.later", "ppfs.memory", "ppfs.pool", "ppfs.progress", "ppfs.session"),
             ("ppfs._stream",),
             ("ppfs._pickle",),
             ("ppfs.errors", "ppfs.mount", "ppfs.options", "ppfs.trust", "ppfs.world")],
    "ppfs_slurm": [("ppfs_slurm.main",), ("ppfs_slurm.auto",), ("ppfs_slurm.lend", "ppfs_slurm.drivers"), ("ppfs_slurm.cluster",), ("ppfs_slurm.mounted",),
                   ("ppfs_slurm.arguments",), ("ppfs_slurm.words",), ("ppfs_slurm",)],
}


def modules_of(package):
    """{name of a module: its text}."""
    found = {}
    for path in sorted((TOP / "scripts" / package).rglob("*.py")):
        parts = path.relative_to(TOP / "scripts").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: (path.read_text(), path.name == "__init__.py") for name, path in found.items()}


def imports_of(name, text, is_package, names):
    """The modules among names that a module imports anywhere in its text, for its types alone too."""
    package = name if is_package else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names if one.name in names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[:len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *(node.module or "").split(".")]).rstrip(".")
            for one in node.names:
                if source + "." + one.name in names:
                    yield source + "." + one.name
                elif source in names:
                    yield source


def graph_of(modules):
    return {name: sorted(set(imports_of(name, text, is_package, modules)) - {name})
            for name, (text, is_package) in modules.items()}


def floor_of(name, rooms):
    """Which room a module is in, counted from the top."""
    where = [i for i, room in enumerate(rooms)
             if name in room or any(name.startswith(one + ".") for one in room if "." in one)]
    assert len(where) == 1, f"{name} has to be in one of the rooms of tests/test_imports.py"
    return where[0]


def arrows_up(graph, rooms):
    return [f"{name} imports {other}, which is above it" for name, others in graph.items() for other in others
            if floor_of(other, rooms) < floor_of(name, rooms)]


def circle_in(graph):
    """Modules each of which imports the next, the last one the first; [] when there is no circle."""
    done = set()

    def walk(name, path):
        if name in path:
            return path[path.index(name):]
        if name in done:
            return []
        found = next(filter(None, (walk(other, [*path, name]) for other in graph[name])), [])
        done.add(name)
        return found
    return next(filter(None, (walk(name, []) for name in graph)), [])


@pytest.mark.parametrize("package", ROOMS)
def test_arrows_run_down_and_no_circle(package):
    graph = graph_of(modules_of(package))
    assert sum(map(len, graph.values())) > len(graph), "the imports are found"
    assert arrows_up(graph, ROOMS[package]) == []
    assert circle_in(graph) == []


@pytest.mark.parametrize("package", ROOMS)
def test_modules_are_short(package):
    assert [name for name, (text, _) in modules_of(package).items() if text.count("\n") >= 500] == []


@pytest.mark.parametrize("where, line", [
    ("ppfs._pickle.values", "from .._stream.channel import Channel"),
    ("ppfs._pickle.values", "from .. import executor"),
    ("ppfs._stream.future", "def f():\n    from ..core import Core"),
    ("ppfs.mount", "import ppfs._stream.frames"),
    ("ppfs.executor", "from .compat import pp"),
    ("ppfs._stream", "from ..session import Session"),
])
def test_an_arrow_up_is_found(where, line):
    modules = modules_of("ppfs")
    text, is_package = modules[where]
    assert arrows_up(graph_of({**modules, where: (text + line + "\n", is_package)}), ROOMS["ppfs"])


@pytest.mark.parametrize("where, line, circle", [
    ("ppfs._stream.future", "if TYPE_CHECKING:\n    from .connection import Connection", {"future", "connection"}),
    ("ppfs._pickle.reach", "from .changed import Plain", {"reach", "changed"}),
    ("ppfs.core", "from . import executor", {"core", "executor"}),
])
def test_a_circle_is_found(where, line, circle):
    modules = modules_of("ppfs")
    text, is_package = modules[where]
    found = circle_in(graph_of({**modules, where: (text + line + "\n", is_package)}))
    assert {name.rpartition(".")[2] for name in found} == circle
