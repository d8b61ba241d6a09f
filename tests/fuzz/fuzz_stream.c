/* Streams against whatever somebody writes: the frame decoder, the parsers of both forms, the look ahead for CANCELs
 * and the logs, on a real scheduler and database in a temporary directory. No slot is free, so no call ever runs.
 *
 * An input is a little program that makes the bytes of a stream (see expand), so that large bodies and whole frames are
 * within reach of a mutation. It is written three times: in one piece, cut, and cut and then read anew from the logs,
 * as after a death. All three must have the same answers and the same number of calls left.
 *
 * With libFuzzer (configure --enable-fuzzing): tests/fuzz/fuzz_stream DIRECTORY. In make check tests/fuzz/replay.c runs
 * the saved samples through it. $PPFS_WORKER names the worker. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/digest.h"
#include "sched/sched.h"
#include "sched/streams/streams.h"
#include "sched/users/state.h"

#define BYTES_MAX (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event_base *base;
static struct sched *s;
static char dir[64];
static unsigned serial;

static void changed(void *arg, uint64_t job) {
}
static void on_log(void *arg, const char *sentence) {
}
static bool writer_is_open;
static bool is_open(void *arg, uint64_t job, bool for_writing) {
    return for_writing && writer_is_open;
}

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

static void end(void) {
    char command[128];
    sched_destroy(s);
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    if (system(command) != 0)
        fprintf(stderr, "%s could not be removed\n", dir);
}

static void begin(void) {
    char why[512];
    strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/ppfs-fuzz-XXXXXX" : "/tmp/ppfs-fuzz-XXXXXX");
    CHECK(getenv("PPFS_WORKER") && mkdtemp(dir) && chmod(dir, 0700) == 0 && (base = event_base_new()));
    struct sched_config c = {.base = base,
                             .state_dir = dir,
                             .mountpoint = "/nowhere",
                             .worker_path = getenv("PPFS_WORKER"),
                             .cpus = 0,
                             .changed = changed,
                             .group_changed = changed,
                             .log = on_log};
    if (sched_create(&s, &c, why, sizeof why) < 0) {
        fprintf(stderr, "%s\n", why);
        abort();
    }
    CHECK(sched_recover(s, is_open, NULL) == 0);
    atexit(end);
}

/* --- the program that makes the bytes ---------------------------------------------------------------------------- */

struct text {
    char *bytes;
    size_t size;
};

static void put(struct text *t, const void *bytes, size_t size) {
    if (size > BYTES_MAX - t->size)
        size = BYTES_MAX - t->size;
    if (bytes)
        memcpy(t->bytes + t->size, bytes, size);
    else
        memset(t->bytes + t->size, 0, size);
    t->size += size;
}

static void put_function(struct text *t, uint8_t fill, size_t size, uint8_t only_hash[DIGEST_SIZE]) {
    static uint8_t bytes[DIGEST_SIZE + 256 * 1024];
    uint8_t header[FRAME_HEADER];
    size += size == 0;
    memset(bytes + DIGEST_SIZE, fill, size);
    CHECK(digest(bytes + DIGEST_SIZE, size, only_hash ? only_hash : bytes) == 0);
    if (only_hash)
        return;
    frame_encode(header, FRAME_FUNC, 0, (uint32_t)(DIGEST_SIZE + size));
    put(t, header, sizeof header);
    put(t, bytes, DIGEST_SIZE + size);
}

static void put_naming(struct text *t, uint8_t id, uint8_t fill, size_t size) {
    uint8_t header[FRAME_HEADER], hash[DIGEST_SIZE], options = id % 2 ? 2 : 0;
    if (options)
        put_function(t, fill, size, NULL);
    put_function(t, fill, size, hash);
    frame_encode(header, FRAME_CALL, id, 4u + options + 3 * DIGEST_SIZE + 4);
    put(t, header, sizeof header);
    put(t, (uint8_t[]){1, 2, options, 0, '{', '}'}, 4u + options);
    for (int i = 0; i < 3; i++)
        put(t, hash, sizeof hash);
    put(t, "args", 4);
}

/* 0 n bytes: those bytes. 1 n: n KiB of zeros. 2 kind id n m: a header of a body of n bytes and m KiB. 3 id n: a whole
 * CALL with n bytes of arguments. 4 kind id n times: so many (of 128 parts of a window) frames, ids counting up. 5 fill
 * - n m: a FUNC of n bytes and m KiB whose hash is right. 6 id fill n m: a CALL that lists it, twice; with an odd id it
 * has options and comes behind the FUNC. */
static void expand(struct text *t, const uint8_t *p, size_t size) {
    uint8_t header[FRAME_HEADER];
    for (const uint8_t *last = p + size; last - p >= 5;) {
        uint8_t op = p[0] % 7, a = p[1], b = p[2], c = p[3], d = p[4];
        p += (uint8_t[]){2, 2, 5, 3, 5, 5, 5}[op];
        size_t left = (size_t)(last - p), n = a < left ? a : left, body = c + d * 1024u;
        switch (op) {
        case 0:
            put(t, p, n);
            p += n;
            break;
        case 1: put(t, NULL, a * 1024u); break;
        case 2:
            frame_encode(header, a, b, body < FRAME_BODY_MAX ? (uint32_t)body : FRAME_BODY_MAX);
            put(t, header, sizeof header);
            break;
        case 3:
            frame_encode(header, FRAME_CALL, a, 4u + b);
            put(t, header, sizeof header);
            put(t, NULL, 4u + b);
            break;
        case 5: put_function(t, a, body, NULL); break;
        case 6: put_naming(t, a, b, body); break;
        case 4:
            for (unsigned i = 0; i < d * (STREAM_PENDING / 128u); i++) { /* half of all d fill the window */
                frame_encode(header, a % 8, b + i, c % 8);
                put(t, header, sizeof header);
                put(t, NULL, c % 8);
            }
        }
    }
}

/* --- one stream -------------------------------------------------------------------------------------------------- */

static void turn(void) {
    sched_turn(s);
    CHECK(sched_commit(s) == 0);
}

static void wrote(void *arg, int rc) {
    *(int *)arg = rc;
}

static int write_piece(uint64_t job, const char *bytes, size_t size, uint64_t offset) {
    int rc = 1, sent = sched_write(s, job, bytes, size, offset, wrote, &rc);
    if (sent != -EINPROGRESS)
        rc = sent;
    while (rc == 1)
        event_base_loop(base, EVLOOP_ONCE);
    turn();
    return rc;
}

static void settle(uint64_t job) {
    struct stream *st;
    for (int i = 0; i < 3; i++) {
        turn();
        while ((st = stream_find(s, job)) && (st->reading || st->lookahead.reading || st->flight || st->storing ||
                                              st->writing || st->out.size || stream_did_enough(st))) {
            event_base_loop(base, EVLOOP_ONCE);
            turn();
        }
    }
}

struct outcome { /* what must not depend on how it was written */
    char why[JOB_WHY_MAX];
    struct text answers;
    uint64_t sum; /* of the answers, in whatever order */
};

static int64_t read_answers(uint64_t job, struct text *t) {
    int64_t size = sched_size(s, job, BODY_RESULT);
    CHECK(size >= 0);
    t->bytes = malloc((size_t)size + 1);
    CHECK(t->bytes);
    while ((int64_t)t->size < size) {
        int rc = INT32_MAX;
        int64_t n = sched_read(s, job, BODY_RESULT, t->bytes + t->size, (size_t)size - t->size, t->size, wrote, &rc);
        while (n == -EINPROGRESS && rc == INT32_MAX)
            event_base_loop(base, EVLOOP_ONCE);
        n = n == -EINPROGRESS ? rc : n;
        CHECK(n > 0);
        t->size += (size_t)n;
    }
    return size;
}

static uint64_t sum_of(const char *bytes, size_t size) {
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        h = (h ^ (uint8_t)bytes[i]) * 0x100000001b3;
    return h;
}

/* The answers are frames without a gap; their sum does not tell in which order they came. */
static uint64_t check_frames(const struct text *t) {
    uint64_t sum = 0;
    CHECK(t->size >= FRAME_MAGIC_SIZE && memcmp(t->bytes, FRAME_MAGIC, FRAME_MAGIC_SIZE) == 0);
    for (size_t at = FRAME_MAGIC_SIZE; at < t->size;) {
        struct frame f;
        int64_t n = frame_decode((const uint8_t *)t->bytes + at, t->size - at, &f);
        CHECK(n > 0 && f.kind > FRAME_SKIPPABLE / 2 && f.kind <= FRAME_STARTED);
        sum += sum_of(t->bytes + at, (size_t)n);
        at += (size_t)n;
    }
    return sum;
}

static void inspect(uint64_t job, bool json, struct outcome *o) {
    struct job j;
    free(o->answers.bytes);
    o->answers = (struct text){0};
    CHECK(sched_job(s, job, &j) == 0);
    sched_why(s, &j, o->why, sizeof o->why);
    read_answers(job, &o->answers);
    o->sum = json ? sum_of(o->answers.bytes, o->answers.size) : check_frames(&o->answers);
}

static bool same(const struct outcome *a, const struct outcome *b) {
    if (strcmp(a->why, b->why) == 0 && a->sum == b->sum && a->answers.size == b->answers.size)
        return true;
    fprintf(stderr, "%zu bytes of answers, %s\n%zu bytes of answers, %s\n", a->answers.size, a->why, b->answers.size,
            b->why);
    return false;
}

/* cuts: 0 = in one piece, else how pieces are chosen. */
static uint64_t write_stream(const struct text *t, bool json, unsigned cuts, struct outcome *o) {
    char name[32];
    struct writer w = {.uid = getuid(), .gid = getgid(), .mode = 0644, .request = ++serial};
    struct job j;
    s->users->unknown = false; /* so that it comes into memory at once, though no slot is free */
    user_backlog(user_of(s, w.uid), false, false);
    snprintf(name, sizeof name, json ? "%u.jsonl" : "%u", serial);
    CHECK(sched_create_draft(s, 0, name, false, &w, &j) == 0);
    writer_is_open = true;
    size_t at = json ? 0 : FRAME_MAGIC_SIZE; /* the first write shows what it is */
    int rc = json ? 0 : write_piece(j.id, t->bytes, at, 0);
    for (unsigned x = cuts; rc == 0 && at < t->size;) {
        x = x * 1103515245u + 12345u;
        size_t n = (x >> 8) % (x % 4 == 0 ? 200000u : x % 4 * x % 4 * 300u + 20u) + 1;
        if (cuts == 0)
            n = t->size;
        n += t->size / 64; /* so that they do not become too many */
        n = n < t->size - at ? n : t->size - at;
        rc = write_piece(j.id, t->bytes + at, n, at);
        at += n;
    }
    CHECK(rc == 0 || rc == -ESTALE); /* ESTALE: it was not understood, and takes no more */
    writer_is_open = false;
    sched_release(s, j.id);
    settle(j.id);
    inspect(j.id, json, o);
    return j.id;
}

static void remove_stream(uint64_t job) {
    struct job j;
    CHECK(sched_job(s, job, &j) == 0);
    if (!job_ended(j.state))
        CHECK(sched_cancel(s, job, getuid()) == 0);
    CHECK(sched_forget(s, job, false) == 0);
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!s)
        begin();
    if (size < 2)
        return 0;
    bool json = data[0] & 1;
    struct text t = {.bytes = malloc(BYTES_MAX)};
    struct outcome whole = {0}, cut = {0}, anew = {0};
    CHECK(t.bytes);
    put(&t, FRAME_MAGIC, json ? 0 : FRAME_MAGIC_SIZE);
    expand(&t, data + 2, size - 2);
    if (t.size > (json ? 0 : FRAME_MAGIC_SIZE)) {
        uint64_t first = write_stream(&t, json, 0, &whole), second = write_stream(&t, json, data[1] + 1u, &cut);
        CHECK(same(&whole, &cut));
        struct job j;
        CHECK(sched_job(s, second, &j) == 0);
        if (!job_ended(j.state)) {
            stream_rolled_back(s);
            CHECK(stream_recover(s, false) == 0);
            settle(second);
            inspect(second, json, &anew);
            CHECK(same(&whole, &anew));
        }
        remove_stream(first);
        remove_stream(second);
    }
    free(t.bytes);
    free(whole.answers.bytes);
    free(cut.answers.bytes);
    free(anew.answers.bytes);
    return 0;
}
