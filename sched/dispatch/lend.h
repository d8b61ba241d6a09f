/* Clients that are jobs themselves: one that waits for another job, a group or an event holds a slot and does nothing,
 * so its slot is lent out. How many of a user's do so at once is bounded; from half of that on what they wait for goes
 * before what else is his. Only sched/ includes this. */
#ifndef PPFS_LEND_H
#define PPFS_LEND_H
#include <stdint.h>
#include <sys/types.h>

#include "sched/users/wanted.h"

struct sched;

int dispatch_make(struct sched *s); /* 0 or -ENOMEM */
void dispatch_free(struct sched *s);
/* A request of pid waits for that job or group, or for neither (another number); it waits for another job from now on;
 * it waits no longer. */
void sched_blocked(struct sched *s, pid_t pid, uint64_t request, uint64_t on);
void sched_waits_on(struct sched *s, uint64_t request, uint64_t job);
void sched_unblocked(struct sched *s, uint64_t request);
/* Of the clients that began to wait those that are jobs lend their slots, as many as a slice has time for. */
void lend_turn(struct sched *s);
void lend_later(struct sched *s); /* in the next turn, if there are any */
#endif
