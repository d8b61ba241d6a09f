/* The thread has the source while it is busy: the loop then looks at nothing but `busy` and `closed`, which the thread
 * does not know. Closing is the thread's as well: it may be the last one of a large file that has lost its name. */
#include "worker/runner/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct source {
    struct disk_task task; /* first: a task is its source */
    struct disk *disk;
    void (*ready)(void *arg);
    void *arg;
    bool busy, closed;
    char *path;
    int fd, err;
    bool end; /* no more comes after what is there */
    size_t at, size;
    uint8_t bytes[SOURCE_AHEAD];
};

static void shut(struct disk_task *t) {
    struct source *s = (struct source *)t;

    if (s->fd >= 0)
        close(s->fd);
}

static void gone(struct disk_task *t) {
    struct source *s = (struct source *)t;

    free(s->path);
    free(s);
}

static void submit(struct source *s, void (*work)(struct disk_task *t), void (*done)(struct disk_task *t)) {
    s->busy = true;
    s->task = (struct disk_task){.work = work, .done = done};
    disk_submit(s->disk, &s->task);
}

static void read_on(struct disk_task *t) {
    struct source *s = (struct source *)t;

    if (s->fd < 0 && (s->fd = open(s->path, O_RDONLY | O_CLOEXEC)) < 0)
        s->err = errno;
    s->at = s->size = 0;
    while (!s->err && !s->end && s->size < SOURCE_AHEAD) {
        ssize_t n = read(s->fd, s->bytes + s->size, SOURCE_AHEAD - s->size);
        if (n > 0)
            s->size += (size_t)n;
        else if (n == 0)
            s->end = true;
        else if (errno != EINTR)
            s->err = errno;
    }
}

static void was_read(struct disk_task *t) {
    struct source *s = (struct source *)t;

    s->busy = false;
    if (s->closed)
        submit(s, shut, gone);
    else
        s->ready(s->arg);
}

int source_open(struct source **out, struct disk *disk, const char *path, void (*ready)(void *arg), void *arg) {
    struct source *s = malloc(sizeof(*s));

    if (!s)
        return -ENOMEM;
    memset(s, 0, offsetof(struct source, bytes));
    s->disk = disk;
    s->ready = ready;
    s->arg = arg;
    s->fd = -1;
    s->path = strdup(path);
    if (!s->path) {
        free(s);
        return -ENOMEM;
    }
    submit(s, read_on, was_read);
    *out = s;
    return 0;
}

ssize_t source_peek(const struct source *s, const uint8_t **bytes) {
    if (s->busy)
        return -EAGAIN;
    *bytes = s->bytes + s->at;
    return s->at < s->size ? (ssize_t)(s->size - s->at) : -s->err;
}

void source_took(struct source *s, size_t size) {
    s->at += size;
    if (s->at == s->size && !s->end && !s->err)
        submit(s, read_on, was_read);
}

void source_close(struct source *s) {
    if (!s)
        return;
    s->closed = true;
    if (!s->busy)
        submit(s, shut, gone);
}
