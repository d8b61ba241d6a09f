/* All hosts: the list, free slots, the choice among them, and the nodes. Only sched/ includes this. */
#ifndef PPFS_HOSTS_H
#define PPFS_HOSTS_H
#include "sched/hosts/host.h"

/* host_list.c */
uint64_t host_id(const char *name); /* the id of nodes/NAME: 56 bits, not 0 */
/* adds it at the end. 0, -EEXIST: there is one of that id, -ENOMEM */
int host_enlist(struct sched *s, struct host *h);
void host_delist(struct host *h);
struct host *host_find(struct sched *s, const char *name);     /* NULL: no such node, or it leaves */
struct host *host_find_any(struct sched *s, const char *name); /* also one that leaves */
struct host *host_by_id(struct sched *s, uint64_t id);         /* the same */
struct host *host_behind(struct sched *s, uint64_t id);        /* the next in the order of ids, NULL: none */

/* host.c */
int hosts_make(struct sched *s); /* 0 or -ENOMEM */
void hosts_free(struct sched *s);
struct host *host_local(const struct sched *s); /* the first of all: the next is h->next */
void hosts_flush(struct sched *s);              /* flushes runners that were told anything since the last commit */
bool hosts_drained(struct sched *s);            /* a host may have begun to drain since the last call */
int host_create_local(struct sched *s);         /* and its pool. 0 or -errno */
extern const struct runner_events host_events;  /* of every runner; their arg is its host */
void host_wake_in(struct sched *s, int64_t us); /* dispatches again in so many microseconds at the latest */
void host_destroy_all(struct sched *s);         /* kills what runs; no event comes any more */
void host_trace(struct host *h);                /* its state may have changed: writes a trace line and an event */
bool host_live(const struct host *h);           /* takes work */
bool host_drains(const struct host *h);         /* it gets no new work */
bool host_is_short(const struct host *h);       /* it has no room beyond short_used now */
unsigned host_free(const struct host *h);       /* free slots; 0: it takes no work */
/* whether a job of that user with that constraint may run there */
bool host_fits(const struct host *h, const char *place, uid_t uid);
bool host_takes(const struct host *h, uid_t uid); /* whether it takes that user's jobs at all */
void host_set_user(struct host *h);               /* sets single and only: h->uid has changed, or h is new */
bool host_is(const struct host *h, const struct constraint *p);
bool host_pickles(const struct host *h); /* its Python reads the pickles of this machine's */
struct demand {
    const char *place;
    unsigned cpus;
    unsigned function; /* estimate.h; 0: nothing is known of it */
    uid_t uid;         /* the job's user */
    const char *avoid; /* a host where the job has died or failed: chosen only if there is no other; "": none */
};
/* host_left.c. The memory that a run on it reserves, and gives back, 0: none. */
void host_hold_memory(struct host *h, uint64_t bytes, bool hold);
uint64_t host_free_memory(const struct host *h);                 /* bytes that nobody reserves, UINT64_MAX: not known */
bool host_has(const struct host *h, const struct constraint *p); /* as much memory and resources are left */
/* what is left of its memory or resources is kept for a job that waits */
bool host_keeps(const struct host *h, const struct constraint *p);
/* A place asks for no more memory and resources than are left and are not kept for another. */
bool host_has_left(struct host *h, const char *place);
/* As many resources as p asks for. */
enum count_of { OF_ALL, OF_LEFT, OF_UNKEPT };
bool host_has_resources(const struct host *h, const struct constraint *p, enum count_of which);
/* What d asks for in vain is kept for it in this dispatch, but not where its user's own runs hold some of that. */
void host_keep_left(struct host *h, const struct demand *d);
unsigned host_taken(const struct host *h, unsigned kind); /* of h->resources.at[kind] */
/* Those that it asks for: into taken, of each kind of the host's the bits of their indices. */
void host_take_resources(struct host *h, const char *place, uint64_t taken[RESOURCE_KINDS]);
void host_give_resources(struct host *h, const uint64_t taken[RESOURCE_KINDS]);
bool host_any_short(const struct sched *s, uint64_t dispatch); /* in that one somebody asked a host for more */
/* The host of the least cost with as many free slots; NULL: none. */
struct host *host_choose(struct sched *s, const struct demand *d);
void host_worked(struct host *h); /* it has finished a piece of work */
void host_short(struct host *h);  /* its runner said -EAGAIN: it has no room for more for a moment */
/* How its work ended; host_short, if the outcome says that there was no room. */
/* an end of that user's work, of any kind */
void host_gave_back(struct host *h, uid_t uid, const struct work_outcome *o);
/* Why it gave his work back, and is asked for him again later; NULL: it does not refuse him. */
const char *host_refuses(const struct host *h, uid_t uid);
void host_crashed(struct host *h);            /* it was lost; if work was lost with it, it rests for a while */
double host_way_us(const struct host *h);     /* round trip of its link */
bool host_any_free(struct sched *s);          /* a slot is free and not reserved */
unsigned host_free_now(const struct host *h); /* free slots that are not reserved */
/* the expected delay there: less is sooner */
double host_cost(const struct host *h, unsigned function);
/* Whether another host fits, is there and is not doubted. */
bool host_another(struct sched *s, const struct demand *d, const struct host *but);
/* estimate_doubts, and host_another: one run at a time */
bool host_doubts(const struct host *h, const struct demand *d);
/* Whether that sentence says that a call has not begun there for want of a module, and it may begin on another host.
 * Notes the former, so that others go elsewhere at once. before: hosts that lacked it for this call. */
bool host_lacks(struct host *h, const struct demand *d, unsigned before, const char *why, size_t size);
bool host_shuns(struct host *h, const struct demand *d); /* doubted, and the next try is not due; wakes at that time */
void host_room(struct host *h);                          /* one of its slots may have become free */
void host_unlist(struct host *h);                        /* removes it from all lists, as it goes */
void host_unreserve_all(struct sched *s);
void host_touch(struct host *h); /* its runner was told something, and is to be flushed */
/* Counts ends of this turn, with its commit; a failed commit drops them, and the retry says them again. */
void host_count(struct host *h, unsigned done, unsigned failed, int64_t us);
void host_counted(struct sched *s, bool committed);
/* Slots of the largest host that fits, present or away; 0: none fits. */
unsigned host_largest(struct sched *s, const char *place, uid_t uid);
/* Whether a host that fits, present or away, has so many slots. */
bool host_could(struct sched *s, const char *place, uid_t uid, unsigned cpus);
void host_resize(struct host *h);  /* tells the runner its slots, with the lent ones */
void host_changed(struct host *h); /* jobs that fit nowhere are tried again, and others may start */

/* host_reserve.c. Reserves the host that is nearest to having so many slots, so that smaller jobs do not pass for ever.
 * NULL: none is reserved, or only the missing memory and resources are, where slots are free. */
struct host *host_reserve(struct sched *s, const struct demand *d, uint64_t job);
/* A reserved host where the job surely ends before the reservation can be used; timeout_us: 0 = none. NULL: none. */
struct host *host_spare(struct sched *s, const struct demand *d, int64_t timeout_us);
bool host_has_spares(const struct sched *s);
void host_spare_wake(struct sched *s); /* asks again in time: later more may begin there */

/* host_pick.c: host_choose for the many choices of a dispatch. */
struct host *host_pick(struct sched *s, const struct demand *d);
void host_picks_free(struct sched *s);

/* node.c: why a node is silent. False: it is not silent, and buf is "" */
bool node_why_silent(const struct host *h, char *buf, size_t size);
#endif
