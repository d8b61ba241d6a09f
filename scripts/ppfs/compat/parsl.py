"""An executor for Parsl:  parsl.load(Config(executors=[ppfs.parsl.PpfsExecutor()]))"""
from concurrent.futures import Future
from typing import Any, Callable, Dict, List, Optional

from parsl.executors.base import ParslExecutor  # type: ignore[import] # Parsl is not installed where types are checked
from parsl.executors.errors import InvalidResourceSpecification  # type: ignore[import] # as above
from parsl.utils import RepresentationMixin  # type: ignore[import] # as above

from .. import mount as mounts
from ..executor import Executor
from ..trust import TrustLike

# What Parsl's other executors call resources, and how the option of a call says it.
_RESOURCES: Dict[str, Callable[[Any], Dict[str, Any]]] = {
    "cores": lambda n: {"cpus": int(n)},
    "memory": lambda megabytes: {"memory": "%dM" % megabytes},
    "gpus": lambda n: {"gpu": int(n)} if n else {},
    "priority": lambda n: {"priority": int(n)},
    "running_time_min": lambda seconds: {},  # a guess for the scheduler, which makes its own
}


class PpfsExecutor(ParslExecutor, RepresentationMixin):  # type: ignore[misc] # as above
    """Runs Parsl's apps on a ppfs, which scales by itself: nodes come and go by what stands in its nodes/.

    label                   what apps name it by
    mount, serializer, max_workers, trust  as of ppfs.Executor
    storage_access, working_dir, remote_monitoring_radio  as of Parsl's other executors
    further keywords        options of every call, see ppfs.Executor.options()

    parsl_resource_specification may have cores, memory (in MB), gpus, priority and running_time_min, which has no effect;
    another is an InvalidResourceSpecification.
    """

    def __init__(self, label: str = "ppfs", mount: Optional[mounts.MountLike] = None, serializer: Optional[str] = None,
                 max_workers: Optional[int] = None, trust: TrustLike = None, storage_access: Optional[List[Any]] = None,
                 working_dir: Optional[str] = None, remote_monitoring_radio: Any = None, **options: Any) -> None:
        super().__init__()
        self.label, self.mount, self.serializer, self.max_workers, self.trust = label, mount, serializer, max_workers, trust
        self.storage_access, self.working_dir = storage_access, working_dir
        self.remote_monitoring_radio = remote_monitoring_radio
        self.options = options
        self._calls: Optional[Executor] = None

    def start(self) -> None:
        """Parsl calls it first. Raises what ppfs.Executor raises."""
        self._calls = Executor(self.mount, serializer=self.serializer, max_workers=self.max_workers, trust=self.trust,
                               **self.options)

    def submit(self, func: Callable[..., Any], resource_specification: Dict[str, Any], *args: Any,
               **kwargs: Any) -> "Future[Any]":
        """Queues func(*args, **kwargs)."""
        assert self._calls is not None
        unknown = set(resource_specification) - set(_RESOURCES)
        if unknown:
            raise InvalidResourceSpecification(unknown, "A ppfs knows %s." % ", ".join(_RESOURCES))
        options: Dict[str, Any] = {}
        for name, value in resource_specification.items():
            options.update(_RESOURCES[name](value))
        future: "Future[Any]" = (self._calls.options(**options) if options else self._calls).submit(func, *args, **kwargs)
        return future

    def shutdown(self) -> None:
        """Waits until what was queued has ended, as Parsl's executor of threads does."""
        if self._calls is not None:
            self._calls.shutdown()
        super().shutdown()


__all__ = ["PpfsExecutor"]
