"""The command line of ppfs-slurm."""
import argparse
import os
import re
from pathlib import Path
from typing import Callable, List, NoReturn, Optional, Sequence, TypeVar

from ppfs.errors import NoMount
from ppfs.mount import find

from .words import Trouble

STATE = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "ppfs"
LOGS = STATE / "slurm"


class Options(argparse.Namespace):
    """The command line, read. Each command has those that its --help shows; times are seconds."""

    version: bool
    batch: str  # pbs, sge, htcondor; where Slurm is not the system
    pe: str
    command: str  # start, auto, stop, status; '' with --version alone
    mount: Path
    sbatch: List[str]  # words for sbatch
    # start and auto
    time: Optional[int]
    cpus: Optional[int]
    partition: Optional[str]
    address: Optional[str]
    key: Path
    send_key: bool
    program: Optional[str]
    python: Optional[str]
    logs: Path
    idle_exit: int
    nodes: int  # start
    wait: bool  # start and stop
    min: int  # auto
    max: int
    patience: int
    every: int
    now: bool  # stop


class Parser(argparse.ArgumentParser):
    """Says what is wrong as all of ppfs-slurm and ppfs-ssh does."""

    def error(self, message: str) -> NoReturn:
        """Trouble, with exit status 2."""
        raise Trouble("%s (%s --help shows the options)" % (message, self.prog), 2)


def duration(text: str) -> int:
    """Seconds of 90, 30s, 5m, 2h or 1d."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", text)
    if not found:
        raise argparse.ArgumentTypeError("'%s' is no time; write 30s, 5m, 2h or 1d" % text)
    return int(found.group(1)) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[found.group(2)]


def run_time(text: str) -> int:
    """Seconds of 30m, 2h, 1d, or of Slurm's HH:MM:SS and D-HH:MM:SS. A bare number would be minutes there, seconds here."""
    found = re.fullmatch(r"(?:(\d{1,4})-)?(\d{1,4}):(\d\d):(\d\d)", text)
    if found:
        days, hours, minutes, seconds = (int(n or 0) for n in found.groups())
        value = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    else:
        value = 0 if text.isdigit() else duration(text)
    if value < 120:
        raise argparse.ArgumentTypeError("'%s' is no time for a machine; write 30m, 2h, 1d or HH:MM:SS, 2m at least" % text)
    return value


def number(least: int, most: int) -> Callable[[str], int]:
    """What reads a number from least to most."""
    def read(text: str) -> int:
        if not re.fullmatch(r"\d{1,6}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError("'%s' is no number from %d to %d" % (text, least, most))
        return int(text)
    return read


Asked = TypeVar("Asked", bound=Options)


def read_arguments(words: Sequence[str], a: Asked, systems: Sequence[str] = ()) -> Asked:
    """Reads the options into a; those after -- are for sbatch. systems: the words for --system, none where it is Slurm. Trouble: they
    are not understood."""
    end = words.index("--") if "--" in words else len(words)
    words, sbatch = words[:end], list(words[end + 1:])
    lend = Parser(add_help=False)
    lend.add_argument("--time", type=run_time, metavar="T", help="how long each is lent: 30m, 2h, 1d, HH:MM:SS (default: %s)" % ("1h" if systems else "the partition's"))
    lend.add_argument("--cpus", type=number(1, 4096), metavar="N", help="slots of each (default: %s)" % ("1" if systems else "whole machines"))
    lend.add_argument("--partition", metavar="NAME", help="the partition or queue to ask (default: the system's)")
    lend.add_argument("--address", metavar="HOST[:PORT]", help="where they find ppfs (default: what nodes/.listen says)")
    lend.add_argument("--key", type=Path, default=STATE / "join.key", metavar="FILE", help="the key that ppfs has for its nodes (default %s)" % (STATE / "join.key"))
    lend.add_argument("--send-key", action="store_true", help="send the key with the job instead of its name (see ppfs-slurm(1))")
    lend.add_argument("--program", metavar="PATH", help="ppfs-node on the machines (default: the one here)")
    lend.add_argument("--python", metavar="PATH", help="interpreter or virtual environment whose packages jobs see")
    lend.add_argument("--logs", type=Path, default=LOGS, metavar="DIR", help="where they log, one file a machine (default %s)" % LOGS)
    if systems:
        lend.add_argument("--pe", default="smp", metavar="NAME", help="SGE's parallel environment for more than one slot (default smp)")
        main = Parser(prog="ppfs-batch", description="Lends machines of a PBS, SGE or HTCondor cluster to the ppfs mounted at MOUNT.",
                      epilog="Options after -- go to qsub or condor_submit: ppfs-batch start --system pbs MOUNT -- -A physics")
    else:
        main = Parser(prog="ppfs-slurm", description="Lends machines of a Slurm cluster to the ppfs mounted at MOUNT.",
                      epilog="Options after -- go to sbatch: ppfs-slurm start --nodes 4 MOUNT -- --account=physics --constraint=avx2")
    main.add_argument("--version", action="store_true", help="say the version")
    commands = main.add_subparsers(dest="command", metavar="start|auto|stop|status", parser_class=Parser)
    start = commands.add_parser("start", parents=[lend], help="ask for machines")
    start.add_argument("--nodes", type=number(1, 1000), default=1, metavar="N", help="how many (default 1)")
    start.add_argument("--idle-exit", type=duration, default=600, metavar="T", help="one leaves when it had nothing to do for so long (default 10m; 0: never)")
    start.add_argument("--wait", action="store_true", help="return when all have joined")
    auto = commands.add_parser("auto", parents=[lend], help="watch what waits; ask for more, let go")
    auto.add_argument("--min", type=number(0, 1000), default=0, metavar="N", help="keep so many (default 0)")
    auto.add_argument("--max", type=number(1, 1000), default=10, metavar="N", help="never have more (default 10)")
    auto.add_argument("--idle-exit", type=duration, default=120, metavar="T", help="let one go that was not needed for so long (default 2m)")
    auto.add_argument("--patience", type=duration, default=10, metavar="T", help="ask when jobs have waited for so long (default 10s)")
    auto.add_argument("--every", type=number(1, 3600), default=5, metavar="SECONDS", help="seconds between two looks (default 5)")
    stop = commands.add_parser("stop", help="let all go; what runs ends first")
    if not systems:
        stop.add_argument("--now", action="store_true", help="at once; what runs goes back to the queue")
    stop.add_argument("--wait", action="store_true", help="return when they have gone")
    for one in (start, auto, stop, commands.add_parser("status", help="what was asked for, and what has joined")):
        one.add_argument("mount", nargs="?", metavar="MOUNT", help="the ppfs (default: $PPFS, else the one that is mounted)")
        if systems:
            one.add_argument("--system", dest="batch", required=True, choices=systems, help="what gives the machines")
    main.set_defaults(command="", now=False)
    main.parse_args(words, a)
    if a.version:
        return a
    if not a.command:
        main.error("say what to do: start, auto, stop or status")
    check(a, sbatch)
    if systems and a.command in ("start", "auto"):
        a.cpus, a.time = a.cpus or 1, a.time or 3600
    return a


def check(a: Options, sbatch: List[str]) -> None:
    """Looks whether the options fit together, and completes them. Trouble: they do not."""
    lends = a.command in ("start", "auto")
    if sbatch and not lends:
        raise Trouble("%s takes no options after --" % a.command, 2)
    a.sbatch = sbatch
    if a.mount is None:
        try:
            a.mount = find(start=False)
        except NoMount as e:
            raise Trouble(str(e)) from None
    a.mount = Path(os.path.realpath(a.mount))
    if a.command == "auto":
        if a.min > a.max:
            raise Trouble("--min %d is more than --max %d" % (a.min, a.max), 2)
        if a.idle_exit < 2 * a.every:
            raise Trouble("--idle-exit must be at least twice --every, or a machine could come and go between two looks", 2)
