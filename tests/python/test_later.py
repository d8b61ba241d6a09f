"""Futures as arguments: a call starts when they have ended, with what they gave."""
import concurrent.futures
import operator
import os
import pickle
import threading
import traceback

import pytest
from called import fail, until
import ppfs


class Box:
    """Of this module, which workers find by the executor's path."""

    def __init__(self, what):
        self.what = what


def open_box(box):
    return box.what


def add(*numbers, **more):
    return sum(numbers) + sum(more.values())


def put(name, value):
    os.environ[name] = value


def total(numbers):
    return sum(numbers)


def test_a_future_stands_for_its_result(ex):
    """Whether it has ended or not, and wherever it is."""
    one = ex.submit(add, 1)
    two = ex.submit(add, one, 1)
    assert ex.submit(add, one, two, three=two).result() == 5
    assert one.done() and ex.submit(add, one, one).result() == 2
    assert ex.submit(total, [one, two]).result() == 3
    assert ex.submit(operator.getitem, {"a": two}, "a").result() == 2
    assert ex.submit(open_box, Box(two)).result() == 2
    assert ex.submit(Box, two).result().what == 2
    assert ex.submit(lambda x: x + 1, two).result() == 3
    assert ex.submit([5, 6, 7].__getitem__, two).result() == 7
    assert ex.submit(open_box, ex.submit(Box, two)).result() == 2


def test_it_has_not_ended(ex, tmp_path):
    """The call waits until it has, and other calls do not wait for that."""
    gate = tmp_path / "gate"
    first = ex.submit(until, str(gate), "there")
    second = ex.submit(str, first)
    assert ex.submit(add, 2).result() == 2
    assert not second.done() and not second.running()
    gate.touch()
    assert second.result() == "there"


def test_map_takes_them(ex):
    ones = [ex.submit(add, i) for i in range(20)]
    assert list(ex.map(add, ones, range(20))) == list(range(0, 40, 2))
    assert list(ex.map(add, ones, chunksize=7)) == list(range(20))
    assert list(ex.map(add, ones, buffersize=3)) == list(range(20))
    assert list(ex.map(add, [1, ones[1], 3])) == [1, 1, 3]


def test_what_the_arguments_were_at_the_submit(ex, tmp_path):
    gate, numbers = tmp_path / "gate", [1, 2]
    first = ex.submit(until, str(gate), "there")
    later = ex.submit(lambda numbers, _: numbers, numbers, first)
    numbers.append(3)
    gate.touch()
    assert later.result() == [1, 2]


def test_of_another_executor(m, ex):
    with ppfs.Executor(str(m.mnt), max_workers=1) as other:
        firsts = [other.submit(add, i) for i in range(5)]
        seconds = [ex.submit(add, one, 1) for one in firsts]
        thirds = [other.submit(add, one, 1) for one in seconds]
    assert [one.result() for one in thirds] == [2, 3, 4, 5, 6]


def test_options_and_initializer(m):
    with ppfs.Executor(str(m.mnt), initializer=put, initargs=("SET", "up")) as ex:
        name = ex.submit(str, "SET")
        assert ex.submit(os.getenv, name).result() == "up"
        assert ex.options(env="MY:own", priority=2).submit(os.getenv, ex.submit(str, "MY")).result() == "own"


@pytest.mark.parametrize("serializer", ["pickle", "source"])
def test_serializers(m, serializer):
    with ppfs.Executor(str(m.mnt), serializer=serializer) as ex:
        assert ex.submit(add, ex.submit(add, 1), 1).result() == 2


def test_large_ones(ex):
    """Go once, by their hash, where many calls have them."""
    large = ex.submit(operator.mul, b"x", 3 << 20)
    assert list(ex.map(len, [large] * 8)) == [3 << 20] * 8
    assert ex.submit(len, ex.submit(operator.mul, b"y", 65 << 20)).result() == 65 << 20


def test_failures_say_so(ex):
    bad = ex.submit(fail, ValueError, "no such luck")
    then = ex.submit(add, bad, 1)
    for future in (then, ex.submit(add, 1, then)):
        with pytest.raises(ppfs.DependencyFailed, match=r"^the call of \S*add did not start: among its arguments, or "
                           "theirs, call 1 of %s failed: ValueError: no such luck$" % ex.name):
            future.result()
        assert future.exception().__cause__ is bad.exception()
        assert "\nppfs.errors.DependencyFailed: the call" in "".join(traceback.format_exception(None, future.exception(), None))


def test_a_long_chain_fails(ex, tmp_path):
    gate = tmp_path / "gate"
    future = first = ex.submit(until, str(gate), "there")
    for _ in range(3000):
        future = ex.submit(str, future)
    first.kill()
    with pytest.raises(ppfs.DependencyFailed):
        future.result()


def test_cancelled(ex, tmp_path):
    gate = tmp_path / "gate"
    first = ex.submit(until, str(gate), "there")
    second, third = ex.submit(str, first), ex.submit(str, first)
    after = ex.submit(len, second)
    told = threading.Event()
    second.add_done_callback(lambda _: told.set())
    assert second.cancel() and told.wait(60) and after.done()
    with pytest.raises(ppfs.DependencyFailed, match="call 2 of .* was cancelled"):
        after.result()
    gate.touch()
    assert third.result() == "there"


def test_callbacks(ex):
    """A callback may submit a call of the future that has ended."""
    later = []
    told = threading.Event()

    def more(future):
        later.append(ex.submit(add, future, 1))
        told.set()

    ex.submit(add, ex.submit(add, 1), 1).add_done_callback(more)
    assert told.wait(60) and later[0].result() == 3


def test_shutdown_waits_for_them(m, tmp_path):
    gate = tmp_path / "gate"
    ex = ppfs.Executor(str(m.mnt))
    first = ex.submit(until, str(gate), "there")
    second = ex.submit(str, first)
    ex.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        ex.submit(str, second)
    gate.touch()
    ex.shutdown()
    assert second.done() and second.result() == "there"


def test_a_session_has_them_all(m):
    """Also the one that did not start."""
    with ppfs.Executor(str(m.mnt), name="chain") as ex:
        future = ex.submit(add, ex.submit(add, 1), 1)
        ex.submit(add, ex.submit(fail, ValueError, "no such luck"))
    assert future.result() == 2
    calls = ppfs.attach("chain", str(m.mnt)).futures(60)
    assert [call.id for call in calls] == [1, 2, 3, 4]
    assert sum(call.exception() is None for call in calls) == 2
    assert any("did not start" in str(call.exception()) for call in calls)
    ppfs.forget("chain", str(m.mnt))


def test_what_is_no_argument(ex):
    """What else cannot be pickled is named, and so is a future in the wrong place."""
    one = ex.submit(add, 1)
    with pytest.raises(pickle.PicklingError, match="argument 2 of .*add"):
        ex.submit(add, one, threading.Lock())
    with pytest.raises(pickle.PicklingError, match="may be among the arguments of submit"):
        ex.submit(lambda: one)
    with pytest.raises(pickle.PicklingError, match="argument 1 of .*add"):
        ex.submit(add, concurrent.futures.Future())
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(one)
