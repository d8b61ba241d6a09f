"""What an executor takes over from the program that it is in: its environment, the level of its logging."""
import logging
import os
from typing import Any, Dict, Mapping, Optional, Tuple


def environment() -> Dict[str, str]:
    """The environment of this process, without what ppfs sets for each job."""
    return {name: value for name, value in os.environ.items()
            if not name.startswith("PPFS") and name not in ("PWD", "OLDPWD")}


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


__all__ = ["check_pool", "environment", "log_level"]
