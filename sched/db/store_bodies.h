/* The store's bodies: job files, results and output. */
#ifndef PPFS_STORE_BODIES_H
#define PPFS_STORE_BODIES_H
#include <stddef.h>

#include "sched/job/job.h"

struct part;
struct store;
struct sums;

struct body {
    int64_t size; /* bytes; of a file: as last known */
    int64_t file; /* 0: the bytes are in the row; else the number in the name of its file in spool/ */
};
int store_body_get(struct store *st, uint64_t job, enum job_body b, struct body *out);
/* Copies at most size bytes from offset of an inline body. Returns the bytes copied or -errno: -EIO if any of its bytes
 * are not those that were written. */
int64_t store_body_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset);
int store_body_put(struct store *st, uint64_t job, enum job_body b, const void *bytes, size_t size);
/* sums: those that have ended; NULL: its bytes are not checked when they are read. */
int store_body_put_file(struct store *st, uint64_t job, enum job_body b, int64_t size, int64_t file,
                        const struct sums *sums);
/* What the blocks with those bytes of a body that is a file have to be. 0 or -errno. */
int store_body_part(struct store *st, uint64_t job, enum job_body b, uint64_t offset, size_t size, struct part *out);
int store_body_resize(struct store *st, uint64_t job, enum job_body b, int64_t size); /* of a body in a file */
int store_body_unsum(struct store *st, uint64_t job, enum job_body b); /* its file will be written anywhere */
/* The bodies from first on that are in files; returns their number. */
int store_body_files(struct store *st, uint64_t job, enum job_body first, enum job_body bodies[BODIES],
                     int64_t files[BODIES]);
int store_bodies_delete(struct store *st, uint64_t job, enum job_body first); /* all from first on */
#endif
