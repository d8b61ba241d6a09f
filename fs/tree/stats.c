#include "fs/tree/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/tree/json.h"
#include "fs/tree/text.h"
#include "fs/version.h"
#include "net/clock.h"
#include "net/printable.h"

struct status {
    struct tally jobs;
    struct nodes_sum nodes;
    int64_t up; /* seconds */
    struct pace minute, quarter;
};

static int status_of(struct fs *fs, struct status *x) {
    *x = (struct status){.nodes = sched_sum_nodes(fs->sched), .up = (clock_us() - fs->began) / 1000000};
    x->minute = sched_pace(fs->sched, 60);
    x->quarter = sched_pace(fs->sched, PACE_SECONDS);
    return sched_tally(fs->sched, 0, &x->jobs);
}

/* A second. A mount that is younger than the span has had less time. */
static double per_second(uint64_t ended, int64_t up, int span) {
    int64_t time = up < span ? up : span;
    return (double)ended / (double)(time > 0 ? time : 1);
}

/* --- for people -------------------------------------------------------------------------------------------------- */

struct table {
    FILE *out;
    uint64_t ended;
    size_t limit; /* of bytes; 0: none */
};

static bool print_node(void *arg, const struct node *n) {
    const struct table *t = arg;
    char name[4 * sizeof n->name];
    uint64_t ended = n->done + n->failed;
    snprintf(name, sizeof name, "%s", n->name);
    printable(name, sizeof name);
    fprintf(t->out, "%-16s %-6s %5u %8u %10" PRIu64 " %10" PRIu64 " %7.1f%% %12.1f %12.6f\n", name,
            node_state_name(n->state), n->cpus, n->running, n->done, n->failed,
            t->ended ? 100 * (double)ended / (double)t->ended : 0, n->seconds, ended ? n->seconds / (double)ended : 0);
    return true;
}

static void long_turns(struct fs *fs, FILE *out, void (*print)(FILE *out, const struct handler *h, unsigned n)) {
    size_t count;
    unsigned n = 0;
    const struct handler *h = sched_handlers(fs->sched, &count);
    for (size_t i = 0; i < count; i++)
        if (h[i].turns)
            print(out, &h[i], n++);
}

static void print_handler(FILE *out, const struct handler *h, unsigned n) {
    if (n == 0)
        fprintf(out, "\n%-21s %10s %10s\n", "turns over 10 ms", "number", "slowest");
    fprintf(out, "%-21s %10" PRIu64 " %10.1f\n", h->name, h->turns, (double)h->slowest / 1e3);
}

int stats_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    struct status x;
    int rc = status_of(fs, &x);
    if (rc)
        return rc;
    fprintf(out, "jobs     %10s %10s %10s %10s %10s\n", "waiting", "running", "done", "failed", "cancelled");
    fprintf(out, "         %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n\n",
            x.jobs.active - x.jobs.running, x.jobs.running, x.jobs.done, x.jobs.failed, x.jobs.cancelled);
    fprintf(out, "%-16s %-6s %5s %8s %10s %10s %8s %12s %12s\n", "node", "state", "cpus", "running", "done", "failed",
            "share", "seconds", "each");
    struct table t = {out, x.nodes.ended, 0};
    rc = sched_list_nodes(fs->sched, true, print_node, &t);
    fprintf(out, "\n%-21s %10s %10s %12s\n", "last", "minute", "15 minutes", "since start");
    fprintf(out, "%-21s %10.1f %10.1f\n", "ended each second", per_second(x.minute.ended, x.up, 60),
            per_second(x.quarter.ended, x.up, PACE_SECONDS));
    fprintf(out, "%-21s %10.1f %10.1f %12.1f\n", "slowest turn, ms", x.minute.turn * 1e3, x.quarter.turn * 1e3,
            sched_slowest_turn(fs->sched) * 1e3);
    long_turns(fs, out, print_handler);
    fprintf(out, "\nslots %u, up %" PRId64 "d %02d:%02d:%02d\n", x.nodes.slots, x.up / 86400, (int)(x.up / 3600 % 24),
            (int)(x.up / 60 % 60), (int)(x.up % 60));
    return rc;
}

/* --- for programs ------------------------------------------------------------------------------------------------ */

static bool node_as_json(void *arg, const struct node *n) {
    struct table *t = arg;
    uint64_t ended = n->done + n->failed;
    fprintf(t->out, "%s\n  {\"node\": ", t->ended++ ? "," : "");
    json_put(t->out, n->name);
    fprintf(t->out,
            ", \"state\": \"%s\", \"cpus\": %u, \"running\": %u, \"done\": %" PRIu64 ", \"failed\": %" PRIu64
            ", \"seconds\": %.6f, \"seconds_each\": %.6f, \"why\": ",
            node_state_name(n->state), n->cpus, n->running, n->done, n->failed, n->seconds,
            ended ? n->seconds / (double)ended : 0);
    json_put(t->out, n->why);
    fputc('}', t->out);
    return !t->limit || (size_t)ftello(t->out) < t->limit;
}

static void handler_as_json(FILE *out, const struct handler *h, unsigned n) {
    fprintf(out, "%s\"%s\": {\"turns\": %" PRIu64 ", \"slowest_seconds\": %.6f}", n ? ", " : "", h->name, h->turns,
            (double)h->slowest / 1e6);
}

static void counts_as_json(const struct counts *c, FILE *out) {
    fprintf(out,
            "{\"submitted\": %" PRIu64 ", \"started\": %" PRIu64 ", \"done\": %" PRIu64 ", \"failed\": %" PRIu64
            ", \"cancelled\": %" PRIu64 ", \"retried\": %" PRIu64 ", \"requeued\": %" PRIu64 ", \"calls\": %" PRIu64
            "}",
            c->submitted, c->started, c->done, c->failed, c->cancelled, c->retried, c->requeued, c->calls);
}

int stats_json_up_to(struct fs *fs, FILE *out, size_t limit) {
    struct status x;
    int rc = status_of(fs, &x);
    if (rc)
        return rc;
    fprintf(out, "{\"format\": 1, \"version\": \"%s\", \"time\": %.6f, \"up_seconds\": %" PRId64 ",\n", PPFS_VERSION,
            (double)clock_wall_us() / 1e6, x.up);
    fprintf(out,
            " \"jobs\": {\"waiting\": %" PRIu64 ", \"running\": %" PRIu64 ", \"done\": %" PRIu64
            ", \"failed\": %" PRIu64 ", \"cancelled\": %" PRIu64 "},\n \"since_start\": ",
            x.jobs.active - x.jobs.running, x.jobs.running, x.jobs.done, x.jobs.failed, x.jobs.cancelled);
    counts_as_json(sched_counts(fs->sched), out);
    fprintf(out, ",\n \"ended_each_second\": {\"1m\": %.3f, \"15m\": %.3f},\n", per_second(x.minute.ended, x.up, 60),
            per_second(x.quarter.ended, x.up, PACE_SECONDS));
    fprintf(out, " \"slowest_turn_seconds\": {\"1m\": %.6f, \"15m\": %.6f, \"since_start\": %.6f},\n", x.minute.turn,
            x.quarter.turn, sched_slowest_turn(fs->sched));
    fprintf(out, " \"long_turns\": {");
    long_turns(fs, out, handler_as_json);
    fprintf(out, "},\n \"slots\": %u,\n \"nodes\": [", x.nodes.slots);
    struct table t = {out, 0, limit};
    rc = sched_list_nodes(fs->sched, false, node_as_json, &t);
    fprintf(out, "]%s}\n", limit && (size_t)ftello(out) >= limit ? ", \"more_nodes\": true" : "");
    return rc;
}

int stats_json(struct fs *fs, fuse_ino_t ino, FILE *out) {
    return stats_json_up_to(fs, out, 0);
}

/* --- for Prometheus ---------------------------------------------------------------------------------------------- */

static void head(FILE *out, const char *name, const char *type, const char *help) {
    fprintf(out, "# HELP ppfs_%s %s\n# TYPE ppfs_%s %s\n", name, help, name, type);
}

static void counter(FILE *out, const char *name, const char *help, uint64_t value) {
    head(out, name, "counter", help);
    fprintf(out, "ppfs_%s %" PRIu64 "\n", name, value);
}

static void gauge(FILE *out, const char *name, const char *help, double value) {
    head(out, name, "gauge", help);
    fprintf(out, "ppfs_%s %.17g\n", name, value);
}

static void histogram(FILE *out, const char *name, const char *help, const struct histogram *h) {
    uint64_t count = 0;
    head(out, name, "histogram", help);
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++) {
        count += h->below[i];
        if (i < HISTOGRAM_BOUNDS)
            fprintf(out, "ppfs_%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, histogram_bounds[i], count);
        else
            fprintf(out, "ppfs_%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, count);
    }
    fprintf(out, "ppfs_%s_sum %.6f\nppfs_%s_count %" PRIu64 "\n", name, h->sum, name, count);
}

enum about_node { NODE_IS_UP, NODE_SLOTS, NODE_USED, NODE_ENDED, NODE_SECONDS, NODE_SERIES };

/* The series of all nodes grow side by side, because one series is to be in one piece. */
struct series {
    FILE *out[NODE_SERIES];
    char *text[NODE_SERIES];
    size_t size[NODE_SERIES];
};

static void put_label(FILE *out, const char *name) {
    char text[4 * (NODE_NAME_MAX + 1)];
    snprintf(text, sizeof text, "%s", name);
    printable(text, sizeof text);
    for (const char *p = text; *p; p++)
        fprintf(out, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
}

static void node_line(FILE *out, const struct node *n, const char *name, const char *more) {
    fprintf(out, "ppfs_node_%s{node=\"", name);
    put_label(out, n->name);
    fprintf(out, "\"%s} ", more);
}

static bool node_series(void *arg, const struct node *n) {
    const struct series *x = arg;
    node_line(x->out[NODE_IS_UP], n, "up", "");
    fprintf(x->out[NODE_IS_UP], "%d\n", n->state != NODE_DOWN);
    node_line(x->out[NODE_SLOTS], n, "slots", "");
    fprintf(x->out[NODE_SLOTS], "%u\n", n->cpus);
    node_line(x->out[NODE_USED], n, "slots_used", "");
    fprintf(x->out[NODE_USED], "%u\n", n->running);
    node_line(x->out[NODE_ENDED], n, "ended_total", ",outcome=\"done\"");
    fprintf(x->out[NODE_ENDED], "%" PRIu64 "\n", n->done);
    node_line(x->out[NODE_ENDED], n, "ended_total", ",outcome=\"failed\"");
    fprintf(x->out[NODE_ENDED], "%" PRIu64 "\n", n->failed);
    node_line(x->out[NODE_SECONDS], n, "run_seconds_total", "");
    fprintf(x->out[NODE_SECONDS], "%.17g\n", n->seconds);
    return true;
}

static int nodes(struct fs *fs, FILE *out) {
    static const struct {
        const char *name, *type, *help;
    } of[] = {[NODE_IS_UP] = {"node_up", "gauge", "Whether the node is connected."},
              [NODE_SLOTS] = {"node_slots", "gauge", "Slots of the node."},
              [NODE_USED] = {"node_slots_used", "gauge", "Slots of the node in use by jobs and calls."},
              [NODE_ENDED] = {"node_ended_total", "counter", "Attempts of jobs and calls that ended on the node."},
              [NODE_SECONDS] = {"node_run_seconds_total", "counter", "Run time of jobs and calls on the node."}};
    struct series x = {0};
    int rc = 0;
    for (unsigned i = 0; i < NODE_SERIES && rc == 0; i++)
        if (!(x.out[i] = open_memstream(&x.text[i], &x.size[i])))
            rc = -ENOMEM;
        else
            head(x.out[i], of[i].name, of[i].type, of[i].help);
    if (rc == 0)
        rc = sched_list_nodes(fs->sched, true, node_series, &x);
    for (unsigned i = 0; i < NODE_SERIES && x.out[i]; i++) {
        if (fclose(x.out[i]) && rc == 0)
            rc = -ENOMEM;
        if (rc == 0)
            fwrite(x.text[i], 1, x.size[i], out);
        free(x.text[i]);
    }
    return rc;
}

static void jobs(const struct tally *t, FILE *out) {
    const struct {
        const char *state;
        uint64_t count;
    } all[] = {{"waiting", t->active - t->running},
               {"running", t->running},
               {"done", t->done},
               {"failed", t->failed},
               {"cancelled", t->cancelled}};
    head(out, "jobs", "gauge", "Jobs that are known, by state; forgotten ones are not.");
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        fprintf(out, "ppfs_jobs{state=\"%s\"} %" PRIu64 "\n", all[i].state, all[i].count);
}

static void handler_for_prometheus(FILE *out, const struct handler *h, unsigned n) {
    fprintf(out, "ppfs_turns_long_total{handler=\"%s\"} %" PRIu64 "\n", h->name, h->turns);
}

int stats_metrics(struct fs *fs, fuse_ino_t ino, FILE *out) {
    struct status x;
    const struct counts *c = sched_counts(fs->sched);
    int rc = status_of(fs, &x);
    if (rc)
        return rc;
    head(out, "build_info", "gauge", "The version of ppfs.");
    fprintf(out, "ppfs_build_info{version=\"%s\"} 1\n", PPFS_VERSION);
    gauge(out, "start_time_seconds", "When it was mounted, in seconds since 1970.", (double)fs->started / 1e6);
    jobs(&x.jobs, out);
    counter(out, "jobs_submitted_total", "Jobs that were submitted.", c->submitted);
    counter(out, "jobs_started_total", "Attempts of jobs that have begun.", c->started);
    head(out, "jobs_ended_total", "counter", "Jobs that have ended, by outcome.");
    fprintf(out, "ppfs_jobs_ended_total{outcome=\"done\"} %" PRIu64 "\n", c->done);
    fprintf(out, "ppfs_jobs_ended_total{outcome=\"failed\"} %" PRIu64 "\n", c->failed);
    fprintf(out, "ppfs_jobs_ended_total{outcome=\"cancelled\"} %" PRIu64 "\n", c->cancelled);
    counter(out, "jobs_retried_total", "Attempts that failed and are followed by another.", c->retried);
    counter(out, "jobs_requeued_total", "Attempts that were lost with their node or with ppfs.", c->requeued);
    counter(out, "calls_answered_total", "Calls of streams that were answered.", c->calls);
    histogram(out, "job_wait_seconds", "Time from the queue to the start of a job.", &c->wait);
    histogram(out, "job_run_seconds", "Run time of an attempt of a job.", &c->run);
    gauge(out, "turn_slowest_seconds", "The slowest turn of the loop in the last minute.", x.minute.turn);
    head(out, "turns_long_total", "counter", "Turns of the loop longer than 10 ms, by what took most of them.");
    long_turns(fs, out, handler_for_prometheus);
    return nodes(fs, out);
}
