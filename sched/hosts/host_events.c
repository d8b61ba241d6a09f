/* Events of runners: routed to the owner of a run or lease, or handled here; and this machine as a host. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sched/hosts/hosts.h"
#include "sched/watch/counts.h"
#include "worker/runner/cpus.h"

static const struct work_ops *ops_of(const struct host *h, uint64_t id) {
    return &h->s->ops->work[id & LEASE_BIT ? OPS_LEASE : OPS_RUN];
}

static void begin(const struct host *h) {
    sched_woke(h->s);
    sched_took(h->s, "other events");
}

static void on_output(void *arg, uint64_t id, enum output_kind which, const void *bytes, size_t size) {
    begin(arg);
    ops_of(arg, id)->output(arg, id, which, bytes, size);
    sched_took(((const struct host *)arg)->s, "output");
}

static void on_done(void *arg, uint64_t id, const struct work_outcome *o) {
    begin(arg);
    ops_of(arg, id)->done(arg, id, o);
    sched_took(((const struct host *)arg)->s, "end of a job");
}

static void on_answer(void *arg, uint64_t lease, uint32_t number, enum answer_kind kind, const void *bytes,
                      size_t size) {
    const struct host *h = arg;
    begin(h);
    h->s->ops->answer(arg, lease, number, kind, bytes, size);
    sched_took(h->s, "answer of a call");
}

static void on_recalled(void *arg, uint64_t lease, uint32_t number) {
    const struct host *h = arg;
    begin(h);
    h->s->ops->recalled(arg, lease, number);
}

static void on_trouble(void *arg, const char *sentence) {
    const struct host *h = arg;
    sched_log_about(h->s, h->name, h->remote ? remote_address(h->remote) : NULL, "%s", sentence);
}

static void on_python(void *arg) {
    struct host *h = arg;
    snprintf(h->python, sizeof h->python, "%s", pool_python(h->pool));
    host_changed(h);
}

const struct runner_events host_events = {.output = on_output,
                                          .done = on_done,
                                          .answer = on_answer,
                                          .trouble = on_trouble,
                                          .python = on_python,
                                          /* room(): the turn that follows every event sends more */
                                          .recalled = on_recalled};

int host_create_local(struct sched *s) {
    struct pool_config c = {
        .worker_path = s->c.worker_path, .python = s->c.python, .workers = s->c.cpus, .suid_jobs = s->c.suid_jobs};
    struct host *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    *h = (struct host){.s = s,
                       .name = "local",
                       .cpus = s->c.cpus,
                       .memory = cpus_memory(),
                       .resources = s->c.resources ? *s->c.resources : (struct resources){0},
                       .wish = (int)s->c.cpus,
                       .told = (int)s->c.cpus};
    int rc = host_enlist(s, h);
    if (rc < 0) {
        free(h);
        return rc;
    }
    rc = pool_create(&h->pool, s->c.base, &c, &host_events, h);
    if (rc == 0)
        pool_runner(h->pool, &h->runner);
    host_trace(h);
    return rc;
}
