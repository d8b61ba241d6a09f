
#include "fs/tree/renames.h"

#include <string.h>

#include "net/clock.h"

#define FIRST_LOOKUP_MS 10000 /* a busy machine delays mv's second look */
#define MORE_LOOKUPS_MS 1000

static struct renaming *find(struct fs *fs, pid_t pid) {
    for (unsigned i = 0; pid > 0 && i < RENAMES; i++)
        if (fs->renames[i].pid == pid)
            return &fs->renames[i];
    return NULL;
}

void renames_note(struct fs *fs, pid_t pid, uint64_t group, const char *name) {
    struct renaming *r = find(fs, pid);
    if (pid <= 0 || strlen(name) > JOB_NAME_MAX)
        return;
    if (!r)
        r = &fs->renames[fs->renames_next++ % RENAMES];
    *r = (struct renaming){.pid = pid, .group = group, .until = clock_ms() + FIRST_LOOKUP_MS};
    strcpy(r->name, name);
}

void renames_end(struct fs *fs, pid_t pid) {
    struct renaming *r = find(fs, pid);
    if (r)
        r->pid = 0;
}

bool renames_has(struct fs *fs, pid_t pid, uint64_t group, const char *name) {
    const struct renaming *r = find(fs, pid);
    return r && r->group == group && strcmp(r->name, name) == 0 && clock_ms() < r->until;
}

void renames_found(struct fs *fs, pid_t pid) {
    struct renaming *r = find(fs, pid);
    if (r && !r->found)
        r->until = clock_ms() + MORE_LOOKUPS_MS;
    if (r)
        r->found = true;
}
