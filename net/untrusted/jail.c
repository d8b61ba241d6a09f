/* Four walls, each of which would do alone: another user without capabilities, limits, Landlock, a filter of system
 * calls. The filter lists the allowed calls. Calls that nobody makes by mistake (executing a program, looking into
 * another process) kill; all others fail with EPERM, so that a C library can try another call. */
#include "net/untrusted/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/untrusted/handshake.h"
#include "net/privileges.h"

/* --- another user ------------------------------------------------------------------------------------------------ */
/* 0, or -errno: the user stays. Without CAP_SETGID groups cannot be dropped; without CAP_SETUID it is no root. */
static int become_nobody(void) {
    if (geteuid() != 0)
        return 0;
    if (setgroups(0, NULL) || setresgid(JAIL_UID, JAIL_UID, JAIL_UID) || setresuid(JAIL_UID, JAIL_UID, JAIL_UID))
        return -errno;
    return 0;
}

/* --- limits ------------------------------------------------------------------------------------------------------ */
static void limit(void) {
    static const int none[] = {RLIMIT_NPROC, RLIMIT_FSIZE, RLIMIT_CORE, RLIMIT_MEMLOCK, RLIMIT_MSGQUEUE};
    struct rlimit zero = {0, 0};

    for (unsigned i = 0; i < sizeof(none) / sizeof(*none); i++)
        setrlimit(none[i], &zero);
}

/* --- files ------------------------------------------------------------------------------------------------------- */
/* linux/landlock.h before 6.12 has a shorter struct. */
struct ruleset {
    uint64_t files, net, scoped;
};

/* A ruleset without rules forbids all that it handles; newer versions of Landlock handle more. */
static uint32_t enter_landlock(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    static const uint64_t files[] = {0, 0x1fff, 0x3fff, 0x7fff, 0x7fff, 0xffff, 0xffff}; /* by version */
    struct ruleset r = {.net = version >= 4 ? 3 : 0 /* bind and connect of TCP */, .scoped = version >= 6 ? 3 : 0};
    size_t size = sizeof(r.files);

    if (version < 1)
        return 0;
    r.files = files[version < 6 ? version : 6];
    if (version >= 4)
        size += sizeof(r.net);
    if (version >= 6)
        size += sizeof(r.scoped);
    long fd = syscall(SYS_landlock_create_ruleset, &r, size, 0);
    if (fd < 0)
        return 0;
    long failed = syscall(SYS_landlock_restrict_self, (int)fd, 0);
    close((int)fd);
    if (failed)
        return 0;
    return JAIL_FILES | (r.scoped ? JAIL_SCOPE : 0);
}

/* --- system calls ------------------------------------------------------------------------------------------------ */
/* clang-format off */
static const int carried[] = {
    /* bytes over sockets that it has, and accept */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg),
    SCMP_SYS(recv), SCMP_SYS(send), SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(close),
    /* waiting, and the time */
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(epoll_ctl), SCMP_SYS(poll), SCMP_SYS(ppoll),
    SCMP_SYS(ppoll_time64), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(clock_gettime), SCMP_SYS(clock_gettime64),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_nanosleep_time64),
    SCMP_SYS(restart_syscall), SCMP_SYS(sched_yield),
    /* memory, locks, random bytes, its end */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(futex), SCMP_SYS(futex_time64),
    SCMP_SYS(getrandom), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigreturn), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid),
};

static const int deadly[] = {
    SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(clone), SCMP_SYS(clone3), SCMP_SYS(bpf),
    SCMP_SYS(kexec_load), SCMP_SYS(init_module), SCMP_SYS(finit_module), SCMP_SYS(mount), SCMP_SYS(setns), SCMP_SYS(unshare),
    SCMP_SYS(io_uring_setup), SCMP_SYS(userfaultfd), SCMP_SYS(perf_event_open), SCMP_SYS(keyctl), SCMP_SYS(add_key),
};
/* clang-format on */

/* An argument of a call. */
#define IS(number, value)                                                                                              \
    { .arg = number, .op = SCMP_CMP_EQ, .datum_a = value }
#define IS_WITHOUT(number, bit)                                                                                        \
    { .arg = number, .op = SCMP_CMP_MASKED_EQ, .datum_a = bit, .datum_b = 0 }

static int allow(scmp_filter_ctx f, int call, unsigned count, const struct scmp_arg_cmp *args) {
    int err = seccomp_rule_add_array(f, SCMP_ACT_ALLOW, call, count, args);
    return err == -EDOM ? 0 : err; /* not a call of this processor */
}

/* Calls that are allowed with some arguments only. */
static const struct rule {
    int call;
    unsigned count;
    struct scmp_arg_cmp args[2];
} rules[] = {
    /* options of its sockets: those of connections, and where a packet to a group goes */
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_TCP), IS(2, TCP_NODELAY)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_TCP), IS(2, TCP_NOTSENT_LOWAT)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_TCP), IS(2, TCP_RTO_MAX_MS)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_IP), IS(2, IP_MULTICAST_IF)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_IP), IS(2, IP_ADD_MEMBERSHIP)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_IPV6), IS(2, IPV6_MULTICAST_IF)}},
    {SCMP_SYS(setsockopt), 2, {IS(1, IPPROTO_IPV6), IS(2, IPV6_ADD_MEMBERSHIP)}},
    /* MSG_FASTOPEN would connect a socket whose dial has failed again, which Landlock does not see */
    {SCMP_SYS(sendto), 1, {IS_WITHOUT(3, MSG_FASTOPEN)}},
    {SCMP_SYS(sendmsg), 1, {IS_WITHOUT(2, MSG_FASTOPEN)}},
    /* a pair of another type could send to any socket with a path */
    {SCMP_SYS(socketpair), 2, {IS(0, AF_UNIX), IS(1, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC)}},
    {SCMP_SYS(mmap), 1, {IS_WITHOUT(2, PROT_EXEC)}},
    {SCMP_SYS(mmap2), 1, {IS_WITHOUT(2, PROT_EXEC)}},
    {SCMP_SYS(mprotect), 1, {IS_WITHOUT(2, PROT_EXEC)}},
    /* its own limits, read only */
    {SCMP_SYS(prlimit64), 2, {IS(0, 0), IS(2, 0)}},
    /* the list of network interfaces; bind is of that socket, as the others are bound */
    {SCMP_SYS(socket), 2, {IS(0, AF_NETLINK), IS(2, NETLINK_ROUTE)}},
    {SCMP_SYS(bind), 0, {{0}}},
};
static const unsigned commands[] = {F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC}; /* of fcntl */

static int enter_filter(void) {
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    int err = f ? 0 : -ENOMEM;

    for (unsigned i = 0; !err && i < sizeof(carried) / sizeof(*carried); i++)
        err = allow(f, carried[i], 0, NULL);
    for (unsigned i = 0; !err && i < sizeof(deadly) / sizeof(*deadly); i++) {
        err = seccomp_rule_add_array(f, SCMP_ACT_KILL_PROCESS, deadly[i], 0, NULL);
        err = err == -EDOM ? 0 : err;
    }
    for (unsigned i = 0; !err && i < sizeof(rules) / sizeof(*rules); i++)
        err = allow(f, rules[i].call, rules[i].count, rules[i].args);
    for (unsigned i = 0; !err && i < sizeof(commands) / sizeof(*commands); i++) {
        const struct scmp_arg_cmp command = IS(1, commands[i]);
        err = allow(f, SCMP_SYS(fcntl), 1, &command);
        if (!err)
            err = allow(f, SCMP_SYS(fcntl64), 1, &command);
    }
    if (!err)
        err = seccomp_load(f);
    if (f)
        seccomp_release(f);
    return err;
}

/* Reports of the sanitizers need calls that the filter forbids. */
static bool sanitized(void) {
#ifdef __SANITIZE_ADDRESS__
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return true;
#endif
#endif
    return false;
}

uint32_t jail_enter(int *err) {
    pid_t starter = getppid();
    uint32_t there = 0;

    for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
        continue;
    *err = become_nobody();
    if (!*err)
        there |= JAIL_USER;
    privileges_none();
    limit();
    if (!sanitized())
        dup2(STDIN_FILENO, STDERR_FILENO);
    prctl(PR_SET_DUMPABLE, 0); /* other processes of this user cannot look into it */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != starter) /* the parent has died meanwhile */
        _exit(0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    there |= enter_landlock();
    int failed = sanitized() ? 0 : enter_filter();
    if (!failed)
        there |= JAIL_CALLS;
    if (!*err)
        *err = failed;
    return there;
}
