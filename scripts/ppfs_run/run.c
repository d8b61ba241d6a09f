#include "scripts/ppfs_run/run.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/version.h"

enum { NAME_SHOWN = 64 };

/* That of the command, with so much behind it that nobody else has it. */
static void make_name(const char *command, char *name, size_t size) {
    const char *slash = strrchr(command, '/');
    uint32_t random = 0;
    if (getrandom(&random, sizeof random, 0) < 0)
        random = (uint32_t)getpid();
    snprintf(name, size, "%.*s-%08" PRIx32, NAME_SHOWN, slash && slash[1] ? slash + 1 : command, random);
    for (char *c = name; *c; c++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+", *c))
            *c = '_';
    if (*name == '.' || *name == '-')
        *name = '_';
}

/* Standard input, where it is a file or a pipe that the job is to have; -1: it has none. */
static int input_of(const struct run_args *a) {
    struct stat st;
    if (a->no_stdin || fstat(STDIN_FILENO, &st) < 0)
        return -1;
    return S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode) ? STDIN_FILENO : -1;
}

static int refused(const char *path, int rc) {
    return run_cannot("%s was not taken: %s%s", path, strerror(-rc),
                      rc == -EEXIST ? " (there is one of that name; rm -r of it in info/ forgets it)" : "");
}

/* Cancels it, waits until nothing of it runs, forgets it, and ends us as the signal would have. */
static void cancel(const char *mount, const char *path, const char *info, const char *name, int number) {
    unlink(path);
    follow_end(mount, name);
    rmdir(info);
    follow_die(number);
}

static int run_command(const char *mount, const struct run_args *a) {
    char name[NAME_SHOWN + 16], path[PATH_MAX], info[PATH_MAX];
    char *head = script_head(a->options);
    make_name(a->command[0], name, sizeof name);
    snprintf(info, sizeof info, "%s/info/%s", mount, name);
    if ((size_t)snprintf(path, sizeof path, "%s/jobs/%s", mount, name) >= sizeof path || !head) {
        free(head);
        return run_cannot(head ? "%s is too long" : "not enough memory for %s", path);
    }
    follow_signals();
    int rc = script_write(path, head, a->command, NULL, 0, input_of(a));
    free(head);
    if (rc < 0 && follow_caught())
        follow_die(follow_caught());
    if (rc < 0)
        return refused(path, rc);
    if (a->detach) {
        rc = follow_taken(mount, name);
        if (rc != 0)
            rmdir(info);
        else if (puts(name) < 0 || fflush(stdout))
            rc = run_cannot("cannot print the name %s: %s", name, strerror(errno));
        return rc;
    }
    rc = follow(mount, name, NULL, NULL, NULL);
    if (rc > 0)
        cancel(mount, path, info, name, rc);
    if (rc < 0)
        return run_cannot("cannot show what %s prints: %s (its result is kept)", name, strerror(-rc));
    int status = follow_status(mount, name);
    rmdir(info); /* it is forgotten: all was shown */
    return status;
}

int main(int argc, char **argv) {
    struct run_args a;
    char *mount = NULL;
    int status = args_read(&a, argc, argv);
    if (status == 0 && a.what == RUN_HELP) {
        args_help();
        return 0;
    }
    if (status == 0 && a.what == RUN_VERSION) {
        puts("ppfs-run " PPFS_VERSION);
        return 0;
    }
    if (status == 0 && !(mount = find_mount(a.mount)))
        status = RUN_CANNOT;
    if (status == 0) {
        switch (a.what) {
        case RUN_WAIT: status = group_wait(mount, a.name); break;
        case RUN_FAILED: status = group_failed(mount, a.name); break;
        case RUN_RETRY: status = group_retry(mount, a.name); break;
        case RUN_CANCEL: status = group_cancel(mount, a.name); break;
        default: status = a.name ? group_run(mount, &a) : run_command(mount, &a);
        }
    }
    free(mount);
    args_free(&a);
    return status;
}
