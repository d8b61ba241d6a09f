/* Work and outcomes as bytes (net/wire.h). Decoding checks each length against what is left and demands that every byte
 * be used, so what comes out of it needs no further check but of its meaning. */
#include "worker/runner/work.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/printable.h"
#include "net/session/frame.h"
#include "net/wire.h"

enum { WORK_FORMAT = 2, ENV_MAX = 4096 };
/* microseconds, or KiB: more than a job can use, and thousands of them can be added */
#define USAGE_MAX (INT64_C(1) << 50)
enum {
    FLAG_CWD_REQUIRED = 1,
    FLAG_ENV = 2,
    FLAG_FILE = 4,
    FLAG_SANDBOX_AT = 3,
    FLAG_SANDBOX = 3 << FLAG_SANDBOX_AT,
    FLAG_FILES_IN = 32,
    FLAG_FILES_OUT = 64,
    FLAG_FILES = 128, /* their names */
    FLAGS = 255
};

_Static_assert(WORK_INLINE_MAX + WORK_META_MAX <= FRAME_BODY_MAX, "work fits one frame");

/* A job's path below jobs/: files and directories are made of it. */
static bool is_job_name(const char *name) {
    size_t n;

    for (const char *at = name;; at += n + 1) {
        n = strcspn(at, "/");
        if (!n || n > NAME_MAX || (at[0] == '.' && (n == 1 || (n == 2 && at[1] == '.'))))
            return false;
        if (!at[n])
            return true;
    }
}

bool work_is_lease(const struct work *w) {
    return w->kind == WORK_STREAM_JSON || w->kind == WORK_STREAM_FRAMES;
}

bool work_isolated(const struct work *w) {
    bool own = w->kind == WORK_PYTHON || w->kind == WORK_PROGRAM || w->kind == WORK_JSON_RUN;

    return own || w->files_in || w->files_out || w->memory || w->sandbox || (w->env && w->env[0]) ||
           w->uid != geteuid();
}

static void work_write(struct wire_out *out, const struct work *w) {
    uint32_t flags = (w->cwd_required ? FLAG_CWD_REQUIRED : 0u) | (w->env ? FLAG_ENV : 0u) |
                     (w->file ? FLAG_FILE : 0u) | (w->sandbox << FLAG_SANDBOX_AT & FLAG_SANDBOX) |
                     (w->files_in ? FLAG_FILES_IN : 0u) | (w->files_out ? FLAG_FILES_OUT : 0u) |
                     (w->files ? FLAG_FILES : 0u);
    uint32_t count = 0;

    wire_put_u32(out, WORK_FORMAT);
    wire_put_u32(out, (uint32_t)w->kind);
    wire_put_u32(out, flags);
    wire_put_u32(out, w->attempt);
    wire_put_u64(out, w->job);
    wire_put_u32(out, w->uid);
    wire_put_u32(out, w->gid);
    wire_put_u64(out, w->memory);
    wire_put_string(out, w->name);
    wire_put_string(out, w->node);
    wire_put_string(out, w->cwd);
    if (w->env) {
        while (w->env[count])
            count++;
        wire_put_u32(out, count);
        for (uint32_t i = 0; i < count; i++)
            wire_put_string(out, w->env[i]);
    }
    if (w->file)
        wire_put_string(out, w->file);
    if (w->files)
        wire_put_string(out, w->files);
}

int work_encode(const struct work *w, void **out, uint32_t *size) {
    struct wire_out wr = {0};
    uint32_t payload = w->file && !w->files_in ? 0 : w->payload_size;

    work_write(&wr, w);
    if (wr.size > WORK_META_MAX || payload > WORK_INLINE_MAX)
        return -EMSGSIZE;
    if (w->env)
        for (uint32_t i = 0; w->env[i]; i++)
            if (i >= ENV_MAX)
                return -EMSGSIZE;
    wr.at = malloc(wr.size + payload);
    if (!wr.at)
        return -ENOMEM;
    wr.size = 0;
    work_write(&wr, w);
    wire_put(&wr, w->payload, payload);
    *out = wr.at;
    *size = (uint32_t)wr.size;
    return 0;
}

int work_decode(const void *bytes, size_t size, struct work *w, void **hold) {
    struct wire_in r = {.at = bytes, .left = size};
    const char **env = NULL;

    *w = (struct work){0};
    *hold = NULL;
    if (wire_get_u32(&r) != WORK_FORMAT)
        return -EPROTO;
    uint32_t kind = wire_get_u32(&r), flags = wire_get_u32(&r);
    w->kind = (enum work_kind)kind;
    w->attempt = wire_get_u32(&r);
    w->job = wire_get_u64(&r);
    w->uid = wire_get_u32(&r);
    w->gid = wire_get_u32(&r);
    w->memory = wire_get_u64(&r);
    w->name = wire_get_string(&r);
    w->node = wire_get_string(&r);
    w->cwd = wire_get_string(&r);
    w->cwd_required = flags & FLAG_CWD_REQUIRED;
    w->sandbox = (flags & FLAG_SANDBOX) >> FLAG_SANDBOX_AT;
    if (flags & FLAG_ENV) {
        uint32_t count = wire_get_u32(&r);
        if (r.bad || count > ENV_MAX || count > r.left / 5)
            return -EPROTO;
        env = calloc(count + 1u, sizeof(*env));
        if (!env)
            return -ENOMEM;
        for (uint32_t i = 0; i < count; i++)
            env[i] = wire_get_string(&r);
    }
    if (flags & FLAG_FILE)
        w->file = wire_get_string(&r);
    if (flags & FLAG_FILES)
        w->files = wire_get_string(&r);
    w->files_in = flags & FLAG_FILES_IN;
    w->files_out = flags & FLAG_FILES_OUT;
    bool sane = !r.bad && !(flags & ~(uint32_t)FLAGS) && kind > WORK_NONE && kind <= WORK_CALL &&
                is_job_name(w->name) && !strchr(w->node, '/') && r.left <= WORK_INLINE_MAX &&
                (!w->file || (w->file[0] == '/' && (w->files_in || r.left == 0))) && (!w->files_in || w->file) &&
                (!w->files_out || w->files) && (!work_is_lease(w) || !w->files_in) &&
                /* to setresuid they mean whoever one is: root */
                w->uid != (uid_t)-1 && w->gid != (gid_t)-1;
    for (uint32_t i = 0; sane && env && env[i]; i++)
        sane = strchr(env[i], '=') > env[i]; /* also false where there is none */
    if (!sane) {
        free(env);
        return -EPROTO;
    }
    w->env = env;
    w->payload = w->file && !w->files_in ? NULL : r.at;
    w->payload_size = (uint32_t)r.left;
    *hold = env;
    return 0;
}

/* Flags that travel in the place of the status of lost work. */
enum { LOST_UNBEGUN = 1, LOST_NO_ROOM = 2 };

static uint32_t lost_words(const struct work_outcome *o) {
    return (o->unbegun ? LOST_UNBEGUN : 0) | (o->no_room ? LOST_NO_ROOM : 0);
}

void work_outcome_encode(const struct work_outcome *o, uint8_t *buf, uint32_t *size) {
    struct wire_out wr = {.at = buf};

    wire_put_u32(&wr, o->attempt);
    wire_put_u32(&wr, (uint32_t)o->end);
    wire_put_u32(&wr, o->end == WORK_LOST ? lost_words(o) : (uint32_t)o->status);
    wire_put_u64(&wr, (uint64_t)o->user_us);
    wire_put_u64(&wr, (uint64_t)o->system_us);
    wire_put_u64(&wr, (uint64_t)o->wall_us);
    wire_put_u64(&wr, (uint64_t)o->maxrss_kib);
    wire_put_string(&wr, o->why);
    *size = (uint32_t)wr.size;
}

/* A job's own process may have said it. What a node takes from its workers ppfs takes from the node: else it would let
 * go of the node, and lose the work of others there. */
static bool usable(int64_t usage) {
    return usage >= 0 && usage <= USAGE_MAX;
}

int work_outcome_decode(const void *bytes, size_t size, struct work_outcome *o) {
    struct wire_in r = {.at = bytes, .left = size};

    *o = (struct work_outcome){0};
    o->attempt = wire_get_u32(&r);
    uint32_t end = wire_get_u32(&r);
    o->status = (int)wire_get_u32(&r);
    o->user_us = (int64_t)wire_get_u64(&r);
    o->system_us = (int64_t)wire_get_u64(&r);
    o->wall_us = (int64_t)wire_get_u64(&r);
    o->maxrss_kib = (int64_t)wire_get_u64(&r);
    const char *why = wire_get_string(&r);
    if (r.bad || r.left || end > WORK_LOST || strlen(why) >= sizeof(o->why) || !usable(o->user_us) ||
        !usable(o->system_us) || !usable(o->wall_us) || !usable(o->maxrss_kib))
        return -EPROTO;
    o->end = (enum work_end)end;
    if (o->end == WORK_LOST) {
        o->unbegun = o->status & LOST_UNBEGUN;
        o->no_room = o->unbegun && (o->status & LOST_NO_ROOM);
        o->status = 0;
    }
    memcpy(o->why, why, strlen(why) + 1);
    return 0;
}

/* The sentences are those of without_module and resolve in forkserver/calls.py. */
bool work_lacks(const char *why, size_t size, char module[WORK_MODULE]) {
    static const char unpickled[] = "the call could not be unpickled on the node ", named[] = "No module named '",
                      json[] = "there is no module '";
    const char *line = memchr(why, '\n', size), *at = NULL;

    size = line ? (size_t)(line - why) : size;
    *module = 0;
    if (size > sizeof json && memcmp(why, json, sizeof json - 1) == 0)
        at = why + sizeof json - 1;
    else if (size < sizeof unpickled || memcmp(why, unpickled, sizeof unpickled - 1) != 0)
        return false;
    else if ((at = memmem(why, size, named, sizeof named - 1)))
        at += sizeof named - 1;
    const char *end = at ? memchr(at, '\'', size - (size_t)(at - why)) : NULL;
    if (end)
        snprintf(module, WORK_MODULE, "%.*s", (int)(end - at), at);
    printable(module, WORK_MODULE);
    return true;
}
