/* Two lists of pieces: `coming` is the loop's, `writing` the thread's while the sink is busy. Nothing else is shared,
 * and the sink lives until the thread has let go of it. Closing is the thread's as well: with it a large file is freed.
 * */
#include "worker/runner/sink.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct piece {
    struct piece *next;
    size_t size;
    uint8_t bytes[];
};

struct sink {
    struct disk_task task; /* first: a task is its sink */
    struct disk *disk;
    void (*progress)(void *arg);
    void *arg;
    bool busy, closed;
    struct piece *coming, **coming_end;
    uint32_t kept;
    struct piece *writing; /* from here on the thread's while it is busy */
    uint32_t written;      /* of them */
    int fd, err;
    char name[]; /* what mkostemp takes, "" once it is made */
};

static void shut(struct disk_task *t) {
    struct sink *s = (struct sink *)t;

    if (s->fd >= 0)
        close(s->fd);
}

static void gone(struct disk_task *t) {
    free(t);
}

static void make(struct sink *s) {
    s->fd = mkostemp(s->name, O_CLOEXEC);
    if (s->fd < 0)
        s->err = errno;
    else
        unlink(s->name);
    s->name[0] = 0;
}

static void write_piece(struct sink *s, const struct piece *p) {
    for (size_t at = 0; at < p->size && !s->err;) {
        ssize_t n = write(s->fd, p->bytes + at, p->size - at);
        if (n >= 0)
            at += (size_t)n;
        else if (errno != EINTR)
            s->err = errno;
    }
}

static void write_on(struct disk_task *t) {
    struct sink *s = (struct sink *)t;

    if (s->name[0])
        make(s);
    for (struct piece *p = s->writing; p && !s->err; p = p->next) {
        write_piece(s, p);
        s->written += !s->err;
    }
}

static void drop(struct piece *p) {
    for (struct piece *next; p; p = next) {
        next = p->next;
        free(p);
    }
}

static void submit(struct sink *s, void (*work)(struct disk_task *t), void (*done)(struct disk_task *t)) {
    s->busy = true;
    s->task = (struct disk_task){.work = work, .done = done};
    disk_submit(s->disk, &s->task);
}

static void leave(struct sink *s) {
    drop(s->coming);
    s->coming = NULL;
    submit(s, shut, gone);
}

static void was_written(struct disk_task *t);

static void write_coming(struct sink *s) {
    s->writing = s->coming;
    s->coming = NULL;
    s->coming_end = &s->coming;
    submit(s, write_on, was_written);
}

static void was_written(struct disk_task *t) {
    struct sink *s = (struct sink *)t;

    s->busy = false;
    s->kept += s->written;
    s->written = 0;
    drop(s->writing);
    s->writing = NULL;
    if (s->closed) {
        leave(s);
        return;
    }
    if (s->coming && !s->err)
        write_coming(s);
    s->progress(s->arg);
}

int sink_open(struct sink **out, struct disk *disk, const char *dir, void (*progress)(void *arg), void *arg) {
    static const char form[] = "/ppfs-payload-XXXXXX";
    struct sink *s = malloc(sizeof(*s) + strlen(dir) + sizeof(form));

    if (!s)
        return -ENOMEM;
    *s = (struct sink){.disk = disk, .progress = progress, .arg = arg, .fd = -1};
    sprintf(s->name, "%s%s", dir, form);
    write_coming(s);
    *out = s;
    return 0;
}

int sink_add(struct sink *s, const void *bytes, size_t size) {
    struct piece *p = malloc(sizeof(*p) + size);

    if (!p)
        return -ENOMEM;
    *p = (struct piece){.size = size};
    if (size)
        memcpy(p->bytes, bytes, size);
    *s->coming_end = p;
    s->coming_end = &p->next;
    if (!s->busy && !s->err)
        write_coming(s);
    return 0;
}

uint32_t sink_kept(const struct sink *s) {
    return s->kept;
}

bool sink_idle(const struct sink *s) {
    return !s->busy;
}

int sink_error(const struct sink *s) {
    return s->busy ? 0 : -s->err;
}

int sink_fd(const struct sink *s) {
    return s->fd;
}

void sink_close(struct sink *s) {
    if (!s)
        return;
    s->closed = true;
    if (!s->busy)
        leave(s);
}
