"""What map() of an executor hands out of its futures."""
import itertools
import time
from typing import Any, Deque, Generator, Iterable, Iterator, List, Optional, TypeVar

from .future import Future

T = TypeVar("T")


class Chained(Iterator[T]):
    """The results in chunks, one by one, without a step of Python for each; what was handed out is not kept."""

    def __init__(self, chunks: Generator[List[T], None, None]) -> None:
        self._chunks = self._drained(chunks)
        self._all = itertools.chain.from_iterable(self._chunks)

    @staticmethod
    def _drained(chunks: Generator[List[T], None, None]) -> Generator[Iterator[T], None, None]:
        try:
            for chunk in chunks:
                chunk.reverse()
                yield map(list.pop, itertools.repeat(chunk, len(chunk)))
        finally:
            chunks.close()

    def __iter__(self) -> Iterator[T]:
        return self._all

    def __next__(self) -> T:
        return next(self._all)

    def close(self) -> None:
        """Nobody listens any more, as to a generator."""
        self._chunks.close()


def results_of(futures: Deque[Future[Any]], more: Iterator[Future[Any]],
             end: Optional[float]) -> Generator[Any, None, None]:
    """The results in order, for each one more call; whoever stops listening cancels the rest."""
    try:
        while futures:
            futures.extend(itertools.islice(more, 1))
            yield _result_of(futures.popleft(), end)
    except KeyboardInterrupt:
        kill(futures)
        raise
    finally:
        for future in futures:
            future.cancel()


def kill(futures: Iterable[Future[Any]]) -> None:
    """What a Ctrl-C has left of a map: nobody has their futures."""
    for future in futures:
        future.kill()


def _result_of(future: Future[Any], end: Optional[float]) -> Any:
    """Its result, of which no reference is left here."""
    try:
        return future.result() if end is None else future.result(end - time.monotonic())
    except KeyboardInterrupt:
        future.kill()
        raise
    finally:
        future.cancel()
        del future


__all__ = ["Chained", "kill", "results_of"]
