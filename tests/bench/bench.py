#!/usr/bin/python3
"""What make bench prints: ppfs beside what it is compared with, measured in turns in one run, medians of 5 and ratios.

    make bench            (a) a call, (b) a Python script, (c) 2,000 programs: a minute or two
    make bench-million    (d) a million queued jobs: some minutes
"""
import argparse
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

PYTHON = "/usr/bin/python3"
ROUNDS = 5
CALLS = 2000
SCRIPTS = 50
PROGRAMS = 2000
MILLION = 1_000_000
COUNTED = 300  # jobs whose system calls are traced
PROGRAM_TEXTS = {"#!/bin/sh, true": "#!/bin/sh\ntrue\n", "#!/bin/true": "#!/bin/true\n"}
PROGRAMS_OURS = "ppfs: cp -r, cat info/G/.wait"
SCRIPTS_OURS = "ppfs: cp of all, cat of all"
FRAME_HEADER = 24  # bytes before each page in the database's log


def shell(command, cwd=None, env=None):
    """Runs a command line as a person would type it; returns the seconds it took."""
    start = time.monotonic()
    done = subprocess.run(["/bin/sh", "-ec", command], cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"bench: {command}\n{done.stderr.decode(errors='replace')}")
    return seconds


def wait_until(condition, what, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"bench: waited {seconds} s for {what}")
        time.sleep(0.005)


class Mount:
    """A directory with something mounted on it, taken away at the end."""

    def __init__(self, top, name):
        self.path = top / name
        self.path.mkdir()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def unmount(self):
        if os.path.ismount(self.path):
            if subprocess.run(["fusermount3", "-u", self.path]).returncode != 0:
                subprocess.run(["fusermount3", "-uz", self.path])


class Nullfs(Mount):
    def __init__(self, top, build):
        super().__init__(top, "null")
        self.program = build / "tests/bench/nullfs"

    def start(self):
        self.process = subprocess.Popen([self.program, self.path])
        wait_until(lambda: os.path.ismount(self.path), "nullfs")

    def stop(self):
        self.unmount()
        self.process.wait()


class Ppfs(Mount):
    def __init__(self, top, build, name="ppfs", cpus=None):
        super().__init__(top, name)
        self.state = top / f"{name}.state"
        self.build, self.cpus = build, cpus

    def start(self):
        """The command returns when the directory is ready to use."""
        command = [self.build / "ppfs", "--state", self.state, self.path]
        command += [] if self.cpus is None else ["--cpus", str(self.cpus)]
        env = dict(os.environ, PPFS_WORKER=str(self.build / "ppfs-worker"))
        subprocess.run(command, env=env, check=True)

    def stop(self):
        self.unmount()
        # The lock is let go of when the last process has written down its state.
        wait_until(lambda: subprocess.run(["flock", "-n", self.state / "lock", "true"]).returncode == 0, "ppfs to end", 300)

    def daemon(self):
        supervisor = int((self.state / "lock").read_text().split()[0])
        for child in pathlib.Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split():
            if pathlib.Path(f"/proc/{child}/comm").read_text().startswith("ppfs"):
                return int(child)
        sys.exit("bench: the supervisor has no daemon")

    def rss_mib(self):
        for line in pathlib.Path(f"/proc/{self.daemon()}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        sys.exit("bench: no VmRSS")


def client(build, *words):
    """Microseconds: the mean of a job, p50 and p99 of the open of a result."""
    out = subprocess.run([build / "tests/bench/client", *map(str, words)], check=True, stdout=subprocess.PIPE)
    return [float(word) for word in out.stdout.split()]


def table(title, unit, rows, reference, note):
    """rows: {name: [a figure a round]}. Prints medians and, for each, the ratio of ppfs to it."""
    print(f"\n{title}")
    ours = statistics.median(rows[reference])
    for name, figures in rows.items():
        median = statistics.median(figures)
        spread = f"{min(figures):.0f}-{max(figures):.0f}"
        ratio = "" if name == reference else f"   {reference} takes {ours / median:.2f} times that"
        print(f"  {name:34} {median:9.1f} {unit}  ({spread}){ratio}")
    print(f"  {note}", flush=True)


def switches(pid):
    """How often the process has waited so far."""
    return sum(int(line.split()[1]) for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
               for line in (task / "status").read_text().splitlines() if line.startswith("voluntary_ctxt"))


def traced(pid):
    return "TracerPid:\t0\n" not in pathlib.Path(f"/proc/{pid}/status").read_text()


def page_size(database):
    return int.from_bytes(database.read_bytes()[16:18], "big") if database.exists() else 0


def counted(top, path, pids, run):
    """What a job costs processes, counted: {name: a job}. Of system calls those that only look are left out.

    run(turn) runs COUNTED jobs."""
    before = sum(map(switches, pids))
    run(0)
    figures = {"waits": sum(map(switches, pids)) - before, "requests": 0, "commits": 0, "pages": 0, "KiB of pages": 0,
               "system calls": 0}
    trace = top / "trace"
    strace = subprocess.Popen(["strace", "-f", "-y", "-qq", "-e", "signal=none", "-o", trace,
                               *(word for pid in pids for word in ("-p", str(pid)))])
    wait_until(lambda: all(map(traced, pids)), "strace")
    run(1)
    strace.send_signal(signal.SIGINT)
    strace.wait()
    page = page_size(path.with_name(path.name + ".state") / "ppfs.db")
    for line in trace.read_text(errors="replace").splitlines():
        call = re.match(r"\d+ +(\w+)\((?:\d+<(.*?)>)?", line)
        said = line.rsplit("= ", 1)[-1].split()[0]
        if not call or call[1] == "epoll_wait" or said in ("0", "-1") and call[1] == "read":
            continue
        figures["system calls"] += 1
        figures["requests"] += call[1] == "read" and call[2] == "/dev/fuse"
        if call[1] == "pwrite64" and call[2].endswith("-wal") and said.isdigit():
            figures["commits"] += 1
            figures["pages"] += int(said) // (FRAME_HEADER + page)
            figures["KiB of pages"] += int(said) / 1024
    return {name: figure / COUNTED for name, figure in figures.items()}


def print_costs(costs):
    for name, cost in costs.items():
        print(f"  {name:34} a job: " + ", ".join(f"{figure:.1f} {what}" for what, figure in cost.items() if figure), flush=True)


def has_strace():
    if not shutil.which("strace"):
        print("  what a job costs is not counted: strace is not installed")
    return shutil.which("strace")


def bench_call(top, build):
    """({name: [mean a round]}, {"p50", "p99": [of open]}, {name: what a job costs})."""
    rows, opens, costs = {"ppfs": [], "do-nothing filesystem": []}, {"p50": [], "p99": []}, {}
    with Ppfs(top, build) as ppfs, Nullfs(top, build) as null:
        mounts = {"ppfs": ppfs, "do-nothing filesystem": null}
        first = 0
        for name, mount in mounts.items():  # the first calls start workers and fill caches
            client(build, "calls", mount.path, 200, first)
        for _ in range(ROUNDS):
            first += CALLS
            for name, mount in mounts.items():
                mean, p50, p99 = client(build, "calls", mount.path, CALLS, first)
                rows[name].append(mean)
                if mount is ppfs:
                    opens["p50"].append(p50)
                    opens["p99"].append(p99)
        first += CALLS
        if has_strace():
            for name, mount, pid in ("ppfs", ppfs, ppfs.daemon()), ("do-nothing filesystem", null, null.process.pid):
                costs[name] = counted(top, mount.path, [pid],
                                      lambda turn: client(build, "calls", mount.path, COUNTED, first + turn * COUNTED))
    table("(a) one client: create, write, close a JSON call; open, read, close, unlink its result", "us a job", rows,
          "ppfs", "to reach: ppfs takes at most twice what the leanest filesystem takes")
    p50, p99 = (statistics.median(opens[which]) for which in ("p50", "p99"))
    print(f"  open of a result: p50 {p50:.0f} us, p99 {p99:.0f} us ({p99 / p50:.1f} times)   to reach: 3 times")
    print_costs(costs)
    return rows, opens, costs


def bench_script(top, build):
    script, folder, plain = top / "script.py", top / "scripts", top / "plain"
    script.write_text("import json, sys\nprint(json.dumps(sorted(sys.argv)))\n")
    folder.mkdir()
    plain.mkdir()
    names = [f"{i}.py" for i in range(SCRIPTS)]
    for name in names:
        shutil.copy(script, folder / name)
    names = " ".join(names)

    def in_turn(command):
        return f"i=0; while [ $i -lt {SCRIPTS} ]; do {command}; i=$((i+1)); done"

    with Ppfs(top, build) as ppfs:
        one, many = "ppfs: cp, cat", SCRIPTS_OURS
        commands = {
            one: (in_turn(f"cp {script} jobs/$i.py; cat results/$i.py"), ppfs.path),
            many: (f"cp {folder}/*.py jobs/; cd results; cat {names}", ppfs.path),
            "python3 script.py": (in_turn(f"{PYTHON} {script}"), top),
            "xargs -P2 python3": (f"printf '%s\\n' {folder}/*.py | xargs -P2 -n1 {PYTHON}", top),
            "cp, cat alone, in a plain directory": (in_turn(f"cp {script} {plain}/$i.py; cat {plain}/$i.py"), top),
        }
        rows = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, (command, where) in commands.items():
                rows[name].append(shell(command, where) / SCRIPTS * 1e6)
                if where == ppfs.path:
                    shell("rm results/*", ppfs.path)
    table("(b) a Python script: one after another, and all together", "us a job", rows, "python3 script.py",
          "to reach: 5 times (as many more jobs a second)")
    return rows


def write_programs(folder, text, count):
    folder.mkdir()
    for i in range(count):
        (folder / f"{i:04}").write_text(text)
        (folder / f"{i:04}").chmod(0o755)
    return folder


def count_programs(top, build):
    """What a program costs the daemon, and all that belongs to its worker, the program among them."""
    costs = {}
    folder = write_programs(top / "counted", PROGRAM_TEXTS["#!/bin/sh, true"], COUNTED)
    with Ppfs(top, build, name="counts", cpus=2) as ppfs:
        if not has_strace():
            return costs
        daemon = ppfs.daemon()
        shell(f"cp -r {folder} jobs/warm; cat info/warm/.wait", ppfs.path)
        workers = [pid for pid in below(daemon) if "worker" in pathlib.Path(f"/proc/{pid}/comm").read_text()]
        for name, pids in {"daemon": [daemon], "workers and programs": workers}.items():
            costs[f"#!/bin/sh true, {name}"] = counted(
                top, ppfs.path, pids, lambda turn: shell(f"cp -r {folder} jobs/{pids[0]}-{turn}; cat info/{pids[0]}-{turn}/.wait", ppfs.path))
    print_costs(costs)
    return costs


def below(pid):
    """The processes that it has started, and theirs."""
    found = [pid]
    for parent in found:
        for task in pathlib.Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found[1:]


def bench_programs(top, build, kinds=tuple(PROGRAM_TEXTS), without=()):
    """{kind: {name: [a figure a round]}}."""
    figures = {}
    for kind in kinds:
        text = PROGRAM_TEXTS[kind]
        folder = write_programs(top / "programs", text, PROGRAMS)
        rivals = {
            # What the kernel makes of the first line, without a program between.
            "xargs -P2": f"printf '%s\\n' {folder}/* | xargs -P2 -n1 {text.splitlines()[0][2:]}",
            "GNU parallel -j2": f"printf '%s\\n' {folder}/* | parallel --will-cite -j2 {{}}",
            # tsp -w waits for the newest job; with two slots the one before it may still run.
            "task-spooler (tsp -S2)": f"tsp -S 2; for f in {folder}/*; do tsp $f; done; tsp -w; tsp -w {PROGRAMS - 2}",
        }
        rivals = {name: command for name, command in rivals.items() if name not in without}
        tools = {"xargs -P2": "xargs", "GNU parallel -j2": "parallel", "task-spooler (tsp -S2)": "tsp"}
        for name, tool in tools.items():
            if name in rivals and shutil.which(tool) is None:
                print(f"  {name} is left out: {tool} is not installed")
                del rivals[name]
        ours = PROGRAMS_OURS
        rows = {ours: [], **{name: [] for name in rivals}}
        env = dict(os.environ, TS_SOCKET=str(top / "tsp.socket"), TMPDIR=str(top), HOME=str(top))
        with Ppfs(top, build, name=f"ppfs-{len(text)}", cpus=2) as ppfs:
            for turn in range(ROUNDS):
                seconds = shell(f"cp -r {folder} jobs/g{turn}; cat info/g{turn}/.wait", ppfs.path)
                rows[ours].append(seconds / PROGRAMS * 1e6)
                for name, command in rivals.items():
                    rows[name].append(shell(command, top, env) / PROGRAMS * 1e6)
                    if "tsp" in name:
                        shell("tsp -K; rm -f ts-out.*", top, env)
        table(f"(c) {PROGRAMS} programs, each {kind}, on 2 processors", "us a job", rows, ours,
              "to reach: level with task-spooler or better; of these only ppfs still has its queue after a crash")
        figures[kind] = rows
        shutil.rmtree(folder)
    return figures


def done(ppfs):
    return int((ppfs.path / "nodes/local/done").read_text())


def lend(ppfs, yes):
    """Lets the node run jobs or, once the running ones have ended, none."""
    (ppfs.path / "nodes/local/state").write_text("up\n" if yes else "drain\n")
    if not yes:
        wait_until(lambda: int((ppfs.path / "nodes/local/running").read_text()) == 0, "the running jobs to end")


def run_cost(ppfs, jobs):
    """Microseconds a job while that many of the queue are run."""
    before, start = done(ppfs), time.monotonic()
    lend(ppfs, True)
    wait_until(lambda: done(ppfs) - before >= jobs, f"{jobs} jobs to run", 300)
    seconds, count = time.monotonic() - start, done(ppfs) - before
    lend(ppfs, False)
    return seconds / count * 1e6


def bench_million(top, build):
    print(f"\n(d) {MILLION:,} queued jobs; making them takes minutes", flush=True)
    submit, run = {1000: []}, {1000: []}
    with Ppfs(top, build, "few", cpus=2) as ppfs:
        lend(ppfs, False)
        for turn in range(ROUNDS):
            submit[1000].append(client(build, "fill", ppfs.path, 1000, f"few{turn}")[0])
            run[1000].append(run_cost(ppfs, 1000))
    ppfs = Ppfs(top, build, "many", cpus=2)
    ppfs.start()
    lend(ppfs, False)
    client(build, "fill", ppfs.path, MILLION - ROUNDS * 1000, "many")
    submit[MILLION] = [client(build, "fill", ppfs.path, 1000, f"last{turn}")[0] for turn in range(ROUNDS)]
    rss = ppfs.rss_mib()
    ppfs.stop()

    start = time.monotonic()
    ppfs.start()
    (ppfs.path / "jobs/now").write_text('{"call": "math.sqrt", "args": [2], "priority": 100}\n')
    answer = (ppfs.path / "results/now").read_text()
    again = time.monotonic() - start
    assert answer.startswith("1.414"), answer
    lend(ppfs, False)
    run[MILLION] = [run_cost(ppfs, 1000) for _ in range(ROUNDS)]
    rss_after = ppfs.rss_mib()
    ppfs.stop()

    print(f"  memory of the daemon (VmRSS)       {rss:9.1f} MiB; {rss_after:.1f} MiB after mounting again   to reach: 64")
    print(f"  mounted again, one job's result    {again:9.2f} s     to reach: 2")
    for name, cost in {"submit": submit, "run": run}.items():
        few, many = (statistics.median(cost[n]) for n in (1000, MILLION))
        print(f"  to {name:6} a job                    {few:9.1f} us at 1,000, {many:.1f} us at {MILLION:,}:"
              f" {many / few:.2f} times   to reach: 1.3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, required=True, help="the directory that holds ppfs")
    parser.add_argument("--million", action="store_true", help="only (d)")
    parser.add_argument("--only", choices=["call", "script", "programs"], help="only (a), (b) or (c)")
    options = parser.parse_args()
    build = options.build.resolve()

    model = [line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")]
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} processors, {model[0] if model else platform.machine()}")
    print(f"medians of {ROUNDS} rounds, in turns; (least-most)", flush=True)
    parts = {"call": bench_call, "script": bench_script, "programs": bench_programs}
    for name, part in {"million": bench_million}.items() if options.million else parts.items():
        if options.only in (None, name) or options.million:
            with tempfile.TemporaryDirectory(prefix="ppfs-bench.") as top:
                part(pathlib.Path(top), build)
    if not options.million and not options.only:
        print("\n(d) a million queued jobs takes some minutes more: make bench-million")


if __name__ == "__main__":
    main()
