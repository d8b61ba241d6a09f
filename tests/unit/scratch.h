/* What the tests of pools share: a directory of their own that is $TMPDIR of all pools, and looking what is left in
 * it. */
#ifndef PPFS_SCRATCH_H
#define PPFS_SCRATCH_H
#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char scratch[];

/* How many entries dir has. */
int entries(const char *dir);
int group_setup(void **state);
int group_teardown(void **state);
/* Of a pool that is destroyed. After each test: cmocka ends with status 0 when the teardown of the group fails. */
void assert_nothing_left(void);
#endif
