"""A program whose types mypy --strict checks in CI; nobody runs it. A "type: ignore" here marks what has to be refused."""
from typing import TYPE_CHECKING, Any, Iterator, List, Optional

import ppfs

if TYPE_CHECKING:
    from typing_extensions import assert_type


def area(width: float, height: float = 1.0, *, unit: str = "m") -> str:
    return "%g %s" % (width * height, unit)


def program(executor: ppfs.Executor) -> None:
    future = executor.submit(area, 2.0, unit="cm")
    assert_type(future, ppfs.Future[str])
    assert_type(future.result(), str)
    assert_type(future.exception(timeout=1), Optional[BaseException])
    assert_type(future.stdout, str)
    executor.submit(area, "2")  # type: ignore[arg-type]
    executor.submit(area, 2.0, depth=3)  # type: ignore[call-arg]

    view = executor.options(priority=5)
    assert_type(view, ppfs.ExecutorView)
    assert_type(view.options(timeout="1m").submit(len, "abc"), ppfs.Future[int])
    assert_type(view.map(area, [1.0, 2.0]), Iterator[str])

    futures = ppfs.progress([executor.submit(len, "a"), executor.submit(len, "bc")])
    assert_type(futures, List[ppfs.Future[int]])

    session = ppfs.attach("night")
    assert_type(session[3], ppfs.Future[Any])
    assert_type(session.results(), List[Any])
    assert_type(ppfs.result("answer.py"), bytes)
    assert_type(ppfs.result("call", load=True), Any)
