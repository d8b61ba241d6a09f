#include <stdio.h>

#include "worker/node.h"

#ifndef PPFS_VERSION
#define PPFS_VERSION "0"
#endif

int main(int argc, char **argv) {
    struct node_args a;

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
    return node_run(&a);
}
