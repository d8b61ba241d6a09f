"""What a node has by name is given to jobs there, and a job that asks for it goes nowhere else."""
import os
import signal

from ppfsmount import wait_until

from noderig import value

RUNS = '#!/bin/sh\n#ppfs: gpu=%d\necho "$PPFS_NODE $CUDA_VISIBLE_DEVICES" >{work}/$PPFS_JOB.tmp\nmv {work}/$PPFS_JOB.tmp {work}/on-$PPFS_JOB\n' \
       'until [ -e {work}/go ]; do sleep 0.02; done\n'


def put(mount, name, gpus):
    mount.put(name, (RUNS % gpus).format(work=mount.work))


def on(mount):
    return {p.name[3:]: p.read_text().strip() for p in mount.work.glob("on-*")}


def test_a_job_runs_where_it_is(ml, new_node):
    node = new_node("--name", "big", "--resource", "gpu=2", "--resource", "plotter=1", join=ml, cpus=4).up(ml)
    assert value(ml, "big", "resources") == "gpu 0 2\nplotter 0 1"
    assert value(ml, "local", "resources") == ""
    put(ml, "a", 1)
    wait_until(lambda: on(ml) == {"a": "big 0"}, "the first to run")
    put(ml, "b", 1)
    wait_until(lambda: on(ml).get("b") == "big 1", "the second to run")
    put(ml, "c", 1)
    wait_until(lambda: "nodes/big" in ml.why("c"), "the third to say what it waits for")
    (ml.work / "go").touch()
    assert [ml.wait(name) for name in "abc"] == ["done"] * 3
    assert on(ml)["c"].startswith("big ")
    (ml.work / "go").unlink()
    put(ml, "d", 2)
    wait_until(lambda: on(ml).get("d") == "big 0,1", "one that has both")
    os.kill(node.pid, signal.SIGKILL)
    wait_until(lambda: ml.state("d") == "queued", "it to wait for the node")
    (ml.work / "on-d").unlink()
    new_node("--name", "big", "--resource", "gpu=2", join=ml, cpus=4).up(ml)
    wait_until(lambda: on(ml).get("d") == "big 0,1", "it to run again")
    (ml.work / "go").touch()
    assert ml.wait("d") == "done"
