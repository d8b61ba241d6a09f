/* Nodes that ppfs dials, what was set for them, and keys of nodes. Statement numbers 114 to 117 and 126 to 128. */
#include <errno.h>
#include <string.h>

#include "sched/db/store_int.h"

int store_node_put(struct store *st, const char *address, int state, int cpus) {
    sqlite3_stmt *q = store_sql(st, 114,
                                "INSERT INTO nodes(address, state, cpus) VALUES(?1, ?2, ?3) ON CONFLICT(address) DO "
                                "UPDATE SET state=?2, cpus=?3");
    if (q) {
        bind_text(q, 1, address);
        bind_int(q, 2, state);
        bind_int(q, 3, cpus);
    }
    return store_run(st, q);
}

int store_node_delete(struct store *st, const char *address) {
    sqlite3_stmt *q = store_sql(st, 115, "DELETE FROM nodes WHERE address=?1");
    if (q)
        bind_text(q, 1, address);
    return store_run(st, q);
}

int store_node_get(struct store *st, const char *address, int *state, int *cpus) {
    sqlite3_stmt *q = store_sql(st, 117, "SELECT state, cpus FROM nodes WHERE address=?1");
    if (!q)
        return -EIO;
    bind_text(q, 1, address);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    *state = sqlite3_column_int(q, 0);
    *cpus = sqlite3_column_int(q, 1);
    store_end(q);
    return 0;
}

int store_node_next(struct store *st, char address[NODE_NAME_MAX + 1], int *state, int *cpus) {
    sqlite3_stmt *q =
        store_sql(st, 116, "SELECT address, state, cpus FROM nodes WHERE address>?1 ORDER BY address LIMIT 1");
    if (!q)
        return -EIO;
    bind_text(q, 1, address);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    column_copy(q, 0, address, NODE_NAME_MAX + 1);
    *state = sqlite3_column_int(q, 1);
    *cpus = sqlite3_column_int(q, 2);
    store_end(q);
    return 0;
}

int store_key_put(struct store *st, const char *name, const uint8_t secret[32]) {
    sqlite3_stmt *q = store_sql(st, 126, "INSERT INTO keys(name, secret) VALUES(?1, ?2)");
    if (q) {
        bind_text(q, 1, name);
        sqlite3_bind_blob(q, 2, secret, 32, SQLITE_STATIC);
    }
    return store_run(st, q);
}

int store_key_delete(struct store *st, const char *name) {
    sqlite3_stmt *q = store_sql(st, 127, "DELETE FROM keys WHERE name=?1");
    if (q)
        bind_text(q, 1, name);
    return store_run(st, q);
}

int store_key_next(struct store *st, char name[NODE_NAME_MAX + 1], uint8_t secret[32]) {
    sqlite3_stmt *q =
        store_sql(st, 128, "SELECT name, secret FROM keys WHERE name>?1 AND length(secret)=32 ORDER BY name LIMIT 1");
    if (!q)
        return -EIO;
    bind_text(q, 1, name);
    int rc = store_step(st, q);
    if (rc <= 0)
        return rc < 0 ? rc : -ENOENT;
    column_copy(q, 0, name, NODE_NAME_MAX + 1);
    memcpy(secret, sqlite3_column_blob(q, 1), 32);
    store_end(q);
    return 0;
}
