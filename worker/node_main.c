#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/descriptors.h"
#include "worker/node.h"

#ifndef PPFS_VERSION
#define PPFS_VERSION "0"
#endif

/* What waits to be sent comes and goes by the megabyte: memory that was given back each time would be cleared anew each time. */
enum { KEEP = 16 * 1024 * 1024 };

int main(int argc, char **argv) {
    struct node_args a;

    descriptors_standard();
    descriptors_raise();
    if (node_args_read(&a, argc, argv))
        return 2;
    if (a.help) {
        node_args_help();
        return 0;
    }
    if (a.version) {
        puts("ppfs-node " PPFS_VERSION);
        return 0;
    }
    mallopt(M_TRIM_THRESHOLD, KEEP);
    unsetenv("PPFS"); /* a mount of this machine, if it is one at all, and jobs come from another's */
    return node_run(&a);
}
