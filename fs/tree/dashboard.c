#include "fs/tree/dashboard.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "fs/tree/dashboard_page.h"
#include "fs/tree/json.h"
#include "fs/tree/stats.h"
#include "net/clock.h"

/* Bytes of the data before the part behind it is left short. Doubled by nothing but names that are full of '<', with
 * which the data is made once more, with a sixth. */
#define DATA_MAX (150u << 10)
#define RUNNING_PAGES 2
#define FAILURES_SEEN 64u
#define FAILURES_SHOWN 15
#define GROUPS_SHOWN 24
#define MADE_IN_A_SECOND                                                                                               \
    20u /* for one user: who asks more often gets the last one again, so that others do not wait for it */
#define USERS_KEPT 8u
#define SLOTS_SHOWN 60u /* of PACE_SECONDS, in the charts */

struct page {
    struct fs *fs;
    FILE *out;
    size_t limit; /* ftello(out) beyond which nothing is added */
    unsigned count;
};

static bool is_full(const struct page *p) {
    return (size_t)ftello(p->out) > p->limit;
}

static void begin_item(struct page *p, const char *key, const char *text) {
    fprintf(p->out, "%s\n  {\"%s\": ", p->count++ ? "," : "", key);
    json_put(p->out, text);
}

static void put_pace(struct fs *fs, uint64_t active, FILE *out) {
    const unsigned step = PACE_SECONDS / SLOTS_SHOWN;
    struct pace all[SLOTS_SHOWN + 1] = {0};
    for (unsigned i = 1; i <= SLOTS_SHOWN; i++)
        all[i] = sched_pace(fs->sched, i * step);
    fprintf(out, ",\n \"pace\": {\"seconds\": %u, \"ended\": [", step);
    for (unsigned i = SLOTS_SHOWN; i; i--)
        fprintf(out, "%" PRIu64 "%s", all[i].ended - all[i - 1].ended, i > 1 ? ", " : "], \"unfinished\": [");
    for (unsigned i = SLOTS_SHOWN + 1; i--;) {
        int64_t then = (int64_t)active - all[i].grown;
        fprintf(out, "%" PRId64 "%s", then > 0 ? then : 0, i ? ", " : "]}");
    }
}

static void put_running(void *arg, const struct running *r) {
    struct page *p = arg;
    if (is_full(p))
        return;
    begin_item(p, "job", r->path);
    fputs(", \"node\": ", p->out);
    json_put(p->out, *r->node ? r->node : "-");
    fprintf(p->out, ", \"seconds\": %.1f, \"last\": ", (double)r->us / 1e6);
    json_put(p->out, r->last);
    fputc('}', p->out);
}

static void put_failure(struct page *p, const struct event *e) {
    char path[4096], why[JOB_WHY_MAX + 512];
    struct job j;
    if (sched_shown(p->fs->sched, e->job, p->fs->now.uid, p->fs->now.gid, &j, path, sizeof path) != 0 ||
        j.state != JOB_FAILED || j.attempt != e->attempt)
        return; /* it was run again since */
    begin_item(p, "job", path);
    fputs(", \"node\": ", p->out);
    json_put(p->out, e->node);
    fprintf(p->out, ", \"attempt\": %u, \"time\": %.3f, \"why\": ", e->attempt, (double)e->time / 1e6);
    snprintf(why, sizeof why, "%s", e->why);
    sched_why_more(p->fs->sched, &j, why, sizeof why);
    json_put(p->out, why);
    fputc('}', p->out);
}

static void put_failures(struct page *p) {
    struct event_place seen[FAILURES_SEEN], at = sched_events_begin(p->fs->sched), before = at;
    struct event e;
    unsigned count = 0;
    for (; sched_event(p->fs->sched, &at, &e); before = at)
        if (e.kind == EVENT_ENDED && e.state == JOB_FAILED)
            seen[count++ % FAILURES_SEEN] = before;
    for (unsigned i = 0; i < count && i < FAILURES_SEEN && p->count < FAILURES_SHOWN && !is_full(p); i++)
        if (sched_event(p->fs->sched, &seen[(count - 1 - i) % FAILURES_SEEN], &e))
            put_failure(p, &e);
}

static bool put_group(void *arg, const struct group *g, const struct tally *t) {
    struct page *p = arg;
    begin_item(p, "group", g->name);
    fprintf(p->out,
            ", \"created\": %.3f, \"waiting\": %" PRIu64 ", \"running\": %" PRIu64 ", \"done\": %" PRIu64
            ", \"failed\": %" PRIu64 ", \"cancelled\": %" PRIu64 "}",
            (double)g->created / 1e6, t->active - t->running, t->running, t->done, t->failed, t->cancelled);
    return p->count < GROUPS_SHOWN && !is_full(p);
}

static int put_data(struct fs *fs, FILE *out, size_t limit) {
    struct page p = {fs, out, limit * 2 / 3, 0};
    struct tally jobs;
    uint64_t after = 0;
    int rc = sched_tally(fs->sched, 0, &jobs);
    fputs("{\"format\": 1, \"stats\": ", out);
    if (rc == 0)
        rc = stats_json_up_to(fs, out, limit / 3);
    if (rc)
        return rc;
    put_pace(fs, jobs.active, out);
    fputs(",\n \"running\": [", out);
    for (int i = 0, more = 1; i < RUNNING_PAGES && more > 0; i++)
        more = sched_page_running(fs->sched, &after, fs->now.uid, fs->now.gid, put_running, &p);
    fputs("],\n \"failures\": [", out);
    p.count = 0;
    p.limit = limit * 5 / 6;
    put_failures(&p);
    fputs("],\n \"groups\": [", out);
    p.count = 0;
    p.limit = limit;
    rc = sched_newest_groups(fs->sched, fs->now.uid, fs->now.gid, put_group, &p);
    fputs("]}", out);
    return rc;
}

/* The data as it may stand in a script element of HTML: a '<' is in a string of JSON only. */
static int make_data(struct fs *fs, size_t limit, char **text, size_t *size) {
    char *raw = NULL;
    size_t n = 0;
    FILE *in = open_memstream(&raw, &n), *out = in ? open_memstream(text, size) : NULL;
    int rc = out ? put_data(fs, in, limit) : -ENOMEM;
    if (in && fclose(in) != 0)
        rc = -ENOMEM;
    for (size_t i = 0; out && i < n; i++)
        if (raw[i] == '<')
            fputs("\\u003c", out);
        else
            fputc(raw[i], out);
    if (out && fclose(out) != 0)
        rc = -ENOMEM;
    free(raw);
    return rc;
}

/* --- the page ---------------------------------------------------------------------------------------------------- */

struct made { /* for whom, and how often in that second */
    uid_t uid;
    gid_t gid;
    int64_t second;
    unsigned times;
    char *data;
    size_t size;
};

struct dashboards {
    struct made latest[USERS_KEPT];
};

int dashboards_create(struct dashboards **out) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void dashboards_destroy(struct dashboards *x) {
    for (unsigned i = 0; x && i < USERS_KEPT; i++)
        free(x->latest[i].data);
    free(x);
}

/* That of the user who asks; a new one is in the place of the one that was made longest ago. */
static struct made *made_for(struct fs *fs) {
    struct made *all = fs->dashboards->latest, *oldest = all;
    for (struct made *m = all; m < all + USERS_KEPT; m++) {
        if (m->data && m->uid == fs->now.uid && m->gid == fs->now.gid)
            return m;
        oldest = m->second < oldest->second ? m : oldest;
    }
    free(oldest->data);
    *oldest = (struct made){.uid = fs->now.uid, .gid = fs->now.gid};
    return oldest;
}

static int make(struct fs *fs, struct made *m, size_t room) {
    char *data = NULL;
    size_t size = 0;
    int rc = make_data(fs, DATA_MAX, &data, &size);
    if (rc == 0 && size > room) {
        free(data);
        data = NULL;
        rc = make_data(fs, DATA_MAX / 6, &data, &size);
    }
    if (rc == 0 && size > room)
        rc = -EFBIG;
    if (rc) {
        free(data);
        return rc;
    }
    free(m->data);
    m->data = data;
    m->size = size;
    return 0;
}

int dashboard_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    static const char mark[] = "@DATA@";
    const char *rest = strstr(dashboard_page, mark) + sizeof mark - 1;
    size_t head = (size_t)(rest - dashboard_page) - (sizeof mark - 1), room = DASHBOARD_SIZE - head - strlen(rest);
    struct made *m = made_for(fs);
    int64_t second = clock_ms() / 1000;
    int rc = 0;
    (void)ino;
    m->times = m->second == second ? m->times + 1 : 1;
    m->second = second;
    if (!m->data || m->times <= MADE_IN_A_SECOND)
        rc = make(fs, m, room);
    if (rc == 0)
        rc = fprintf(out, "%.*s%s%s%*s", (int)head, dashboard_page, m->data, rest, (int)(room - m->size), "") < 0
                 ? -ENOMEM
                 : 0;
    return rc;
}
