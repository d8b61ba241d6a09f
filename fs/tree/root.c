#include "fs/tree/root.h"

#include <errno.h>

#include "fs/tree/dashboard.h"
#include "fs/tree/tree.h"
#include "fs/version.h"

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
    "info/.wait      reading it waits until nothing is unfinished; .progress says how far things are,\n"
    "                .ok opens only if nothing has failed or was cancelled, .failed names what has failed\n"
    "nodes/          the machines that run jobs: echo 4 > nodes/local/cpus\n"
    "stats           a table of it all; stats.json is the same for programs, metrics.prom for Prometheus\n"
    "events          what happens, a line of JSON for each change; reading waits for more\n"
    "running         what runs now: job, node, seconds and the last line of its output\n"
    "dashboard.html  how things are, as a page for a browser; ppfs-dashboard serves it, live\n"
    "trace.json      what has run, as a timeline for ui.perfetto.dev\n"
    "\n"
    "A job may be a script (#!), a program, Python source, a pickled call, or a JSON object such as\n"
    "    {\"call\": \"math.sqrt\", \"args\": [2]}     or     {\"run\": [\"wc\", \"-l\", \"/etc/hosts\"]}\n"
    "Options go into a comment of a script (#ppfs: priority=5 timeout=30s retries=2), into the JSON object, or for\n"
    "every later job of a directory into jobs/.options. Directories in jobs/ are groups: mkdir jobs/G.\n"
    "More is in the manual: man 1 ppfs, man 5 ppfs.\n";

int root_attr(struct fs *fs, fuse_ino_t ino, struct stat *st, double *timeout) {
    tree_stat(st, ino_kind(ino) == KIND_ROOT ? 0755 : 0444, fs->uid, fs->gid,
              ino_kind(ino) == KIND_DASHBOARD ? DASHBOARD_SIZE : 0, fs->started);
    bool stays = ino_kind(ino) <= KIND_VERSION;
    *timeout = stays ? 60 : 0;
    return 0;
}

int root_text(struct fs *fs, fuse_ino_t ino, FILE *out) {
    switch (ino_kind(ino)) {
    case KIND_README: fputs(readme, out); return 0;
    case KIND_VERSION: fputs("ppfs " PPFS_VERSION "\n", out); return 0;
    default: return -EINVAL;
    }
}
