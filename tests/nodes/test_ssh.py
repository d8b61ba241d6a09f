"""ppfs-ssh: machines that are reached over ssh, each a real sshd on this one."""
import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from noderig import NODE, nodes_of, text_of, value
from ppfsmount import TOP, WORKER, clean_env, need_programs, wait_until

need_programs("ssh", "sshd", "ssh-keygen")
PPFS_SSH = TOP / "scripts/ppfs-ssh"


class Machines:
    """An sshd, in front of whom ssh finds machines by any name that begins with "box"."""

    def __init__(self, base):
        self.dir = base / "ssh"
        self.dir.mkdir(mode=0o700)
        for key in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.dir / key], check=True, timeout=60)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        (self.dir / "keys").write_text((self.dir / "user.pub").read_text())
        (self.dir / "sshd").write_text(
            "Port %d\nListenAddress 127.0.0.1\nHostKey %s/host\nAuthorizedKeysFile %s/keys\nStrictModes no\nUsePAM no\nPidFile none\n"
            "PermitRootLogin yes\nSetEnv XDG_STATE_HOME=%s/there PPFS_WORKER=%s TMPDIR=%s\n" % (self.port, self.dir, self.dir, self.dir, WORKER, base))
        (self.dir / "config").write_text(
            "Host box*\n HostName 127.0.0.1\n Port %d\n User %s\n IdentityFile %s/user\n StrictHostKeyChecking no\n"
            " UserKnownHostsFile /dev/null\n LogLevel ERROR\n" % (self.port, getpass.getuser(), self.dir))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        sshd = subprocess.run(["which", "sshd"], env=clean_env(base), stdout=subprocess.PIPE, text=True, timeout=60).stdout.strip()
        self.process = subprocess.Popen([sshd, "-D", "-e", "-f", self.dir / "sshd"], stderr=open(self.dir / "log", "ab"))
        wait_until(lambda: "listening" in text_of(self.dir / "log"), "sshd to listen")
        self.env = clean_env(base)
        self.base = base

    def run(self, command, m, *words, status=0):
        ssh = ["--ssh", "ssh -oBatchMode=yes -F %s/config" % self.dir] if command != "status" else []
        program = ["--program", NODE, "--address", "127.0.0.1"] if command == "start" else []
        done = subprocess.run([sys.executable, PPFS_SSH, command, *ssh, *program, m.mnt, *words], env=self.env, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=100)
        assert done.returncode == status, done.stdout
        return done.stdout

    def there(self, ending):
        return sorted((self.dir / "there/ppfs/ssh").glob("*." + ending))


@pytest.fixture
def machines(base):
    made = Machines(base)
    yield made
    made.process.terminate()
    made.process.wait(60)


@pytest.fixture
def sm(new_mount):
    return new_mount(cpus=0, options=["--listen", "127.0.0.1:0"]).start()


def test_started_and_stopped(machines, sm):
    said = machines.run("start", sm, "--cpus", "1", "box1", "%s@box2.example" % getpass.getuser())
    assert sorted(said.splitlines()) == ["box1 has joined with 1 slots", "%s@box2.example has joined with 1 slots" % getpass.getuser()]
    assert sorted(nodes_of(sm)[1:]) == ["box1", "box2.example"]
    sm.put("j", "#!/bin/sh\n#ppfs: node=box1\necho $PPFS_NODE\n")
    assert sm.result("j") == b"box1\n"
    assert "box1 has joined already" in machines.run("start", sm, "box1")
    assert machines.run("status", sm).split()[4:8] == ["box1", "up", "1", "0"]
    # its key is nowhere on its disk, and is its own
    key = (sm.node.parent / ".keys/box1/key").read_bytes()
    assert all(key not in f.read_bytes() for f in machines.dir.joinpath("there").rglob("*") if f.is_file())
    assert "has left" in machines.run("stop", sm, "--wait", "box1")
    assert not (sm.node.parent / ".keys/box1").exists() and "box1" not in nodes_of(sm)
    sm.put("long", "#!/bin/sh\ntouch '%s/runs'; exec sleep 1000\n" % machines.dir)
    wait_until(lambda: (machines.dir / "runs").exists(), "the job to run")
    assert "has left" in machines.run("stop", sm, "--now")
    wait_until(lambda: sm.state("long") == "queued", "what ran to go back to the queue")
    assert machines.there("pid") == [] and len(machines.there("log")) == 2
    assert machines.run("status", sm) == ""
    assert "box1 runs no node for this mount" in machines.run("stop", sm, "box1")


def test_what_goes_wrong_is_said(machines, sm):
    said = machines.run("start", sm, "box1", "nobody.invalid", status=1)
    assert "box1 has joined" in said and "ppfs-ssh: nobody.invalid: ssh: Could not resolve" in said
    assert "box1: there is no /nowhere; install ppfs there" in machines.run("start", sm, "--program", "/nowhere", "box2", status=1).replace("box2", "box1")
    assert "it runs a node for this mount already" not in said
    assert "is no name of a machine" in machines.run("start", sm, "--", "-oProxyCommand=touch x", status=2)
    assert "would be two nodes of one name" in machines.run("start", sm, "a@box7", "b@box7", status=2)
    (machines.there("pid")[0]).write_text("1\n")  # the number of another process is not the node
    assert "box1 runs no node" in machines.run("stop", sm, "box1")
    wait_until(lambda: value(sm, "box1", "state") in ("down", ""), "the node to be lost with its key")
