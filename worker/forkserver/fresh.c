/* The request crosses in a memfd: lengths and bytes, from one process of ours to another of the same program. */
#include "worker/forkserver/fresh.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/io.h"
#include "worker/forkserver/python.h"

enum { PARTS = 4, FILES = 5 }; /* work, its payload, the script's path, the rest; those descriptors and the request */

/* Variables that CPython, the dynamic loader, malloc, setlocale, libcrypto and site (HOME) read when they start. A
 * variable that is read at each use needs no fresh interpreter, nor does TZ, which tzset reads again. */
static const char *const at_start[] = {"PYTHON*",   "LANG",     "LC_*", "LOCPATH",        "LD_*",
                                       "OPENSSL_*", "MALLOC_*", "HOME", "GLIBC_TUNABLES", "GCONV_PATH"};
static const char *const of_locale[] = {"LANG", "LC_*", "LOCPATH", "PYTHONUTF8", "PYTHONCOERCECLOCALE"};

/* Whether pair ("K=V") sets one of count names; a star at the end of a name matches any rest. */
static bool names(const char *pair, const char *const *list, size_t count) {
    size_t key = strcspn(pair, "=");

    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(list[i]);
        if (list[i][len - 1] == '*' ? strncmp(pair, list[i], len - 1) == 0
                                    : key == len && memcmp(pair, list[i], len) == 0)
            return true;
    }
    return false;
}

static bool any_of(const char *const *env, const char *const *list, size_t count) {
    for (size_t i = 0; env && env[i]; i++)
        if (names(env[i], list, count))
            return true;
    return false;
}

bool fresh_wanted(const struct work *w) {
    return w->kind != WORK_PROGRAM && w->kind != WORK_JSON_RUN &&
           any_of(w->env, at_start, sizeof(at_start) / sizeof(at_start[0]));
}

/* A memfd of all parts. -1 with errno. */
static int keep_request(const struct work *w, const char *script, const void *rest, size_t rest_size) {
    struct work bare = *w;
    void *bytes = NULL;
    uint32_t size;
    int fd = -1;

    bare.file = NULL; /* its user may be unable to open it, so its bytes go along */
    bare.payload = NULL;
    bare.payload_size = 0;
    errno = -work_encode(&bare, &bytes, &size);
    if (!errno)
        fd = memfd_create("ppfs-request", MFD_CLOEXEC);
    if (fd >= 0) {
        uint64_t sizes[PARTS] = {size, script ? 0 : w->payload_size, script ? strlen(script) : 0, rest_size};
        const void *parts[PARTS] = {bytes, w->payload, script, rest};
        bool fine = io_write(fd, sizes, sizeof(sizes), IO_NEXT) == 0;
        for (size_t i = 0; fine && i < PARTS; i++)
            fine = io_write(fd, parts[i], (size_t)sizes[i], IO_NEXT) == 0;
        if (!fine) {
            close(fd);
            fd = -1;
        }
    }
    free(bytes);
    return fd;
}

void fresh_run(const struct work *w, const struct job_environment *p, const char *script,
               const struct fresh_files *files, const void *rest, size_t rest_size, struct work_outcome *o) {
    int keep[FILES] = {keep_request(w, script, rest, rest_size), files->report, files->data, files->link, files->page};
    char word[FILES * 12];
    char *argv[] = {(char *)"ppfs-worker", (char *)FRESH_WORD, (char *)python_program(), word, NULL};
    struct program prog = {.argv = argv, .path = "/proc/self/exe", .input = -1, .keep = keep, .keep_count = FILES};

    if (keep[0] < 0) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "a Python of its own for the job could not be prepared: %s", strerror(errno));
        return;
    }
    snprintf(word, sizeof(word), "%d,%d,%d,%d,%d", keep[0], keep[1], keep[2], keep[3], keep[4]);
    program_run(&prog, p, o);
    close(keep[0]);
}

bool fresh_open(struct fresh *f, int argc, char **argv) {
    int fds[FILES];
    uint64_t sizes[PARTS], at = sizeof(sizes);
    struct stat st;
    void *hold;

    if (argc != 4 || strcmp(argv[1], FRESH_WORD) != 0 ||
        sscanf(argv[3], "%d,%d,%d,%d,%d", &fds[0], &fds[1], &fds[2], &fds[3], &fds[4]) != FILES || fstat(fds[0], &st) ||
        st.st_size < (off_t)sizeof(sizes))
        return false;
    for (size_t i = 0; i < FILES; i++)
        if (fds[i] >= 0)
            fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    char *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[0], 0);
    close(fds[0]);
    if (bytes == MAP_FAILED)
        return false;
    memcpy(sizes, bytes, sizeof(sizes));
    char *parts[PARTS];
    for (size_t i = 0; i < PARTS; i++) {
        if (sizes[i] > (uint64_t)st.st_size - at)
            return false;
        parts[i] = bytes + at;
        at += sizes[i];
    }
    if (work_decode(parts[0], sizes[0], &f->work, &hold) || sizes[1] > UINT32_MAX ||
        !getcwd(f->environment.cwd, sizeof(f->environment.cwd)))
        return false;
    f->work.payload = parts[1];
    f->work.payload_size = (uint32_t)sizes[1];
    f->environment.script = sizes[2] ? strndup(parts[2], sizes[2]) : NULL;
    f->rest = parts[3];
    f->rest_size = sizes[3];
    f->files = (struct fresh_files){fds[1], fds[2], fds[3], fds[4]};
    f->program = argv[2];
    f->locale = any_of(f->work.env, of_locale, sizeof(of_locale) / sizeof(of_locale[0]));
    return true;
}
