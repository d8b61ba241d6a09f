#include "fs/tree/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/session/reply.h"
#include "fs/tree/tree.h"

#define KEPT 64u
#define VALUE_MAX 256u

struct texts { /* a ring of the latest */
    struct {
        uint64_t fh;
        char *bytes;
        size_t size;
    } kept[KEPT];
    unsigned next;
};

int texts_create(struct texts **out) {
    *out = calloc(1, sizeof **out);
    return *out ? 0 : -ENOMEM;
}

void texts_destroy(struct texts *t) {
    if (!t)
        return;
    for (unsigned i = 0; i < KEPT; i++)
        free(t->kept[i].bytes);
    free(t);
}

int text_make(struct fs *fs, fuse_ino_t ino, char **bytes, size_t *size) {
    FILE *f = open_memstream(bytes, size);
    if (!f)
        return -ENOMEM;
    int rc = tree_kind(fs, ino)->text(fs, ino, f);
    if (ferror(f) && rc == 0)
        rc = -ENOMEM;
    if (fclose(f) != 0 && rc == 0)
        rc = -ENOMEM;
    if (rc) {
        free(*bytes);
        *bytes = NULL;
    }
    return rc;
}

static void keep(struct texts *t, uint64_t fh, char *bytes, size_t size) {
    unsigned at = t->next;
    for (unsigned i = 0; i < KEPT; i++)
        if (t->kept[i].bytes && t->kept[i].fh == fh)
            at = i; /* read again from its start */
    if (at == t->next)
        t->next = (t->next + 1) % KEPT;
    free(t->kept[at].bytes);
    t->kept[at].fh = fh;
    t->kept[at].bytes = bytes;
    t->kept[at].size = size;
}

void text_open(struct fs *fs, fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi) {
    bool writes = (fi->flags & O_ACCMODE) != O_RDONLY;
    char *bytes = NULL;
    size_t size;
    int rc = ino_kind(ino) < KIND_JOB || writes ? 0 : text_make(fs, ino, &bytes, &size);
    if (rc) { /* gone or written again: the kernel looks the name up again */
        reply_err(fs, req, stale(rc));
        return;
    }
    fi->fh = fs->now.unique;
    fi->direct_io = 1;
    fi->noflush = !writes;
    if (bytes)
        keep(fs->texts, fi->fh, bytes, size);
    reply_open(fs, req, fi);
}

static void answer_part(struct fs *fs, fuse_req_t req, const char *bytes, size_t total, size_t size, off_t off) {
    size_t from = (uint64_t)off < total ? (size_t)off : total;
    reply_bytes(fs, req, bytes + from, size < total - from ? size : total - from);
}

bool text_answer_kept(struct fs *fs, fuse_req_t req, uint64_t fh, size_t size, off_t off) {
    for (unsigned i = 0; i < KEPT; i++) {
        if (fs->texts->kept[i].bytes && fs->texts->kept[i].fh == fh) {
            answer_part(fs, req, fs->texts->kept[i].bytes, fs->texts->kept[i].size, size, off);
            return true;
        }
    }
    return false;
}

void text_answer(struct fs *fs, fuse_req_t req, uint64_t fh, char *bytes, size_t total, size_t size, off_t off) {
    keep(fs->texts, fh, bytes, total);
    answer_part(fs, req, bytes, total, size, off);
}

void text_read(struct fs *fs, fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, const struct fuse_file_info *fi) {
    if (off > 0 && text_answer_kept(fs, req, fi->fh, size, off))
        return;
    char *bytes;
    size_t total;
    int rc = text_make(fs, ino, &bytes, &total);
    if (rc == -ENOENT && text_answer_kept(fs, req, fi->fh, size, off)) /* gone since the open */
        return;
    if (rc)
        reply_err(fs, req, stale(rc));
    else
        text_answer(fs, req, fi->fh, bytes, total, size, off);
}

void text_write(struct fs *fs, fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size) {
    char value[VALUE_MAX];
    int rc = -EINVAL;
    if (size < sizeof value && !memchr(bytes, '\0', size)) {
        memcpy(value, bytes, size);
        value[size] = '\0';
        rc = tree_kind(fs, ino)->set(fs, ino, value);
    }
    if (rc)
        reply_err(fs, req, rc);
    else
        reply_write(fs, req, size, 0, 0);
}

void text_time(FILE *out, int64_t us) {
    time_t seconds = us / 1000000;
    struct tm t;
    char text[32];
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", gmtime_r(&seconds, &t));
    fprintf(out, "%s.%06dZ\n", text, (int)(us % 1000000));
}

int text_number(const char *value, long *out) {
    char *end;
    errno = 0;
    *out = strtol(value, &end, 10);
    if (errno || end == value || end[strspn(end, " \t\r\n")])
        return -EINVAL;
    return 0;
}
