/* Whether something in this process called one of libc's functions that change what a process is. This program defines
 * them itself, by the dynamic linker's rule that a program's own definition comes first (watch.list exports them),
 * notes the call and passes it on: so a look after each call costs no system call. ctypes and cffi find any function
 * and call it through libffi's ffi_call, which is defined here too; order.c then compares. */
#ifndef PPFS_WATCH_H
#define PPFS_WATCH_H
#include <stdbool.h>

/* touched: something was changed that order_restore looks at. beyond: something that nobody can put back. foreign: a
 * function was called that may have changed anything. printed: something was written to stderr. All may be set without
 * reason, by a process that shared our memory until it executed a program, say. */
struct watch {
    bool touched, beyond, foreign, printed;
    int link; /* besides 0, 1 and 2, the descriptor that matters */
};
extern struct watch watch;

/* Whether watch.foreign notices calls that the loaded library in that file makes by libffi. It does not where a libffi
 * is linked into the library. */
bool watch_foreign(const char *file);
#endif
