"""Whose results are loaded. To load a pickle is to run what whoever wrote it put in, as the user who loads it.

A file of results/ belongs to the user whose job it is, as far as the mount can be believed, and that belongs to the
user who mounted it. Both have to be this process's own user, root, or named by trust=. Whose file it is is asked of the
descriptor that is read, so that nobody can put another file into its place in between.
"""
import os
import sys
from pathlib import Path
from typing import FrozenSet, Iterable, List, Optional, Tuple, Union

from .errors import NotTrusted

if sys.platform != "win32":
    import pwd

TrustLike = Union[None, int, str, Iterable[Union[int, str]]]
_ROOT = 0


def users(trust: TrustLike = None) -> FrozenSet[int]:
    """The uids that are trusted: one's own, root's, and those that trust names, a uid, a user's name or several of
    these. ValueError: there is no such user."""
    named = [] if trust is None else [trust] if isinstance(trust, (int, str)) else list(trust)
    return frozenset((os.geteuid(), _ROOT, *map(_uid, named)))


def _uid(user: Union[int, str]) -> int:
    if isinstance(user, int) and not isinstance(user, bool):
        return user
    if not isinstance(user, str):
        raise TypeError("trust= is a user's name or uid, or a list of these, not %r" % (user,))
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError("trust=%r: there is no user of that name" % user) from None


def check(fd: int, what: str, trusted: FrozenSet[int]) -> None:
    """NotTrusted when the open file is of somebody else, or on a mount of somebody else."""
    check_mount(fd, what, trusted)
    owner = os.fstat(fd).st_uid
    if owner not in trusted:
        raise _refusal(what, "belongs to", owner)


def check_mount(fd: int, what: str, trusted: FrozenSet[int]) -> None:
    """NotTrusted when the open file is on a mount of somebody else, who makes up what is seen there."""
    _check_mounter(_mounter(fd), what, trusted)


def _check_mounter(owner: Optional[int], what: str, trusted: FrozenSet[int]) -> None:
    if owner is None:
        raise NotTrusted("%s: whose mount that is cannot be told from /proc/self/mountinfo, so nothing in it is loaded"
                         % what)
    if owner not in trusted:
        raise _refusal(what, "is on a mount of", owner)


def check_directory(path: str, trusted: FrozenSet[int]) -> None:
    """check_mount() of a directory. It is not opened: Ctrl-C at the wrong moment would leave it open."""
    device = os.stat(path).st_dev
    number = "%d:%d" % (os.major(device), os.minor(device))
    owners = {owner for _, where, _, _, owner in _table() if where == number}
    _check_mounter(owners.pop() if len(owners) == 1 else None, os.path.dirname(path), trusted)


def _refusal(what: str, how: str, owner: int) -> NotTrusted:
    try:
        name = pwd.getpwuid(owner).pw_name
        whom, say = "%s (uid %d)" % (name, owner), "trust=%r" % name
    except KeyError:
        whom, say = "uid %d" % owner, "trust=%d" % owner
    return NotTrusted("%s %s %s, and to load a result is to run whatever its owner has put into it as you: if you trust "
                      "him with that, say %s" % (what, how, whom, say))


def mounts() -> List[Tuple[int, str, str, Optional[int]]]:
    """The mount table: (id, mountpoint as it stands there, type, uid of who mounted it). A mount whose type lets any user
    serve it names that user (None: it does not); all others are root's."""
    return [(ident, where, kind, owner) for ident, _, where, kind, owner in _table()]


def _table() -> List[Tuple[int, str, str, str, Optional[int]]]:
    """The same, with the device behind the id."""
    table = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields, _, more = line.partition(" - ")
        kind, _, source_and_options = more.partition(" ")
        owner: Optional[int] = _ROOT
        if kind == "fuse" or kind.startswith("fuse.") or kind == "fuseblk":
            options = source_and_options.rpartition(" ")[2].split(",")
            given = [option[len("user_id="):] for option in options if option.startswith("user_id=")]
            owner = int(given[-1]) if given and given[-1].isdigit() else None
        words = fields.split()
        table.append((int(words[0]), words[2], words[4], kind, owner))
    return table


def _mounter(fd: int) -> Optional[int]:
    """Who mounted what an open file is in; None when that cannot be told."""
    try:
        lines = Path("/proc/self/fdinfo/%d" % fd).read_text().splitlines()
        number = next(int(line.split()[1]) for line in lines if line.startswith("mnt_id:"))
        return next((owner for ident, _, _, owner in mounts() if ident == number), None)
    except (OSError, StopIteration, ValueError):
        return None
