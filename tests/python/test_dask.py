"""dask's schedulers of processes over an executor."""
import os
import time

import pytest
from ppfsmount import need_module

dask = need_module("dask")
delayed = need_module("dask.delayed").delayed  # also what every program of dask's imports first

import ppfs  # noqa: E402
from called import touch  # noqa: E402


@pytest.fixture
def scheduled(m):
    with ppfs.Executor(str(m.mnt)) as executor, dask.config.set(scheduler=executor):
        yield m


def increment(x):
    return x + 1


def pid_after(x):
    return os.getpid()


def meet(path, count):
    """Ends when so many calls of this are under way."""
    touch("%s/met%d" % (path, os.getpid()))
    while len([name for name in os.listdir(path) if name.startswith("met")]) < count:
        time.sleep(0.01)


def test_graphs(scheduled):
    """Calls that use what others gave, names of a dictionary, functions of the program."""
    layers = [delayed(increment)(i) for i in range(20)]
    assert delayed(sum)([delayed(lambda a, b: a * b)(one, 2) for one in layers]).compute() == 420
    assert dask.compute({"a": layers[0], "b": [layers[1]]}) == ({"a": 1, "b": [2]},)
    with pytest.raises(ZeroDivisionError):
        delayed(divmod)(1, delayed(increment)(-1)).compute()
    assert delayed(increment)(1).compute() == 2


def test_collections(scheduled):
    bag = need_module("dask.bag")
    need_module("toolz")
    assert bag.from_sequence(range(100), npartitions=10).map(increment).filter(lambda x: x % 2).sum().compute() == 2500


def test_workers_stay(scheduled):
    """dask registers how built-in things are pickled when a worker imports it; that is no reason for it to leave."""
    pids = dask.compute(*[delayed(pid_after)(i) for i in range(60)])
    assert len(set(pids)) <= 8


def test_all_slots(new_mount):
    """As many calls at once as the mount has slots, not as this program has processors."""
    m = new_mount(cpus=4).start()
    with ppfs.Executor(str(m.mnt)) as executor, dask.config.set(scheduler=executor):
        dask.compute(*[delayed(meet)(str(m.work), 4) for _ in range(4)])
