/* Rows that were read a moment ago: a file job is asked for two dozen times before it is forgotten. SQLite tells of
 * each row that a statement changes, and of a rollback, so what is kept is what would be read. */
#include <string.h>

#include "sched/db/store_int.h"

static struct job_row *job_slot(struct store *st, uint64_t id) {
    return &st->recent.jobs[id % RECENT];
}

static struct recent_body *body_slot(struct store *st, int64_t id) {
    return &st->recent.bodies[(uint64_t)id % (sizeof st->recent.bodies / sizeof *st->recent.bodies)];
}

static void changed(void *arg, int how, const char *database, const char *table, sqlite3_int64 row) {
    struct store *st = arg;
    if (strcmp(table, "jobs") == 0 && job_slot(st, (uint64_t)row)->job.id == (uint64_t)row)
        job_slot(st, (uint64_t)row)->job.id = 0;
    else if (strcmp(table, "bodies") == 0 && body_slot(st, row)->id == row)
        body_slot(st, row)->id = 0;
}

static void rolled_back(void *arg) {
    struct store *st = arg;
    memset(&st->recent, 0, sizeof st->recent);
}

void store_recent_begin(struct store *st) {
    rolled_back(st);
    sqlite3_update_hook(st->db, changed, st);
    sqlite3_rollback_hook(st->db, rolled_back, st);
}

bool store_recent_job(struct store *st, uint64_t id, struct job_row *out) {
    const struct job_row *r = job_slot(st, id);
    if (!id || r->job.id != id)
        return false;
    *out = *r;
    return true;
}

bool store_recent_find(struct store *st, uint64_t group, const char *name, bool draft, struct job_row *out) {
    for (const struct job_row *r = st->recent.jobs; r < st->recent.jobs + RECENT; r++)
        if (r->job.id && r->job.group == group && r->job.draft == draft && r->job.shelf != SHELF_ORPHAN &&
            r->job.shelf != SHELF_PART && strcmp(r->job.name, name) == 0) /* of these two the name is free */
            return store_recent_job(st, r->job.id, out);
    return false;
}

void store_recent_job_read(struct store *st, const struct job_row *r) {
    *job_slot(st, r->job.id) = *r;
}

bool store_recent_body(struct store *st, int64_t id, struct body *out) {
    const struct recent_body *b = body_slot(st, id);
    if (!id || b->id != id)
        return false;
    *out = b->body;
    return true;
}

void store_recent_body_read(struct store *st, int64_t id, const struct body *b) {
    *body_slot(st, id) = (struct recent_body){id, *b};
}
