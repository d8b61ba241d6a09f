/* Hosts: what can run work. The first is "local", this machine's pool; the others are nodes (nodes/NAME), here or,
 * while they are away, only wanted. Only sched/ includes this. */
#ifndef PPFS_HOST_H
#define PPFS_HOST_H
#include <sys/queue.h>

#include "sched/sched.h"
#include "sched/hosts/estimate.h"
#include "sched/db/store_jobs.h"
#include "worker/runner/node_about.h"
#include "worker/remote/registry.h"

struct sched;

struct host {
    struct host *next;
    struct sched *s;
    uint64_t id;                     /* host_id */
    char name[NODE_NAME_MAX + 1];    /* of its directory in nodes/, in info/NAME/node and for node=PATTERN */
    char alias[NODE_NAME_MAX + 1];   /* as a node calls itself, where that is another; also for node=PATTERN */
    char address[NODE_NAME_MAX + 1]; /* where it is, or was last; "": as it is called */
    struct runner runner;            /* ops NULL: it is away */
    struct pool *pool;               /* local, else NULL */
    struct remote *remote;           /* a node that is here, else NULL */
    bool dialled;                    /* mkdir made it: it has a row, and stays while it is away */
    bool leaving, let_go;            /* rmdir: finishes what it runs, then goes; it was told to */
    /* what nodes/ was asked for in this turn, to be done when that is committed: it is to be dialled,
     * to go, to be told its slots */
    bool dial, undial, tell;
    enum node_state state; /* as set in nodes/NAME/state: up or drain */
    int wish, told;        /* slots as set in nodes/NAME/cpus, -1: as many as it has; those that its runner was told */
    unsigned cpus;         /* slots */
    uint64_t memory;       /* bytes that it has, 0: not known */
    /* of the slots: taken by runs and leases; of those, lent to others while a job waits in there */
    unsigned used, lent;
    unsigned runs, leases;        /* how many of each it has, ended ones that are still to be written among them */
    unsigned idle;                /* of the leases: without a call */
    const struct stream *wanting; /* lease.c, while leases are reclaimed: a stream that could use it */
    LIST_ENTRY(host) touch;       /* of sched.touched, while is_touched */
    bool is_touched, is_fresh;
    /* of sched.fresh, while is_fresh: what is added to done, failed and run_us with this turn's commit */
    LIST_ENTRY(host) fresh;
    uint64_t fresh_done, fresh_failed;
    int64_t fresh_us;
    uint64_t order;           /* in which it came */
    TAILQ_ENTRY(host) room;   /* of sched.roomy, while is_roomy: it may have a free slot; whoever has one is in there */
    LIST_ENTRY(host) resting; /* of sched.resting, while is_resting: until quiet_until or short_until */
    bool is_roomy, is_resting;
    TAILQ_ENTRY(host) lost; /* of sched.lost, while is_lost: it came by itself, is away and shown as such */
    bool is_lost;
    bool reserved;     /* of this dispatch: kept for a job that needs more slots than are free ... */
    uint64_t kept_for; /* ... this one ... */
    double spare_us;   /* ... and what ends within so many microseconds does not hold that up; 0: nothing may begin */
    LIST_ENTRY(host) kept;      /* of sched.kept_hosts, while reserved */
    struct host *next_spare;    /* of sched.spares */
    LIST_HEAD(, run) under_way; /* of runs: those that have slots, and those whose end is not committed */
    uint64_t weighed;           /* the lease_reclaim in which wanted and wanting were found */
    bool wanted;                /* a job that it could run waits: backlog_wants */
    uint64_t done, failed;      /* attempts since this daemon began */
    unsigned crashes;           /* times in a row that it was lost with work and finished none in between ... */
    bool lost_work;             /* ... the one that is under way counts */
    /* clock_us: until then it gets no work; after that, one piece at a time until one is finished */
    int64_t quiet_until;
    int64_t short_until; /* clock_us: until then there is no room on it for more than ... */
    unsigned short_used; /* ... so many slots, whatever it has */
    int64_t run_us, seen;
    struct took took[SPEED_MAX + 1]; /* by function: estimate.h */
    uint32_t serial;                 /* tells hosts apart in struct speeds; 0: not given yet */
    double slower;                   /* times as long as on the fastest host, of what both ran; below 1: not known */
    double log_slower;               /* while that is made anew ... */
    unsigned compared;               /* ... and the functions that count */
    bool known;                      /* a node that has said for whom it runs: */
    uid_t uid;                       /* it runs as that user, ... */
    bool single; /* it gets jobs of one user: it does not run as root, or --node-user says so, whatever it says ... */
    uid_t only;  /* ... this one: whom --node-user names, or who mounted ... */
    struct node_uids uids;     /* ... for these (node_about.h) */
    char python[64], why[256]; /* why: it is away */
};

/* Where a job may run, as its row says: "" anywhere; else 'p' (only where pickles are understood) or '-', then the
 * pattern of node=, "" for any name. With memory=: 'P' or '=', then its bytes in hexadecimal and ':' before the
 * pattern. */
#define PLACE_STREAM "s" /* a stream waits for a place in memory, in a lane of its own; its calls wait for hosts */
void place_make(char place[PLACE_MAX], enum work_kind kind, const char *pattern, uint64_t memory);
struct place {
    bool pickles;
    uint64_t memory;     /* 0: any */
    const char *pattern; /* in the text that was taken apart, "" = any */
};
struct place place_parse(const char *place);

/* host_list.c */
uint64_t host_id(const char *name); /* of its directory in nodes/: 56 bits, not 0 */
/* at the end, under its name. -EEXIST: there is one of that id, -ENOMEM */
int host_enlist(struct sched *s, struct host *h);
void host_delist(struct host *h);
struct host *host_find(struct sched *s, const char *name);     /* NULL: no such node, or it leaves */
struct host *host_find_any(struct sched *s, const char *name); /* also one that leaves */
struct host *host_by_id(struct sched *s, uint64_t id);         /* the same */
struct host *host_behind(struct sched *s, uint64_t id);        /* the next in the order of ids, NULL: none */

int host_create_local(struct sched *s);                    /* and its pool. 0 or -errno */
extern const struct runner_events host_events;             /* of every runner; their arg is its host */
void host_wake_in(struct sched *s, int64_t us);            /* at the latest then the queue is looked at again */
void host_wake(evutil_socket_t fd, short what, void *arg); /* of sched.wake */
void host_destroy_all(struct sched *s);                    /* kills what runs; no event comes any more */
void host_free_all(struct sched *s);
bool host_live(const struct host *h);     /* takes work */
bool host_drains(const struct host *h);   /* it is to have nothing to do soon */
bool host_is_short(const struct host *h); /* that is so now */
unsigned host_free(const struct host *h); /* slots, 0 when it takes no work */
/* a job of that user with that place may run there */
bool host_fits(const struct host *h, const char *place, uid_t uid);
bool host_takes(const struct host *h, uid_t uid); /* that user's jobs, wherever they may run */
void host_set_user(struct host *h);               /* single and only: h->uid has changed, or h is new */
bool host_is(const struct host *h, const struct place *p);
bool host_pickles(const struct host *h); /* its Python understands what the one of this machine pickles */
struct demand {
    const char *place;
    unsigned cpus;
    unsigned function; /* estimate.h; 0: nothing is known of it */
    uid_t uid;         /* whose job */
    const char *avoid; /* that job has died or failed there: not this host, unless there is no other; "" = none */
};
/* The host where it soonest begins and ends among those with as many free slots; NULL: none has. */
struct host *host_choose(struct sched *s, const struct demand *d);
void host_worked(struct host *h); /* it has finished something */
void host_short(struct host *h);  /* its runner says -EAGAIN: more than it has now cannot run there for a moment */
/* How work of it ended; the same follows where that says that there was no room for it. */
void host_gave_back(struct host *h, const struct work_outcome *o);
void host_crashed(struct host *h);            /* it was lost; if that cost work, it is left alone for a while */
double host_way_us(const struct host *h);     /* round trip of its link */
bool host_any_free(struct sched *s);          /* a slot, nobody's reservation */
unsigned host_free_now(const struct host *h); /* slots that are nobody's reservation */
/* how soon something would begin and end there: less is sooner */
double host_cost(const struct host *h, unsigned function);
/* speed_doubts, and another host can do it: one at a time */
bool host_doubts(const struct host *h, const struct demand *d);
bool host_shuns(struct host *h, const struct demand *d); /* and the next is not due yet; then it wakes */
void host_room(struct host *h);                          /* one of its slots has come free, or may have */
void host_unlist(struct host *h);                        /* it goes: from all that it stands in here */
void host_unreserve_all(struct sched *s);
void host_touch(struct host *h); /* it was told something that lease_send flushes */
void host_untouch(struct host *h);
/* An end of this turn: it counts when it is committed, and is said again when that failed. */
void host_count(struct host *h, unsigned done, unsigned failed, int64_t us);
void host_counted(struct sched *s, bool committed);
/* Slots of the largest host that fits, there or away; 0: none does. */
unsigned host_largest(struct sched *s, const char *place, uid_t uid);
/* Whether one that fits has so many, there or away. */
bool host_could(struct sched *s, const char *place, uid_t uid, unsigned cpus);
void host_resize(struct host *h);  /* tells the runner how many slots it is to have, the lent ones too */
void host_changed(struct host *h); /* jobs that fitted nowhere are judged again, and others may start */

/* host_reserve.c. The host that is nearest to having so many slots is kept for that job: smaller ones behind it must not
 * pass for ever. */
struct host *host_reserve(struct sched *s, const struct demand *d, uint64_t job);
/* A host that is kept, where the job surely ends before that can be free for which it is kept; timeout_us: 0 = none.
 * NULL: there is none. */
struct host *host_spare(struct sched *s, const struct demand *d, int64_t timeout_us);
void host_spare_wake(struct sched *s); /* later more may begin there */

/* registry.c: the nodes */
/* the key, the registry, the nodes of the database. 0 or -errno */
int registry_make(struct sched *s, char *why, size_t why_size);
/* keys.c. fresh: no node can have got a key of this mount yet, unless of another state directory. 0 or -errno. */
int keys_make(struct sched *s, bool fresh);
void keys_free(struct sched *s);
void keys_committed(struct sched *s);
void keys_rolled_back(struct sched *s);
void host_committed(struct sched *s);   /* what was set in nodes/ happens */
void host_rolled_back(struct sched *s); /* what was set in nodes/ is again as committed */
void host_vacant(struct host *h);       /* a run or lease has left it: if it is to go and has no other, it goes */
#endif
