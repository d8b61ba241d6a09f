/* Spool files: each call makes a task for the disk thread; the task opens the file by its name, so nothing is kept open
 * between calls and a file that was removed meanwhile is simply not there. */
#include "sched/db/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/digest.h"

struct spool {
    char *dir;
    int dir_fd, wal;
    struct disk *disk;
    DIR *scan;
};

enum what { PWRITE, TRUNCATE, READ, COPY, COPY_PART, SYNC, UNLINK, SPEC };

struct task {
    struct disk_task disk; /* first: the disk thread knows only this */
    struct spool *sp;
    enum what what;
    struct spool_name name, to;
    struct spool_name *names;
    size_t count;
    bool sync_wal, sync; /* sync: of PWRITE */
    bool hashed;         /* of PWRITE: only if the bytes have this hash */
    uint8_t hash[DIGEST_SIZE];
    void *buf;
    const void *from; /* of PWRITE */
    size_t size;
    const struct iovec *parts; /* of PWRITE, instead: count of them */
    uint64_t offset, to_at;    /* to_at: of COPY_PART */
    int64_t rc;
    char *job_name;
    struct spool_spec spec;
    sched_done *done;
    void (*spec_done)(void *arg, struct spool_spec *);
    void *arg;
    unsigned char bytes[]; /* of PWRITE, when it has a copy */
};

static void file_name(struct spool_name n, char *buf, size_t size) {
    snprintf(buf, size, "%" PRIu64 "-%d-%" PRId64, n.job, (int)n.body, n.file);
}

const char *spool_path(const struct spool *sp, struct spool_name n, char *buf) {
    char name[96];
    file_name(n, name, sizeof name);
    if (snprintf(buf, SPOOL_PATH, "%s/%s", sp->dir, name) >= SPOOL_PATH)
        buf[0] = 0;
    return buf;
}

static int open_file(const struct spool *sp, struct spool_name n, int flags) {
    char name[96];
    file_name(n, name, sizeof name);
    int fd = openat(sp->dir_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd >= 0)
        return fd;
    return errno == ENOENT ? -EIO : -errno; /* a row names it, or the directory has gone: no caller's name is wrong */
}

int64_t spool_size(const struct spool *sp, struct spool_name n) {
    struct stat st;
    char name[96];
    file_name(n, name, sizeof name);
    return fstatat(sp->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : (int64_t)st.st_size;
}

/* --- in the disk thread ------------------------------------------------------------------------------------------ */

static int64_t write_all(int fd, const unsigned char *p, size_t size, uint64_t offset) {
    while (size > 0) {
        ssize_t n = pwrite(fd, p, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        p += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int64_t write_parts(int fd, const struct iovec *parts, size_t count, uint64_t offset) {
    int64_t rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        rc = write_all(fd, parts[i].iov_base, parts[i].iov_len, offset);
        offset += parts[i].iov_len;
    }
    return rc;
}

static int64_t read_all(int fd, char *p, size_t size, uint64_t offset) {
    size_t have = 0;
    while (have < size) {
        ssize_t n = pread(fd, p + have, size - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        have += (size_t)n;
    }
    return (int64_t)have;
}

static int64_t copy_all(int from, int to) {
    for (;;) {
        ssize_t n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
        if (n == 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

static int64_t do_copy(struct task *t) {
    int from = open_file(t->sp, t->name, O_RDONLY), to = open_file(t->sp, t->to, O_WRONLY | O_CREAT | O_TRUNC);
    int64_t rc = from < 0 ? from : to < 0 ? to : copy_all(from, to);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

static int64_t do_copy_part(struct task *t) {
    int from = open_file(t->sp, t->name, O_RDONLY), to = open_file(t->sp, t->to, O_WRONLY | O_CREAT);
    int64_t rc = from < 0 ? from : to < 0 ? to : 0, have = 0;
    off_t at = (off_t)t->offset, to_at = (off_t)t->to_at;
    while (rc == 0 && (size_t)have < t->size) {
        ssize_t n = copy_file_range(from, &at, to, &to_at, t->size - (size_t)have, 0);
        if (n == 0)
            break;
        have += n > 0 ? n : 0;
        rc = n < 0 && errno != EINTR ? -errno : 0;
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc < 0 ? rc : have;
}

static int64_t sync_file(struct spool *sp, struct spool_name n) {
    if (n.file == BODY_LOG && spool_size(sp, n) == -ENOENT)
        return 0; /* a log may have no large pieces */
    int fd = open_file(sp, n, O_RDONLY);
    if (fd < 0)
        return fd;
    int64_t rc = fdatasync(fd) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int64_t do_sync(struct task *t) {
    int64_t rc = 0;
    for (size_t i = 0; i < t->count && rc == 0; i++)
        rc = sync_file(t->sp, t->names[i]);
    if (rc == 0 && t->count && fsync(t->sp->dir_fd) < 0)
        rc = -errno;
    if (rc == 0 && t->sync_wal && fdatasync(t->sp->wal) < 0)
        rc = -errno;
    return rc;
}

/* Reads as much of it as spec_read needs. Not mapped: a page that cannot be had (an error of the disk; a hole, where
 * there is no room for it) would be a SIGBUS, at this start and at the next. Returns the bytes or -errno; *bytes is the
 * caller's. */
static int64_t read_spec(const struct task *t, int fd, uint64_t size, char **bytes) {
    char head[SPEC_HEAD];
    int64_t n = read_all(fd, head, sizeof head, 0);
    uint64_t want = n < 0 ? 0 : spec_needs(t->job_name, head, (size_t)n, size);
    *bytes = malloc(want + 1);
    return n < 0 ? n : *bytes ? read_all(fd, *bytes, want, 0) : -ENOMEM;
}

static void do_spec(struct task *t) {
    struct stat st;
    char *bytes = NULL;
    int fd = open_file(t->sp, t->name, O_RDONLY);
    int64_t n = fd < 0 ? fd : fstat(fd, &st) < 0 || fdatasync(fd) < 0 || fsync(t->sp->dir_fd) < 0 ? -errno : 0;
    if (n == 0)
        n = read_spec(t, fd, (uint64_t)st.st_size, &bytes);
    t->spec.rc = n < 0 ? (int)n : spec_read(t->job_name, bytes, (size_t)n, &t->spec.kind, t->spec.options, t->spec.why);
    free(bytes);
    if (fd >= 0)
        close(fd);
}

static int64_t do_write(struct task *t) {
    uint8_t hash[DIGEST_SIZE];
    int64_t rc = t->hashed ? digest(t->from, t->size, hash) : 0;
    if (rc < 0 || (t->hashed && memcmp(hash, t->hash, sizeof hash) != 0))
        return rc < 0 ? rc : -EBADMSG;
    int fd = open_file(t->sp, t->name, O_WRONLY | O_CREAT);
    rc = fd < 0     ? fd
         : t->parts ? write_parts(fd, t->parts, t->count, t->offset)
                    : write_all(fd, t->from, t->size, t->offset);
    if (rc == 0 && t->sync && (fdatasync(fd) < 0 || fsync(t->sp->dir_fd) < 0))
        rc = -errno;
    if (fd >= 0)
        close(fd);
    return rc;
}

static void work(struct disk_task *d) {
    struct task *t = (struct task *)d;
    char name[96];
    int fd = -1;
    switch (t->what) {
    case PWRITE: t->rc = do_write(t); break;
    case TRUNCATE:
        fd = open_file(t->sp, t->name, O_WRONLY | O_CREAT);
        t->rc = fd < 0 ? fd : ftruncate(fd, (off_t)t->offset) < 0 ? -errno : 0;
        break;
    case READ:
        fd = open_file(t->sp, t->name, O_RDONLY);
        t->rc = fd < 0 ? fd : read_all(fd, t->buf, t->size, t->offset);
        break;
    case COPY: t->rc = do_copy(t); break;
    case COPY_PART: t->rc = do_copy_part(t); break;
    case SYNC: t->rc = do_sync(t); break;
    case UNLINK:
        file_name(t->name, name, sizeof name);
        unlinkat(t->sp->dir_fd, name, 0);
        break;
    case SPEC: do_spec(t); break;
    }
    if (fd >= 0)
        close(fd);
}

/* --- in the loop ------------------------------------------------------------------------------------------------- */

static void finished(struct disk_task *d) {
    struct task *t = (struct task *)d;
    if (t->spec_done)
        t->spec_done(t->arg, &t->spec);
    else if (t->done)
        t->done(t->arg, (int)t->rc);
    options_destroy(t->spec.options);
    free(t->names);
    free(t->job_name);
    free(t);
}

static struct task *task_create(struct spool *sp, enum what what, struct spool_name n, size_t extra, sched_done *done,
                                void *arg) {
    struct task *t = calloc(1, sizeof *t + extra);
    if (t) {
        t->disk.work = work;
        t->disk.done = finished;
        t->sp = sp;
        t->what = what;
        t->name = n;
        t->done = done;
        t->arg = arg;
    }
    return t;
}

int spool_pwrite(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset,
                 sched_done *done, void *arg) {
    struct task *t = task_create(sp, PWRITE, n, size, done, arg);
    if (!t)
        return -ENOMEM;
    if (size)
        memcpy(t->bytes, bytes, size);
    t->from = t->bytes;
    t->size = size;
    t->offset = offset;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_pwrite_kept(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset, bool sync,
                      sched_done *done, void *arg) {
    struct task *t = task_create(sp, PWRITE, n, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->sync = sync;
    t->from = bytes;
    t->size = size;
    t->offset = offset;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_pwrite_parts(struct spool *sp, struct spool_name n, const struct iovec *parts, size_t count, uint64_t offset,
                       bool sync, sched_done *done, void *arg) {
    struct task *t = task_create(sp, PWRITE, n, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->sync = sync;
    t->parts = parts;
    t->count = count;
    t->offset = offset;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_put_hashed(struct spool *sp, struct spool_name n, const void *bytes, size_t size, const uint8_t hash[32],
                     sched_done *done, void *arg) {
    struct task *t = task_create(sp, PWRITE, n, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->sync = t->hashed = true;
    memcpy(t->hash, hash, sizeof t->hash);
    t->from = bytes;
    t->size = size;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_truncate(struct spool *sp, struct spool_name n, uint64_t size, sched_done *done, void *arg) {
    struct task *t = task_create(sp, TRUNCATE, n, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->offset = size;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int64_t spool_read(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset, sched_done *done,
                   void *arg) {
    int fd = open_file(sp, n, O_RDONLY);
    if (fd < 0)
        return fd;
    struct iovec v = {buf, size};
    ssize_t got = preadv2(fd, &v, 1, (off_t)offset, RWF_NOWAIT);
    int err = errno;
    struct stat st;
    bool end = got == 0 || (got > 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size <= offset + (uint64_t)got);
    close(fd);
    if (got >= 0 && (end || (size_t)got == size))
        return got;
    if (got < 0 && err != EAGAIN && err != EOPNOTSUPP)
        return -err;
    return spool_load(sp, n, buf, size, offset, done, arg);
}

int spool_load(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset, sched_done *done,
               void *arg) {
    struct task *t = task_create(sp, READ, n, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->buf = buf;
    t->size = size;
    t->offset = offset;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_copy(struct spool *sp, struct spool_name from, struct spool_name to, sched_done *done, void *arg) {
    struct task *t = task_create(sp, COPY, from, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->to = to;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_copy_part(struct spool *sp, struct spool_name from, uint64_t from_at, size_t size, struct spool_name to,
                    uint64_t to_at, sched_done *done, void *arg) {
    struct task *t = task_create(sp, COPY_PART, from, 0, done, arg);
    if (!t)
        return -ENOMEM;
    t->offset = from_at;
    t->size = size;
    t->to = to;
    t->to_at = to_at;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_sync(struct spool *sp, const struct spool_name *names, size_t count, bool wal, sched_done *done, void *arg) {
    struct task *t = task_create(sp, SYNC, (struct spool_name){0}, 0, done, arg);
    if (!t || (count && !(t->names = reallocarray(NULL, count, sizeof *names)))) {
        free(t);
        return -ENOMEM;
    }
    if (count)
        memcpy(t->names, names, count * sizeof *names);
    t->count = count;
    t->sync_wal = wal;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

void spool_unlink(struct spool *sp, struct spool_name n) {
    struct task *t = task_create(sp, UNLINK, n, 0, NULL, NULL);
    if (t)
        disk_submit(sp->disk, &t->disk); /* else the sweep at the next start has it */
}

int spool_spec(struct spool *sp, struct spool_name n, const char *job_name, void (*done)(void *, struct spool_spec *),
               void *arg) {
    struct task *t = task_create(sp, SPEC, n, 0, NULL, arg);
    if (!t || !(t->job_name = strdup(job_name)) || !(t->spec.options = options_create())) {
        if (t)
            free(t->job_name);
        free(t);
        return -ENOMEM;
    }
    t->spec_done = done;
    disk_submit(sp->disk, &t->disk);
    return -EINPROGRESS;
}

int spool_scan(struct spool *sp, struct spool_name *names, int max) {
    int n = 0;
    if (!sp->scan)
        return 0;
    for (struct dirent *e; n < max && (e = readdir(sp->scan));) {
        int body, end = 0;
        if (sscanf(e->d_name, "%" SCNu64 "-%d-%" SCNd64 "%n", &names[n].job, &body, &names[n].file, &end) == 3 &&
            e->d_name[end] == 0 && body >= 0 && body < BODIES)
            names[n++].body = (enum job_body)body;
    }
    if (n == 0) {
        closedir(sp->scan);
        sp->scan = NULL;
    }
    return n;
}

int spool_create(struct spool **out, const char *state_dir, struct disk *disk, int wal) {
    struct spool *sp = calloc(1, sizeof *sp);
    int rc = -ENOMEM;
    if (!sp)
        return rc;
    sp->disk = disk;
    sp->wal = wal;
    sp->dir_fd = -1;
    if (asprintf(&sp->dir, "%s/spool", state_dir) < 0) {
        sp->dir = NULL;
        goto out;
    }
    if (mkdir(sp->dir, 0700) < 0 && errno != EEXIST) {
        rc = -errno;
        goto out;
    }
    sp->dir_fd = open(sp->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    sp->scan = opendir(sp->dir);
    if (sp->dir_fd < 0 || !sp->scan) {
        rc = -errno;
        goto out;
    }
    *out = sp;
    return 0;
out:
    spool_destroy(sp);
    return rc;
}

void spool_destroy(struct spool *sp) {
    if (!sp)
        return;
    if (sp->scan)
        closedir(sp->scan);
    if (sp->dir_fd >= 0)
        close(sp->dir_fd);
    free(sp->dir);
    free(sp);
}
