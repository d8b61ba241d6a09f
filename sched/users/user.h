/* Users: whose turn it is. Slots go to the user with the least virtual time among those who have something that waits;
 * a user's virtual time is the slot time that his runs and leases have had. Who comes (or comes back) with nothing
 * under way begins at the least virtual time of those who have: there is no credit for having been idle. All of it is
 * in memory, and begins anew with each daemon. A heap each for those who have something and for those who wait, so that
 * a turn costs the logarithm of their number. Only sched/ includes this. */
#ifndef PPFS_USER_H
#define PPFS_USER_H
#include <limits.h>
#include <sys/queue.h>

#include "sched/users/limit.h"
#include "sched/users/wanted.h"
#include "sched/users/quota.h"
#include "sched/turn/turn.h"

struct sched;
struct stream;
struct ready_queues;
struct call;

#define NOT_URGENT INT_MIN

enum { USERS_ACTIVE, USERS_READY, USERS_HEAPS };
struct user {  /* every user who has had a job or slot since the daemon began */
    uid_t uid; /* first: key of the tree */
    struct sched *s;
    double used_us;           /* virtual time, as of ... */
    int64_t at;               /* ... then, clock_us */
    unsigned slots;           /* of his runs and leases, without lent ones */
    unsigned leased;          /* of them: slots of leases */
    uint64_t call_turn;       /* that of the streams in which so many jobs of his calls ... */
    unsigned call_jobs;       /* ... were made, let go or cancelled */
    unsigned lent;            /* his runs and leases that have lent their slots */
    struct want_queue wanted; /* his jobs that others wait for and that may be queued */
    bool backlog, placed;     /* the database may have ready jobs of his: that run anywhere; that have a place */
    bool hungry;              /* a stream of his could use a slot */
    bool passed;              /* none of his jobs can start in this dispatch any more */
    bool wide;                /* his first job needs more slots than his quota leaves */
    bool starved;             /* a job of his waits for slots of his own: counted in users.starved */
    bool stream_turn;         /* at equal priority his next slot is a stream's */
    int urgent;               /* priority of a job that became ready; NOT_URGENT once a slot was sought for it */
    bool keeps;               /* a job of his waits for slots of leases, so it is tried before streams get more */
    uint64_t crowded;         /* the dispatch in which a job of his asked for more slots than his quota left */
    char constraint_from[CONSTRAINT_MAX]; /* the next dispatch looks at the places behind this one first */
    unsigned in[USERS_HEAPS];             /* 1 + his place in that heap, 0: he is not in it */
    struct {
        uint64_t group, job, below, round; /* of that group, which is being opened, all up to these ids are done */
    } opened;
    struct {
        uint64_t job, round; /* of his that fit no node, those up to this id were judged again */
    } judged;
    struct quota quota;
    int64_t live;                /* bytes of output that are not in the database yet */
    int64_t told_at;             /* clock_us of the last log line about a refusal; 0: never */
    struct ready_queues *queues; /* of this dispatch: dispatch.c */
    LIST_ENTRY(user) met;        /* of dispatch.met, while it has ready queues */
    LIST_ENTRY(user) streaming;  /* of sched.streaming, while he has streams in memory */
    LIST_HEAD(, stream) streams;
    unsigned active_streams;             /* of them: not idle */
    size_t held, sent, gathered;         /* stream_memory.h: bytes of calls; that workers have; that are not whole */
    size_t answers;                      /* leases/answers.c: bytes that they take */
    uint64_t favourite;                  /* the lease that is still read; 0: none */
    struct ending *ending;               /* the same for an ending job (stream_ended.c); NULL: none */
    TAILQ_HEAD(, lease) waiting;         /* leases that are not read ... */
    TAILQ_HEAD(endings, ending) endings; /* ... and jobs whose answers are not */
    bool holds;                          /* he is in sched.holding */
    LIST_ENTRY(user) holding;
    size_t unwritten, flying;   /* bytes of answers: waiting for the disk thread; in it */
    const struct stream *large; /* may read a call beyond his limit */
    TAILQ_HEAD(, call) bodies;  /* calls whose files wait for the files being made ... */
    unsigned making;            /* ... number of these */
};

int users_make(struct sched *s);                  /* 0 or -ENOMEM */
struct user *user_of(struct sched *s, uid_t uid); /* made if there is none; NULL: no memory */
void users_free(struct sched *s);
bool user_is_trusted(const struct sched *s, uid_t uid); /* root, or the user who mounted */

void user_holds(struct user *u, int slots);                 /* adds to his slots, or subtracts */
void user_backlog(struct user *u, bool plain, bool placed); /* sets backlog and placed */
void user_hungry(struct user *u, bool hungry);
void users_look(struct sched *s);          /* others may have ready jobs as well: the next dispatch finds them */
void users_find(struct sched *s);          /* ... here */
bool users_backlog(const struct sched *s); /* somebody may have ready jobs that run anywhere */
bool users_ready(const struct sched *s);   /* ... or elsewhere */
bool users_starved(const struct sched *s); /* somebody waits for slots that his quota would allow */
/* Somebody waits for a slot, other than that user. */
bool users_wait(const struct sched *s, const struct user *but);
/* the i-th who waits, more or less by turns; or NULL */
const struct user *user_waiting(const struct sched *s, unsigned i);
void user_wide(struct user *u); /* his first job needs more slots than his quota leaves */
/* The next user among those who wait and were not passed in this dispatch; NULL: none. */
struct user *user_next(struct sched *s);
void user_pass(struct user *u);
void user_unpass(struct user *u); /* at the end of a dispatch */
/* Whether next would be served if u gave a slot back after so many others. Also true if another job of u's waits. */
bool user_yields(struct user *u, const struct user *next, unsigned given);
bool user_has_room(const struct user *u, unsigned slots); /* whether his quota allows so many more */
bool user_crowded(const struct user *u);                  /* whether a job of his waits for slots that he has himself */

/* quota.c. Each returns 0, -EDQUOT (beyond the quota), or -errno. */
struct quota quota_of(const struct sched *s, uid_t uid);
int quota_draft(struct sched *s, uid_t uid);         /* one more draft or directory */
int quota_job(struct sched *s, uid_t uid, int more); /* so many more jobs; 0: his present ones */
bool quota_has_job(struct sched *s, uid_t uid);      /* whether there is room for one; says nothing to the log */
bool quota_has_bytes(struct sched *s, uid_t uid);    /* the same, for one byte */
int quota_bytes(struct sched *s, uid_t uid, int64_t more);
/* bytes of functions and values, with the reserve that every user has */
int quota_values(struct sched *s, uid_t uid, int64_t more);
bool quota_has_room(struct sched *s, uid_t uid, int64_t more); /* for them, before anything is evicted */
/* The job's file is to have so many bytes; if it is in the spool they count from then on. */
int quota_grows(struct sched *s, const struct job *j, uint64_t size);
int quota_output(struct user *u, int64_t more); /* of a run; 0: counted in live */
/* whether it asks for more slots than its user may have */
bool quota_why_never(const struct sched *s, const struct job *j, char *buf, size_t size);
/* whether it waits for slots of its own user */
bool quota_why_queued(struct sched *s, const struct job *j, char *buf, size_t size);
#endif
