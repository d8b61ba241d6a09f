/* What the tests of pools share: a directory of their own that is $TMPDIR of all pools, and looking what is left in it.
 * Header only: each test is one file. */
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

/* How many entries dir has. */
static int entries(const char *dir) {
    int count = -2; /* . and .. */
    DIR *d = opendir(dir);

    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static char scratch[] = "/tmp/ppfs-test-XXXXXX"; /* $TMPDIR of all pools here */

static int group_setup(void **state) {
    return !mkdtemp(scratch) || chmod(scratch, 0711) || setenv("TMPDIR", scratch, 1);
}

static int group_teardown(void **state) {
    return rmdir(scratch);
}

/* Of a pool that is destroyed. After each test: cmocka ends with status 0 when the teardown of the group fails. */
static void assert_nothing_left(void) {
    /* The pool made this process a subreaper: nothing that ran below it may be left. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(entries(scratch), 0);
}
#endif
