"""What map() of an executor hands out of its futures."""
import itertools
import time
from typing import Any, Deque, Generator, Iterable, Iterator, List, Optional

from .future import Future


def chained(chunks: Generator[List[Any], None, None]) -> Iterator[Any]:
    """The results in chunks, one by one; what was handed out is not kept."""
    try:
        for chunk in chunks:
            chunk.reverse()
            while chunk:
                yield chunk.pop()
    finally:
        chunks.close()


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


__all__ = ["chained", "kill", "results_of"]
