"""What the mount says: where it listens, who has joined, how much work waits."""
from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Iterator, List, Union

from .arguments import Options
from .words import Trouble

MAGIC = b"ppfs node key 1\n"  # how a key for nodes begins
LOOKS = 2000             # unfinished jobs that one look goes through


def is_mounted(mount: Path) -> bool:
    """Whether a ppfs is mounted there."""
    return os.path.exists(mount / "nodes" / ".listen")


def need_mount(mount: Path) -> None:
    """Trouble: no ppfs is mounted there."""
    if not is_mounted(mount):
        raise Trouble("there is no ppfs mounted at %s; mount one with: ppfs --listen 0.0.0.0:60000 %s" % (mount, mount))


def text_of(path: Union[str, Path], size: int = 4096) -> str:
    """The text of a small file, '' when it is gone."""
    try:
        with open(path, "rb", buffering=0) as f:
            return f.read(size).decode(errors="replace").strip()
    except OSError:
        return ""


def number_of(path: Union[str, Path]) -> int:
    """The number in a small file, 0 when there is none."""
    text = text_of(path)
    return int(text) if text.isdigit() else 0


def address_of(a: Options) -> str:
    """Where the machines find this ppfs, as HOST:PORT. Trouble: it lets nobody join, or is not reached from outside."""
    listens = text_of(a.mount / "nodes" / ".listen")
    if not listens:
        raise Trouble("the ppfs at %s lets nobody join; unmount it and mount it again with: ppfs --listen 0.0.0.0:60000 %s"
                      % (a.mount, a.mount))
    host, _, port = listens.rpartition(":")
    if a.address:
        return a.address if re.search(r"[^:]:\d+$|\]:\d+$", a.address) else "%s:%s" % (a.address, port)
    if host.startswith("127.") or host == "[::1]":
        raise Trouble("the ppfs at %s listens at %s, where other machines cannot reach it; mount it with --listen 0.0.0.0:%s, or say "
                      "with --address where they find it" % (a.mount, listens, port))
    return listens


def key_of(a: Options) -> bytes:
    """The bytes of the key. Trouble: it cannot be read, or is no key for nodes."""
    try:
        key = a.key.read_bytes()
    except OSError as e:
        raise Trouble("the key %s cannot be read: %s; name join.key in the state directory of ppfs with --key FILE"
                      % (a.key, e.strerror)) from None
    if not key.startswith(MAGIC):
        raise Trouble("%s is no key for nodes; name join.key in the state directory of ppfs with --key FILE" % a.key)
    return key


class Node:
    """One directory of nodes/."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self.state = text_of(path / "state")
        self.cpus = number_of(path / "cpus")
        self.running = number_of(path / "running")

    def is_of(self, number: str) -> bool:
        """Whether this is the machine of the Slurm job of that number: HOST-JOBID, or HOST-JOBID-2 where that was taken."""
        return re.search(r"-%s(-\d+)?$" % re.escape(number), self.name) is not None


def nodes_of(mount: Path) -> List[Node]:
    """All directories of nodes/."""
    return [Node(mount / "nodes" / name) for name in os.listdir(mount / "nodes") if not name.startswith(".")]


def unfinished(jobs: Path) -> Iterator[str]:
    """The names of the unfinished jobs below jobs/, as far as a look goes."""
    left, stack = LOOKS, [""]
    while stack:
        group = stack.pop()
        try:
            with os.scandir(os.path.join(jobs, group)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    name = os.path.join(group, entry.name)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(name)
                        continue
                    yield name
                    left -= 1
                    if not left:
                        return
        except OSError:
            continue  # the group is gone, or not ours to read


def slots_for(mount: Path, name: str, largest: int) -> int:
    """How many slots one unfinished job could use now. largest: the slots of a machine, 0 when that is not known."""
    info = mount / "info" / name
    state, why = text_of(info / "state"), ""
    if state in ("running", "waiting"):
        why = text_of(info / "why")
    if state == "waiting":  # for another job, a name, a pause; or for a machine that is large enough
        found = re.match(r"needs (\d{1,6}) slots", why)
        return int(found.group(1)) if found and (not largest or int(found.group(1)) <= largest) else 0
    if state == "running":
        found = re.search(r"(\d{1,12}) are under way", why)  # the calls of a stream
        return int(found.group(1)) if found else 1
    if state != "queued":
        return 0
    found = re.search(r"^#ppfs:.*\bcpus=(\d{1,4})\b|^\{.*\"cpus\"\s*:\s*(\d{1,4})\b", text_of(info / "spec", 2048), re.MULTILINE)
    return max(1, int(found.group(1) or found.group(2))) if found else 1


def demand(mount: Path, enough: int, largest: int) -> int:
    """How many slots what is unfinished could use now; it is not counted further than enough."""
    progress = re.search(r"running (\d+) waiting (\d+)", text_of(mount / "info" / ".progress"))
    if not progress:
        need_mount(mount)
        return 0
    if progress.groups() == ("0", "0"):
        return 0
    slots = 0
    for name in unfinished(mount / "jobs"):
        slots += slots_for(mount, name, largest)
        if slots >= enough:
            return enough
    return slots
