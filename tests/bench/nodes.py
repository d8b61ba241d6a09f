#!/usr/bin/python3
"""What a node costs, and how busy a hundred of them are. Medians of 5 rounds, in turns, and ratios.

Two ppfs run side by side: one whose 2 workers are its own, and one with none, whose 2 are those of a ppfs-node that has
joined it on loopback, directly or through a relay that delays what passes by 20 ms each way. The same stream is given to
both in turns, from its first byte written to its last answer read. "cpu" is processor time a call, of all processes of
that ppfs and its node together: where two processors do everything, it says what the rates cannot.

The hundred nodes are one process (fakenode) that speaks as ppfs-node does and lets every call take 100 ms of a slot.

    tests/bench/nodes.py --build build [--only noops json large far far-large cluster]
"""
import argparse
import hashlib
import math
import operator
import os
import pathlib
import pickle
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import bench

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path += [str(TOP / "tests/nodes"), str(TOP / "scripts")]
from relay import Relay  # noqa: E402
from ppfs._stream import frames as stream  # noqa: E402

ROUNDS = 5
SLOTS = 2
NOOPS = 30_000
LARGE, LARGE_BYTES = 200, 1_000_000
DELAY = 0.02
NODES, NODE_SLOTS, MS, CLUSTER_S = 100, 16, 100, 15


# --- streams ---------------------------------------------------------------------------------------------------------
class Calls:
    """A stream as bytes: the same call many times."""

    def __init__(self, name, count, data):
        self.name, self.count, self.data = name, count, data

    def check(self, answers):
        if self.name.endswith(".jsonl"):
            good = answers.count(b"\n") - answers.count(b'"error"')
        else:
            came = memoryview(answers)[len(stream.MAGIC):]
            good = [kind for kind, _, _ in stream.split(came, len(came))[0]].count(stream.RESULT)
        if good != self.count:
            sys.exit(f"bench: {good} of {self.count} calls were answered with a result:\n{answers[:500]!r}")


def binary(count, func, *args):
    """As the Python package makes it: the function once, then its hash."""
    blob = pickle.dumps(func)
    digest = hashlib.sha256(blob).digest()
    body = stream.call_prefix(b"", digest) + pickle.dumps((args, {}), 5)
    frames = [stream.MAGIC, stream.frame(stream.FUNC, 0, digest + blob)]
    frames += [stream.frame(stream.CALL, i + 1, body) for i in range(count)]
    return Calls("calls", count, b"".join(frames))


def json_lines(count, line):
    return Calls("calls.jsonl", count, (line + "\n").encode() * count)


# --- a ppfs, with what works for it ----------------------------------------------------------------------------------
class Site(bench.Ppfs):
    def __init__(self, top, build, name, cpus=0):
        super().__init__(top, build, name, cpus)
        self.turn = 0
        self.others = []  # pids of what belongs to it besides its own processes

    def start(self):
        command = [self.build / "ppfs", "--state", self.state, "--cpus", str(self.cpus), "--listen", "127.0.0.1:0", self.path]
        env = dict(os.environ, PPFS_WORKER=str(self.build / "ppfs-worker"))
        subprocess.run(command, env=env, check=True)
        self.address = (self.path / "nodes/.listen").read_text().strip()
        self.key = self.state / "join.key"

    def nodes(self):
        return len([n for n in os.listdir(self.path / "nodes") if not n.startswith(".")]) - 1

    def run(self, calls):
        """(seconds, seconds of processor time) of a stream."""
        self.turn += 1
        name = f"{self.turn}{calls.name}"
        before, start = self.cpu(), time.monotonic()
        with open(self.path / "jobs" / name, "wb") as f:
            f.write(calls.data)
        with open(self.path / "results" / name, "rb", buffering=0) as f:
            answers = bytearray()
            while piece := f.read(1 << 20):
                answers += piece
        seconds, cpu = time.monotonic() - start, self.cpu() - before
        calls.check(answers)
        os.unlink(self.path / "results" / name)
        return seconds, cpu

    def cpu(self):
        supervisor = int((self.state / "lock").read_text().split()[0])
        return sum(times(pid) for pid in trees([supervisor, *self.others]))


def trees(roots):
    """The processes roots and all below them."""
    children = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text(errors="replace").rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found = list(roots)
    for pid in found:
        found += children.get(pid, [])
    return found


def times(pid):
    """Seconds of processor time that a process has had."""
    total = 0
    for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
        try:
            total += int(path.read_text().split()[0])
        except OSError:
            pass
    return total / 1e9


class Node:
    """A ppfs-node that joins, directly or through a relay."""

    def __init__(self, site, delay=0):
        self.relay = Relay(site.address, delay, delay) if delay else None
        where = self.relay.address if self.relay else site.address
        command = [site.build / "ppfs-node", "--join", where, "--key", site.key, "--cpus", str(SLOTS), "--name", "n"]
        if os.geteuid() == 0:
            command.append("--root-jobs")
        env = dict(os.environ, PPFS_WORKER=str(site.build / "ppfs-worker"))
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        bench.wait_until(lambda: site.nodes() == 1 and (site.path / "nodes/n/python").read_text().strip(), "the node")
        site.others = [self.process.pid]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        if self.relay:
            self.relay.close()


# --- what is printed -------------------------------------------------------------------------------------------------
def compare(top, build, title, calls, delay, goal):
    rows = {"here": [], "node": []}
    with Site(top, build, "here", SLOTS) as here, Site(top, build, "there") as there, Node(there, delay):
        sites = {"here": here, "node": there}
        for site in sites.values():  # the first calls start workers and fill caches
            site.run(calls)
        for _ in range(ROUNDS):
            for name, site in sites.items():
                rows[name].append(site.run(calls))
    rates = {name: statistics.median(calls.count / s for s, _ in row) for name, row in rows.items()}
    costs = {name: statistics.median(c / calls.count * 1e6 for _, c in row) for name, row in rows.items()}
    print(f"\n{title}")
    for name, row in rows.items():
        spread = "%.0f-%.0f" % (min(calls.count / s for s, _ in row), max(calls.count / s for s, _ in row))
        words = "" if name == "here" else f"   {rates[name] / rates['here']:.2f} times that, cpu {costs[name] / costs['here']:.2f} times"
        print(f"  {name:6} {rates[name]:10,.0f} calls/s  ({spread})  cpu {costs[name]:8.1f} us a call{words}")
    print(f"  to reach: {goal} of the rate here", flush=True)
    return rates


def cluster(top, build):
    count = NODES * NODE_SLOTS * CLUSTER_S * 1000 // MS
    calls = json_lines(count, '{"call": "math.sqrt", "args": [4]}')
    busy = []
    for turn in range(3):
        with Site(top, build, f"many{turn}") as site:
            fake = subprocess.Popen([build / "tests/bench/fakenode", site.address, site.key, str(NODES), str(NODE_SLOTS), str(MS)],
                                    stdout=subprocess.PIPE, text=True)
            bench.wait_until(lambda: site.nodes() == NODES, f"{NODES} nodes")
            seconds, cpu = site.run(calls)
            own = times(fake.pid)
            fake.send_signal(signal.SIGTERM)
            busy.append(float(re.search(r"busy ([\d.]+) %", fake.communicate()[0])[1]))
    print(f"\n{NODES} nodes of {NODE_SLOTS} slots, {count:,} calls of {MS} ms: slots busy from the first call to the last")
    print(f"  {statistics.median(busy):.1f} %  ({min(busy)}-{max(busy)})   {count / seconds:,.0f} calls/s, "
          f"cpu of ppfs {cpu / count * 1e6:.1f} us a call, of the nodes {own / count * 1e6:.1f}")
    print("  to reach: 95 %", flush=True)


def parts():
    noops = binary(NOOPS, math.sqrt, 4)
    large = binary(LARGE, operator.mul, b"x", LARGE_BYTES)
    return {
        "noops": ("no-op calls, a binary stream", noops, 0, 0.8),
        "json": ("no-op calls, JSON lines", json_lines(NOOPS, '{"call": "math.sqrt", "args": [4]}'), 0, 0.8),
        "large": ("results of 1 MB", large, 0, 0.8),
        "far": ("no-op calls, a binary stream, 20 ms away each way", noops, DELAY, 0.7),
        "far-large": ("results of 1 MB, 20 ms away each way", large, DELAY, 0.7),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=TOP / "build", help="the directory that holds ppfs")
    parser.add_argument("--only", nargs="+", choices=["noops", "json", "large", "far", "far-large", "cluster"])
    options = parser.parse_args()
    build = options.build.resolve()
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} processors; a node on loopback, {SLOTS} workers; "
          f"medians of {ROUNDS} rounds in turns (least-most)", flush=True)
    for name, words in parts().items():
        if options.only is None or name in options.only:
            with tempfile.TemporaryDirectory(prefix="ppfs-bench.") as top:
                compare(pathlib.Path(top), build, *words)
    if options.only is None or "cluster" in options.only:
        with tempfile.TemporaryDirectory(prefix="ppfs-bench.") as top:
            cluster(pathlib.Path(top), build)


if __name__ == "__main__":
    main()
