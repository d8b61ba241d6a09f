"""What an executor takes over from the program that it is in: its environment, the level of its logging."""
import logging
import os
import sys
from typing import Any, Dict, Mapping, Optional, Tuple


def environment() -> Dict[str, str]:
    """The environment of this process, without what ppfs sets for each job."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith("PPFS") and name not in ("PWD", "OLDPWD")}


def in_notebook() -> bool:
    """Whether this is a kernel of Jupyter's."""
    kernel = sys.modules.get("ipykernel.kernelapp")
    return kernel is not None and bool(kernel.IPKernelApp.initialized())


def output(given: Any, name: str) -> Any:
    """The file that Executor(stdout=, stderr=) means: in a notebook its own one, unless it was said."""
    if given is None and in_notebook():
        return getattr(sys, name)
    return None if given is False else given


def log_level(options: Mapping[str, Any]) -> Tuple[Optional[int], Dict[str, Any]]:
    """What logging= asks for, as a number, and the other options. ValueError: it is no level."""
    rest = dict(options)
    level = rest.pop("logging", None)
    number = logging.getLevelName(level) if isinstance(level, str) else level
    if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
        raise ValueError("option logging=%.60s is not understood: a level of logging is expected, such as INFO" % (level,))
    return number, rest


def check_pool(mp_context: Any, max_tasks_per_child: Optional[int]) -> None:
    """Raises ValueError for what a process pool of the library would do, and workers of a ppfs do not."""
    if mp_context is not None and mp_context.get_start_method() == "fork":
        raise ValueError("mp_context: the workers of a ppfs are no forks of this program; what they shall have goes along "
                         "with the calls, or is set up by initializer=")
    if max_tasks_per_child is not None:
        raise ValueError("max_tasks_per_child: the workers of a ppfs are put in order after each call, and replaced where "
                         "that is not possible; a call with the option env= has a process of its own")


__all__ = ["check_pool", "environment", "in_notebook", "log_level", "output"]
