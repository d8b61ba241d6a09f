"""CPython's own tests of multiprocessing.Pool, over ppfs.Pool."""
import multiprocessing
import multiprocessing.pool
import unittest

import ppfs
from test import _test_multiprocessing as cpython

WORKERS = "looks at the processes of a pool in its list _pool; those of a ppfs are the mount's"
LEFT_OUT = {
    "test_make_pool": WORKERS,
    "test_pool_worker_lifetime": WORKERS,
    "test_terminate": "measures two seconds, which a busy machine may miss; the tests of ppfs.Pool have one that does not",
    "test_unpickleable_result": "wants a lambda to be no result; with cloudpickle it is one",
    "test_worker_finalization_via_atexit_handler_of_multiprocessing": "a program with multiprocessing's own Pool",
}

multiprocessing.Pool = ppfs.Pool


class OfPpfs:
    TYPE = "processes"
    Pool = staticmethod(lambda *args, **words: ppfs.Pool(*args, **words))


class Pool(OfPpfs, cpython._TestPool, unittest.TestCase):
    pass


class Errors(OfPpfs, cpython._TestPoolWorkerErrors, unittest.TestCase):
    pass


class Lifetime(OfPpfs, cpython._TestPoolWorkerLifetime, unittest.TestCase):
    pass


for case in (Pool, Errors, Lifetime):
    for name in dir(case):
        if name in LEFT_OUT:
            setattr(case, name, unittest.skip(LEFT_OUT[name])(getattr(case, name)))
del case
