/* What the process of a worker was before its first call, and putting it back after each. The Python in it is
 * order.py's; the whole table is in README.md. */
#ifndef PPFS_ORDER_H
#define PPFS_ORDER_H
#include <stdbool.h>

void order_note(int link); /* takes note; link: the worker's end of it */

/* Whether all is as noted, by some 40 system calls. Needed where somebody may have called the kernel without the
 * functions of watch.h. */
bool order_same(void);
bool order_rounding_same(void); /* the row of it that takes no system call */
/* Puts back what differs. False: something cannot be, and the worker must leave. Where the link itself is another file
 * the process ends. */
bool order_restore(void);
/* puts the flags of 1, 2 and the link back: those of the open file, which children share */
void order_descriptors(void);
#endif
