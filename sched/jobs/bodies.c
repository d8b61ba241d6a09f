/* The bytes of jobs: where a file is stored while it is written, and removing all bodies of a job. */

#include "sched/jobs/state.h"

bool draft_converts(const struct sched *s, uint64_t job) {
    return ids_has(&s->jobs->converting, job);
}

int draft_spec(struct sched *s, uint64_t job, struct body *out) {
    int rc = store_body_get(s->store, job, BODY_SPEC, out);
    if (draft_converts(s, job))
        *out = (struct body){.size = 0, .file = SPEC_FILE};
    else if (rc < 0)
        return rc;
    int64_t size = -1;
    if (out->file == BODY_LOG)
        size = store_log_size(s->store, job, BODY_SPEC);
    else if (out->file)
        size = spool_size(s->spool, (struct spool_name){job, BODY_SPEC, out->file});
    if (size >= 0)
        out->size = size;
    return 0;
}

int sched_drop_bodies(struct sched *s, uint64_t job, bool spec) {
    enum job_body first = spec ? BODY_SPEC : BODY_RESULT, bodies[BODIES];
    int64_t files[BODIES];
    int n = store_body_files(s->store, job, first, bodies, files);
    for (int i = 0; i < n; i++) {
        sched_note_unlink(s, (struct spool_name){job, bodies[i], files[i]});
        if (files[i] != BODY_LOG)
            continue;
        store_log_drop(s->store, job, bodies[i]);
        s->trash = true;
    }
    return sched_check(s, n < 0 ? n : store_bodies_delete(s->store, job, first));
}
