"""The rooms of the house and their order, for test_includes.py and test_symbols.py. A room uses itself and those below it; so do the
sub-rooms of one, its folders and "", what lies in the room itself."""
import pathlib

TOP = pathlib.Path(__file__).resolve().parent.parent
ROOMS = {  # both from the top to the bottom
    "fs": ["process", "tree", "session", "handles", ""],
    "sched": ["", "dispatch", "inspect", "streams", "leases", "calls", "runs", "jobs", "hosts", "users", "watch", "turn", "db", "job", "bytes"],
    "worker": ["node", "remote", "pool", "forkserver", "runner"],
    "net": ["program", "peer", "proxy", "untrusted", "session", "tls", ""],
}


def floors():
    """{room or sub-room: its place in the order}, from the top to the bottom: fs/process, ... fs, sched, ..."""
    stairs = [f"{room}/{folder}".rstrip("/") for room, folders in ROOMS.items() for folder in folders]
    return {folder: place for place, folder in enumerate(stairs)}


def sources(pattern):
    """The files of all rooms whose names match, as paths from the top."""
    return sorted(str(f.relative_to(TOP)) for room in ROOMS for f in (TOP / room).rglob(pattern))


def floor(path):
    """The sub-room that a path from the top is in, as floors() has it; None: in no room."""
    place = str(pathlib.PurePosixPath(path).parent)
    return place if place in floors() else None


def goes_up(user, used):
    """Whether a file (a path from the top) that uses another one breaks the order."""
    order = floors()
    return order[floor(used)] < order[floor(user)]
