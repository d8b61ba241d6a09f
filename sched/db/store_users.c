/* Totals of each user: in a temporary table, kept by triggers, so that they take part in every transaction and
 * rollback; counted once at the start. */
#include "sched/db/store_users.h"

#include <errno.h>

#include "sched/db/store_int.h"

#define OF_JOB(id) "(SELECT uid FROM main.jobs WHERE id=" JOB_OF(id) ")"
#define IS_DRAFT(row) "(" row "state=" DRAFT " AND " row "shelf=" IN_JOBS ")"
/* Unended jobs and closed drafts that are being queued; call jobs count with their streams. */
#define IS_UNENDED(row)                                                                                                \
    "(" row "shelf<>" PART " AND (" row "state " ACTIVE " OR (" row "state=" DRAFT " AND " row                         \
    "flags&" FLUSHED_OR_SEALED "=" FLUSHED ")))"
#define BODIES_OF(job)                                                                                                 \
    "(SELECT total(size) FROM main.bodies WHERE id BETWEEN " job "*" BODIES_OF_JOB " AND " job "*" BODIES_OF_JOB "+7)"
#define EACH "1024" /* bytes that a job or directory counts for besides its contents */
/* rows of waiting answers start at call numbers, so their sizes are added up */
#define WAITS(id) "(" BODY_OF(id) "=" WAITING_BODY ")"
#define MAKE "CREATE TEMP TRIGGER "
#define KNOWN(uid) "INSERT OR IGNORE INTO counts VALUES(" uid ",0,0,0,0);"

/* The OR REPLACE of an outer statement also holds in triggers: those of bodies only UPDATE. */
/* clang-format off */
static const char triggers[] =
    MAKE "jobs_in AFTER INSERT ON main.jobs BEGIN " KNOWN("new.uid")
    "UPDATE counts SET drafts=drafts+" IS_DRAFT("new.") ", jobs=jobs+" IS_UNENDED("new.") ", bytes=bytes+" EACH " WHERE uid=new.uid; END;"
    MAKE "jobs_out AFTER DELETE ON main.jobs BEGIN "
    "UPDATE counts SET drafts=drafts-" IS_DRAFT("old.") ", jobs=jobs-" IS_UNENDED("old.") ", bytes=bytes-" EACH " WHERE uid=old.uid; END;"
    MAKE "jobs_to AFTER UPDATE OF state, shelf, flags ON main.jobs BEGIN "
    "UPDATE counts SET drafts=drafts+" IS_DRAFT("new.") "-" IS_DRAFT("old.") ", jobs=jobs+" IS_UNENDED("new.") "-" IS_UNENDED("old.") " WHERE uid=old.uid; END;"
    /* a change of owner: the row counted for the old user, with its new values */
    MAKE "jobs_of AFTER UPDATE OF uid ON main.jobs WHEN old.uid<>new.uid BEGIN " KNOWN("new.uid")
    "UPDATE counts SET drafts=drafts-" IS_DRAFT("new.") ", jobs=jobs-" IS_UNENDED("new.") ", bytes=bytes-" EACH "-" BODIES_OF("old.id") " WHERE uid=old.uid;"
    "UPDATE counts SET drafts=drafts+" IS_DRAFT("new.") ", jobs=jobs+" IS_UNENDED("new.") ", bytes=bytes+" EACH "+" BODIES_OF("old.id") " WHERE uid=new.uid; END;"
    MAKE "bodies_in BEFORE INSERT ON main.bodies BEGIN "
    "UPDATE counts SET bytes=bytes+new.size-ifnull((SELECT size FROM main.bodies WHERE id=new.id),0) WHERE uid=" OF_JOB("new.id") "; END;"
    MAKE "bodies_out AFTER DELETE ON main.bodies BEGIN UPDATE counts SET bytes=bytes-old.size WHERE uid=" OF_JOB("old.id") "; END;"
    MAKE "bodies_to AFTER UPDATE OF size ON main.bodies BEGIN UPDATE counts SET bytes=bytes+new.size-old.size WHERE uid=" OF_JOB("new.id") "; END;"
    MAKE "logs_in AFTER INSERT ON main.logs BEGIN "
    "UPDATE bodies SET size=CASE WHEN " WAITS("id") " THEN size+length(new.data) ELSE " LOG_END("new.") " END WHERE id=new.log AND file=" IN_LOG "; END;"
    MAKE "logs_out AFTER DELETE ON main.logs WHEN " WAITS("old.log") " BEGIN "
    "UPDATE bodies SET size=size-length(old.data) WHERE id=old.log AND file=" IN_LOG "; END;"
    /* a waiting answer goes out */
    MAKE "logs_to AFTER UPDATE OF log ON main.logs BEGIN "
    "UPDATE bodies SET size=size-length(old.data) WHERE id=old.log AND file=" IN_LOG " AND " WAITS("id") ";"
    "UPDATE bodies SET size=" LOG_END("new.") " WHERE id=new.log AND file=" IN_LOG "; END;"
    MAKE "groups_in AFTER INSERT ON main.groups BEGIN " KNOWN("new.uid") "UPDATE counts SET drafts=drafts+1, bytes=bytes+" EACH " WHERE uid=new.uid; END;"
    MAKE "groups_out AFTER DELETE ON main.groups BEGIN UPDATE counts SET drafts=drafts-1, bytes=bytes-" EACH " WHERE uid=old.uid; END;"
    MAKE "groups_of AFTER UPDATE OF uid ON main.groups WHEN old.uid<>new.uid BEGIN " KNOWN("new.uid")
    "UPDATE counts SET drafts=drafts-1, bytes=bytes-" EACH " WHERE uid=old.uid;"
    "UPDATE counts SET drafts=drafts+1, bytes=bytes+" EACH " WHERE uid=new.uid; END;"
    MAKE "objects_in AFTER INSERT ON main.functions BEGIN " KNOWN("new.uid") "UPDATE counts SET kept=kept+" FUNCTION_SIZE("new.") " WHERE uid=new.uid; END;"
    MAKE "objects_out AFTER DELETE ON main.functions BEGIN UPDATE counts SET kept=kept-" FUNCTION_SIZE("old.") " WHERE uid=old.uid; END;";
/* clang-format on */

#define LOG_SIZE                                                                                                       \
    "CASE WHEN " WAITS("id") " THEN (SELECT cast(total(length(data)) AS INTEGER) FROM logs WHERE log=bodies.id)"       \
                             " ELSE ifnull((SELECT " LOG_END(                                                          \
                                 "") " FROM logs WHERE log=bodies.id ORDER BY start DESC LIMIT 1), 0) END"
/* Sets sizes of logs that were not kept up to date. */
static const char measure[] = "UPDATE bodies SET size=" LOG_SIZE " WHERE file=" IN_LOG " AND size<>" LOG_SIZE;

/* Writes nothing to the disk. */
/* clang-format off */
static const char count[] =
    "CREATE TEMP TABLE counts(uid INTEGER PRIMARY KEY, drafts INTEGER NOT NULL, jobs INTEGER NOT NULL, bytes INTEGER NOT NULL, kept INTEGER NOT NULL);"
    "INSERT INTO counts SELECT uid, sum(drafts), sum(jobs), cast(sum(bytes) AS INTEGER), sum(kept) FROM ("
    " SELECT uid, " IS_DRAFT("") " AS drafts, " IS_UNENDED("") " AS jobs, " EACH "+" BODIES_OF("jobs.id") " AS bytes, 0 AS kept FROM jobs"
    " UNION ALL SELECT uid, 1, 0, " EACH ", 0 FROM groups WHERE id<>0"
    " UNION ALL SELECT uid, 0, 0, 0, " FUNCTION_SIZE("functions.") " FROM functions) GROUP BY uid";
/* clang-format on */

int store_count_users(struct store *st) {
    int rc = sqlite3_exec(st->db, measure, NULL, NULL, NULL);
    /* a full disk must not prevent a start, as jobs are removed there */
    if ((rc & 0xff) == SQLITE_OK || (rc & 0xff) == SQLITE_FULL)
        rc = sqlite3_exec(st->db, count, NULL, NULL, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(st->db, triggers, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_errno(st, rc);
}

int store_user_counts(struct store *st, uid_t uid, struct user_counts *out) {
    int64_t n[4] = {0};
    int rc = store_integers(st, n, 4, SQL_USER_COUNTS, INTEGER(uid));
    *out = (struct user_counts){.drafts = n[0], .jobs = n[1], .bytes = n[2], .kept = n[3]};
    return rc == -ENOENT ? 0 : rc;
}
