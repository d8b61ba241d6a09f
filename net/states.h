/* The states of a thing as a table: their names, and which may follow which. Each transition can be written to a log
 * while somebody reads it. Not for threads, but for the switch, which another process may turn. */
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

/* Whether one may follow the other. */
bool states_may(const struct states *t, unsigned from, unsigned to);
/* A transition has happened, and the table allows it: written as "job 17: queued -> running" where transitions are
 * traced. of: whose it is, such as a name, NULL: nobody's. Costs a look at the switch where they are not. */
void states_changed(const struct states *t, uint64_t id, const char *of, unsigned from, unsigned to);
/* From now on transitions go to write while *on; the switch stays the caller's. NULL, NULL: nowhere. */
void states_trace(const atomic_bool *on, void (*write)(const char *sentence));
#endif
