/* Looking: jobs by id and name, their bytes, and the sentence that says why. Changes nothing. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/printable.h"
#include "sched/inspect/query.h"
#include "sched/inspect/running.h"
#include "sched/inspect/why_host.h"
#include "sched/leases/lease_int.h"

static int shown(int rc, const struct job_row *r, struct job *out) {
    if (rc == 0 && r->job.damaged)
        return -EIO;
    if (rc == 0)
        *out = r->job;
    return rc;
}

int sched_job(struct sched *s, uint64_t id, struct job *out) {
    struct job_row r;
    int rc = store_job_get(s->store, id, &r);
    if (rc == -ENOENT)
        return array_element(s, id, out);
    if (rc == 0 && r.array == id && r.job.shelf == SHELF_PART) /* it has become a directory */
        return -ENOENT;
    return shown(rc, &r, out);
}

/* Whether all who may read the old one may read the new one: of the old one the kernel has found that they may. */
static bool shows_as_much(const struct successor *was, const struct job *j) {
    return j->uid == was->uid && (was->mode & 0444 & ~j->mode) == 0 && (j->gid == was->gid || !(was->mode & 0040));
}

int sched_newest(struct sched *s, uint64_t id, uid_t uid, gid_t gid, struct job *out) {
    struct successor was;
    struct job j;
    int rc = sched_job(s, id, out);
    uint64_t successor = rc == -ENOENT || (rc == 0 && out->shelf == SHELF_ORPHAN) ? sched_successor(s, id, &was) : 0;
    int found = successor ? sched_job(s, successor, &j) : rc;
    if (!successor || (found == 0 && (!shows_as_much(&was, &j) || !sched_reaches(s, j.group, uid, gid))))
        return rc; /* the kernel looks the name up again, and at whom it lets read */
    if (found == 0)
        *out = j;
    return found;
}

int sched_find(struct sched *s, uint64_t group, const char *name, bool draft, struct job *out) {
    struct job_row r;
    return shown(store_job_find(s->store, group, name, draft, &r), &r, out);
}

int sched_list(struct sched *s, uint64_t group, unsigned shelves, uint64_t after,
               bool (*each)(void *, const struct job *), void *arg) {
    return store_job_list(s->store, group, shelves, after, each, arg);
}

bool sched_ending(struct sched *s, const struct job *j) {
    const struct run *r = j->state == JOB_CANCELLED ? run_find(s, j->id) : NULL;
    return r && r->state != RUN_ENDED && r->fate != FATE_DROPPED;
}

/* --- bytes ------------------------------------------------------------------------------------------------------- */

static struct output *live(struct sched *s, uint64_t job, enum job_body body, struct run **run) {
    static const enum output_kind stream_of[] = {[BODY_RESULT] = OUTPUT_RESULT,
                                                 [BODY_STDOUT] = OUTPUT_STDOUT,
                                                 [BODY_STDERR] = OUTPUT_STDERR,
                                                 [BODY_TRACE] = OUTPUT_TRACE};
    struct run *r = body == BODY_SPEC ? NULL : run_find(s, job);
    if (!r || r->state == RUN_ENDED || r->fate == FATE_DROPPED)
        return NULL;
    *run = r;
    return &r->out[stream_of[body]];
}

/* Where it stands; *job becomes the job that has it. */
static int spec_or_body(struct sched *s, uint64_t *job, enum job_body body, struct body *b) {
    if (body != BODY_SPEC)
        return store_body_get(s->store, *job, body, b);
    *job = job_spec(s, *job);
    return draft_spec(s, *job, b);
}

int64_t sched_size(struct sched *s, uint64_t job, enum job_body body) {
    struct run *r;
    struct body b;
    struct output *out = live(s, job, body, &r);
    if (out)
        return out->spooled ? out->written : out->size;
    int rc = spec_or_body(s, &job, body, &b);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    return b.file == BODY_LOG ? store_log_size(s->store, job, body) : b.size;
}

int64_t sched_read(struct sched *s, uint64_t job, enum job_body body, void *buf, size_t size, uint64_t offset,
                   sched_done *done, void *arg) {
    struct run *r = NULL;
    struct body b;
    struct output *out = live(s, job, body, &r);
    if (out && !out->spooled) {
        if (offset >= (uint64_t)out->size)
            return 0;
        size_t n = (uint64_t)out->size - offset < size ? (size_t)((uint64_t)out->size - offset) : size;
        memcpy(buf, out->bytes + offset, n);
        return (int64_t)n;
    }
    if (out && offset >= (uint64_t)out->written) /* what is still on the way to the disk is behind the present end */
        return 0;
    if (out)
        return spool_read(s->spool, (struct spool_name){job, body, r->attempt}, buf, size, offset, NULL, done, arg);
    int rc = spec_or_body(s, &job, body, &b);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    if (b.file == BODY_LOG)
        return stream_log_read(s, job, body, buf, size, offset, done, arg);
    if (b.file && body != BODY_SPEC && offset >= (uint64_t)b.size) /* a write that failed may have left more */
        return 0;
    struct part part;
    rc = b.file ? store_body_part(s->store, job, body, offset, size, &part) : 0;
    if (rc < 0)
        return rc;
    if (b.file)
        return spool_read(s->spool, (struct spool_name){job, body, b.file}, buf, size, offset, &part, done, arg);
    return store_body_read(s->store, job, body, buf, size, offset);
}

/* --- why --------------------------------------------------------------------------------------------------------- */

static void why_draft(struct sched *s, const struct job *j, char *buf, size_t size) {
    struct group g = {0};
    struct job_row r;
    if (*j->why)
        snprintf(buf, size, "%s", j->why);
    else if (draft_why(s, j, buf, size))
        return;
    else if (store_group_get(s->store, j->group, &g) == 0 && g.dotted)
        snprintf(buf, size, "a draft: it is in a group whose name begins with a dot; rename the group to queue it");
    else if (sched_size(s, j->id, BODY_SPEC) == 0)
        snprintf(buf, size, "a draft: it is empty; write a job into it");
    else if (store_group_opening(s->store, j->group) && !draft_stays(s, j))
        snprintf(buf, size, "it is being queued, with the others of its group");
    else if (store_job_get(s->store, j->id, &r) == 0 && r.sealed)
        snprintf(buf, size,
                 "a draft: when it was closed, .options said so of its name; rename it or write it again to queue it");
    else
        snprintf(buf, size, "a draft: it is still open for writing");
}

static void why_waiting(struct sched *s, const struct job *j, char *buf, size_t size) {
    uint64_t on, count;
    struct job_row other;
    char path[4096];
    if (j->not_before > 0) {
        double left = (double)(j->not_before - sched_steady(s)) / 1e6;
        if (j->attempt)
            snprintf(buf, size, "attempt %u failed (%.300s); the next one starts in %.0f s", j->attempt, j->why,
                     left > 0 ? left : 0);
        else
            snprintf(buf, size, "%s", j->why); /* an array */
    } else if (j->not_before == NOT_PLACED) {
        why_aside(s, j, buf, size);
    } else if (store_dep_first(s->store, j->id, &on, &count) == 0 && store_job_get(s->store, on, &other) == 0 &&
               sched_path(s, &other.job, path, sizeof path) == 0) {
        char state[32] = "";
        if (!group_may_reach(s, other.job.group, j->uid, j->gid)) /* it was moved there since */
            strcpy(path, "a job in a directory that is closed to this one's user");
        else if (sched_shows(other.job.uid, other.job.gid, other.job.mode, j->uid, j->gid))
            snprintf(state, sizeof state, ", which is %s", job_state_name(other.job.state));
        if (count > 1)
            snprintf(buf, size, "waits for %.300s%s, and %llu more", path, state, (unsigned long long)count - 1);
        else
            snprintf(buf, size, "waits for %.300s%s", path, state);
    } else if (store_job_get(s->store, j->id, &other) == -ENOENT) {
        snprintf(buf, size, "waits for others of its array, of which some are queued at a time");
    } else {
        snprintf(buf, size, "waits to be queued");
    }
}

static void why_running(struct sched *s, const struct job *j, char *buf, size_t size) {
    const struct stream *st = stream_find(s, j->id);
    const struct run *r = st ? NULL : run_find(s, j->id);
    char silent[320] = "";
    if (r)
        node_why_silent(r->host, buf, size);
    if (!st && job_is_stream(j)) {
        struct stream_row row; /* it has left memory */
        if (store_stream_get(s->store, j->id, &row, NULL) == 0)
            snprintf(buf, size, "%llu calls are answered, 0 are under way; it is still open for writing",
                     (unsigned long long)row.call);
    }
    if (!st)
        return;
    unsigned long long under_way = st->count - st->waiting_calls;
    const struct lease *l;
    TAILQ_FOREACH(l, &st->leases->all, mates)
        if (l->count && node_why_silent(l->host, silent, sizeof silent))
            break;
    if (st->pending && !st->leases->count) { /* nobody has taken any of it yet */
        char queued[512];
        why_queued(s, j, queued, sizeof queued);
        snprintf(silent, sizeof silent, "%.300s", queued + strlen("queued: "));
    }
    snprintf(buf, size, "%llu calls are answered, %llu are under way%s%s%s",
             (unsigned long long)(st->next_call - under_way), under_way,
             stream_is_closed(st) ? "" : "; it is still open for writing", *silent ? "; " : "", silent);
    if (*j->why) {
        size_t at = strlen(buf);
        snprintf(buf + at, size - at, "; %s", j->why);
    }
}

#define COMMENTS_MAX 4096u /* bytes of a script of at most INLINE_MAX, as all that people write by hand are */

/* What looks like options and is none: nothing else would say so. */
static void why_ignored(struct sched *s, const struct job *j, char *buf, size_t size) {
    char head[COMMENTS_MAX];
    struct body b;
    uint64_t spec = job_spec(s, j->id);
    if ((j->kind != WORK_PROGRAM && j->kind != WORK_PYTHON) || store_body_get(s->store, spec, BODY_SPEC, &b) < 0 ||
        b.file)
        return;
    int64_t n = store_body_read(s->store, spec, BODY_SPEC, head, sizeof head, 0);
    const char *sentence = n > 0 ? spec_ignored(head, (size_t)n) : NULL;
    size_t at = strlen(buf);
    if (sentence)
        snprintf(buf + at, size - at, "%s%s", at ? "; " : "", sentence);
}

static void why_state(struct sched *s, const struct job *j, char *buf, size_t size) {
    char path[JOB_WHY_MAX];
    switch (j->state) {
    case JOB_DRAFT: why_draft(s, j, buf, size); break;
    case JOB_HELD:
        snprintf(buf, size, "held: echo 0 > info/%s/hold lets it go",
                 sched_path(s, j, path, sizeof path) == 0 ? path : j->name);
        break;
    case JOB_WAITING: why_waiting(s, j, buf, size); break;
    case JOB_QUEUED:
        if (job_is_stream(j) && streams_active(s) >= STREAMS_ACTIVE)
            snprintf(buf, size,
                     "queued: %u streams have calls under way, and no more are taken up; it begins when one of them "
                     "has none",
                     streams_active(s));
        else
            why_queued(s, j, buf, size);
        break;
    case JOB_DONE: /* of a stream: that its writer was killed */
    case JOB_FAILED:
    case JOB_CANCELLED: snprintf(buf, size, "%s", j->why); break;
    case JOB_RUNNING: why_running(s, j, buf, size); break;
    default: break;
    }
}

#define BEFORE_MAX 1000

/* Its place in the queue of its user. */
static void why_place(struct sched *s, const struct job *j, char *buf, size_t size) {
    struct job_row r;
    int before;
    bool more;
    if (j->state != JOB_QUEUED || store_job_get(s->store, j->id, &r) < 0 ||
        store_ready_before(s->store, &r, BEFORE_MAX, &before, &more) < 0 || !before)
        return;
    size_t at = strlen(buf);
    snprintf(buf + at, size - at, "; %s%d of its user's jobs %s before it", more ? "at least " : "", before,
             before == 1 && !more ? "is" : "are");
}

/* What it leaves in its directory, or looks for there, is not where its writer looks. */
static void why_directory(struct sched *s, const struct job *j, char *buf, size_t size) {
    struct job_row r = {.job = *j};
    struct options *o = NULL;
    char *cwd = NULL;
    bool runs = j->state == JOB_RUNNING, ran = j->started && (j->state == JOB_DONE || j->state == JOB_FAILED);
    if ((!runs && !ran) || (j->kind != WORK_PROGRAM && j->kind != WORK_PYTHON && j->kind != WORK_JSON_RUN) ||
        store_job_texts(s->store, j->id, NULL, &cwd) < 0)
        return;
    if ((!*cwd || writer_is_inside(s, cwd)) && submit_options(s, &r, &o) == 0 && !o->cwd) {
        size_t at = strlen(buf);
        snprintf(buf + at, size - at, "%s%s in a directory of its own that %s, for its writer %s", at ? "; " : "",
                 runs ? "it runs" : "it ran", runs ? "will be removed" : "was removed",
                 *cwd ? "was inside the mount" : "is not its owner, or its directory is not known");
    }
    options_destroy(o);
    free(cwd);
}

/* A body whose checksum is not that of its bytes is never shown. */
static void why_damaged(struct sched *s, const struct job *j, char *buf, size_t size) {
    static const char *const names[BODIES] = {[BODY_SPEC] = "job file",
                                              [BODY_RESULT] = "result",
                                              [BODY_STDOUT] = "standard output",
                                              [BODY_STDERR] = "standard error"};
    struct body b;
    for (enum job_body i = BODY_SPEC; i <= BODY_STDERR && job_ended(j->state); i++) {
        if (store_body_get(s->store, j->id, i, &b) < 0 ||
            (b.file ? !spool_damaged(s->spool, (struct spool_name){j->id, i, b.file})
                    : store_body_read(s->store, j->id, i, NULL, 0, 0) != -EIO))
            continue;
        size_t at = strlen(buf);
        snprintf(buf + at, size - at, "%sits %s is damaged on the disk and cannot be read", at ? "; " : "", names[i]);
    }
}

void sched_why(struct sched *s, const struct job *j, char *buf, size_t size) {
    buf[0] = 0;
    why_state(s, j, buf, size);
    why_place(s, j, buf, size);
    why_directory(s, j, buf, size);
    why_ignored(s, j, buf, size);
    why_damaged(s, j, buf, size);
    printable(buf, size);
}

enum { LAST_LINE = 200, LAST_READ = 1024, PATH_SHOWN = 300 };

/* Its last line that is not blank, of at most LAST_LINE bytes; nothing of one in the spool. Whether there is a body. */
static bool last_printed(struct sched *s, uint64_t job, enum job_body body, char line[LAST_LINE + 1]) {
    char tail[LAST_READ];
    struct body b;
    if (store_body_get(s->store, job, body, &b) < 0 || b.size <= 0)
        return false;
    int64_t from = b.size > LAST_READ ? b.size - LAST_READ : 0;
    int64_t end = b.file ? 0 : store_body_read(s->store, job, body, tail, sizeof tail, (uint64_t)from), begin;
    while (end > 0 && strchr(" \t\r\n", tail[end - 1]))
        end--;
    for (begin = end > 0 ? end : 0; begin && !strchr("\r\n", tail[begin - 1]);)
        begin--;
    int n = (int)(end - begin < LAST_LINE ? end - begin : LAST_LINE);
    if (n > 0 && (begin || !from))
        snprintf(line, LAST_LINE + 1, "%.*s", n, tail + begin);
    return true;
}

/* What reaches its memory= ends in a way of its own: only the limit itself can be told. */
static void why_limits(struct sched *s, const struct job *j, char *buf, size_t size) {
    struct job_row r = {.job = *j};
    struct options *o = NULL;
    size_t at = strlen(buf);
    if (submit_options(s, &r, &o) == 0 && o->memory)
        snprintf(buf + at, size - at, "; its processes could have %" PRIu64 " KiB of memory each (memory=)",
                 o->memory >> 10);
    options_destroy(o);
}

enum { CALLS_SEEN = 256, ROWS_SEEN = 16 }; /* of a stream's calls in memory, of which one may wait as a job */

/* The first call with options that waits: it is a job that is listed nowhere. */
static void why_call_job(struct sched *s, const struct stream *st, char *buf, size_t size) {
    char why[JOB_WHY_MAX] = "";
    struct job_row r = {0};
    const struct call *c;
    int calls = CALLS_SEEN, rows = ROWS_SEEN;
    TAILQ_FOREACH(c, &st->calls, order) {
        if (!calls-- || !rows)
            return;
        if (c->state != CALL_JOB || !c->job || run_find(s, c->job))
            continue;
        rows--;
        if (store_job_get(s->store, c->job, &r) < 0)
            continue;
        if (r.job.state == JOB_WAITING)
            why_waiting(s, &r.job, why, sizeof why);
        else if (r.job.state == JOB_QUEUED)
            why_queued(s, &r.job, why, sizeof why);
        else if (r.job.state == JOB_HELD)
            strcpy(why, "it is held");
        if (*why)
            break;
    }
    size_t at = strlen(buf), skip = r.job.state == JOB_QUEUED ? strlen("queued: ") : 0;
    if (*why)
        snprintf(buf + at, size - at, "; call %llu has options and waits: %s", (unsigned long long)c->number + 1,
                 why + skip);
}

/* What calls that no worker has begun wait for. */
static void why_calls(struct sched *s, const struct job *j, char *buf, size_t size) {
    const struct stream *st = stream_find(s, j->id);
    char queued[512];
    size_t at = strlen(buf);
    if (st && st->pending && st->leases->count) {
        why_queued(s, j, queued, sizeof queued);
        snprintf(buf + at, size - at, "; %llu of them wait: %.300s", (unsigned long long)st->pending,
                 queued + strlen("queued: "));
    }
    if (st)
        why_call_job(s, st, buf, size);
    printable(buf, size);
}

void sched_why_more(struct sched *s, const struct job *j, char *buf, size_t size) {
    char line[LAST_LINE + 1] = "", path[4096], more[LAST_LINE + 2 * PATH_SHOWN] = "";
    if (j->state == JOB_RUNNING && job_is_stream(j))
        why_calls(s, j, buf, size);
    if (j->state != JOB_FAILED || !j->started || job_is_stream(j))
        return;
    bool trace = sched_size(s, j->id, BODY_TRACE) > 0, error = !trace && last_printed(s, j->id, BODY_STDERR, line);
    bool out = !trace && !error && last_printed(s, j->id, BODY_STDOUT, line);
    if (sched_path(s, j, path, sizeof path) < 0 || strlen(path) > PATH_SHOWN)
        return;
    size_t at = strlen(buf);
    if (trace || error || out)
        snprintf(more, sizeof more, out ? "; see info/%s/stdout" : "; see failures/%s", path);
    else if ((j->exit_status || j->exit_signal) && /* neither: nothing of it ran */
             (j->kind == WORK_PROGRAM || j->kind == WORK_PYTHON || j->kind == WORK_JSON_RUN))
        strcpy(more, "; it printed nothing");
    printable(line, sizeof line);
    bool known = !*line || strstr(buf, line);
    snprintf(buf + at, size - at, "%s%s%s", known ? "" : "; its last line is: ", known ? "" : line, more);
    why_limits(s, j, buf, size);
    printable(buf, size);
}

const char *sched_node_of(struct sched *s, const struct job *j) {
    if (*j->node)
        return j->node;
    return j->attempt ? "local" : "";
}
