/* State tables: the names of states, and which may follow which. Transitions can be traced to a log. Not for threads,
 * except for the switch, which another process may turn. */
#ifndef PPFS_STATES_H
#define PPFS_STATES_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct state {
    const char *name;
    unsigned next; /* bit mask of the states that may follow */
};
struct states {
    const char *thing; /* "job" */
    const struct state *of;
    unsigned count;
};

/* Whether the table has that transition. */
bool states_may(const struct states *t, unsigned from, unsigned to);
#define STATES_FAULT "a fault of ppfs, its table has no such transition"
/* Traces a transition, as "trace: job 17: queued -> running". of: a name to add, or NULL. While the trace is off this
 * only reads the switch. A transition that the table does not allow is written in any case, with STATES_FAULT before
 * it, and nobody loses by it; where nothing is written, as in unit tests, the process ends. */
void states_changed(const struct states *t, uint64_t id, const char *of, unsigned from, unsigned to);
/* From now on transitions go to write while *on; the caller owns the switch. NULL, NULL: nowhere. */
void states_trace(const atomic_bool *on, void (*write)(const char *sentence));
#endif
