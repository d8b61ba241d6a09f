/* What the answers of one user take in memory, and who is read on, see answers.c. */
#ifndef PPFS_ANSWERS_H
#define PPFS_ANSWERS_H
#include "sched/users/user.h"

struct lease;
struct stream;

#define USER_ANSWERS ((size_t)128 << 20) /* bytes of answers from which on his leases are read one at a time */

static inline bool answers_much(const struct user *u) {
    return u->answers >= USER_ANSWERS;
}

void answers_count(struct stream *st);           /* what its small answers, and what it printed, take by now */
void answers_heard(struct lease *l, bool ended); /* it has told something; ended: the last of a call */
void answers_wait(struct user *u);               /* something of his waits: answers_turn looks after him */
void answers_turn(struct sched *s);              /* who waits goes on, as far as there is room */
void answers_let(struct lease *l);               /* it is read again, if it was not */
void answers_drop(struct lease *l);              /* it goes */
void answers_free(struct sched *s);
#endif
