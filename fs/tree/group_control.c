#include "fs/tree/group_control.h"

#include <limits.h>

#include "fs/tree/jobs.h"
#include "fs/tree/text.h"

static enum control_what what(fuse_ino_t ino) {
    return ino_kind(ino) == KIND_GROUP_HOLD ? CONTROL_HOLD : CONTROL_PRIORITY;
}

int group_control_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    int value, rc = sched_controlling(fs->sched, ino_id(ino), fs->now.uid, what(ino), &value);
    if (rc == 0)
        fprintf(out, "%d\n", value);
    return rc == -ENOENT ? 0 : rc;
}

int group_control_set(struct fs *fs, fuse_ino_t ino, const char *value) {
    long n;
    int rc = text_number(value, &n);
    if (rc < 0)
        return rc;
    return n < INT_MIN || n > INT_MAX ? -EINVAL : sched_control(fs->sched, ino_id(ino), fs->now.uid, what(ino), (int)n);
}
