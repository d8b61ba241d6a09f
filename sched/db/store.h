/* The database: the connection and its transactions. What stands in it is in the other headers store_*.h. Only sched/
 * uses these.
 *
 * One connection, WAL, one transaction at a time, begun by the first change. Calls return 0 or -errno: -ENOENT no such
 * row, -EEXIST a name or number is taken, -ENOSPC the disk is full, -EBUSY another program has the file open, -EIO
 * anything that SQLite says besides (logged).
 *
 * A disk that fills: COMMIT fails and has rolled back. A ballast file of 1 MiB is then given up, so that deletes and
 * the results of running jobs still get through; store_full() is true until there is room for the ballast again. */
#ifndef PPFS_STORE_H
#define PPFS_STORE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct store;

int store_open(struct store **out, const char *dir, char *why, size_t why_size);
void store_close(struct store *st); /* accepts NULL; rolls back what was not committed */

int store_touch(struct store *st);          /* begins the transaction of a change that is written later in the turn */
bool store_changed(const struct store *st); /* a transaction is open */
/* 0 or -errno: then all of the transaction is rolled back. A transaction in which anything has failed is never
 * committed, whoever looked at what it returned: something may have been decided by what could not be read. */
int store_commit(struct store *st);
void store_rollback(struct store *st);
/* What has failed first since the last transaction ended: -errno, 0 nothing. */
int store_failed(const struct store *st);
int store_fail(struct store *st, int err);       /* this transaction is not to be committed, for err; returns err */
const char *store_error(const struct store *st); /* what there is to say of it, also after the rollback */
bool store_full(struct store *st);               /* tries to get the ballast back */
bool store_has_ballast(const struct store *st);  /* false: the disk was full, and may still be */
/* Gives free pages back to the disk until that time (clock_us), but for those that the next jobs need. true: there are
 * more. Between transactions only. */
bool store_shrink(struct store *st, int64_t until);
int store_wal(const struct store *st); /* descriptor of the write-ahead log, for fdatasync; owned by the store */
#define STORE_LOG_KEPT (512 << 10)     /* bytes that the log of a full disk keeps for itself */
int64_t store_log_bytes(const struct store *st); /* of its pages when the last transaction was committed */
uint64_t store_log_id(const struct store *st);   /* changes when the log begins anew; 0: there is none */
/* Reserves room on the disk for pages that the log will add to the database. false: there is none, or little. */
bool store_reserve(struct store *st);
/* Copies the log into the database, between transactions; nothing else does while the store is open. cut: its file is
 * emptied too. Waits for the disk: little, when the log was synced before. Where it fails nothing is lost, and the log
 * goes on growing. */
void store_checkpoint(struct store *st, bool cut);
/* Statements that have failed so far, full disks and taken names apart: what was read meanwhile may be wrong. */
uint64_t store_faults(const struct store *st);
bool store_damaged(const struct store *st);   /* a statement found the database damaged; it stays so */
bool store_unchecked(const struct store *st); /* not checked at open, as it is large: store_check it in a thread */
void store_checked(struct store *st);         /* the check is over: the connection may lock the file for good */
/* quick_check on a connection of its own; for one thread at a time. "" when sound, or when it was stopped. */
void store_check(const char *dir, char *found, size_t size);
void store_check_stop(void); /* the one that runs, and all later ones; for any thread */

uint64_t store_next_ids(struct store *st, uint64_t n); /* the first of so many in a row; 0: that failed */
uint64_t store_next_id(struct store *st); /* for jobs and groups; never given twice; 0 when the database fails */
int store_meta_get(struct store *st, const char *key, int64_t *value);
int store_meta_set(struct store *st, const char *key, int64_t value);
int store_meta_get_text(struct store *st, const char *key, char *out, size_t size);
int store_meta_set_text(struct store *st, const char *key, const char *value);
#endif
