"""What threads wait for and how they begin, so that a Ctrl-C leaves neither locked nor half begun.

threading.Event and threading.Condition take their lock in a function of Python, and Thread.start() enters the thread in a
list before it begins: an interrupt right behind that leaves the lock taken, or the thread listed, for good. Here whoever
waits has a lock of his own and waits in one call of C, and threads are begun by one that gets no signals.
"""
import _thread
import threading
from typing import Any, Callable, List, Optional


class Event:
    """As threading.Event."""

    def __init__(self) -> None:
        self._set = False
        self._waiters: List[Any] = []  # locks, each is released to wake its thread

    def is_set(self) -> bool:
        """Whether set() was called, and clear() not since."""
        return self._set

    def set(self) -> None:
        """Wakes those who wait."""
        self._set = True
        for waiter in list(self._waiters):
            try:
                waiter.release()
            except RuntimeError:
                pass  # somebody else has woken it

    def clear(self) -> None:
        """Whoever comes now waits."""
        self._set = False

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Sleeps until it is set. False: that took longer than timeout, in seconds."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiters.append(waiter)
        try:
            if not self._set:
                waiter.acquire(timeout=-1 if timeout is None else min(max(timeout, 0), threading.TIMEOUT_MAX))
            return self._set
        finally:
            self._waiters.remove(waiter)


def in_thread(name: str, make: Callable[[], Any]) -> Any:
    """What make() gives or raises in a new thread, which goes on with its run(); None has none. A Ctrl-C ends nothing but
    the waiting."""
    made: List[Any] = []
    failed: List[BaseException] = []
    done = Event()

    def work() -> None:
        try:
            made.append(make())
        except BaseException as error:
            failed.append(error)
        finally:
            done.set()
        if made and made[0] is not None:
            made[0].run()

    def begin() -> None:
        try:
            threading.Thread(target=work, name=name, daemon=True).start()
        except BaseException as error:
            failed.append(error)
            done.set()

    _thread.start_new_thread(begin, ())
    done.wait()
    if failed:
        raise failed.pop()
    return made[0]
