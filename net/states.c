#include "net/states.h"

#include <assert.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

static const atomic_bool *traced;
static void (*trace_write)(const char *sentence);

bool states_may(const struct states *t, unsigned from, unsigned to) {
    assert(from < t->count && to < t->count);
    return t->of[from].next & (1u << to);
}

void states_changed(const struct states *t, uint64_t id, const char *of, unsigned from, unsigned to) {
    char line[512];
    bool may = states_may(t, from, to);
    assert(may || trace_write);
    if (may && (!traced || !atomic_load_explicit(traced, memory_order_relaxed)))
        return;
    snprintf(line, sizeof line, "%s: %s %" PRIu64 "%s%s: %s -> %s", may ? "trace" : STATES_FAULT, t->thing, id,
             of ? " " : "", of ? of : "", t->of[from].name, t->of[to].name);
    trace_write(line);
}

void states_trace(const atomic_bool *on, void (*write)(const char *sentence)) {
    traced = on;
    trace_write = write;
}
