/* Who has a name that was written again: for those who wait for the job that had it, or have just looked it up. */
#include <errno.h>
#include <stdlib.h>

#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

void sched_note_successor(struct sched *s, const struct job *old, uint64_t successor) {
    struct successors *all = s->jobs->successors;
    uint64_t n = atomic_load(&all->count);
    if (old->draft)
        return;
    struct successor *h = &all->of[n % SUCCESSORS];
    atomic_store(&h->number, 0); /* killed here: it is none */
    atomic_thread_fence(memory_order_seq_cst);
    h->of = old->id;
    h->job = successor;
    h->uid = old->uid;
    h->gid = old->gid;
    h->mode = old->mode;
    atomic_store(&h->number, n + 1);
    atomic_store(&all->count, n + 1);
}

/* A name may have been written again more than once: each time stands behind the one before it. */
uint64_t sched_successor(const struct sched *s, uint64_t job, struct successor *was) {
    const struct successors *all = s->jobs->successors;
    uint64_t count = atomic_load(&all->count), successor = job;
    for (uint64_t n = count > SUCCESSORS ? count - SUCCESSORS : 0; n < count; n++) {
        const struct successor *h = &all->of[n % SUCCESSORS];
        if (h->of != successor || atomic_load(&h->number) != n + 1)
            continue;
        if (successor == job)
            *was = *h;
        successor = h->job;
    }
    return successor == job ? 0 : successor;
}

int jobs_make(struct sched *s) {
    s->jobs = calloc(1, sizeof *s->jobs);
    if (!s->jobs)
        return -ENOMEM;
    s->jobs->successors = s->c.successors ? s->c.successors : &s->jobs->own_successors;
    atomic_store(&s->jobs->successors->count, atomic_load(&s->jobs->successors->committed));
    return 0;
}

void jobs_free(struct sched *s) {
    if (!s->jobs)
        return;
    struct ids *const all[] = {&s->jobs->released, &s->jobs->again, &s->jobs->submitting, &s->jobs->converting};
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++)
        free(all[i]->items);
    free(s->jobs->waiting_places);
    free(s->jobs);
}

void jobs_committed(struct sched *s, bool changed) {
    atomic_store(&s->jobs->successors->committed, atomic_load(&s->jobs->successors->count));
    if (changed)
        s->jobs->released.count = 0;
}

/* Another turn may be committed before the retry: what was released is kept until then. The old jobs of new names are
 * still there. */
void jobs_rolled_back(struct sched *s) {
    for (size_t i = 0; i < s->jobs->released.count; i++)
        ids_add(&s->jobs->again, s->jobs->released.items[i]);
    s->jobs->released.count = 0;
    atomic_store(&s->jobs->successors->count, atomic_load(&s->jobs->successors->committed));
}

struct ids jobs_again(struct sched *s) {
    struct ids again = s->jobs->again;
    s->jobs->again = (struct ids){0}; /* what fails again comes with the next retry, not with this one */
    return again;
}
