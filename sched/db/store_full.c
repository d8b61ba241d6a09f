/* A full disk: a file of 1 MiB that is given up, so that deletes and the results of running jobs still get through. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "net/clock.h"
#include "sched/db/store_int.h"

#define BALLAST (1 << 20) /* bytes: what deleting a few hundred jobs writes to the log */

static void ballast_path(const struct store *st, char *buf, size_t size) {
    snprintf(buf, size, "%s/ballast", st->dir);
}

bool store_ballast_take(struct store *st) {
    char path[4096];
    ballast_path(st, path, sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && posix_fallocate(fd, 0, BALLAST) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok)
        unlink(path);
    return ok;
}

void store_ballast_give(struct store *st) {
    char path[4096];
    ballast_path(st, path, sizeof path);
    unlink(path);
    st->full = true;
    st->full_checked = clock_us();
    store_checkpoint(st, true); /* up to the size of the log becomes room */
}

/* The database's own free pages are room as well. */
static bool has_free_pages(struct store *st) {
    return store_bytes_free(st) >= BALLAST;
}

bool store_has_ballast(const struct store *st) {
    return !st->full;
}

bool store_full(struct store *st) {
    if (st->full && clock_us() - st->full_checked > 1000000) {
        st->full_checked = clock_us();
        st->full = !store_ballast_take(st) && !has_free_pages(st);
    }
    return st->full;
}
