/* Who has a name that was written again: for those who wait for the job that had it, or have just looked it up. */
#include "sched/jobs/job_files.h"

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
