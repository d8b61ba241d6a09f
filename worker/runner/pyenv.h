/* Which Python the workers are told to be: an interpreter or a virtual environment. */
#ifndef PPFS_PYENV_H
#define PPFS_PYENV_H
#include <stdbool.h>
#include <stddef.h>

/* Resolves path (a venv directory, an interpreter, or NULL for $VIRTUAL_ENV, else the Python built with) to the
 * program name that CPython is to be given; *program is malloc'd, never NULL on success. 0 or -errno; why then holds
 * one sentence that says what and what to do (not there; its version differs from the embedded one: pyvenv.cfg, or
 * asking it). */
int pyenv_resolve(const char *path, char **program, char *why, size_t why_size);

/* Whether a script whose first line is this one ("#!" included, no newline) may run in the workers' own Python: it says
 * `env python3`, or a usual name of the program that pyenv_resolve gave last: python, python3 or python3.11 beside it,
 * beside the file that it is, or where a system has its programs. No file is looked at. Flags other than -u and -B: no.
 * May be called from any thread once pyenv_resolve has returned. */
bool pyenv_is_own(const char *shebang_line);
#endif
