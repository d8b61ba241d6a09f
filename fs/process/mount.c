#include "fs/process/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <fuse_log.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fs/log.h"
#include "fs/tree/ops.h"
#include "net/trusted.h"

static char said[512]; /* the first line of libfuse's message, which becomes part of our one line */

static void keep_words(enum fuse_log_level level, const char *format, va_list args) {
    size_t n = strlen(said);
    if (!strchr(said, '\n'))
        vsnprintf(said + n, sizeof said - n, format, args);
}

static void log_words(enum fuse_log_level level, const char *format, va_list args) {
    char text[512];
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = '\0';
    log_line("%s", text);
}

static const char *words(void) {
    said[strcspn(said, "\n")] = '\0';
    const char *colon = strncmp(said, "fuse", 4) == 0 ? strstr(said, ": ") : NULL;
    return colon ? colon + 2 : said;
}

int mount_session(struct fuse_session **out, const char *options, struct fs *fs, char *why, size_t why_size) {
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int bad =
        fuse_opt_add_arg(&args, "ppfs") | fuse_opt_add_arg(&args, "-odefault_permissions,fsname=ppfs,subtype=ppfs");
    if (options)
        bad |= fuse_opt_add_arg(&args, "-o") | fuse_opt_add_arg(&args, options);
    said[0] = '\0';
    fuse_set_log_func(keep_words);
    *out = bad ? NULL : fuse_session_new(&args, &ops_table, sizeof ops_table, fs);
    fuse_set_log_func(log_words);
    fuse_opt_free_args(&args);
    if (*out)
        return 0;
    const char *option = strstr(words(), "`-o ");
    if (option && strncmp(words(), "unknown option", 14) == 0)
        snprintf(why, why_size, "unknown option %.*s (ppfs --help shows the options)", (int)strcspn(option + 1, "'"),
                 option + 1);
    else
        snprintf(why, why_size, "%s", words()[0] ? words() : "not enough memory");
    return bad ? -ENOMEM : -EINVAL;
}

/* An ordinary user can unmount by fusermount3 only. */
static void detach(const char *path) {
    int status;
    if (umount2(path, MNT_DETACH) == 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", path, NULL);
        _exit(127);
    }
    if (pid > 0)
        waitpid(pid, &status, 0);
}

/* The kernel may remember the attributes of a crashed mount for a second; statfs always asks. ECONNABORTED: its last
 * process is dying at this moment. */
static bool is_stale(const char *path) {
    struct statfs fs;
    return statfs(path, &fs) < 0 && (errno == ENOTCONN || errno == ECONNABORTED);
}

/* The type of the topmost mount there; "": none. */
static void type_of(const char *path, char *type, size_t size) {
    FILE *f = setmntent("/proc/self/mounts", "re");
    type[0] = '\0';
    for (struct mntent *m; f && (m = getmntent(f));)
        if (strcmp(m->mnt_dir, path) == 0)
            snprintf(type, size, "%s", m->mnt_type);
    if (f)
        endmntent(f);
}

bool mount_is_there(const char *path) {
    char type[64];
    type_of(path, type, sizeof type);
    return strncmp(type, "fuse", 4) == 0;
}

int mount_point(const char *given, char **path, char *why, size_t why_size) {
    struct stat st;
    char type[64];
    char what[768];
    int rc = 0;
    if (trusted_links(given, what, sizeof what) != 0) {
        snprintf(why, why_size, "cannot mount on %.300s: %s, who may lead it elsewhere (name the directory itself)",
                 given, what);
        *path = NULL;
        return -ELOOP;
    }
    for (int i = 0; i < 32 && is_stale(given); i++)
        detach(given);
    *path = realpath(given, NULL);
    if (!*path || stat(*path, &st) < 0)
        rc = -errno;
    else if (!S_ISDIR(st.st_mode))
        rc = -ENOTDIR;
    if (rc == 0) {
        type_of(*path, type, sizeof type);
        if (strcmp(type, "fuse.ppfs") != 0)
            return 0;
        snprintf(why, why_size, "cannot mount on %s: a ppfs is mounted there already (fusermount3 -u unmounts it)",
                 *path);
        free(*path);
        *path = NULL;
        return -EBUSY;
    }
    const char *todo = "";
    if (rc == -ENOENT)
        todo = " (make it first: mkdir)";
    else if (rc == -ENOTCONN)
        todo = " (a mount that crashed; fusermount3 -u it)";
    snprintf(why, why_size, "cannot mount on %s: %s%s", given, strerror(-rc), todo);
    free(*path);
    *path = NULL;
    return rc;
}

int mount_start(struct fuse_session *session, const char *path, char *why, size_t why_size) {
    /* fusermount3 writes its reason to stderr, and that, too, becomes part of our line. */
    int stderr_was = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), heard = memfd_create("fusermount3", MFD_CLOEXEC);
    if (heard >= 0 && stderr_was >= 0)
        dup2(heard, STDERR_FILENO);
    said[0] = '\0';
    fuse_set_log_func(keep_words);
    int rc = fuse_session_mount(session, path) == 0 ? 0 : -EIO;
    fuse_set_log_func(log_words);
    if (heard >= 0 && stderr_was >= 0)
        dup2(stderr_was, STDERR_FILENO);
    ssize_t n = rc && heard >= 0 && !said[0] ? pread(heard, said, sizeof said - 1, 0) : -1;
    if (n >= 0)
        said[n] = '\0';
    if (rc && access("/dev/fuse", F_OK) < 0)
        snprintf(why, why_size, "cannot mount on %s: there is no /dev/fuse (try: modprobe fuse)", path);
    else if (rc)
        snprintf(why, why_size, "cannot mount on %s%s%s", path, words()[0] ? ": " : "", words());
    if (heard >= 0)
        close(heard);
    if (stderr_was >= 0)
        close(stderr_was);
    return rc;
}
