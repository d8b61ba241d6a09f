#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LOG_MAX (1 << 20)

static char path[PATH_MAX]; /* "": stderr is somebody else's */

/* Makes stderr the file at path, where it is not already. */
static int reopen(void) {
    struct stat named, open_one;
    if (stat(path, &named) == 0 && fstat(STDERR_FILENO, &open_one) == 0 && named.st_ino == open_one.st_ino &&
        named.st_dev == open_one.st_dev && named.st_size < LOG_MAX)
        return 0;
    if (stat(path, &named) == 0 && named.st_size >= LOG_MAX) {
        char old[PATH_MAX + 2];
        snprintf(old, sizeof old, "%s.1", path);
        rename(path, old);
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    int rc = dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

int log_to_file(const char *dir) {
    if ((size_t)snprintf(path, sizeof path, "%s/ppfs.log", dir) >= sizeof path) {
        path[0] = '\0';
        return -ENAMETOOLONG;
    }
    return reopen();
}

void log_line(const char *format, ...) {
    char line[2048];
    int n = 0;
    if (path[0]) {
        time_t now = time(NULL);
        struct tm t;
        reopen();
        n = (int)strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&now, &t));
        n += snprintf(line + n, sizeof line - (size_t)n, "ppfs[%d]: ", (int)getpid());
    } else {
        n = snprintf(line, sizeof line, "ppfs: ");
    }
    va_list args;
    va_start(args, format);
    int more = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    n += more < 0 ? 0 : more;
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nowhere left to say so */
}
