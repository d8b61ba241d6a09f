/* The life of a stream: begun at its first write, in memory while it runs, read anew after a restart. */
#include "sched/leases/lease_int.h"
#include "sched/streams/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS 16 /* jobs of calls that are removed between two looks at the clock */

/* --- into memory and out of it ----------------------------------------------------------------------------------- */

static void destroy(struct stream *st) {
    stream_calls_free(st);
    struct buffer *const buffers[] = {&st->answered, &st->tail, &st->carry, &st->out, &st->prints[0], &st->prints[1]};
    for (unsigned i = 0; i < sizeof buffers / sizeof *buffers; i++)
        buffer_free(buffers[i]);
    stream_parts_free(st);
    chunks_free(&st->large);
    answers_count(st);
    stream_lookahead_free(&st->lookahead);
    free(st->unmet.parts);
    free(st->read_buffer);
    free(st);
}

/* A read of its input that the disk thread has points at it: it is destroyed in a turn after that came back. */
void stream_free(struct stream *st) {
    struct sched *s = st->s;
    stream_leaves(st);
    stream_kept_leave(st);
    st->id = 0;
    LIST_INSERT_HEAD(&s->streams->left, st, all);
    stream_destroy_left(s);
}

void stream_destroy_left(struct sched *s) {
    for (struct stream *st = LIST_FIRST(&s->streams->left), *next; st; st = next) {
        next = LIST_NEXT(st, all);
        if (st->reading || st->lookahead.reading)
            continue;
        LIST_REMOVE(st, all);
        destroy(st);
    }
}

static void let_go(struct stream *st) {
    lease_drop(st);
    stream_free(st);
}

/* Its state is committed with this turn, and read anew when it is written to or its last writer has gone. */
void stream_evict(struct sched *s) {
    for (struct stream *st; (st = stream_to_evict(s));) {
        lease_end(st);
        stream_free(st);
    }
}

static int64_t input_size(struct sched *s, const struct stream *st) {
    return st->input.file == BODY_LOG ? store_log_size(s->store, st->id, BODY_SPEC) : st->input.size;
}

static int sizes(struct sched *s, struct stream *st) {
    st->in_size = input_size(s, st);
    st->out_size = store_log_size(s->store, st->id, BODY_RESULT);
    st->print_size[0] = store_log_size(s->store, st->id, BODY_STDOUT);
    st->print_size[1] = store_log_size(s->store, st->id, BODY_STDERR);
    int64_t waiting = store_log_size(s->store, st->id, BODY_WAITING);
    stream_wait_load(st, waiting);
    const int64_t all[] = {st->in_size, st->out_size, st->print_size[0], st->print_size[1], waiting};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] < 0)
            return (int)all[i];
    return 0;
}

struct loaded {
    struct stream stream; /* first: it is freed as this */
    struct lease_set leases;
};

static int load(struct sched *s, const struct job_row *r, struct stream **out) {
    struct loaded *l = calloc(1, sizeof *l);
    struct stream *st = l ? &l->stream : NULL;
    struct user *u = user_of(s, r->job.uid);
    struct buffer answered = {0};
    if (!st || !u || !(st->read_buffer = malloc(STREAM_READ))) {
        free(l);
        return -ENOMEM;
    }
    st->s = s;
    st->user = u;
    st->id = r->job.id;
    st->cancel_sent = lease_cancel;
    st->leases = &l->leases;
    lease_set_init(st->leases);
    st->priority = r->job.priority;
    st->codec = r->job.kind == WORK_STREAM_JSON ? &codec_json : &codec_frames;
    int rc = draft_spec(s, st->id, &st->input);
    if (rc == 0)
        rc = submit_place(s, r, st->place);
    if (rc == 0)
        rc = store_stream_get(s->store, st->id, &st->row, &answered);
    if (rc == 0)
        rc = stream_parts_load(st);
    if (rc == 0)
        rc = sizes(s, st);
    if (rc == 0)
        rc = stream_done_load(st, &answered);
    buffer_free(&answered);
    if (rc < 0) {
        buffer_free(&st->before.runs);
        free(st->unmet.parts);
        free(st->read_buffer);
        free(l);
        return rc;
    }
    st->parsed = st->lookahead.at = st->begun = st->row.at;
    st->newline = st->in_size;
    st->lines = st->row.line;
    st->next_call = st->row.call;
    st->end = st->row.at;
    st->end_line = st->row.line;
    TAILQ_INIT(&st->calls);
    TAILQ_INIT(&st->done);
    st->function = estimate_function(s, stream_key(st));
    stream_becomes(st, s->is_open && s->is_open(s->is_open_arg, st->id, true) ? STREAM_OPEN : STREAM_CLOSED);
    stream_kept_load(st);
    st->holds = st->unmet.count > 0;
    st->loaded = ++s->streams->loads;
    stream_enters(st);
    sched_tick(s);
    *out = st;
    return 0;
}

/* To running: with rows of its own, from its beginning. A job that was running before keeps what it has. */
int stream_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save) {
    struct stream *st;
    struct stream_row row = {0};
    int rc = store_stream_get(s->store, r->job.id, &row, NULL);
    if (rc == -ENOENT) {
        rc = store_stream_put(s->store, r->job.id, &row, &(struct buffer){0});
        for (enum job_body b = BODY_RESULT; b <= BODY_STDERR && rc == 0; b++)
            rc = store_body_put_file(s->store, r->job.id, b, 0, BODY_LOG, NULL);
        if (rc == 0 && r->job.kind != WORK_STREAM_JSON)
            rc = store_log_append(s->store, r->job.id, BODY_RESULT, 0, FRAME_MAGIC, FRAME_MAGIC_SIZE);
    }
    r->job.attempt = 1;
    if (sched_check(s, rc) == 0)
        rc = sched_transition(s, r, JOB_RUNNING, also_save);
    return rc < 0 ? rc : sched_check(s, load(s, r, &st));
}

/* The first write to a draft shows that it is a stream: from now on its name is its own, and its input is a log. */
int stream_begin(struct sched *s, struct job_row *r, enum work_kind kind) {
    int rc = store_body_put_file(s->store, r->job.id, BODY_SPEC, 0, BODY_LOG, NULL);
    return rc < 0 ? rc : submit_stream(s, r, kind);
}

/* Some of the jobs of its calls are removed. Returns how many there were, or -errno. */
static int drop_parts(struct sched *s, uint64_t stream) {
    uint64_t ids[PARTS];
    int n = store_ids(s->store, SET_PARTS, (int64_t)stream, 0, ids, PARTS), rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        struct job_row r;
        rc = store_job_get(s->store, ids[i], &r);
        if (rc == 0)
            rc = sched_remove(s, &r);
    }
    return rc < 0 ? sched_check(s, rc) : n;
}

struct dropping {
    struct sched *s;
    uint64_t stream;
};

static void drop_run(const void *node, VISIT visit, void *arg) {
    const struct run *r = *(struct run *const *)node;
    const struct dropping *d = arg;
    if ((visit == postorder || visit == leaf) && r->stream == d->stream)
        run_drop(d->s, r->id);
}

/* In memory or not, its calls run no longer, and none begins. The jobs of many go in slices. */
int stream_ended(struct sched *s, const struct job_row *r) {
    int rc = drop_parts(s, r->job.id);
    if (rc == PARTS) {
        run_each(s, drop_run, &(struct dropping){s, r->job.id});
        rc = store_leaving_add(s->store, r->job.id);
        s->leaving = true;
    }
    stream_kept_end(s, r->job.id);
    return rc < 0 ? rc : store_stream_delete(s->store, r->job.id);
}

void stream_parts_slice(struct sched *s) {
    uint64_t stream;
    int rc = store_leaving(s->store, 0, &stream);
    s->leaving = rc == 0;
    rc = rc == 0 ? drop_parts(s, stream) : 0;
    if (rc >= 0 && s->leaving && rc < PARTS)
        store_leaving_done(s->store, stream);
}

bool stream_is_leaving(struct sched *s, uint64_t stream) {
    uint64_t found;
    return s->leaving && stream && store_leaving(s->store, stream, &found) == 0 && found == stream;
}

void stream_set_priority(struct sched *s, uint64_t job, int priority) {
    struct stream *st = stream_find(s, job);
    if (st)
        st->priority = priority;
}

void stream_drop(struct sched *s, uint64_t job) {
    struct stream *st = stream_find(s, job);
    if (st)
        let_go(st);
    lease_drop_away(s, job);
}

int streams_make(struct sched *s) {
    s->streams = calloc(1, sizeof *s->streams);
    return s->streams ? 0 : -ENOMEM;
}

/* After the disk thread. */
void streams_free(struct sched *s) {
    struct stream *st;
    if (!s->streams)
        return;
    while ((st = stream_first(s)))
        stream_free(st);
    LIST_FOREACH(st, &s->streams->left, all)
        st->reading = st->lookahead.reading = false;
    stream_destroy_left(s);
    stream_kept_free(s);
    stream_endings_free(s);
    free(s->streams);
}

/* After a commit that failed all are read anew, a second later. */
int stream_wake(struct sched *s, const struct job_row *r, struct stream **out) {
    *out = stream_find(s, r->job.id);
    if (*out || r->job.state != JOB_RUNNING || evtimer_pending(s->retry, NULL))
        return 0;
    return sched_check(s, load(s, r, out));
}

/* --- writers ----------------------------------------------------------------------------------------------------- */

int stream_opened(struct sched *s, const struct job_row *r) {
    struct stream *st = stream_find(s, r->job.id);
    if (st && stream_is_parsed(st))
        return -ETXTBSY; /* its end has been seen: no line can follow */
    if (st && stream_is_closed(st))
        stream_becomes(st, STREAM_OPEN);
    return 0;
}

int stream_closed(struct sched *s, const struct job_row *r) {
    struct stream *st;
    int rc = stream_wake(s, r, &st);
    if (st) {
        stream_mark(st);
        if (!stream_is_parsed(st))
            stream_becomes(st, STREAM_CLOSED);
    }
    return st ? store_touch(s->store) : rc;
}

/* The calls that it wrote whole have been, or will be, run. */
int stream_let_go(struct sched *s, struct job_row *r, pid_t pid, int64_t size) {
    int signal = job_ended(r->job.state) ? 0 : writer_killed_by(pid);
    if (!signal)
        return 0;
    snprintf(r->job.why, sizeof r->job.why,
             "its writer was killed by SIG%s after %lld bytes: what it had written whole is run",
             writer_signal_name(signal), (long long)size);
    sched_note(s, r->job.id);
    return store_job_save(s->store, r, 0);
}

/* --- after a death, after a commit that failed ------------------------------------------------------------------- */

/* Memory ran ahead of a database that did not follow: all streams are forgotten here and read anew from what was
 * committed. */
void stream_rolled_back(struct sched *s) {
    for (struct stream *st; (st = stream_first(s));) {
        stream_kept_gather(st);
        lease_away(st);
        let_go(st);
    }
    stream_kept_turned(s, false);
}

static int recover(struct sched *s, struct job_row *r, void *death) {
    struct stream *st;
    if (!job_is_stream(&r->job) || stream_find(s, r->job.id))
        return 0;
    int rc = sched_check(s, load(s, r, &st));
    if (rc < 0 || !death || !st->row.suspect)
        return rc;
    st->row.deaths++;
    return sched_check(s, stream_put(st));
}

int stream_recover(struct sched *s, bool death) {
    return sched_each(s, SET_RUNNING, 0, recover, death ? s : NULL);
}
