#!/usr/bin/python3
"""Writes tests/bench/RESULTS, .md for people and .json for programs: what ppfs costs beside what it is compared with.

    make bench-results                               on a machine that does nothing else; some minutes
    tests/bench/results.py --build build --only file calls
    tests/bench/results.py --install                 installs what it is compared with (Debian)
"""
import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import bench
import nodes
import streams

TOP = pathlib.Path(__file__).resolve().parents[2]
PEERS = ["parallel", "task-spooler", "python3-distributed", "python3-joblib", "python3-numpy", "strace"]
ROUNDS = 3
LOOKS = 200  # of each kind, while streams run
FORGOTTEN = 3000
BIG, BIG_BYTES, BIG_SECONDS = 8, 200_000_000, 120

BUSY = """
import math, ppfs
with ppfs.Executor() as pool:
    while True:
        for _ in pool.map(math.sqrt, range(20000), chunksize=1):
            pass
"""


class Results:
    def __init__(self):
        self.rows, self.costs, self.turns = [], {}, None  # turns: by handler

    def add(self, work, unit, ours, peer, theirs, most=None, least=None):
        """most, least: what the ratio of ours to theirs is to be."""
        if ours is None or theirs is None:
            return
        ratio = ours / theirs
        met = ratio <= most if most is not None else ratio >= least
        goal = f"at most {most:g}" if most is not None else f"at least {least:g}"
        self.rows.append({"work": work, "unit": unit, "ppfs": ours, "beside": peer, "figure": theirs, "ratio": ratio,
                          "to reach": goal, "reached": met})
        print(f"  {work}: {ours:,.1f} {unit}, {peer} {theirs:,.1f}: {ratio:.2f}, {goal}", flush=True)


def median(rows, name, key=None):
    figures = [row if key is None else row[key] for row in rows.get(name, []) if key is None or key in row]
    return statistics.median(figures) if figures else None


def file_job(results, top, build):
    rows, opens, costs = bench.bench_call(top, build)
    results.costs.update({f"file job, {name}": cost for name, cost in costs.items()})
    results.add("file job (create write close open read close unlink), mean", "us", median(rows, "ppfs"),
                "leanest filesystem", median(rows, "do-nothing filesystem"), most=2)
    results.add("open of its result, p99", "us", median(opens, "p99"), "its p50", median(opens, "p50"), most=3)


def calls(results, top, build):
    peers = ["ppfs.Executor", "ProcessPoolExecutor", "Pool.apply_async, Pool.map", "joblib's loky"]
    ours, pool, multi, loky = peers
    rows = streams.measured(top, build, peers)

    def add(work, unit, key, peer, **goal):
        results.add(work, unit, median(rows, ours, key), peer, median(rows, peer, key), **goal)

    add("a call's round trip, p50", "us", "p50", pool, most=0.5)
    add("a call's round trip, p99", "us", "p99", pool, most=1)
    add("submit, one each", "calls/s", "submit", pool, least=12)
    add("submit, one each", "calls/s", "submit", multi, least=4)
    add("map, chunks of 100", "calls/s", "map100", multi, least=1.2)
    best = max((median(rows, name, "arrays") or 0, name) for name in (pool, loky) if name in rows)
    if best[0]:
        add("1 MB array there and back", "arrays/s", "arrays", best[1], least=1.5)


def big_arrays(results, top, build):
    """Each in a process of its own, which has nothing left of the other."""
    seconds = {}
    with bench.Ppfs(top, build, cpus=streams.WORKERS) as ppfs:
        env = dict(os.environ, PPFS=str(ppfs.path), PYTHONDONTWRITEBYTECODE="1")
        for name in ("ppfs", "loky"):
            done = subprocess.run(["timeout", str(BIG_SECONDS), bench.PYTHON, __file__, "--big", name], cwd=TOP / "scripts", env=env,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0:
                seconds[name] = float(done.stdout.split()[-1])
            else:
                print(f"  {BIG} arrays are left out for {name}: {(done.stderr.splitlines() or [f'over {BIG_SECONDS} s'])[-1]}")
    results.add(f"{BIG} arrays of {BIG_BYTES // 1000000} MB to a call", "s", seconds.get("ppfs"), "joblib's loky",
                seconds.get("loky"), most=1)


def first(array):
    """Of this file, which is __main__ here: workers cannot import it."""
    return array[0]


def measure_big(name):
    here = str(pathlib.Path(__file__).resolve().parent)
    sys.path[:] = [entry for entry in sys.path if entry != here]
    import numpy
    arrays = [numpy.ones(BIG_BYTES // 8) + i for i in range(BIG)]
    if name == "loky":
        import joblib
        run = joblib.Parallel(n_jobs=streams.WORKERS)
        run(joblib.delayed(abs)(i) for i in range(4))
        start = time.perf_counter()
        run(joblib.delayed(first)(array) for array in arrays)
    else:
        pool = streams.ppfs_executor()
        pool.map(abs, range(4), 1)
        start = time.perf_counter()
        streams.all_submitted(pool, first, arrays)
    print(time.perf_counter() - start)
    if name == "ppfs":
        pool.close()
    else:
        joblib.externals.loky.get_reusable_executor().shutdown(kill_workers=True)


def programs(results, top, build):
    rows = bench.bench_programs(top, build, ["#!/bin/sh, true"], without=["GNU parallel -j2"])["#!/bin/sh, true"]
    ours = median(rows, bench.PROGRAMS_OURS)
    results.add(f"#!/bin/sh true x {bench.PROGRAMS}", "us a job", ours, "xargs -P2", median(rows, "xargs -P2"), most=1.2)
    results.add(f"#!/bin/sh true x {bench.PROGRAMS}", "us a job", ours, "tsp -S2", median(rows, "task-spooler (tsp -S2)"), most=1)
    results.costs.update(bench.count_programs(top, build))


def scripts(results, top, build):
    rows = bench.bench_script(top, build)
    results.add(".py scripts, cp and cat, 2 slots", "jobs/s", 1e6 / median(rows, bench.SCRIPTS_OURS), "xargs -P2 python3",
                1e6 / median(rows, "xargs -P2 python3"), least=6)


def through_a_node(results, top, build):
    parts = nodes.parts()
    for name, least in {"large": 0.8, "far-large": 0.7}.items():
        folder = top / name
        folder.mkdir()
        rates = nodes.compare(folder, build, *parts[name])
        results.add(f"through a node: {parts[name][0]}", "calls/s", rates["node"], "here", rates["here"], least=least)


def job_of_priority_9(path, number):
    with open(path / f"jobs/now{number}", "w") as f:
        f.write("#!/bin/true\n#ppfs: priority=9\n")
    start = time.perf_counter()
    (path / f"results/now{number}").read_bytes()
    took = time.perf_counter() - start
    os.unlink(path / f"results/now{number}")
    return took


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def under_load(results, top, build):
    """Two streams at full rate, on both slots."""
    with bench.Ppfs(top, build, cpus=2) as ppfs:
        path = ppfs.path
        env = dict(os.environ, PPFS=str(path), PYTHONDONTWRITEBYTECODE="1")
        busy = [subprocess.Popen([bench.PYTHON, "-c", BUSY], cwd=TOP / "scripts", env=env, stderr=subprocess.DEVNULL)
                for _ in range(2)]
        try:
            bench.wait_until(lambda: json.loads((path / "stats.json").read_text())["since_start"]["calls"] > 10000, "calls")
            looks = {"ls": lambda i: timed(lambda: os.listdir(path / "results")),
                     "stat": lambda i: timed(lambda: os.stat(path / "jobs")),
                     "cat stats": lambda i: timed(lambda: (path / "stats").read_text()),
                     "a job of /bin/true with priority 9": lambda i: job_of_priority_9(path, i)}
            for name, look in looks.items():
                took = []
                for i in range(LOOKS):
                    took.append(look(i))
                    time.sleep(0.005)
                results.add(f"{name}, p99, while streams run", "ms", sorted(took)[LOOKS * 99 // 100] * 1e3, "a limit", 5, most=1)
            results.turns = json.loads((path / "stats.json").read_text())["long_turns"]
        finally:
            for process in busy:
                process.kill()
                process.wait()


def forgetting(results, top, build):
    with bench.Ppfs(top, build, cpus=2) as ppfs:
        bench.client(build, "fill", ppfs.path, FORGOTTEN, "g")
        (ppfs.path / "info/.wait").read_bytes()
        pid = ppfs.daemon()
        before = nodes.times(pid)
        bench.shell("rm -rf results/*", ppfs.path)
        results.add(f"rm -rf results/* of {FORGOTTEN} jobs: of the daemon", "us a job", (nodes.times(pid) - before) / FORGOTTEN * 1e6,
                    "a limit", 50, most=1)


PARTS = {"file": file_job, "calls": calls, "big": big_arrays, "programs": programs, "scripts": scripts, "nodes": through_a_node,
         "load": under_load, "forgetting": forgetting}


# --- what is written --------------------------------------------------------------------------------------------------
def machine():
    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    git = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True)
    return {"when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
            "commit": git.stdout.strip() or "?", "kernel": platform.release(), "processors": os.cpu_count(),
            "model": model[0] if model else platform.machine(), "load before": os.getloadavg()[0]}


def figure(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def as_text(about, results):
    lines = ["# What was measured", "",
             "`make bench-results` writes this file anew, and one for programs beside it; nothing here is written by hand.", "",
             f"{about['when']}, commit {about['commit']}, Linux {about['kernel']}, {about['processors']} processors ({about['model']}), "
             f"medians of {ROUNDS} rounds in turns. The load of the machine was {about['load before']:.1f} before it began"
             + ("." if about["load before"] < 0.5 else ": **it was not quiet, so the figures are worth little**."), "",
             "| work | ppfs | beside it | | ratio | to reach | |", "|---|---:|---|---:|---:|---|---|"]
    for r in results.rows:
        lines.append(f"| {r['work']} | {figure(r['ppfs'])} {r['unit']} | {r['beside']} | {figure(r['figure'])} | {r['ratio']:.2f} "
                     f"| {r['to reach']} | {'reached' if r['reached'] else '**not yet**'} |")
    if results.costs:
        names = list(dict.fromkeys(name for cost in results.costs.values() for name in cost))
        lines += ["", "What one job costs, counted:", "", "| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        for work, cost in results.costs.items():
            lines.append(f"| {work} | " + " | ".join(f"{cost[name]:.1f}" if name in cost else "" for name in names) + " |")
    if results.turns is not None:
        lines += ["", "Turns of the loop longer than 10 ms while streams ran" + (":" if results.turns else ": none."), ""]
    if results.turns:
        lines += ["| handler | turns | slowest, ms |", "|---|---:|---:|"]
        lines += [f"| {name} | {t['turns']} | {t['slowest_seconds'] * 1e3:.1f} |" for name, t in results.turns.items()]
        lines.append("")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build", help="the directory that holds ppfs")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="print only these, and write nothing")
    parser.add_argument("--install", action="store_true", help="install what it is compared with, and end")
    parser.add_argument("--big", choices=["ppfs", "loky"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.install:
        return subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *PEERS]).returncode
    if options.big:
        return measure_big(options.big)
    bench.ROUNDS = streams.ROUNDS = nodes.ROUNDS = ROUNDS
    about, results = machine(), Results()
    for name in options.only or PARTS:
        print(f"\n--- {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ppfs-bench.") as top:
            PARTS[name](results, pathlib.Path(top), options.build.resolve())
    if options.only:
        print(as_text(about, results))
        return 0
    written = TOP / "tests/bench/RESULTS"
    written.with_suffix(".md").write_text(as_text(about, results))
    written.with_suffix(".json").write_text(json.dumps({**about, "rows": results.rows, "costs of a job": results.costs,
                                                        "turns over 10 ms": results.turns}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
