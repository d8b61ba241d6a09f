#!/usr/bin/python3
"""What a node costs: no-op calls and 1 MB results of a stream through one ppfs-node on loopback, and through a relay that
delays 20 ms each way, beside the same workers in ppfs itself; and a hundred nodes of 16 slots that answer without
working (tests/bench/fakenode), kept busy with 100 ms calls. Medians of rounds, in turns.

    tests/bench/nodes.py --build build [--only noop,large,delayed,cluster]
"""
import argparse
import json
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "nodes"))
import relay as relays  # noqa: E402

PYTHON = "/usr/bin/python3"
ROUNDS = int(os.environ.get("ROUNDS", 3))
SLOTS = 2
NOOPS = 40_000
LARGE = 200
NODES, NODE_SLOTS, MS, CLUSTER_S = 100, 16, 100, 20


def patient(condition, what, timeout=60):
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("waited in vain for " + what)
        time.sleep(0.01)


class Mount:
    def __init__(self, build, cpus):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="ppfs-bench."))
        self.mnt = self.base / "mnt"
        self.mnt.mkdir()
        self.ppfs = subprocess.Popen([build / "ppfs", "-f", "--state", self.base / "state", "--cpus", str(cpus),
                                      "--listen", "127.0.0.1:0", self.mnt], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        patient(lambda: (self.mnt / "jobs").exists(), "the mount")
        self.address = (self.mnt / "nodes/.listen").read_text().strip()
        self.key = self.base / "state" / "key"
        self.count = 0

    def nodes(self):
        return len([n for n in os.listdir(self.mnt / "nodes") if n[0] != "."]) - 1

    def stream(self, lines):
        """Seconds for a stream of these lines, from the first byte written to the last read."""
        self.count += 1
        name = "s%d.jsonl" % self.count
        text = ("\n".join(lines) + "\n").encode()
        began = time.monotonic()
        writer = subprocess.Popen(["/bin/cp", "/dev/stdin", self.mnt / "jobs" / name], stdin=subprocess.PIPE)
        writer.stdin.write(text)
        writer.stdin.close()
        writer.wait()
        got = 0
        with open(self.mnt / "results" / name, "rb") as f:
            while chunk := f.read(1 << 20):
                got += chunk.count(b"\n")
        took = time.monotonic() - began
        assert got == len(lines), "%d of %d answers" % (got, len(lines))
        os.unlink(self.mnt / "results" / name)
        return took

    def close(self):
        subprocess.run(["fusermount3", "-u", "-z", self.mnt])
        self.ppfs.wait()
        shutil.rmtree(self.base)


def call(name, *args):
    return json.dumps({"call": name, "args": args})


NOOP = [call("math.sqrt", 4)] * NOOPS
BIG = [call("operator.mul", "x", 1_000_000)] * LARGE


def local(build, lines):
    m = Mount(build, SLOTS)
    m.stream(lines[:100])
    took = m.stream(lines)
    m.close()
    return len(lines) / took


def far(build, lines, delay=0):
    m = Mount(build, 0)
    relay = relays.Relay(m.address, delay, delay) if delay else None
    node = subprocess.Popen([build / "ppfs-node", "--join", relay.address if relay else m.address, "--key", m.key, "--cpus",
                             str(SLOTS), "--name", "n"], env=ENV, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    patient(lambda: m.nodes() == 1 and (m.mnt / "nodes/n/python").read_text().strip(), "the node")
    m.stream(lines[:100])
    took = m.stream(lines)
    node.send_signal(signal.SIGTERM)
    node.wait()
    if relay:
        relay.close()
    m.close()
    return len(lines) / took


def compare(build, what, lines, delay, least):
    rates = {"local": [], "node": []}
    for _ in range(ROUNDS):
        rates["local"].append(local(build, lines))
        rates["node"].append(far(build, lines, delay))
    here, there = (statistics.median(rates[k]) for k in ("local", "node"))
    print("%-44s %9.0f /s here %9.0f /s on the node, ratio %.2f (at least %.2f)" % (what, here, there, there / here, least), flush=True)


def cluster(build):
    m = Mount(build, 0)
    fake = subprocess.Popen([build / "tests/bench/fakenode", m.address, m.key, str(NODES), str(NODE_SLOTS), str(MS)],
                            stdout=subprocess.PIPE, text=True)
    patient(lambda: m.nodes() == NODES, "%d nodes" % NODES)
    count = NODES * NODE_SLOTS * CLUSTER_S * 1000 // MS
    took = m.stream([call("math.sqrt", 4)] * count)
    fake.send_signal(signal.SIGTERM)
    print("%d nodes of %d slots, %d calls of %d ms in %.1f s: %s (at least 95 %%)" % (
        NODES, NODE_SLOTS, count, MS, took, fake.communicate()[0].strip()), flush=True)
    m.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", type=pathlib.Path)
    parser.add_argument("--only", default="noop,large,delayed,cluster")
    args = parser.parse_args()
    build = args.build.resolve()
    ENV["PPFS_WORKER"] = str(build / "ppfs-worker")
    for word in args.only.split(","):
        if word == "noop":
            compare(build, "no-op calls", NOOP, 0, 0.8)
        elif word == "large":
            compare(build, "1 MB results", BIG, 0, 0.8)
        elif word == "delayed":
            compare(build, "no-op calls, 20 ms each way", NOOP, 0.02, 0.7)
            compare(build, "1 MB results, 20 ms each way", BIG, 0.02, 0.7)
        elif word == "cluster":
            cluster(build)


ENV = dict(os.environ)
if __name__ == "__main__":
    main()
