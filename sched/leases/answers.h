/* Whose workers are read on while the answers of a user take much memory, see answers.c. */
#ifndef PPFS_ANSWERS_H
#define PPFS_ANSWERS_H
#include <stdbool.h>

struct lease;
struct sched;

void answers_heard(struct lease *l, bool ended); /* it has told something; ended: the last of a call */
void answers_turn(struct sched *s);              /* who waits goes on, as far as there is room */
#endif
