/* Directories, users and environments of jobs. What runs as root here for another user's job is written with that in
 * mind: the job's directory is probed as that user, files are made with descriptors, and a directory is removed without
 * ever following a link. System calls are made raw where glibc would send signals to other threads. */
#include "worker/forkserver/job_environment.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/io.h"
#include "worker/forkserver/removal.h"
#include "worker/forkserver/sandbox.h"

enum { ROOT_MAX = PATH_MAX - 64, ROOT_CHANCE = 6 /* characters that mkdtemp chose */ };

/* Read by OpenMP, the BLAS libraries and numexpr when they are loaded. All of them follow the first where their own is
 * not set, so one who sets that has set all. */
static const char *const thread_names[] = {"OMP_NUM_THREADS",  "OPENBLAS_NUM_THREADS",   "MKL_NUM_THREADS",
                                           "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS"};
enum { THREAD_NAMES = sizeof(thread_names) / sizeof(thread_names[0]) };

static struct {
    bool threads_given[THREAD_NAMES]; /* set by whoever mounted */
    char root[ROOT_MAX];
    uint64_t serial;
    /* where this worker keeps the programs of its own user's jobs, one at a time; "" not yet made */
    char tool[PATH_MAX];
} me;

/* Takes on the job's user. 0 or -1 with errno. */
static int become_user(const struct job_environment *p) {
    return p->other ? login_become(&p->user) : 0;
}

/* In the child of vfork, which shares our memory: becomes the job's user and enters p->cwd. plain: resolves that name,
 * unless the result is too long. */
static void try_cwd(struct job_environment *p, bool plain) {
    char real[PATH_MAX];

    if (become_user(p) || chdir(p->cwd))
        _exit(1);
    if (plain && syscall(SYS_getcwd, real, sizeof(real)) > 0 && real[0] == '/')
        strcpy(p->cwd, real);
    _exit(0);
}

/* Whether the job's user may enter p->cwd: a child tries it, and resolves the name, as that user. */
static __attribute__((noinline)) bool may_enter(struct job_environment *p, bool plain) {
    int status;
    pid_t pid = vfork();

    if (pid == 0)
        try_cwd(p, plain);
    while (pid > 0 && waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return pid > 0 && status == 0;
}

/* Makes the root again where a cleaner of /tmp has removed it. A directory that somebody else has made there meanwhile
 * is not used. */
static int ensure_root(void) {
    struct stat st;

    if (mkdir(me.root, 0711) == 0)
        return 0;
    if (errno != EEXIST || lstat(me.root, &st))
        return -1;
    if (S_ISDIR(st.st_mode) && st.st_uid == geteuid() && !(st.st_mode & 022))
        return 0;
    errno = EEXIST;
    return -1;
}

/* A fresh directory of the job's user. 0 or -1 with errno. */
static int make_directory(const struct job_environment *p, char path[PATH_MAX]) {
    char *made = NULL;

    for (int again = 0; again < 2 && !made; again++) {
        snprintf(path, PATH_MAX, "%s/%" PRIu64 "-XXXXXX", me.root, me.serial);
        made = mkdtemp(path);
        if (!made && (errno != ENOENT || ensure_root()))
            break;
    }
    if (!made) {
        path[0] = 0;
        return -1;
    }
    if (p->other && lchown(path, p->user.uid, p->user.gid)) {
        int saved = errno;
        rmdir(path);
        path[0] = 0;
        errno = saved;
        return -1;
    }
    return 0;
}

int environment_file(void) {
    int fd = open(me.root, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    return fd >= 0 ? fd : memfd_create("ppfs-files", MFD_CLOEXEC);
}

/* Where removal_tree may put what lies deep. */
static const char *spare(void) {
    static char prefix[PATH_MAX];

    snprintf(prefix, sizeof(prefix), "%s/%" PRIu64 "-deep-", me.root, me.serial);
    return prefix;
}

static void remove_tree(int parent, const char *name) {
    removal_tree(parent, name, spare());
}

void environment_root(const char *root) {
    snprintf(me.root, sizeof(me.root), "%s", root);
}

void environment_clear_root(bool itself) {
    if (ensure_root())
        return;
    if (itself)
        remove_tree(AT_FDCWD, me.root);
    else /* the root itself stays, because the pool has it locked */
        removal_inside(me.root, spare());
}

/* Removes, or only finds, what is named after a worker. Returns whether there was something. */
static bool find_left(uint64_t serial, bool and_remove) {
    char prefix[32];
    bool found = false;
    DIR *dir = opendir(me.root);
    size_t len = (size_t)snprintf(prefix, sizeof(prefix), "%" PRIu64 "-", serial);

    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, prefix, len) != 0)
            continue;
        found = true;
        if (and_remove)
            remove_tree(dirfd(dir), e->d_name);
    }
    if (dir)
        closedir(dir);
    return found;
}

bool environment_left_by(uint64_t serial) {
    return find_left(serial, false);
}

void environment_clear(uint64_t serial) {
    find_left(serial, true);
}

void environment_sweep(void) {
    const char *base = strrchr(me.root, '/') + 1;
    size_t len = strlen(base);
    char parent[ROOT_MAX];
    struct stat st;

    snprintf(parent, sizeof(parent), "%.*s", (int)(base - me.root), me.root);
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strlen(e->d_name) != len || strncmp(e->d_name, base, len - ROOT_CHANCE) != 0 ||
            strcmp(e->d_name, base) == 0)
            continue;
        int fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid() && flock(fd, LOCK_EX | LOCK_NB) == 0)
            remove_tree(dirfd(dir), e->d_name);
        if (fd >= 0)
            close(fd);
    }
    if (dir)
        closedir(dir);
}

void environment_begin_worker(uint64_t serial) {
    me.serial = serial;
}

/* --- environment ------------------------------------------------------------------------------------------------ */
static size_t count_of(const char *const *list) {
    size_t n = 0;
    while (list && list[n])
        n++;
    return n;
}

static bool add_pair(char **env, size_t *at, const char *key, const char *value) {
    if (asprintf(&env[*at], "%s=%s", key, value) < 0) {
        env[*at] = NULL;
        return false;
    }
    (*at)++;
    return true;
}

void environment_threads(void) {
    const char *all = getenv(thread_names[0]);

    for (size_t i = 0; i < THREAD_NAMES; i++) {
        me.threads_given[i] = all || getenv(thread_names[i]);
        setenv(thread_names[i], all ? all : "1", 0);
    }
    setenv(ENV_CPUS, "1", 1);
}

/* The last value of that name in pairs, or NULL. */
static const char *value_in(const char *const *pairs, const char *name) {
    size_t len = strlen(name);
    const char *value = NULL;

    for (size_t i = 0; pairs && pairs[i]; i++)
        if (strncmp(pairs[i], name, len) == 0 && pairs[i][len] == '=')
            value = pairs[i] + len + 1;
    return value;
}

/* Adds what this job has other than environment_threads() says. False: without memory. */
static bool add_threads(struct job_environment *p, const struct work *w, size_t *at) {
    const char *cpus = value_in(w->env, ENV_CPUS), *all = value_in(w->env, thread_names[0]);
    const char *number = cpus ? cpus : "1";
    bool fine = cpus || !p->other || add_pair(p->env, at, ENV_CPUS, number);

    if (!cpus && !all && !p->other)
        return true;
    for (size_t i = 0; fine && i < THREAD_NAMES; i++)
        if (!value_in(w->env, thread_names[i]) && (all || p->other || !me.threads_given[i]))
            fine = add_pair(p->env, at, thread_names[i], all ? all : number);
    return fine;
}

/* p->env, each pair malloc'd. */
static int fill_env(struct job_environment *p, const struct work *w) {
    size_t extra = count_of(w->env), login = count_of((const char *const *)p->user.env), at = 0;
    char attempt[16];
    bool fine = true;

    p->env = calloc(login + extra + THREAD_NAMES + 7, sizeof(*p->env));
    if (!p->env)
        return -1;
    snprintf(attempt, sizeof(attempt), "%u", (unsigned)w->attempt);
    for (size_t i = 0; fine && i < login; i++)
        fine = (p->env[at++] = strdup(p->user.env[i]));
    fine = fine && add_pair(p->env, &at, "PPFS_JOB", w->name) && add_pair(p->env, &at, "PPFS_ATTEMPT", attempt) &&
           add_pair(p->env, &at, "PPFS_NODE", w->node) && add_pair(p->env, &at, "PWD", p->cwd) &&
           ((!w->files_in && !w->files_out) || add_pair(p->env, &at, "PPFS_DIR", p->cwd)) && add_threads(p, w, &at);
    for (size_t i = 0; fine && i < extra; i++)
        fine = (p->env[at++] = strdup(w->env[i]));
    return fine ? 0 : -1;
}

static void free_env(struct job_environment *p) {
    for (size_t i = 0; p->env && p->env[i]; i++)
        free(p->env[i]);
    free(p->env);
    p->env = NULL;
}

/* Where in env (count long) the key of pair is, or count. */
static size_t find_key(char **env, size_t count, const char *pair) {
    size_t len = strcspn(pair, "=") + 1;
    for (size_t i = 0; i < count; i++)
        if (strncmp(env[i], pair, len) == 0)
            return i;
    return count;
}

char **environment_environ(const struct job_environment *p) {
    char *none[] = {NULL}, **base = p->other ? none : environ;
    size_t count = count_of((const char *const *)base);
    char **env = malloc((count + count_of((const char *const *)p->env) + 1) * sizeof(*env));

    if (!env)
        return NULL;
    if (count)
        memcpy(env, base, count * sizeof(*env));
    for (size_t i = 0; p->env && p->env[i]; i++) {
        size_t at = find_key(env, count, p->env[i]);
        env[at] = p->env[i];
        count += at == count;
    }
    env[count] = NULL;
    return env;
}

/* --- opening and closing ---------------------------------------------------------------------------------------- */
/* Whether cwd must be resolved before $PWD may have it: shells and make accept symbolic links there, but no ".", ".."
 * or double slash. */
static bool is_crooked(const char *cwd) {
    size_t len = strlen(cwd);

    return strstr(cwd, "//") || strstr(cwd, "/./") || strstr(cwd, "/../") || (len > 1 && cwd[len - 1] == '/') ||
           (len > 1 && strcmp(cwd + len - 2, "/.") == 0) || (len > 2 && strcmp(cwd + len - 3, "/..") == 0);
}

/* Enters p->cwd, and resolves its name where it must be. */
static bool enter_own(struct job_environment *p) {
    char real[PATH_MAX];

    if (chdir(p->cwd))
        return false;
    if (is_crooked(p->cwd) && getcwd(real, sizeof(real)))
        strcpy(p->cwd, real);
    return true;
}

static int fill_cwd(struct job_environment *p, const struct work *w, char *why, size_t size) {
    if (w->cwd[0] == '/' && strlen(w->cwd) < PATH_MAX) {
        strcpy(p->cwd, w->cwd);
        if (p->other ? may_enter(p, is_crooked(p->cwd)) : enter_own(p))
            return 0;
    }
    if (w->cwd_required) {
        snprintf(why, size, "cwd: there is no directory %.300s here that the job may enter", w->cwd);
        return -1;
    }
    if (make_directory(p, p->cwd) || (!p->other && chdir(p->cwd))) {
        snprintf(why, size, "no directory could be made for the job in %.300s: %s", me.root, strerror(errno));
        return -1;
    }
    p->cwd_is_ours = true;
    return 0;
}

int environment_open(struct job_environment *p, const struct work *w, char *why, size_t why_size) {
    *p = (struct job_environment){.memory = w->memory, .sandbox = w->sandbox, .other = w->uid != geteuid()};

    if (p->sandbox && sandbox_check(p->sandbox, why, why_size))
        return -1;
    p->sandbox_abi = p->sandbox ? sandbox_abi() : 0;
    if (p->other && login_open(&p->user, w->uid, w->gid, why, why_size))
        goto fail;
    if (fill_cwd(p, w, why, why_size))
        goto fail;
    if (work_isolated(w) && fill_env(p, w)) {
        snprintf(why, why_size, "no memory for the environment of the job");
        goto fail;
    }
    return 0;
fail:
    environment_close(p);
    return -1;
}

void environment_drop_script(struct job_environment *p) {
    if (p->tool[0])
        remove_tree(AT_FDCWD, p->tool);
    else if (p->script)
        unlink(p->script);
    p->tool[0] = 0;
    free(p->script);
    p->script = NULL;
}

void environment_close(struct job_environment *p) {
    int saved = errno;

    if (p->cwd_is_ours)
        remove_tree(AT_FDCWD, p->cwd);
    environment_drop_script(p);
    p->cwd_is_ours = false;
    login_close(&p->user);
    free_env(p);
    errno = saved;
}

/* --- the program of a job --------------------------------------------------------------------------------------- */
static int copy_all(int to, int from, off_t at) {
    ssize_t n;

    while ((n = sendfile(to, from, &at, 1 << 30)) != 0)
        if (n < 0 && errno != EINTR)
            return -1;
    return 0;
}

/* Size of a byte order mark, which is left out: the kernel finds no #! behind one, and would run the file by /bin/sh or
 * not at all. */
static size_t mark_of(int fd, const void *bytes, size_t size) {
    char head[3];

    if (fd >= 0)
        size = pread(fd, head, sizeof(head), 0) == sizeof(head) ? sizeof(head) : 0;
    return size >= 3 && memcmp(fd >= 0 ? head : bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
}

/* Opens the directory that is to hold the program; *path is its name. A descriptor, or -1 with errno. */
static int open_tool(struct job_environment *p, const char **path) {
    if (p->other) {
        *path = p->tool;
        return make_directory(p, p->tool) ? -1 : open(p->tool, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    }
    int fd = me.tool[0] ? open(me.tool, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
    *path = me.tool;
    if (fd < 0 && make_directory(p, me.tool) == 0)
        fd = open(me.tool, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    return fd;
}

int environment_script(struct job_environment *p, const char *name, int fd, const void *bytes, size_t size, char *why,
                       size_t why_size) {
    const char *base = strrchr(name, '/') ? strrchr(name, '/') + 1 : name, *path;
    int file = -1, err = -1, dir = open_tool(p, &path);
    size_t mark = mark_of(fd, bytes, size);

    if (dir < 0 || asprintf(&p->script, "%s/%s", path, base) < 0)
        goto out;
    file = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
    if (file < 0 && errno == EEXIST) { /* left by a job of the same user, the only one who can write here */
        remove_tree(dir, base);
        file = openat(dir, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0700);
    }
    if (file < 0 ||
        (fd >= 0 ? copy_all(file, fd, (off_t)mark)
                 : io_write(file, (const uint8_t *)bytes + mark, size - mark, IO_NEXT)) ||
        fchmod(file, 0700) || (p->other && fchown(file, p->user.uid, p->user.gid)))
        goto out;
    err = 0;
out:
    if (err)
        snprintf(why, why_size, "the program could not be written to %.200s: %s", me.root, strerror(errno));
    if (file >= 0)
        close(file);
    if (dir >= 0)
        close(dir);
    return err;
}

const char *environment_enter(const struct job_environment *p) {
    struct rlimit limit = {.rlim_cur = p->memory, .rlim_max = p->memory};
    sigset_t none;

    sigemptyset(&none);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGXFSZ, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (p->other) /* so that no process of another user can join its process group */
        setsid();
    else
        setpgid(0, 0);
    if (become_user(p))
        return "take on the job's user";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL)) /* after the change of user, which clears it */
        return "be bound to its worker";
    if (chdir(p->cwd))
        return "enter its directory";
    if (p->memory && setrlimit(RLIMIT_AS, &limit))
        return "limit its memory";
    if (p->sandbox && sandbox_enter(p->sandbox, p->sandbox_abi))
        return errno == EISDIR ? "keep to its own directory, for that is all there is (name another one with cwd=)"
                               : "be put into its sandbox";
    return NULL;
}
