"""What is said to the user, and how a command fails."""


class Trouble(Exception):
    """One sentence for the user, the exit status, and which command of Slurm failed if one did."""

    def __init__(self, sentence, status=1, command=None):
        super().__init__(sentence)
        self.status, self.command = status, command


def say(sentence):
    print(sentence, flush=True)


def machines(count):
    return "%d machine%s" % (count, "" if count == 1 else "s")
