/* The definitions have names of their own in C, for the headers may give a function another symbol (fcntl64), and the
 * symbol as their name for the linker. Arguments behind a fixed one are passed on as a long each, as they would be in
 * registers. */
#include "worker/watch.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

struct watch watch = {.link = -1};

static bool ours(int fd) {
    return (fd >= 0 && fd <= 2) || fd == watch.link;
}

/* PR_SET_NAME can be put back; what is only asked for changes nothing; the rest is a process of another kind. */
static void watch_prctl(int option) {
    static const int asked[] = {PR_GET_PDEATHSIG,  PR_GET_DUMPABLE,    PR_GET_KEEPCAPS,        PR_GET_TIMING,
                                PR_GET_NAME,       PR_GET_SECCOMP,     PR_CAPBSET_READ,        PR_GET_SECUREBITS,
                                PR_GET_TIMERSLACK, PR_GET_TID_ADDRESS, PR_GET_CHILD_SUBREAPER, PR_GET_NO_NEW_PRIVS,
                                PR_GET_THP_DISABLE};

    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++)
        if (option == asked[i])
            return;
    if (option == PR_SET_NAME)
        watch.touched = true;
    else
        watch.touched = watch.beyond = true;
}

/* What libraries of threads and of chance call so changes nothing. */
static void watch_syscall(long number) {
    if (number != SYS_gettid && number != SYS_futex && number != SYS_getrandom && number != SYS_getcpu)
        watch.touched = true;
}

#define PASS_ON(type, name, params, args, noted)                                                                       \
    type watched_##name params __asm__(#name);                                                                         \
    static type(*next_##name) params;                                                                                  \
    static __attribute__((constructor)) void find_##name(void) {                                                       \
        next_##name = (type(*) params)dlsym(RTLD_NEXT, #name);                                                         \
    }                                                                                                                  \
    type watched_##name params {                                                                                       \
        if (!next_##name) /* another library's constructor */                                                          \
            find_##name();                                                                                             \
        noted;                                                                                                         \
        return next_##name args;                                                                                       \
    }

#define TOUCH watch.touched = true
#define BEYOND watch.touched = watch.beyond = true
#define TOUCH_FD(fd)                                                                                                   \
    if (ours(fd))                                                                                                      \
    watch.touched = true

/* Their arguments are passed on and not looked at: a pointer stands for any. */
typedef const void *ptr;

/* clang-format off */
PASS_ON(int, nice, (int a), (a), TOUCH)
PASS_ON(int, setpriority, (int a, unsigned b, int c), (a, b, c), TOUCH)
PASS_ON(int, sched_setparam, (int a, ptr b), (a, b), TOUCH)
PASS_ON(int, sched_setscheduler, (int a, int b, ptr c), (a, b, c), TOUCH)
PASS_ON(int, sched_setaffinity, (int a, size_t b, ptr c), (a, b, c), TOUCH)
PASS_ON(int, pthread_setaffinity_np, (unsigned long a, size_t b, ptr c), (a, b, c), TOUCH)
PASS_ON(int, pthread_setschedparam, (unsigned long a, int b, ptr c), (a, b, c), TOUCH)
PASS_ON(int, pthread_setname_np, (unsigned long a, ptr b), (a, b), TOUCH)
PASS_ON(unsigned, umask, (unsigned a), (a), TOUCH)
PASS_ON(int, setrlimit, (int a, ptr b), (a, b), TOUCH)
PASS_ON(int, setrlimit64, (int a, ptr b), (a, b), TOUCH)
PASS_ON(int, prlimit, (int a, int b, ptr c, ptr d), (a, b, c, d), TOUCH)
PASS_ON(int, prlimit64, (int a, int b, ptr c, ptr d), (a, b, c, d), TOUCH)
PASS_ON(int, sigaction, (int a, ptr b, ptr c), (a, b, c), if (b) TOUCH)
PASS_ON(ptr, signal, (int a, ptr b), (a, b), TOUCH)
PASS_ON(int, sigprocmask, (int a, ptr b, ptr c), (a, b, c), if (b) TOUCH)
PASS_ON(int, pthread_sigmask, (int a, ptr b, ptr c), (a, b, c), if (b) TOUCH)
PASS_ON(int, setitimer, (int a, ptr b, ptr c), (a, b, c), TOUCH)
PASS_ON(unsigned, alarm, (unsigned a), (a), TOUCH)
PASS_ON(unsigned, ualarm, (unsigned a, unsigned b), (a, b), TOUCH)
PASS_ON(int, timer_create, (int a, ptr b, ptr c), (a, b, c), BEYOND)
PASS_ON(ptr, setlocale, (int a, ptr b), (a, b), if (b) TOUCH)
PASS_ON(int, chdir, (ptr a), (a), TOUCH)
PASS_ON(int, fchdir, (int a), (a), TOUCH)
PASS_ON(int, chroot, (ptr a), (a), TOUCH)
PASS_ON(int, dup2, (int a, int b), (a, b), TOUCH_FD(b))
PASS_ON(int, dup3, (int a, int b, int c), (a, b, c), TOUCH_FD(b))
PASS_ON(int, close, (int a), (a), TOUCH_FD(a))
PASS_ON(int, close_range, (unsigned a, unsigned b, int c), (a, b, c), if (a <= 2 || a <= (unsigned)watch.link) TOUCH)
PASS_ON(void, closefrom, (int a), (a), TOUCH)
PASS_ON(int, fcntl, (int a, int b, long c), (a, b, c), if (b == F_SETFL) { TOUCH_FD(a); })
PASS_ON(int, fcntl64, (int a, int b, long c), (a, b, c), if (b == F_SETFL) { TOUCH_FD(a); })
PASS_ON(int, ioctl, (int a, unsigned long b, long c), (a, b, c), if (b == FIONBIO) { TOUCH_FD(a); })
PASS_ON(int, prctl, (int a, long b, long c, long d, long e), (a, b, c, d, e), watch_prctl(a))
PASS_ON(long, syscall, (long a, long b, long c, long d, long e, long f, long g), (a, b, c, d, e, f, g), watch_syscall(a))
PASS_ON(int, setuid, (unsigned a), (a), TOUCH)
PASS_ON(int, setgid, (unsigned a), (a), TOUCH)
PASS_ON(int, seteuid, (unsigned a), (a), TOUCH)
PASS_ON(int, setegid, (unsigned a), (a), TOUCH)
PASS_ON(int, setreuid, (unsigned a, unsigned b), (a, b), TOUCH)
PASS_ON(int, setregid, (unsigned a, unsigned b), (a, b), TOUCH)
PASS_ON(int, setresuid, (unsigned a, unsigned b, unsigned c), (a, b, c), TOUCH)
PASS_ON(int, setresgid, (unsigned a, unsigned b, unsigned c), (a, b, c), TOUCH)
PASS_ON(int, setgroups, (size_t a, ptr b), (a, b), BEYOND)
PASS_ON(int, initgroups, (ptr a, unsigned b), (a, b), BEYOND)
PASS_ON(int, setpgid, (int a, int b), (a, b), TOUCH)
PASS_ON(int, setsid, (void), (), TOUCH)
PASS_ON(int, unshare, (int a), (a), BEYOND)
PASS_ON(int, setns, (int a, int b), (a, b), BEYOND)
PASS_ON(int, personality, (unsigned long a), (a), if (a != 0xffffffff) BEYOND)
/* clang-format on */
