/* Output of runs: gathered in memory, beyond INLINE_MAX bytes in a spool file, and stored in the database at the end.
 * Output of a call job goes to its stream at once. While the disk is behind, the runner stops reading. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/runs/run.h"
#include "sched/runs/run_files.h"

static const enum job_body body_of[] = {[OUTPUT_STDOUT] = BODY_STDOUT,
                                        [OUTPUT_STDERR] = BODY_STDERR,
                                        [OUTPUT_RESULT] = BODY_RESULT,
                                        [OUTPUT_TRACE] = BODY_TRACE};

struct written {
    struct run *run;
    enum output_kind stream;
    size_t size;
};

static void was_written(void *arg, int rc) {
    struct written *c = arg;
    struct run *r = c->run;
    r->writing -= c->size;
    r->tasks--;
    if (rc < 0 && !r->error)
        r->error = -rc;
    if (!r->error) /* in order, so bytes after a gap are never shown */
        r->out[c->stream].written += (int64_t)c->size;
    if (r->held && r->writing < WRITING_LOW && r->at->runner.ops) {
        r->held = false;
        runner_hold(r->at->runner, r->id, false);
    }
    sched_note(r->s, r->id);
    free(c);
    if (r->state == RUN_ENDING && r->tasks == 0)
        run_finish(r);
}

static struct spool_name output_name(const struct run *r, enum output_kind stream) {
    return (struct spool_name){r->id, body_of[stream], r->attempt};
}

static int to_disk(struct run *r, enum output_kind stream, const void *bytes, size_t size, int64_t offset) {
    struct written *c = malloc(sizeof *c);
    if (!c)
        return -ENOMEM;
    *c = (struct written){r, stream, size};
    int rc = spool_write_copy(r->s->spool, output_name(r, stream), bytes, size, (uint64_t)offset, &r->out[stream].sums,
                              was_written, c);
    if (rc != -EINPROGRESS) {
        free(c);
        return rc;
    }
    r->writing += size;
    r->tasks++;
    return 0;
}

static int to_memory(struct output *out, const void *bytes, size_t size) {
    size_t want = (size_t)out->size + size;
    if (want > out->cap) {
        size_t cap = out->cap ? out->cap : 512;
        while (cap < want)
            cap *= 2;
        char *grown = realloc(out->bytes, cap);
        if (!grown)
            return -ENOMEM;
        out->bytes = grown;
        out->cap = cap;
    }
    memcpy(out->bytes + out->size, bytes, size);
    return 0;
}

static int spill(struct run *r, enum output_kind stream) {
    struct output *out = &r->out[stream];
    /* A stop does not count as an attempt, so the file may have output of the same attempt. The tasks run in order in
     * one thread. */
    int rc = spool_truncate(r->s->spool, output_name(r, stream), 0, NULL, NULL) == -EINPROGRESS ? 0 : -ENOMEM;
    if (rc == 0 && out->size)
        rc = to_disk(r, stream, out->bytes, (size_t)out->size, 0);
    if (rc == 0) { /* not out->sums: the disk thread has them */
        free(out->bytes);
        out->bytes = NULL;
        out->cap = 0;
        out->spooled = true;
    }
    return rc;
}

/* --- live, to a stream ------------------------------------------------------------------------------------------- */

/* Which of stdout and stderr are sent live: not the one that is the result. */
unsigned run_output_live(const struct job_row *row) {
    if (!row->stream)
        return 0;
    return 1u << OUTPUT_STDERR | (job_result_body(row->job.kind) == BODY_STDOUT ? 0 : 1u << OUTPUT_STDOUT);
}

static void keep_tail(struct run *r, const char *bytes, size_t size) {
    size_t n = size < RUN_TAIL ? size : RUN_TAIL, keep = r->tail_size < RUN_TAIL - n ? r->tail_size : RUN_TAIL - n;
    r->tail_cut |= r->tail_size + size > RUN_TAIL;
    memmove(r->tail, r->tail + r->tail_size - keep, keep);
    memcpy(r->tail + keep, bytes + size - n, n);
    r->tail_size = keep + n;
}

void run_output(struct host *h, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    struct run *r = run_of(h, job);
    if (!r || r->state != RUN_RUNNING || r->fate == FATE_DROPPED || r->error)
        return;
    if (stream == OUTPUT_FILES) {
        run_files_add(r, bytes, size);
        return;
    }
    if (stream == OUTPUT_STDOUT || stream == OUTPUT_STDERR)
        keep_tail(r, bytes, size);
    if (r->live & 1u << stream) {
        r->s->ops->printed(r, stream, bytes, size);
        return;
    }
    struct output *out = &r->out[stream];
    int rc = quota_output(r->user, (int64_t)size);
    r->live_bytes += rc == 0 ? (int64_t)size : 0;
    if (rc == 0 && !out->spooled && (size_t)out->size + size > INLINE_MAX)
        rc = spill(r, stream);
    if (rc == 0)
        rc = out->spooled ? to_disk(r, stream, bytes, size, out->size) : to_memory(out, bytes, size);
    if (rc == 0)
        out->size += (int64_t)size;
    else
        r->error = -rc;
    if (!r->held && r->writing > WRITING_HIGH) {
        r->held = true;
        runner_hold(h->runner, r->id, true);
    }
    sched_note(r->s, job);
}

/* --- at the end -------------------------------------------------------------------------------------------------- */

int run_output_store(struct sched *s, struct run *r) {
    int rc = r->attempt > 1 ? sched_drop_bodies(s, r->id, false) : 0;
    for (enum output_kind i = OUTPUT_STDOUT; i <= OUTPUT_TRACE && rc == 0; i++) {
        struct output *out = &r->out[i];
        if (out->spooled)
            rc = sums_end(&out->sums);
        if (out->spooled && rc == 0)
            rc = store_body_put_file(s->store, r->id, body_of[i], (int64_t)out->sums.size, r->attempt, &out->sums);
        else if (rc == 0 && out->size)
            rc = store_body_put(s->store, r->id, body_of[i], out->bytes, (size_t)out->size);
    }
    return sched_check(s, rc);
}

void run_output_free(struct run *r) {
    for (enum output_kind i = OUTPUT_STDOUT; i <= OUTPUT_TRACE; i++) {
        free(r->out[i].bytes);
        sums_free(&r->out[i].sums);
    }
}

void run_output_drop(struct run *r) {
    for (enum output_kind i = OUTPUT_STDOUT; i <= OUTPUT_TRACE; i++)
        if (r->out[i].spooled)
            sched_note_unlink(r->s, output_name(r, i));
}

/* Large output is on the disk before the row that names it is committed; then the end is stored. */
static void output_synced(void *arg, int rc) {
    struct run *r = arg;
    r->tasks--;
    if (rc < 0 && !r->error)
        r->error = -rc;
    run_finish(r);
}

bool run_output_sync(struct run *r) {
    struct spool_name names[4];
    size_t n = 0;
    for (enum output_kind i = OUTPUT_STDOUT; i <= OUTPUT_TRACE; i++)
        if (r->out[i].spooled && r->fate != FATE_DROPPED)
            names[n++] = output_name(r, i);
    if (n == 0 || spool_sync(r->s->spool, names, n, false, output_synced, r) != -EINPROGRESS)
        return false;
    r->tasks++;
    return true;
}
