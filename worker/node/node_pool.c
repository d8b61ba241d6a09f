/* The workers of a node. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "worker/node/node.h"
#include "worker/runner/pyenv.h"
#include "worker/runner/where.h"

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
