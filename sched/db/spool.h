/* Files in STATE/spool: bodies over 64 KiB, one file each, named JOB-BODY-NUMBER. Files without a row in bodies are
 * swept at the start. All file work happens in the disk thread. */
#ifndef PPFS_SPOOL_H
#define PPFS_SPOOL_H
#include "worker/runner/disk.h"
#include "sched/db/sums.h"
#include "sched/job/job.h"
#include "sched/job/options.h"
#include "sched/job/spec.h"

#define SPOOL_PATH 4096

struct spool;
typedef void sched_done(void *arg, int rc); /* sched.h */

struct spool_name {
    uint64_t job;
    enum job_body body;
    int64_t file;
};

int spool_create(struct spool **out, const char *state_dir, struct disk *disk, int wal);
void spool_destroy(struct spool *sp);

/* The file's path; buf of SPOOL_PATH bytes. Returns buf. */
const char *spool_path(const struct spool *sp, struct spool_name n, char *buf);
int64_t spool_size(const struct spool *sp, struct spool_name n); /* bytes or -errno */

/* Each of these calls done(arg, rc) from the loop, with 0 or -errno, and returns -EINPROGRESS, or -ENOMEM: then it does
 * nothing. They are done in order. Bytes that are written must stay until then, and sums, to which they are added
 * (NULL: to none). */
int spool_write(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset,
                struct sums *sums, sched_done *done, void *arg);
int spool_write_copy(struct spool *sp, struct spool_name n, const void *bytes, size_t size, uint64_t offset,
                     struct sums *sums, sched_done *done, void *arg); /* of a copy of the bytes */
struct iovec; /* these must stay, too. sync: the bytes survive power loss. */
int spool_write_parts(struct spool *sp, struct spool_name n, const struct iovec *parts, size_t count, uint64_t offset,
                      bool sync, struct sums *sums, sched_done *done, void *arg);
/* Writes a file whole, so that it survives power loss, if hash is the SHA-256 of bytes: else -EBADMSG. */
int spool_write_hashed(struct spool *sp, struct spool_name n, const void *bytes, size_t size, const uint8_t hash[32],
                       sched_done *done, void *arg);
int spool_truncate(struct spool *sp, struct spool_name n, uint64_t size, sched_done *done, void *arg);
/* What the page cache has is read at once: returns the bytes (0 at the end) or -errno; else -EINPROGRESS, and buf must
 * stay. part: the blocks that the wanted bytes are in; NULL: they are not checked. -EIO: those are not the bytes that
 * were written. */
int64_t spool_read(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset,
                   const struct part *part, sched_done *done, void *arg);
/* Whether a read of it found bytes that were not those, as far as is remembered. */
bool spool_damaged(const struct spool *sp, struct spool_name n);
/* Reads by the disk thread in any case; done gets the number of bytes. */
int spool_load(struct spool *sp, struct spool_name n, void *buf, size_t size, uint64_t offset, const struct part *part,
               sched_done *done, void *arg);
int spool_copy(struct spool *sp, struct spool_name from, struct spool_name to, sched_done *done, void *arg);
/* Copies so many bytes into another file, which is made if it is missing; done gets the number of bytes. */
int spool_copy_part(struct spool *sp, struct spool_name from, uint64_t from_at, size_t size, struct spool_name to,
                    uint64_t to_at, sched_done *done, void *arg);
/* fdatasync of the files (count may be 0) and, when wal is set, of the database's log. */
int spool_sync(struct spool *sp, const struct spool_name *names, size_t count, bool wal, sched_done *done, void *arg);
void spool_unlink(struct spool *sp, struct spool_name n);

/* fsync, then spec_read of the whole file. */
struct spool_spec {
    int rc; /* of spec_read, or -errno */
    uint64_t size;
    struct sums sums; /* of all of it; of no bytes: there is no time for so many */
    enum work_kind kind;
    struct options *options; /* the callee's, until it takes it by setting NULL */
    char why[SPEC_WHY];
};
/* owner: users take turns, after all other work of the thread. */
int spool_spec(struct spool *sp, struct spool_name n, uid_t owner, const char *job_name,
               void (*done)(void *arg, struct spool_spec *), void *arg);

/* Up to 64 more names in the folder; 0 after the last. For the sweep at the start. */
int spool_scan(struct spool *sp, struct spool_name *names, int max);
#endif
