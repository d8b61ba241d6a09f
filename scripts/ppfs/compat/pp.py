"""ppft's documented interface over ppfs: programs written for pp or ppft run with one changed import.

    import ppfs.pp as pp
    server = pp.Server()
    job = server.submit(func, (1, 2), depfuncs=(helper,), modules=("math",))
    print(job())

What differs: an exception in a job is raised by job() (ppft prints it and gives None). A job whose process dies raises
ppfs.WorkerDied (ppft waits for ever). Jobs that were submitted are kept by the ppfs until they have ended.

What is as in ppft: what a job prints is printed here when job() is first called, or before its callback. Callbacks run
in threads, several at a time; job() and wait() return when the job's callback has.

Programs that import ppft or pp need no change at all: import ppfs.ppft_shim, or PYTHONPATH=$(ppfs-python --ppft).
"""
import atexit
import inspect
import logging
import os
import sys
import textwrap
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

from .. import mount as mounts
from .._stream.future import Future
from .._stream.threads import Event
from ..errors import MountGone
from ..executor import Executor
from ..trust import TrustLike

CALLBACKS = 64  # that run at a time; one may wait for another job
version = "1.7.8"  # of the interface that this is compatible with
copyright = "ppfs, with the interface of Parallel Python (pp) and ppft"

_INSERT = """
import pickle
_name, _sources, _modules = pickle.loads(pickled[0])
for _module in _modules:
    exec(_module if _module.startswith(("import ", "from ")) else "import " + _module)
for _source in _sources:
    exec(_source)
"""  # what Server.insert() runs in a worker
_INSERTED = "[exec(code, space), space[space['_name']](*space['pickle'].loads(space['pickled'][1]))][1]"

__all__ = ["DestroyedServerError", "Server", "Template", "getname", "importable", "version"]

try:
    from dill import dumps as _dumps  # type: ignore[import] # dill has no types
    from dill.source import getname, importable  # type: ignore[import] # as above
except ImportError:
    from pickle import dumps as _dumps

    def importable(func: Callable[..., Any]) -> str:
        """The source text of a function or class, without its indentation."""
        return textwrap.dedent(inspect.getsource(func))

    def getname(obj: Any) -> str:
        """The name of a function or class."""
        return str(obj.__name__)


class DestroyedServerError(RuntimeError):
    """A job was submitted to a server after destroy()."""


class _Task:
    """One submitted job. Calling it waits and gives the result (or raises what the job raised)."""

    def __init__(self, server: "Server", tid: int, callback: Optional[Callable[..., Any]],
                 callbackargs: Tuple[Any, ...], group: str) -> None:
        self.server, self.tid, self.group = server, tid, group
        self.callback, self.callbackargs = callback, callbackargs
        self.finished = False
        self.unpickled = False  # result is set
        self.result: Any = None
        self.lock = threading.Lock()  # held until it has ended
        self.lock.acquire()
        self._ended = Event()
        self._future: Optional[Future[Any]] = None
        self._printing = threading.Lock()
        self._printed = False

    def _follow(self, future: Future[Any]) -> None:
        self._future = future
        future.add_done_callback(self._finalize)

    def _finalize(self, future: Any) -> None:
        """The future has ended: the callback runs before anybody who waits goes on."""
        if self.callback is not None and not future.cancelled() and future.exception() is None:
            try:
                self.server._callbacks.submit(self._call_back, future.result())
                return
            except RuntimeError:
                pass  # the interpreter is about to end: no thread starts any more
        self._finish()

    def _call_back(self, value: Any) -> None:
        assert self.callback is not None
        try:
            self._print()
            self.result, self.unpickled = value, True
            self.callback(*self.callbackargs, value)
        except Exception:
            self.server.logger.error("the callback of task %d failed", self.tid, exc_info=True)
        finally:
            self._finish()

    def _finish(self) -> None:
        self.server._ended(self)
        self.finished = True
        self.lock.release()
        self._ended.set()

    def _print(self) -> None:
        """What the job has printed, once, on this program's standard output."""
        with self._printing:
            printed, self._printed = self._printed, True
        if not printed and self._future is not None:
            sys.stdout.write(self._future.printed)

    def wait(self) -> None:
        """Returns when the job has ended and its callback has run."""
        self._ended.wait()

    def __call__(self, raw_result: bool = False) -> Any:
        """Waits for the job and gives its result. raw_result: as sresult has it."""
        self.wait()
        if raw_result:
            return self.sresult
        value = self._value()
        self._print()
        self.result, self.unpickled = value, True
        return value

    def _value(self) -> Any:
        assert self._future is not None
        if self._future.cancelled():
            raise DestroyedServerError("the server was destroyed before the job ended")
        return self._future.result()

    @property
    def sresult(self) -> bytes:
        """The pickle of (result, what the job printed), when it has ended. Raises what the job raised."""
        self.wait()
        value = self._value()
        assert self._future is not None
        pickled: bytes = _dumps((value, self._future.printed), self.server._proto)
        return pickled


class _Statistics:
    """What a node has done for us."""

    def __init__(self, ncpus: int, njobs: int = 0, seconds: float = 0.0) -> None:
        self.ncpus, self.njobs, self.time = ncpus, njobs, seconds
        self.rworker = None


class Template:
    """A function with everything that submit() wants to know but its arguments."""

    def __init__(self, job_server: "Server", func: Callable[..., Any], depfuncs: Tuple[Any, ...] = (),
                 modules: Tuple[str, ...] = (), callback: Optional[Callable[..., Any]] = None,
                 callbackargs: Tuple[Any, ...] = (), group: str = "default",
                 globals: Optional[Dict[str, Any]] = None) -> None:
        self.job_server, self.func, self.depfuncs, self.modules = job_server, func, depfuncs, modules
        self.callback, self.callbackargs, self.group, self.globals = callback, callbackargs, group, globals

    def submit(self, *args: Any) -> _Task:
        """Submits the function with these arguments."""
        return self.job_server.submit(self.func, args, self.depfuncs, self.modules, self.callback, self.callbackargs,
                                      self.group, self.globals)


class Server:
    """Where jobs are submitted.

    ncpus           how many jobs of this server may be under way at a time, besides as many as the other nodes have slots
                    where ppservers are named; "autodetect": what the mount gives. 0: with ppservers no limit, without
                    nothing runs until set_ncpus(). The mount and its other users are not concerned
    ppservers       nodes to use as well, each "host:port" or "host"; "*": those that answer in the local network. One
                    that cannot be asked for gives a warning; one that does not answer is tried again by the ppfs
    secret          not used: a node has a key of the mount, ppfs-node --key and nodes/.keys in ppfs(5)
    restart         not used: a worker goes on with the next job of the same server, as in ppft without restart
    proto           the pickle protocol of raw results
    socket_timeout  not used: a node that is silent is noticed by itself, and its jobs run elsewhere. A job may run as
                    long as it likes (ppfs.Executor has the option timeout)
    trust           as that of ppfs.Executor; ppft does not have it
    """

    default_port = 60000
    default_secret = ""

    def __init__(self, ncpus: Union[int, str] = "autodetect", ppservers: Tuple[str, ...] = (),
                 secret: Optional[str] = None,
                 restart: bool = False, proto: int = 2, socket_timeout: Optional[float] = 3600, *,
                 trust: TrustLike = None) -> None:
        if not isinstance(ppservers, tuple):
            raise TypeError("ppservers argument must be a tuple")
        if secret is not None and not isinstance(secret, str):
            raise TypeError("secret must be of a string type")
        self.logger = logging.getLogger("pp")
        self.secret = secret if secret is not None else self.default_secret
        self.socket_timeout = socket_timeout
        self._proto = proto
        self._exiting = False  # pathos sets it too, and takes it back
        self._destroyed = False
        self._lock = threading.Lock()
        self._callbacks = ThreadPoolExecutor(CALLBACKS, "ppfs.pp callback")
        self._tid = 0
        self._tasks: Dict[int, _Task] = {}
        self._executor = Executor(trust=trust, stdout=False, stderr=False)  # what jobs print comes with them
        self.mount = self._executor.mount
        self._created = time.time()
        self.ppservers: List[Tuple[str, int]] = []
        self.auto_ppservers: List[Tuple[Tuple[str, int], Tuple[str, int]]] = []
        self._ncpus: Optional[int] = None
        self._others = (0.0, 0)  # when the slots of the other nodes were counted, and how many there were
        if ncpus != "autodetect":
            self.set_ncpus(ncpus)
        for server in ppservers:
            host, port = _address(server)
            if "*" in host:
                whole = "*.*.*.*" if host == "*" else host
                self.auto_ppservers.append(((whole.replace("*", "0"), port), (whole.replace("*", "255"), port)))
            else:
                self.ppservers.append((host, port))
            self._dial(host, port)
        if ppservers and mounts.is_private(self.mount):
            self.logger.warning("no ppfs is mounted, so this program has one of its own, of which no node has a key; mount one "
                                "and give the nodes its key: nodes/.keys/join/key, ppfs-node --key FILE")
        self._before = {node: (jobs, seconds) for node, (_, jobs, seconds) in self._nodes().items()}
        _servers.add(self)

    def _dial(self, host: str, port: int) -> None:
        """Asks the ppfs to use a node. As in ppft one that cannot be reached is no error."""
        nodes = os.path.join(self.mount, "nodes")
        try:
            if "*" in host:
                with open(os.path.join(nodes, ".discover"), "w", encoding="ascii") as file:
                    file.write("1\n")
            else:
                os.mkdir(os.path.join(nodes, ("[%s]:%d" if ":" in host else "%s:%d") % (host, port)))
        except FileExistsError:
            pass
        except OSError as error:
            self.logger.warning("%s cannot be used: the ppfs at %s says: %s",
                                "nodes of the local network" if "*" in host else "the node %s:%d" % (host, port),
                                self.mount, error.strerror)

    # --- jobs --------------------------------------------------------------------------------------------------------

    def submit(self, func: Callable[..., Any], args: Tuple[Any, ...] = (), depfuncs: Tuple[Any, ...] = (),
               modules: Tuple[str, ...] = (), callback: Optional[Callable[..., Any]] = None,
               callbackargs: Tuple[Any, ...] = (), group: str = "default",
               globals: Optional[Dict[str, Any]] = None) -> _Task:
        """Submits func(*args) and gives the job.

        depfuncs      functions and classes that func calls by their names
        modules       names of modules that func uses: they are imported and bound as names for func and depfuncs
        callback      called as callback(*callbackargs, result) when there is a result, in a thread
        group         for wait(group)
        globals       e.g. globals(): every module, function and class in it is there for func. One that a node does not
                      have is NameError where func uses it
        """
        if self._exiting or self._destroyed:
            raise DestroyedServerError("Cannot submit jobs: server instance has been destroyed")
        for name, value in (("args", args), ("depfuncs", depfuncs), ("modules", modules),
                            ("callbackargs", callbackargs)):
            if not isinstance(value, tuple):
                raise TypeError("%s argument must be a tuple" % name)
        if globals is not None and not isinstance(globals, dict):
            raise TypeError("globals argument must be a dictionary")
        if not all(isinstance(module, str) for module in modules):
            raise TypeError("modules argument must be a list of strings")
        depfuncs = depfuncs + tuple(arg for arg in args if isinstance(arg, types.FunctionType))
        friends = tuple((f.__name__, f) for f in depfuncs if hasattr(f, "__name__"))
        if globals:
            more, found = _from_globals(globals, self._executor._core.serializer._goes_by_name)
            modules = modules + tuple(m for m in more if m not in modules)
            friends = found + friends
        with self._lock:
            self._tid += 1
            task = _Task(self, self._tid - 1, callback, callbackargs, group)
        return self._begin(task, lambda: self._executor._submit_with(func, modules, friends, args))

    def insert(self, sfunc: bytes, sargs: bytes, task: Optional[_Task] = None) -> _Task:
        """Submits what ppft's submit() makes of a function and its arguments: the pickles of (name, sources, modules) and
        of a tuple. task: what it is a part of; by default a new one."""
        if self._exiting or self._destroyed:
            raise DestroyedServerError("Cannot submit jobs: server instance has been destroyed")
        if task is None:
            with self._lock:
                self._tid += 1
                task = _Task(self, self._tid - 1, None, (), "default")
        space = {"__name__": "ppft", "pickled": (sfunc, sargs)}
        return self._begin(task, lambda: self._executor.submit(eval, _INSERTED, {"space": space, "code": _INSERT}))

    def _begin(self, task: _Task, submit: Callable[[], Future[Any]]) -> _Task:
        with self._lock:
            self._tasks[task.tid] = task
        try:
            task._follow(submit())
        except BaseException:
            self._ended(task)
            raise
        return task

    def _ended(self, task: _Task) -> None:
        with self._lock:
            self._tasks.pop(task.tid, None)

    def wait(self, group: Optional[str] = None) -> None:
        """Waits for all jobs of a group, or for all jobs."""
        while True:
            with self._lock:
                task = next((t for t in self._tasks.values() if not group or t.group == group), None)
            if task is None:
                return
            task.wait()

    # --- nodes -------------------------------------------------------------------------------------------------------

    def get_ncpus(self) -> int:
        """How many jobs of this server this machine runs at a time."""
        return self._ncpus if self._ncpus is not None else self._number("local", "cpus")

    def set_ncpus(self, ncpus: Union[int, str] = "autodetect") -> None:
        """Sets how many jobs of this server run at a time; "autodetect": as many as this process may use processors. A
        private mount gets so many slots at least."""
        if ncpus == "autodetect":
            ncpus = len(os.sched_getaffinity(0))
        if not isinstance(ncpus, int):
            raise TypeError("ncpus must have 'int' type")
        if ncpus < 0:
            raise ValueError("ncpus must be an integer > 0")
        self._ncpus = ncpus
        if mounts.is_private(self.mount):
            mounts.private(ncpus)
        self._executor._core.set_limit(self._limit)

    def _limit(self) -> Optional[int]:
        """How many jobs may be under way; None: any number."""
        if self._ncpus is None or not (self.ppservers or self.auto_ppservers):
            return self._ncpus
        if self._ncpus == 0:
            return None
        counted, slots = self._others
        if time.monotonic() - counted > 1:
            slots = sum(self._number(node, "cpus") for node in self._names() if node != "local")
            self._others = time.monotonic(), slots
        return self._ncpus + slots

    def _names(self) -> List[str]:
        """The names of the nodes."""
        try:
            return mounts.nodes(self.mount)
        except OSError:
            return []

    def get_active_nodes(self) -> Dict[str, int]:
        """{node: slots} of those that are there; "local" is this machine."""
        return {node: ncpus for node, (ncpus, _, _) in self._nodes().items() if self._value(node, "state") == "up"}

    def get_stats(self) -> Dict[str, _Statistics]:
        """{node: object with ncpus, njobs, time} since this server was created. Other users' jobs on the same ppfs
        count too."""
        stats = {}
        for node, (ncpus, jobs, seconds) in self._nodes().items():
            jobs_before, seconds_before = self._before.get(node, (0, 0.0))
            stats[node] = _Statistics(ncpus, jobs - jobs_before, seconds - seconds_before)
        return stats

    def print_stats(self) -> None:
        """Prints get_stats() as a table."""
        stats = self.get_stats()
        total = sum(stat.njobs for stat in stats.values())
        print("Job execution statistics:")
        print(" job count | % of all jobs | job time sum | time per job | job server")
        for node, stat in stats.items():
            if stat.njobs:
                print("    %6d |        %6.2f |     %8.4f |  %11.6f | %s"
                      % (stat.njobs, 100.0 * stat.njobs / total, stat.time, stat.time / stat.njobs, node))
        print("Time elapsed since server creation %s" % (time.time() - self._created))
        print("%d active tasks, %d cores" % (len(self._tasks), self.get_ncpus()))
        print("")
        sys.stdout.flush()

    def _nodes(self) -> Dict[str, Tuple[int, int, float]]:
        """{node: (slots, jobs ended, seconds of run time)}."""
        try:
            names = mounts.nodes(self.mount)
        except OSError as error:
            raise MountGone("the ppfs mount at %s has gone: %s" % (self.mount, error.strerror), error) from error
        nodes = {}
        for name in sorted(names, key=lambda n: (n != "local", n)):
            try:
                seconds = float(self._value(name, "seconds") or 0)
            except ValueError:
                seconds = 0.0
            cpus = self.get_ncpus() if name == "local" else self._number(name, "cpus")
            nodes[name] = (cpus, self._number(name, "done") + self._number(name, "failed"),
                           seconds)
        return nodes

    def _value(self, node: str, what: str) -> str:
        try:
            with open(os.path.join(self.mount, "nodes", node, what), encoding="utf-8") as file:
                return file.read().strip()
        except OSError:
            return ""

    def _number(self, node: str, what: str) -> int:
        value = self._value(node, what)
        return int(value) if value.isdigit() else 0

    # --- the end -----------------------------------------------------------------------------------------------------

    def destroy(self) -> None:
        """No more jobs; those that have not ended are cancelled."""
        self._exiting = True
        if self._destroyed:
            return
        self._destroyed = True
        self._executor._core.kill()
        self._executor.shutdown(wait=True)
        self._callbacks.shutdown(wait=False)

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self.destroy()


_servers: "weakref.WeakSet[Server]" = weakref.WeakSet()


def _destroy_all() -> None:
    """At exit what has not ended is cancelled, before executors wait for theirs."""
    for server in list(_servers):
        server.destroy()


getattr(threading, "_register_atexit", atexit.register)(_destroy_all)


def _address(server: str) -> Tuple[str, int]:
    """(host, port) of "host:port", "host", "[::1]:port" or "::1"."""
    host, port = server, ""
    if server.startswith("["):
        host, _, port = server[1:].partition("]")
        port = port.lstrip(":")
    elif server.count(":") == 1:
        host, _, port = server.partition(":")
    return host, int(port) if port else Server.default_port


def _from_globals(space: Dict[str, Any], by_name: Callable[[Any], bool]) -> Tuple[List[str], Tuple[Tuple[str, Any], ...]]:
    """(imports, functions and classes with their names) of a globals dictionary, as ppft finds them. by_name: whether a
    function or class is found by its name, so that it need not come along."""
    modules: List[str] = []
    friends: List[Tuple[str, Any]] = []
    for name, value in list(space.items()):
        if name.startswith("__"):
            continue
        if isinstance(value, types.ModuleType):
            if value.__name__ not in ("__main__", "builtins", "ppfs.pp", __name__) and name != "pp":
                modules.append("optional import %s as %s" % (value.__name__, name))
        elif isinstance(value, types.FunctionType) or (inspect.isclass(value)
                                                       and value.__module__ == space.get("__name__")):
            if by_name(value) and value.__qualname__.isidentifier():
                modules.append("optional from %s import %s as %s" % (value.__module__, value.__qualname__, name))
            else:
                friends.append((name, value))
    return modules, tuple(friends)
