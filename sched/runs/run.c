/* Attempts under way. A run is made when a job is written as running, handed to the pool after that is committed,
 * gathers what the job writes, and goes when its end is committed. Its memory follows the database, never leads it. */
#include <errno.h>
#include <inttypes.h>
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "sched/hosts/registry.h"
#include "sched/runs/run.h"
#include "sched/runs/run_files.h"
#include "sched/runs/state.h"

struct run *run_find(struct sched *s, uint64_t job) {
    struct run **found = tfind(&job, &s->runs->tree, ids_compare);
    return found ? *found : NULL;
}

void run_each(struct sched *s, void (*visit)(const void *node, VISIT visit, void *arg), void *arg) {
    twalk_r(s->runs->tree, visit, arg);
}

/* --- slots ------------------------------------------------------------------------------------------------------- */

static bool occupies(const struct run *r) {
    return r->state <= RUN_RUNNING;
}

static void set_state(struct run *r, enum run_state state) {
    bool before = occupies(r);
    r->state = state;
    r->use.over = !occupies(r);
    if (before && !occupies(r)) {
        run_files_end(r);
        r->host->used -= r->use.cpus;
        if (!r->use.lent) {
            user_holds(r->user, -(int)r->use.cpus);
            limit_holds(r->limit, -1, false);
        }
        host_room(r->host);
        run_lend(r, false);
        host_hold_memory(r->host, r->use.memory, false);
        host_give_resources(r->host, r->use.resources);
    }
}

void run_lend(struct run *r, bool lend) {
    if (r->use.lent == lend)
        return;
    r->use.lent = lend;
    r->host->lent += lend ? r->use.cpus : -r->use.cpus;
    host_hold_memory(r->host, r->use.memory, !lend);
    lend_count(r->user, lend);
    limit_lends(r->limit, lend, false);
    if (occupies(r))
        user_holds(r->user, lend ? -(int)r->use.cpus : (int)r->use.cpus);
    else
        limit_holds(r->limit, lend ? 1 : -1, false);
    host_resize(r->host);
}

static void free_run(void *node) {
    struct run *r = node;
    event_drop(r->timeout);
    run_output_free(r);
    run_files_free(r);
    free(r);
}

static void run_free_now(struct run *r) {
    struct sched *s = r->s;
    struct host *h = r->host;
    set_state(r, RUN_ENDED);
    r->user->live -= r->live_bytes;
    tdelete(&r->id, &s->runs->tree, ids_compare);
    h->runs--;
    LIST_REMOVE(&r->use, mates);
    free_run(r);
    host_vacant(h);
}

/* --- starting ---------------------------------------------------------------------------------------------------- */

int run_start(struct sched *s, struct job_row *row, struct host *h, unsigned also_save) {
    struct job *j = &row->job;
    if (run_find(s, j->id))
        return -EBUSY;
    struct run *r = calloc(1, sizeof *r);
    struct user *u = user_of(s, j->uid);
    if (!r || !u) {
        free(r);
        return sched_check(s, -ENOMEM);
    }
    *r = (struct run){.id = j->id,
                      .s = s,
                      .user = u,
                      .stream = row->stream,
                      .call = row->call,
                      .live = run_output_live(row),
                      .host = h,
                      .at = h,
                      .attempt = ++j->attempt,
                      .use = {.cpus = j->cpus,
                              .uid = j->uid,
                              .memory = constraint_parse(row->place).memory,
                              .function = estimate_of_job(s, j, row->stream)},
                      .state = RUN_STARTING};
    j->why[0] = 0;
    strcpy(j->node, h->name);
    if (sched_transition(s, row, JOB_RUNNING, also_save) < 0 || !tsearch(&r->id, &s->runs->tree, ids_compare)) {
        free(r);
        return sched_check(s, -ENOMEM);
    }
    estimate_tries(h, r->use.function);
    h->runs++;
    LIST_INSERT_HEAD(&h->under_way, &r->use, mates);
    h->used += r->use.cpus;
    host_hold_memory(h, r->use.memory, true);
    host_take_resources(h, row->place, r->use.resources);
    user_holds(u, (int)r->use.cpus);
    r->limit = limit_of(s, row->place);
    limit_holds(r->limit, 1, false);
    SLIST_INSERT_HEAD(&s->runs->starts, r, next);
    return 0;
}

static void on_timeout(evutil_socket_t fd, short what, void *arg) {
    struct run *r = arg;
    if (r->state != RUN_RUNNING || r->fate != FATE_NONE)
        return;
    r->fate = FATE_TIMEOUT;
    if (r->at->runner.ops)
        runner_kill(r->at->runner, r->id);
}

static int arm_timeout(struct run *r, int64_t us) {
    struct timeval t = {us / 1000000, us % 1000000};
    if (us == 0 || r->timeout) /* of an earlier leg */
        return 0;
    r->timeout = evtimer_new(r->s->c.base, on_timeout, r);
    return r->timeout && evtimer_add(r->timeout, &t) == 0 ? 0 : -ENOMEM;
}

/* Everything that the runner is told comes from the database, as committed. */
static int hand_over(struct sched *s, struct run *r) {
    struct job_work all;
    struct body b = {0};
    char path[SPOOL_PATH], pack[RUN_PACK_PATH];
    int rc = run_work(s, r->id, &all);
    uint64_t spec = rc == 0 && all.row.array ? all.row.array : r->id;
    if (rc == 0)
        rc = run_add_environment(&all, r);
    if (rc == 0)
        rc = store_body_get(s->store, spec, BODY_SPEC, &b);
    int64_t n = rc == 0 && !b.file ? store_body_read(s->store, spec, BODY_SPEC, s->scratch, INLINE_MAX, 0) : 0;
    if (rc == 0 && n < 0)
        rc = (int)n;
    if (rc == 0) {
        struct work *w = &all.work;
        w->attempt = r->attempt;
        w->node = r->host->name;
        if (!w->cwd_required && writer_is_inside(s, w->cwd))
            w->cwd = "";
        w->memory = all.options->memory;
        if (b.file)
            w->file = spool_path(s->spool, (struct spool_name){spec, BODY_SPEC, b.file}, path);
        w->payload = s->scratch;
        w->payload_size = (uint32_t)n;
        /* it may have gone since it was chosen */
        rc = r->host->runner.ops ? arm_timeout(r, all.options->timeout_us) : -EPIPE;
        if (rc == 0)
            rc = run_files_begin(r, &all, b.file, pack);
        if (rc == 0)
            rc = runner_start(r->host->runner, w);
        r->begun = rc >= 0;
        r->use.began = clock_us();
    }
    run_work_free(&all);
    return rc < 0 ? rc : 0;
}

bool run_begin(struct run *r) {
    int rc = hand_over(r->s, r);
    if (rc == 0)
        return true;
    r->outcome =
        (struct work_outcome){.attempt = r->attempt, .end = rc == -EAGAIN || rc == -EPIPE ? WORK_LOST : WORK_REFUSED};
    const char *why = run_files_why(rc);
    if (!why)
        why = strerror(-rc);
    if (rc == -EMSGSIZE)
        why = "its env=, needs= and gives= are more than 64 KiB, with its name and directory";
    else if (rc == -EIO)
        why = "its file is damaged on the disk, or that cannot be read";
    snprintf(r->outcome.why, sizeof r->outcome.why, "could not be started: %s", why);
    if (rc == -EAGAIN)
        host_short(r->host);
    return false;
}

void run_committed(struct sched *s) {
    for (struct run *r; (r = SLIST_FIRST(&s->runs->ended));) {
        SLIST_REMOVE_HEAD(&s->runs->ended, next);
        run_free_now(r);
    }
    for (struct run *r; (r = SLIST_FIRST(&s->runs->starts));) {
        SLIST_REMOVE_HEAD(&s->runs->starts, next);
        r->state = RUN_RUNNING;
        if (r->fate == FATE_DROPPED) { /* started and cancelled in one turn */
            run_free_now(r);
            continue;
        }
        if (!run_begin(r))
            run_finish(r);
    }
    for (size_t i = 0; i < s->runs->kills.count; i++) {
        struct run *r = run_find(s, s->runs->kills.items[i]);
        if (r && r->at->runner.ops)
            runner_kill(r->at->runner, r->id);
    }
    s->runs->kills.count = 0;
}

static void wanted_again(const void *node, VISIT visit, void *arg) {
    struct run *r = *(struct run *const *)node;
    if ((visit == postorder || visit == leaf) && r->fate == FATE_DROPPED)
        r->fate = FATE_NONE;
}

/* Of those that an earlier turn dropped, finish() finds that their row says so. */
void run_rolled_back(struct sched *s) {
    twalk_r(s->runs->tree, wanted_again, NULL);
    s->runs->kills.count = 0;
    for (struct run *r; (r = SLIST_FIRST(&s->runs->starts));) {
        SLIST_REMOVE_HEAD(&s->runs->starts, next);
        run_free_now(r);
    }
    for (struct run *r; (r = SLIST_FIRST(&s->runs->ended));) { /* written again at the retry */
        SLIST_REMOVE_HEAD(&s->runs->ended, next);
        r->state = RUN_ENDING;
    }
}

/* --- ending ------------------------------------------------------------------------------------------------------ */

/* The run that a host speaks of, if it is still its. */
struct run *run_of(struct host *h, uint64_t job) {
    struct run *r = run_find(h->s, job);
    return r && r->at == h ? r : NULL;
}

/* The next attempt comes after 1, 2, 4 ... 60 seconds. */
static int try_again(struct sched *s, struct job_row *row) {
    unsigned n = row->job.failures - 1;
    int64_t pause = n < 6 ? 1 << n : RETRY_PAUSE_MAX;
    row->job.not_before = sched_steady(s) + pause * 1000000;
    int rc = sched_transition(s, row, JOB_WAITING, 0);
    sched_set_due(s);
    return rc;
}

static int write_failure(struct sched *s, const struct run *r, struct job_row *row, int error) {
    struct options *o = NULL;
    int rc = submit_options(s, row, &o);
    if (rc < 0 && rc != -EINVAL)
        return sched_check(s, rc);
    row->job.failures++;
    bool again = rc == 0 && (int64_t)row->job.failures <= o->retries;
    options_destroy(o);
    host_count(r->host, 0, 1, 0);
    return again ? try_again(s, row) : sched_fail(s, row, error, row->job.why, 0);
}

static int queue_again(struct sched *s, struct run *r, struct job_row *row) {
    run_output_drop(r);
    store_ready_turn(s->store, &row->job, &row->turn);
    backlog_mark(s, row);
    return sched_transition(s, row, JOB_QUEUED, 0);
}

/* Nobody's fault: to the queue again, until it was there at too many deaths. */
static int write_lost(struct sched *s, struct run *r, struct job_row *row) {
    row->job.deaths += r->begun;
    row->job.attempt -= !r->begun; /* nobody has seen that one */
    if (row->job.deaths >= DEATHS_MAX) {
        char why[JOB_WHY_MAX];
        snprintf(why, sizeof why, "gave up: it was running at three deaths of ppfs or its node%s%.400s",
                 *r->outcome.why ? "; the last: " : "", r->outcome.why);
        run_output_drop(r);
        return sched_fail(s, row, EIO, why, 0);
    }
    return queue_again(s, r, row);
}

static void note_usage(struct run *r, struct job *j) {
    const struct work_outcome *o = &r->outcome;
    j->user_us = o->user_us;
    j->system_us = o->system_us;
    j->maxrss_kib = o->maxrss_kib;
    j->exit_status = o->end == WORK_EXITED ? o->status : 0;
    j->exit_signal = o->end == WORK_SIGNALED ? o->status : 0;
    host_count(r->host, 0, 0, o->wall_us);
}

/* Its row has said so, and why, since it was cancelled; now the rest of it is known. */
static int write_cancelled(struct sched *s, struct run *r, struct job_row *row) {
    struct job *j = &row->job;
    note_usage(r, j);
    const char *signal = j->exit_signal ? sigabbrev_np(j->exit_signal) : NULL;
    size_t at = strlen(j->why);
    if (signal && strncmp(j->why, JOB_REMOVED, strlen(JOB_REMOVED)) == 0 && !strstr(j->why, " and killed"))
        snprintf(j->why + at, sizeof j->why - at, " and killed by SIG%s", signal);
    int rc = run_output_store(s, r);
    sched_note(s, j->id);
    return rc < 0 ? rc : store_job_save(s->store, row, 0);
}

static int write_end(struct sched *s, struct run *r, struct job_row *row) {
    struct job *j = &row->job;
    const struct work_outcome *o = &r->outcome;
    note_usage(r, j);
    if (o->end == WORK_DONE && !r->noted)
        estimate_note(r->host, r->use.function, (double)o->wall_us, 1);
    if (!r->noted && o->end != WORK_LOST && r->fate == FATE_NONE)
        estimate_ended(r->host, r->use.function, o->end != WORK_DONE);
    r->noted = true; /* also when this has to be written again */
    if (o->end == WORK_LOST && r->fate == FATE_NONE)
        return write_lost(s, r, row);
    struct demand d = {row->place, j->cpus, r->use.function, r->user->uid, ""};
    unsigned lacked = j->attempt - 1 - j->failures - j->deaths;    /* every other attempt */
    bool failed = o->end == WORK_RAISED || o->end == WORK_REFUSED; /* the latter: in JSON */
    if (failed && r->fate == FATE_NONE && host_lacks(r->host, &d, lacked, o->why, strlen(o->why))) {
        host_count(r->host, 0, 1, 0);
        return queue_again(s, r, row);
    }
    int rc = run_output_store(s, r);
    if (rc < 0)
        return rc;
    if (r->fate == FATE_TIMEOUT && o->end != WORK_DONE) {
        struct options *opt = NULL;
        int64_t us = submit_options(s, row, &opt) == 0 ? opt->timeout_us : 0;
        options_destroy(opt);
        snprintf(j->why, sizeof j->why, "timed out: it ran longer than %g s and was killed", (double)us / 1e6);
        return write_failure(s, r, row, ETIMEDOUT);
    }
    if (r->error && o->end == WORK_DONE) {
        if (r->error == EDQUOT)
            strcpy(j->why, "its output was not kept to its end: that would have been more bytes than the quota of its "
                           "user allows");
        else
            snprintf(j->why, sizeof j->why, "its output could not be stored: %s", strerror(r->error));
        return write_failure(s, r, row, EIO);
    }
    if (o->end == WORK_DONE) {
        j->why[0] = 0;
        host_count(r->host, 1, 0, 0);
        return sched_transition(s, row, JOB_DONE, 0);
    }
    if (r->host->pool)
        snprintf(j->why, sizeof j->why, "%s", *o->why ? o->why : "failed");
    else
        snprintf(j->why, sizeof j->why, "%.300s (on nodes/%s)", *o->why ? o->why : "failed", r->host->name);
    if (r->refused)
        strncat(j->why,
                "; it was refused a result that it would wait for, for its user has as many jobs that wait for "
                "others as he may",
                sizeof j->why - strlen(j->why) - 1);
    return write_failure(s, r, row, EIO);
}

void run_finish(struct run *r) {
    struct sched *s = r->s;
    struct job_row row;
    set_state(r, RUN_ENDING);
    if (r->tasks)
        return;
    int rc = store_job_get(s->store, r->id, &row);
    bool wanted = rc == 0 && row.job.attempt == r->attempt && r->fate != FATE_DROPPED; /* else it was overtaken */
    if (wanted && row.job.state == JOB_RUNNING)
        write_end(s, r, &row);
    else if (wanted && row.job.state == JOB_CANCELLED)
        write_cancelled(s, r, &row);
    else if (rc < 0 && rc != -ENOENT)
        sched_check(s, rc);
    else
        run_output_drop(r);
    r->state = RUN_ENDED;
    SLIST_INSERT_HEAD(&s->runs->ended, r, next);
    sched_tick(s); /* a commit is due, whoever called */
}

void run_done(struct host *h, uint64_t job, const struct work_outcome *o) {
    struct run *r = run_of(h, job);
    if (!r || r->state != RUN_RUNNING)
        return;
    struct work_outcome end = *o;
    if ((r->leg != LEG_WORK || r->gives) && run_files_next(r, &end))
        return;
    r->outcome = end;
    o = &r->outcome;
    if (o->unbegun)
        r->begun = false;
    if (o->end != WORK_LOST)
        host_worked(h);
    else if (!o->unbegun)
        h->lost_work = true; /* before gone() */
    if (r->timeout)
        evtimer_del(r->timeout);
    set_state(r, RUN_ENDING);
    host_gave_back(h, r->user->uid, o);
    if (!run_output_sync(r))
        run_finish(r);
}

/* --- letting go -------------------------------------------------------------------------------------------------- */

void run_cancel(struct sched *s, uint64_t job) {
    struct run *r = run_find(s, job);
    if (!r || r->state == RUN_STARTING)
        run_drop(s, job);
    else if (r->state == RUN_RUNNING)
        ids_add(&s->runs->kills, job);
}

void run_drop(struct sched *s, uint64_t job) {
    struct run *r = run_find(s, job);
    if (!r)
        return;
    r->fate = FATE_DROPPED;
    if (r->state == RUN_RUNNING)
        ids_add(&s->runs->kills, job);
}

static void see(const void *node, VISIT visit, void *found) {
    struct run *r = *(struct run *const *)node;
    if ((visit == postorder || visit == leaf) && r->state == RUN_ENDING && r->tasks == 0)
        *(struct run **)found = r;
}

void run_retry_ends(struct sched *s) {
    for (struct run *r;; run_finish(r)) {
        r = NULL;
        twalk_r(s->runs->tree, see, &r);
        if (!r)
            return;
    }
}

/* ending: not NULL, and a run whose output is on the way to the disk goes on. */
static int stop(struct sched *s, struct job_row *row, void *ending) {
    const struct run *r = ending ? run_find(s, row->job.id) : NULL;
    if (r && r->state == RUN_ENDING)
        return 0;
    row->job.attempt--; /* this one does not count */
    store_ready_turn(s->store, &row->job, &row->turn);
    sched_transition(s, row, JOB_QUEUED, 0);
    return 0;
}

/* A clean stop: what runs goes back to the queue as if it had not begun. */
void run_stop_all(struct sched *s, bool all) {
    sched_each(s, SET_RUNNING, 0, stop, all ? NULL : s);
}

int runs_make(struct sched *s) {
    s->runs = calloc(1, sizeof *s->runs);
    return s->runs ? 0 : -ENOMEM;
}

void runs_free(struct sched *s) {
    if (!s->runs)
        return;
    tdestroy(s->runs->tree, free_run);
    free(s->runs->kills.items);
    free(s->runs);
}
