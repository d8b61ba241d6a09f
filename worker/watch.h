/* Whether something in this process called one of libc's functions that change what a process is. This program defines
 * them itself, by the dynamic linker's rule that a program's own definition comes first (watch.list exports them), notes
 * the call and passes it on: so a look after each call costs no system call. What goes round libc or finds it by ctypes
 * is not seen here; order.c then compares. */
#ifndef PPFS_WATCH_H
#define PPFS_WATCH_H
#include <stdbool.h>

/* touched: something was changed that order_restore looks at. beyond: something that nobody can put back. Both may be
 * set without reason, by a process that shared our memory until it executed a program, say. */
struct watch {
    bool touched, beyond;
    int link; /* besides 0, 1 and 2, the descriptor that matters */
};
extern struct watch watch;
#endif
