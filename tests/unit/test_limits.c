/* limits.conf(5): whose a line is, which one counts, what its numbers mean. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/forkserver/limits.h"

static char dir[] = "/tmp/ppfs-limits-XXXXXX", sub[64];
static const gid_t groups[] = {5000, 0}; /* root's group has a name everywhere */

static int setup(void **state) {
    if (!mkdtemp(dir))
        return -1;
    snprintf(sub, sizeof(sub), "%s/limits.d", dir);
    return mkdir(sub, 0700);
}

static void put(const char *in, const char *name, const char *text) {
    char path[128];
    snprintf(path, sizeof(path), "%s/%s", in, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int teardown(void **state) {
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    return system(command);
}

static struct limits read_all(const char *main_file, const char *more) {
    struct limits l;
    put(dir, "limits.conf", main_file);
    put(sub, "10-more.conf", more);
    put(sub, "notes.txt", "alice - nproc 1\n"); /* is none of them */
    limits_read(&l, dir, "alice", 5000, groups, 2);
    return l;
}

static void whose_counts(void **state) {
    struct limits l = read_all("alice soft nproc 10\n@root soft nproc 20\n* soft nproc 30\nbob soft nproc 40\n", "");
    assert_true(l.of[RLIMIT_NPROC].soft_by && l.of[RLIMIT_NPROC].soft == 10 && !l.of[RLIMIT_NPROC].hard_by);
    l = read_all("* - nproc 30\n@root soft nproc 20\n", "@root soft nproc 21\n* soft nproc 31\n");
    assert_true(l.of[RLIMIT_NPROC].soft == 21 && l.of[RLIMIT_NPROC].hard == 30);
    l = read_all("5000:5001 hard nofile 1\n@0:0 hard core 2\n:5000 hard as 3\n5000: hard data 4\n4999: soft nproc 5\n",
                 "5001: hard nofile 9\n:4999 hard as 9\n@1:2 hard core 9\n5000:5x hard data 9\n: soft nproc 9\n");
    assert_true(l.of[RLIMIT_NOFILE].hard == 1 && l.of[RLIMIT_CORE].hard == 2048 && l.of[RLIMIT_AS].hard == 3072);
    assert_true(l.of[RLIMIT_DATA].hard == 4096 && l.of[RLIMIT_NPROC].soft == 5);
}

static void what_numbers_mean(void **state) {
    struct limits l =
        read_all("alice - cpu 2\nalice - memlock unlimited\nalice soft stack -1\nalice hard nice -5\n"
                 "alice - rtprio 7 # seven\n#alice - nofile 1\nalice - fsize 99999999999999999999\nalice - as "
                 "18014398509481984\n",
                 "alice - nofile x\nalice both nofile 2\nalice - nofile\nalice - colour 2\nalice - nofile -2\n");
    assert_true(l.of[RLIMIT_CPU].soft == 120 && l.of[RLIMIT_CPU].hard == 120);
    assert_true(l.of[RLIMIT_MEMLOCK].hard == RLIM_INFINITY && l.of[RLIMIT_STACK].soft == RLIM_INFINITY);
    assert_true(l.of[RLIMIT_NICE].hard == 25 && l.of[RLIMIT_RTPRIO].soft == 7 && l.of[RLIMIT_AS].soft == RLIM_INFINITY);
    assert_true(!l.of[RLIMIT_NOFILE].soft_by && !l.of[RLIMIT_NOFILE].hard_by && !l.of[RLIMIT_FSIZE].soft_by);
}

static void without_limits(void **state) {
    struct limits l = read_all("alice - nproc 5\n", "alice -\nalice - nofile 5\n");
    assert_true(!l.of[RLIMIT_NPROC].soft_by && !l.of[RLIMIT_NOFILE].soft_by);
}

static void set(void **state) {
    struct limits l = read_all("alice soft nofile 90\nalice hard nofile 80\nalice hard core unlimited\n", "");
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit now;
        if (limits_set(&l) || getrlimit(RLIMIT_NOFILE, &now))
            _exit(1);
        _exit(now.rlim_cur == 80 && now.rlim_max == 80 ? 0 : 2);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whose_counts),
        cmocka_unit_test(what_numbers_mean),
        cmocka_unit_test(without_limits),
        cmocka_unit_test(set),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
