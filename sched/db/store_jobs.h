/* The store's jobs: their rows, and the queries that order them. */
#ifndef PPFS_STORE_JOBS_H
#define PPFS_STORE_JOBS_H
#include "sched/job/job.h"
#include "worker/runner/resources.h"

struct store;
#define LIMIT_PLACE_MAX 18u /* of it, the limited group: '#', 16 digits, ':' (users/limit.h) */
#define CONSTRAINT_MAX (JOB_NAME_MAX + 24 + RESOURCES_TEXT + LIMIT_PLACE_MAX)

enum {                /* what store_job_save writes besides the plain columns */
       SAVE_NAME = 1, /* group, name, side, uid */
       SAVE_SHELF = 2,
       SAVE_QUEUE = 4, /* state, priority, flags, not_before: the columns that indexes hang on */
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

struct job_row { /* a job and what only sched/ wants to know */
    struct job job;
    bool sealed;   /* its last writer has closed, and it was not for it to be queued then */
    bool copy;     /* a draft made as a copy of the job that it is to replace, and nothing was written to it */
    bool resolved; /* its after= was looked up: deps has what it still waits for */
    bool keeps;    /* its options have keep= */
    int64_t turn;  /* place in turn about, among equal priorities */
    char place[CONSTRAINT_MAX]; /* where it may run (host.h); a stream: "", it needs a place in memory only */
    uint64_t stream, call;      /* the stream and the number of its call that this job answers; 0 = a job of its own */
    /* 0, its own id: its file says array=, or another: it is an element of that array, which has its job file, and call
     * is its index */
    uint64_t array;
};

int store_job_insert(struct store *st, const struct job_row *r, const char *cwd);
int store_job_get(struct store *st, uint64_t id, struct job_row *out);
int store_job_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out);
int store_owner(struct store *st, uint64_t job, uid_t *uid); /* whose it is. -ENOENT */
int store_job_save(struct store *st, const struct job_row *r, unsigned what);
int store_job_delete(struct store *st, uint64_t id); /* its dependencies too; its bodies are the caller's to delete */
/* Saved options and the writer's directory; malloc'd, NULL pointers are not wanted. */
int store_job_texts(struct store *st, uint64_t id, char **options, char **cwd);
int store_job_set_options(struct store *st, uint64_t id, const char *options);
int store_job_set_directory(struct store *st, uint64_t id, const char *cwd);
int store_job_list(struct store *st, uint64_t group, unsigned shelves, uint64_t after,
                   bool (*each)(void *, const struct job *), void *arg);

/* The user behind after (-1: the first) of whom jobs wait. -ENOENT */
int store_ready_user(struct store *st, int64_t after, uid_t *uid);
/* The next to run of the user's of that place, behind the job after (NULL: the first). -ENOENT */
int store_ready_head(struct store *st, uid_t uid, const char *place, const struct job_row *after, struct job_row *out);
/* How many queued jobs of its user are before it, max at most; *more: there may be more than that. 0 or -errno */
int store_ready_before(struct store *st, const struct job_row *r, int max, int *before, bool *more);
/* The place behind after that jobs of the user wait for, other than ""; it may be given again. -ENOENT */
int store_ready_place(struct store *st, uid_t uid, char place[CONSTRAINT_MAX]);
/* the place a job gets that is queued now */
int store_ready_turn(struct store *st, const struct job *j, int64_t *turn);
int64_t store_next_due(struct store *st);           /* earliest not_before of a waiting job, 0 = none */
int store_due_by(struct store *st, int64_t latest); /* makes those that are later than that due then */
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
/* Up to max ids of a set, above after; returns how many. now bounds SET_DUE, of SET_SEALED and SET_UNENDED it is the group, of
 * SET_PARTS the stream. */
int store_ids(struct store *st, enum store_set set, int64_t bound, uint64_t after, uint64_t *ids, int max);
/* Of the next look ids below *before up to max of jobs that have started, the highest first. *before: the last that was
 * looked at, 0: there are no more. Returns how many, or -errno. */
int store_ids_back(struct store *st, uint64_t *before, int look, uint64_t *ids, int max);
#define NOT_PLACED (-1) /* not_before of a job that fits no node */
#endif
