"""ppfs(5): stats, stats.json and metrics.prom."""
import json
import os
import signal
import subprocess
import time

import pytest
from ppfsmount import need_module, wait_until


def run_some(m):
    m.put("good", "#!/bin/sh\nsleep 0.02\n")
    m.put("bad", "#!/bin/sh\nexit 3\n")
    m.put("held", "#!/bin/sh\n#ppfs: hold=1\n")
    m.result("good")
    assert m.wait("bad") == "failed"


def test_stats_has_a_share_and_a_time_for_each_node(m):
    run_some(m)
    lines = (m.mnt / "stats").read_text().splitlines()
    assert lines[0].split() == ["jobs", "waiting", "running", "done", "failed", "cancelled"]
    assert lines[1].split() == ["1", "0", "1", "1", "0"]
    assert lines[3].split() == ["node", "state", "cpus", "running", "done", "failed", "share", "seconds", "each"]
    local = dict(zip(lines[3].split(), lines[4].split()))
    assert local["node"] == "local" and local["share"] == "100.0%" and float(local["each"]) >= 0.01
    assert any(line.startswith("ended each second") for line in lines)
    assert any(line.startswith("slowest turn") for line in lines)


def test_stats_json_says_the_same(m):
    run_some(m)
    stats = json.loads((m.mnt / "stats.json").read_text())
    assert stats["format"] == 1 and stats["slots"] == 2
    assert stats["jobs"] == {"waiting": 1, "running": 0, "done": 1, "failed": 1, "cancelled": 0}
    since = stats["since_start"]
    assert (since["submitted"], since["started"], since["done"], since["failed"]) == (3, 2, 1, 1)
    local, = stats["nodes"]
    assert (local["node"], local["state"], local["done"], local["failed"]) == ("local", "up", 1, 1)
    assert stats["ended_each_second"]["15m"] > 0
    assert 0 < stats["slowest_turn_seconds"]["1m"] <= stats["slowest_turn_seconds"]["since_start"]
    # a turn is long where another program takes the processor, too
    assert all(x["turns"] > 0 and x["slowest_seconds"] > 0.01 for x in stats["long_turns"].values())
    assert bool(stats["long_turns"]) <= (stats["slowest_turn_seconds"]["since_start"] > 0.01)


def test_a_long_turn_is_counted_for_a_handler(m):
    """A daemon that is stopped for a while is now and then stopped inside a turn."""
    busy = subprocess.Popen(["/bin/sh", "-c", "while :; do cat stats jobs/none; done >/dev/null 2>&1"], cwd=m.mnt)
    try:
        for _ in range(300):
            os.kill(m.first_daemon, signal.SIGSTOP)
            time.sleep(0.02)
            os.kill(m.first_daemon, signal.SIGCONT)
            if json.loads((m.mnt / "stats.json").read_text())["long_turns"]:
                break
    finally:
        busy.kill()
        busy.wait()
    said = [part for part in (m.mnt / "stats").read_text().split("\n\n") if part.startswith("turns over 10 ms")]
    name, turns, slowest = said[0].splitlines()[1].rsplit(None, 2)
    assert name and int(turns) >= 1 and float(slowest) > 10
    assert sum(line.startswith("ppfs_turns_long_total{") for line in (m.mnt / "metrics.prom").read_text().splitlines()) >= 1


def metrics(m):
    parser = need_module("prometheus_client.parser")
    families = list(parser.text_string_to_metric_families((m.mnt / "metrics.prom").read_text()))
    assert all(f.name.startswith("ppfs_") and f.documentation and f.type in ("counter", "gauge", "histogram") for f in families)
    samples = [s for f in families for s in f.samples]
    assert len({(s.name, tuple(sorted(s.labels.items()))) for s in samples}) == len(samples)
    return {(s.name, *sorted(s.labels.values())): s.value for s in samples}, {f.name: f.type for f in families}


def test_metrics_are_what_prometheus_reads(m):
    run_some(m)
    values, types = metrics(m)
    assert types["ppfs_jobs_ended"] == "counter" and types["ppfs_job_run_seconds"] == "histogram" and types["ppfs_jobs"] == "gauge"
    assert values["ppfs_jobs_ended_total", "done"] == 1 and values["ppfs_jobs_ended_total", "failed"] == 1
    assert values["ppfs_jobs_submitted_total",] == 3 and values["ppfs_jobs", "waiting"] == 1
    assert values["ppfs_node_ended_total", "failed", "local"] == 1 and values["ppfs_node_up", "local"] == 1
    counts = [value for (name, *_), value in values.items() if name == "ppfs_job_run_seconds_bucket"]
    assert counts == sorted(counts) and counts[-1] == 2 == values["ppfs_job_run_seconds_count",]
    assert 0.02 <= values["ppfs_job_run_seconds_sum",] < 60
    assert values["ppfs_job_wait_seconds_count",] == 2


def test_metrics_count_retries_calls_and_the_cancelled(m):
    m.put("again", "#!/bin/sh\n#ppfs: retries=1\n[ $PPFS_ATTEMPT = 2 ]\n")
    m.put("s.jsonl", '{"call": "abs", "args": [-1]}\n' * 5 + '{"run": ["true"]}\n')
    m.put("gone", "#!/bin/sh\n#ppfs: hold=1\n")
    os.unlink(m.mnt / "jobs/gone")
    m.result("s.jsonl")
    m.result("again")
    values, _ = metrics(m)
    assert values["ppfs_jobs_retried_total",] == 1 and values["ppfs_calls_answered_total",] == 6
    assert values["ppfs_jobs_ended_total", "cancelled"] == 1 and values["ppfs_jobs_ended_total", "done"] == 2
    assert values["ppfs_jobs_started_total",] == 3  # the stream, and both attempts of the other


def test_counters_begin_anew_with_the_daemon(m):
    run_some(m)
    m.kill_daemon()
    wait_until(lambda: metrics(m)[0]["ppfs_jobs", "done"] == 1, "the next daemon")
    assert metrics(m)[0]["ppfs_jobs_ended_total", "done"] == 0


@pytest.mark.parametrize("name", ["stats", "stats.json", "metrics.prom"])
def test_it_has_its_true_size_and_cannot_be_written(m, name):
    text = (m.mnt / name).read_text()
    assert abs((m.mnt / name).stat().st_size - len(text)) < 200 and text.endswith("\n")
    with pytest.raises(PermissionError):
        os.open(m.mnt / name, os.O_WRONLY)
