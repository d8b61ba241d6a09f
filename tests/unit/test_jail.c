/* The jail of the network process: each forbidden thing is tried in a process of its own that has entered it. */
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/untrusted/jail.h"

#if defined(__SANITIZE_ADDRESS__)
#define FILTERED false /* with sanitizers there is no filter */
#else
#define FILTERED true
#endif

enum { PAIR = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC /* the one type that it makes */ };
static pid_t parent;
static int unconnected = -1; /* a socket of TCP, as a dial that failed leaves one */

/* What a child found: its exit status, or minus the signal that killed it. */
static int in_jail(int (*attempt)(void)) {
    parent = getpid();
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        int err;
        uint32_t there = jail_enter(&err);
        _exit((there & JAIL_ALL) == JAIL_ALL && err == 0 ? attempt() : 250);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int as_errno(long result) {
    return result < 0 ? errno : 0;
}

/* --- what answers that it may not --------------------------------------------------------------------------------- */
static int open_a_file(void) {
    return as_errno(open("/etc/passwd", O_RDONLY));
}

static int open_the_root(void) {
    return as_errno(openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY));
}

static int make_a_file(void) {
    return as_errno(open("/tmp/ppfs-test-jail", O_CREAT | O_WRONLY, 0600));
}

static int stat_a_file(void) {
    return as_errno(access("/etc/passwd", F_OK));
}

static int open_internet_socket(void) {
    return as_errno(socket(AF_INET, SOCK_STREAM, 0));
}

static int open_local_socket(void) {
    return as_errno(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int connect_something(void) {
    int ends[2];
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(22), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return socketpair(AF_UNIX, PAIR, 0, ends) ? 251 : as_errno(connect(ends[0], (struct sockaddr *)&at, sizeof(at)));
}

static int connect_by_sending(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    return as_errno(sendto(unconnected, "x", 1, MSG_FASTOPEN | MSG_DONTWAIT, (struct sockaddr *)&at, sizeof(at)));
}

static int connect_by_a_message(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct iovec part = {(void *)"x", 1};
    struct msghdr m = {.msg_name = &at, .msg_namelen = sizeof(at), .msg_iov = &part, .msg_iovlen = 1};

    return as_errno(sendmsg(unconnected, &m, MSG_FASTOPEN | MSG_DONTWAIT));
}

/* Which could write to whoever listens under a path: the log of the system, its manager of services. */
static int make_a_local_datagram_socket(void) {
    int ends[2];

    return as_errno(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends));
}

static int set_another_option(void) {
    int ends[2], on = 1;

    return socketpair(AF_UNIX, PAIR, 0, ends) ? 251
                                              : as_errno(setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
}

static int signal_its_parent(void) {
    return as_errno(kill(parent, 0));
}

static int map_code(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ? errno : 0;
}

static int become_root(void) {
    return as_errno(setuid(0));
}

static int raise_a_limit(void) {
    struct rlimit all = {100, 100};
    return as_errno(setrlimit(RLIMIT_NOFILE, &all));
}

static void what_it_may_not_answers_so(void **state) {
    int (*const attempts[])(void) = {
        open_a_file,       open_the_root,     make_a_file,        stat_a_file,          open_internet_socket,
        open_local_socket, connect_something, set_another_option, signal_its_parent,    map_code,
        become_root,       raise_a_limit,     connect_by_sending, connect_by_a_message, make_a_local_datagram_socket};

    if (!FILTERED)
        skip();
    unconnected = socket(AF_INET, SOCK_STREAM, 0);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++)
        assert_int_equal(in_jail(attempts[i]), EPERM);
    close(unconnected);
}

/* --- what kills --------------------------------------------------------------------------------------------------- */
static int execute(void) {
    return as_errno(execl("/bin/true", "true", NULL));
}

static int make_a_child(void) {
    return as_errno(fork());
}

static int trace(void) {
    return as_errno(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int read_another_process(void) {
    return as_errno(syscall(SYS_process_vm_readv, parent, NULL, 0, NULL, 0, 0));
}

static int load_bpf(void) {
    return as_errno(syscall(SYS_bpf, 0, NULL, 0));
}

static void what_nobody_does_by_mistake_kills(void **state) {
    int (*const attempts[])(void) = {execute, make_a_child, trace, read_another_process, load_bpf};

    if (!FILTERED)
        skip();
    for (size_t i = 0; i < sizeof(attempts) / sizeof(*attempts); i++)
        assert_int_equal(in_jail(attempts[i]), -SIGSYS);
}

/* --- without the filter ------------------------------------------------------------------------------------------- */
/* The other walls hold for themselves. */
static int is_nobody(void) {
    struct rlimit files, processes;

    if (getuid() == 0 || geteuid() == 0 || getgid() == 0)
        return 1;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0)
        return 2;
    return getrlimit(RLIMIT_FSIZE, &files) || getrlimit(RLIMIT_NPROC, &processes) || files.rlim_max ||
                   processes.rlim_max
               ? 3
               : 0;
}

static int is_nobody_filtered(void) {
    return getuid() == 0 || geteuid() == 0;
}

static void it_is_not_root(void **state) {
    if (geteuid() != 0)
        skip();
    assert_int_equal(in_jail(FILTERED ? is_nobody_filtered : is_nobody), 0);
}

/* --- what it needs ------------------------------------------------------------------------------------------------ */
static int do_its_work(void) {
    struct ifaddrs *all;
    char byte = 'x';
    int ends[2];

    if (socketpair(AF_UNIX, PAIR, 0, ends) || write(ends[0], &byte, 1) != 1 || read(ends[1], &byte, 1) != 1)
        return 1;
    if (getifaddrs(&all))
        return 2;
    freeifaddrs(all);
    char *memory = malloc(64 << 20);
    if (!memory)
        return 3;
    memset(memory, 1, 64 << 20);
    free(memory);
    return 0;
}

static void what_it_needs_it_has(void **state) {
    assert_int_equal(in_jail(do_its_work), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_may_not_answers_so),
        cmocka_unit_test(what_nobody_does_by_mistake_kills),
        cmocka_unit_test(it_is_not_root),
        cmocka_unit_test(what_it_needs_it_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
