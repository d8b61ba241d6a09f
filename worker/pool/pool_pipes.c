/* The two output pipes of a worker: how large they are, and reading them. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "worker/pool/pool_parts.h"

enum { READ_TURN = 256 * 1024, DRAIN_MAX = 4 * 1024 * 1024 };
enum {
    PIPE_MIN = 8 * 1024,
    PIPE_MAX = 1024 * 1024,
    PIPE_PARTS = 4 /* all pipes together have 1/PIPE_PARTS of the user's quota */
};

/* Reads once from a worker's pipe. What it got, 0 at its end, -1 when it is empty. */
static ssize_t slot_read(struct slot *s, enum output_kind stream) {
    ssize_t n = read(s->out_fd[stream], s->pool->buffer, READ_TURN);

    if (n > 0 && s->state == SLOT_BUSY) {
        s->fresh = stream;
        s->fresh_size = (size_t)n;
    }
    return n;
}

/* Tells fresh output. */
static void tell_fresh(struct slot *s) {
    size_t size = s->fresh_size;

    s->fresh_size = 0;
    if (size)
        s->pool->ev.output(s->pool->arg, s->job, s->fresh, s->pool->buffer, size);
}

static void on_stream(struct slot *s, enum output_kind stream) {
    if (s->lease)
        atomic_fetch_add(&s->page->reads, 1);
    ssize_t n = slot_read(s, stream);
    int err = errno;
    if (s->lease && s->fresh_size && !s->killed)
        link_drain(s->link); /* answers of earlier calls; on_frame tells the output in its place */
    tell_fresh(s);
    errno = err;
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        if (s->out[stream])
            event_del(s->out[stream]);
}

static void on_stdout(evutil_socket_t fd, short what, void *arg) {
    on_stream(arg, OUTPUT_STDOUT);
}

static void on_stderr(evutil_socket_t fd, short what, void *arg) {
    on_stream(arg, OUTPUT_STDERR);
}

/* Tells all output that is left in the pipes; bounded, as a pipe is. */
void pool_drain(struct slot *s) {
    tell_fresh(s);
    for (int stream = OUTPUT_STDOUT; stream <= OUTPUT_STDERR; stream++)
        for (ssize_t n = 1, total = 0; n > 0 && total < DRAIN_MAX; total += n) {
            n = slot_read(s, (enum output_kind)stream);
            tell_fresh(s);
        }
}

/* The kernel counts all pipes of a user: if ours took the quota, his others would get hardly any room. */
static unsigned pipe_share(void) {
    unsigned long pages = 0;
    FILE *f = fopen("/proc/sys/fs/pipe-user-pages-soft", "re");

    if (f && fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    uint64_t share = (uint64_t)pages * (unsigned long)sysconf(_SC_PAGESIZE) / PIPE_PARTS;
    return share < UINT_MAX ? (unsigned)share : 0;
}

static int pipe_size(const struct pool *p) {
    unsigned size = PIPE_MAX;

    while (p->pipe_share && size > PIPE_MIN && (uint64_t)size * 2 * p->size > p->pipe_share)
        size /= 2;
    return (int)size;
}

int pipe_listen(struct slot *s, enum output_kind stream, int fd) {
    s->out_fd[stream] = fd;
    fcntl(fd, F_SETPIPE_SZ, pipe_size(s->pool)); /* refused beyond the user's quota: the size stays then */
    if (fcntl(fd, F_SETFL, O_NONBLOCK))
        return -errno;
    s->out[stream] =
        event_new(s->pool->base, fd, EV_READ | EV_PERSIST, stream == OUTPUT_STDOUT ? on_stdout : on_stderr, s);
    return s->out[stream] && event_add(s->out[stream], NULL) == 0 ? 0 : -ENOMEM;
}

int pipe_open(struct pool *p) {
    p->pipe_share = pipe_share();
    p->buffer = malloc(READ_TURN);
    return p->buffer ? 0 : -ENOMEM;
}
