"""What a disk may have after a power loss: Recorder follows the system calls with which a daemon changes the files of its state
directory, and Disk says what may be there if the power went at one of them.

Kept is what was synced, as POSIX has it: the bytes of a file by fsync of that file, its name by fsync of its directory. Of the
rest anything may be there: nothing, all, or some of it, a write in pieces of 512 bytes, in any order.
"""
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

CALLS = ("write,writev,pwrite64,pwritev,pwritev2,ftruncate,fallocate,fsync,fdatasync,syncfs,sync_file_range,rename,renameat,renameat2,"
         "unlink,unlinkat,open,openat,creat,mkdir,mkdirat,copy_file_range")
IGNORED = {"mkdir", "mkdirat", "sync_file_range"}
SECTOR = 512
LINE = re.compile(r"\d+ +(\d+\.\d+) (\w+)\((.*)\) += (-?\d+)(?:<[^>]*>)?.* <(\d+\.\d+)>$")
FILE = re.compile(r"(-?\d+|AT_FDCWD)<([^>]*)>")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"(\.\.\.)?')


def text_of(escaped):
    return bytes.fromhex(escaped.replace("\\x", ""))


class Recorder:
    """with Recorder(state directory, pid of the daemon) as r: ...; afterwards r.disk(seed) is the disk before all of it, and
    r.calls what was asked of files there, in the order in which it was done: (when it began, when it ended, name, its arguments,
    result)."""

    def __init__(self, state, pid):
        self.state, self.pid = Path(state), pid

    def __enter__(self):
        self.dir = tempfile.TemporaryDirectory(prefix="ppfs-power.")
        self.trace, self.before = Path(self.dir.name, "trace"), Path(self.dir.name, "before")
        os.kill(self.pid, signal.SIGSTOP)
        try:
            shutil.copytree(self.state, self.before, ignore=lambda _, names: [n for n in names if n == "ballast"])
            self.strace = subprocess.Popen(["strace", "-f", "-p", str(self.pid), "-o", str(self.trace), "-ttt", "-T", "-y", "-xx",
                                            "-s", str(4 << 20), "-e", "trace=" + CALLS], stderr=subprocess.PIPE)
            said = b""
            while b"attached" not in said:
                piece = os.read(self.strace.stderr.fileno(), 4096)
                said += piece
                if not piece:
                    break
        finally:
            os.kill(self.pid, signal.SIGCONT)
        if b"not permitted" in said:
            pytest.skip(said.decode().strip())
        assert b"Process %d attached" % self.pid in said, said.decode()
        return self

    def __exit__(self, *_):
        self.strace.send_signal(signal.SIGINT)
        self.strace.communicate()
        here = "".join("\\x%02x" % byte for byte in os.fsencode(self.state))
        self.calls = sorted((call for call in self.read() if here in call[3]), key=lambda call: call[1])

    def read(self):
        begun = {}  # of each thread
        with open(self.trace, encoding="ascii") as f:
            for line in f:
                line = line.rstrip("\n")
                pid, _, rest = line.partition(" ")
                if line.endswith("<unfinished ...>"):
                    begun[pid] = line.removesuffix(" <unfinished ...>")
                    continue
                if "<... " in rest:
                    line = begun.pop(pid, "") + rest[rest.index("resumed>") + len("resumed>"):]
                found = LINE.match(line)
                if found and int(found[4]) >= 0:
                    when = float(found[1])
                    yield when, when + float(found[5]), found[2], found[3], int(found[4])

    def disk(self, seed):
        return Disk(self.state, self.before, seed)


class File:
    def __init__(self, data=b""):
        self.kept, self.data, self.changes = bytearray(data), bytearray(data), []  # changes: (when, what, ...), not synced

    @staticmethod
    def apply(data, what, at, bytes_):
        if what == "cut":
            del data[at:]
            data.extend(bytes(at - len(data)))
        elif bytes_:
            data.extend(bytes(max(0, at + len(bytes_) - len(data))))
            data[at:at + len(bytes_)] = bytes_

    def change(self, when, what, at, bytes_=b""):
        self.apply(self.data, what, at, bytes_)
        self.changes.append((when, what, at, bytes_))

    def sync(self, since):
        for when, *change in self.changes:
            if when <= since:
                self.apply(self.kept, *change)
        self.changes = [c for c in self.changes if c[0] > since]

    def after_loss(self, how, rng):
        data = bytearray(self.kept)
        for _, what, at, bytes_ in self.changes if how != "nothing" else ():
            if how == "some" and what == "write":
                for piece in range(0, len(bytes_), SECTOR):
                    if rng.random() < 0.5:
                        self.apply(data, what, at + piece, bytes_[piece:piece + SECTOR])
            elif how == "all" or rng.random() < 0.5:
                self.apply(data, what, at, bytes_)
        return data


class Disk:
    def __init__(self, state, before, seed):
        self.state, self.rng = os.fsencode(state), random.Random(seed)
        self.names = {os.fsencode(p.relative_to(before)): File(p.read_bytes()) for p in before.rglob("*") if p.is_file()}
        self.kept_names, self.moves = dict(self.names), []  # moves: (when, name, file or None), not synced

    def inside(self, path):
        """The name in the state directory, or None."""
        path = os.path.normpath(path)
        if path == self.state:
            return b""
        return path[len(self.state) + 1:] if path.startswith(self.state + b"/") else None

    def move(self, when, name, file):
        self.moves.append((when, name, file))
        if file is None:
            self.names.pop(name, None)
        else:
            self.names[name] = file

    def sync_names(self, folder, since):
        def ours(move):
            return move[0] <= since and os.path.dirname(move[1]) == folder

        for _, name, file in filter(ours, self.moves):
            if file is None:
                self.kept_names.pop(name, None)
            else:
                self.kept_names[name] = file
        self.moves = [m for m in self.moves if not ours(m)]

    def do(self, call):
        began, ended, what, arguments, result = call
        strings = [text_of(s[0]) for s in STRING.findall(re.sub(r"<[^>]*>", "<>", arguments))]
        files = [(number, self.inside(text_of(path))) for number, path in FILE.findall(arguments)]
        if what in ("open", "openat", "creat", "rename", "renameat", "renameat2", "unlink", "unlinkat"):
            self.do_names(ended, what, arguments, strings, files)
            return
        name = files[0][1] if files else None
        if name is None or what in IGNORED:
            return
        numbers = [int(n) for n in re.findall(r"(?<=, )-?\d+", re.sub(r"<[^>]*>|\[.*\]", "", arguments))]
        if what in ("fsync", "fdatasync", "syncfs"):
            if name in self.names:
                self.names[name].sync(began)
            else:
                self.sync_names(name, began)
            return
        file = self.names.get(name)
        if file is None:
            return  # its name was removed
        if what == "ftruncate":
            file.change(ended, "cut", numbers[0])
        elif what == "fallocate":
            if "KEEP_SIZE" not in arguments and sum(numbers[-2:]) > len(file.data):
                file.change(ended, "cut", sum(numbers[-2:]))
        elif what == "copy_file_range":
            at = [int(n) for n in re.findall(r"\[(\d+)\]", arguments)]
            file, source = self.names[files[1][1]], self.names[name]
            file.change(ended, "write", at[1], bytes(source.data[at[0]:at[0] + result]))
        elif what in ("pwrite64", "pwritev", "pwritev2"):
            at = numbers[-1] if what != "pwritev2" else numbers[-2] if len(numbers) > 2 else numbers[-1]
            file.change(ended, "write", at, b"".join(strings)[:result])
        else:
            file.change(ended, "write", len(file.data), b"".join(strings)[:result])

    def do_names(self, when, what, arguments, strings, files):
        folders = [folder for number, folder in files if number != "AT_FDCWD"] if what.endswith("at") or what.endswith("2") else []
        paths = []
        for i, path in enumerate(strings[:2 if what.startswith("rename") else 1]):
            if path.startswith(b"/") or not folders or i >= len(folders) or folders[i] is None:
                paths.append(self.inside(path))
            else:
                paths.append(os.path.join(folders[i], path))
        if not paths or paths[0] is None:
            return
        if what.startswith("unlink"):
            self.move(when, paths[0], None)
        elif what.startswith("rename"):
            self.move(when, paths[1], self.names[paths[0]])
            self.move(when, paths[0], None)
        elif "O_TRUNC" in arguments and paths[0] in self.names:
            self.names[paths[0]].change(when, "cut", 0)
        elif "O_CREAT" in arguments and paths[0] not in self.names:
            self.move(when, paths[0], File())

    def after_loss(self, how, where):
        """Writes it there, as it may be found; how: nothing, all, or some of what was not synced is there."""
        names = dict(self.kept_names)
        for _, name, file in self.moves if how != "nothing" else ():
            if how == "all" or self.rng.random() < 0.5:
                names[name] = file
        for name, file in names.items():
            path = Path(os.fsdecode(os.path.join(os.fsencode(where), name)))
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if file is not None:
                path.write_bytes(file.after_loss(how, self.rng))
                path.chmod(0o600)


