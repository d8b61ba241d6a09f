"""A test that hangs must fail, and say why."""
import os
import signal
import threading

from ppfsmount import LIVE, describe, kill, parents


def below(root):
    """Every descendant of the process."""
    table = parents()
    found, frontier = [], {root}
    while frontier:
        frontier = {pid for pid, parent in table.items() if parent in frontier}
        found += sorted(frontier)
    return found


class Watchdog:
    """Lets a test that hangs fail: after the limit it says what everybody is doing, aborts the mounts, kills what the
    test started, and raises in the main thread."""

    def __init__(self, seconds, fail):
        self.seconds = seconds
        self.fail = fail
        self.done = threading.Event()
        self.message = ""
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
        if not self.done.is_set():
            self.fail(self.message)

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
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
