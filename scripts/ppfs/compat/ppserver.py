"""ppserver's command line, carried out by ppfs-node(1), whose manual says what becomes of each option."""
import getopt
import os
import shutil
import sys
from typing import List, NoReturn, Sequence

from .. import mount as mounts
from ..errors import NoMount

PORT = 60000  # ppft's
USAGE = """Usage: ppserver [-hdar] [-f format] [-n proto] [-i interface] [-b broadcast] [-p port] [-w nworkers] [-t seconds]
                [-k seconds] [-P pid_file] [--key FILE] [--join HOST:PORT] [--name NAME] [--python PATH]
It runs ppfs-node; COMING FROM PPSERVER in ppfs-node(1) says what each option is there. -s and -c are refused: instead of a
secret a node has the key of the mount, --key FILE."""
_SAME = {"-w": "--cpus", "-t": "--idle-exit", "-k": "--silence", "-P": "--pid-file"}
_OWN = ("key", "join", "name", "python")  # options of ppfs-node as they are


def words(argv: Sequence[str]) -> List[str]:
    """The options for ppfs-node. getopt.GetoptError: one that ppserver does not have; ValueError: one that cannot be
    carried out."""
    given, rest = getopt.getopt(list(argv), "hdarn:c:b:i:p:w:s:t:f:k:P:", ["help", *(name + "=" for name in _OWN)])
    if rest:
        raise ValueError("ppserver takes no %r" % rest[0])
    interface, port, group, discover = "0.0.0.0", str(PORT), "", False
    made: List[str] = []
    for option, value in given:
        if option == "-s":
            raise ValueError("ppserver -s: a secret is not used; copy the key of the mount (nodes/.keys in ppfs(5)) and name "
                             "it with --key FILE")
        if option == "-c":
            raise ValueError("ppserver -c: a file of options is not read; give them on the command line")
        if option == "-i":
            interface = value
        elif option == "-p":
            port = value
        elif option == "-b":
            group = value
        elif option == "-a":
            discover = True
        elif option in _SAME:
            made += [_SAME[option], value]
        elif option[2:] in _OWN:
            made += [option, value]
    listen = "[%s]:%s" % (interface, port) if ":" in interface else "%s:%s" % (interface, port)
    # ppft's usual address for broadcasts says only that it is the local network that is asked
    where = "=" + group if group not in ("", "255.255.255.255") else ""
    return ["--listen", listen, *(["--discover" + where] if discover else []), *made]


def program() -> str:
    """ppfs-node: the one beside the ppfs that would be started, the one in PATH. NoMount: there is none."""
    try:
        beside = os.path.join(os.path.dirname(shutil.which(mounts.program()) or ""), "ppfs-node")
        if os.access(beside, os.X_OK):
            return beside
    except NoMount:
        pass
    found = shutil.which("ppfs-node")
    if found is None:
        raise NoMount("the program ppfs-node is not in PATH; it comes with ppfs")
    return found


def main() -> NoReturn:
    """Becomes ppfs-node."""
    if "-h" in sys.argv[1:] or "--help" in sys.argv[1:]:
        print(USAGE)
        sys.exit(0)
    try:
        path = program()
        os.execv(path, [path, *words(sys.argv[1:])])
    except (getopt.GetoptError, ValueError) as error:
        print("%s\n%s" % (error, USAGE), file=sys.stderr)
        sys.exit(2)
    except (NoMount, OSError) as error:
        print("ppserver: %s" % error, file=sys.stderr)
        sys.exit(1)
