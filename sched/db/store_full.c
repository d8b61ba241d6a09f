/* A full disk: a file of 1 MiB that is given up, so that deletes and the results of running jobs still get through.
 * Half of that goes to the log at once, so that others who fill the disk do not get it: deletes write there alone. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "net/clock.h"
#include "sched/db/store_int.h"

#define BALLAST (1 << 20) /* bytes: what deleting a few hundred jobs writes to the log */
#define ROOMY (2 * BALLAST)

static void ballast_path(const struct store *st, char *buf, size_t size) {
    snprintf(buf, size, "%s/ballast", st->dir);
}

static bool take(const struct store *st, off_t size) {
    char path[4096];
    ballast_path(st, path, sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && posix_fallocate(fd, 0, size) == 0;
    if (fd >= 0)
        close(fd);
    if (!ok)
        unlink(path);
    return ok;
}

bool store_ballast_take(struct store *st) {
    return take(st, BALLAST);
}

void store_ballast_leave(struct store *st) {
    for (off_t size = BALLAST; st->full && size >= LITTLE; size /= 2)
        if (take(st, size))
            return;
}

bool store_ballast_drop(struct store *st) {
    char path[4096];
    ballast_path(st, path, sizeof path);
    return unlink(path) == 0;
}

static bool has_room(const struct store *st, uint64_t size) {
    struct statvfs disk;
    return fstatvfs(st->file, &disk) < 0 || disk.f_bavail * disk.f_frsize >= size;
}

/* SQLite does not always give the reason of a failure. */
bool store_finds_no_room(const struct store *st, int rc) {
    return rc == -ENOSPC || rc == -EDQUOT || (rc == -EIO && !has_room(st, LITTLE));
}

void store_ballast_give(struct store *st) {
    store_ballast_drop(st);
    st->full = true;
    st->full_checked = clock_us();
    st->roomy = false;
    store_checkpoint(st, true); /* up to the size of the log becomes room */
}

/* The database's own free pages are room as well. */
static bool has_free_pages(struct store *st) {
    return store_bytes_free(st) >= BALLAST;
}

bool store_has_ballast(const struct store *st) {
    return !st->full;
}

/* Tries at once when the disk has room again, else, as with a quota, every second. */
bool store_full(struct store *st) {
    if (!st->full)
        return false;
    bool was_roomy = st->roomy;
    st->roomy = has_room(st, ROOMY);
    if ((st->roomy && !was_roomy) || clock_us() - st->full_checked > 1000000) {
        st->full_checked = clock_us();
        st->full = !store_ballast_take(st) && !has_free_pages(st);
    }
    return st->full;
}
