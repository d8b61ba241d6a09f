"""Disks of a few megabytes, and how they are filled."""
import errno
import os
import subprocess

import pytest
from ppfsmount import PENDING, need_programs
from processes import umount2


FULL = (errno.ENOSPC, errno.EDQUOT)


@pytest.fixture
def small(new_mount):
    """A mount (not started) whose state directory is a file system of a few MiB of its own."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    m = new_mount(cpus=0)
    m.statedir.mkdir(mode=0o700)
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=0700", "none", str(m.statedir)],
                       capture_output=True, text=True)
    if p.returncode != 0:
        pytest.skip("cannot mount a tmpfs: %s" % p.stderr)
    yield m
    try:
        m.finish()
    finally:
        while umount2(m.statedir, 2) == 0:
            pass


@pytest.fixture(params=["tmpfs", "ext4"])
def tight(request, new_mount):
    """The same of both kinds: one that has room for all it has once given, and one that needs blocks for its own."""
    if request.param == "tmpfs":
        yield request.getfixturevalue("small")
        return
    if os.geteuid() != 0:
        pytest.skip("needs root to mount an image")
    need_programs("mkfs.ext4")
    m = new_mount(cpus=0)
    m.statedir.mkdir(mode=0o700)
    image = m.base / "image"
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-O", "^has_journal", str(image)], check=True)
    p = subprocess.run(["mount", "-o", "loop", str(image), str(m.statedir)], capture_output=True, text=True)
    if p.returncode != 0:
        pytest.skip("cannot mount an image: %s" % p.stderr)
    os.rmdir(m.statedir / "lost+found")
    m.statedir.chmod(0o700)
    yield m
    try:
        m.finish()
    finally:
        while umount2(m.statedir, 2) == 0:
            pass


class Balloon:
    """A file of another's that takes the room away."""

    def __init__(self, m):
        self.path = m.statedir / "balloon"

    def inflate(self, leave=0):
        with open(self.path, "ab", buffering=0) as f:
            for size in (1 << 16, 1 << 12):
                try:
                    while os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize > leave + size:
                        f.write(b"b" * size)
                except OSError as e:
                    assert e.errno in FULL
        if leave == 0:
            with open(self.path, "ab", buffering=0) as f:
                try:
                    while f.write(b"b" * 4096) == 4096:
                        pass
                except OSError as e:
                    assert e.errno in FULL

    def burst(self):
        os.unlink(self.path)


def fill(m, prefix, size, most=50_000):
    """Submits jobs until one is refused for want of room; the names of those that were acknowledged."""
    names = []
    for i in range(most):
        name = "%s%d" % (prefix, i)
        try:
            m.put(name, "#!/bin/sh\necho %s\n#" % name + "x" * size + "\n")
            names.append(name)
        except OSError as e:
            assert e.errno in FULL, e
            return names, name
    raise AssertionError("%d jobs of %d bytes went into a full file system" % (most, size))


def has_them(m, names):
    """Every job is there with its bytes. One whose release found no room is a draft until there is some."""
    assert set(names) <= set(os.listdir(m.jobs))
    for name in names[:3] + names[-3:]:
        assert m.state(name) in (*PENDING, "draft")
        assert name in (m.jobs / name).read_text()


def ended(m, count, size):
    """The names of jobs that have ended, whose results have that size."""
    names = ["e%d" % i for i in range(count)]
    for name in names:
        m.put(name, "#!/bin/sh\nhead -c %d /dev/zero\n" % size)
    for name in names:
        assert len(m.result(name)) == size
    return names


def refused(path, text):
    try:
        path.write_text(text)
        return False
    except OSError as e:
        assert e.errno in FULL
        return True


def try_write(path, text):
    try:
        path.write_text(text)
    except OSError as e:
        assert e.errno in FULL
