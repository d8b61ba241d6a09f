#include "fs/session/journal.h"

#include <errno.h>
#include <linux/fuse.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "fs/handles/handle.h"
#include "fs/log.h"
#include "net/hash.h"

#define RESEND_MINOR 40 /* of protocol 7: FUSE_NOTIFY_RESEND */
#define PROBES 64u      /* slots to try for a request */

_Static_assert(JOURNAL_BYTES >= sizeof(struct fuse_in_header) + sizeof(struct fuse_rename2_in) + 2 * 256,
               "a RENAME of two long names fits");

static struct journal_entry *place(struct journal_entry *table, uint64_t unique, unsigned i) {
    return &table[((hash_number(unique) >> 40) + i) % JOURNAL_ENTRIES];
}

/* Every answer passes here; notifications have unique 0. The entry is removed before the write, because a second answer
 * could close a file that the kernel has just opened. */
static ssize_t answer(int fd, struct iovec *parts, int count, void *arg) {
    struct fs *fs = arg;
    const struct fuse_out_header *head = parts[0].iov_base;
    for (unsigned i = 0; head->unique && i < PROBES; i++) {
        struct journal_entry *f = place(fs->journal, head->unique, i);
        if (atomic_load(&f->unique) == head->unique) {
            atomic_store(&f->unique, 0);
            break;
        }
    }
    return writev(fd, parts, count);
}

static ssize_t receive(int fd, void *buf, size_t size, void *arg) {
    return read(fd, buf, size);
}

void journal_begin(struct fs *fs, unsigned minor, bool asked) {
    static const struct fuse_custom_io through_us = {.writev = answer, .read = receive};
    if (fs->journal || (minor >= RESEND_MINOR && !asked))
        return;
    if (fuse_session_custom_io(fs->session, &through_us, fuse_session_fd(fs->session)) == 0)
        fs->journal = fs->journal_table;
}

bool journal_kept(const struct fs *fs) {
    return fs->journal;
}

/* Opcodes without an answer. */
static bool answered(uint32_t opcode) {
    return opcode != FUSE_FORGET && opcode != FUSE_BATCH_FORGET && opcode != FUSE_INTERRUPT &&
           opcode != FUSE_NOTIFY_REPLY && opcode != FUSE_INIT;
}

void journal_note(struct fs *fs, const void *bytes, size_t size) {
    const struct fuse_in_header *head = bytes;
    if (!fs->journal || !answered(head->opcode))
        return;
    for (unsigned i = 0; i < PROBES; i++) {
        struct journal_entry *f = place(fs->journal, head->unique, i);
        if (atomic_load(&f->unique))
            continue;
        f->size = (uint32_t)size;
        memcpy(f->bytes, bytes, size < sizeof f->bytes ? size : sizeof f->bytes);
        atomic_store(&f->unique, head->unique); /* last: from this store on the entry is valid */
        return;
    }
}

static int by_age(const void *a, const void *b) {
    const struct journal_entry *x = *(struct journal_entry *const *)a, *y = *(struct journal_entry *const *)b;
    return x->unique < y->unique ? -1 : x->unique > y->unique;
}

/* A WRITE that fails with EIO leaves the file incomplete. */
static void refuse(struct fs *fs, struct journal_entry *f) {
    const struct fuse_in_header *head = (const void *)f->bytes;
    const struct fuse_write_in *w = (const void *)(f->bytes + sizeof *head);
    struct fuse_out_header out = {.len = sizeof out, .error = -EIO, .unique = f->unique};
    if (head->opcode == FUSE_WRITE)
        handle_write_failed(fs, w->fh, w->offset, EIO);
    if (write(fuse_session_fd(fs->session), &out, sizeof out) < 0 && errno != ENOENT)
        log_line("a request under way could not be answered: %s", strerror(errno));
    atomic_store(&f->unique, 0);
}

void journal_replay(struct fs *fs, void (*handle)(struct fs *fs, const void *bytes, size_t size)) {
    struct journal_entry **left = malloc(JOURNAL_ENTRIES * sizeof(struct journal_entry *));
    size_t n = 0;
    if (!left) {
        log_line("no memory to take up what was under way: clients that wait hang until they are interrupted");
        return;
    }
    for (uint32_t i = 0; i < JOURNAL_ENTRIES; i++)
        if (atomic_load(&fs->journal_table[i].unique))
            left[n++] = &fs->journal_table[i];
    qsort(left, n, sizeof *left, by_age);
    for (size_t i = 0; i < n; i++) {
        _Alignas(uint64_t) char copy[JOURNAL_BYTES];
        if (left[i]->size > sizeof copy) {
            refuse(fs, left[i]);
            continue;
        }
        memcpy(copy, left[i]->bytes, left[i]->size); /* its slot is freed by the answer */
        handle(fs, copy, left[i]->size);
    }
    free(left);
}
