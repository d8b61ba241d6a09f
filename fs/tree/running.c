#include "fs/tree/running.h"

#include "net/printable.h"

static void print(void *arg, const struct running *r) {
    char node[4 * (NODE_NAME_MAX + 1)];
    snprintf(node, sizeof node, "%s", *r->node ? r->node : "-");
    printable(node, sizeof node);
    fprintf(arg, "%s\t%s\t%.1f\t%s\n", r->path, node, (double)r->us / 1e6, r->last);
}

/* Pages of those whose ids follow: what starts and ends meanwhile moves no other. */
enum feed_rc running_feed(struct fs *fs, struct feed *f, FILE *out, size_t size) {
    return sched_page_running(fs->sched, &f->at, f->uid, f->gid, print, out) == 1 ? FEED_GOES_ON : FEED_ENDS;
}
