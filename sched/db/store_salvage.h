/* Brings over what is whole in a damaged state directory. */
#ifndef PPFS_STORE_SALVAGE_H
#define PPFS_STORE_SALVAGE_H
#include "sched/db/store_examine.h"

/* Makes the directory `to`, which is not there or is empty, of what is whole in `from`, which is only read, and tells
 * each thing that stays behind. The number of lines, or -errno: -EBUSY a ppfs uses it, -ENOENT it has no database,
 * -ENOTEMPTY there is something in `to`, -EPROTO its schema is not ours. On failure `to` is no state directory. */
int store_salvage(const char *from, const char *to, examine_told *told, void *arg);
#endif
