/* Hosts: this machine, "local", is the first; the others are nodes (nodes/NAME), present or away. Only sched/ includes
 * this. */
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
    uid_t uid;                          /* whose run it is */
    uint64_t memory;                    /* bytes that it reserves, while it has its slots */
    uint64_t resources[RESOURCE_KINDS]; /* indices, by kind of the host */
    unsigned function;                  /* estimate.h */
    int64_t began;                      /* clock_us: given to the runner; 0: not yet */
    bool filled;                        /* began on a host that is kept for another job */
    bool lent, over;                    /* lent: its slots are lent; over: it has ended, uncommitted */
};

#define REFUSED_USERS 8
struct refusal { /* of a user's work, which a host gave back without having begun it */
    uid_t uid;
    unsigned times; /* in a row; 0: none */
    int64_t until;  /* it is not asked for him */
    char why[256];
};

struct host {
    struct host *next; /* no list of sys/queue.h: walked in fifteen places, changed in one */
    struct sched *s;
    uint64_t id;                     /* host_id */
    unsigned state_told, slots_told; /* host_trace */
    char name[NODE_NAME_MAX + 1];    /* in nodes/, in info/NAME/node and for node=PATTERN */
    char alias[NODE_NAME_MAX + 1];   /* another name that a node calls itself; also for node=PATTERN */
    char address[NODE_NAME_MAX + 1]; /* its address, or the last one; "": its name is the address */
    struct runner runner;            /* ops NULL: it is away */
    struct pool *pool;               /* local, else NULL */
    struct remote *remote;           /* a node that is here, else NULL */
    bool dialled;                    /* made by mkdir: it has a row, and stays while it is away */
    bool leaving, let_go;            /* rmdir: it goes after its work; it was told to go */
    /* orders of this turn, for after its commit: to dial it, to let it go, to tell it its slots */
    bool dial, undial, tell;
    enum node_state state; /* as set in nodes/NAME/state: up or drain */
    int wish, told;        /* slots set in nodes/NAME/cpus, -1: as many as it has; slots that its runner was told */
    unsigned cpus;         /* slots */
    uint64_t memory;       /* bytes that it has, 0: not known */
    struct resources resources;
    uint64_t taken[RESOURCE_KINDS]; /* indices, by kind */
    uint64_t memory_used;           /* reserved by runs with memory= */
    /* the dispatch in which what is left is kept for a job that needs more */
    uint64_t memory_kept, resources_kept[RESOURCE_KINDS];
    unsigned used, lent;          /* slots taken by runs and leases; those lent while a job waits */
    unsigned runs, leases;        /* its runs and leases, with ended ones that are not written yet */
    unsigned idle;                /* leases without a call */
    const struct stream *wanting; /* lease.c, while leases are reclaimed: a stream that could use it */
    LIST_ENTRY(host) touch;       /* of sched.touched, while is_touched */
    bool is_touched, is_fresh;
    /* of hosts.fresh, while is_fresh: added to done, failed and run_us with this turn's commit */
    LIST_ENTRY(host) fresh;
    uint64_t fresh_done, fresh_failed;
    int64_t fresh_us;
    uint64_t order;           /* the order of arrival */
    TAILQ_ENTRY(host) room;   /* of hosts.roomy, while is_roomy: it may have a free slot */
    LIST_ENTRY(host) resting; /* of sched.resting, while is_resting: until quiet_until or short_until */
    bool is_roomy, is_resting;
    TAILQ_ENTRY(host) lost; /* of hosts.lost, while is_lost: it came by itself and is shown as away */
    bool is_lost;
    bool reserved;           /* in this dispatch: for a job that needs more slots than are free ... */
    uint64_t kept_for;       /* ... this one ... */
    double spare_us;         /* ... work that ends within so many microseconds may begin; 0: none */
    LIST_ENTRY(host) kept;   /* of sched.kept_hosts, while reserved */
    struct host *next_spare; /* of sched.spares */
    LIST_HEAD(, slot_use) under_way;
    uint64_t weighed;      /* the lease_reclaim that has set wanted and wanting */
    bool wanted;           /* a job waits that it could run: backlog_wants */
    uint64_t done, failed; /* attempts since this daemon began */
    unsigned crashes;      /* losses with work in a row, with nothing finished in between ... */
    bool lost_work;        /* ... the present one counts */
    int64_t quiet_until;   /* clock_us: no work until then, and one piece at a time until one is finished */
    int64_t short_until;   /* clock_us: until then it has no room for more than ... */
    unsigned short_used;   /* ... so many slots, whatever it has */
    struct refusal refusals[REFUSED_USERS];
    int64_t run_us, seen;
    struct took took[ESTIMATE_MAX + 1]; /* by function: estimate.h */
    uint32_t serial;                    /* its number in struct estimates; 0: none yet */
    char lacks[WORK_MODULE];            /* the last module that was missing there; "": none was ... */
    uid_t lacks_of;                     /* ... and whose call wanted it */
    bool faulted;                       /* a function has failed here so often that it may be doubted */
    double slower;                      /* run time relative to the fastest host; below 1: unknown */
    double log_slower;                  /* for the next `slower`: sum of logarithms ... */
    unsigned compared;                  /* ... and number of functions */
    bool known;                         /* a node that has told its users: */
    uid_t uid;                          /* it runs as that user, ... */
    bool single;                        /* it gets jobs of one user: it is not root, or by --node-user ... */
    uid_t only;                         /* ... this one, of --node-user or who mounted ... */
    struct node_uids uids;              /* ... for these (node_about.h) */
    char python[64], why[256];          /* why: it is away */
};

/* Where a job may run, as its row says: "" anywhere; else 'p' (only where pickles are understood) or '-', then the
 * pattern of node=, "" for any name. With memory=, gpu= or resources=: 'P' or '=', then the bytes in hexadecimal, ';'
 * and the resources (resources.h) where there are any, and ':' before the pattern. */
#define CONSTRAINT_STREAM "s" /* a stream waits for a place in memory; its calls wait for hosts */
void constraint_make(char place[CONSTRAINT_MAX], enum work_kind kind, const char *pattern, uint64_t memory,
                     const struct resources *resources);
struct constraint {
    bool pickles;
    uint64_t memory;       /* 0: any */
    const char *resources; /* as pattern; NULL: none */
    const char *pattern;   /* points into the parsed text; "": any */
};
struct constraint constraint_parse(const char *place);
#endif
