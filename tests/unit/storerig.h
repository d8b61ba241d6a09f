/* What the tests of the store share: a database in a directory of its own for each. Header only. */
#ifndef PPFS_STORERIG_H
#define PPFS_STORERIG_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sched/db/store.h"

static char dir[64], why[512];
static struct store *st;

static int setup(void **state) {
    strcpy(dir, "/tmp/ppfs-store-XXXXXX");
    return mkdtemp(dir) && store_open(&st, dir, why, sizeof why) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    char command[128];
    store_close(st);
    st = NULL;
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}
#endif
