/* Why no host takes a job: one that fits none, and one that waits for a slot. */
#ifndef PPFS_WHY_HOST_H
#define PPFS_WHY_HOST_H
#include <stddef.h>

struct job;
struct sched;

void why_aside(struct sched *s, const struct job *j, char *buf, size_t size);
void why_queued(struct sched *s, const struct job *j, char *buf, size_t size);
#endif
