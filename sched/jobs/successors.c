/* Who has a name that was written again: for those who wait for the job that had it, or have just looked it up. */
#include "sched/jobs/job_files.h"

void sched_note_successor(struct sched *s, const struct job *old, uint64_t successor) {
    struct successors *all = s->jobs->successors;
    uint64_t n = atomic_load(&all->count);
    if (old->draft)
        return;
    all->of[n % SUCCESSORS] = (struct successor){old->id, successor, old->uid, old->gid, old->mode};
    atomic_store(&all->count, n + 1);
}

/* A name may have been written again more than once: each time stands behind the one before it. */
uint64_t sched_successor(const struct sched *s, uint64_t job, struct successor *was) {
    const struct successors *all = s->jobs->successors;
    uint64_t count = atomic_load(&all->count), successor = job;
    for (uint64_t n = count > SUCCESSORS ? count - SUCCESSORS : 0; n < count; n++) {
        const struct successor *h = &all->of[n % SUCCESSORS];
        if (h->of != successor)
            continue;
        if (successor == job)
            *was = *h;
        successor = h->job;
    }
    return successor == job ? 0 : successor;
}
