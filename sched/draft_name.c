/* The names that programs give to what is not finished. */
#include <fnmatch.h>
#include <string.h>

#include "sched/job.h"

/* By these alone: nobody gives them to what is meant. */
static const char *const patterns[] = {
    ".*",            /* rsync, vim's swap files, GLib, Syncthing, .~lock.x# of LibreOffice, .#x of Emacs */
    "?*~",           /* the old file: Emacs, vim, nano */
    "#*#",           /* Emacs saves by itself */
    "4913",          /* vim asks whether it may make files here */
    "*.swp",         /* vim, of a name that begins with a dot already */
    "*___jb_tmp___", /* JetBrains: the new one */
    "*___jb_old___", /* and the old one */
    "*.tmp",
    "*.part",        /* Firefox, curl, KDE */
    "*.crdownload",  /* Chrome */
};

/* These only of a file that was made as mkstemp makes it: a job might be called report.backup. */
#define RANDOM6 "[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]"
static const char *const random_patterns[] = {
    "sed" RANDOM6, /* sed -i */
    "tmp" RANDOM6, /* Emacs, where it is to be careful */
    "?*." RANDOM6, /* QSaveFile */
};

static bool matches(const char *name, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (fnmatch(list[i], name, 0) == 0)
            return true;
    return false;
}

bool name_is_draft(const char *name) {
    return matches(name, patterns, sizeof patterns / sizeof *patterns);
}

bool name_is_random(const char *name) {
    return matches(name, random_patterns, sizeof random_patterns / sizeof *random_patterns);
}

bool job_stays_draft(const struct job *j) {
    return name_is_draft(j->name) || (j->temporary && name_is_random(j->name));
}
