#include "net/trusted.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINKS_MAX = 40, NOBODY = 65534 };

/* A path that is resolved step by step: the directory reached, and the rest. */
struct walk {
    int at;
    unsigned links;
    bool make, only_links, may_be_sticky;
    bool file; /* the last component may be a file, which is opened then */
    char left[2 * PATH_MAX];
    char *why;
    size_t why_size;
};

/* In a user namespace with neither root nor a user nobody, as unshare -Ur makes it, root's files show as nobody's. */
static bool root_shows_as_nobody(void) {
    unsigned first, count;
    bool known = false, has_nobody = false;
    FILE *f = fopen("/proc/self/uid_map", "re");

    while (f && fscanf(f, "%u %*u %u", &first, &count) == 2) {
        known = true;
        has_nobody = has_nobody || (first <= NOBODY && NOBODY - first < count);
    }
    if (f)
        fclose(f);
    return known && !has_nobody;
}

bool trusted_user(uid_t uid) {
    return uid == geteuid() || uid == 0 || (uid == NOBODY && root_shows_as_nobody());
}

/* Whether the group is the private group of our user. */
static bool is_private_group(gid_t gid) {
    const struct passwd *pw = getpwuid(geteuid());
    char name[LOGIN_NAME_MAX];

    if (!pw || pw->pw_gid != gid || strlen(pw->pw_name) >= sizeof(name))
        return false;
    strcpy(name, pw->pw_name);
    const struct group *gr = getgrgid(gid);
    return gr && strcmp(gr->gr_name, name) == 0 &&
           (!gr->gr_mem[0] || (strcmp(gr->gr_mem[0], name) == 0 && !gr->gr_mem[1]));
}

bool trusted_others_write(const struct stat *st) {
    return (st->st_mode & S_IWOTH) || ((st->st_mode & S_IWGRP) && st->st_gid && !is_private_group(st->st_gid));
}

/* The path of an open directory, for messages. */
static const char *path_of(int directory, char path[PATH_MAX]) {
    char link[64];

    snprintf(link, sizeof(link), "/proc/self/fd/%d", directory);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    path[n > 0 ? n : 0] = '\0';
    return path;
}

static int refuse_entry(int directory, const char *name, const struct stat *st, char *why, size_t why_size) {
    const char *what = "is neither a file nor a directory, and of";
    char path[PATH_MAX];

    if (S_ISLNK(st->st_mode))
        what = "is a symbolic link of";
    else if (!trusted_user(st->st_uid))
        what = "belongs to";
    path_of(directory, path);
    snprintf(why, why_size, "%.400s/%.255s %s user %u", strcmp(path, "/") == 0 ? "" : path, name, what,
             (unsigned)st->st_uid);
    return S_ISLNK(st->st_mode) ? -ELOOP : -EPERM;
}

static int check_directory(const struct walk *w, bool last) {
    char path[PATH_MAX];
    struct stat st;

    if (w->only_links)
        return 0;
    if (fstat(w->at, &st))
        return -errno;
    if (!trusted_user(st.st_uid)) {
        snprintf(w->why, w->why_size, "%.500s belongs to user %u", path_of(w->at, path), (unsigned)st.st_uid);
        return -EPERM;
    }
    if (trusted_others_write(&st) && ((last && !w->may_be_sticky) || !(st.st_mode & S_ISVTX))) {
        snprintf(w->why, w->why_size, "others may write into %.500s (mode %04o)", path_of(w->at, path),
                 (unsigned)st.st_mode & 07777);
        return -EPERM;
    }
    return 0;
}

/* Puts the link's target before the rest of the path. */
static int follow(struct walk *w, const char *name) {
    char target[2 * PATH_MAX];
    ssize_t n = readlinkat(w->at, name, target, PATH_MAX);

    if (n <= 0)
        return n < 0 ? -errno : -ENOENT;
    if (++w->links > LINKS_MAX)
        return -ELOOP;
    if ((size_t)snprintf(target + n, sizeof(target) - (size_t)n, "/%s", w->left) >= sizeof(target) - (size_t)n)
        return -ENAMETOOLONG;
    strcpy(w->left, target);
    if (target[0] != '/')
        return 0;
    close(w->at);
    w->at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    return w->at < 0 ? -errno : 0;
}

/* Takes the next component. 1: it was the last. */
static int step(struct walk *w) {
    struct stat st;
    char name[NAME_MAX + 1];
    size_t skip = strspn(w->left, "/"), n = strcspn(w->left + skip, "/");

    if (!n)
        return 1;
    if (n > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, w->left + skip, n);
    name[n] = '\0';
    memmove(w->left, w->left + skip + n, strlen(w->left + skip + n) + 1);
    int rc = fstatat(w->at, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno : 0;
    if (rc == -ENOENT && w->make)
        rc = (mkdirat(w->at, name, 0700) && errno != EEXIST) || fstatat(w->at, name, &st, AT_SYMLINK_NOFOLLOW) ? -errno
                                                                                                               : 0;
    if (rc)
        return rc;
    if (S_ISLNK(st.st_mode))
        return trusted_user(st.st_uid) ? follow(w, name) : refuse_entry(w->at, name, &st, w->why, w->why_size);
    bool last = !w->left[strspn(w->left, "/")], file = w->file && last && !S_ISDIR(st.st_mode);
    int next = openat(w->at, name, O_PATH | (file ? 0 : O_DIRECTORY) | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0)
        return -errno;
    close(w->at);
    w->at = next;
    return file ? 1 : check_directory(w, last);
}

/* 0, w->at is the directory; or -errno. */
static int walk(struct walk *w, const char *path) {
    char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);
    int rc = path[0] != '/' && !cwd ? -errno : 0;

    w->why[0] = '\0';
    w->at = rc ? -1 : open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (!rc && w->at < 0)
        rc = -errno;
    if (!rc && (size_t)snprintf(w->left, sizeof(w->left), "%s/%s", cwd ? cwd : "", path) >= sizeof(w->left))
        rc = -ENAMETOOLONG;
    if (!rc)
        rc = check_directory(w, false);
    while (!rc)
        rc = step(w);
    free(cwd);
    return rc == 1 ? 0 : rc;
}

int trusted_directory(const char *path, bool make, char *why, size_t why_size) {
    struct walk w = {.make = make, .why = why, .why_size = why_size};
    int rc = walk(&w, path), fd = -1;

    if (!rc && (fd = openat(w.at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        rc = -errno;
    if (rc && !why[0])
        snprintf(why, why_size, "%.500s: %s", path, strerror(-rc));
    if (w.at >= 0)
        close(w.at);
    return rc ? rc : fd;
}

/* Whether it is a descriptor of this process, opened by its parent. */
static bool is_descriptor(const char *path) {
    static const char *const of[] = {"/proc/self/fd/", "/dev/fd/"};
    for (size_t i = 0; i < sizeof(of) / sizeof(*of); i++) {
        const char *number = path + strlen(of[i]);
        if (strncmp(path, of[i], strlen(of[i])) == 0 && *number && !number[strspn(number, "0123456789")])
            return true;
    }
    return false;
}

int trusted_path_file(const char *path, struct stat *st, char *why, size_t why_size) {
    struct walk w = {.file = true, .may_be_sticky = true, .why = why, .why_size = why_size};
    char again[64];
    int rc = 0, fd = -1;

    why[0] = '\0';
    if (!is_descriptor(path))
        rc = walk(&w, path);
    else if ((w.at = open(path, O_PATH | O_CLOEXEC)) < 0)
        rc = -errno;
    if (!rc && fstat(w.at, st))
        rc = -errno;
    if (!rc && !S_ISREG(st->st_mode)) {
        snprintf(why, why_size, "it is no regular file");
        rc = -EINVAL;
    }
    if (!rc && !trusted_user(st->st_uid)) {
        snprintf(why, why_size, "it belongs to user %u", (unsigned)st->st_uid);
        rc = -EPERM;
    }
    snprintf(again, sizeof(again), "/proc/self/fd/%d", w.at);
    if (!rc && (fd = open(again, O_RDONLY | O_CLOEXEC | O_NOCTTY)) < 0)
        rc = -errno;
    if (rc && !why[0])
        snprintf(why, why_size, "%s", strerror(-rc));
    if (w.at >= 0)
        close(w.at);
    return rc ? rc : fd;
}

int trusted_links(const char *path, char *why, size_t why_size) {
    struct walk w = {.only_links = true, .why = why, .why_size = why_size};

    walk(&w, path);
    if (w.at >= 0)
        close(w.at);
    return why[0] ? -ELOOP : 0;
}

const char *trusted_temporary(void) {
    const char *dir = getenv("TMPDIR");

    return dir && dir[0] == '/' && strlen(dir) < 1024 ? dir : "/tmp";
}

int trusted_temporary_check(char *why, size_t why_size) {
    char what[768] = "";
    struct walk w = {.may_be_sticky = true, .why = what, .why_size = sizeof(what)};
    int rc = geteuid() == 0 ? walk(&w, trusted_temporary()) : 0;

    if (rc)
        snprintf(why, why_size,
                 "jobs cannot have their files in %.300s: %s, and what root makes there could be put elsewhere (set "
                 "TMPDIR to another)",
                 trusted_temporary(), what[0] ? what : strerror(-rc));
    if (geteuid() == 0 && w.at >= 0)
        close(w.at);
    return rc;
}

int trusted_contents(int directory, char *why, size_t why_size) {
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    struct stat st;

    if (!dir) {
        rc = -errno;
        snprintf(why, why_size, "it cannot be read: %s", strerror(-rc));
    }
    for (struct dirent *e; rc == 0 && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            fstatat(directory, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
            ((!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) || !trusted_user(st.st_uid)))
            rc = refuse_entry(directory, e->d_name, &st, why, why_size);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
    return rc;
}

int trusted_file(int directory, const char *name, int flags) {
    struct stat st;
    int fd = openat(directory, name, (flags & ~O_TRUNC) | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600), rc = 0;

    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        rc = -errno;
    else if (!S_ISREG(st.st_mode))
        rc = -EINVAL;
    else if (!trusted_user(st.st_uid) || ((flags & O_TRUNC) && st.st_nlink != 1))
        rc = -EPERM;
    else if ((flags & O_TRUNC) && ftruncate(fd, 0))
        rc = -errno;
    if (rc)
        close(fd);
    return rc ? rc : fd;
}
