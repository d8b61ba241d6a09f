"""ppfs.pp: programs written for pp and ppft, and each method that ppft documents."""
import math
import os
import threading

import pytest

import ppfs
import ppfs.pp as pp
from ppfs.compat.pp import _address
from called import crowd, touch, until


def isprime(n):
    if n < 2:
        return False
    return all(n % i for i in range(2, int(math.ceil(math.sqrt(n))) + 1) if i != n)


def sum_primes(n):
    return sum([x for x in range(2, n) if isprime(x)])


def uses_what_was_not_imported(x):
    return string.capwords(x) + helper(x)  # noqa: F821: modules=("string",), depfuncs=(helper,)


def helper(x):
    return os.sep + x + textwrap.dedent(" x")  # noqa: F821


def path_of(x):
    return p.join(x, sqrt(x) if False else "b")  # noqa: F821


class Functor:
    def __init__(self, n):
        self.n = n

    def __call__(self, x):
        return self.n + x

    def method(self, x):
        return self.n * x


@pytest.fixture
def server(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    with pp.Server() as s:
        yield s


def test_sum_primes(server):
    """The first example of pp's documentation."""
    job1 = server.submit(sum_primes, (100,), (isprime,), ("math",))
    assert job1() == 1060
    inputs = (1000, 1010, 1020)
    jobs = [(n, server.submit(sum_primes, (n,), (isprime,), ("math",))) for n in inputs]
    assert [job() for _, job in jobs] == [sum_primes(n) for n in inputs]


def test_names_come_from_modules_and_depfuncs(server):
    job = server.submit(uses_what_was_not_imported, ("a b",), (helper,), ("string", "textwrap"))
    assert job() == "A B/a bx"
    assert server.submit(path_of, ("a",), (), ("import os.path as p", "from math import sqrt"))() == "a/b"
    with pytest.raises(NameError):
        server.submit(uses_what_was_not_imported, ("a b",), (), ("string",))()


def test_bound_methods_classes_functors(server):
    assert server.submit(Functor(3), (4,))() == 7
    assert server.submit(Functor(3).method, (4,))() == 12
    assert server.submit(Functor, (5,))().n == 5
    assert server.submit(sorted, ([3, 1, 2],))() == [1, 2, 3]


def test_functions_are_let_go(server):
    for i in range(5):
        assert server.submit(lambda x, y=[i]: (x, y), (1,), (lambda: i,))() == (1, [i])
    assert len(server._executor._cache._entries) == 0


def test_callback_and_group(server):
    got, lock = [], threading.Lock()

    def add(where, value):
        with lock:
            got.append((where, value))
    for i in range(10):
        server.submit(pow, (i, 2), callback=add, callbackargs=("x",), group="g" if i % 2 else "h")
    server.wait("g")
    assert {(w, v) for w, v in got} >= {("x", i * i) for i in range(1, 10, 2)}
    server.wait()
    assert sorted(got) == [("x", i * i) for i in range(10)]


def test_wait_for_a_group_only(server, m):
    slow = server.submit(until, (str(m.work / "go"), 1), group="slow")
    server.submit(pow, (2, 2), group="quick")
    server.wait("quick")
    assert not slow.finished
    touch(m.work / "go")
    slow.wait()
    assert slow.finished and slow() == 1


def test_template(server):
    fn = pp.Template(server, sum_primes, (isprime,), ("math",))
    assert [job() for job in [fn.submit(n) for n in (10, 100)]] == [17, 1060]


def test_globals(server):
    space = {"__name__": "space", "math": math, "isprime": isprime}
    exec("def f(n): return math.floor(2.5), isprime(n)", space)
    assert server.submit(space["f"], (7,), globals=space)() == (2, True)


def test_exceptions_are_raised(server):
    job = server.submit(divmod, (1, 0))
    with pytest.raises(ZeroDivisionError):
        job()
    assert job.finished
    with pytest.raises(ppfs.WorkerDied):
        server.submit(os._exit, (1,))()
    assert server.submit(pow, (2, 3))() == 8


def test_raw_result(server):
    import pickle
    raw = server.submit(pow, (2, 3))(raw_result=True)
    assert raw[:2] == b"\x80\x02" and pickle.loads(raw) == (8, "")


@pytest.mark.parametrize("wrong", [{"args": [1]}, {"depfuncs": [abs]}, {"modules": ["math"]}, {"modules": (math,)},
                                   {"callbackargs": []}, {"globals": []}])
def test_frequent_mistakes(server, wrong):
    with pytest.raises(TypeError):
        server.submit(abs, **{"args": (1,), **wrong})


def test_ncpus_and_nodes(server, m):
    assert server.get_ncpus() == 2 and server.get_active_nodes() == {"local": 2}
    server.set_ncpus(3)
    assert server.get_ncpus() == 3 and server.get_active_nodes() == {"local": 3}
    server.set_ncpus()
    assert server.get_ncpus() == len(os.sched_getaffinity(0))
    assert (m.node / "cpus").read_text() == "2\n", "the mount is everybody's"
    with pytest.raises(TypeError):
        server.set_ncpus("many")
    with pytest.raises(ValueError):
        server.set_ncpus(-1)
    with pytest.raises(TypeError):
        pp.Server(ppservers=["a"])
    with pytest.raises(TypeError):
        pp.Server(secret=5)


def test_ncpus_is_a_limit(m, monkeypatch):
    """Of that server alone."""
    monkeypatch.setenv("PPFS", str(m.mnt))
    (m.work / "one").mkdir()
    with pp.Server(1) as one, pp.Server() as two:
        assert max(job() for job in [one.submit(crowd, (str(m.work / "one"),)) for _ in range(10)]) == 1
        waits = [two.submit(until, (str(m.work / "go"),)) for _ in range(2)]
        while len(two.get_stats()) < 1 or not all(job._future.running() for job in waits):
            pass
        touch(m.work / "go")
        one.set_ncpus(0)
        job = one.submit(pow, (2, 3))
        assert not job.finished and one.get_ncpus() == 0
        one.set_ncpus(2)
        assert job() == 8
    with pp.Server(0, ppservers=("127.0.0.1:1",)) as server:
        assert server.submit(pow, (2, 4))() == 16
    assert (m.node / "cpus").read_text() == "2\n"


def test_exit_with_jobs(run):
    """As in ppft they end with their program, at once."""
    run("import time, ppfs.pp\ns = ppfs.pp.Server()\njob = s.submit(time.sleep, (1000,))\n")


def test_stats(server, capsys):
    for i in range(5):
        server.submit(pow, (i, 2))()
    stats = server.get_stats()
    assert stats["local"].ncpus == 2 and stats["local"].njobs >= 5 and stats["local"].time >= 0
    server.print_stats()
    out = capsys.readouterr().out
    assert "Job execution statistics:" in out and "local" in out and "2 cores" in out and "0 active tasks" in out


def test_servers_that_are_not_there(m, monkeypatch, caplog):
    """Each is asked for in nodes/, or there is one warning that names it; the jobs run here."""
    monkeypatch.setenv("PPFS", str(m.mnt))
    with pp.Server(1, ppservers=("127.0.0.1:1", "[::1]:2", "*"), secret="spam", restart=True, proto=2,
                   socket_timeout=10) as server:
        assert server.ppservers == [("127.0.0.1", 1), ("::1", 2)]
        assert server.auto_ppservers == [(("0.0.0.0", 60000), ("255.255.255.255", 60000))]
        assert server.submit(pow, (2, 3))() == 8 and server.get_ncpus() == 1
        assert server.get_active_nodes() == {"local": 1}
        warnings = [r.getMessage() for r in caplog.records if r.name == "pp"]
        nodes = m.node.parent
        for name, words in (("127.0.0.1:1", "node 127.0.0.1:1 "), ("[::1]:2", "node ::1:2 ")):
            assert (nodes / name).is_dir() != (sum(words in w for w in warnings) == 1), warnings
        discovers = (nodes / ".discover").exists() and (nodes / ".discover").read_text() == "1\n"
        assert discovers != (sum("local network" in w for w in warnings) == 1), warnings


@pytest.mark.parametrize("server, address", [
    ("host", ("host", 60000)), ("host:5", ("host", 5)), ("::1", ("::1", 60000)), ("[::1]", ("::1", 60000)),
    ("[::1]:5", ("::1", 5)), ("*:5", ("*", 5))])
def test_addresses(server, address):
    assert _address(server) == address


def test_destroy(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    server = pp.Server()
    job = server.submit(until, (str(m.work / "never"),))
    server.destroy()
    with pytest.raises(pp.DestroyedServerError):
        server.submit(pow, (1, 2))
    with pytest.raises(pp.DestroyedServerError):
        job()
    server.destroy()


def test_functions_of_main(run):
    assert run("""
import ppfs.pp as pp
import math
def helper(x): return math.floor(x) + 1
def f(x): return helper(x)
class C:
    def m(self, x): return f(x)
s = pp.Server()
print(s.submit(f, (2.5,), (helper,), ("math",))(), s.submit(C().m, (4.5,), globals=globals())())
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
print(s.submit(fib, (10,))())
def up(n): return n + 1
def quick(a):
    if len(a) < 2: return a
    p = a[0]
    left, right = [x for x in a[1:] if x < p], [x for x in a[1:] if x >= p]
    jobs = [s.submit(sorted, (left,)), s.submit(sorted, (right,))]
    return jobs[0]() + [p] + jobs[1]()
print(quick([3, 1, 2, 5, 4]))
""") == "3 5\n55\n[1, 2, 3, 4, 5]\n"
