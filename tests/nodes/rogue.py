"""A ppfs-net for a mount that lets anybody in as a node who has the mount's key, and such a node, which says what it likes."""
import os
import re
import select
import socket
import struct
import textwrap

from ppfsmount import TOP, wait_until

HELLO, RESUME, PING, PONG = 240, 241, 242, 243
VERSION = int(re.search(r"SESSION_VERSION (\d+)u", (TOP / "net/session/session_int.h").read_text())[1])
ABOUT, WELCOME = 32, 18
BEGIN = """\
#!/usr/bin/python3
import array, itertools, os, random, select, socket, struct, sys
here = os.path.dirname(sys.argv[0])
s = socket.socket(fileno=3)
s.setblocking(True)
"""
MOUNT_SIDE = """\
    # Whoever comes to the door beside it, and says from what address, is a node with the key for any node.
    door = socket.socket(socket.AF_UNIX)
    door.bind(here + "/door.new")
    door.listen(4096)
    os.rename(here + "/door.new", here + "/door")  # whoever finds it is let in
    key = listener = None
    said = 0
    while True:
        for ready in select.select([s, door] if key and listener else [s], [], [])[0]:
            if ready is door:
                node, said = door.accept()[0], said + 1
                m = bytearray(size)
                struct.pack_into("<III", m, 0, 10, listener, said)
                struct.pack_into("<HH4s", m, 24, socket.AF_INET, 1, node.recv(4))
                m[152:168], m[168:200] = key, b"b" * 32
                s.sendmsg([m], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [node.fileno()]))])
                node.close()
                continue
            m = s.recv(65536)
            if not m:
                sys.exit()
            size, (kind, number) = len(m), struct.unpack_from("<II", m)
            if kind == 2:
                key = m[200:216]
            elif kind == 4:
                listener = number
            elif kind == 8:
                s.send(struct.pack("<I", 15) + bytes(size - 4))
"""


def network_process(base, text=MOUNT_SIDE, name="rogue-net"):
    """The environment of a ppfs or ppfs-node that has it: a script, and what all of them begin with."""
    path = base / name
    path.write_text(BEGIN + textwrap.dedent(text))
    path.chmod(0o755)
    return {"PPFS_NET": str(path)}


class Rogue:
    """A connection to a mount with MOUNT_SIDE that has greeted; answers heartbeats in answer() alone, so mount with --silence."""

    def __init__(self, base, address):
        wait_until(lambda: (base / "door").exists(), "the door to be there")
        self.socket = socket.socket(socket.AF_UNIX)
        wait_until(lambda: self.socket.connect_ex(str(base / "door")) == 0, "the door to be open")
        self.socket.sendall(socket.inet_aton(address))
        self.send(HELLO, b"ppfsnode" + struct.pack("<II", VERSION, 0) + os.urandom(16 + 32))
        self.send(RESUME, bytes(32))

    def send(self, kind, body):
        self.socket.sendall(struct.pack("<IB3xQ", len(body), kind, 0) + body)

    def about(self, name, cpus=1, uid=0, python="3.12"):
        users = struct.pack("<III", 1, 1, 4294967294) if uid == 0 else struct.pack("<I", 0)
        self.send(ABOUT, struct.pack("<IIIQI", 4, cpus, 0, 1 << 30, uid) + users + name.encode() + b"\0" + python.encode() + b"\0\0")

    def frame(self):
        size, kind = struct.unpack("<IB11x", self.socket.recv(16, socket.MSG_WAITALL))
        return kind, self.socket.recv(size, socket.MSG_WAITALL) if size else b""

    def has_frame(self, seconds=0.0):
        return bool(select.select([self.socket], [], [], seconds)[0])

    def hear(self, kind, meanwhile=()):
        """The body of the next frame of that kind; what comes before is nobody's business. Others answer meanwhile."""
        while True:
            while meanwhile and not self.has_frame(0.02):
                for other in meanwhile:
                    other.answer()
            got, body = self.frame()
            if got == kind:
                return body

    def answer(self):
        """Gives the signs of life that it was asked for."""
        while self.has_frame():
            kind, body = self.frame()
            if kind == PING:
                self.send(PONG, body)
