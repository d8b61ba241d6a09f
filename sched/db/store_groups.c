/* Groups (the directories below jobs/) and the tallies of what is in them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_int.h"

static void read_group(sqlite3_stmt *q, struct group *g) {
    *g = (struct group){.id = (uint64_t)sqlite3_column_int64(q, 0),
                        .parent = (uint64_t)sqlite3_column_int64(q, 1), /* NULL of the topmost, and so 0 */
                        .dotted = sqlite3_column_int(q, 3),
                        .hidden = sqlite3_column_int(q, 4),
                        .uid = (uid_t)sqlite3_column_int64(q, 5),
                        .gid = (gid_t)sqlite3_column_int64(q, 6),
                        .mode = (mode_t)sqlite3_column_int(q, 7),
                        .request = (uint64_t)sqlite3_column_int64(q, 8),
                        .created = sqlite3_column_int64(q, 9),
                        .array = (uint64_t)sqlite3_column_int64(q, 10)};
    store_copy(q, 2, g->name, sizeof g->name);
}

#define GROUP_VALUES(g)                                                                                                \
    INTEGER(g->id), INTEGER(g->parent), TEXT(g->name), INTEGER(g->dotted), INTEGER(g->hidden), INTEGER(g->uid),        \
        INTEGER(g->gid), INTEGER(g->mode), INTEGER(g->request)

int store_group_insert(struct store *st, const struct group *g) {
    return store_run(st, SQL_GROUP_INSERT, GROUP_VALUES(g), INTEGER(g->created), INTEGER(g->array));
}

int store_group_save(struct store *st, const struct group *g) {
    return store_run(st, SQL_GROUP_SAVE, GROUP_VALUES(g));
}

static int read_one(struct store *st, sqlite3_stmt *from, struct group *out) {
    sqlite3_stmt *q;
    int rc = store_row_of(st, from, &q);
    if (rc < 0)
        return rc;
    read_group(q, out);
    store_end(q);
    return 0;
}

int store_group_get(struct store *st, uint64_t id, struct group *out) {
    return read_one(st, store_query(st, SQL_GROUP_GET, INTEGER(id)), out);
}

int store_group_find(struct store *st, uint64_t parent, const char *name, struct group *out) {
    return read_one(st, store_query(st, SQL_GROUP_FIND, INTEGER(parent), TEXT(name)), out);
}

int store_group_delete(struct store *st, uint64_t id) {
    int rc = st->tally_count ? store_tally_flush(st) : 0; /* what is gathered for it is also for those above it */
    return rc < 0 ? rc : store_run(st, SQL_GROUP_DELETE, INTEGER(id));
}

static int each_group(struct store *st, sqlite3_stmt *q, bool (*each)(void *, const struct group *), void *arg) {
    struct group g;
    int rc;
    while ((rc = store_step(st, q)) > 0) {
        read_group(q, &g);
        if (!each(arg, &g)) {
            store_end(q);
            return 0;
        }
    }
    return rc;
}

int store_group_list(struct store *st, uint64_t parent, uint64_t after, bool (*each)(void *, const struct group *),
                     void *arg) {
    return each_group(st, store_query(st, SQL_GROUP_LIST, INTEGER(parent), INTEGER(after)), each, arg);
}

int store_group_newest(struct store *st, uint64_t parent, int max, bool (*each)(void *, const struct group *),
                       void *arg) {
    return each_group(st, store_query(st, SQL_GROUP_NEWEST, INTEGER(parent), INTEGER(max)), each, arg);
}

int store_group_options(struct store *st, uint64_t id, char **options) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_GROUP_OPTIONS, INTEGER(id));
    if (rc < 0)
        return rc;
    *options = strdup((const char *)sqlite3_column_text(q, 0));
    store_end(q);
    return *options ? 0 : -ENOMEM;
}

bool store_groups_say(struct store *st, const char *text) {
    int64_t say;
    return store_integers(st, &say, 1, SQL_GROUPS_SAY, TEXT(text)) < 0 || say;
}

int store_group_set_opening(struct store *st, uint64_t id, bool opening) {
    const struct tally one = {.active = opening ? 1 : (uint64_t)-1};
    int rc = store_run(st, SQL_GROUP_SET_OPENING, INTEGER(id), INTEGER(opening));
    return rc < 0 || !store_changes(st) ? rc : store_tally_add(st, id, &one);
}

bool store_group_opening(struct store *st, uint64_t id) {
    int64_t opening = 0;
    store_integers(st, &opening, 1, SQL_GROUP_OPENING, INTEGER(id));
    return opening;
}

int store_group_next_opener(struct store *st, int64_t *uid, uint64_t *id) {
    sqlite3_stmt *q;
    int rc = store_row_in_turn(st, &q, SQL_GROUP_NEXT_OPENER, uid);
    if (rc < 0)
        return rc;
    *id = (uint64_t)sqlite3_column_int64(q, 1);
    store_end(q);
    return 0;
}

int store_groups_to_open(struct store *st, uint64_t parent, uint64_t after, uint64_t *ids, int max) {
    return store_column(st, ids, max, SQL_GROUPS_TO_OPEN, INTEGER(parent), INTEGER(after), INTEGER(max));
}

bool store_group_of_others(struct store *st, uint64_t id, uid_t uid) {
    int64_t others;
    return store_integers(st, &others, 1, SQL_GROUP_OF_OTHERS, INTEGER(id), INTEGER(uid)) < 0 || others;
}

bool store_group_many(struct store *st, uint64_t id, int max) {
    int64_t more;
    return store_integers(st, &more, 1, SQL_GROUP_MANY, INTEGER(id), INTEGER(max)) != -ENOENT;
}

int store_group_levels(struct store *st, uint64_t id) {
    int64_t levels = 1;
    store_integers(st, &levels, 1, SQL_GROUP_LEVELS, INTEGER(id));
    return (int)levels;
}

bool store_group_has_jobs(struct store *st, uint64_t id) {
    int64_t has;
    return store_integers(st, &has, 1, SQL_GROUP_HAS_JOBS, INTEGER(id)) < 0 || has;
}

/* --- tallies ----------------------------------------------------------------------------------------------------- */

int store_fails_more(struct store *st, uint64_t group, uid_t uid, uint64_t *n) {
    int64_t now;
    int rc = store_run(st, SQL_FAILS_MORE, INTEGER(group), INTEGER(uid));
    if (rc == 0)
        rc = store_integers(st, &now, 1, SQL_FAILS_OF, INTEGER(group), INTEGER(uid));
    if (rc == 0)
        *n = (uint64_t)now;
    return rc;
}

int store_giving_up(struct store *st, int64_t *uid, struct giving_up *out) {
    sqlite3_stmt *q;
    int rc = store_row_in_turn(st, &q, SQL_GIVING_UP, uid);
    if (rc < 0)
        return rc;
    *out = (struct giving_up){
        .uid = (uid_t)*uid, .group = (uint64_t)sqlite3_column_int64(q, 1), .at = (uint64_t)sqlite3_column_int64(q, 2)};
    store_copy(q, 3, out->why, sizeof out->why);
    store_end(q);
    return 0;
}

int store_gave_up(struct store *st, const struct giving_up *g) {
    int rc = store_run(st, SQL_GIVE_UP_BELOW, INTEGER(g->uid), INTEGER(g->group));
    return rc < 0 ? rc : store_run(st, SQL_GAVE_UP, INTEGER(g->uid), INTEGER(g->group));
}

static int touch(struct store *st, uint64_t group, const struct tally *d) {
    for (size_t i = 0; i < st->touched_count; i++)
        if (st->touched[i] == group)
            return 0;
    if (st->touched_count == st->touched_cap) {
        size_t cap = st->touched_cap ? st->touched_cap * 2 : 64;
        uint64_t *grown = reallocarray(st->touched, cap, sizeof *grown);
        if (!grown)
            return store_fail(st, -ENOMEM);
        st->touched = grown;
        st->touched_cap = cap;
    }
    st->touched[st->touched_count++] = group;
    return 0;
}

static void add(struct tally *to, const struct tally *d) {
    to->active += d->active;
    to->running += d->running;
    to->done += d->done;
    to->failed += d->failed;
    to->cancelled += d->cancelled;
}

int64_t store_grown(struct store *st) {
    int64_t grown = st->grown;
    st->grown = 0;
    return grown;
}

int store_tally_add(struct store *st, uint64_t group, const struct tally *delta) {
    int rc = store_begin(st);
    st->grown += (int64_t)delta->active;
    for (size_t i = 0; i < st->tally_count && rc == 0; i++)
        if (st->tallies[i].group == group) {
            add(&st->tallies[i].delta, delta);
            return 0;
        }
    if (rc == 0 && st->tally_count == TALLY_MAX)
        rc = store_tally_flush(st);
    if (rc < 0)
        return rc;
    st->tallies[st->tally_count].group = group;
    st->tallies[st->tally_count++].delta = *delta;
    return 0;
}

static int tally_write(struct store *st, uint64_t group, const struct tally *d) {
    int rc = store_run(st, SQL_TALLY_ADD, INTEGER(group), INTEGER(d->active), INTEGER(d->running), INTEGER(d->done),
                       INTEGER(d->failed), INTEGER(d->cancelled));
    return rc < 0 ? rc : touch(st, group, d);
}

/* Applies it to a group and all above it. */
static int write_upward(struct store *st, uint64_t group, const struct tally *d,
                        int (*write)(struct store *, uint64_t, const struct tally *)) {
    struct group g = {.parent = group};
    int rc = 0;
    for (int depth = 0; depth <= GROUP_LEVELS && rc == 0; depth++) {
        uint64_t id = g.parent;
        rc = write(st, id, d);
        if (id == 0 || (rc == 0 && store_group_get(st, id, &g) < 0))
            break;
    }
    return rc;
}

/* Writes each gathered difference to its group and all above it. */
int store_tally_flush(struct store *st) {
    static const struct tally none;
    int rc = 0;
    for (size_t i = 0; i < st->tally_count && rc == 0; i++)
        if (memcmp(&st->tallies[i].delta, &none, sizeof none) != 0)
            rc = write_upward(st, st->tallies[i].group, &st->tallies[i].delta, tally_write);
    st->tally_count = 0;
    return rc;
}

int store_tally_touch(struct store *st, uint64_t group) {
    int rc = store_begin(st);
    return rc < 0 ? rc : write_upward(st, group, NULL, touch);
}

int store_tally_get(struct store *st, uint64_t group, struct tally *out) {
    int64_t n[5];
    int rc = st->tally_count ? store_tally_flush(st) : 0;
    if (rc == 0)
        rc = store_integers(st, n, 5, SQL_TALLY_GET, INTEGER(group));
    if (rc == 0)
        *out = (struct tally){(uint64_t)n[0], (uint64_t)n[1], (uint64_t)n[2], (uint64_t)n[3], (uint64_t)n[4]};
    return rc;
}

size_t store_tally_touched(const struct store *st, const uint64_t **groups) {
    *groups = st->touched;
    return st->touched_count;
}
