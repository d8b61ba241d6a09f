"""Snakemake's own workflow over ppfs-snakemake-submit, -status and -cancel, as the profile names them."""
import os
import subprocess

import pytest
from conftest import SCRIPTS
import ppfsmount
from ppfsmount import need_programs, wait_until

SNAKEFILE = """
rule all:
    input: "all.txt"
""" + "".join("""
rule r%d:
    output: "r%d/{n}.txt"
    input: %s
    group: "g"
    shell: "echo $PPFS_CPUS $PPFS_JOB >> runs/r%d-{wildcards.n}; echo {wildcards.n} > {output}"
""" % (n, n, '"r%d/{n}.txt"' % (n - 1) if n else "[]", n) for n in range(8)) + """
rule gather:
    output: "sum.txt"
    input: expand("r7/{n}.txt", n=range(25))
    threads: 2
    shell: "cat {input} | sort -un > {output}; echo $PPFS_CPUS {threads} > cpus.txt"

rule last:
    output: "all.txt"
    input: "sum.txt"
    shell: "sort -n {input} > {output}"
"""


@pytest.fixture
def flow(m):
    """Runs snakemake on a Snakefile, in the background."""
    need_programs("snakemake")
    (m.work / "runs").mkdir()
    env = {**m.client_env(), "PPFS": str(m.mnt), "XDG_CACHE_HOME": str(m.work / "cache"),
           "PATH": os.pathsep.join((str(SCRIPTS), str(ppfsmount.BUILD), "/usr/bin", "/bin"))}

    def start(text, *more):
        (m.work / "Snakefile").write_text(text)
        return subprocess.Popen(["/usr/bin/snakemake", "--profile", str(SCRIPTS / "snakemake"), "--latency-wait", "60", *more],
                                cwd=m.work, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    yield start


@pytest.mark.limit(300)
def test_a_workflow_outlives_the_daemon(m, flow):
    """Ten rules, 202 jobs; each runs once, whatever is killed of ppfs meanwhile."""
    p = flow(SNAKEFILE, "--group-components", "g=7")
    for n in 1, 4:
        wait_until(lambda: (m.work / ("r%d" % n)).exists() or p.poll() is not None, "the workflow to begin", timeout=120)
        m.kill_daemon()
    out, _ = p.communicate(timeout=250)
    assert p.returncode == 0, out[-3000:]
    assert (m.work / "all.txt").read_text().split() == [str(n) for n in range(25)]
    assert (m.work / "cpus.txt").read_text() == "2 2\n"
    assert len(list((m.work / "runs").iterdir())) == 200
    assert all(name.read_text().split()[1].startswith("snakejob") for name in (m.work / "runs").iterdir())
