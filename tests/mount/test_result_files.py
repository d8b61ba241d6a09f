"""A result is an ordinary file: sizes, mappings, seeking, copying; ppfs(5)."""
import errno
import hashlib
import mmap
import os
import signal
import socket
import tarfile
import threading

import pytest
from processes import in_fuse


def big(size):
    """A script whose result has that many bytes, and their digest."""
    line = b"0123456789abcdef" * 64
    data = (line * (size // len(line) + 1))[:size]
    return "#!/usr/bin/python3\nimport sys\nsys.stdout.write(('0123456789abcdef' * 64 * %d)[:%d])\n" % (
        size // len(line) + 1, size), data


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 65535, 65536, 65537, 1_000_000, 5_000_001])
def test_sizes(m, size):
    script, data = big(size)
    m.put("x", script)
    assert hashlib.sha256(m.result("x")).digest() == hashlib.sha256(data).digest()
    assert (m.results / "x").stat().st_size == size
    assert (m.info / "x/stdout").stat().st_size == size


@pytest.fixture
def large(m):
    script, data = big(2_000_003)
    m.put("x", script)
    m.wait("x")
    return data


def test_mmap(m, large):
    with open(m.results / "x", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == large


def test_mmap_of_a_result_opened_while_pending(m):
    m.put("x", m.gate("x"))
    threading.Timer(0.05, m.open_gate, ["x"]).start()
    with open(m.results / "x", "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as view:
        assert view[:] == b"through x\n"


def test_sendfile(m, large):
    ours, theirs = socket.socketpair()
    got = bytearray()

    def receive():
        while piece := theirs.recv(1 << 20):
            got.extend(piece)

    t = threading.Thread(target=receive)
    t.start()
    with open(m.results / "x", "rb") as f:
        sent = 0
        while sent < len(large):
            sent += os.sendfile(ours.fileno(), f.fileno(), sent, len(large) - sent)
    ours.close()
    t.join()
    assert got == large


def test_copy_file_range(m, large):
    with open(m.results / "x", "rb") as f, open(m.work / "o", "wb") as o:
        copied = 0
        try:
            while n := os.copy_file_range(f.fileno(), o.fileno(), 1 << 20):
                copied += n
        except OSError as e:
            assert e.errno in (errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL)
            copied += o.write(f.read())
    assert copied == len(large) and (m.work / "o").read_bytes() == large


def test_tar_takes_the_true_size(m, large):
    m.sh("tar -cf t.tar -C $M results")
    with tarfile.open(m.work / "t.tar") as tar:
        member = tar.getmember("results/x")
        assert member.size == len(large) and tar.extractfile(member).read() == large


def test_seek_and_pread(m, large):
    with open(m.results / "x", "rb") as f:
        assert os.pread(f.fileno(), 10, 1_234_567) == large[1_234_567:1_234_577]
        f.seek(-5, os.SEEK_END)
        assert f.read() == large[-5:]
        assert f.seek(0, os.SEEK_END) == len(large)
        assert os.pread(f.fileno(), 10, len(large) + 5) == b""


def test_read_in_small_pieces_by_many(m, large):
    """Readers at different places of one file, one of them a byte at a time."""
    with open(m.results / "x", "rb", buffering=0) as f:
        assert bytes(f.read(1)[0] for _ in range(1000)) == large[:1000]
    readers = [m.popen("dd", "if=%s" % (m.results / "x"), "bs=%d" % bs, "status=none") for bs in (777, 4096, 100_000,
                                                                                                  1 << 20)]
    for p in readers:
        out, complaint = p.communicate()
        assert complaint == b"" and out == large


def test_ls_lists_ended_jobs_only(m):
    m.put("done", "print(1)\n")
    m.put("bad", "raise SystemExit(1)\n")
    m.put("held", "#ppfs: hold=1\nprint(1)\n")
    m.put("x", m.gate("x"))
    m.result("done")
    m.failed("bad")
    assert os.listdir(m.results) == ["done"] and os.listdir(m.failures) == ["bad"]
    assert sorted(os.listdir(m.jobs)) == ["held", "x"]
    assert {"done", "bad", "held", "x"} <= set(os.listdir(m.info))
    m.open_gate("x")
    m.result("x")
    assert sorted(os.listdir(m.results)) == ["done", "x"]


def test_a_reader_that_is_stopped_harms_nobody(m):
    m.put("x", m.gate("x"))
    reader = m.reader(m.results / "x")
    reader.send_signal(signal.SIGSTOP)
    m.works()
    m.open_gate("x")
    assert m.wait("x") == "done"
    reader.send_signal(signal.SIGCONT)
    reader.communicate()
    assert not in_fuse(reader.pid)
