"""How far a set of calls has got: in a notebook a widget where ipywidgets is loaded, else tqdm's bar where that is installed,
else one line on a terminal."""
from __future__ import annotations

import functools
import importlib
import sys
import threading
import time
from concurrent.futures import Future
from typing import Any, Iterable, List, Optional, TextIO, TypeVar

from .world import in_notebook

F = TypeVar("F", bound="Future[Any]")


class Bar:
    """Counts up to total. Any thread may call update()."""

    def __init__(self, total: int, description: str = "", file: Optional[TextIO] = None) -> None:
        self.total, self.description = total, description
        self.count = 0
        self._file = file if file is not None else sys.stderr
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._shown = 0.0
        self._bar: Any = None
        self._widgets: Any = None
        self._plain = False
        if in_notebook() and "ipywidgets" in sys.modules:
            self._show()
            return
        try:
            from tqdm import tqdm
        except ImportError:
            self._plain = bool(getattr(self._file, "isatty", lambda: False)())
        else:
            self._bar = tqdm(total=total, desc=description or None, file=self._file)

    def _show(self) -> None:
        widgets, display = sys.modules["ipywidgets"], importlib.import_module("IPython.display").display
        self._widgets = (widgets.IntProgress(max=max(self.total, 1), description=self.description), widgets.Label(""))
        display(widgets.HBox(self._widgets))

    def update(self, n: int = 1) -> None:
        """n more are done."""
        with self._lock:
            self.count += n
            if self._widgets is not None:
                now = time.monotonic()
                if now - self._shown >= 0.1 or self.count >= self.total:
                    self._shown = now
                    self._widgets[0].value, self._widgets[1].value = self.count, self._line(now).strip()
            elif self._bar is not None:
                self._bar.update(n)
            elif self._plain:
                now = time.monotonic()
                if now - self._shown >= 0.1 or self.count >= self.total:
                    self._shown = now
                    self._file.write("\r" + self._line(now))
                    self._file.flush()

    def _line(self, now: float) -> str:
        seconds = now - self._started
        rate = self.count / seconds if seconds > 0 else 0.0
        left = (self.total - self.count) / rate if rate else 0.0
        text = "%d of %d (%d %%), %.1f a second, %d s left" % (
            self.count, self.total, 100 * self.count // max(self.total, 1), rate, round(left))
        return (self.description + ": " if self.description else "") + text.ljust(50)

    def close(self) -> None:
        """The line stays as it is."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()
            elif self._plain and self.count:
                self._file.write("\n")
                self._file.flush()
            self._bar, self._plain = None, False


def watch(futures: Iterable[Future[Any]], description: str = "", sizes: Optional[List[int]] = None) -> Bar:
    """A bar that follows the futures by itself and closes at the last. sizes: how much each counts."""
    futures = list(futures)
    sizes = sizes if sizes is not None else [1] * len(futures)
    bar = Bar(sum(sizes), description)
    left = [len(futures)]
    lock = threading.Lock()

    def ended(size: int, _: object) -> None:
        bar.update(size)
        with lock:
            left[0] -= 1
            last = left[0] == 0
        if last:
            bar.close()

    for future, size in zip(futures, sizes):
        future.add_done_callback(functools.partial(ended, size))
    if not futures:
        bar.close()
    return bar


def progress(futures: Iterable[F], description: str = "") -> List[F]:
    """Waits for the futures and shows how far they have got. Gives them back, all done, in the order given. In a notebook,
    interrupting the kernel cancels them."""
    from concurrent.futures import wait

    futures = list(futures)
    bar: Optional[Bar] = None
    try:
        bar = watch(futures, description)
        wait(futures)
    except KeyboardInterrupt:
        for future in futures if in_notebook() else ():
            getattr(future, "kill", future.cancel)()
        raise
    finally:
        if bar is not None:
            bar.close()
    return futures
