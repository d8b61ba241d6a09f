/* What the rooms of the scheduler share. Only sched/ includes this. */
#ifndef PPFS_TURN_H
#define PPFS_TURN_H
#include "sched/db/spool.h"
#include "sched/db/store.h"
#include "sched/db/store_bodies.h"
#include "sched/db/store_deps.h"
#include "sched/db/store_functions.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_nodes.h"
#include "sched/db/store_streams.h"
#include "sched/db/store_users.h"
#include "sched/job/options.h"
#include "sched/job/spec.h"
#include "sched/turn/context.h"
#include "sched/turn/ops.h"

#define DEATHS_MAX 3 /* running at so many deaths of ppfs or its node: failed */

int ids_add(struct ids *l, uint64_t id); /* 0 (also when it is in already) or -ENOMEM */
bool ids_has(const struct ids *l, uint64_t id);
int ids_compare(const void *a, const void *b); /* of two uint64_t, for qsort and tsearch */
void ids_remove(struct ids *l, uint64_t id);

void sched_log(struct sched *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* About a node or a user, who can cause it at will: so many a minute (net/complaints.h). address: where it is, NULL:
 * here. */
void sched_log_about(struct sched *s, const char *who, const char *address, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, of a user: one who has many uids is not told more of than a network of nodes. */
void sched_log_uid(struct sched *s, uid_t uid, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same, of the user whose job or stream it is. */
void sched_log_user(struct sched *s, uint64_t job, const char *format, ...) __attribute__((format(printf, 3, 4)));
void sched_tick(struct sched *s); /* another turn at once */
/* Microseconds since 1970 by the wall clock as it was when this daemon began: what is to happen later (not_before) goes
 * by it, so that nobody waits for a day because the clock was set back. The next daemon's may be another, see
 * sched_recover. */
int64_t sched_steady(const struct sched *s);
#define RETRY_PAUSE_MAX 60            /* seconds between attempts, at most */
int sched_may_begin(struct sched *s); /* 0 or -errno: nothing new is taken now */
/* Once this turn is committed, and the disk has that body, done is called. -EINPROGRESS or -errno */
int sched_synced(struct sched *s, uint64_t job, const struct body *b, sched_done *done, void *arg);
/* A change of names was made: with --sync full done is called when it is on the disk (-EINPROGRESS), else 0. */
int sched_renamed(struct sched *s, uint64_t job, sched_done *done, void *arg);
void sched_answer_laters(struct sched *s, int rc); /* of both, with the commit's rc */
void sched_set_due(struct sched *s);               /* the timer, for the next retry of a job */
void sched_retry(struct sched *s);                 /* what could not be done now is tried again a second later */

/* An error that the store does not know of by itself: this turn is not committed for it; but -ENOENT. Returns rc. */
int sched_check(struct sched *s, int rc);
/* Calls each() for every job of that set, until it returns another than 0, which is returned. */
int sched_each(struct sched *s, enum store_set set, int64_t bound,
               int (*each)(struct sched *s, struct job_row *r, void *arg), void *arg);
void sched_note(struct sched *s, uint64_t job);
void sched_note_unlink(struct sched *s, struct spool_name n);

/* tidy.c */
void tidy_later(struct sched *s); /* something has changed: a second of quiet from here on */
void tidy_timer(evutil_socket_t fd, short what, void *arg);

/* checkpoint.c: after the replies of a turn */
void checkpoint_turn(struct sched *s);
void checkpoint_timer(evutil_socket_t fd, short what, void *arg);
#endif
