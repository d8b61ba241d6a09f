"""A test that hangs must fail, and say why."""
import os
import signal
import threading

from ppfsmount import LIVE
from processes import describe, kill, parents


def below(root):
    """Every descendant of the process."""
    table = parents()
    found, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in table.items() if parent in frontier}
        found += sorted(frontier)
    return found


class Watchdog:
    """After the limit it says what everybody is doing, aborts the mounts and kills what the test started, so that
    whatever the test waits for ends with an error; one that waits for something else is interrupted. fail(message) raises."""

    def __init__(self, seconds, fail):
        self.seconds = seconds
        self.fail = fail
        self.in_test = False  # whether the test itself is running: only that is interrupted
        self.message = ""
        self.done = threading.Event()
        self.old = None
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def __enter__(self):
        self.old = signal.signal(signal.SIGUSR2, self.raised)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        signal.signal(signal.SIGUSR2, self.old)

    def raised(self, *_):
        if self.in_test:
            self.in_test = False
            self.fail("interrupted, as it hung")

    def watch(self):
        if self.done.wait(self.seconds):
            return
        lines = ["the test hung for %d s" % self.seconds]
        for mount in list(LIVE):
            lines += ["mount %s:" % mount.mnt, *map(describe, mount.marked()),
                      "its log ends:", *mount.log().splitlines()[-10:]]
        clients = below(os.getpid())
        self.message = "\n".join([*lines, "clients:", *map(describe, clients)])
        for mount in list(LIVE):
            mount.abort()
        for pid in clients:
            kill(pid)
        if not self.done.wait(3) and self.in_test:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
