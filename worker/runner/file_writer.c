/* Two lists of chunks: `coming` belongs to the loop, `writing` to the thread while the writer is busy. Nothing else is
 * shared, and the writer is freed after the thread's last use. The thread also closes the file, because that frees a
 * large file's blocks. */
#include "worker/runner/file_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "net/io.h"

struct piece {
    STAILQ_ENTRY(piece) next;
    size_t size;
    uint8_t bytes[];
};
STAILQ_HEAD(pieces, piece);

struct file_writer {
    struct disk_task task; /* first: a task is its writer */
    struct disk *disk;
    void (*progress)(void *arg);
    void *arg;
    bool busy, closed;
    struct pieces coming;
    uint32_t kept;
    struct pieces writing; /* from here on owned by the thread while it is busy */
    uint32_t written;      /* of them */
    int fd, err;
    char name[]; /* template for mkostemp; "" once it is made */
};

static void shut(struct disk_task *t) {
    struct file_writer *s = (struct file_writer *)t;

    if (s->fd >= 0)
        close(s->fd);
}

static void gone(struct disk_task *t) {
    free(t);
}

static void make(struct file_writer *s) {
    s->fd = mkostemp(s->name, O_CLOEXEC);
    if (s->fd < 0)
        s->err = errno;
    else
        unlink(s->name);
    s->name[0] = 0;
}

static void write_on(struct disk_task *t) {
    struct file_writer *s = (struct file_writer *)t;

    if (s->name[0])
        make(s);
    for (struct piece *p = STAILQ_FIRST(&s->writing); p && !s->err; p = STAILQ_NEXT(p, next)) {
        s->err = -io_write(s->fd, p->bytes, p->size, IO_NEXT);
        s->written += !s->err;
    }
}

static void drop(struct pieces *all) {
    for (struct piece *p; (p = STAILQ_FIRST(all));) {
        STAILQ_REMOVE_HEAD(all, next);
        free(p);
    }
}

static void submit(struct file_writer *s, void (*work)(struct disk_task *t), void (*done)(struct disk_task *t)) {
    s->busy = true;
    s->task = (struct disk_task){.work = work, .done = done};
    disk_submit(s->disk, &s->task);
}

static void leave(struct file_writer *s) {
    drop(&s->coming);
    submit(s, shut, gone);
}

static void was_written(struct disk_task *t);

static void write_coming(struct file_writer *s) {
    STAILQ_CONCAT(&s->writing, &s->coming);
    submit(s, write_on, was_written);
}

static void was_written(struct disk_task *t) {
    struct file_writer *s = (struct file_writer *)t;

    s->busy = false;
    s->kept += s->written;
    s->written = 0;
    drop(&s->writing);
    if (s->closed) {
        leave(s);
        return;
    }
    if (!STAILQ_EMPTY(&s->coming) && !s->err)
        write_coming(s);
    s->progress(s->arg);
}

int file_writer_open(struct file_writer **out, struct disk *disk, const char *dir, void (*progress)(void *arg),
                     void *arg) {
    static const char form[] = "/ppfs-payload-XXXXXX";
    struct file_writer *s = malloc(sizeof(*s) + strlen(dir) + sizeof(form));

    if (!s)
        return -ENOMEM;
    *s = (struct file_writer){.disk = disk, .progress = progress, .arg = arg, .fd = -1};
    STAILQ_INIT(&s->coming);
    STAILQ_INIT(&s->writing);
    sprintf(s->name, "%s%s", dir, form);
    write_coming(s);
    *out = s;
    return 0;
}

int file_writer_add(struct file_writer *s, const void *bytes, size_t size) {
    struct piece *p = malloc(sizeof(*p) + size);

    if (!p)
        return -ENOMEM;
    *p = (struct piece){.size = size};
    if (size)
        memcpy(p->bytes, bytes, size);
    STAILQ_INSERT_TAIL(&s->coming, p, next);
    if (!s->busy && !s->err)
        write_coming(s);
    return 0;
}

uint32_t file_writer_kept(const struct file_writer *s) {
    return s->kept;
}

bool file_writer_idle(const struct file_writer *s) {
    return !s->busy;
}

int file_writer_error(const struct file_writer *s) {
    return s->busy ? 0 : -s->err;
}

int file_writer_fd(const struct file_writer *s) {
    return s->fd;
}

void file_writer_close(struct file_writer *s) {
    if (!s)
        return;
    s->closed = true;
    if (!s->busy)
        leave(s);
}
