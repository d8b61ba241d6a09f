/* What a turn does. */
#ifndef PPFS_SCHED_DISPATCH_H
#define PPFS_SCHED_DISPATCH_H
struct sched;

void queue_turn(struct sched *s);
void dispatch_turn(struct sched *s);
#endif
