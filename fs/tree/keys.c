#include "fs/tree/keys.h"

#include <string.h>

#include "fs/tree/list.h"
#include "fs/tree/tree.h"

/* Keys belong to the user who mounted; no other user can read them. */
int keys_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    enum kind k = ino_kind(ino);
    int rc = k == KIND_KEYS ? 0 : sched_key(fs->sched, ino_id(ino), NULL);
    if (rc)
        return rc;
    tree_stat(st, k == KIND_KEY_TEXT ? 0400 : 0700, fs->uid, fs->gid, 0, fs->started);
    if (k == KIND_KEYS)
        *timeout = 1;
    return 0;
}

int keys_list(struct fs *fs, fuse_ino_t dir, off_t after, struct listing *l) {
    sched_page_keys(fs->sched, list_after(after), list_add_named, l);
    return 0;
}

int keys_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    char text[SCHED_KEY_TEXT];
    int rc = sched_key(fs->sched, ino_id(ino), text);
    if (rc == 0)
        fputs(text, out);
    explicit_bzero(text, sizeof text);
    return rc;
}

int keys_rmdir(struct fs *fs, fuse_ino_t dir, const char *name) {
    return sched_remove_key(fs->sched, name);
}
