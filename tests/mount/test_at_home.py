"""What make install puts on a machine: completion for bash and zsh, mount.ppfs for fstab, the unit for systemd."""
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from ppfsmount import BUILD, PPFS, SLOW, clean_env, need_programs, wait_until
from processes import mount_line

TOP = Path(__file__).parents[2]
SCRIPTS = TOP / "scripts"
OPTIONS = set(re.findall(r'\n    \[[A-Z_]+\] = \{"([a-z_]+)",', (TOP / "sched/job/options.c").read_text())) - {"drafts", "max", "max_fails"}  # of groups

BASH = r"""
source "$1/complete/ppfs.bash"
while read -r -a COMP_WORDS; do
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    [ "${COMP_WORDS[COMP_CWORD]}" != "''" ] || COMP_WORDS[COMP_CWORD]=
    COMPREPLY=()
    _ppfs
    printf '%s\n' "${COMPREPLY[*]@Q}"
done
"""

ZSH = r"""
compset() { eval "PREFIX=\${PREFIX##$2}"; }
compadd() { [ "$1" = -S ] && shift 2; [ "$1" = -a ] && { print -r -- ${(PM)2:#$PREFIX*}; return }; [ "$1" = -- ] && shift; print -r -- ${(M)@:#$PREFIX*}; }
_alternative() { print commands; }
_files() { print files; }
complete_line() { source $1/complete/_ppfs; }
while read -r line; do
    words=(${=line})
    [ "$words[-1]" != "''" ] || words[-1]=''
    CURRENT=$#words PREFIX=$words[-1]
    complete_line $1
done
"""


@pytest.fixture
def full(m):
    """With jobs x, G/y and G/bad."""
    (m.jobs / "G").mkdir()
    for name, text in (("x", "true"), ("G/y", "true"), ("G/bad", "false")):
        m.put(name, "#!/bin/sh\n%s\n" % text)
        m.wait(name)
    return m


def completed(m, shell, script, lines):
    env = {**clean_env(m.base), "PPFS": str(m.mnt), "PATH": "%s:%s:%s" % (BUILD, SCRIPTS, os.environ["PATH"])}
    p = subprocess.run([*shell, script, shell[0], str(SCRIPTS)], input="".join(line + "\n" for line in lines), capture_output=True, text=True,
                       env=env, cwd=m.work, timeout=60 * SLOW)
    assert (p.returncode, p.stderr) == (0, "")
    return [set(shlex.split(line)) for line in p.stdout.splitlines()]


LINES = {"ppfs-run --wa": {"--wait"}, "ppfs-run --wait ''": {"G", "x"}, "ppfs-run --retry ''": {"G"}, "ppfs-run -g ''": {"G"},
         "ppfs --keep": {"--keep", "--keep-results"}, "ppfs --sync f": {"full"}, "ppfs --node-user l": {"local"}, "ppfs-node --lis": {"--listen"},
         "ppfs-run -o tim": {"timeout="}, "ppfs-run -o ''": {name + "=" for name in OPTIONS}, "ppfs-top --del": {"--delay"},
         "ppfs-dashboard --po": {"--port"}, "ppfs-python --ver": {"--version"}, "ppfs-slurm --hel": {"--help"}}


def test_bash(full):
    more = {"ppfs-run -o node = lo": {"local"}, "ppfs-run -o cpus=1,after = ''": {"G", "x"}, "ppfs-run --wait G/": {"G/y", "G/bad"},
            "ppfs-run -o cpus = 2,tim": {"2,timeout="}, "ppfs-run -o after = G,x": {"G,x"}, "ppfs-run -o after = x,tim": {"x,timeout="},
            "ppfs-run --failed i": set()}
    lines = {**LINES, **more}
    assert dict(zip(lines, completed(full, ["bash", "-c"], BASH, lines))) == lines


@pytest.mark.parametrize("shell, script", [("bash -c", BASH), ("zsh -fc", ZSH)])
def test_no_name_of_a_job_is_run(m, shell, script):
    need_programs(shell.split()[0])
    name = "$(touch pwned)`touch pwned`"
    m.put(name, "print(1)\n")
    m.wait(name)
    for line in ("ppfs-run --wait ''", "ppfs-run -m $(touch${IFS}pwned) --wait ''"):
        completed(m, shell.split(), script, [line])
        assert not (m.work / "pwned").exists()
    m.put("plain (1)", "print(1)\n")
    m.wait("plain (1)")
    if shell == "bash -c":  # Return would run the other
        assert completed(m, shell.split(), script, ["ppfs-run --wait ''", "ppfs-run -m $PPFS --wait ''"]) == [{"plain (1)"}] * 2


def test_zsh(full):
    need_programs("zsh")
    lines = {**LINES, "ppfs-run -o node=lo": {"local"}, "ppfs-run -o cpus=1,after=x": {"x"}, "ppfs-run ''": {"commands"}}
    assert dict(zip(lines, completed(full, ["zsh", "-fc"], ZSH, lines))) == lines


def test_a_line_of_fstab(new_mount, base):
    if os.geteuid() or Path("/sbin/mount.ppfs").exists():
        pytest.skip("only root can put a helper into /sbin, where there is none")
    m = new_mount()
    helper = Path("/sbin/mount.ppfs")
    where = base / "installed"
    for folder in ("bin", "sbin"):
        (where / folder).mkdir(parents=True)
    (where / "bin/ppfs").symlink_to(PPFS)
    shutil.copy(SCRIPTS / "system/mount.ppfs", where / "sbin")
    fstab = base / "fstab"
    fstab.write_text("ppfs %s ppfs state=%s,cpus=2,keep_results=5,noauto 0 0\n" % (m.mnt, m.statedir))
    helper.symlink_to(where / "sbin/mount.ppfs")
    try:
        p = subprocess.run(["mount", "--fstab", str(fstab), str(m.mnt)], capture_output=True, text=True, env=m.env, timeout=60 * SLOW)
    finally:
        helper.unlink()
    assert (p.returncode, p.stderr) == (0, "")
    m.started()
    m.put("x", "#!/bin/sh\necho y\n")
    assert m.result("x") == b"y\n"
    os.chdir("/")
    wait_until(lambda: subprocess.run(["umount", str(m.mnt)], capture_output=True, timeout=60 * SLOW).returncode == 0, "umount")
    assert not mount_line(m.mnt)


def test_the_unit_of_systemd(base):
    """What systemd would do for it, with its specifiers."""
    home, state = base / "home", "%s/home/.local/state/ppfs-mine" % base
    home.mkdir()
    unit = dict(line.split("=", 1) for line in (SCRIPTS / "system/ppfs@.service").read_text().splitlines() if re.match("[A-Z][A-Za-z]+=", line))
    unit = {key: value.replace("%h", str(home)).replace("%i", "mine").replace("%I", "mine") for key, value in unit.items()}
    env = {**clean_env(base), "PATH": "%s:/usr/bin:/bin" % BUILD, "PPFS_OPTIONS": "--cpus 1"}
    for command in ("ExecStartPre", "ExecStart"):
        p = subprocess.run(["sh", "-c", unit[command]], capture_output=True, text=True, env=env, timeout=60 * SLOW)
        assert (p.returncode, p.stderr) == (0, "")
    pid = int(Path(unit["PIDFile"]).read_text())
    try:
        assert unit["PIDFile"].startswith(state) and mount_line(home / "mine")
        (home / "mine/jobs/x").write_text("print(42)\n")
        assert (home / "mine/results/x").read_text() == "42\n"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not mount_line(home / "mine") and not Path("/proc/%d" % pid).exists(), "it to unmount and end")
