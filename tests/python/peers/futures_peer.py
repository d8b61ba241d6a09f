"""CPython's own tests of ProcessPoolExecutor, over ppfs.Executor."""
import multiprocessing
import unittest

import ppfs
from test import test_concurrent_futures as cpython

ALONE = "wants BrokenProcessPool for all calls; in a ppfs only the call fails, with its own exception or WorkerDied"
INNER = "looks at the processes, queues or threads of the library's executor"
PROGRAM = "a program with the library's own executor, by its name"
SHARED = "shares a lock, semaphore or queue of multiprocessing with children of this process"
LEFT_OUT = {
    "test_crash_at_task_unpickle": ALONE,
    "test_crash_during_func_exec_on_worker": ALONE,
    "test_crash_during_result_pickle_on_worker": ALONE,
    "test_error_at_task_unpickle": ALONE,
    "test_exit_at_task_unpickle": ALONE,
    "test_exit_during_result_pickle_on_worker": ALONE,
    "test_error_during_result_unpickle_in_result_handler": ALONE,
    "test_exit_during_result_unpickle_in_result_handler": ALONE,
    "test_shutdown_deadlock": ALONE,
    "test_error_at_task_pickle": "submit() itself raises the PicklingError, and names the argument",
    "test_error_during_result_pickle_on_worker": "the exception is CallFailed, which names the PicklingError",
    "test_shutdown_deadlock_pickle": INNER,
    "test_killed_child": INNER,
    "test_max_tasks_per_child": "there is no max_tasks_per_child",
    "test_max_tasks_per_child_defaults_to_spawn_context": "there is no max_tasks_per_child",
    "test_traceback": "wants a private class as the cause; here it is ppfs.RemoteTraceback",
    "test_saturation": SHARED,
    "test_processes_terminate": SHARED,
    "test_cancel_futures": "wants some calls to run at once; one that is not known to run yet is cancelled too",
    "test_hang_gh83386": PROGRAM,
    "test_interpreter_shutdown": PROGRAM,
    "test_submit_after_interpreter_shutdown": PROGRAM,
}


def executor(max_workers=None, mp_context=None, initializer=None, initargs=()):
    return ppfs.Executor(max_workers=max_workers, initializer=initializer, initargs=initargs)


class OfPpfs:
    executor_type = staticmethod(executor)
    ctx = "fork"

    def get_context(self):
        return multiprocessing.get_context(self.ctx)


def made(case):
    bases = (OfPpfs, case) if issubclass(case, cpython.ExecutorMixin) else (OfPpfs, cpython.ExecutorMixin, case)
    new = type("Ppfs" + case.__name__, (*bases, cpython.BaseTestCase), {})
    for name in dir(new):
        if name in LEFT_OUT:
            setattr(new, name, unittest.skip(LEFT_OUT[name])(getattr(new, name)))
    return new


Initializer = made(cpython.InitializerMixin)
Shutdown = made(cpython.ProcessPoolShutdownTest)
Wait = made(cpython.WaitTests)
AsCompleted = made(cpython.AsCompletedTests)
Executor = made(cpython.ProcessPoolExecutorTest)
Deadlock = made(cpython.ExecutorDeadlockTest)
