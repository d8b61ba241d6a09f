/* Nodes that ppfs dials, their settings, and keys of nodes. */
#include "sched/db/store_nodes.h"

#include <string.h>

#include "sched/db/store_sql.h"

/* address may be NULL. */
static int read_node(struct store *st, sqlite3_stmt *from, char *address, int *state, int *cpus) {
    sqlite3_stmt *q;
    int rc = store_row_of(st, from, &q);
    if (rc < 0)
        return rc;
    if (address)
        store_copy(q, 0, address, NODE_NAME_MAX + 1);
    *state = sqlite3_column_int(q, 1);
    *cpus = sqlite3_column_int(q, 2);
    store_end(q);
    return 0;
}

int store_node_get(struct store *st, const char *address, int *state, int *cpus) {
    return read_node(st, store_query(st, SQL_NODE_GET, TEXT(address)), NULL, state, cpus);
}

int store_node_next(struct store *st, char address[NODE_NAME_MAX + 1], int *state, int *cpus) {
    return read_node(st, store_query(st, SQL_NODE_NEXT, TEXT(address)), address, state, cpus);
}

int store_key_next(struct store *st, char name[NODE_NAME_MAX + 1], uint8_t secret[32]) {
    sqlite3_stmt *q;
    int rc = store_row(st, &q, SQL_KEY_NEXT, TEXT(name));
    if (rc < 0)
        return rc;
    store_copy(q, 0, name, NODE_NAME_MAX + 1);
    memcpy(secret, sqlite3_column_blob(q, 1), 32);
    store_end(q);
    return 0;
}
