/* Memory that several hold: who sends from it holds it as long as that takes, instead of copying it. Of one thread. */
#ifndef PPFS_LOAN_H
#define PPFS_LOAN_H
#include <stdlib.h>

struct loan {
    void *memory;
    unsigned holders;
};

/* Takes over memory, of malloc: the caller is its one holder. NULL without memory: it stays the caller's. */
static inline struct loan *loan_new(void *memory) {
    struct loan *l = malloc(sizeof(*l));

    if (l)
        *l = (struct loan){.memory = memory, .holders = 1};
    return l;
}

static inline struct loan *loan_hold(struct loan *l) {
    l->holders++;
    return l;
}

/* Accepts NULL; the last one frees the memory. */
static inline void loan_let_go(struct loan *l) {
    if (!l || --l->holders)
        return;
    free(l->memory);
    free(l);
}
#endif
