#!/usr/bin/python3
"""What a call costs: ppfs.Executor beside other Python pools, no-op calls, 2 workers. Medians of 5 rounds, in turns,
and ratios.

Every peer is measured in a process of its own (pools that fork inside a process with threads hang now and then). Those
that are not installed are left out. ppfs alone has every call safe from kill -9 when it is accepted.

    tests/bench/streams.py --build build
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
ROUNDS = 5
WORKERS = 2
TRIPS = 2000
ARRAYS = 100
ARRAY_BYTES = 1_000_000

MEASURES = {
    "submit": ("one submit each", "calls/s", "to reach: 8 times ProcessPoolExecutor, 2 times Pool.apply_async"),
    "map1": ("map, chunksize 1", "calls/s", ""),
    "map100": ("map, chunksize 100", "calls/s", "to reach: level with ProcessPoolExecutor"),
    "p50": ("one call's round trip, p50", "us", "to reach: at most half of ProcessPoolExecutor's"),
    "p99": ("one call's round trip, p99", "us", ""),
    "arrays": ("1 MB numpy arrays there and back", "arrays/s", "to reach: level with ProcessPoolExecutor"),
    "array": ("the same 1 MB numpy array for each call", "calls/s", ""),
}


def noop(_):
    return None


def same(value):
    return value


def first(array):
    return array[0]


# --- the peers: each gives submit(f, x) -> handle, wait(handle), map(f, xs, chunksize) -> list ------------------------

class Pools:
    """What ProcessPoolExecutor and its like have in common."""

    calls = 5000

    def __init__(self, executor):
        self.executor = executor
        self.submit = executor.submit

    def wait(self, handle):
        return handle.result()

    def map(self, func, items, chunksize):
        return list(self.executor.map(func, items, chunksize=chunksize))

    def close(self):
        self.executor.shutdown()


def ppfs_executor():
    sys.path.insert(0, "")  # the directory scripts, where the parent starts this
    import ppfs
    pool = Pools(ppfs.Executor())
    pool.calls = 50000
    return pool


def process_pool():
    from concurrent.futures import ProcessPoolExecutor
    return Pools(ProcessPoolExecutor(WORKERS))


class MultiprocessingPool:
    calls = 20000

    def __init__(self):
        import multiprocessing
        self.pool = multiprocessing.Pool(WORKERS)

    def submit(self, func, item):
        return self.pool.apply_async(func, (item,))

    def wait(self, handle):
        return handle.get()

    def map(self, func, items, chunksize):
        return self.pool.map(func, items, chunksize=chunksize)

    def close(self):
        self.pool.close()
        self.pool.join()


def loky():
    from joblib.externals.loky import get_reusable_executor
    pool = Pools(get_reusable_executor(max_workers=WORKERS))
    pool.calls = 3000
    return pool


class Dask:
    calls = 500

    def __init__(self):
        import logging
        from distributed import Client, LocalCluster
        logging.disable(logging.CRITICAL)
        self.cluster = LocalCluster(n_workers=WORKERS, threads_per_worker=1, processes=True, dashboard_address=None)
        self.client = Client(self.cluster)

    def submit(self, func, item):
        return self.client.submit(func, item, pure=False)

    def wait(self, handle):
        return handle.result()

    def map(self, func, items, chunksize):
        return self.client.gather(self.client.map(func, items, pure=False, batch_size=chunksize))

    def close(self):
        self.client.close()
        self.cluster.close()


PEERS = {
    "ppfs.Executor": ppfs_executor,
    "ProcessPoolExecutor": process_pool,
    "Pool.apply_async, Pool.map": MultiprocessingPool,
    "joblib's loky": loky,
    "dask.distributed": Dask,
}
NEEDS = {"joblib's loky": "joblib", "dask.distributed": "distributed"}


# --- one peer, in its own process -------------------------------------------------------------------------------------

def rate(count, work):
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def all_submitted(pool, func, items):
    handles = [pool.submit(func, item) for item in items]
    for handle in handles:
        pool.wait(handle)


def measure(name):
    here = str(pathlib.Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    pool = PEERS[name]()
    n = pool.calls
    figures = {}
    all_submitted(pool, noop, range(200))
    pool.map(noop, range(200), 10)
    figures["submit"] = rate(n, lambda: all_submitted(pool, noop, range(n)))
    figures["map1"] = rate(n, lambda: pool.map(noop, range(n), 1))
    many = n if isinstance(pool, Dask) else 10 * n  # it sends each by itself
    figures["map100"] = rate(many, lambda: pool.map(noop, range(many), 100))
    trips = []
    for i in range(min(TRIPS, n // 2)):
        start = time.perf_counter()
        pool.wait(pool.submit(noop, i))
        trips.append((time.perf_counter() - start) * 1e6)
    trips.sort()
    figures["p50"], figures["p99"] = trips[len(trips) // 2], trips[len(trips) * 99 // 100]
    try:
        import numpy
    except ImportError:
        pass
    else:
        array = numpy.random.default_rng(1).random(ARRAY_BYTES // 8)
        figures["arrays"] = rate(ARRAYS, lambda: all_submitted(pool, same, [array + i for i in range(ARRAYS)]))
        figures["array"] = rate(ARRAYS, lambda: all_submitted(pool, first, [array] * ARRAYS))
    pool.close()
    print(json.dumps(figures))


# --- all of them ------------------------------------------------------------------------------------------------------

def installed(name):
    module = NEEDS.get(name)
    if module and subprocess.run([PYTHON, "-c", f"import {module}"], stderr=subprocess.DEVNULL).returncode != 0:
        print(f"  {name} is left out: {module} is not installed")
        return False
    return True


def measured(top, build, only=None):
    """{name: [{measure: figure} a round]}."""
    mount = pathlib.Path(top, "ppfs")
    mount.mkdir()
    env = dict(os.environ, PPFS_WORKER=str(build / "ppfs-worker"))
    state = pathlib.Path(top, "state")
    subprocess.run([build / "ppfs", "--state", state, "--cpus", str(WORKERS), mount], env=env, check=True)
    try:
        return rounds(mount, only)
    finally:
        subprocess.run(["fusermount3", "-u", mount])
        subprocess.run(["flock", "-w", "60", state / "lock", "true"])


def rounds(mount, only):
    env = dict(os.environ, PPFS=str(mount), PYTHONDONTWRITEBYTECODE="1")
    env.pop("PYTHONPATH", None)
    names = [name for name in PEERS if (not only or name in only) and installed(name)]
    rows = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            p = subprocess.run([PYTHON, __file__, "--measure", name], cwd=TOP / "scripts", env=env,
                               stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, timeout=300)
            if p.returncode != 0:
                sys.exit(f"bench: {name} failed:\n{p.stderr}")
            rows[name].append(json.loads(p.stdout.splitlines()[-1]))
    return rows


def compare(rows):
    names = list(rows)
    ours = names[0]
    for key, (title, unit, goal) in MEASURES.items():
        print(f"\n{title}" + (f"   ({goal})" if goal else ""))
        reference = statistics.median(r[key]
                                      for r in rows[ours] if key in r) if any(key in r for r in rows[ours]) else None
        for name in names:
            figures = [r[key] for r in rows[name] if key in r]
            if not figures or reference is None:
                continue
            median = statistics.median(figures)
            ratio = reference / median
            words = "" if name == ours else f"   {ours}: {ratio:.2f} times that"
            print(f"  {name:28} {median:10,.0f} {unit}  ({min(figures):,.0f}-{max(figures):,.0f}){words}")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build", help="the directory that holds ppfs")
    parser.add_argument("--peer", action="append", choices=list(PEERS),
                        help="only this one; may be given several times")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        return measure(options.measure)
    build = options.build.resolve()
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, Python of {PYTHON}; no-op calls, "
          f"{WORKERS} workers, medians of {ROUNDS} rounds in turns (least-most)", flush=True)
    with tempfile.TemporaryDirectory(prefix="ppfs-bench.") as top:
        compare(measured(top, build, options.peer))
    return None


if __name__ == "__main__":
    main()
