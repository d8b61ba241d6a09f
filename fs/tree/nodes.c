#include "fs/tree/nodes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "fs/tree/list.h"
#include "fs/tree/text.h"
#include "fs/tree/tree.h"

int nodes_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    enum kind k = ino_kind(ino);
    struct node n;
    bool of_all = k == KIND_NODES || k == KIND_NODES_LISTEN || k == KIND_NODES_DISCOVER;
    int rc = of_all ? 0 : sched_node(fs->sched, ino_id(ino), fs->now.uid, &n);
    if (rc)
        return rc;
    mode_t mode = tree_kind(fs, ino)->set ? 0644 : 0444;
    if (k == KIND_NODES || k == KIND_NODE)
        mode = 0755;
    tree_stat(st, mode, fs->uid, fs->gid, 0, fs->started);
    if (k == KIND_NODES)
        *timeout = 1;
    return 0;
}

int nodes_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    uint64_t id;
    int rc = ino_kind(dir) == KIND_KEYS ? sched_find_key(fs->sched, name, &id) : sched_find_node(fs->sched, name, &id);
    if (rc == 0)
        *out = ino_make(id, tree_kind(fs, dir)->leaf);
    return rc;
}

int nodes_list(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l) {
    sched_page_nodes(fs->sched, list_after(after), list_add_named, l);
    return 0;
}

int nodes_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    struct node n;
    if (ino_kind(ino) == KIND_NODES_LISTEN) {
        char address[256];
        sched_listens(fs->sched, address);
        if (*address)
            fprintf(out, "%s\n", address);
        return 0;
    }
    if (ino_kind(ino) == KIND_NODES_DISCOVER) {
        const char *where = sched_discovers(fs->sched);
        if (where && *where)
            fprintf(out, "%s\n", where);
        else
            fprintf(out, "%d\n", where != NULL);
        return 0;
    }
    int rc = sched_node(fs->sched, ino_id(ino), fs->now.uid, &n);
    if (rc)
        return rc;
    switch (ino_kind(ino)) {
    case KIND_NODE_CPUS: fprintf(out, "%u\n", n.cpus); break;
    case KIND_NODE_STATE: fprintf(out, "%s\n", node_state_name(n.state)); break;
    case KIND_NODE_RUNNING: fprintf(out, "%u\n", n.running); break;
    case KIND_NODE_DONE: fprintf(out, "%" PRIu64 "\n", n.done); break;
    case KIND_NODE_FAILED: fprintf(out, "%" PRIu64 "\n", n.failed); break;
    case KIND_NODE_SECONDS: fprintf(out, "%.3f\n", n.seconds); break;
    case KIND_NODE_PYTHON:
        fprintf(out, "%s%s\n", n.python,
                n.pickles || !n.python[0] ? "" : " (another than here: scripts, JSON and source only, no pickles)");
        break;
    case KIND_NODE_RESOURCES: fputs(n.resources, out); break;
    case KIND_NODE_ADDRESS: fprintf(out, "%s\n", n.address); break;
    case KIND_NODE_WHY:
        if (*n.why)
            fprintf(out, "%s\n", n.why);
        break;
    case KIND_NODE_SEEN:
        if (n.seen)
            text_time(out, n.seen);
        else /* dialled, and not reached yet */
            fputs("never\n", out);
        break;
    default: return -EINVAL;
    }
    return 0;
}

int nodes_set(struct fs *fs, fuse_ino_t ino, const char *value) {
    struct node n;
    long cpus;
    int rc = sched_node(fs->sched, ino_id(ino), fs->now.uid, &n);
    if (rc)
        return rc;
    if (ino_kind(ino) == KIND_NODE_CPUS) {
        rc = text_number(value, &cpus);
        if (rc == 0 && (cpus < 0 || cpus > 4096))
            rc = -EINVAL;
        return rc ? rc : sched_set_cpus(fs->sched, n.name, (unsigned)cpus);
    }
    size_t len = strcspn(value, " \t\r\n");
    if (value[len + strspn(value + len, " \t\r\n")])
        return -EINVAL;
    for (enum node_state s = NODE_UP; s <= NODE_DRAIN; s++)
        if (strlen(node_state_name(s)) == len && strncmp(node_state_name(s), value, len) == 0)
            return sched_set_node_state(fs->sched, n.name, s);
    return -EINVAL;
}

int nodes_set_discover(struct fs *fs, fuse_ino_t ino, const char *value) {
    char where[256];
    long on;
    bool number = text_number(value, &on) == 0;
    if (number && on != 0 && on != 1)
        return -EINVAL;
    if (number)
        return sched_set_discover(fs->sched, on ? "" : NULL);
    size_t len = strcspn(value, " \t\r\n");
    if (!len || len >= sizeof where || value[len + strspn(value + len, " \t\r\n")])
        return -EINVAL;
    memcpy(where, value, len);
    where[len] = '\0';
    return sched_set_discover(fs->sched, where);
}

int nodes_mkdir(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    int rc = ino_kind(dir) == KIND_KEYS ? sched_add_key(fs->sched, name) : sched_add_node(fs->sched, name);
    *out = ino_make(sched_node_id(name), tree_kind(fs, dir)->leaf);
    return rc == -EEXIST && fs->now.again ? 0 : rc;
}

int nodes_rmdir(struct fs *fs, fuse_ino_t dir, const char *name) {
    return sched_remove_node(fs->sched, name);
}
