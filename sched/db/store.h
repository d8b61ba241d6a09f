/* The database: every SQL statement of ppfs, prepared once, reset on every exit. Only sched/ uses this.
 *
 * One connection, WAL, one transaction at a time, begun by the first change. Calls return 0 or -errno: -ENOENT no such
 * row, -EEXIST a name is taken, -ENOSPC the disk is full, -EBUSY another program has the file open, -EIO anything that
 * SQLite says besides (logged).
 *
 * A disk that fills: COMMIT fails and has rolled back. A ballast file of 1 MiB is then given up, so that deletes and
 * the results of running jobs still get through; store_full() is true until there is room for the ballast again. */
#ifndef PPFS_STORE_H
#define PPFS_STORE_H
#include <stddef.h>

#include "sched/bytes/buffer.h"
#include "sched/job/group.h"
#include "sched/job/job.h"

struct store;
#define PLACE_MAX (JOB_NAME_MAX + 24)
#define GROUP_LEVELS 64 /* of groups; a path longer than this fits no PATH_MAX with names worth having */

int store_open(struct store **out, const char *dir, char *why, size_t why_size);
void store_close(struct store *st); /* accepts NULL; rolls back what was not committed */

int store_touch(struct store *st);          /* begins the transaction of a change that is written later in the turn */
bool store_changed(const struct store *st); /* a transaction is open */
int store_commit(struct store *st);
void store_rollback(struct store *st);
bool store_full(struct store *st);              /* tries to take the ballast back, at most once a second */
bool store_has_ballast(const struct store *st); /* false: the disk was full, and is not known to have room again */
/* Gives pages that hold nothing back to the disk until that time (clock_us). true: there are more. Between transactions
 * only, and not for what the next jobs will need again. */
bool store_shrink(struct store *st, int64_t until);
int store_wal(const struct store *st); /* descriptor of the write-ahead log, for fdatasync; owned by the store */
#define STORE_LOG_KEPT (512 << 10)     /* bytes that the log of a full disk keeps for itself */
unsigned store_log_pages(const struct store *st); /* in the log when the last transaction was committed */
uint64_t store_log_id(const struct store *st);    /* another one when the log has begun anew; 0: there is none */
/* Keeps room on the disk for what the log will add to the database. false: there is none, or little. */
bool store_reserve(struct store *st);
/* Copies the log into the database, between transactions; nothing else does while the store is open. cut: its file is
 * emptied too. Waits for the disk: little, when the log was synced before. Where it fails nothing is lost, and the log
 * goes on growing. */
void store_checkpoint(struct store *st, bool cut);
const char *store_error(const struct store *st); /* what SQLite said last, or what else is wrong */
/* How many statements have failed so far for a reason that no caller expects (not a full disk, a name that is taken):
 * whatever was read, listed or decided meanwhile may be wrong. */
uint64_t store_faults(const struct store *st);
/* where some have: -EBUSY as long as another program has the file open, else -EIO */
int store_fault(const struct store *st);
bool store_damaged(const struct store *st);   /* one of them found the database damaged: for good */
bool store_unchecked(const struct store *st); /* too large to be checked at open: store_check it in another thread */
void store_checked(struct store *st);         /* that check is over: the connection may now have the file for itself */
/* quick_check on a connection of its own; for one thread at a time, whichever. "" when sound, or when it was stopped.
 * */
void store_check(const char *dir, char *found, size_t size);
void store_check_stop(void); /* the one that runs, and all later ones; for any thread */

uint64_t store_next_id(struct store *st); /* for jobs and groups; never given twice; 0 when the database fails */
int store_meta_get(struct store *st, const char *key, int64_t *value);
int store_meta_set(struct store *st, const char *key, int64_t value);
int store_meta_get_text(struct store *st, const char *key, char *out, size_t size);
int store_meta_set_text(struct store *st, const char *key, const char *value);

/* --- jobs -------------------------------------------------------------------------------------------------------- */
enum {                /* what store_job_save writes besides the plain columns */
       SAVE_NAME = 1, /* group, name, side, uid */
       SAVE_SHELF = 2,
       SAVE_QUEUE = 4, /* state, priority, flags, not_before: the columns that indexes hang on */
};
enum { FLAG_FLUSHED = 1, FLAG_CUT = 2, FLAG_SEALED = 4, FLAG_RESOLVED = 8, FLAG_TEMPORARY = 16, FLAG_COPY = 32 };

struct job_row { /* a job and what only sched/ wants to know */
    struct job job;
    bool sealed;           /* its last writer has closed, and it was not for it to be queued then */
    bool copy;             /* a draft made as a copy of the job that it is to replace, and nothing was written to it */
    bool resolved;         /* its after= was looked up: deps has what it still waits for */
    int64_t turn;          /* place in turn about, among equal priorities */
    char place[PLACE_MAX]; /* where it may run (host.h); a stream: "", it needs a place in memory only */
    uint64_t stream, call; /* the stream and the number of its call that this job answers; 0 = a job of its own */
};

int store_job_insert(struct store *st, const struct job_row *r, const char *cwd);
int store_job_get(struct store *st, uint64_t id, struct job_row *out);
int store_job_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out);
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
/* The place behind after that jobs of the user wait for, other than ""; it may be given again. -ENOENT */
int store_ready_place(struct store *st, uid_t uid, char place[PLACE_MAX]);
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
    SET_PARTS /* of a stream */
};
/* Up to max ids of a set, above after; returns how many. now bounds SET_DUE, of SET_SEALED it is the group, of
 * SET_PARTS the stream. */
int store_ids(struct store *st, enum store_set set, int64_t bound, uint64_t after, uint64_t *ids, int max);
#define NOT_PLACED (-1) /* not_before of a job that fits no node */

/* --- users ------------------------------------------------------------------------------------------------------- */
struct user_counts {
    int64_t drafts; /* and directories */
    int64_t jobs;   /* not ended */
    int64_t bytes;  /* of what is in jobs/, results/, failures/ and info/, and 1 KiB for each job or directory */
    int64_t kept;   /* bytes of functions and values */
};
/* Counts what each user has, a walk over all jobs, and keeps count from then on. 0 or -errno. Once, with no transaction
 * open. */
int store_count_users(struct store *st);
int store_user_counts(struct store *st, uid_t uid,
                      struct user_counts *out); /* in this transaction; 0 of all where he has nothing */
int store_body_resize(struct store *st, uint64_t job, enum job_body b, int64_t size); /* of one that is a file */

/* --- bodies ------------------------------------------------------------------------------------------------------ */
struct body {
    int64_t size; /* bytes; of a file: as last known */
    int64_t file; /* 0: the bytes are in the row; else the number in the name of its file in spool/ */
};
int store_body_get(struct store *st, uint64_t job, enum job_body b, struct body *out);
/* Copies at most size bytes from offset of an inline body. Returns the bytes copied or -errno. */
int64_t store_body_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset);
int store_body_put(struct store *st, uint64_t job, enum job_body b, const void *bytes, size_t size);
int store_body_put_file(struct store *st, uint64_t job, enum job_body b, int64_t size, int64_t file);
/* The bodies from first on that are files; returns how many. */
int store_body_files(struct store *st, uint64_t job, enum job_body first, enum job_body bodies[BODIES],
                     int64_t files[BODIES]);
int store_bodies_delete(struct store *st, uint64_t job, enum job_body first); /* all from first on */
int store_body_copy(struct store *st, uint64_t from, uint64_t to);            /* an inline spec */

/* --- streams ----------------------------------------------------------------------------------------------------- */
struct stream_row {      /* how far a stream is, as committed with the answers that say so */
    int64_t at;          /* offset of the first call that is not answered ... */
    uint64_t call, line; /* ... its number, and the lines before it */
    uint64_t suspect;    /* 1 + the number of a call that has been running for a while, 0 = none ... */
    uint32_t deaths;     /* ... and at how many deaths of ppfs it was */
};
int64_t store_log_size(struct store *st, uint64_t job, enum job_body b);
/* bytes NULL: size bytes that stand in its spool file at the offset start. */
int store_log_append(struct store *st, uint64_t job, enum job_body b, int64_t start, const void *bytes, size_t size);
/* Returns the bytes copied or -errno. 0 with *in_file > 0: so many of the bytes wanted stand in the spool file at
 * offset. */
int64_t store_log_read(struct store *st, uint64_t job, enum job_body b, void *buf, size_t size, uint64_t offset,
                       size_t *in_file);
int store_log_drop(struct store *st, uint64_t job, enum job_body b);
int store_trash_slice(struct store *st, int max); /* 1: there may be more */
/* The first rows, max of them, of those that start before that go behind the size bytes of another log. Returns how
 * many. */
int store_log_move(struct store *st, uint64_t job, enum job_body from, int64_t before, enum job_body to, int64_t *size,
                   int max);
/* Deletes rows, max of them, of those that start from there on, before that. Returns how many. */
int store_log_cut(struct store *st, uint64_t job, enum job_body b, int64_t from, int64_t before, int max);
/* answered: which calls from that one on are, as stream_calls.c keeps it; NULL: not wanted. It is given back empty, or
 * the caller's. */
int store_stream_get(struct store *st, uint64_t job, struct stream_row *out, struct buffer *answered);
int store_stream_put(struct store *st, uint64_t job, const struct stream_row *r, const struct buffer *answered);
int store_stream_delete(struct store *st, uint64_t job);

#define VALUES_KEEP (256 << 20) /* bytes of them that are kept, though no stream needs them */
/* --- functions and values of streams, by their users and hashes -----------------------------------------------------
 * */
int store_owner(struct store *st, uint64_t job, uid_t *uid); /* whose it is. 0 or -errno, -ENOENT */
/* Named by that stream of that user: 1 it is there, 0 it is not. */
int store_function_named(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream);
/* One that is not there. bytes NULL: they are the spec of the id body, which has no job. */
int store_function_put(struct store *st, uid_t uid, const uint8_t hash[32], uint64_t stream, const void *bytes,
                       size_t size, uint64_t body);
/* take is given the bytes, and what it returns is returned; or *body is set to the id that has them. -ENOENT */
int store_function_get(struct store *st, uid_t uid, const uint8_t hash[32],
                       int (*take)(void *arg, const void *bytes, size_t size), void *arg, uint64_t *body);
/* Of more than about keep bytes those go that no unfinished stream can need. Returns how many went; their bodies (0:
 * none, or others have them too) are the caller's to drop. As many as FUNCTION_SLICE: there may be more. */
#define FUNCTION_SLICE 64
int store_functions_evict(struct store *st, int64_t keep, uint64_t bodies[FUNCTION_SLICE]);

/* --- dependencies ------------------------------------------------------------------------------------------------ */
/* stream: that job is a call of, 0 = none. -ELOOP when on waits for job, or for that stream */
int store_dep_add(struct store *st, uint64_t job, uint64_t stream, uint64_t on);
int store_deps_delete(struct store *st, uint64_t job);            /* it waits for none */
int store_dep_move(struct store *st, uint64_t from, uint64_t to); /* who waits for from now waits for to */
bool store_dep_any(struct store *st, uint64_t on);                /* somebody waits for it */
int store_dep_first(struct store *st, uint64_t job, uint64_t *on, uint64_t *count); /* -ENOENT: waits for none */
int store_settle_add(struct store *st, uint64_t on, bool succeeded, const char *name);
int store_settle_next(struct store *st, uint64_t *on, bool *succeeded, char name[JOB_NAME_MAX + 1]); /* -ENOENT */
int store_settle_jobs(struct store *st, uint64_t on, uint64_t *ids, int max); /* takes them off the list */
int store_settle_done(struct store *st, uint64_t on);

/* --- nodes ------------------------------------------------------------------------------------------------------- */
int store_node_put(struct store *st, const char *address, int state, int cpus);
/* The secrets of keys for nodes, of 32 bytes. next: that behind name, which becomes its; -ENOENT. */
int store_key_put(struct store *st, const char *name, const uint8_t secret[32]);
int store_key_delete(struct store *st, const char *name);
int store_key_next(struct store *st, char name[NODE_NAME_MAX + 1], uint8_t secret[32]);
int store_node_delete(struct store *st, const char *address);
int store_node_get(struct store *st, const char *address, int *state, int *cpus); /* -ENOENT */
/* The one behind address, "" = the first. -ENOENT */
int store_node_next(struct store *st, char address[NODE_NAME_MAX + 1], int *state, int *cpus);

/* --- groups ------------------------------------------------------------------------------------------------------ */
int store_group_insert(struct store *st, const struct group *g);
int store_group_get(struct store *st, uint64_t id, struct group *out);
int store_group_find(struct store *st, uint64_t parent, const char *name, struct group *out);
int store_group_save(struct store *st, const struct group *g); /* parent, name, dotted, hidden, owner, mode */
int store_group_delete(struct store *st, uint64_t id);
int store_group_list(struct store *st, uint64_t parent, uint64_t after, bool (*each)(void *, const struct group *),
                     void *arg);
int store_group_options(struct store *st, uint64_t id, char **options); /* malloc'd */
bool store_groups_say(struct store *st,
                      const char *text); /* whether any group's options have it; true where that is not known */
int store_group_set_options(struct store *st, uint64_t id, const char *options);
int store_group_set_opening(struct store *st, uint64_t id, bool opening);
int store_group_next_opening(struct store *st, uint64_t after, uint64_t *id); /* -ENOENT */
int store_group_close_below(struct store *st, uint64_t id); /* it and all below it become dotted, and stop opening */
/* Moves the group's undotted subgroups out of their dotted state and marks them opening. */
int store_group_open_below(struct store *st, uint64_t id);
/* Adds to the tally of a group and of all above it; gathered in memory and written once a commit. */
int store_tally_add(struct store *st, uint64_t group, const struct tally *delta); /* fields are signed differences */
int store_tally_get(struct store *st, uint64_t group, struct tally *out);
/* it and all above it count as touched, though no number changes */
int store_tally_touch(struct store *st, uint64_t group);
/* The group before this change and all above it, of which the tally changed since the last commit. */
size_t store_tally_touched(const struct store *st, const uint64_t **groups);
int store_group_levels(struct store *st, uint64_t id);    /* of groups: 1 when there is none in it */
bool store_group_has_jobs(struct store *st, uint64_t id); /* a job of any kind, or a subgroup */
#endif
