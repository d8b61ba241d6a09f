/* Who has a name that was written again: for those who wait for the job that had it, or have just looked it up. */
#include "sched/jobs/job_files.h"

void sched_note_heir(struct sched *s, const struct job *old, uint64_t heir) {
    if (!old->draft)
        s->jobs->heirs[s->jobs->heir_count++ % HEIRS] = (struct heir){old->id, heir, old->uid, old->gid, old->mode};
}

/* A name may have been written again more than once: each time stands behind the one before it. */
uint64_t sched_heir(const struct sched *s, uint64_t job, struct heir *was) {
    uint64_t heir = job;
    for (uint64_t n = s->jobs->heir_count > HEIRS ? s->jobs->heir_count - HEIRS : 0; n < s->jobs->heir_count; n++) {
        const struct heir *h = &s->jobs->heirs[n % HEIRS];
        if (h->of != heir)
            continue;
        if (heir == job)
            *was = *h;
        heir = h->job;
    }
    return heir == job ? 0 : heir;
}
