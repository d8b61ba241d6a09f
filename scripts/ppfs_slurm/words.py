"""What is said to the user, and how a command fails."""
from typing import Optional


class Trouble(Exception):
    """One sentence for the user, the exit status, and which command of Slurm failed if one did."""

    def __init__(self, sentence: str, status: int = 1, command: Optional[str] = None) -> None:
        super().__init__(sentence)
        self.status, self.command = status, command


def say(sentence: str) -> None:
    """Prints it at once, whatever stdout is."""
    print(sentence, flush=True)


def machines(count: int) -> str:
    """1 machine, 2 machines."""
    return "%d machine%s" % (count, "" if count == 1 else "s")
