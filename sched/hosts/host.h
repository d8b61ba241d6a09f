/* Hosts: what can run work. The first is "local", this machine's pool; the others are nodes (nodes/NAME), here or,
 * while they are away, only wanted. Only sched/ includes this. */
#ifndef PPFS_HOST_H
#define PPFS_HOST_H
#include <sys/queue.h>

#include "sched/hosts/estimate.h"
#include "sched/hosts/nodes.h"
#include "sched/users/user.h"
#include "worker/runner/node_about.h"
#include "worker/remote/registry.h"

struct sched;

struct slot_use {               /* of a host's slots, by a run */
    LIST_ENTRY(slot_use) mates; /* of host.under_way */
    uint32_t cpus;
    uint64_t memory;   /* bytes that it reserves, while it has its slots */
    unsigned function; /* estimate.h */
    int64_t began;     /* clock_us: given to the runner; 0: not yet */
    bool filled;       /* began on a host that is kept for another job */
    bool lent, over;   /* its slots are lent to others; it has ended, and its end is not committed yet */
};

struct host {
    struct host *next; /* no list of sys/queue.h: walked in fifteen places, changed in one */
    struct sched *s;
    uint64_t id;                     /* host_id */
    unsigned state_told, slots_told; /* host_trace */
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
    uint64_t memory_used;  /* of it, what runs with memory= reserve */
    uint64_t memory_kept;  /* the dispatch in which what is left is kept for a job that needs more */
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
    LIST_ENTRY(host) kept;   /* of sched.kept_hosts, while reserved */
    struct host *next_spare; /* of sched.spares */
    LIST_HEAD(, slot_use) under_way;
    uint64_t weighed;      /* the lease_reclaim in which wanted and wanting were found */
    bool wanted;           /* a job that it could run waits: backlog_wants */
    uint64_t done, failed; /* attempts since this daemon began */
    unsigned crashes;      /* times in a row that it was lost with work and finished none in between ... */
    bool lost_work;        /* ... the one that is under way counts */
    /* clock_us: until then it gets no work; after that, one piece at a time until one is finished */
    int64_t quiet_until;
    int64_t short_until; /* clock_us: until then there is no room on it for more than ... */
    unsigned short_used; /* ... so many slots, whatever it has */
    int64_t run_us, seen;
    struct took took[ESTIMATE_MAX + 1]; /* by function: estimate.h */
    uint32_t serial;                    /* tells hosts apart in struct estimates; 0: not given yet */
    double slower;                      /* times as long as on the fastest host, of what both ran; below 1: not known */
    double log_slower;                  /* while that is made anew ... */
    unsigned compared;                  /* ... and the functions that count */
    bool known;                         /* a node that has said for whom it runs: */
    uid_t uid;                          /* it runs as that user, ... */
    bool single; /* it gets jobs of one user: it does not run as root, or --node-user says so, whatever it says ... */
    uid_t only;  /* ... this one: whom --node-user names, or who mounted ... */
    struct node_uids uids;     /* ... for these (node_about.h) */
    char python[64], why[256]; /* why: it is away */
};

/* Where a job may run, as its row says: "" anywhere; else 'p' (only where pickles are understood) or '-', then the
 * pattern of node=, "" for any name. With memory=: 'P' or '=', then its bytes in hexadecimal and ':' before the
 * pattern. */
#define CONSTRAINT_STREAM                                                                                              \
    "s" /* a stream waits for a place in memory, in a ready queue of its own; its calls wait for hosts */
void constraint_make(char place[CONSTRAINT_MAX], enum work_kind kind, const char *pattern, uint64_t memory);
struct constraint {
    bool pickles;
    uint64_t memory;     /* 0: any */
    const char *pattern; /* in the text that was taken apart, "" = any */
};
struct constraint constraint_parse(const char *place);
#endif
