#include "fs/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "net/printable.h"
#include "net/trusted.h"

#define LOG_MAX (1 << 20)

#define LOG "ppfs.log"

static char path[PATH_MAX]; /* of the state directory; "": stderr is not our log */
static int first = -1;      /* that directory when it was opened; its path may be another now */

/* Makes stderr the log in that directory, unless it is so already. */
static int reopen_in(int dir) {
    struct stat named, open_one;
    bool there = fstatat(dir, LOG, &named, AT_SYMLINK_NOFOLLOW) == 0;
    if (there && fstat(STDERR_FILENO, &open_one) == 0 && named.st_ino == open_one.st_ino &&
        named.st_dev == open_one.st_dev && named.st_size < LOG_MAX)
        return 0;
    if (there && named.st_size >= LOG_MAX)
        renameat(dir, LOG, dir, LOG ".1");
    int fd = trusted_file(dir, LOG, O_WRONLY | O_CREAT | O_APPEND);
    if (fd < 0)
        return fd;
    int rc = dup2(fd, STDERR_FILENO) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

static int reopen(void) {
    char why[512];
    int dir = trusted_directory(path, false, why, sizeof why);
    int rc = reopen_in(dir >= 0 ? dir : first);
    if (dir >= 0)
        close(dir);
    return rc;
}

int log_to_file(int directory, const char *dir) {
    if ((size_t)snprintf(path, sizeof path, "%s", dir) >= sizeof path) {
        path[0] = '\0';
        return -ENAMETOOLONG;
    }
    first = directory;
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
    if (more < 0)
        line[n] = '\0';
    printable(line + n, sizeof line - (size_t)n - 1);
    n += (int)strlen(line + n);
    line[n++] = '\n';
    if (write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nowhere left to say so */
}
