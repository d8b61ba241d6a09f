
#include "tests/unit/scratch.h"

int entries(const char *dir) {
    int count = -2; /* . and .. */
    DIR *d = opendir(dir);

    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

char scratch[] = "/tmp/ppfs-test-XXXXXX"; /* $TMPDIR of all pools here */

int group_setup(void **state) {
    return !mkdtemp(scratch) || chmod(scratch, 0711) || setenv("TMPDIR", scratch, 1);
}

int group_teardown(void **state) {
    return rmdir(scratch);
}

void assert_nothing_left(void) {
    /* The pool made this process a subreaper: nothing that ran below it may be left. */
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
    assert_int_equal(entries(scratch), 0);
}
