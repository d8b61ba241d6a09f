/* The workers of a node. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/descriptors.h"
#include "worker/node/node.h"
#include "worker/runner/pyenv.h"
#include "worker/runner/where.h"

enum { NODE_FDS = 64 /* of its own */, SLOT_FDS = 4 /* of a worker, and the file of what it runs */ };

unsigned node_slots(unsigned wanted) {
    unsigned most = descriptors_limit() > NODE_FDS ? (descriptors_limit() - NODE_FDS) / SLOT_FDS : 0;

    if (wanted <= most)
        return wanted;
    if (!most)
        most = 1;
    node_say("%u slots instead of %u, for there are only %u descriptors (ulimit -Hn)", most, wanted,
             descriptors_limit());
    return most;
}

int node_pool(const struct node_args *a, unsigned cpus, struct event_base *base, struct agent *agent, struct pool **out,
              char *why, size_t size) {
    char worker[PATH_MAX], *program = NULL;
    struct pool_config config = {.worker_path = worker,
                                 .python = a->python,
                                 .workers = cpus,
                                 .suid_jobs = a->suid_jobs,
                                 .check_groups = true,
                                 .give_back = true};
    struct runner runner;

    where_worker(worker);
    int err = pyenv_resolve(a->python, &program, why, size);
    free(program);
    if (!err && access(worker, X_OK)) {
        err = -errno;
        snprintf(why, size, "%.800s cannot be run: %s (is ppfs installed completely?)", worker, strerror(-err));
    }
    if (!err && (err = pool_create(out, base, &config, &agent_runner_events, agent)))
        snprintf(why, size, "the workers cannot be started: %s", strerror(-err));
    if (err)
        return err;
    pool_runner(*out, &runner);
    agent_set_runner(agent, runner);
    return 0;
}
