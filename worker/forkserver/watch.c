/* The definitions have names of their own in C, for the headers may give a function another symbol (fcntl64), and the
 * symbol as their name for the linker. Arguments behind a fixed one are passed on as a long each, as they would be in
 * registers. */
#include "worker/forkserver/watch.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
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

/* Calls by libraries of threads and of random numbers change nothing. */
static void watch_syscall(long number) {
    if (number != SYS_gettid && number != SYS_futex && number != SYS_getrandom && number != SYS_getcpu)
        watch.touched = true;
}

/* A function of libc, and its replacement here. */
enum { PASSED_ON_MAX = 64 };
typedef void function(void);
static struct { function *libc, *watched; } passed_on[PASSED_ON_MAX];
static size_t passed_on_count;

#define PASS_ON(type, name, params, args, noted)                                                                       \
    type watched_##name params __asm__(#name);                                                                         \
    static type(*next_##name) params;                                                                                  \
    static __attribute__((constructor, no_sanitize("address"))) void find_##name(void) { /* that begins after us */    \
        if (next_##name)                                                                                               \
            return;                                                                                                    \
        next_##name = (type(*) params)dlsym(RTLD_NEXT, #name);                                                         \
        if (next_##name && passed_on_count < PASSED_ON_MAX)                                                            \
            passed_on[passed_on_count++] = (typeof(*passed_on)){(function *)next_##name, (function *)watched_##name};  \
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
PASS_ON(ssize_t, write, (int a, ptr b, size_t c), (a, b, c), if (a == 2) watch.printed = true)
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

/* --- libffi ------------------------------------------------------------------------------------------------------ */
/* Each library that calls foreign functions has a libffi that it was linked with, perhaps of another version than the
 * next one's; which one is found by the place that the call comes from, and kept. */
enum { PLACES = 64 };
typedef void ffi_call_fn(ptr cif, function *called, ptr value, ptr values);
static struct {
    _Atomic(void *) from;
    ffi_call_fn *next;
} places[PLACES];
static atomic_uint places_used;

/* The ffi_call that the library in that file was linked with, NULL: none. */
static ffi_call_fn *ffi_call_of(const char *file) {
    void *library = file ? dlopen(file, RTLD_LAZY | RTLD_NOLOAD) : NULL;
    void *found = library ? dlsym(library, "ffi_call") : NULL;

    if (library)
        dlclose(library); /* whoever loaded it still has it */
    return (ffi_call_fn *)found;
}

bool watch_foreign(const char *file) {
    Dl_info there;
    void *found = (void *)ffi_call_of(file);

    return found && dladdr(found, &there) && strcmp(there.dli_fname, file) != 0;
}

static ffi_call_fn *find_ffi_call(void *from) {
    Dl_info caller;
    ffi_call_fn *next = dladdr(from, &caller) ? ffi_call_of(caller.dli_fname) : NULL;

    if (!next) /* it cannot have linked with us */
        abort();
    unsigned i = atomic_fetch_add(&places_used, 1);
    if (i < PLACES) {
        places[i].next = next;
        atomic_store(&places[i].from, from);
    }
    return next;
}

void watched_ffi_call(ptr cif, function *called, ptr value, ptr values) __asm__("ffi_call");
void watched_ffi_call(ptr cif, function *called, ptr value, ptr values) {
    void *from = __builtin_return_address(0);
    ffi_call_fn *next = NULL;
    int before = errno; /* ctypes gives it to the function */

    for (size_t i = 0; !next && i < PLACES && atomic_load(&places[i].from); i++)
        next = atomic_load(&places[i].from) == from ? places[i].next : NULL;
    if (!next)
        next = find_ffi_call(from);
    for (size_t i = 0; i < passed_on_count; i++) /* who asks the dynamic linker for libc's own gets that */
        if (called == passed_on[i].libc)
            called = passed_on[i].watched;
    watch.foreign = true;
    errno = before;
    next(cif, called, value, values);
}
