"""needs= and gives=: files travel from the writer's directory to wherever a job runs, and back."""
import hashlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from ppfsmount import wait_until
from rogue import WELCOME, Rogue, network_process

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
import ppfs  # noqa: E402

SCRIPT = "#!/bin/sh\n#ppfs: node=%s needs=%s gives=%s\n%s\n"


@pytest.fixture(params=["local", "far"])
def where(request, new_mount, new_node):
    """A mount and the name of the host that a job is to run on."""
    m = new_mount(cpus=2, options=["--listen", "127.0.0.1:0"]).start()
    if request.param == "far":
        new_node("--name", "far", join=m).up(m)
    return m, request.param


def write(m, name, text, cwd):
    """As a shell in that directory would."""
    subprocess.run(["/bin/sh", "-c", 'cat > "$0"', str(m.mnt / "jobs" / name)], input=text.encode(), cwd=cwd, check=True, timeout=60)


def test_there_and_back(where, tmp_path):
    m, node = where
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "a.csv").write_text("one\n")
    (tmp_path / "data" / "deep" / "b").write_bytes(os.urandom(3_000_000))
    (tmp_path / "data" / "tool").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "data" / "tool").chmod(0o755)
    (tmp_path / "data" / "link").symlink_to("deep/b")
    os.link(tmp_path / "data" / "deep" / "b", tmp_path / "data" / "second")
    (tmp_path / "other").write_text("stays")
    text = 'cmp data/second data/deep/b; cat a.csv; data/tool; ls; [ "$PWD" = "$PPFS_DIR" ]; readlink data/link; mkdir -p out/x; sha256sum < data/link > out/sum; echo 2 > out/x/y; echo no > out.txt'
    write(m, "j", SCRIPT % (node, "a.csv,data/", "out", text), tmp_path)
    assert m.result("j").decode().split() == ["one", "ran", "a.csv", "data", "deep/b"]
    assert (tmp_path / "out/sum").read_text().split()[0] == hashlib.sha256((tmp_path / "data/deep/b").read_bytes()).hexdigest()
    assert (tmp_path / "out/x/y").read_text() == "2\n"
    assert not (tmp_path / "out.txt").exists()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["sum", "x"]
    os.utime(tmp_path / "a.csv", (10**9, 10**9))
    long = "\u20ac" * 84  # 252 bytes
    write(m, "all", SCRIPT % (node, ".", "new," + long, "cat a.csv other; stat -c %Y a.csv; cat out/sum > new; cp new " + long), tmp_path)
    assert m.result("all") == b"one\nstays1000000000\n"
    assert (tmp_path / long).read_bytes() == (tmp_path / "new").read_bytes() == (tmp_path / "out" / "sum").read_bytes()


def test_every_kind(where, tmp_path):
    m, node = where
    (tmp_path / "in.txt").write_text("seven")
    options = {"node": node, "needs": ["in.txt"], "gives": "got-*"}
    write(m, "call", json.dumps({"call": "shutil.copy", "args": ["in.txt", "got-call"], **options}), tmp_path)
    write(m, "run", json.dumps({"run": ["cp", "in.txt", "got-run"], **options}), tmp_path)
    write(m, "python", "#ppfs: node=%s needs=in.txt gives=got-*\nimport os\nopen('got-python', 'w').write(open('in.txt').read())\nprint(os.environ['PPFS_DIR'] == os.getcwd())\n" % node, tmp_path)
    write(m, "s.jsonl", json.dumps({"run": ["cp", "in.txt", "got-line"], **options}) + "\n", tmp_path)
    assert m.result("call") == b'"got-call"\n'
    m.result("run")
    assert m.result("python") == b"True\n"
    assert b"error" not in m.result("s.jsonl")
    for kind in ("call", "run", "python", "line"):
        assert (tmp_path / ("got-" + kind)).read_text() == "seven", kind


def test_calls_of_a_client(where, tmp_path, monkeypatch):
    m, node = where
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.txt").write_text("seven")
    copy = lambda: len(open("got", "w").write(open("in.txt").read()) * [0])  # noqa: E731
    with ppfs.Executor(str(m.mnt)) as ex:
        assert ex.options(node=node, needs="in.txt", gives="got").submit(copy).result() == 5
        with pytest.raises(Exception, match="needs=.*there is no nowhere"):
            ex.options(needs="nowhere").submit(copy).result()
        with pytest.raises(ValueError, match="needs"):
            ex.options(needs="../x").submit(copy)
    assert (tmp_path / "got").read_text() == "seven"


REFUSED = [
    ("needs", "nowhere", "there is no nowhere in"),
    ("needs", "d", "d/out is, or lies behind, a link that leaves"),
    ("needs", "d/out/passwd", "d/out/passwd is, or lies behind, a link that leaves"),
    ("needs", "pipe", "pipe is no file, directory or link"),
    ("needs", "../x", "option needs=../x is not understood"),
    ("needs", "/etc/passwd", "option needs=/etc/passwd is not understood"),
    ("needs", "a/../../x", "option needs=a/../../x is not understood"),
    ("gives", "x,../y", "option gives=x,../y is not understood"),
    ("gives", "*.png", "there is no *.png in"),
]


def test_what_is_refused(new_mount, tmp_path):
    m = new_mount(cpus=2).start()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "out").symlink_to("/etc")
    os.mkfifo(tmp_path / "pipe")
    for i, (option, value, why) in enumerate(REFUSED):
        write(m, "j%d" % i, "#!/bin/sh\n#ppfs: %s=%s\ntrue\n" % (option, value), tmp_path)
        wait_until(lambda name="j%d" % i: m.state(name) == "failed", why)
        assert why in m.why("j%d" % i)
    (m.mnt / "jobs" / "inside").mkdir()
    write(m, "here", "#!/bin/sh\n#ppfs: needs=d\ntrue\n", m.mnt / "jobs" / "inside")
    wait_until(lambda: m.state("here") == "failed", "the job in the mount to fail")
    assert "name one with cwd=" in m.why("here")


def test_killed_and_cancelled(where, tmp_path):
    """A job that is removed while it has files, and one that outlives its daemon."""
    m, node = where
    (tmp_path / "a").write_text("a")
    text = "cat a > b; while [ ! -e '%s' ]; do sleep 0.05; done; echo $PPFS_ATTEMPT" % (tmp_path / "go")
    write(m, "x", SCRIPT % (node, "a", "b", text), tmp_path)
    write(m, "y", SCRIPT % (node, "a", "b", text), tmp_path)
    wait_until(lambda: m.state("x") == m.state("y") == "running", "both to run")
    (m.mnt / "jobs" / "x").unlink()
    m.kill_daemon()
    (tmp_path / "go").touch()
    assert m.result("y") == b"2\n" or m.result("y") == b"1\n"
    assert (tmp_path / "b").read_text() == "a"
    assert m.state("x") == "cancelled"


class Liar(Rogue):
    """A node that gives back what it likes."""
    OUTPUT, DONE = 33, 39

    def next_start(self):
        while True:
            size, kind, id = struct.unpack("<IB3xQ", self.socket.recv(16, socket.MSG_WAITALL))
            body = self.socket.recv(size, socket.MSG_WAITALL) if size else b""
            if kind == 1:
                return id >> 32, struct.unpack_from("<IIII", body)[3]

    def say(self, kind, ref, low, body):
        self.socket.sendall(struct.pack("<IB3xQ", len(body), kind, ref << 32 | low) + body)

    def give(self, pack):
        ref, attempt = self.next_start()
        self.say(self.OUTPUT, ref, 4, pack)
        self.say(self.DONE, ref, 0, struct.pack("<IIIQQQQ", attempt, 0, 0, 0, 0, 0, 0) + struct.pack("<I", 1) + b"\0")


def pack(*members):
    """A tar file of (name, type, target)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, kind, target in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            if kind == tarfile.REGTYPE:
                member.size, member.mode = 4, 0o6777
                archive.addfile(member, io.BytesIO(b"evil"))
            else:
                archive.addfile(member)
    return out.getvalue()


FILE = tarfile.REGTYPE
LIES = [
    pack((".bashrc", FILE, "")),
    pack(("out/../../x", FILE, "")),
    pack(("/tmp/x", FILE, "")),
    pack(("out/.hidden", FILE, "")),
    pack(("outer", FILE, "")),
    pack(("out/a", tarfile.SYMTYPE, "/etc")),
    pack(("out/a", tarfile.LNKTYPE, "keep")),
    pack(("out/a", tarfile.FIFOTYPE, "")),
    pack(("out/a", tarfile.CHRTYPE, "")),
    pack(("out/door/a", FILE, "")),
    pack(("out/door/d/a", FILE, "")),
    pack(("out/door/d", tarfile.DIRTYPE, "")),
    pack(("out/a", FILE, ""))[:514],
    b"no pack at all" * 100,
    b"",
]


def test_a_node_puts_nothing_where_it_was_not_asked_to(new_mount, base, tmp_path):
    m = new_mount(cpus=0, options=["--listen", "127.0.0.1:0", "--silence", "600"], env=network_process(base)).start()
    node = Liar(base, "10.0.0.1")
    node.about("liar", uid=1)
    node.hear(WELCOME)
    (tmp_path / "keep").write_text("mine")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "door").symlink_to(base / "away")
    (base / "away").mkdir()
    for i, lie in enumerate(LIES):
        write(m, "j%d" % i, "#!/bin/sh\n#ppfs: gives=out/*\ntrue\n", tmp_path)
        node.give(lie)
        wait_until(lambda name="j%d" % i: m.state(name) == "failed", "lie %d to be seen" % i)
        assert "gives=" in m.why("j%d" % i), (i, m.why("j%d" % i))
        assert [p for p in tmp_path.rglob("*") if p.name not in ("keep", "out", "door")] == []
        assert list((base / "away").iterdir()) == []
    (tmp_path / "out" / "near").symlink_to("../in")
    write(m, "good", "#!/bin/sh\n#ppfs: gives=out/*\ntrue\n", tmp_path)
    node.give(pack(("out/a", FILE, ""), ("out/near/x/b", FILE, "")))
    m.result("good")
    assert (tmp_path / "in/x/b").read_text() == "evil"
    assert (tmp_path / "out/a").read_text() == "evil"
    assert (tmp_path / "out/a").stat().st_mode & 0o7022 == 0


def test_with_other_options(where, tmp_path):
    """Where the job has a sandbox, a limit, an interpreter or an index of its own, and a file that is large."""
    m, node = where
    (tmp_path / "a").write_text("a")
    (tmp_path / "large").write_bytes(os.urandom(1 << 20) * 64)
    jobs = {
        "sandbox": "#!/bin/sh\n#ppfs: sandbox=ro,net-off %s\ncp a got-sandbox\n",
        "memory": "#!/bin/sh\n#ppfs: memory=20M %s\ncp a got-memory\n",
        "fresh": "#ppfs: env=PYTHONHASHSEED:1 %s\nopen('got-fresh', 'w').write(open('a').read())\n",
        "array": "#!/bin/sh\n#ppfs: array=1-2 %s\ncp a got-$PPFS_INDEX\n",
        "large": "#!/bin/sh\n#ppfs: %s,large\ncp large got-large\n",
    }
    for name, text in jobs.items():
        write(m, name, text % ("node=%s gives=got-* needs=a" % node), tmp_path)
    for name in jobs:
        m.result(name) if name != "array" else [m.result("array/1"), m.result("array/2")]
    assert sorted(p.name[4:] for p in tmp_path.glob("got-*")) == ["1", "2", "fresh", "large", "memory", "sandbox"]
    assert (tmp_path / "got-large").read_bytes() == (tmp_path / "large").read_bytes()


def test_ended_while_it_is_packed(new_mount, tmp_path):
    """Cancelled, and too late, with more to read than can be read by then; what follows has its slots."""
    m = new_mount(cpus=1).start()
    with open(tmp_path / "huge", "wb") as f:
        f.truncate(1 << 40)
    write(m, "late", "#!/bin/sh\n#ppfs: needs=huge timeout=1\ntrue\n", tmp_path)
    wait_until(lambda: m.state("late") == "failed", "it to be late")
    assert "timed out" in m.why("late")
    write(m, "gone", "#!/bin/sh\n#ppfs: needs=huge\ntrue\n", tmp_path)
    wait_until(lambda: m.state("gone") == "running", "it to be packed")
    (m.mnt / "jobs" / "gone").unlink()
    (m.info / "gone" / "wait").read_bytes()
    assert m.state("gone") == "cancelled"
    m.put("next", "#!/bin/sh\necho yes\n")
    assert m.result("next") == b"yes\n"
