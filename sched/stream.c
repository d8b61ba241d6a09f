/* The life of a stream: begun at its first write, parsed as far as the window has room, answered, ended when its writer
 * has closed and all is answered. What a turn gathers is one row of each log and one row that says how far it is. */
#include "sched/stream_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUFFER_KEEP (256u * 1024u) /* a buffer that once was larger is given back when it is empty */
#define FUNCTIONS_MAX (256 << 20)  /* bytes of functions that are kept */

int buffer_add(struct buffer *b, const void *bytes, size_t size) {
    if (b->size + size > b->cap) {
        size_t cap = b->cap ? b->cap : 4096;
        while (cap < b->size + size)
            cap *= 2;
        char *grown = realloc(b->bytes, cap);
        if (!grown)
            return -ENOMEM;
        b->bytes = grown;
        b->cap = cap;
    }
    if (size)
        memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
    return 0;
}

void buffer_free(struct buffer *b) {
    free(b->bytes);
    *b = (struct buffer){0};
}

static void buffer_empty(struct buffer *b) {
    b->size = 0;
    if (b->cap > BUFFER_KEEP)
        buffer_free(b);
}

/* --- what is a stream -------------------------------------------------------------------------------------------- */

bool stream_name(const char *name, const void *bytes, size_t size, enum work_kind *kind) {
    size_t n = strlen(name);
    bool json = n > 6 && strcmp(name + n - 6, ".jsonl") == 0;
    bool frames = size >= FRAME_MAGIC_SIZE && memcmp(bytes, FRAME_MAGIC, FRAME_MAGIC_SIZE) == 0;
    *kind = frames ? WORK_STREAM_FRAMES : WORK_STREAM_JSON;
    return json || frames;
}

struct stream *stream_find(struct sched *s, uint64_t job) {
    struct stream *st = s->streams;
    while (st && st->id != job)
        st = st->next;
    return st;
}

void stream_mark(struct stream *st) {
    st->dirty = true;
    sched_tick(st->s);
}

/* --- into memory and out of it ----------------------------------------------------------------------------------- */

static void clear_call(struct call *c) {
    free(c->bytes);
    free(c->options);
    buffer_free(&c->answer);
    *c = (struct call){0};
}

static void stream_free(struct stream *st) {
    for (struct stream **at = &st->s->streams; *at; at = &(*at)->next)
        if (*at == st) {
            *at = st->next;
            st->s->stream_count--;
            break;
        }
    for (unsigned i = 0; i < STREAM_WINDOW; i++)
        clear_call(&st->window[i]);
    buffer_free(&st->tail);
    buffer_free(&st->carry);
    buffer_free(&st->out);
    buffer_free(&st->prints[0]);
    buffer_free(&st->prints[1]);
    buffer_free(&st->parts);
    free(st->read_buffer);
    free(st);
}

/* A read of its input that is still in the disk thread points at it: then it is freed when that comes back. */
static void stream_let_go(struct stream *st) {
    lease_drop(st);
    if (!st->reading) {
        stream_free(st);
        return;
    }
    for (struct stream **at = &st->s->streams; *at; at = &(*at)->next)
        if (*at == st) {
            *at = st->next;
            st->s->stream_count--;
            break;
        }
    st->id = 0;
}

static int64_t input_size(struct sched *s, const struct stream *st) {
    return st->input.file == BODY_LOG ? store_log_size(s->store, st->id, BODY_SPEC) : st->input.size;
}

/* Jobs of its own that calls had: they are made again as the calls are met again. */
static int drop_parts(struct sched *s, uint64_t job) {
    uint64_t ids[64];
    int rc = 0;
    for (int n; rc == 0 && (n = store_ids(s->store, SET_PARTS, (int64_t)job, 0, ids, 64)) > 0;)
        for (int i = 0; i < n && rc == 0; i++) {
            struct job_row r;
            if (store_job_get(s->store, ids[i], &r) == 0)
                rc = sched_remove(s, &r);
        }
    return rc;
}

static int load(struct sched *s, const struct job_row *r, struct stream **out) {
    struct stream *st = calloc(1, sizeof *st);
    if (!st || !(st->read_buffer = malloc(STREAM_READ))) {
        free(st);
        return -ENOMEM;
    }
    st->s = s;
    st->id = r->job.id;
    st->priority = r->job.priority;
    st->codec = r->job.kind == WORK_STREAM_JSON ? &codec_json : &codec_frames;
    int rc = draft_spec(s, st->id, &st->input);
    if (rc == 0)
        rc = submit_place(s, r, st->place);
    if (rc == 0)
        rc = store_stream_get(s->store, st->id, &st->row);
    if (rc == 0)
        rc = drop_parts(s, st->id);
    if (rc < 0) {
        free(st->read_buffer);
        free(st);
        return rc;
    }
    st->in_size = input_size(s, st);
    st->out_size = store_log_size(s->store, st->id, BODY_RESULT);
    st->print_size[0] = store_log_size(s->store, st->id, BODY_STDOUT);
    st->print_size[1] = store_log_size(s->store, st->id, BODY_STDERR);
    st->parsed = st->row.at;
    st->lines = st->row.line;
    st->next_call = st->next_send = st->row.call;
    st->closed = !s->is_open || !s->is_open(s->is_open_arg, st->id, true);
    st->next = s->streams;
    s->streams = st;
    s->stream_count++;
    sched_tick(s);
    *out = st;
    return 0;
}

/* To running: with rows of its own, from its beginning. A job that was running before keeps what it has. */
int stream_start(struct sched *s, struct job_row *r, unsigned also_save) {
    struct stream *st;
    struct stream_row row = {0};
    int rc = store_stream_get(s->store, r->job.id, &row);
    if (rc == -ENOENT) {
        rc = store_stream_put(s->store, r->job.id, &row);
        for (enum job_body b = BODY_RESULT; b <= BODY_STDERR && rc == 0; b++)
            rc = store_body_put_file(s->store, r->job.id, b, 0, BODY_LOG);
        if (rc == 0 && r->job.kind == WORK_STREAM_FRAMES)
            rc = store_log_append(s->store, r->job.id, BODY_RESULT, 0, FRAME_MAGIC, FRAME_MAGIC_SIZE);
    }
    r->job.attempt = 1;
    if (sched_check(s, rc) == 0)
        rc = sched_move(s, r, JOB_RUNNING, also_save);
    return rc < 0 ? rc : sched_check(s, load(s, r, &st));
}

/* The first write to a draft shows that it is a stream: from now on its name is its own, and its input is a log. */
int stream_begin(struct sched *s, struct job_row *r, enum work_kind kind) {
    int rc = sched_check(s, store_body_put_file(s->store, r->job.id, BODY_SPEC, 0, BODY_LOG));
    return rc < 0 ? rc : submit_stream(s, r, kind);
}

void stream_drop(struct sched *s, uint64_t job) {
    struct stream *st = stream_find(s, job);
    if (!st)
        return;
    sched_check(s, drop_parts(s, job));
    stream_let_go(st);
}

void stream_free_all(struct sched *s) {
    while (s->streams)
        stream_free(s->streams);
    lease_free_all(s);
}

/* --- input ------------------------------------------------------------------------------------------------------- */

static int feed(struct stream *st, const char *bytes, size_t size) {
    int64_t n = st->codec->parse(st, bytes, size);
    if (n < 0)
        return (int)n;
    st->parsed += n;
    return 0;
}

/* Held, or queued behind others: it is not in memory. */
static int write_queued(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset) {
    int64_t have = store_log_size(s->store, r->job.id, BODY_SPEC);
    if (have < 0 || job_ended(r->job.state))
        return have < 0 ? (int)have : -ESTALE;
    if (offset + size <= (uint64_t)have)
        return 0;
    return offset == (uint64_t)have ? sched_check(s, store_log_append(s->store, r->job.id, BODY_SPEC, have, bytes, size)) : -ESPIPE;
}

int stream_write(struct sched *s, const struct job_row *r, const void *bytes, size_t size, uint64_t offset) {
    struct stream *st = stream_find(s, r->job.id);
    int rc = 0;
    if (!st)
        return write_queued(s, r, bytes, size, offset);
    if (offset + size <= (uint64_t)st->in_size)
        return 0; /* sent again by the kernel after a daemon died: it is in the log */
    if (offset != (uint64_t)st->in_size || st->input.file != BODY_LOG || st->parsed_all)
        return st->parsed_all ? -ESTALE : -ESPIPE; /* a stream can only be appended to */
    rc = buffer_add(&st->tail, bytes, size);
    if (rc < 0)
        return rc;
    bool caught_up = st->parsed == st->in_size;
    st->in_size += (int64_t)size;
    rc = store_touch(s->store);
    if (rc == 0 && caught_up && !stream_full(st))
        rc = feed(st, bytes, size);
    stream_mark(st);
    return sched_check(s, rc);
}

int stream_opened(struct sched *s, const struct job_row *r) {
    struct stream *st = stream_find(s, r->job.id);
    if (st && st->parsed_all)
        return -ETXTBSY; /* its end has been seen: no line can follow */
    if (st)
        st->closed = false;
    return 0;
}

int stream_closed(struct sched *s, const struct job_row *r) {
    struct stream *st = stream_find(s, r->job.id);
    if (st) {
        st->closed = true;
        stream_mark(st);
    }
    return st ? store_touch(s->store) : 0;
}

static void was_read(void *arg, int rc) {
    struct stream *st = arg;
    struct sched *s = st->s;
    st->reading = false;
    if (st->id == 0) {
        stream_free(st);
        return;
    }
    if (rc > 0)
        sched_check(s, feed(st, st->read_buffer, (size_t)rc));
    else if (rc < 0)
        sched_log(s, "the input of a stream could not be read: %s", strerror(-rc));
    sched_tick(s);
}

/* Reads on in the input where the parser is. What this turn has brought is read from memory. */
static int read_on(struct stream *st) {
    struct sched *s = st->s;
    int64_t in_log = st->in_size - (int64_t)st->tail.size, n;
    if (st->parsed >= in_log)
        return feed(st, st->tail.bytes + (st->parsed - in_log), (size_t)(st->in_size - st->parsed));
    size_t want = in_log - st->parsed < (int64_t)STREAM_READ ? (size_t)(in_log - st->parsed) : STREAM_READ;
    if (st->input.file == BODY_LOG)
        n = store_log_read(s->store, st->id, BODY_SPEC, st->read_buffer, want, (uint64_t)st->parsed);
    else if (st->input.file == 0)
        n = store_body_read(s->store, st->id, BODY_SPEC, st->read_buffer, want, (uint64_t)st->parsed);
    else
        n = spool_read(s->spool, (struct spool_name){st->id, BODY_SPEC, st->input.file}, st->read_buffer, want, (uint64_t)st->parsed, was_read, st);
    if (n == -EINPROGRESS) {
        st->reading = true;
        return 0;
    }
    if (n <= 0)
        return n < 0 ? (int)n : -EIO;
    return feed(st, st->read_buffer, (size_t)n);
}

static int parse_on(struct stream *st) {
    int rc = 0;
    if (st->more && !stream_full(st)) {
        st->more = false;
        rc = feed(st, "", 0);
        stream_mark(st);
    }
    while (rc == 0 && !st->reading && !st->parsed_all && st->parsed < st->in_size && !stream_full(st)) {
        int64_t before = st->parsed;
        rc = read_on(st);
        if (st->parsed == before)
            break;
        stream_mark(st);
    }
    if (rc == 0 && st->closed && !st->parsed_all && !st->more && st->parsed == st->in_size && !stream_full(st)) {
        rc = st->codec->close(st);
        st->parsed_all = true;
        stream_mark(st);
    }
    return rc;
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

struct call *stream_add(struct stream *st, uint64_t id, int64_t end) {
    uint64_t number = st->next_call++;
    struct call *c = stream_call(st, number);
    uint64_t bit = number - st->row.call;
    *c = (struct call){.state = CALL_PENDING, .id = id, .end = end};
    if (st->row.answered[bit / 8] & (1u << bit % 8))
        c->state = CALL_ANSWERED; /* before a daemon died */
    else
        st->pending++;
    return c;
}

/* The bits are relative to the oldest call: shifted when that moves. */
static void shift(struct stream_row *r, uint64_t by) {
    size_t bytes = by / 8;
    memmove(r->answered, r->answered + bytes, sizeof r->answered - bytes);
    memset(r->answered + sizeof r->answered - bytes, 0, bytes);
    for (unsigned bit = by % 8; bit; bit = 0)
        for (size_t i = 0; i < sizeof r->answered; i++)
            r->answered[i] = (uint8_t)(r->answered[i] >> bit | (i + 1 < sizeof r->answered ? r->answered[i + 1] << (8 - bit) : 0));
}

static int advance(struct stream *st) {
    uint64_t moved = 0;
    int rc = 0;
    while (st->row.call + moved < st->next_call && rc == 0) {
        struct call *c = stream_call(st, st->row.call + moved);
        if (c->state != CALL_ANSWERED)
            break;
        rc = st->codec->advance(st, c);
        st->row.at = c->end;
        clear_call(c);
        moved++;
    }
    if (moved) {
        shift(&st->row, moved);
        st->row.call += moved;
    }
    return rc;
}

int stream_answered(struct stream *st, struct call *c) {
    if (c->state == CALL_PENDING)
        st->pending--;
    c->state = CALL_ANSWERED;
    if (stream_number(st, c) + 1 == st->row.suspect)
        st->row.suspect = st->row.deaths = 0;
    free(c->bytes);
    c->bytes = NULL;
    stream_mark(st);
    return store_touch(st->s->store);
}

/* --- jobs of their own: what has options, and programs ----------------------------------------------------------- */

int stream_job(struct stream *st, struct call *c) {
    struct sched *s = st->s;
    struct job_row owner, r;
    int rc = store_job_get(s->store, st->id, &owner);
    if (rc < 0)
        return rc;
    rc = submit_part(s, &owner, c, stream_number(st, c), st->codec->kind, &r);
    if (rc < 0)
        return rc;
    c->state = CALL_JOB;
    c->job = r.job.id;
    st->pending--;
    return job_ended(r.job.state) ? stream_job_ended(s, &r) : 0;
}

/* All of a body; malloc'd. What a job of a stream answers has just been written, so it is in the page cache. */
static int read_body(struct sched *s, uint64_t job, enum job_body body, struct buffer *out) {
    char path[SPOOL_PATH];
    struct body b;
    int rc = store_body_get(s->store, job, body, &b);
    if (rc < 0)
        return rc == -ENOENT ? 0 : rc;
    if (b.size > (int64_t)FRAME_WHOLE_MAX)
        return -EFBIG;
    out->bytes = malloc((size_t)b.size + 1);
    if (!out->bytes)
        return -ENOMEM;
    out->cap = (size_t)b.size + 1;
    if (!b.file) {
        int64_t n = store_body_read(s->store, job, body, out->bytes, (size_t)b.size, 0);
        out->size = n > 0 ? (size_t)n : 0;
        return n < 0 ? (int)n : 0;
    }
    FILE *f = fopen(spool_path(s->spool, (struct spool_name){job, body, b.file}, path), "re");
    out->size = f ? fread(out->bytes, 1, (size_t)b.size, f) : 0;
    if (f)
        fclose(f);
    return f && out->size == (size_t)b.size ? 0 : -EIO;
}

static enum stream_error error_of(const struct job *j) {
    return j->error == ETIMEDOUT ? ERROR_TIMEOUT : j->exit_signal || j->exit_status ? ERROR_DIED : j->attempt ? ERROR_RAISED : ERROR_REFUSED;
}

static int answer_with(struct stream *st, struct call *c, const struct job *j) {
    struct buffer b = {0};
    if (j->state != JOB_DONE)
        return st->codec->fail(st, c, j->state == JOB_CANCELLED ? 0 : error_of(j), j->why);
    int rc = read_body(st->s, j->id, job_result_body(j->kind), &b);
    if (rc == 0)
        rc = j->kind == WORK_JSON_RUN ? stream_json_text(st, c, b.bytes, b.size) : st->codec->answer(st, c, ANSWER_VALUE, b.bytes ? b.bytes : "", b.size);
    else
        rc = st->codec->fail(st, c, ERROR_DIED, "its result could not be read");
    buffer_free(&b);
    return rc;
}

int stream_job_ended(struct sched *s, const struct job_row *r) {
    struct stream *st = stream_find(s, r->stream);
    int rc = 0;
    if (st && r->call >= st->row.call && r->call < st->next_call) {
        struct call *c = stream_call(st, r->call);
        if (c->state == CALL_JOB && c->job == r->job.id)
            rc = answer_with(st, c, &r->job);
    }
    return sched_check(s, rc);
}

/* --- the turn ---------------------------------------------------------------------------------------------------- */

static int flush(struct stream *st, enum job_body b, struct buffer *what, int64_t *size, bool counted) {
    if (!what->size)
        return 0;
    int64_t start = counted ? *size - (int64_t)what->size : *size;
    int rc = store_log_append(st->s->store, st->id, b, start, what->bytes, what->size);
    if (!counted)
        *size += (int64_t)what->size;
    buffer_empty(what);
    return rc;
}

static int finished(struct stream *st) {
    struct sched *s = st->s;
    struct job_row r;
    int rc = store_job_get(s->store, st->id, &r);
    lease_end(st);
    if (rc == 0)
        rc = sched_move(s, &r, JOB_DONE, 0);
    if (rc == 0)
        rc = store_stream_delete(s->store, st->id);
    return rc;
}

void stream_suspect(struct stream *st, const struct call *c) {
    if (st->row.suspect || store_touch(st->s->store) < 0)
        return;
    st->row.suspect = stream_number(st, c) + 1;
    stream_mark(st);
}

/* A call at which ppfs has died three times is not tried again. */
static int give_up(struct stream *st) {
    uint64_t number = st->row.suspect - 1;
    if (st->row.deaths < DEATHS_MAX || !st->row.suspect || number < st->row.call || number >= st->next_call)
        return 0;
    struct call *c = stream_call(st, number);
    if (c->state != CALL_PENDING)
        return 0;
    return st->codec->fail(st, c, ERROR_DIED, "gave up: it was running at three deaths of ppfs or its node");
}

static int turn(struct stream *st, bool *ended) {
    struct sched *s = st->s;
    int rc = advance(st);
    if (rc == 0)
        rc = parse_on(st);
    if (rc == 0)
        rc = give_up(st);
    if (rc == 0 && st->dirty)
        rc = advance(st);
    if (rc < 0 || !st->dirty)
        return rc;
    rc = flush(st, BODY_SPEC, &st->tail, &st->in_size, true);
    if (rc == 0)
        rc = flush(st, BODY_RESULT, &st->out, &st->out_size, false);
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = flush(st, i ? BODY_STDERR : BODY_STDOUT, &st->prints[i], &st->print_size[i], false);
    *ended = rc == 0 && st->parsed_all && st->row.call == st->next_call;
    if (rc == 0)
        rc = *ended ? finished(st) : store_stream_put(s->store, st->id, &st->row);
    sched_note(s, st->id);
    st->dirty = false;
    return rc;
}

void stream_turn(struct sched *s) {
    for (struct stream *st = s->streams, *next; st; st = next) {
        bool ended = false;
        next = st->next;
        if (!st->dirty && !st->more && st->parsed == st->in_size && (st->parsed_all || !st->closed))
            continue;
        if (sched_check(s, turn(st, &ended)) < 0)
            return;
        if (ended) {
            stream_free(st);
            s->backlog = true; /* another stream may have waited for its place in memory */
        }
    }
}

/* Memory ran ahead of a database that did not follow: all streams are forgotten here and read anew from what was committed. */
void stream_rolled_back(struct sched *s) {
    while (s->streams)
        stream_let_go(s->streams);
}

int stream_recover(struct sched *s, bool death) {
    uint64_t ids[64], after = 0;
    int rc = 0;
    for (int n; rc == 0 && (n = store_ids(s->store, SET_RUNNING, 0, after, ids, 64)) > 0;)
        for (int i = 0; i < n && rc == 0; i++) {
            struct job_row r;
            struct stream *st;
            after = ids[i];
            if (store_job_get(s->store, ids[i], &r) < 0 || !job_is_stream(&r.job) || stream_find(s, ids[i]))
                continue;
            rc = sched_check(s, load(s, &r, &st));
            if (rc == 0 && death && st->row.suspect) {
                st->row.deaths++;
                rc = sched_check(s, store_stream_put(s->store, st->id, &st->row));
            }
        }
    return rc;
}
