#include "fs/tree/root.h"

#include <errno.h>
#include <inttypes.h>

#include "fs/tree/tree.h"
#include "fs/version.h"
#include "net/clock.h"
#include "net/printable.h"

static const char readme[] =
    "This directory is a queue of jobs. Write a file into jobs/ and it runs; read its result from results/.\n"
    "\n"
    "    printf '#!/bin/sh\\necho hello\\n' > jobs/hello\n"
    "    cat results/hello          waits until the job has ended, then gives what it printed\n"
    "    rm jobs/hello              cancels it\n"
    "    rm results/hello           forgets it\n"
    "\n"
    "jobs/           the way in: a file that is closed is queued under its name; names that begin with a dot are "
    "drafts\n"
    "results/        the way out: one file a job that succeeded; opening the name of one that has not ended waits\n"
    "failures/       one file a job that failed: why, then its traceback or the end of its stderr; moved to jobs/ it\n"
    "                is run again\n"
    "info/NAME/      everything known about a job: state, why, stdout and stderr (live), spec, times, usage, ...\n"
    "info/.wait      reading it waits until nothing is unfinished; .progress says how far things are\n"
    "nodes/          the machines that run jobs: echo 4 > nodes/local/cpus\n"
    "stats           a table of it all\n"
    "\n"
    "A job may be a script (#!), a program, Python source, a pickled call, or a JSON object such as\n"
    "    {\"call\": \"math.sqrt\", \"args\": [2]}     or     {\"run\": [\"wc\", \"-l\", \"/etc/hosts\"]}\n"
    "Options go into a comment of a script (#ppfs: priority=5 timeout=30s retries=2), into the JSON object, or for\n"
    "every later job of a directory into jobs/.options. Directories in jobs/ are groups: mkdir jobs/G.\n"
    "More is in the manual: man 1 ppfs, man 5 ppfs.\n";

int root_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    tree_stat(st, ino_kind(ino) == KIND_ROOT ? 0755 : 0444, fs->uid, fs->gid, 0, fs->started);
    *timeout = ino_kind(ino) == KIND_STATS ? 0 : 60;
    return 0;
}

static bool print_node(void *arg, const struct node *n) {
    char name[4 * sizeof n->name];
    snprintf(name, sizeof name, "%s", n->name);
    printable(name, sizeof name);
    fprintf(arg, "%-16s %-6s %5u %8u %10" PRIu64 " %10" PRIu64 " %12.1f\n", name, node_state_name(n->state), n->cpus,
            n->running, n->done, n->failed, n->seconds);
    return true;
}

static bool count_slots(void *arg, const struct node *n) {
    unsigned *slots = arg;
    *slots += n->state == NODE_UP ? n->cpus : 0;
    return true;
}

static int print_stats(struct fs *fs, FILE *out) {
    struct tally t;
    unsigned slots = 0;
    int rc = sched_tally(fs->sched, 0, &t);
    if (rc == 0)
        rc = sched_list_nodes(fs->sched, count_slots, &slots);
    if (rc)
        return rc;
    int64_t up = (clock_us() - fs->began) / 1000000;
    fprintf(out, "jobs     %10s %10s %10s %10s %10s\n", "waiting", "running", "done", "failed", "cancelled");
    fprintf(out, "         %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "\n\n",
            t.active - t.running, t.running, t.done, t.failed, t.cancelled);
    fprintf(out, "%-16s %-6s %5s %8s %10s %10s %12s\n", "node", "state", "cpus", "running", "done", "failed",
            "seconds");
    rc = sched_list_nodes(fs->sched, print_node, out);
    fprintf(out, "\nslots %u, up %" PRId64 "d %02d:%02d:%02d\n", slots, up / 86400, (int)(up / 3600 % 24),
            (int)(up / 60 % 60), (int)(up % 60));
    return rc;
}

int root_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    switch (ino_kind(ino)) {
    case KIND_README: fputs(readme, out); return 0;
    case KIND_VERSION: fputs("ppfs " PPFS_VERSION "\n", out); return 0;
    case KIND_STATS: return print_stats(fs, out);
    default: return -EINVAL;
    }
}
