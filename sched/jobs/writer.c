/* The writer of a job file: reads its /proc while the process waits for our answer. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/io.h"
#include "sched/jobs/job_files.h"

void writer_directory(pid_t pid, char *buf, size_t size) {
    char path[64];
    buf[0] = 0;
    if (pid <= 0)
        return;
    snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
    ssize_t n = readlink(path, buf, size - 1);
    buf[n > 0 ? n : 0] = 0;
    if (buf[0] != '/' || (size_t)n == size - 1)
        buf[0] = 0;
}

bool writer_is_inside(const struct sched *s, const char *directory) {
    size_t m = strlen(s->mountpoint);
    return strncmp(directory, s->mountpoint, m) == 0 && (directory[m] == '/' || directory[m] == 0);
}

/* Whether a process has no borrowed user or group: the owner of /proc/PID/cwd is its effective user and group, but root
 * for a program with a set-user-ID or set-group-ID bit. */
static bool is_plain(pid_t pid, uid_t uid, gid_t gid) {
    char path[64];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d/cwd", (int)pid);
    return lstat(path, &st) == 0 && st.st_uid == uid && st.st_gid == gid;
}

/* The real user and group of a process, from its status (proc(5)). */
static bool real_ids(pid_t pid, uid_t *uid, gid_t *gid) {
    char path[64], line[256];
    int found = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && found < 2 && fgets(line, sizeof line, f))
        found += sscanf(line, "Uid: %u", uid) == 1 || sscanf(line, "Gid: %u", gid) == 1;
    if (f)
        fclose(f);
    return found == 2;
}

int sched_own_group(pid_t pid, uid_t uid, gid_t *gid) {
    uid_t real_uid;
    gid_t real_gid;
    if (pid <= 0 || is_plain(pid, uid, *gid))
        return 0;
    if (!real_ids(pid, &real_uid, &real_gid))
        return -EPERM;
    if (real_uid == 0) /* a file server may act for other users */
        return 0;
    if (real_uid != uid)
        return -EPERM;
    *gid = real_gid;
    return 0;
}

/* A process that ends frees its memory before its files. Reading that costs a tenth of /proc/PID/stat, and is the only
 * question to a living process: exec closes files while it holds a lock that the links in /proc/PID and its stat need,
 * and that exec waits for our answer. */
static bool is_ending(pid_t pid) {
    char path[64], first_digit_of_pages[2];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    int64_t n = io_read_text(path, first_digit_of_pages, sizeof first_digit_of_pages);
    return n < 0 || (n == 1 && *first_digit_of_pages == '0');
}

/* PF_EXITING in its flags and a signal in its exit code (proc(5), /proc/PID/stat fields 9 and 52). */
int writer_killed_by(pid_t pid) {
    char path[64], text[1024];
    unsigned flags = 0;
    int code = 0, field = 2;
    if (pid <= 0 || !is_ending(pid))
        return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    io_read_text(path, text, sizeof text);
    char *p = strrchr(text, ')'); /* the name may contain any character */
    for (char *save, *word = p ? strtok_r(p + 1, " \n", &save) : NULL; word; word = strtok_r(NULL, " \n", &save)) {
        field++;
        if (field == 9)
            flags = (unsigned)strtoul(word, NULL, 10);
        if (field == 52)
            code = atoi(word);
    }
    return flags & 4 ? code & 0x7f : 0;
}

const char *writer_signal_name(int signal) {
    const char *name = sigabbrev_np(signal);
    return name ? name : "?";
}

/* A killed process that opened the file has not finished it, even if other processes with this open file have closed
 * it: a shell's redirection of several commands, say. A killed process that only inherited the open file, and wrote
 * nothing since, changes nothing. */
bool writer_killed_open(const struct job *j, pid_t pid, bool opener) {
    return opener && j->flushed && !j->cut && !job_is_options(j) && writer_killed_by(pid);
}
