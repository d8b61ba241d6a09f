/* Files that travel with a job: those of needs= from its writer's directory to a fresh one wherever it runs, those of
 * gives= back. A run with such has up to three legs, each with its own work: here an empty one whose only purpose is
 * that its files are packed (needs), then the job itself, then here an empty one that the files which it gave are laid
 * out for. So whatever reads or writes files does so with the job's user, in a process of that user. A pack is a file
 * without a name in the state directory: killed here, the job runs again, and packs again. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/clock.h"
#include "sched/runs/run_files.h"

enum { PIECES_HIGH = 64, PIECES_LOW = 16 }; /* frames of a pack that wait for the disk */

static struct file_writer **pack_of(struct run *r) {
    if (r->leg == LEG_NEEDS)
        return &r->needs;
    return r->leg == LEG_WORK && r->gives ? &r->gives : NULL;
}

/* The work of the next leg has a slot of this machine beside those that it has. */
static void set_leg(struct run *r, enum run_leg leg) {
    struct host *local = host_local(r->s);
    int more = (leg != LEG_WORK) - (r->leg != LEG_WORK);
    r->leg = leg;
    r->at = leg == LEG_WORK ? r->host : local;
    if (more == 0 || r->host == local)
        return;
    local->lent += (unsigned)more;
    local->used += (unsigned)more;
    host_resize(local);
}

void run_files_end(struct run *r) {
    set_leg(r, LEG_WORK);
}

void run_files_free(struct run *r) {
    file_writer_close(r->needs);
    file_writer_close(r->gives);
    free(r->names);
}

/* The disk has more of the pack, or cannot take it. */
static void on_progress(void *arg) {
    struct run *r = arg;
    struct file_writer **pack = pack_of(r);
    if (!pack || !*pack)
        return;
    bool over = file_writer_idle(*pack);
    if (file_writer_error(*pack) && !r->error)
        r->error = -file_writer_error(*pack);
    bool drained = r->error || r->pieces - file_writer_kept(*pack) < PIECES_LOW; /* no more is kept after an error */
    if (r->held && drained && r->at->runner.ops) {
        r->held = false;
        runner_hold(r->at->runner, r->id, false);
    }
    if (r->unwritten && over) {
        struct work_outcome o = r->outcome;
        r->unwritten = false;
        run_done(r->at, r->id, &o);
    }
}

void run_files_add(struct run *r, const void *bytes, size_t size) {
    struct file_writer **pack = pack_of(r);
    if (!pack) /* nobody asked for it */
        return;
    int rc = quota_output(r->user, (int64_t)size);
    r->live_bytes += rc == 0 ? (int64_t)size : 0;
    if (rc == 0)
        rc = file_writer_add(*pack, bytes, size);
    r->pieces += rc == 0;
    if (rc < 0) {
        r->error = -rc;
        if (r->leg == LEG_NEEDS) /* what a job gives comes at its end */
            runner_kill(r->at->runner, r->id);
    } else if (!r->held && r->pieces - file_writer_kept(*pack) > PIECES_HIGH) {
        r->held = true;
        runner_hold(r->at->runner, r->id, true);
    }
}

static int join(struct run *r, const struct options_list *l) {
    size_t size;
    free(r->names);
    r->names = NULL;
    FILE *f = open_memstream(&r->names, &size);
    for (size_t i = 0; f && i < l->count; i++)
        fprintf(f, "%s%s", i ? "," : "", l->items[i]);
    return f && fclose(f) == 0 ? 0 : -ENOMEM;
}

static int open_pack(struct run *r, struct file_writer **pack) {
    r->pieces = 0;
    file_writer_close(*pack);
    *pack = NULL;
    return file_writer_open(pack, r->s->disk, r->s->state_dir, on_progress, r);
}

static void set_file(struct job_work *all, const struct file_writer *pack, char path[RUN_PACK_PATH]) {
    snprintf(path, RUN_PACK_PATH, "/proc/%d/fd/%d", (int)getpid(), file_writer_fd(pack));
    all->work.file = path;
    all->work.files_in = true;
}

/* The work of a leg here: nothing but its files. */
static int begin_here(struct run *r, struct job_work *all, enum run_leg leg) {
    static const char nothing[] = "pass\n";
    static const char *const none[] = {NULL};
    struct work *w = &all->work;
    if (!w->cwd || !*w->cwd || writer_is_inside(r->s, w->cwd))
        return -ENOTDIR;
    w->attempt = r->attempt;
    w->node = host_local(r->s)->name;
    w->kind = WORK_PYTHON;
    w->payload = nothing;
    w->payload_size = sizeof nothing - 1;
    w->cwd_required = true;
    w->memory = w->sandbox = 0;
    w->env = none;
    w->files = r->names;
    set_leg(r, leg);
    int rc = r->at->runner.ops ? runner_start(r->at->runner, w) : -EPIPE;
    if (rc < 0)
        set_leg(r, LEG_WORK);
    return rc;
}

/* The job's own work: in a fresh directory, with its files. */
static int set_work(struct run *r, struct job_work *all, bool large, char path[RUN_PACK_PATH]) {
    const struct options *o = all->options;
    int rc = 0;
    if (!all->work.cwd || !*all->work.cwd || writer_is_inside(r->s, all->work.cwd))
        return -ENOTDIR;
    if (o->needs.count && large)
        return -EFBIG;
    all->work.cwd = "";
    all->work.cwd_required = false;
    if (o->needs.count)
        set_file(all, r->needs, path);
    if (o->gives.count) {
        rc = join(r, &o->gives);
        if (rc == 0)
            rc = open_pack(r, &r->gives);
        all->work.files_out = true;
        all->work.files = r->names;
    }
    return rc;
}

int run_files_begin(struct run *r, struct job_work *all, bool large, char path[RUN_PACK_PATH]) {
    const struct options *o = all->options;
    if (!o->needs.count && !o->gives.count)
        return 0;
    if (!o->needs.count || r->needs)
        return set_work(r, all, large, path);
    if (large)
        return -EFBIG;
    int rc = join(r, &o->needs);
    if (rc == 0)
        rc = open_pack(r, &r->needs);
    all->work.files_out = true;
    if (rc == 0)
        rc = begin_here(r, all, LEG_NEEDS);
    return rc < 0 ? rc : 1;
}

const char *run_files_why(int rc) {
    if (rc == -ENOTDIR)
        return "needs= and gives= are of its writer's directory, and that is unknown or in the mount: name one "
               "with cwd=";
    return rc == -EFBIG ? "needs= is for job files of at most 64 KiB: name what is large with needs=, too" : NULL;
}

/* What it gave is whole: lays it out in the writer's directory. */
static int lay_out(struct run *r) {
    struct job_work all;
    char path[RUN_PACK_PATH];
    int rc = run_work(r->s, r->id, &all);
    if (rc == 0)
        rc = join(r, &all.options->gives);
    if (rc == 0) {
        set_file(&all, r->gives, path);
        rc = begin_here(r, &all, LEG_GIVES);
    }
    run_work_free(&all);
    return rc;
}

static void fail(struct work_outcome *o, const char *which, enum work_end end, const char *why) {
    char text[sizeof o->why];
    snprintf(text, sizeof text, "%s: %.400s", which, *why ? why : "it could not be done");
    memcpy(o->why, text, sizeof text);
    o->end = end;
}

/* Whether the job still wants what it has begun: between two legs nothing was there that could be killed. */
static bool goes_on(struct run *r) {
    struct job_row row;
    return r->fate == FATE_NONE && store_job_get(r->s->store, r->id, &row) == 0 && row.job.state == JOB_RUNNING &&
           row.job.attempt == r->attempt;
}

/* The files that it needs are packed, or not: the job itself begins, which is true. */
static bool packed(struct run *r, struct work_outcome *o) {
    set_leg(r, LEG_WORK);
    if (o->end == WORK_LOST)
        return false;
    if (!goes_on(r)) {
        o->end = WORK_SIGNALED;
        o->status = SIGKILL;
    } else if (r->error == EDQUOT) {
        fail(o, "needs=", WORK_REFUSED, "these files are more bytes than the quota of its user allows");
    } else if (r->error) {
        fail(o, "needs=", WORK_REFUSED, strerror(r->error));
    } else if (o->end != WORK_DONE) {
        fail(o, "needs=", o->end, o->why);
    } else {
        if (run_begin(r))
            return true;
        *o = r->outcome;
    }
    r->error = 0;
    return false;
}

bool run_files_next(struct run *r, struct work_outcome *o) {
    struct file_writer **pack = pack_of(r);
    enum run_leg leg = r->leg;
    if (r->timeout && leg == LEG_WORK)
        evtimer_del(r->timeout);
    r->held = false;
    if (pack && *pack && !file_writer_idle(*pack)) {
        r->outcome = *o;
        r->unwritten = true;
        return true;
    }
    if (leg == LEG_NEEDS)
        return packed(r, o);
    if (leg == LEG_WORK) {
        bool due = r->gives && o->end == WORK_DONE && !r->error && goes_on(r);
        if (due)
            host_worked(r->host);
        r->outcome = *o;
        int rc = due ? lay_out(r) : 0;
        if (rc < 0)
            fail(o, "gives=", rc == -EAGAIN || rc == -EPIPE ? WORK_LOST : WORK_REFUSED, strerror(-rc));
        return due && rc == 0;
    }
    set_leg(r, LEG_WORK);
    struct work_outcome here = *o;
    *o = r->outcome;
    if (here.end == WORK_LOST)
        *o = here;
    else if (here.end != WORK_DONE)
        fail(o, "gives=", here.end, here.why);
    return false;
}
