/* The sandbox with each version of Landlock that can have it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "worker/forkserver/sandbox.h"

static char own[] = "/var/tmp/ppfs-sandbox-XXXXXX", outside[64]; /* not below /tmp, which is open to it */

static int setup(void **state) {
    if (!mkdtemp(own) || chdir(own) || mkdir("a", 0700) || mkdir("b", 0700) || mknod("a/x", S_IFREG | 0600, 0))
        return -1;
    snprintf(outside, sizeof(outside), "%s.out", own);
    int fd = open(outside, O_WRONLY | O_CREAT | O_EXCL, 0600);
    return fd < 0 || write(fd, "kept", 4) != 4 || close(fd);
}

static int teardown(void **state) {
    unlink(outside);
    unlink("a/x");
    unlink("b/x");
    rmdir("a");
    rmdir("b");
    return chdir("/") || rmdir(own);
}

/* Each line: what must be so, else the child's status is the number of its line. */
#define MUST(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition))                                                                                              \
            _exit(__LINE__ % 256);                                                                                     \
    } while (0)
#define FAILS(call, error) MUST((call) < 0 && errno == (error))

static void keeps_files(void) {
    FAILS(open(outside, O_WRONLY), EACCES);
    FAILS(open(outside, O_RDONLY | O_TRUNC), EACCES);
    FAILS(truncate(outside, 0), EACCES);
    FAILS(unlink(outside), EACCES);
    MUST(rename(outside, "stolen") < 0 && link(outside, "stolen") < 0);
    MUST(open(outside, O_RDONLY) >= 0);
    FAILS(mknod("device", S_IFCHR | 0600, 0), EACCES);
    MUST(open("a/x", O_WRONLY | O_TRUNC) >= 0);
    MUST(open("/dev/null", O_WRONLY | O_TRUNC) >= 0);
    MUST(rename("a/x", "b/x") == 0 && rename("b/x", "a/x") == 0);
}

static void keeps_sockets(void) {
    int ends[2];

    for (int family = 0; family < 64; family++)
        if (family != AF_UNIX)
            FAILS(socket(family, SOCK_STREAM, 0), EAFNOSUPPORT);
    FAILS(socketpair(AF_TIPC, SOCK_STREAM, 0, ends), EAFNOSUPPORT);
    FAILS(syscall(SYS_io_uring_setup, 4, NULL), EPERM);
    MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0 && socket(AF_UNIX, SOCK_DGRAM, 0) >= 0);
}

static void run(unsigned what, int abi) {
    int status = 0;
    pid_t pid = fork();

    if (pid == 0) {
        MUST(sandbox_enter(what, abi) == 0);
        if (what & SANDBOX_RO)
            keeps_files();
        else
            MUST(open(outside, O_WRONLY) >= 0 && rename("a/x", "b/x") == (abi == 1 ? -1 : 0) && /* 1 cannot allow it */
                 (abi == 1 || rename("b/x", "a/x") == 0));
        if (what & SANDBOX_NET_OFF)
            keeps_sockets();
        else
            MUST(socket(AF_INET, SOCK_DGRAM, 0) >= 0 || errno == EAFNOSUPPORT);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status)
        print_error("sandbox %u with version %d: line %% 256 %d\n", what, abi, WEXITSTATUS(status));
    assert_int_equal(status, 0);
}

static void each_version(void **state) {
    char why[256];
    if (!sandbox_abi())
        skip();
    for (unsigned what = SANDBOX_RO; what <= (SANDBOX_RO | SANDBOX_NET_OFF); what++) {
        assert_int_equal(sandbox_check(what, why, sizeof(why)), 0);
        for (int abi = what & SANDBOX_RO ? 3 : 1; abi <= sandbox_abi(); abi++)
            run(what, abi);
    }
}

static void all_is_not_its_own(void **state) {
    int status = 0;
    if (!sandbox_abi())
        skip();
    pid_t pid = fork();
    if (pid == 0) {
        MUST(chdir("/") == 0);
        FAILS(sandbox_enter(SANDBOX_RO, sandbox_abi()), EISDIR);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_version, setup, teardown),
        cmocka_unit_test(all_is_not_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
