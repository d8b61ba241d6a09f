/* What a call job prints goes to its stream at once. While the disk cannot follow, its runner stops reading. */
#include <errno.h>

#include "sched/runs/run.h"
#include "sched/calls/stream_int.h"

/* Its stream is read anew: what it prints is kept, and while that is much it waits. */
static void keep(struct run *r, enum output_kind which, const void *bytes, size_t size) {
    enum kept_kind kind = which == OUTPUT_STDERR ? KEPT_STDERR : KEPT_STDOUT;
    r->away += size;
    if (!stream_keep_away(r->user, r->stream, r->call, kind, bytes, size, NULL))
        r->error = ENOMEM;
    if (!r->held && r->away > WRITING_HIGH) {
        r->held = true;
        runner_hold(r->at->runner, r->id, true);
    }
}

void stream_printed(struct run *r, enum output_kind which, const void *bytes, size_t size) {
    if (stream_part_away(r->s, r->stream, r->call, r->id)) {
        keep(r, which, bytes, size);
        return;
    }
    struct stream *st = stream_part_printed(r->s, r->stream, r->call, r->id, which, bytes, size);
    if (st && !r->held && stream_unwritten(st) > WRITING_HIGH) {
        r->held = st->holds = true;
        runner_hold(r->at->runner, r->id, true);
    }
}

static void resume(const void *node, VISIT visit, void *arg) {
    struct run *r = *(struct run *const *)node;
    const struct stream *st = arg;
    if ((visit != postorder && visit != leaf) || r->stream != st->id || !r->held || r->writing >= WRITING_LOW)
        return;
    if (stream_part_waits(st, r->call))
        return;
    r->held = false;
    r->away = 0;
    if (r->at->runner.ops)
        runner_hold(r->at->runner, r->id, false);
}

void stream_prints_resume(struct stream *st) {
    if (!st->holds || stream_unwritten(st) > WRITING_LOW)
        return;
    st->holds = st->unmet.at < st->unmet.count;
    run_each(st->s, resume, st);
}
