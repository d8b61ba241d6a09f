/* All hosts: the list, free slots, the choice among them, and the nodes. Only sched/ includes this. */
#ifndef PPFS_HOSTS_H
#define PPFS_HOSTS_H
#include "sched/hosts/host.h"

/* host_list.c */
uint64_t host_id(const char *name); /* of its directory in nodes/: 56 bits, not 0 */
/* at the end, under its name. -EEXIST: there is one of that id, -ENOMEM */
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
void hosts_flush(struct sched *s);              /* what runners were told since the last commit */
bool hosts_drained(struct sched *s);            /* one may have begun to drain, since this was asked last */
int host_create_local(struct sched *s);         /* and its pool. 0 or -errno */
extern const struct runner_events host_events;  /* of every runner; their arg is its host */
void host_wake_in(struct sched *s, int64_t us); /* at the latest then the queue is looked at again */
void host_destroy_all(struct sched *s);         /* kills what runs; no event comes any more */
void host_trace(struct host *h);                /* its state may be another: a line of the trace, and an event */
bool host_live(const struct host *h);           /* takes work */
bool host_drains(const struct host *h);         /* it is to have nothing to do soon */
bool host_is_short(const struct host *h);       /* that is so now */
unsigned host_free(const struct host *h);       /* slots, 0 when it takes no work */
/* a job of that user with that place may run there */
bool host_fits(const struct host *h, const char *place, uid_t uid);
bool host_takes(const struct host *h, uid_t uid); /* that user's jobs, wherever they may run */
void host_set_user(struct host *h);               /* single and only: h->uid has changed, or h is new */
bool host_is(const struct host *h, const struct constraint *p);
bool host_pickles(const struct host *h); /* its Python understands what the one of this machine pickles */
struct demand {
    const char *place;
    unsigned cpus;
    unsigned function; /* estimate.h; 0: nothing is known of it */
    uid_t uid;         /* whose job */
    const char *avoid; /* that job has died or failed there: not this host, unless there is no other; "" = none */
};
/* The memory that a run on it reserves, and gives back, 0: none. */
void host_hold_memory(struct host *h, uint64_t bytes, bool hold);
uint64_t host_free_memory(const struct host *h);               /* bytes that nobody reserves, UINT64_MAX: not known */
bool host_has_memory(struct host *h, const char *place);       /* it asks for no more than that */
bool host_any_short(const struct sched *s, uint64_t dispatch); /* in that one somebody asked a host for more */
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
/* estimate_doubts, and another host can do it: one at a time */
bool host_doubts(const struct host *h, const struct demand *d);
bool host_shuns(struct host *h, const struct demand *d); /* and the next is not due yet; then it wakes */
void host_room(struct host *h);                          /* one of its slots has come free, or may have */
void host_unlist(struct host *h);                        /* it goes: from all that it stands in here */
void host_unreserve_all(struct sched *s);
void host_touch(struct host *h); /* it was told something: to be flushed */
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
 * pass for ever. NULL: none is kept, or, where only memory is missing, only the memory of one. */
struct host *host_reserve(struct sched *s, const struct demand *d, uint64_t job);
/* A host that is kept, where the job surely ends before that can be free for which it is kept; timeout_us: 0 = none.
 * NULL: there is none. */
struct host *host_spare(struct sched *s, const struct demand *d, int64_t timeout_us);
bool host_has_spares(const struct sched *s);
void host_spare_wake(struct sched *s); /* later more may begin there */

/* host_pick.c: the same as host_choose, in a dispatch, where it is asked many times. */
struct host *host_pick(struct sched *s, const struct demand *d);
void host_picks_free(struct sched *s);

/* node.c: why a node is silent. False: it is not, and buf is "" */
bool node_why_silent(const struct host *h, char *buf, size_t size);
#endif
