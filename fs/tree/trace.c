/* First the jobs are gathered, newest first; then written in the order of their starts. Which slot a job had nobody
 * knows any more: a track is the lowest of its node that is free at its start, so there are as many as were in use. */
#include "fs/tree/trace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/tree/json.h"
#include "net/clock.h"
#include "net/hash.h"

#define SLICES_MAX 10000u /* the rest of the history is cut off; to sort them takes 1 ms */
#define WRITTEN 64        /* in one page */

struct slice {
    uint64_t job;
    int64_t start, end; /* end: INT64_MAX while it runs */
};

struct track {
    uint64_t node; /* hash of its name */
    unsigned pid, tid;
    int64_t free_at;
};

struct trace {
    uint64_t before; /* jobs below that id are not gathered yet; 0: all are */
    unsigned count, next, tracks;
    unsigned nodes;
    struct slice slices[SLICES_MAX];
    struct track track[SLICES_MAX]; /* no page of either is touched before it is used */
};

static void gather(void *arg, const struct job *j) {
    struct trace *t = arg;
    if (t->count < SLICES_MAX)
        t->slices[t->count++] = (struct slice){j->id, j->started, job_ended(j->state) ? j->ended : INT64_MAX};
}

static int by_start(const void *a, const void *b) {
    const struct slice *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* --- tracks ------------------------------------------------------------------------------------------------------- */

/* Of streams, whose calls may be anywhere, the node is "". */
static struct track *track_for(struct trace *t, const char *node, const struct slice *s) {
    uint64_t hash = hash_bytes(node, strlen(node));
    unsigned used = 0, pid = 0;
    for (unsigned i = 0; i < t->tracks; i++) {
        struct track *l = &t->track[i];
        if (l->node != hash)
            continue;
        if (l->free_at <= s->start)
            return l;
        pid = l->pid;
        used++;
    }
    t->track[t->tracks] = (struct track){hash, pid ? pid : ++t->nodes, used + 1, 0};
    return &t->track[t->tracks++];
}

static void name(FILE *out, const char *what, const struct track *l, const char *text) {
    fprintf(out, "{\"ph\":\"M\",\"name\":\"%s\",\"pid\":%u,\"tid\":%u,\"args\":{\"name\":", what, l->pid, l->tid);
    json_put(out, text);
    fputs("}},\n", out);
}

static void name_track(FILE *out, const struct track *l, const char *node) {
    char text[32];
    if (l->tid == 1)
        name(out, "process_name", l, *node ? node : "streams");
    snprintf(text, sizeof text, *node ? "slot %u" : "stream %u", l->tid);
    name(out, "thread_name", l, text);
}

/* --- slices ------------------------------------------------------------------------------------------------------ */

static void put_slice(struct fs *fs, struct trace *t, FILE *out, const struct slice *s, const struct job *j,
                      const char *path) {
    const char *node = job_is_stream(j) ? "" : sched_node_of(fs->sched, j);
    struct track *l = track_for(t, node, s);
    int64_t end = s->end < INT64_MAX ? s->end : clock_wall_us();
    end = end > s->start ? end : s->start; /* the wall clock may have been set back */
    if (!l->free_at)
        name_track(out, l, node);
    l->free_at = s->end < end ? end : s->end;
    fputs("{\"ph\":\"X\",\"name\":", out);
    json_put(out, path);
    fprintf(out,
            ",\"cat\":\"%s\",\"pid\":%u,\"tid\":%u,\"ts\":%" PRId64 ",\"dur\":%" PRId64
            ",\"args\":{\"attempt\":%u,\"outcome\":\"%s\",\"slots\":%u,\"why\":",
            job_state_name(j->state), l->pid, l->tid, s->start, end - s->start, j->attempt, job_state_name(j->state),
            j->cpus);
    json_put(out, j->why);
    fputs("}},\n", out);
}

/* One that was forgotten, closed or run again since it was gathered is left out. */
static void put(struct fs *fs, const struct feed *f, struct trace *t, FILE *out, const struct slice *s) {
    char path[4096];
    struct job j;
    if (sched_shown(fs->sched, s->job, f->uid, f->gid, &j, path, sizeof path) == 0 && j.started == s->start &&
        sched_has_run(&j))
        put_slice(fs, t, out, s, &j, path);
}

/* --- the feed ---------------------------------------------------------------------------------------------------- */

static struct trace *begin(struct feed *f, FILE *out) {
    struct trace *t = calloc(1, sizeof *t);
    f->own = t;
    f->at = 1;
    if (t)
        t->before = UINT64_MAX;
    fputs("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n", out);
    return t;
}

enum feed_rc trace_feed(struct fs *fs, struct feed *f, FILE *out, size_t size) {
    struct trace *t = f->own;
    (void)size;
    if (!t && (f->at || !(t = begin(f, out)))) /* the daemon that had gathered them has died */
        return FEED_FAILS;
    if (t->before) {
        int rc = sched_page_history(fs->sched, &t->before, f->uid, f->gid, gather, t);
        if (rc < 0)
            return FEED_FAILS;
        if (rc && t->count < SLICES_MAX)
            return FEED_GOES_ON;
        t->before = 0;
        qsort(t->slices, t->count, sizeof *t->slices, by_start);
        return FEED_GOES_ON;
    }
    for (unsigned i = 0; i < WRITTEN && t->next < t->count; i++)
        put(fs, f, t, out, &t->slices[t->next++]);
    if (t->next < t->count)
        return FEED_GOES_ON;
    /* the comma before it is there, and an event of this kind is always right */
    fputs("{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":1,\"tid\":0,\"args\":{\"sort_index\":0}}\n]}\n", out);
    return FEED_ENDS;
}
