/* Finding the Python that was asked for, and refusing one that the embedded library cannot be: a virtual environment of
 * another minor version is silently not found by CPython, so its pyvenv.cfg is read here; a bare interpreter is asked.
 * CPython itself needs only the program name: VENV/bin/python3 makes it see that environment's packages. */
#include "worker/runner/pyenv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PPFS_PYTHON_PROGRAM
#define PPFS_PYTHON_PROGRAM "/usr/bin/python3"
#endif
#ifndef PPFS_PYTHON_VERSION
#define PPFS_PYTHON_VERSION "3.11"
#endif

enum { ASK_MS = 10000 };

enum { OWN_MAX = 32 };

static char *own[OWN_MAX]; /* the names of the workers' Python; written by pyenv_resolve only */

/* Whether "3.11.2" is of the embedded minor version. */
static bool version_fits(const char *version) {
    size_t len = strlen(PPFS_PYTHON_VERSION);
    return strncmp(version, PPFS_PYTHON_VERSION, len) == 0 && (version[len] < '0' || version[len] > '9');
}

/* The value of `version` or `version_info` in dir/pyvenv.cfg. False when there is no such file or line. */
static bool venv_version(const char *dir, char *version, size_t size) {
    char path[PATH_MAX], line[512];
    bool found = false;

    if (snprintf(path, sizeof(path), "%s/pyvenv.cfg", dir) >= (int)sizeof(path))
        return false;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof(line), f)) {
        char key[32], value[64];
        if (sscanf(line, " %31[a-z_] = %63s", key, value) != 2)
            continue;
        if (strcmp(key, "version") == 0 || strcmp(key, "version_info") == 0) {
            snprintf(version, size, "%s", value);
            found = true;
        }
    }
    if (f)
        fclose(f);
    return found;
}

/* Reads what the child prints within ASK_MS; then it is killed. */
static void read_answer(int fd, char *version, size_t size) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ssize_t n = poll(&p, 1, ASK_MS) > 0 ? read(fd, version, size - 1) : 0;

    version[n > 0 ? n : 0] = 0;
    version[strcspn(version, "\n")] = 0;
}

/* Runs the interpreter to learn its version. 0 or -errno. */
static int ask_version(const char *program, char *version, size_t size) {
    static const char question[] = "import sys; print('%d.%d.%d' % sys.version_info[:3])";
    char *const argv[] = {(char *)program, "-I", "-S", "-c", (char *)question, NULL};
    posix_spawn_file_actions_t actions;
    int ends[2], err;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC))
        return -errno;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    err = -posix_spawn(&pid, program, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!err) {
        read_answer(ends[0], version, size);
        kill(pid, SIGKILL); /* it has answered, or never will */
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        if (!version[0])
            err = -ENOEXEC;
    }
    close(ends[0]);
    return err;
}

/* Directory two levels up from program (VENV/bin/python3 -> VENV), "" where it has none. */
static void home_of(const char *program, char home[PATH_MAX]) {
    snprintf(home, PATH_MAX, "%s", program);
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(home, '/');
        *(slash ? slash : home) = 0;
    }
}

/* The same binary with the same packages: the python3 of every virtual environment is one file in the end, so the
 * environments are compared too. */
static bool same_python(const char *a, const char *b) {
    char real_a[PATH_MAX], real_b[PATH_MAX], home_a[PATH_MAX], home_b[PATH_MAX], version[64];

    if (!realpath(a, real_a) || !realpath(b, real_b) || strcmp(real_a, real_b) != 0)
        return false;
    home_of(a, home_a);
    home_of(b, home_b);
    bool venv_a = venv_version(home_a, version, sizeof(version)),
         venv_b = venv_version(home_b, version, sizeof(version));
    if (venv_a != venv_b)
        return false;
    return !venv_a || (realpath(home_a, real_a) && realpath(home_b, real_b) && strcmp(real_a, real_b) == 0);
}

/* path without its last part: "" where it has one only. */
static void directory_of(const char *path, char dir[PATH_MAX]) {
    snprintf(dir, PATH_MAX, "%s", path);
    char *slash = strrchr(dir, '/');
    *(slash ? slash : dir) = 0;
}

static void add_own(size_t *count, const char *dir, const char *name, const char *program) {
    char path[2 * PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    if (*count < OWN_MAX && same_python(path, program) && (own[*count] = strdup(path)))
        ++*count;
}

/* Under which names scripts find it: they are known from here on, for what a script names is looked at by nobody but
 * its user. */
static int accept_program(const char *program, char **out) {
    char real[PATH_MAX], dirs[2][PATH_MAX];
    const char *const places[] = {dirs[0], dirs[1], "/usr/bin", "/bin", "/usr/local/bin"};
    const char *slash = strrchr(program, '/');
    const char *const names[] = {slash ? slash + 1 : program, "python3", "python" PPFS_PYTHON_VERSION, "python"};
    size_t count = 0;

    *out = strdup(program);
    if (!*out)
        return -ENOMEM;
    directory_of(program, dirs[0]);
    directory_of(realpath(program, real) ? real : program, dirs[1]);
    for (size_t i = 0; i < OWN_MAX; i++) {
        free(own[i]);
        own[i] = NULL;
    }
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++)
            add_own(&count, places[i], names[k], program);
    return 0;
}

static int resolve_venv(const char *dir, const char *interpreter, char **program, char *why, size_t size) {
    char version[64];

    if (!venv_version(dir, version, sizeof(version))) {
        snprintf(why, size, "%s is not a virtual environment: it has no pyvenv.cfg; make one with `%s -m venv %s`", dir,
                 PPFS_PYTHON_PROGRAM, dir);
        return -EINVAL;
    }
    if (!version_fits(version)) {
        snprintf(
            why, size,
            "the virtual environment %s is of Python %s, but the workers are Python %s; make one with `%s -m venv DIR`",
            dir, version, PPFS_PYTHON_VERSION, PPFS_PYTHON_PROGRAM);
        return -EINVAL;
    }
    if (access(interpreter, X_OK)) {
        int err = -errno;
        snprintf(why, size, "the virtual environment %s has no usable %s: %s", dir, interpreter, strerror(-err));
        return err;
    }
    return accept_program(interpreter, program);
}

static int resolve_interpreter(const char *path, char **program, char *why, size_t size) {
    char home[PATH_MAX], version[64] = "";
    int err;

    if (access(path, X_OK)) {
        err = -errno;
        snprintf(why, size, "no Python at %s: %s; name an interpreter or a virtual environment with --python", path,
                 strerror(-err));
        return err;
    }
    home_of(path, home);
    if (venv_version(home, version, sizeof(version)))
        return resolve_venv(home, path, program, why, size);
    if (same_python(path, PPFS_PYTHON_PROGRAM))
        return accept_program(path, program);
    err = ask_version(path, version, sizeof(version));
    if (err) {
        snprintf(why, size, "%s does not answer like a Python: %s", path, strerror(-err));
        return err;
    }
    if (!version_fits(version)) {
        snprintf(why, size,
                 "%s is Python %s, but the workers are Python %s; use one of that version, or build ppfs for it", path,
                 version, PPFS_PYTHON_VERSION);
        return -EINVAL;
    }
    return accept_program(path, program);
}

int pyenv_resolve(const char *path, char **program, char *why, size_t why_size) {
    char absolute[PATH_MAX], interpreter[PATH_MAX + 16];
    struct stat st;

    if (!path || !path[0])
        path = getenv("VIRTUAL_ENV");
    if (!path || !path[0])
        return accept_program(PPFS_PYTHON_PROGRAM, program);
    if (path[0] == '/')
        snprintf(absolute, sizeof(absolute), "%s", path);
    else if (!getcwd(absolute, sizeof(absolute)) || strlen(absolute) + strlen(path) + 2 > sizeof(absolute))
        return -ENAMETOOLONG;
    else
        strcat(strcat(absolute, "/"), path);
    for (size_t len = strlen(absolute); len > 1 && absolute[len - 1] == '/'; len--)
        absolute[len - 1] = 0;
    if (stat(absolute, &st) == 0 && S_ISDIR(st.st_mode)) {
        snprintf(interpreter, sizeof(interpreter), "%s/bin/python3", absolute);
        return resolve_venv(absolute, interpreter, program, why, why_size);
    }
    return resolve_interpreter(absolute, program, why, why_size);
}

static bool only_harmless_flags(char *rest) {
    for (char *save, *word = strtok_r(rest, " \t\r", &save); word; word = strtok_r(NULL, " \t\r", &save))
        if (strcmp(word, "-u") != 0 && strcmp(word, "-B") != 0)
            return false;
    return true;
}

static bool is_own(const char *program) {
    for (size_t i = 0; i < OWN_MAX && own[i]; i++)
        if (strcmp(own[i], program) == 0)
            return true;
    return false;
}

bool pyenv_is_own(const char *shebang_line) {
    char line[PATH_MAX], *save = NULL;

    if (strncmp(shebang_line, "#!", 2) != 0 || strlen(shebang_line) >= sizeof(line))
        return false;
    strcpy(line, shebang_line + 2);
    char *program = strtok_r(line, " \t\r", &save);
    if (!program)
        return false;
    const char *base = strrchr(program, '/');
    if (base && strcmp(base, "/env") == 0) {
        program = strtok_r(NULL, " \t\r", &save);
        if (program && strcmp(program, "-S") == 0)
            program = strtok_r(NULL, " \t\r", &save);
        return program && (strcmp(program, "python3") == 0 || strcmp(program, "python" PPFS_PYTHON_VERSION) == 0) &&
               only_harmless_flags(save);
    }
    return is_own(program) && only_harmless_flags(save);
}
