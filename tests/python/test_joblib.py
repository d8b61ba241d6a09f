"""The joblib backend, nested use included."""
import concurrent.futures
import io
import multiprocessing
import operator
import os
import time

import pytest
from ppfsmount import need_module

joblib = need_module("joblib")

import ppfs  # noqa: E402
import ppfs.joblib  # noqa: E402,F401
from called import crowd, warn  # noqa: E402


@pytest.fixture
def backend(m, monkeypatch):
    monkeypatch.setenv("PPFS", str(m.mnt))
    ppfs.joblib.register()
    with joblib.parallel_backend("ppfs"):
        yield m


def test_parallel(backend):
    delayed = joblib.delayed
    assert joblib.Parallel()(delayed(operator.neg)(i) for i in range(1000)) == [-i for i in range(1000)]
    assert joblib.Parallel(n_jobs=2)(delayed(lambda x: x + 1)(i) for i in range(10)) == list(range(1, 11))
    assert joblib.effective_n_jobs(-1) == 2 and joblib.effective_n_jobs(5) == 5
    with joblib.Parallel(n_jobs=2) as parallel:
        for _ in range(3):
            assert parallel(delayed(abs)(-i) for i in range(20)) == list(range(20))


def test_what_cannot_be_printed_stops_nothing(backend, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    assert joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(print)("caf\u00e9") for _ in range(9)) == [None] * 9


def test_warnings_are_shown_once(backend, capsys):
    joblib.Parallel(n_jobs=2, batch_size=1)(joblib.delayed(warn)("once") for _ in range(9))
    assert capsys.readouterr().err.count("UserWarning: so: once") == 1


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_n_jobs_is_a_limit(new_mount, monkeypatch, n_jobs):
    m = new_mount(cpus=4).start()
    monkeypatch.setenv("PPFS", str(m.mnt))
    ppfs.joblib.register()
    with joblib.parallel_backend("ppfs", n_jobs=n_jobs):
        seen = joblib.Parallel(batch_size=1, pre_dispatch="all")(joblib.delayed(crowd)(str(m.work)) for _ in range(12))
    assert max(seen) <= n_jobs


def test_exceptions(backend):
    with pytest.raises(ZeroDivisionError):
        joblib.Parallel(n_jobs=2)(joblib.delayed(divmod)(1, i) for i in (1, 0, 1))
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(5)) == list(range(5))


def test_numpy(backend):
    numpy = need_module("numpy")
    a = numpy.arange(100_000.0)
    out = joblib.Parallel(n_jobs=2)(joblib.delayed(numpy.sum)(part) for part in numpy.array_split(a, 7))
    assert sum(out) == a.sum()


def inner(n):
    return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(n)))


def middle(n):
    return joblib.Parallel(n_jobs=2)(joblib.delayed(inner)(n) for _ in range(3))


def test_nested(backend):
    """As scikit-learn nests: no worker waits for a slot that only another worker could give."""
    assert joblib.Parallel(n_jobs=4)(joblib.delayed(middle)(n)
                                     for n in range(6)) == [[sum(range(n))] * 3 for n in range(6)]


def named(n):
    return sum(joblib.Parallel(n_jobs=2, backend="ppfs")(joblib.delayed(abs)(-i) for i in range(n)))


def test_nested_by_name(backend):
    assert joblib.Parallel(n_jobs=4)(joblib.delayed(named)(n) for n in range(6)) == [sum(range(n)) for n in range(6)]


def test_timeout(backend):
    """What has not ended in time is killed, and the slots are free again."""
    with pytest.raises(multiprocessing.TimeoutError):  # as joblib raises
        joblib.Parallel(n_jobs=2, timeout=0.3)(joblib.delayed(time.sleep)(1000) for _ in range(4))
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(20)) == list(range(20))


def test_several_at_once(backend):
    """Each Parallel has an executor of its own."""
    def work(n):
        return joblib.Parallel(n_jobs=2, backend="ppfs", batch_size=3, pre_dispatch="2*n_jobs")(
            joblib.delayed(operator.mul)(n, i) for i in range(50))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [[n * i for i in range(50)] for n in range(4)]


def test_programs(run):
    need_module("joblib")
    assert run("""
import joblib, ppfs
ppfs.joblib.register()
def f(x): return x * 2
with joblib.parallel_backend("ppfs", n_jobs=2):
    print(joblib.Parallel()(joblib.delayed(f)(i) for i in range(5)))
""") == "[0, 2, 4, 6, 8]\n"


def variable(name):
    return os.environ.get(name)


def test_initializer_and_inner_threads(m, monkeypatch):
    """Both reach the workers, by parallel_backend() too; what is no argument of the backend is refused, not ignored."""
    monkeypatch.setenv("PPFS", str(m.mnt))
    ppfs.joblib.register()
    with joblib.parallel_backend("ppfs", n_jobs=2, initializer=set_variable,
                                 initargs=("SPAM", "eggs"), inner_max_num_threads=3):
        seen = joblib.Parallel()(joblib.delayed(variable)(name) for name in ("SPAM", "OMP_NUM_THREADS", "MKL_NUM_THREADS"))
    assert seen == ["eggs", "3", "3"]
    with pytest.raises(TypeError, match="unheard"):
        with joblib.parallel_backend("ppfs", unheard=1):
            pass


def set_variable(name, value):
    os.environ[name] = value


def test_one_job_runs_here(backend):
    assert joblib.Parallel(n_jobs=1)(joblib.delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2
    assert os.getpid() not in joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(2))


def test_prints_reach_standard_output(backend, capsys):
    joblib.Parallel(n_jobs=2)(joblib.delayed(print)("spam", i) for i in range(3))
    assert sorted(capsys.readouterr().out.splitlines()) == ["spam 0", "spam 1", "spam 2"]


def test_the_limit_stays_after_an_error(new_mount, monkeypatch):
    m = new_mount(cpus=4).start()
    monkeypatch.setenv("PPFS", str(m.mnt))
    ppfs.joblib.register()
    with joblib.parallel_backend("ppfs", n_jobs=2), joblib.Parallel(batch_size=1, pre_dispatch="all") as parallel:
        with pytest.raises(ZeroDivisionError):
            parallel(joblib.delayed(divmod)(1, 0) for _ in range(2))
        assert max(parallel(joblib.delayed(crowd)(str(m.work)) for _ in range(12))) <= 2
