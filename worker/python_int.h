/* What python.c and python_lease.c share. Nobody else includes Python.h. */
#ifndef PPFS_PYTHON_INT_H
#define PPFS_PYTHON_INT_H
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "worker/python.h"

PyObject *glue_get(const char *name); /* what glue.py calls so; borrowed, NULL: nothing */
/* Calls that function; args is used up, NULL: they could not be made. A new reference, or NULL with an exception set. */
PyObject *glue_call(const char *name, PyObject *args);
PyObject *glue_env(const char *const *env); /* a list of b"K=V", None for NULL; NULL with an exception set */
#endif
