/* Groups (the directories below jobs/) and the tallies of what is in them. Statement numbers 65 to 79, 119. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sched/db/store_int.h"

#define COLUMNS "id, ifnull(parent, 0), name, dotted, hidden, uid, gid, mode, created, request"

static void read_group(sqlite3_stmt *q, struct group *g) {
    *g = (struct group){.id = (uint64_t)sqlite3_column_int64(q, 0), .parent = (uint64_t)sqlite3_column_int64(q, 1)};
    column_copy(q, 2, g->name, sizeof g->name);
    g->dotted = sqlite3_column_int(q, 3);
    g->hidden = sqlite3_column_int(q, 4);
    g->uid = (uid_t)sqlite3_column_int64(q, 5);
    g->gid = (gid_t)sqlite3_column_int64(q, 6);
    g->mode = (mode_t)sqlite3_column_int(q, 7);
    g->created = sqlite3_column_int64(q, 8);
    g->request = (uint64_t)sqlite3_column_int64(q, 9);
}

static void bind_group(sqlite3_stmt *q, const struct group *g) {
    bind_int(q, 1, (int64_t)g->id);
    bind_int(q, 2, (int64_t)g->parent);
    bind_text(q, 3, g->name);
    bind_int(q, 4, g->dotted);
    bind_int(q, 5, g->hidden);
    bind_int(q, 6, g->uid);
    bind_int(q, 7, g->gid);
    bind_int(q, 8, g->mode);
}

int store_group_insert(struct store *st, const struct group *g) {
    sqlite3_stmt *q = store_sql(st, 65,
                                "INSERT INTO groups(id, parent, name, dotted, hidden, uid, gid, mode, created, "
                                "request) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10)");
    if (q) {
        bind_group(q, g);
        bind_int(q, 9, g->created);
        bind_int(q, 10, (int64_t)g->request);
    }
    return store_run(st, q);
}

static int read_one(struct store *st, sqlite3_stmt *q, struct group *out) {
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    read_group(q, out);
    store_end(q);
    return 0;
}

int store_group_get(struct store *st, uint64_t id, struct group *out) {
    sqlite3_stmt *q = store_sql(st, 66, "SELECT " COLUMNS " FROM groups WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)id);
    return read_one(st, q, out);
}

int store_group_find(struct store *st, uint64_t parent, const char *name, struct group *out) {
    sqlite3_stmt *q = store_sql(st, 67, "SELECT " COLUMNS " FROM groups WHERE parent=?1 AND name=?2");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)parent);
    bind_text(q, 2, name);
    return read_one(st, q, out);
}

int store_group_save(struct store *st, const struct group *g) {
    sqlite3_stmt *q = store_sql(st, 68,
                                "UPDATE groups SET parent=?2, name=?3, dotted=?4, hidden=?5, uid=?6, gid=?7, mode=?8, "
                                "request=?9 WHERE id=?1 AND id<>0");
    if (q) {
        bind_group(q, g);
        bind_int(q, 9, (int64_t)g->request);
    }
    return store_run(st, q);
}

int store_group_delete(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(st, 69, "DELETE FROM groups WHERE id=?1 AND id<>0");
    if (q)
        bind_int(q, 1, (int64_t)id);
    return store_run(st, q);
}

int store_group_list(struct store *st, uint64_t parent, uint64_t after, bool (*each)(void *, const struct group *),
                     void *arg) {
    sqlite3_stmt *q = store_sql(st, 70, "SELECT " COLUMNS " FROM groups WHERE parent=?1 AND id>?2 ORDER BY id");
    struct group g;
    int rc;
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)parent);
    bind_int(q, 2, (int64_t)after);
    while ((rc = store_step(st, q)) > 0) {
        read_group(q, &g);
        if (!each(arg, &g)) {
            store_end(q);
            return 0;
        }
    }
    return rc;
}

int store_group_options(struct store *st, uint64_t id, char **options) {
    sqlite3_stmt *q = store_sql(st, 71, "SELECT options FROM groups WHERE id=?1");
    if (!q)
        return -EIO;
    bind_int(q, 1, (int64_t)id);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *options = strdup((const char *)sqlite3_column_text(q, 0));
    store_end(q);
    return *options ? 0 : -ENOMEM;
}

int store_group_set_options(struct store *st, uint64_t id, const char *options) {
    sqlite3_stmt *q = store_sql(st, 72, "UPDATE groups SET options=?2 WHERE id=?1");
    if (q) {
        bind_int(q, 1, (int64_t)id);
        bind_text(q, 2, options);
    }
    return store_run(st, q);
}

bool store_groups_say(struct store *st, const char *text) {
    sqlite3_stmt *q = store_sql(st, 118, "SELECT EXISTS(SELECT 1 FROM groups WHERE instr(options,?1))");
    if (!q)
        return true;
    bind_text(q, 1, text);
    if (store_step(st, q) <= 0)
        return true;
    bool say = sqlite3_column_int(q, 0);
    store_end(q);
    return say;
}

int store_group_set_opening(struct store *st, uint64_t id, bool opening) {
    sqlite3_stmt *q = store_sql(st, 73, "UPDATE groups SET opening=?2 WHERE id=?1");
    if (q) {
        bind_int(q, 1, (int64_t)id);
        bind_int(q, 2, opening);
    }
    return store_run(st, q);
}

int store_group_next_opening(struct store *st, uint64_t after, uint64_t *id) {
    int64_t next;
    sqlite3_stmt *q = store_sql(st, 74, "SELECT id FROM groups WHERE opening=1 AND id>?1 ORDER BY id LIMIT 1");
    int rc = store_ints(st, q, (int64_t)after, &next, 1);
    if (rc == 0)
        *id = (uint64_t)next;
    return rc;
}

int store_group_open_below(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(st, 75, "UPDATE groups SET dotted=0, opening=1 WHERE parent=?1 AND name NOT LIKE '.%'");
    if (q)
        bind_int(q, 1, (int64_t)id);
    return store_run(st, q);
}

int store_group_close_below(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(st, 79,
                                "WITH RECURSIVE below(id) AS (SELECT ?1 UNION SELECT groups.id FROM groups JOIN below "
                                "ON groups.parent=below.id)"
                                " UPDATE groups SET dotted=1, opening=0 WHERE id IN (SELECT id FROM below)");
    if (q)
        bind_int(q, 1, (int64_t)id);
    return store_run(st, q);
}

int store_group_levels(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(st, 119,
                                "WITH RECURSIVE below(id, level) AS (SELECT ?1, 1 UNION SELECT groups.id, level+1 FROM "
                                "groups JOIN below ON groups.parent=below.id)"
                                " SELECT max(level) FROM below");
    int levels = 1;
    if (q)
        bind_int(q, 1, (int64_t)id);
    if (q && store_step(st, q) > 0) {
        levels = sqlite3_column_int(q, 0);
        store_end(q);
    }
    return levels;
}

bool store_group_has_jobs(struct store *st, uint64_t id) {
    sqlite3_stmt *q = store_sql(
        st, 76,
        "SELECT EXISTS(SELECT 1 FROM jobs WHERE grp=?1 AND shelf<4) OR EXISTS(SELECT 1 FROM groups WHERE parent=?1)");
    if (!q)
        return true;
    bind_int(q, 1, (int64_t)id);
    bool has = store_step(st, q) <= 0 || sqlite3_column_int(q, 0);
    store_end(q);
    return has;
}

/* --- tallies ----------------------------------------------------------------------------------------------------- */

static int touch(struct store *st, uint64_t group) {
    for (size_t i = 0; i < st->touched_count; i++)
        if (st->touched[i] == group)
            return 0;
    if (st->touched_count == st->touched_cap) {
        size_t cap = st->touched_cap ? st->touched_cap * 2 : 64;
        uint64_t *grown = reallocarray(st->touched, cap, sizeof *grown);
        if (!grown)
            return -ENOMEM;
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

int store_tally_add(struct store *st, uint64_t group, const struct tally *delta) {
    int rc = store_begin(st);
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
    sqlite3_stmt *q =
        store_sql(st, 77,
                  "UPDATE groups SET active=active+?2, running=running+?3, done=done+?4, failed=failed+?5,"
                  " cancelled=cancelled+?6 WHERE id=?1");
    if (q) {
        bind_int(q, 1, (int64_t)group);
        bind_int(q, 2, (int64_t)d->active);
        bind_int(q, 3, (int64_t)d->running);
        bind_int(q, 4, (int64_t)d->done);
        bind_int(q, 5, (int64_t)d->failed);
        bind_int(q, 6, (int64_t)d->cancelled);
    }
    int rc = store_run(st, q);
    return rc < 0 ? rc : touch(st, group);
}

/* Each gathered difference goes to its group and to all above it. */
int store_tally_flush(struct store *st) {
    int rc = 0;
    for (size_t i = 0; i < st->tally_count && rc == 0; i++) {
        static const struct tally none;
        struct group g = {.id = st->tallies[i].group};
        if (memcmp(&st->tallies[i].delta, &none, sizeof none) == 0)
            continue;
        for (int depth = 0; depth <= GROUP_LEVELS && rc == 0; depth++) {
            rc = tally_write(st, g.id, &st->tallies[i].delta);
            if (g.id == 0)
                break;
            uint64_t id = g.id;
            if (rc == 0 && store_group_get(st, id, &g) < 0)
                break;
            g.id = g.parent;
        }
    }
    st->tally_count = 0;
    return rc;
}

int store_tally_touch(struct store *st, uint64_t group) {
    struct group g = {.id = group};
    int rc = store_begin(st);
    for (int depth = 0; depth <= GROUP_LEVELS && rc == 0; depth++) {
        rc = touch(st, g.id);
        uint64_t id = g.id;
        if (id == 0 || rc < 0 || store_group_get(st, id, &g) < 0)
            break;
        g.id = g.parent;
    }
    return rc;
}

int store_tally_get(struct store *st, uint64_t group, struct tally *out) {
    int64_t n[5];
    int rc = st->tally_count ? store_tally_flush(st) : 0;
    sqlite3_stmt *q = store_sql(st, 78, "SELECT active, running, done, failed, cancelled FROM groups WHERE id=?1");
    if (rc == 0)
        rc = store_ints(st, q, (int64_t)group, n, 5);
    if (rc == 0)
        *out = (struct tally){(uint64_t)n[0], (uint64_t)n[1], (uint64_t)n[2], (uint64_t)n[3], (uint64_t)n[4]};
    return rc;
}

size_t store_tally_touched(const struct store *st, const uint64_t **groups) {
    *groups = st->touched;
    return st->touched_count;
}
