#include "fs/nodes.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "fs/list.h"
#include "fs/text.h"
#include "fs/tree.h"

/* A node's id in inode numbers: a hash of its name (FNV-1a), 56 bits of it. */
static uint64_t node_id(const char *name) {
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h >> 8;
}

struct search {
    uint64_t id;
    struct node *out;
    bool found;
};

static bool matches(void *arg, const struct node *n) {
    struct search *s = arg;
    s->found = node_id(n->name) == s->id;
    if (s->found)
        *s->out = *n;
    return !s->found;
}

static int find(struct fs *fs, fuse_ino_t ino, struct node *out) {
    struct search s = {.id = ino_id(ino), .out = out};
    int rc = sched_list_nodes(fs->sched, matches, &s);
    return rc ? rc : s.found ? 0 : -ENOENT;
}

int nodes_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    enum kind k = ino_kind(ino);
    struct node n;
    bool of_all = k == KIND_NODES || k == KIND_NODES_LISTEN || k == KIND_NODES_DISCOVER;
    int rc = of_all ? 0 : find(fs, ino, &n);
    if (rc)
        return rc;
    mode_t mode = k == KIND_NODES || k == KIND_NODE ? 0755 : tree_kind(ino)->set ? 0644 : 0444;
    tree_stat(st, mode, fs->uid, fs->gid, 0, fs->started);
    if (k == KIND_NODES)
        *timeout = 1;
    return 0;
}

int nodes_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    (void)dir;
    struct node n;
    int rc = sched_node(fs->sched, name, &n);
    if (rc == 0)
        *out = ino_make(node_id(n.name), KIND_NODE);
    return rc;
}

struct page {
    struct listing *listing;
    uint64_t at, after;
};

static bool add(void *arg, const struct node *n) {
    struct page *p = arg;
    if (++p->at <= p->after)
        return true;
    return list_add(p->listing, n->name, ino_make(node_id(n->name), KIND_NODE), list_offset(p->at));
}

int nodes_list(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l) {
    (void)dir;
    struct page p = {.listing = l, .after = list_after(after)};
    return sched_list_nodes(fs->sched, add, &p);
}

int nodes_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    struct node n;
    struct tm t;
    char seen[32];
    if (ino_kind(ino) == KIND_NODES_LISTEN) {
        char address[256];
        sched_listens(fs->sched, address);
        if (*address)
            fprintf(out, "%s\n", address);
        return 0;
    }
    if (ino_kind(ino) == KIND_NODES_DISCOVER) {
        const char *where = sched_discovers(fs->sched);
        fprintf(out, "%s\n", !where ? "0" : *where ? where : "1");
        return 0;
    }
    int rc = find(fs, ino, &n);
    if (rc)
        return rc;
    time_t seconds = n.seen / 1000000;
    switch (ino_kind(ino)) {
    case KIND_NODE_CPUS:
        fprintf(out, "%u\n", n.cpus);
        break;
    case KIND_NODE_STATE:
        fprintf(out, "%s\n", node_state_name(n.state));
        break;
    case KIND_NODE_RUNNING:
        fprintf(out, "%u\n", n.running);
        break;
    case KIND_NODE_DONE:
        fprintf(out, "%" PRIu64 "\n", n.done);
        break;
    case KIND_NODE_FAILED:
        fprintf(out, "%" PRIu64 "\n", n.failed);
        break;
    case KIND_NODE_SECONDS:
        fprintf(out, "%.3f\n", n.seconds);
        break;
    case KIND_NODE_PYTHON:
        fprintf(out, "%s%s\n", n.python, n.pickles || !n.python[0] ? "" : " (another than here: scripts, JSON and source only, no pickles)");
        break;
    case KIND_NODE_ADDRESS:
        fprintf(out, "%s\n", n.address);
        break;
    case KIND_NODE_WHY:
        if (*n.why)
            fprintf(out, "%s\n", n.why);
        break;
    case KIND_NODE_SEEN:
        if (!n.seen) { /* dialled, and not reached yet */
            fputs("never\n", out);
            break;
        }
        strftime(seen, sizeof seen, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &t));
        fprintf(out, "%s.%06dZ\n", seen, (int)(n.seen % 1000000));
        break;
    default:
        return -EINVAL;
    }
    return 0;
}

int nodes_set(struct fs *fs, fuse_ino_t ino, const char *value) {
    struct node n;
    long cpus;
    int rc = find(fs, ino, &n);
    if (rc)
        return rc;
    if (ino_kind(ino) == KIND_NODE_CPUS) {
        rc = text_number(value, &cpus);
        return rc ? rc : cpus < 0 || cpus > 4096 ? -EINVAL : sched_set_cpus(fs->sched, n.name, (unsigned)cpus);
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
    (void)ino;
    if (text_number(value, &on) == 0)
        return on != 0 && on != 1 ? -EINVAL : sched_set_discover(fs->sched, on ? "" : NULL);
    size_t len = strcspn(value, " \t\r\n");
    if (!len || len >= sizeof where || value[len + strspn(value + len, " \t\r\n")])
        return -EINVAL;
    memcpy(where, value, len);
    where[len] = '\0';
    return sched_set_discover(fs->sched, where);
}

int nodes_mkdir(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    (void)dir;
    int rc = sched_add_node(fs->sched, name);
    if (rc == -EEXIST && fs->now.again)
        rc = 0;
    *out = ino_make(node_id(name), KIND_NODE);
    return rc;
}

int nodes_rmdir(struct fs *fs, fuse_ino_t dir, const char *name) {
    (void)dir;
    return sched_remove_node(fs->sched, name);
}
