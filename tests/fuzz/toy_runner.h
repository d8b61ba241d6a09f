/* A runner that does nothing by itself, for fuzz_session.c: it checks what an agent asks of it, and tells when it is
 * told to. */
#ifndef PPFS_TOY_RUNNER_H
#define PPFS_TOY_RUNNER_H
#include "worker/node/agent.h"

enum { TOY_SLOTS = 4 };

extern const struct runner_ops toy_ops;
void toy_reset(void); /* it has no work any more */
/* Tells the agent what a runner would tell about one of its works, chosen by two bytes. */
void toy_tell(struct agent *agent, uint8_t what, uint8_t which);
#endif
