/* Names of drafts: those that programs give to unfinished files, and those in a .options file. */
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/jobs/job_files.h"
#include "sched/jobs/state.h"

/* Draft names in any case: nobody uses them for finished files. */
static const char *const patterns[] = {
    "?*~",           /* old versions: Emacs, vim, nano */
    "#*#",           /* Emacs's automatic saves */
    "4913",          /* vim's test whether it may make files here */
    "*.swp",         /* vim, for a name that begins with a dot */
    "*___jb_tmp___", /* JetBrains: the new version */
    "*___jb_old___", /* and the old one */
    "*.tmp",
    "*.part",       /* Firefox, curl, KDE */
    "*.crdownload", /* Chrome */
    NULL,
};

/* Draft names only if the file was made as by mkstemp, because a job might be called report.backup. */
#define RANDOM6 "[A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9][A-Za-z0-9]"
static const char *const random_patterns[] = {
    "sed" RANDOM6, /* sed -i */
    "tmp" RANDOM6, /* Emacs, for a careful save */
    "?*." RANDOM6, /* QSaveFile */
    NULL,
};

/* The first pattern that the name matches, or NULL. */
static const char *matching(const char *name, const char *const *list) {
    for (; *list; list++)
        if (fnmatch(*list, name, 0) == 0)
            return *list;
    return NULL;
}

bool name_is_random(const char *name) {
    return matching(name, random_patterns);
}

void drafts_begin(struct sched *s) {
    s->jobs->drafts_said = store_groups_say(s->store, OPTIONS_SAVED_DRAFTS);
}

/* The options of the innermost group with drafts=; the caller owns *out. NULL: none. */
static int said(struct sched *s, uint64_t group, struct options **out) {
    struct group g = {.parent = group};
    *out = NULL;
    for (int depth = 0; s->jobs->drafts_said && depth <= GROUP_LEVELS; depth++) {
        char *saved = NULL;
        uint64_t id = g.parent;
        int rc = store_group_options(s->store, id, &saved);
        bool here = rc == 0 && strstr(saved, OPTIONS_SAVED_DRAFTS);
        if (here && !(*out = options_create()))
            rc = -ENOMEM;
        if (here && rc == 0)
            rc = options_load(*out, saved);
        free(saved);
        if (rc == 0 && here && options_drafts(*out))
            return 0;
        options_destroy(*out);
        *out = NULL;
        if (rc == 0 && id)
            rc = store_group_get(s->store, id, &g);
        if (rc < 0 || !id)
            return rc;
    }
    return 0;
}

/* Whether its name makes it a draft. why: gets a sentence that says so. If that cannot be read, this turn is not
 * committed. */
static bool is_draft(struct sched *s, uint64_t group, const char *name, bool temporary, char *why, size_t size) {
    struct options *o;
    if (*name == '.') { /* rsync, GLib, Syncthing, .~lock.x# of LibreOffice, .#x of Emacs; .options */
        snprintf(why, size, "a draft: names that begin with a dot are not run; rename it to queue it");
        return true;
    }
    if (sched_check(s, said(s, group, &o)) < 0)
        return true;
    const char *const *more = o ? options_drafts(o) : NULL;
    const char *pattern = more ? matching(name, more) : NULL;
    if (pattern) {
        snprintf(why, size, "a draft because of its name: drafts= in .options says so of %.255s; rename it to queue it",
                 pattern);
    } else if (!more || *more) {
        if ((pattern = matching(name, patterns)))
            snprintf(
                why, size,
                "a draft because of its name: %s is what programs call unfinished and old files; rename it to queue it",
                pattern);
        else if (temporary && (pattern = matching(name, random_patterns)))
            snprintf(why, size, "a draft because of its name: it was made as a temporary file; rename it to queue it");
    }
    bool draft = pattern;
    options_destroy(o);
    return draft;
}

bool sched_name_is_draft(struct sched *s, uint64_t group, const char *name) {
    char why[JOB_WHY_MAX];
    return is_draft(s, group, name, false, why, sizeof why);
}

bool draft_stays(struct sched *s, const struct job *j) {
    char why[JOB_WHY_MAX];
    return draft_why(s, j, why, sizeof why);
}

bool draft_why(struct sched *s, const struct job *j, char *why, size_t size) {
    return is_draft(s, j->group, j->name, j->temporary, why, size);
}
