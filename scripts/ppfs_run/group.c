/* A group is a directory in jobs/: filled under a name that does not run, and renamed, so that all of it is queued or
 * nothing. Its jobs have the numbers of their items. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net/printable.h"
#include "scripts/ppfs_run/run.h"

enum {
    FAILED_MAX = 101, /* as parallel(1): so many failed; this: more than 100 */
    FAILED = NSIG,    /* beside what follow returns */
    MANY = 32,        /* from so many items on, one that runs is shown after PAUSE_MS: others end meanwhile */
    PAUSE_MS = 20,
    PROGRESS_LINE = 512,
};

static bool path_of(char path[PATH_MAX], const char *mount, const char *folder, const char *name) {
    return (size_t)snprintf(path, PATH_MAX, "%s/%s/%s", mount, folder, name) < PATH_MAX;
}

/* shown: the line before; a log gets each once, a terminal again, for what the jobs print stands over it */
static int show_progress(const char *mount, const char *name, char shown[PROGRESS_LINE]) {
    char path[PATH_MAX], line[PROGRESS_LINE] = "";
    FILE *f = path_of(path, mount, "info", name) && strlen(path) + 11 < sizeof path
                  ? fopen(strcat(path, "/.progress"), "re")
                  : NULL;
    if (!f)
        return -1;
    if (fgets(line, sizeof line, f) && (strcmp(line, shown) != 0 || isatty(STDERR_FILENO)))
        fprintf(stderr, isatty(STDERR_FILENO) ? "\r\033[K%.*s" : "%.*s\n", (int)strcspn(line, "\n"), line);
    strcpy(shown, line);
    fclose(f);
    return 0;
}

struct beat {
    const char *mount, *name;
    time_t last;
    char shown[PROGRESS_LINE];
};

static void on_beat(void *arg) {
    struct beat *b = arg;
    b->last = time(NULL);
    show_progress(b->mount, b->name, b->shown);
}

/* All that is below a directory, a name relative to it each. Returns how many act refused, or -errno. */
static int each(const char *root, int (*act)(void *arg, const char *path, const char *below), void *arg) {
    char *roots[] = {(char *)root, NULL};
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int refused = 0, rc = tree ? 0 : -errno;
    for (FTSENT *e; tree && rc == 0 && (e = fts_read(tree));) {
        if (e->fts_info == FTS_ERR || e->fts_info == FTS_DNR)
            rc = -e->fts_errno;
        else if (e->fts_info == FTS_NS && e->fts_level == 0)
            rc = -ENOENT;
        else if ((e->fts_info == FTS_F || e->fts_info == FTS_NS) && e->fts_name[0] != '.')
            refused += act(arg, e->fts_path, e->fts_path + strlen(root) + (e->fts_level > 0)) != 0;
    }
    if (tree)
        fts_close(tree);
    return rc < 0 ? rc : refused;
}

static int remove_draft(const char *path) {
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    return rmdir(path);
}

/* What the group's own options say. 0 or -errno. */
static int write_limits(const char *draft, const struct run_args *a) {
    char path[PATH_MAX];
    if (!a->max && !a->max_fails)
        return 0;
    if ((size_t)snprintf(path, sizeof path, "%s/.options", draft) >= sizeof path)
        return -ENAMETOOLONG;
    FILE *f = fopen(path, "we");
    if (!f)
        return -errno;
    if (a->max)
        fprintf(f, "max=%u\n", a->max);
    if (a->max_fails)
        fprintf(f, "max_fails=%u\n", a->max_fails);
    return fclose(f) < 0 ? -errno : 0;
}

/* Fills the draft. 0 or -errno. */
static int fill(const char *draft, const struct run_args *a, int digits) {
    char path[PATH_MAX];
    char *head = script_head(a->options);
    int rc = head ? 0 : -ENOMEM;
    for (size_t i = 0; rc == 0 && a->items[i]; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s/%0*zu", draft, digits, i + 1) >= sizeof path)
            rc = -ENAMETOOLONG;
        else
            rc = script_write(path, head, a->command, a->items[i], a->array ? strtoul(a->items[i], NULL, 10) : i + 1,
                              -1);
        if (rc == 0 && follow_caught())
            rc = -EINTR;
    }
    free(head);
    return rc;
}

/* The parents of a name with slashes. */
static void make_parents(char *path, size_t from) {
    for (char *slash = path + from; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
}

static int submit(const char *mount, const struct run_args *a, int digits) {
    char path[PATH_MAX], draft[PATH_MAX];
    const char *base = strrchr(a->name, '/');
    int rc = 0;
    base = base ? base + 1 : a->name;
    if (!path_of(path, mount, "jobs", a->name) ||
        (size_t)snprintf(draft, sizeof draft, "%.*s.%s.%ld", (int)(strlen(path) - strlen(base)), path, base,
                         (long)getpid()) >= sizeof draft)
        return -ENAMETOOLONG;
    make_parents(path, strlen(mount) + strlen("/jobs/"));
    if (mkdir(draft, 0777) < 0)
        return -errno;
    if (access(path, F_OK) == 0)
        rc = -EEXIST; /* rename would take an empty directory's place */
    if (rc == 0)
        rc = write_limits(draft, a);
    if (rc == 0)
        rc = fill(draft, a, digits);
    if (rc == 0 && rename(draft, path) < 0)
        rc = errno == ENOTEMPTY || errno == EEXIST ? -EEXIST : -errno;
    if (rc < 0)
        remove_draft(draft);
    return rc;
}

/* One file for all. 0 or -errno */
static int submit_array(const char *mount, const struct run_args *a) {
    char path[PATH_MAX], limit[16] = "", *options = NULL, *head = NULL;
    if (!path_of(path, mount, "jobs", a->name))
        return -ENAMETOOLONG;
    make_parents(path, strlen(mount) + strlen("/jobs/"));
    if (a->max)
        snprintf(limit, sizeof limit, "%%%u", a->max);
    if (asprintf(&options, "%s%sarray=%s%s", a->options ? a->options : "", a->options ? " " : "", a->array, limit) < 0)
        return -ENOMEM;
    head = script_head(options);
    int rc = head ? script_write(path, head, a->command, script_index, 0, -1) : -ENOMEM;
    free(head);
    free(options);
    return rc == -EISDIR ? -EEXIST : rc;
}

static void cancel(const char *mount, const char *name, int number) {
    group_cancel(mount, name);
    group_wait(mount, name);
    follow_die(number);
}

/* Of many, those that have ended meanwhile are not opened where there is nothing to show. 0, FAILED, or as follow. */
static int show_one(const char *mount, const char *name, bool many, struct beat *beat) {
    struct follow_known known, *k = many && follow_ended(mount, name, &known) ? &known : NULL;
    if (many && !k && follow_ready(NULL, 0, PAUSE_MS) == 0 && follow_ended(mount, name, &known))
        k = &known;
    if (beat && time(NULL) > beat->last)
        on_beat(beat);
    int rc = follow_caught();
    if (!rc && !(k && k->silent[0] && k->silent[1]))
        rc = follow(mount, name, k, beat ? on_beat : NULL, beat);
    return rc || (k && k->done) || follow_status(mount, name) == 0 ? rc : FAILED;
}

int group_run(const char *mount, const struct run_args *a) {
    struct beat beat = {mount, a->name, time(NULL), ""};
    char name[PATH_MAX], path[PATH_MAX];
    size_t count = 0;
    while (a->items && a->items[count])
        count++;
    int digits = snprintf(NULL, 0, "%zu", count), rc = 0, failed = 0;
    if (a->items && !count)
        return run_cannot("there are no items for %s", a->name);
    follow_signals();
    rc = a->items ? submit(mount, a, digits) : submit_array(mount, a);
    if (rc == -EINTR)
        follow_die(follow_caught());
    if (rc < 0)
        return run_cannot("group %s was not taken: %s%s", a->name, strerror(-rc),
                          rc == -EEXIST ? " (rm -r of it in info/ forgets one that has ended)" : "");
    snprintf(name, sizeof name, a->items ? "%s/%0*d" : "%s", a->name, digits, 1);
    if (a->detach || !a->items)
        rc = follow_taken(mount, name);
    if (a->detach && rc == 0 && (puts(a->name) < 0 || fflush(stdout)))
        rc = run_cannot("cannot print the name: %s", strerror(errno));
    if (a->detach || rc)
        return rc;
    size_t first = a->items ? 1 : a->first, last = a->items ? count : a->last;
    if (!a->items)
        rc = follow_begun(mount, a->name);
    if (rc == RUN_CANNOT)
        return rc;
    for (size_t i = first; i <= last && rc == 0; i++) {
        snprintf(name, sizeof name, "%s/%0*zu", a->name, a->items ? digits : 1, i);
        rc = show_one(mount, name, last - first >= MANY, a->progress ? &beat : NULL);
        failed += rc == FAILED;
        rc = rc == FAILED ? 0 : rc;
    }
    if (rc > 0)
        cancel(mount, a->name, rc);
    if (a->progress && show_progress(mount, a->name, beat.shown) == 0 && isatty(STDERR_FILENO))
        fputc('\n', stderr);
    if (rc == -ENOENT && path_of(path, mount, "jobs", a->name) && access(path, F_OK) == 0)
        return run_cannot("%s was forgotten, by rm, keep= or --keep-results, before it was shown (all goes on)", name);
    if (rc < 0)
        return run_cannot("cannot show what %s prints: %s (all goes on)", name, strerror(-rc));
    return failed < FAILED_MAX ? failed : FAILED_MAX;
}

/* Whether there is such a group or job. */
static bool exists(const char *mount, const char *name) {
    char path[PATH_MAX];
    if (path_of(path, mount, "info", name) && access(path, F_OK) == 0)
        return true;
    run_cannot("there is no job and no group %s", name);
    return false;
}

int group_wait(const char *mount, const char *name) {
    char path[PATH_MAX], line[256] = "";
    unsigned long done = 0, failed = 0, cancelled = 0;
    if (!path_of(path, mount, "info", name) || strlen(path) + 7 >= sizeof path)
        return run_cannot("%s: %s", name, strerror(ENAMETOOLONG));
    FILE *f = fopen(strcat(path, "/.wait"), "re");
    if (!f && (errno == ENOENT || errno == ENOTDIR))
        return exists(mount, name) ? follow_status(mount, name) : RUN_CANNOT;
    if (!f || !fgets(line, sizeof line, f) ||
        sscanf(line, "done %lu failed %lu cancelled %lu", &done, &failed, &cancelled) < 2) {
        int error = errno;
        if (f)
            fclose(f);
        return run_cannot("cannot wait for %s: %s", name, strerror(error));
    }
    fclose(f);
    failed += cancelled;
    return failed < FAILED_MAX ? (int)failed : FAILED_MAX;
}

static int print_name(void *arg, const char *path, const char *below) {
    char text[PATH_MAX];
    snprintf(text, sizeof text, "%s", below);
    if (isatty(STDOUT_FILENO))
        printable(text, sizeof text);
    return puts(text) < 0;
}

static int gone_or(const char *name, const char *what, int rc) {
    return rc == -ENOENT ? 0 : run_cannot("cannot %s %s: %s", what, name, strerror(-rc));
}

int group_failed(const char *mount, const char *name) {
    char root[PATH_MAX];
    if (!exists(mount, name) || !path_of(root, mount, "failures", name))
        return RUN_CANNOT;
    int rc = each(root, print_name, NULL);
    return rc < 0 ? gone_or(name, "list", rc) : 0;
}

static int move_back(void *arg, const char *path, const char *below) {
    char to[PATH_MAX];
    const char *jobs = arg;
    if ((size_t)snprintf(to, sizeof to, "%s%s%s", jobs, *below ? "/" : "", below) < sizeof to && rename(path, to) == 0)
        return 0;
    run_cannot("%s was not run again: %s", path, strerror(errno));
    return -1;
}

int group_retry(const char *mount, const char *name) {
    char root[PATH_MAX], jobs[PATH_MAX];
    if (!exists(mount, name) || !path_of(root, mount, "failures", name) || !path_of(jobs, mount, "jobs", name))
        return RUN_CANNOT;
    int rc = each(root, move_back, jobs);
    if (rc < 0)
        return gone_or(name, "run again", rc);
    return rc ? RUN_CANNOT : 0;
}

static int remove_one(void *arg, const char *path, const char *below) {
    if (unlink(path) == 0 || errno == ENOENT) /* it has ended by now */
        return 0;
    run_cannot("%s was not cancelled: %s", path, strerror(errno));
    return -1;
}

/* How many of a group have not ended; 0 for a job. */
static unsigned long rest_of(const char *mount, const char *name) {
    char path[PATH_MAX];
    unsigned long running = 0, waiting = 0;
    FILE *f = path_of(path, mount, "info", name) && strlen(path) + 11 < sizeof path
                  ? fopen(strcat(path, "/.progress"), "re")
                  : NULL;
    if (f && fscanf(f, "done %*u failed %*u running %lu waiting %lu", &running, &waiting) < 2)
        running = 0;
    if (f)
        fclose(f);
    return running + waiting;
}

int group_cancel(const char *mount, const char *name) {
    char root[PATH_MAX];
    if (!exists(mount, name) || !path_of(root, mount, "jobs", name))
        return RUN_CANNOT;
    int rc = each(root, remove_one, NULL);
    if (rc >= 0 && rest_of(mount, name)) /* of an array, what is no job yet goes with the directory */
        rmdir(root);
    if (rc < 0)
        return gone_or(name, "cancel", rc);
    return rc ? RUN_CANNOT : 0;
}
