"""The bell that wakes a thread."""
import threading


class Bell:
    """Wakes one thread; ringing is cheap when it has been rung already."""

    __slots__ = ("_lock", "rung", "asleep")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.rung = False
        self.asleep = False

    def ring(self) -> None:
        self.rung = True
        try:
            self._lock.release()
        except RuntimeError:
            pass  # it has been rung

    def wait(self, timeout: float = -1) -> bool:
        """Sleeps until rung; False: the time is over. What was changed before a ring() is seen after it."""
        rung = self._lock.acquire(timeout=timeout)
        self.rung = False
        return rung
