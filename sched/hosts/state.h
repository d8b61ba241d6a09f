/* All hosts, see host.c, host_list.c and host_pick.c. */
#ifndef PPFS_HOSTS_STATE_H
#define PPFS_HOSTS_STATE_H
#include "sched/hosts/hosts.h"

struct another {              /* what host_another has found for a function */
    const struct host *found; /* one that fitted; NULL: none */
    const struct host *but;   /* until then no other host than this fits ... */
    int64_t until;
    uint64_t round; /* ... as long as nothing that helps has changed ... */
    unsigned cpus;  /* ... for such a demand */
    uid_t uid;
    uint64_t place; /* its hash */
};

struct estimates {
    uint64_t keys[ESTIMATE_MAX];        /* 0: unused */
    uint32_t used[ESTIMATE_MAX];        /* when it was asked for last, by clock */
    uint32_t given[ESTIMATE_MAX + 1];   /* by number: how often it was given to another function */
    uint32_t worked[ESTIMATE_MAX + 1];  /* by number: host.serial where one has succeeded last, 0: nowhere ... */
    uint32_t failed[ESTIMATE_MAX + 1];  /* ... where the first one has failed ... */
    bool elsewhere[ESTIMATE_MAX + 1];   /* ... and whether one has on another host as well */
    uint16_t lacking[ESTIMATE_MAX + 1]; /* by number: on so many hosts it lacks a module */
    uint32_t serials;                   /* of hosts */
    struct another another[ESTIMATE_MAX + 1];
    float fastest[ESTIMATE_MAX + 1]; /* by number: on the host that is sure to be fastest; 0: no host is sure */
    uint32_t clock;
    bool changed;
    int64_t weighed; /* clock_us: when fastest and host.slower were made anew */
};

#define PICKS 4u /* places, users and functions for which a dispatch keeps the hosts in order */
struct picks {
    uint64_t dispatch; /* in which they are in order; 0: they are not */
    char place[CONSTRAINT_MAX];
    uid_t uid;
    unsigned function, count, cap;
    struct candidate {
        double cost;
        unsigned at; /* in the list */
        struct host *host;
    } * items;
};

struct hosts {
    struct host *all;    /* local first */
    struct host **by_id; /* host_list.c */
    size_t count;
    uint64_t orders; /* hosts that ever were */
    struct registry *registry;
    struct keys *keys; /* keys.c */
    struct estimates estimates;
    bool telling;             /* a host is to be dialled, told or let go after this commit */
    TAILQ_HEAD(, host) roomy; /* those with a free slot, and some that had one */
    TAILQ_HEAD(, host) lost;  /* nodes that are away and shown as such, the oldest first ... */
    unsigned lost_count;      /* ... so many */
    LIST_HEAD(, host) resting, kept;
    struct picks picks[PICKS];
    unsigned pick_next;
    struct host *spares;       /* of this dispatch: kept hosts with free slots where something may begin */
    LIST_HEAD(, host) touched; /* were told something since the last commit: to be flushed */
    LIST_HEAD(, host) fresh;   /* host_count */
    bool drained;              /* a host may have begun to drain */
    uint64_t memory_short;     /* the last dispatch in which a host had too little left */
    struct event *wake;
    int64_t wake_at; /* clock_us, where wake is pending */
};
#endif
