#include "fs/tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/info.h"
#include "fs/jobs.h"
#include "fs/keys.h"
#include "fs/list.h"
#include "fs/nodes.h"
#include "fs/results.h"
#include "fs/root.h"
#include "fs/text.h"

#define ON(shelf) (1u << SHELF_##shelf)
#define ROOT_FILE(n)                                                                                                   \
    { .name = n, .parent = KIND_ROOT, .type = S_IFREG, .attr = root_attr, .text = root_text }
#define NODE_FILE(n, ...)                                                                                              \
    { .name = n, .parent = KIND_NODE, .type = S_IFREG, .attr = nodes_attr, .text = nodes_text, ##__VA_ARGS__ }
#define NODES_FILE(n, ...)                                                                                             \
    { .name = n, .parent = KIND_NODES, .type = S_IFREG, .attr = nodes_attr, .text = nodes_text, ##__VA_ARGS__ }
#define INFO_FILE(n, ...)                                                                                              \
    { .name = n, .parent = KIND_INFO_JOB, .type = S_IFREG, .attr = info_attr, .text = info_text, ##__VA_ARGS__ }
#define INFO_LIVE(n, r)                                                                                                \
    {                                                                                                                  \
        .name = n, .parent = KIND_INFO_JOB, .type = S_IFREG, .attr = info_attr, .open = info_open, .read = r,          \
        .ready = info_ready                                                                                            \
    }

static const struct kind_ops kinds[KINDS] = {
    [KIND_ROOT] = {.type = S_IFDIR, .attr = root_attr},
    [KIND_README] = ROOT_FILE("README"),
    [KIND_VERSION] = ROOT_FILE("version"),
    [KIND_STATS] = ROOT_FILE("stats"),

    [KIND_JOBS] = {.name = "jobs",
                   .parent = KIND_ROOT,
                   .type = S_IFDIR,
                   .attr = jobs_dir_attr,
                   .lookup = jobs_lookup,
                   .list = list_group,
                   .unlink = jobs_unlink,
                   .rmdir = jobs_rmdir,
                   .shelves = ON(JOBS),
                   .leaf = KIND_JOB},
    [KIND_RESULTS] = {.name = "results",
                      .parent = KIND_ROOT,
                      .type = S_IFDIR,
                      .attr = jobs_dir_attr,
                      .lookup = results_lookup,
                      .list = list_group,
                      .unlink = results_unlink,
                      .rmdir = jobs_rmdir,
                      .shelves = ON(RESULTS),
                      .leaf = KIND_RESULT},
    [KIND_FAILURES] = {.name = "failures",
                       .parent = KIND_ROOT,
                       .type = S_IFDIR,
                       .attr = jobs_dir_attr,
                       .lookup = failures_lookup,
                       .list = list_group,
                       .unlink = results_unlink,
                       .rmdir = jobs_rmdir,
                       .shelves = ON(FAILURES),
                       .leaf = KIND_FAILURE},
    [KIND_INFO] = {.name = "info",
                   .parent = KIND_ROOT,
                   .type = S_IFDIR,
                   .attr = jobs_dir_attr,
                   .lookup = info_lookup,
                   .list = list_group,
                   .unlink = info_group_unlink,
                   .rmdir = info_rmdir,
                   .shelves = ON(JOBS) | ON(RESULTS) | ON(FAILURES) | ON(GONE),
                   .leaf = KIND_INFO_JOB},
    [KIND_GROUP_WAIT] = {.name = ".wait",
                         .parent = KIND_INFO,
                         .type = S_IFREG,
                         .attr = info_group_attr,
                         .open = info_open,
                         .read = info_group_wait},
    [KIND_GROUP_PROGRESS] = {.name = ".progress",
                             .parent = KIND_INFO,
                             .type = S_IFREG,
                             .attr = info_group_attr,
                             .text = info_group_progress},

    [KIND_NODES] = {.name = "nodes",
                    .parent = KIND_ROOT,
                    .type = S_IFDIR,
                    .attr = nodes_attr,
                    .lookup = nodes_lookup,
                    .list = nodes_list,
                    .mkdir = nodes_mkdir,
                    .rmdir = nodes_rmdir},
    [KIND_NODES_LISTEN] = NODES_FILE(".listen"),
    [KIND_NODES_DISCOVER] = NODES_FILE(".discover", .set = nodes_set_discover),
    [KIND_KEYS] = {.name = ".keys",
                   .parent = KIND_NODES,
                   .type = S_IFDIR,
                   .attr = keys_attr,
                   .lookup = keys_lookup,
                   .list = keys_list,
                   .mkdir = keys_mkdir,
                   .rmdir = keys_rmdir},
    [KIND_KEY] = {.type = S_IFDIR, .attr = keys_attr},
    [KIND_KEY_TEXT] = {.name = "key", .parent = KIND_KEY, .type = S_IFREG, .attr = keys_attr, .text = keys_text},
    [KIND_NODE] = {.type = S_IFDIR, .attr = nodes_attr},
    [KIND_NODE_CPUS] = NODE_FILE("cpus", .set = nodes_set),
    [KIND_NODE_STATE] = NODE_FILE("state", .set = nodes_set),
    [KIND_NODE_RUNNING] = NODE_FILE("running"),
    [KIND_NODE_DONE] = NODE_FILE("done"),
    [KIND_NODE_FAILED] = NODE_FILE("failed"),
    [KIND_NODE_SECONDS] = NODE_FILE("seconds"),
    [KIND_NODE_PYTHON] = NODE_FILE("python"),
    [KIND_NODE_ADDRESS] = NODE_FILE("address"),
    [KIND_NODE_SEEN] = NODE_FILE("seen"),
    [KIND_NODE_WHY] = NODE_FILE("why"),

    [KIND_JOB] = {.type = S_IFREG, .attr = jobs_attr, .open = jobs_open, .read = jobs_read},
    [KIND_RESULT] =
        {.type = S_IFREG, .attr = results_attr, .open = results_open, .read = results_read, .ready = results_ready},
    [KIND_FAILURE] = {.type = S_IFREG, .attr = failures_attr, .open = failures_open, .read = failures_read},
    [KIND_INFO_JOB] = {.type = S_IFDIR, .attr = info_attr, .unlink = info_unlink},
    [KIND_STATE] = INFO_FILE("state"),
    [KIND_WHY] = INFO_FILE("why"),
    [KIND_WAIT] = INFO_LIVE("wait", info_wait),
    [KIND_STDOUT] = INFO_LIVE("stdout", info_read),
    [KIND_STDERR] = INFO_LIVE("stderr", info_read),
    [KIND_SPEC] = INFO_LIVE("spec", info_read),
    [KIND_EXIT] = INFO_FILE("exit"),
    [KIND_ATTEMPT] = INFO_FILE("attempt"),
    [KIND_NODE_OF] = INFO_FILE("node"),
    [KIND_TIMES] = INFO_FILE("times"),
    [KIND_USAGE] = INFO_FILE("usage"),
    [KIND_PRIORITY] = INFO_FILE("priority", .set = info_set),
    [KIND_HOLD] = INFO_FILE("hold", .set = info_set),
};

const struct kind_ops *tree_kind(fuse_ino_t ino) {
    enum kind k = ino_kind(ino);
    return k < KINDS && kinds[k].type ? &kinds[k] : NULL;
}

int tree_lookup(struct fs *fs, fuse_ino_t dir, const char *name, fuse_ino_t *out) {
    const struct kind_ops *d = tree_kind(dir);
    if (!d || !S_ISDIR(d->type))
        return -ENOTDIR;
    if (strlen(name) > JOB_NAME_MAX)
        return -ENAMETOOLONG;
    for (unsigned k = 1; k < KINDS; k++) {
        if (kinds[k].name && kinds[k].parent == ino_kind(dir) && strcmp(kinds[k].name, name) == 0) {
            *out = ino_make(ino_id(dir), k);
            return 0;
        }
    }
    return d->lookup ? d->lookup(fs, dir, name, out) : -ENOENT;
}

int tree_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    const struct kind_ops *k = tree_kind(ino);
    if (!k)
        return -ESTALE;
    memset(st, 0, sizeof *st);
    *timeout = 0;
    int rc = k->attr(fs, ino, st, timeout);
    if (rc == 0 && k->text) {
        char *bytes;
        size_t size;
        rc = text_make(fs, ino, &bytes, &size);
        if (rc == 0) {
            st->st_size = (off_t)size;
            free(bytes);
        }
    }
    st->st_ino = ino;
    st->st_mode = (st->st_mode & 07777) | k->type;
    st->st_blocks = (st->st_size + 511) / 512;
    return stale(rc);
}

int tree_entry(struct fs *fs, fuse_ino_t ino, struct fuse_entry_param *e) {
    memset(e, 0, sizeof *e);
    e->ino = ino;
    /* A name in jobs/ may leave it at any time, and creating it anew with O_EXCL must then ask us. Elsewhere a name
     * that has got another job is noticed: opening or looking at the old one answers ESTALE. What is moved from
     * failures/ into jobs/ the kernel would take for the failure there as long. */
    e->entry_timeout = ino_kind(ino) == KIND_JOB || ino_kind(ino) == KIND_FAILURE ? 0 : 1;
    return tree_attr(fs, ino, &e->attr, &e->attr_timeout);
}

void tree_stat(struct stat *st, mode_t mode, uid_t uid, gid_t gid, uint64_t size, int64_t time) {
    st->st_mode = mode;
    st->st_nlink = 1;
    st->st_uid = uid;
    st->st_gid = gid;
    st->st_size = (off_t)size;
    st->st_mtim.tv_sec = time / 1000000;
    st->st_mtim.tv_nsec = time % 1000000 * 1000;
    st->st_atim = st->st_ctim = st->st_mtim;
}
