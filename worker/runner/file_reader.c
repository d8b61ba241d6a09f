/* While the reader is busy it belongs to the thread: the loop then uses only `busy` and `closed`, which the thread does
 * not touch. The thread also closes the file, because the last close of a large unlinked file may take long. */
#include "worker/runner/file_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/io.h"

struct file_reader {
    struct disk_task task; /* first: a task is its reader */
    struct disk *disk;
    void (*ready)(void *arg);
    void *arg;
    bool busy, closed;
    int fd, err;
    bool end; /* the rest is in memory */
    size_t at, size;
    uint8_t bytes[FILE_READER_AHEAD];
    char path[];
};

static void shut(struct disk_task *t) {
    struct file_reader *s = (struct file_reader *)t;

    if (s->fd >= 0)
        close(s->fd);
}

static void gone(struct disk_task *t) {
    free(t);
}

static void submit(struct file_reader *s, void (*work)(struct disk_task *t), void (*done)(struct disk_task *t)) {
    s->busy = true;
    s->task = (struct disk_task){.work = work, .done = done};
    disk_submit(s->disk, &s->task);
}

static void read_on(struct disk_task *t) {
    struct file_reader *s = (struct file_reader *)t;

    if (s->fd < 0 && (s->fd = open(s->path, O_RDONLY | O_CLOEXEC)) < 0)
        s->err = errno;
    s->at = s->size = 0;
    if (s->err || s->end)
        return;
    int64_t n = io_read(s->fd, s->bytes, FILE_READER_AHEAD, IO_NEXT);
    s->err = n < 0 ? (int)-n : 0;
    s->size = n > 0 ? (size_t)n : 0;
    s->end = n >= 0 && n < FILE_READER_AHEAD;
}

static void was_read(struct disk_task *t) {
    struct file_reader *s = (struct file_reader *)t;

    s->busy = false;
    if (s->closed)
        submit(s, shut, gone);
    else
        s->ready(s->arg);
}

int file_reader_open(struct file_reader **out, struct disk *disk, const char *path, void (*ready)(void *arg),
                     void *arg) {
    struct file_reader *s = malloc(sizeof(*s) + strlen(path) + 1);

    if (!s)
        return -ENOMEM;
    memset(s, 0, offsetof(struct file_reader, bytes));
    strcpy(s->path, path);
    s->disk = disk;
    s->ready = ready;
    s->arg = arg;
    s->fd = -1;
    submit(s, read_on, was_read);
    *out = s;
    return 0;
}

ssize_t file_reader_peek(const struct file_reader *s, const uint8_t **bytes) {
    if (s->busy)
        return -EAGAIN;
    *bytes = s->bytes + s->at;
    return s->at < s->size ? (ssize_t)(s->size - s->at) : -s->err;
}

void file_reader_took(struct file_reader *s, size_t size) {
    s->at += size;
    if (s->at == s->size && !s->end && !s->err)
        submit(s, read_on, was_read);
}

void file_reader_close(struct file_reader *s) {
    if (!s)
        return;
    s->closed = true;
    if (!s->busy)
        submit(s, shut, gone);
}
