#include "fs/tree/failed.h"

#include <string.h>

#include "fs/tree/jobs.h"
#include "net/printable.h"

#define A_PAGE 1024 /* names for one read ... */
#define A_WALK 64   /* ... of so many groups */
#define DEEPEST 64  /* levels of groups */

/* A place is a group (feed.of) and a job in it (feed.number, less one): the groups below come behind a group's own
 * jobs. A daemon that takes over has only the last job that was told (feed.at), and number 0. */
void failed_begin(struct fs *fs, struct feed *f) {
    f->of = ino_id(f->ino);
    f->reached_by = sched_reached_by(fs->sched, f->of);
    f->number = 1;
}

int failed_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    int rc = jobs_dir_attr(fs, ino_make(ino_id(ino), KIND_INFO), st, timeout);
    st->st_mode &= 0444;
    *timeout = 0;
    return rc;
}

struct page {
    FILE *out;
    struct feed *f;
    char path[(DEEPEST + 1) * (JOB_NAME_MAX + 1) + 1]; /* of its group, below the one that was asked for */
    size_t size;
    int left;
};

/* false: the page is full. It has whole lines, so that none is cut where the next daemon goes on; but one that is
 * longer than the reader's buffer. */
static bool add(void *arg, const struct job *j) {
    struct page *p = arg;
    char name[4 * sizeof p->path];
    snprintf(name, sizeof name, "%s%s", p->path, j->name);
    printable(name, sizeof name);
    size_t used = (size_t)ftello(p->out);
    if (p->left == 0 || (used && used + strlen(name) + 1 > p->size)) {
        p->left = 0;
        return false;
    }
    fprintf(p->out, "%s\n", name);
    p->f->at = j->id;
    p->f->number = j->id + 1;
    p->left--;
    return true;
}

/* Whether who reads may list that group, as the kernel would say of its directory; -ESTALE: it is closed to him since
 * he opened the file. The kernel opens that also for one who may list it by another of his groups. */
static int may_list(struct fs *fs, const struct feed *f) {
    struct group g;
    bool top = f->of == ino_id(f->ino);
    int rc = sched_group(fs->sched, f->of, &g);
    if (rc < 0)
        return rc == -ENOENT ? -ESTALE : rc;
    if (top && f->reached_by == sched_reached_by(fs->sched, f->of))
        return true;
    bool may = sched_shows(g.uid, g.gid, g.mode, f->uid, f->gid) && sched_reaches(fs->sched, f->of, f->uid, f->gid);
    return top && !may ? -ESTALE : may;
}

static void set_path(struct fs *fs, struct page *p) {
    char top[sizeof p->path];
    sched_group_path(fs->sched, ino_id(p->f->ino), top, sizeof top);
    sched_group_path(fs->sched, p->f->of, p->path, sizeof p->path);
    size_t n = strlen(top);
    if (strncmp(p->path, top, n) == 0)
        memmove(p->path, p->path + n, strlen(p->path + n) + 1);
}

static int find_place(struct fs *fs, struct feed *f) {
    struct job j;
    int rc = f->number ? 0 : sched_job(fs->sched, f->at, &j);
    if (rc < 0 || (!f->number && !sched_is_below(fs->sched, j.group, ino_id(f->ino))))
        return -ESTALE;
    if (!f->number) {
        f->of = j.group;
        f->number = f->at + 1;
    }
    return 0;
}

enum feed_rc failed_feed(struct fs *fs, struct feed *f, FILE *out, size_t size) {
    struct page p = {.out = out, .f = f, .size = size, .left = A_PAGE};
    int rc = find_place(fs, f);
    for (int i = 0; i < A_WALK && rc == 0; i++) {
        rc = may_list(fs, f);
        if (rc > 0) {
            set_path(fs, &p);
            rc = sched_list(fs->sched, f->of, 1u << SHELF_FAILURES, f->number - 1, add, &p);
        }
        if (rc < 0 || !p.left)
            break;
        rc = sched_next_group(fs->sched, ino_id(f->ino), &f->of);
        f->number = rc == 0 ? 1 : f->number;
    }
    if (rc == 0)
        return FEED_GOES_ON;
    if (rc == -ENOENT)
        return FEED_ENDS;
    return ftello(out) ? FEED_GOES_ON : FEED_FAILS; /* what there is comes first */
}
