/* Spool files: each call makes a task for the disk thread. The task opens the file by its name, so no descriptor is
 * kept, and a file that was removed meanwhile is simply missing. */
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
#include "net/io.h"
#include "sched/db/file_bytes.h"

#define SUMMED_MAX (64u << 20) /* a longer job file would keep the thread from others for too long: some 10 ms */
enum { DAMAGED = 64 };

struct spool {
    char *dir;
    int dir_fd, wal;
    struct disk *disk;
    DIR *scan;
    struct spool_name damaged[DAMAGED]; /* the last ones that were found */
    unsigned found;
};

struct task {
    struct disk_task disk; /* first: the disk thread knows only this */
    struct spool *sp;
    int64_t (*work)(struct task *); /* in the disk thread; its result goes to done */
    struct spool_name name, to;
    struct spool_name *names; /* owned; to be synced, count of them */
    size_t count;
    bool wal;
    void *buf;        /* to read into */
    const void *from; /* to write */
    void *copy;       /* owned: from is this */
    size_t size;
    const struct iovec *parts; /* to write, instead: count of them */
    uint64_t offset, to_at;
    struct part part;  /* count 0: of what is read nothing is known */
    struct sums *sums; /* of what is written; NULL: none are made */
    bool sync;
    uint8_t hash[DIGEST_SIZE]; /* the bytes are checked against it before they are written */
    int64_t rc;
    char *job_name; /* owned */
    struct spool_spec spec;
    sched_done *done;
    void (*spec_done)(void *arg, struct spool_spec *);
    void *arg;
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
    return errno == ENOENT ? -EIO : -errno; /* a row names it, so the file or the directory was lost */
}

static void close_file(int fd) {
    if (fd >= 0)
        close(fd);
}

int64_t spool_size(const struct spool *sp, struct spool_name n) {
    struct stat st;
    char name[96];
    file_name(n, name, sizeof name);
    return fstatat(sp->dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : (int64_t)st.st_size;
}

/* --- in the disk thread ------------------------------------------------------------------------------------------ */

static int64_t write_parts(int fd, const struct task *t) {
    uint64_t offset = t->offset;
    int64_t rc = 0;
    for (size_t i = 0; i < t->count && rc == 0; i++) {
        rc = file_write_summed(fd, t->parts[i].iov_base, t->parts[i].iov_len, offset, t->sums);
        offset += t->parts[i].iov_len;
    }
    return rc;
}

static int64_t copy(struct task *t, int flags, uint64_t size) {
    int from = open_file(t->sp, t->name, O_RDONLY), to = open_file(t->sp, t->to, O_WRONLY | O_CREAT | flags);
    int64_t rc = from < 0 ? from : to;
    if (from >= 0 && to >= 0)
        rc = file_copy_range(from, to, size, t->offset, t->to_at);
    close_file(from);
    close_file(to);
    return rc;
}

static int64_t do_copy(struct task *t) {
    int64_t rc = copy(t, O_TRUNC, INT64_MAX);
    return rc < 0 ? rc : 0;
}

static int64_t do_copy_part(struct task *t) {
    return copy(t, 0, t->size);
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
    if (rc == 0 && t->wal && fdatasync(t->sp->wal) < 0)
        rc = -errno;
    return rc;
}

/* Reads as much of it as spec_read needs. Not mapped, because an error of the disk, or a full one at a hole, would be a
 * SIGBUS, now and at each next start. Returns the bytes or -errno; *bytes is the caller's. */
static int64_t read_spec(const struct task *t, int fd, uint64_t size, char **bytes) {
    char head[SPEC_HEAD];
    int64_t n = io_read(fd, head, sizeof head, 0);
    uint64_t want = n < 0 ? 0 : spec_needs(t->job_name, head, (size_t)n, size);
    *bytes = malloc(want + 1);
    if (n < 0)
        return n;
    return *bytes ? io_read(fd, *bytes, want, 0) : -ENOMEM;
}

/* Its sums, from what is in the page cache. */
static int64_t sum_spec(struct spool_spec *spec, int fd) {
    char *bytes = malloc(SUM_BLOCK);
    int64_t n = bytes ? 0 : -ENOMEM;
    for (uint64_t at = 0; n >= 0 && at < spec->size; at += (uint64_t)n) {
        n = io_read(fd, bytes, SUM_BLOCK, (int64_t)at);
        if (n == 0)
            n = -EIO;
        else if (n > 0)
            n = sums_add(&spec->sums, bytes, (size_t)n, at) < 0 ? -ENOMEM : n;
    }
    free(bytes);
    return n < 0 ? n : sums_end(&spec->sums);
}

static int64_t do_spec(struct task *t) {
    struct stat st;
    char *bytes = NULL;
    int fd = open_file(t->sp, t->name, O_RDONLY);
    int64_t n = fd;
    if (fd >= 0 && (fstat(fd, &st) < 0 || fdatasync(fd) < 0 || fsync(t->sp->dir_fd) < 0))
        n = -errno;
    else if (fd >= 0)
        n = read_spec(t, fd, t->spec.size = (uint64_t)st.st_size, &bytes);
    if (n >= 0 && t->spec.size <= SUMMED_MAX) {
        int64_t rc = sum_spec(&t->spec, fd);
        n = rc < 0 ? rc : n;
    }
    t->spec.rc = n < 0 ? (int)n : spec_read(t->job_name, bytes, (size_t)n, &t->spec.kind, t->spec.options, t->spec.why);
    free(bytes);
    close_file(fd);
    return t->spec.rc;
}

static int64_t do_write(struct task *t) {
    int fd = open_file(t->sp, t->name, O_WRONLY | O_CREAT);
    int64_t rc = fd;
    if (fd >= 0)
        rc = t->parts ? write_parts(fd, t) : file_write_summed(fd, t->from, t->size, t->offset, t->sums);
    if (rc == 0 && t->sync && (fdatasync(fd) < 0 || fsync(t->sp->dir_fd) < 0))
        rc = -errno;
    close_file(fd);
    return rc;
}

static int64_t do_write_hashed(struct task *t) {
    uint8_t hash[DIGEST_SIZE];
    int rc = digest(t->from, t->size, hash);
    if (rc == 0 && memcmp(hash, t->hash, sizeof hash) != 0)
        rc = -EBADMSG;
    return rc < 0 ? rc : do_write(t);
}

static int64_t do_truncate(struct task *t) {
    int fd = open_file(t->sp, t->name, O_WRONLY | O_CREAT);
    int64_t rc = fd < 0 || ftruncate(fd, (off_t)t->offset) == 0 ? 0 : -errno;
    close_file(fd);
    return fd < 0 ? fd : rc;
}

static int64_t do_read(struct task *t) {
    int fd = open_file(t->sp, t->name, O_RDONLY);
    int64_t rc = fd;
    if (fd >= 0)
        rc = t->part.count ? file_read_checked(fd, &t->part, t->buf, t->size, t->offset, 0)
                           : io_read(fd, t->buf, t->size, (int64_t)t->offset);
    close_file(fd);
    return rc;
}

static int64_t do_unlink(struct task *t) {
    char name[96];
    file_name(t->name, name, sizeof name);
    return unlinkat(t->sp->dir_fd, name, 0) < 0 ? -errno : 0;
}

static void work(struct disk_task *d) {
    struct task *t = (struct task *)d;
    t->rc = t->work(t);
}

/* --- in the loop ------------------------------------------------------------------------------------------------- */

/* Frees the memory of a task. */
static void release(struct task *t) {
    options_destroy(t->spec.options);
    sums_free(&t->spec.sums);
    free(t->names);
    free(t->copy);
    free(t->job_name);
}

static void note_damage(struct spool *sp, struct spool_name n, int64_t rc) {
    if (rc == -EIO && !spool_damaged(sp, n))
        sp->damaged[sp->found++ % DAMAGED] = n;
}

bool spool_damaged(const struct spool *sp, struct spool_name n) {
    for (unsigned i = 0; i < DAMAGED && i < sp->found; i++) {
        const struct spool_name *d = &sp->damaged[i];
        if (d->job == n.job && d->body == n.body && d->file == n.file)
            return true;
    }
    return false;
}

static void finished(struct disk_task *d) {
    struct task *t = (struct task *)d;
    if (t->part.count)
        note_damage(t->sp, t->name, t->rc);
    if (t->spec_done)
        t->spec_done(t->arg, &t->spec);
    else if (t->done)
        t->done(t->arg, (int)t->rc);
    release(t);
    free(t);
}

/* NULL without memory; t is released then. */
static struct task *keep(struct spool *sp, struct task t) {
    struct task *kept = malloc(sizeof *kept);
    if (!kept) {
        release(&t);
        return NULL;
    }
    *kept = t;
    kept->sp = sp;
    kept->disk = (struct disk_task){.work = work, .done = finished};
    return kept;
}

static int submit(struct spool *sp, struct task t) {
    struct task *kept = keep(sp, t);
    if (!kept)
        return -ENOMEM;
    disk_submit(sp->disk, &kept->disk);
    return -EINPROGRESS;
}

int spool_write_copy(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset,
                     struct sums *sums, sched_done *done, void *arg) {
    struct task t = {
        .work = do_write, .name = n, .size = size, .offset = offset, .sums = sums, .done = done, .arg = arg};
    t.from = t.copy = malloc(size + 1);
    if (!t.copy)
        return -ENOMEM;
    memcpy(t.copy, bytes, size);
    return submit(sp, t);
}

int spool_write(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset,
                struct sums *sums, sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_write,
                                    .name = n,
                                    .from = bytes,
                                    .size = size,
                                    .offset = offset,
                                    .sums = sums,
                                    .done = done,
                                    .arg = arg});
}

int spool_write_parts(struct spool *sp, struct spool_name n, const struct iovec *parts, size_t count, uint64_t offset,
                      bool sync, struct sums *sums, sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_write,
                                    .name = n,
                                    .parts = parts,
                                    .count = count,
                                    .offset = offset,
                                    .sync = sync,
                                    .sums = sums,
                                    .done = done,
                                    .arg = arg});
}

int spool_write_hashed(struct spool *sp, struct spool_name n, const void *bytes, size_t size, const uint8_t hash[32],
                       sched_done *done, void *arg) {
    struct task t = {
        .work = do_write_hashed, .name = n, .from = bytes, .size = size, .sync = true, .done = done, .arg = arg};
    memcpy(t.hash, hash, sizeof t.hash);
    return submit(sp, t);
}

int spool_truncate(struct spool *sp, struct spool_name n, uint64_t size, sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_truncate, .name = n, .offset = size, .done = done, .arg = arg});
}

int64_t spool_read(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset,
                   const struct part *part, sched_done *done, void *arg) {
    bool checked = part && part->count;
    int fd = open_file(sp, n, O_RDONLY);
    if (fd < 0) {
        note_damage(sp, n, fd);
        return fd;
    }
    int64_t got = checked ? file_read_checked(fd, part, buf, size, offset, RWF_NOWAIT)
                          : file_read_once(fd, buf, size, offset, RWF_NOWAIT);
    struct stat st;
    bool end =
        checked || got == 0 || (got > 0 && fstat(fd, &st) == 0 && (uint64_t)st.st_size <= offset + (uint64_t)got);
    close(fd);
    if (checked)
        note_damage(sp, n, got);
    if (got >= 0 && (end || (size_t)got == size))
        return got;
    if (got < 0 && got != -EAGAIN && got != -EOPNOTSUPP)
        return got;
    return spool_load(sp, n, buf, size, offset, part, done, arg);
}

int spool_load(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset, const struct part *part,
               sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_read,
                                    .name = n,
                                    .buf = buf,
                                    .size = size,
                                    .offset = offset,
                                    .part = part ? *part : (struct part){0},
                                    .done = done,
                                    .arg = arg});
}

int spool_copy(struct spool *sp, struct spool_name from, struct spool_name to, sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_copy, .name = from, .to = to, .done = done, .arg = arg});
}

int spool_copy_part(struct spool *sp, struct spool_name from, uint64_t from_at, size_t size, struct spool_name to,
                    uint64_t to_at, sched_done *done, void *arg) {
    return submit(sp, (struct task){.work = do_copy_part,
                                    .name = from,
                                    .offset = from_at,
                                    .size = size,
                                    .to = to,
                                    .to_at = to_at,
                                    .done = done,
                                    .arg = arg});
}

int spool_sync(struct spool *sp, const struct spool_name *names, size_t count, bool wal, sched_done *done, void *arg) {
    struct task t = {.work = do_sync, .count = count, .wal = wal, .done = done, .arg = arg};
    if (count && !(t.names = reallocarray(NULL, count, sizeof *names)))
        return -ENOMEM;
    if (count)
        memcpy(t.names, names, count * sizeof *names);
    return submit(sp, t);
}

void spool_unlink(struct spool *sp, struct spool_name n) {
    submit(sp, (struct task){.work = do_unlink, .name = n}); /* without memory the next start sweeps it */
}

int spool_spec(struct spool *sp, struct spool_name n, uid_t owner, const char *job_name,
               void (*done)(void *, struct spool_spec *), void *arg) {
    struct task t = {.work = do_spec, .name = n, .spec_done = done, .arg = arg};
    t.job_name = strdup(job_name);
    t.spec.options = options_create();
    struct task *kept = NULL;
    if (t.job_name && t.spec.options)
        kept = keep(sp, t);
    else
        release(&t);
    if (!kept)
        return -ENOMEM;
    disk_submit_long(sp->disk, &kept->disk, owner);
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
