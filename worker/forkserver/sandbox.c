/* Landlock keeps a process from files; it needs no privilege, and cannot be left. Before Linux 6.2 it does not know
 * cutting files short, so what a job is to leave alone could be emptied: ro is refused there. Of sockets it knows
 * little, so a seccomp filter refuses those. Being in a Landlock domain also keeps the job from tracing processes
 * outside, and so from their files, memory and sockets.
 *
 * The numbers are the kernel's: the headers that we are built with may be older than the kernel that we run on. */
#include "worker/forkserver/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif

#if defined(__x86_64__)
#define OUR_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define OUR_ARCH AUDIT_ARCH_RISCV64
#endif /* elsewhere socketcall makes sockets of all kinds, which a filter cannot tell apart, or it is untested */

enum { RULESET_VERSION = 1, RULE_PATH = 1 };
enum { ABI_REFER = 2, ABI_TRUNCATE = 3, ABI_NET = 4, ABI_IOCTL = 5, ABI_SCOPE = 6 };

#define WRITE_FILE (1u << 1)
#define REMOVE_DIR (1u << 4)
#define REMOVE_FILE (1u << 5)
#define MAKE_CHAR (1u << 6)
#define MAKE_OTHER (1u << 7 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 12) /* directories, files, sockets, FIFOs, links */
#define MAKE_BLOCK (1u << 11)
#define REFER (1u << 13)
#define TRUNCATE (1u << 14)
#define IOCTL_DEV (1u << 15)
#define NET_TCP (1u << 0 | 1u << 1)
#define SCOPE_ABSTRACT (1u << 0)

struct ruleset {
    uint64_t files, net, scoped;
};
struct __attribute__((packed)) path_rule {
    uint64_t allowed;
    int32_t parent;
};

int sandbox_abi(void) {
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, RULESET_VERSION);

    return abi > 0 ? (int)abi : 0;
}

/* --- files -------------------------------------------------------------------------------------------------------- */
/* Allows access at path, and below it if it is a directory. A missing path needs no rule. */
static int allow(int ruleset, const char *path, uint64_t access) {
    struct path_rule rule = {.allowed = access, .parent = access ? open(path, O_PATH | O_CLOEXEC) : -1};

    if (!access)
        return 0;
    if (rule.parent < 0)
        return errno == ENOENT || errno == EACCES || errno == ENOTDIR ? 0 : -1;
    long err = syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &rule, 0);
    int saved = errno;
    close(rule.parent);
    errno = saved;
    return (int)err;
}

static int allow_writing(int ruleset, int abi) {
    static const char *const places[] = {".", "/tmp", "/dev/shm"};
    static const char *const devices[] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                          "/dev/random", "/dev/urandom", "/dev/tty"};
    /* No device nodes: through one, a job of root's could write a whole disk. */
    const uint64_t all = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_OTHER | REFER | TRUNCATE;

    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        if (allow(ruleset, places[i], all))
            return -1;
    for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
        if (allow(ruleset, devices[i], WRITE_FILE | TRUNCATE | (abi < ABI_IOCTL ? 0u : IOCTL_DEV)))
            return -1;
    return 0;
}

static int enter_landlock(unsigned what, int abi) {
    struct ruleset r = {0};
    int err = -1;

    if (what & SANDBOX_RO)
        r.files = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_CHAR | MAKE_OTHER | MAKE_BLOCK | REFER | TRUNCATE |
                  (abi < ABI_IOCTL ? 0u : IOCTL_DEV);
    if (what & SANDBOX_NET_OFF && abi >= ABI_NET)
        r.net = NET_TCP;
    if (what & SANDBOX_NET_OFF && abi >= ABI_SCOPE)
        r.scoped = SCOPE_ABSTRACT;
    if (!r.files && !r.net) /* a domain without a rule would restrict almost nothing */
        r.files = abi >= ABI_REFER ? REFER : MAKE_BLOCK;
    int ruleset = (int)syscall(SYS_landlock_create_ruleset, &r, sizeof(r), 0);
    if (ruleset < 0)
        return -1;
    if (what & SANDBOX_RO ? !allow_writing(ruleset, abi) : !allow(ruleset, "/", r.files & REFER))
        err = (int)syscall(SYS_landlock_restrict_self, ruleset, 0);
    int saved = errno;
    close(ruleset);
    errno = saved;
    return err;
}

/* --- system calls ------------------------------------------------------------------------------------------------- */
#ifdef OUR_ARCH
struct filter {
    struct sock_filter code[32];
    unsigned short len;
};

static void add(struct filter *f, unsigned op, uint32_t k, unsigned jt, unsigned jf) {
    f->code[f->len++] = (struct sock_filter){(uint16_t)op, (uint8_t)jt, (uint8_t)jf, k};
}

static void load(struct filter *f, size_t offset) {
    add(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset, 0, 0);
}

static void end(struct filter *f, uint32_t how) {
    add(f, BPF_RET | BPF_K, how, 0, 0);
}

/* If the loaded number is k: fail with that error. */
static void refuse_call(struct filter *f, uint32_t k, int error) {
    add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 1);
    end(f, SECCOMP_RET_ERRNO | (uint32_t)error);
}

/* If the loaded number is k: allow a local first argument, else fail as for an unknown family. */
static void refuse_nonlocal(struct filter *f, uint32_t k) {
    add(f, BPF_JMP | BPF_JEQ | BPF_K, k, 0, 4);
    load(f, offsetof(struct seccomp_data, args[0])); /* the lower half: all these processors are little endian */
    add(f, BPF_JMP | BPF_JEQ | BPF_K, AF_UNIX, 0, 1);
    end(f, SECCOMP_RET_ALLOW);
    end(f, SECCOMP_RET_ERRNO | EAFNOSUPPORT);
}

static int enter_filter(void) {
    struct filter f = {.len = 0};

    load(&f, offsetof(struct seccomp_data, arch));
    add(&f, BPF_JMP | BPF_JEQ | BPF_K, OUR_ARCH, 1, 0);
    end(&f, SECCOMP_RET_KILL_PROCESS); /* calls of another processor have other numbers */
    load(&f, offsetof(struct seccomp_data, nr));
#ifdef __x86_64__
    add(&f, BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1); /* x32 */
    end(&f, SECCOMP_RET_ERRNO | ENOSYS);
#endif
    refuse_call(&f, SYS_io_uring_setup, EPERM); /* io_uring makes sockets without a system call for each */
    refuse_nonlocal(&f, SYS_socket);
    refuse_nonlocal(&f, SYS_socketpair);
    end(&f, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {f.len, f.code};
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
}
#else
static int enter_filter(void) {
    errno = EOPNOTSUPP;
    return -1;
}
#endif

static bool has_filters(void) {
#ifdef OUR_ARCH
    uint32_t action = SECCOMP_RET_ERRNO;

    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
#else
    return false;
#endif
}

/* --- both --------------------------------------------------------------------------------------------------------- */
int sandbox_check(unsigned what, char *why, size_t why_size) {
    int abi = sandbox_abi();
    const char *const options[] = {"", "ro", "net-off", "ro,net-off"}, *lacks = NULL;

    if (!abi)
        lacks = "Landlock is not in this machine's kernel, or switched off (it has it from Linux 5.13 on)";
    else if (what & SANDBOX_RO && abi < ABI_TRUNCATE)
        lacks =
            "Landlock in this machine's kernel does not know yet that files are cut short (it does from Linux 6.2 on)";
    else if (what & SANDBOX_NET_OFF && !has_filters())
        lacks =
            "this machine's kernel has no filters of system calls (seccomp), or they are not made for its processors";
    if (lacks)
        snprintf(why, why_size, "sandbox=%s cannot be had here: %s; run it elsewhere (node=), or without",
                 options[what & 3], lacks);
    return lacks ? -1 : 0;
}

int sandbox_enter(unsigned what, int abi) {
    struct stat own, all;

    if (what & SANDBOX_RO && (stat(".", &own) || stat("/", &all)))
        return -1;
    if (what & SANDBOX_RO && own.st_dev == all.st_dev && own.st_ino == all.st_ino) {
        errno = EISDIR; /* every file would be below its own directory */
        return -1;
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || enter_landlock(what, abi))
        return -1;
    return what & SANDBOX_NET_OFF ? enter_filter() : 0;
}
