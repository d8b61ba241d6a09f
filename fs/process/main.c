/* ppfs: reads its options, checks what can be checked before there is a mount, then becomes the supervisor. */
#include <commit.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/process/args.h"
#include "fs/process/below.h"
#include "fs/process/supervisor.h"
#include "fs/tree/kinds.h"
#include "fs/log.h"
#include "fs/process/mount.h"
#include "fs/process/quota.h"
#include "fs/handles/shared.h"
#include "fs/process/state.h"
#include "fs/version.h"
#include "net/clock.h"
#include "net/descriptors.h"
#include "net/trusted.h"
#include "sched/db/store_salvage.h"
#include "worker/runner/pyenv.h"
#include "worker/runner/where.h"

/* Goes into the background: the child goes on and reports on *tell; the parent exits with *status. */
static bool go_background(const char *state_dir, int *tell, int *status) {
    int ends[2];
    *status = 1;
    pid_t pid = pipe2(ends, O_CLOEXEC) < 0 ? -1 : fork();
    if (pid < 0) {
        fprintf(stderr, "ppfs: cannot go to the background: %s\n", strerror(errno));
        return false;
    }
    if (pid > 0) {
        close(ends[1]);
        *status = supervisor_wait_ready(ends[0], state_dir);
        return false;
    }
    close(ends[0]);
    *tell = ends[1];
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (null > STDERR_FILENO)
        close(null);
    return chdir("/") == 0;
}

/* A path that the daemon or its workers would look up in the mount: they would wait for themselves. */
static bool is_hidden(const struct args *a, const char *mountpoint, const char *state, const char *python,
                      const char *worker, char *why, size_t why_size) {
    const struct {
        const char *what, *path, *option;
    } used[] = {
        {"the state directory", state, "name another with --state DIR"},
        {"the key", a->key, "keep it elsewhere"},
        {"the workers' Python", python, "name another with --python PATH"},
        {"the program of the workers", worker, "install ppfs elsewhere"},
        {"the directory for temporary files", trusted_temporary(), "set TMPDIR to another"},
    };
    for (size_t i = 0; i < sizeof used / sizeof *used; i++) {
        if (!used[i].path || !(i ? below_leads_through : below)(used[i].path, mountpoint))
            continue;
        snprintf(why, why_size,
                 "cannot mount on %.300s: it would hide %s %.300s from ppfs itself (mount on another directory, or %s)",
                 mountpoint, used[i].what, used[i].path, used[i].option);
        return true;
    }
    return false;
}

static int run(const struct args *a) {
    char why[1024] = "", worker[PATH_MAX], *dir = NULL, *state = NULL, *mountpoint = NULL, *program = NULL;
    struct fs fs = {.uid = geteuid(),
                    .gid = getegid(),
                    .everyone = a->everyone && geteuid() == 0,
                    .started = clock_wall_us(),
                    .began = clock_us()};
    int directory = -1, lock = -1, tell = -1, status = 1;
    bool made = false; /* the state directory */
    size_t size;
    struct quotas quotas = {0};
    struct shared *shared = shared_create();
    if (!shared) {
        snprintf(why, sizeof why, "not enough memory");
        goto out;
    }
    if (mount_session(&fs.session, a->mount_options, &fs, why, sizeof why) != 0) {
        status = 2;
        goto out;
    }
    where_worker(worker);
    if (mount_point(a->mountpoint, &mountpoint, why, sizeof why) != 0 ||
        pyenv_resolve(a->python, &program, why, sizeof why) != 0 || state_path(a->state, &dir, why, sizeof why) != 0 ||
        is_hidden(a, mountpoint, dir, program, worker, why, sizeof why) ||
        trusted_temporary_check(why, sizeof why) != 0)
        goto out;
    made = access(dir, F_OK) < 0 && errno == ENOENT;
    if ((directory = state_open(dir, &state, why, sizeof why)) < 0 ||
        quota_read(&quotas, a->quota, state, why, sizeof why) < 0 ||
        (lock = state_lock(directory, state, why, sizeof why)) < 0)
        goto out;
    if (access(worker, X_OK) < 0) {
        snprintf(why, sizeof why, "%.800s cannot be run: %s (is ppfs installed completely?)", worker, strerror(errno));
        goto out;
    }
    fs.kinds = kinds;
    fs.state_dir = state;
    fs.journal_table = shared_journal(shared);
    fs.no_resend = a->no_resend;
    if (!a->foreground && !go_background(state, &tell, &status)) {
        made = false; /* it is the other process's now */
        goto out;
    }
    if (!a->foreground && log_to_file(directory, state) != 0)
        goto out;
    state_lock_sign(lock, directory, mountpoint);
    atomic_store(shared_trace(shared), a->trace);
    status = supervisor_run(&(struct supervisor_config){.daemon = {.fs = &fs,
                                                                   .shared = shared,
                                                                   .mountpoint = mountpoint,
                                                                   .worker_path = worker,
                                                                   .python = program,
                                                                   .key = a->key,
                                                                   .listen = a->listen,
                                                                   .silence_ms = a->silence_s * 1000,
                                                                   .keep_us = a->keep_us,
                                                                   .keep_results = a->keep_results,
                                                                   .suid_jobs = a->suid_jobs,
                                                                   .node_users = a->node_users,
                                                                   .resources = &a->resources,
                                                                   .quotas = fs.everyone ? &quotas : NULL,
                                                                   .cpus = a->cpus,
                                                                   .sync_full = a->sync_full},
                                                        .tell = tell});
out:
    if (why[0])
        fprintf(stderr, "ppfs: %s\n", why);
    if (status && made && directory >= 0 && !shared_init(shared, &size)) /* nothing was ever mounted */
        state_remove(directory, state);
    if (fs.session)
        fuse_session_destroy(fs.session);
    shared_destroy(shared);
    quota_free(&quotas);
    free(program);
    free(mountpoint);
    free(dir);
    free(state);
    return status;
}

static void print_line(void *arg, const char *line) {
    fprintf(arg, "%s\n", line);
}

/* Whether nobody else can change that state directory, as far as it exists, or has made what is in it: jobs in it run
 * as whom it says, and a link or FIFO in it leads elsewhere. */
static bool is_out_of_reach(const char *dir, bool make) {
    char why[768] = "";
    int fd = trusted_directory(dir, make, why, sizeof why);
    int rc = fd < 0 ? fd : trusted_contents(fd, why, sizeof why);
    if (fd >= 0)
        close(fd);
    if (rc == 0 || rc == -ENOENT)
        return true;
    fprintf(stderr, "ppfs: cannot use %.300s: %s, but a state directory must be out of the reach of others\n", dir,
            why);
    return false;
}

/* Exit status 0: nothing is wrong; 1: something, or it could not be examined. */
static int check(const char *dir) {
    if (!is_out_of_reach(dir, false))
        return 1;
    int rc = store_examine(dir, print_line, stdout);
    if (rc == -EBUSY)
        fprintf(stderr, "ppfs: %s is in use by a ppfs: unmount that first\n", dir);
    else if (rc < 0)
        fprintf(stderr, "ppfs: there is no database of a ppfs in %s: %s\n", dir, strerror(-rc));
    return fflush(stdout) != 0 || rc != 0;
}

/* Exit status 0: all of it was whole; 1: something stays behind; 2: there is no new directory. */
static int salvage(char *const dirs[2]) {
    bool there = access(dirs[1], F_OK) == 0;
    if (!is_out_of_reach(dirs[0], false) || !is_out_of_reach(dirs[1], true))
        return 2;
    int rc = store_salvage(dirs[0], dirs[1], print_line, stdout);
    if (rc < 0 && !there)
        rmdir(dirs[1]);
    if (rc == -EBUSY)
        fprintf(stderr, "ppfs: %s is in use by a ppfs: unmount that first\n", dirs[0]);
    else if (rc == -ENOTEMPTY)
        fprintf(stderr, "ppfs: %s is not empty: name a directory that is not there\n", dirs[1]);
    else if (rc == -EPROTO)
        fprintf(stderr, "ppfs: the database in %s is that of another version of ppfs: use that version\n", dirs[0]);
    else if (rc < 0)
        fprintf(stderr, "ppfs: %s could not be salvaged into %s: %s\n", dirs[0], dirs[1], strerror(-rc));
    return fflush(stdout) != 0 || rc < 0 ? 2 : rc > 0;
}

int main(int argc, char **argv) {
    struct args a;
    int status = 0;
    descriptors_standard();
    descriptors_raise();
    if (args_read(&a, argc, argv) != 0)
        return 2;
    if (a.help)
        args_help();
    else if (a.version)
        puts("ppfs " PPFS_VERSION PPFS_COMMIT);
    else if (a.check)
        status = check(a.check);
    else if (a.salvage[0])
        status = salvage(a.salvage);
    else
        status = run(&a);
    args_free(&a);
    return status;
}
