#include <linux/capability.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/descriptors.h"
#include "net/privileges.h"
#include "worker/node/node.h"
#include "worker/runner/where.h"

#ifndef PPFS_VERSION
#define PPFS_VERSION "0"
#endif

/* What waits to be sent comes and goes by the megabyte: memory that was given back each time would be cleared anew each
 * time. */
enum { KEEP = 16 * 1024 * 1024 };

/* Of root's capabilities the node keeps what it needs itself: to kill what jobs of other users have started, to have
 * more pipes and descriptors than a user, and to listen below port 1024. */
static void drop_privileges(const struct node_args *a) {
    static const int needed[] = {CAP_KILL, CAP_SYS_RESOURCE, CAP_NET_BIND_SERVICE};
    char worker[PATH_MAX];
    where_worker(worker);
    const char *paths[] = {worker, a->python, a->key_file, a->pid_file, getenv("TMPDIR")};
    int err = privileges_keep(needed, sizeof needed / sizeof *needed, paths, sizeof paths / sizeof *paths);
    if (err)
        fprintf(stderr, "ppfs-node: it keeps all its capabilities: %s\n", strerror(-err));
}

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
    drop_privileges(&a);
    return node_run(&a);
}
