/* Another user's environment is made from nothing: what the daemon was started with (keys, tokens, agents) is nobody
 * else's. Where login.defs(5) says what PATH a login has, that is what it is. */
#include "worker/login.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOGIN_DEFS "/etc/login.defs"

enum { PAIRS = 7, GROUPS_FIRST = 32, GROUPS_MAX = 65536 };

static char *pair_of(const char *key, const char *value) {
    char *pair;

    return asprintf(&pair, "%s=%s", key, value) < 0 ? NULL : pair;
}

/* "PATH=..." of login.defs, which may write it with or without that word. NULL without memory. */
static char *path_of(uid_t uid) {
    const char *wanted = uid ? "ENV_PATH" : "ENV_SUPATH";
    char line[4096], key[16], value[sizeof(line)];
    char *path = NULL;
    FILE *f = fopen(LOGIN_DEFS, "re");

    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, " %15s %4095s", key, value) != 2 || strcmp(key, wanted) != 0)
            continue;
        free(path); /* the last one counts */
        path = pair_of("PATH", strncmp(value, "PATH=", 5) == 0 ? value + 5 : value);
    }
    if (f)
        fclose(f);
    return path ? path
                : pair_of("PATH", uid ? "/usr/local/bin:/usr/bin:/bin"
                                      : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}

/* Takes pair, which may be NULL: then there was no memory. */
static bool add(struct login *l, size_t *at, char *pair) {
    l->env[*at] = pair;
    *at += pair != NULL;
    return pair;
}

static bool fill_env(struct login *l, const struct passwd *pw) {
    static const char *const ours[] = {"LANG", "PPFS"};
    size_t at = 0;

    l->env = calloc(PAIRS + 1, sizeof(*l->env));
    bool fine = l->env && add(l, &at, path_of(l->uid)) && add(l, &at, pair_of("HOME", pw ? pw->pw_dir : "/"));
    if (pw)
        fine = fine && add(l, &at, pair_of("USER", pw->pw_name)) && add(l, &at, pair_of("LOGNAME", pw->pw_name)) &&
               add(l, &at, pair_of("SHELL", pw->pw_shell[0] ? pw->pw_shell : "/bin/sh"));
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++)
        if (getenv(ours[i]))
            fine = fine && add(l, &at, pair_of(ours[i], getenv(ours[i])));
    return fine;
}

static bool fill_groups(struct login *l, const struct passwd *pw) {
    for (int size = pw ? GROUPS_FIRST : 1; size <= GROUPS_MAX; size *= 2) {
        gid_t *bigger = realloc(l->groups, (size_t)size * sizeof(*bigger));
        if (!bigger)
            return false;
        l->groups = bigger;
        l->groups[0] = l->gid;
        l->group_count = size;
        if (!pw || getgrouplist(pw->pw_name, l->gid, l->groups, &l->group_count) >= 0)
            return true;
    }
    return false;
}

int login_open(struct login *l, uid_t uid, gid_t gid, char *why, size_t why_size) {
    struct passwd *pw;

    *l = (struct login){.uid = uid, .gid = gid};
    if (geteuid() != 0) {
        snprintf(why, why_size, "this ppfs may only run jobs of its own user, not of user %u", (unsigned)uid);
        return -1;
    }
    pw = getpwuid(uid);
    if (!fill_env(l, pw))
        snprintf(why, why_size, "no memory for the environment of the job");
    else if (!fill_groups(l, pw)) /* which may forget what pw points to, so last */
        snprintf(why, why_size, "the groups of user %u could not be read", (unsigned)uid);
    else
        return 0;
    login_close(l);
    return -1;
}

void login_close(struct login *l) {
    for (size_t i = 0; l->env && l->env[i]; i++)
        free(l->env[i]);
    free(l->env);
    free(l->groups);
    *l = (struct login){0};
}

int login_become(const struct login *l) {
    return syscall(SYS_setgroups, l->group_count, l->groups) || syscall(SYS_setresgid, l->gid, l->gid, l->gid) ||
                   syscall(SYS_setresuid, l->uid, l->uid, l->uid)
               ? -1
               : 0;
}
