/* Inside the store: the connection, and what its files below store.c offer to it. Only store*.c include this. */
#ifndef PPFS_STORE_INT_H
#define PPFS_STORE_INT_H
#include <sys/stat.h>

#include "sched/db/store_bodies.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_sql.h"

#define LITTLE (64 << 10) /* bytes: less than SQLite needs to begin */
#define TALLY_MAX 256     /* groups with gathered tallies */
#define RECENT 64 /* jobs whose rows are kept: a power of two, so that those that follow each other have a place */

struct recent_body {
    int64_t id; /* body_id, 0: none */
    struct body body;
};

struct store {
    sqlite3 *db;
    char *dir;
    int wal;
    int file;               /* of the database, for reserving room; closing it drops SQLite's locks */
    int64_t reserved_bytes; /* room reserved since the last checkpoint */
    unsigned log_pages;
    int64_t page_size; /* bytes */
    bool changed, full, unchecked;
    bool shrinks, shrinking; /* free pages can be given back; some were, and the file is to be cut */
    bool no_room;            /* a statement of this transaction found the disk full */
    int error;               /* the first since the last transaction ended ... */
    char said[256];          /* ... and its message, kept until the next */
    uint64_t faults;         /* see store_faults */
    bool damaged;
    dev_t dev; /* of the file that is open */
    ino_t ino;
    int64_t full_checked; /* clock_us: the last try to get the ballast back */
    bool roomy;           /* the disk had room at the last store_full */
    uint64_t next_id, reserved;
    int64_t function_bytes; /* upper bound of all functions and values */
    int64_t function_pause; /* clock_us: no walk before for a stream that has ended ... */
    bool stream_ended;      /* ... since the last walk */
    sqlite3_stmt *statements[SQL_STATEMENTS];
    struct {
        uint64_t group;
        struct tally delta;
    } tallies[TALLY_MAX];
    size_t tally_count;
    int64_t grown; /* store_grown */
    struct {       /* by their ids; store_recent.c */
        struct job_row jobs[RECENT];
        struct recent_body bodies[RECENT * BODIES];
    } recent;
    uint64_t *touched; /* groups whose tally row changed in this transaction */
    size_t touched_count, touched_cap;
};

int store_tally_flush(struct store *st);

void store_job_read(sqlite3_stmt *q, struct job_row *r); /* of a row of JOB_COLUMN_NAMES */

void store_recent_begin(struct store *st); /* when it is opened: nothing is kept yet */
/* False: it must be read, and told by ..._read. */
bool store_recent_job(struct store *st, uint64_t id, struct job_row *out);
bool store_recent_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out);
void store_recent_job_read(struct store *st, const struct job_row *r);
bool store_recent_body(struct store *st, int64_t id, struct body *out); /* id: body_id */
void store_recent_body_read(struct store *st, int64_t id, const struct body *b);

int64_t store_bytes_free(struct store *st); /* in free pages of the file */
int64_t store_bytes_used(struct store *st);
void store_make_shrinkable(struct store *st); /* at its opening */

const char *store_log_layer(void); /* for sqlite3_open_v2: the files, with a log that takes a commit by one write */
void store_checkpoint_asked(struct store *st); /* when it is opened: no checkpoint comes by itself */
/* on a full disk: gives the log room for removals */
void store_log_keep(struct store *st);

bool store_ballast_take(struct store *st);                /* false: there is no room for it */
void store_ballast_leave(struct store *st);               /* on a full disk: leaves its rest for the next start */
bool store_ballast_drop(struct store *st);                /* false: there was none */
void store_ballast_give(struct store *st);                /* of an open store: the room of the log becomes free, too */
bool store_finds_no_room(const struct store *st, int rc); /* rc: -errno of the failure */

int store_schema_version(void);
bool store_schema(sqlite3 *db); /* makes the newest in an empty database; false: no memory */

/* Something that is wrong in a job, or in a directory (group); id 0: in the whole. */
typedef void examine_found(void *arg, const char *line, bool group, int64_t id);
/* Rows that no ppfs writes, and bytes, which are in that state directory, that are not those of their checksum. */
void store_examine_rows(sqlite3 *db, const char *dir, examine_found *found, void *arg);
/* Rows of a query: a sentence and a number. */
void store_examine_each(sqlite3 *db, const char *sql, bool group, examine_found *found, void *arg);
/* Opens the database for reading, and holds the lock, -1 where there is none; both are the caller's, also after an
 * error. 0, -EBUSY a ppfs uses it, -ENOENT, -EIO. */
int store_examine_open(const char *dir, sqlite3 **db, int *lock);

void store_check_allow(void); /* store_check runs again, after store_check_stop */
#endif
