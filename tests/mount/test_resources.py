"""gpu= and resources=: named things of a machine that jobs have for themselves while they run, named by index."""
import os

import pytest

from ppfsmount import wait_until

RUNS = '#!/bin/sh\n#ppfs: %s\necho "$PPFS_RESOURCE_gpu|$CUDA_VISIBLE_DEVICES|$ROCR_VISIBLE_DEVICES|$PPFS_RESOURCE_license" >{work}/$PPFS_JOB.tmp\n' \
       'mv {work}/$PPFS_JOB.tmp {work}/on/$PPFS_JOB\nuntil [ -e {work}/go ]; do sleep 0.02; done\n'


@pytest.fixture
def wide(new_mount):
    """A mount of six slots, three gpu and two license; work/on/NAME holds what a job was given."""
    mount = new_mount(cpus=6, options=("--resource", "gpu=3", "--resource", "license=2"))
    mount.start()
    (mount.work / "on").mkdir()
    return mount


def put(mount, name, options):
    mount.put(name, (RUNS % options).format(work=mount.work))


def on(mount):
    return {p.name: p.read_text().strip() for p in (mount.work / "on").iterdir()}


def go(mount, *names):
    (mount.work / "go").touch()
    for name in names:
        assert mount.wait(name) == "done", mount.why(name)


def test_no_index_is_given_twice(wide):
    put(wide, "a", "gpu=2")
    wait_until(lambda: on(wide) == {"a": "0,1|0,1|0,1|"}, "the first to run")
    put(wide, "b", "gpu=2")
    put(wide, "plain", "cpus=1")
    put(wide, "c", "resources=license:1")
    wait_until(lambda: set(on(wide)) == {"a", "plain", "c"}, "those that it does not hold up")
    assert on(wide)["plain"] == "|||" and on(wide)["c"] == "|||0"
    assert wide.state("b") == "queued"
    assert wide.why("b") == "queued: waits for gpu=2, and of what nodes/local has are taken: gpu 2 of 3 license 1 of 2"
    assert (wide.node / "resources").read_text() == "gpu 2 3\nlicense 1 2\n"
    go(wide, "a", "b", "c", "plain")
    assert on(wide)["b"] == "0,1|0,1|0,1|"
    assert (wide.node / "resources").read_text() == "gpu 0 3\nlicense 0 2\n"


def test_nothing_is_kept_where_ones_own_jobs_have_the_rest(wide):
    put(wide, "a", "gpu=2")
    wait_until(lambda: "a" in on(wide), "the first to run")
    put(wide, "b", "gpu=3")
    put(wide, "c", "gpu=1")
    wait_until(lambda: on(wide).get("c") == "2|2|2|", "the one that fits beside it")
    assert wide.state("b") == "queued"
    go(wide, "a", "b", "c")
    assert on(wide)["b"] == "0,1,2|0,1,2|0,1,2|"


def test_one_beside_the_other(wide):
    put(wide, "a", "gpu=1 resources=license:2")
    wait_until(lambda: on(wide) == {"a": "0|0|0|0,1"}, "the first to run")
    put(wide, "b", "gpu=1")
    wait_until(lambda: on(wide).get("b") == "1|1|1|", "the second to run")
    os.unlink(wide.jobs / "a")
    wait_until(lambda: (wide.node / "resources").read_text() == "gpu 1 3\nlicense 0 2\n", "what was cancelled to give them back")
    put(wide, "c", "gpu=2")
    wait_until(lambda: on(wide).get("c") == "0,2|0,2|0,2|", "the third to run")
    go(wide, "b", "c")


def test_more_than_there_are(wide):
    put(wide, "a", "gpu=4")
    put(wide, "b", "resources=plotter:1")
    wait_until(lambda: "needs gpu=4" in wide.why("a") and "needs plotter=1" in wide.why("b"), "the reasons")
    assert "--resource" in wide.why("a")


def test_kinds_of_job_files(wide):
    wide.put("python", "#ppfs: gpu=1 resources=license:1\nimport os\nprint(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['PPFS_RESOURCE_license'])\n")
    assert wide.result("python") == b"0 0\n"
    wide.put("json", {"call": "os.getenv", "args": ["PPFS_RESOURCE_gpu"], "gpu": 2})
    assert wide.result("json") == b'"0,1"\n'
    wide.put("s.jsonl", '{"call": "os.getenv", "args": ["PPFS_RESOURCE_gpu"], "gpu": 1, "env": "A:b"}\n'
                        '{"call": "os.getenv", "args": ["PPFS_RESOURCE_gpu"]}\n')
    assert sorted(wide.result("s.jsonl").split()) == [b'"0"', b"null"]
    group = wide.jobs / "g"
    group.mkdir()
    (group / ".options").write_text("gpu=1 env=CUDA_VISIBLE_DEVICES:7\n")
    (group / "x").write_text("#!/bin/sh\necho $CUDA_VISIBLE_DEVICES\n")
    assert wide.result("g/x") == b"0\n"


@pytest.mark.parametrize("words", ["gpu=0", "gpu=65", "gpu=x", "resources=gpu:1", "resources=a", "resources=a:0", "resources=a:1,a:1",
                                   "resources=a:1,", "resources=,", "resources=1a:1", "resources=a:1:2", "resources=a=1",
                                   "resources=a23456789012345x:1", "resources=a:100", "resources=a:1,b:1,c:1,d:1,e:1,f:1,g:1,h:1"])
def test_what_is_not_understood(wide, words):
    wide.put("x", "#!/bin/sh\n#ppfs: %s\necho x\n" % words)
    assert wide.wait("x") == "failed"
    assert "option " + words.split("=")[0] in wide.why("x")


def test_run_again(wide):
    """A job that is run again asks for what it asked for."""
    wide.put("x", "#!/bin/sh\n#ppfs: gpu=2 resources=license:1\n[ -e %s/again ] || exit 3\n"
                  "echo $PPFS_RESOURCE_gpu $PPFS_RESOURCE_license\n" % wide.work)
    assert wide.wait("x") == "failed"
    (wide.work / "again").touch()
    os.rename(wide.mnt / "failures/x", wide.jobs / "x")
    assert wide.result("x") == b"0,1 0\n"
