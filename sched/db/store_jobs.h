/* The store's jobs: their rows, and the queries that order them. */
#ifndef PPFS_STORE_JOBS_H
#define PPFS_STORE_JOBS_H
#include "sched/job/job.h"
#include "worker/runner/resources.h"

struct store;
#define LIMIT_PLACE_MAX 18u /* of it, the limited group: '#', 16 digits, ':' (users/limit.h) */
#define CONSTRAINT_MAX (JOB_NAME_MAX + 24 + RESOURCES_TEXT + LIMIT_PLACE_MAX)

enum {                /* columns that store_job_save writes besides the plain ones */
       SAVE_NAME = 1, /* group, name, side, uid */
       SAVE_SHELF = 2,
       SAVE_QUEUE = 4, /* state, priority, flags, not_before: columns of indexes */
};
enum {
    FLAG_FLUSHED = 1,
    FLAG_CUT = 2,
    FLAG_SEALED = 4,
    FLAG_RESOLVED = 8,
    FLAG_TEMPORARY = 16,
    FLAG_COPY = 32,
    FLAG_KEEPS = 64
};

struct job_row { /* a job, with fields of sched/ alone */
    struct job job;
    bool sealed;                /* its last writer has closed it, and it was not to be queued then */
    bool copy;                  /* an unwritten draft that is a copy of the job which it is to replace */
    bool resolved;              /* its after= was looked up: deps has the rest */
    bool keeps;                 /* its options have keep= */
    int64_t turn;               /* place in turn about, among equal priorities */
    char place[CONSTRAINT_MAX]; /* its constraint (host.h); a stream: "", it needs only memory */
    uint64_t stream, call;      /* stream and number of the call that it runs; 0: no call job */
    /* 0, its own id: its file says array=, or another: it is an element of that array, which has its job file, and call
     * is its index */
    uint64_t array;
};

int store_job_insert(struct store *st, const struct job_row *r, const char *cwd);
int store_job_get(struct store *st, uint64_t id, struct job_row *out);
int store_job_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out);
int store_owner(struct store *st, uint64_t job, uid_t *uid); /* whose it is. -ENOENT */
int store_job_save(struct store *st, const struct job_row *r, unsigned what);
int store_job_delete(struct store *st, uint64_t id); /* with its dependencies; the caller deletes its bodies */
/* Saved options and the writer's directory, malloc'd; a NULL pointer is skipped. */
int store_job_texts(struct store *st, uint64_t id, char **options, char **cwd);
int store_job_set_options(struct store *st, uint64_t id, const char *options);
int store_job_set_directory(struct store *st, uint64_t id, const char *cwd);
int store_job_list(struct store *st, uint64_t group, unsigned shelves, uint64_t after,
                   bool (*each)(void *, const struct job *), void *arg);

/* The next user after `after` (-1: the first) with queued jobs. -ENOENT */
int store_ready_user(struct store *st, int64_t after, uid_t *uid);
/* The user's next job to run with that constraint, behind the job after (NULL: the first). -ENOENT */
int store_ready_head(struct store *st, uid_t uid, const char *place, const struct job_row *after, struct job_row *out);
/* The number of queued jobs of its user before it, max at most; *more: there may be more. 0 or -errno */
int store_ready_before(struct store *st, const struct job_row *r, int max, int *before, bool *more);
/* The next constraint other than "" of queued jobs of the user; may come again. -ENOENT */
int store_ready_place(struct store *st, uid_t uid, char place[CONSTRAINT_MAX]);
/* the turn of a job that is queued now */
int store_ready_turn(struct store *st, const struct job *j, int64_t *turn);
/* The next user after `after` (-1: the first) with jobs that pause before another attempt or fit no node. -ENOENT */
int store_pausing_user(struct store *st, int64_t after, uid_t *uid);
int64_t store_next_due(struct store *st);           /* earliest not_before of a waiting job, 0 = none */
int store_due_by(struct store *st, int64_t latest); /* makes later ones due at that time */
enum store_set {
    SET_DUE,
    SET_UNPLACED,
    SET_RUNNING,
    SET_FLUSHED,
    SET_ORPHANS,
    SET_SEALED /* of a group */,
    SET_UNENDED /* of a group; drafts are not among them */,
    SET_PARTS /* of a stream */
};
/* Up to max ids of a set, above after; returns how many. bound is of SET_SEALED and SET_UNENDED the group, of SET_PARTS
 * the stream, of SET_UNPLACED the user; of SET_DUE it is the time, and after the user. */
int store_ids(struct store *st, enum store_set set, int64_t bound, uint64_t after, uint64_t *ids, int max);
/* Of the next look ids below *before up to max of jobs that have started, the highest first. *before: the last that was
 * looked at, 0: there are no more. Returns how many, or -errno. */
int store_ids_back(struct store *st, uint64_t *before, int look, uint64_t *ids, int max);
#define NOT_PLACED (-1) /* not_before of a job that fits no node */
#endif
