/* Shared by python.c and python_lease.c. Nobody else includes Python.h. */
#ifndef PPFS_PYTHON_INT_H
#define PPFS_PYTHON_INT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/forkserver/python.h"

enum stage { STAGE_LOAD, STAGE_CALL, STAGE_DUMP }; /* of a call, where it failed */

PyObject *bootstrap_get(const char *name); /* what bootstrap.py calls so; borrowed, NULL: nothing */
/* Calls that function; args is used up, NULL: there is an exception. A new reference, or NULL with an exception. */
PyObject *bootstrap_call(const char *name, PyObject *args);
/* python_order.c: whether a row of order.py differs; takes note of what rows do not hold, after all was put back; the
 * generators of random numbers, where a call has set them, get other numbers. */
bool python_order_differs(void);
bool python_order_touched(void); /* whether one of its dictionaries was changed */
void python_order_mark(void);
void python_order_reseed(void);
bool python_order_knows(PyObject *names); /* whether it is one of its dictionaries */
/* python_patch.c: attributes that a call sets on modules. */
void python_patch_watch(void);                   /* once, when Python has begun */
void python_patch_unwatch(void);                 /* for a script: all is as python3 has it */
bool python_patch_any(void);                     /* something was set since */
bool python_patch_left(void);                    /* and is not as it was; the call has ended */
PyObject *bootstrap_env(const char *const *env); /* a list of b"K=V", None for NULL; NULL with an exception set */
#endif
