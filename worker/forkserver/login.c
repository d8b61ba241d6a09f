/* Another user's environment is made from nothing, because the daemon's own may have keys, tokens and agents. PATH is
 * that of login.defs(5). */
#include "worker/forkserver/login.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/ioprio.h>
#include <linux/keyctl.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "net/untrusted/jail.h"

#define LOGIN_DEFS "/etc/login.defs"

#define LIMITS_DIR "/etc/security"

enum { PAIRS = 7, GROUPS_FIRST = 32, GROUPS_MAX = 65536 };

static bool suid_allowed, groups_checked;

void login_allow_suid(void) {
    suid_allowed = true;
}

void login_check_groups(void) {
    groups_checked = true;
}

static char *pair_of(const char *key, const char *value) {
    char *pair;

    return asprintf(&pair, "%s=%s", key, value) < 0 ? NULL : pair;
}

/* The last value of key in login.defs; "": none. */
static void read_setting(const char *key, char *value, size_t size) {
    char line[4096], word[32], rest[sizeof(line)];
    FILE *f = fopen(LOGIN_DEFS, "re");

    value[0] = 0;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, " %31s %4095s", word, rest) == 2 && strcmp(word, key) == 0)
            snprintf(value, size, "%s", rest);
    if (f)
        fclose(f);
}

/* NULL without memory. */
static char *path_of(uid_t uid) {
    char value[4096];

    read_setting(uid ? "ENV_PATH" : "ENV_SUPATH", value, sizeof(value)); /* with or without that word */
    if (value[0])
        return pair_of("PATH", strncmp(value, "PATH=", 5) == 0 ? value + 5 : value);
    return pair_of("PATH", uid ? "/usr/local/bin:/usr/bin:/bin"
                               : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
}

static mode_t umask_of_login(void) {
    char value[32], *end;

    read_setting("UMASK", value, sizeof(value));
    unsigned long mask = strtoul(value, &end, 8);
    return value[0] && !*end && mask <= 0777 ? (mode_t)mask : 022;
}

/* Takes pair, which is NULL without memory. */
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
        if (!pw || getgrouplist(pw->pw_name, groups_checked ? pw->pw_gid : l->gid, l->groups, &l->group_count) >= 0)
            return true;
    }
    return false;
}

/* Whether this machine has put the user into the group: a local group gives access to local files, such as a disk or
 * passwords. */
static bool is_member(const struct login *l, const struct passwd *pw) {
    for (int i = 0; pw && i < l->group_count; i++)
        if (l->groups[i] == l->gid)
            return true;
    return !pw && l->gid && !getgrgid(l->gid);
}

int login_open(struct login *l, uid_t uid, gid_t gid, char *why, size_t why_size) {
    struct passwd *pw;

    *l = (struct login){.uid = uid, .gid = gid};
    if (geteuid() != 0) {
        snprintf(why, why_size, "this ppfs may only run jobs of its own user, not of user %u", (unsigned)uid);
        return -1;
    }
    if (uid == JAIL_UID) {
        snprintf(why, why_size, "user %u is the one of the network process of ppfs, and has no jobs", JAIL_UID);
        return -1;
    }
    pw = getpwuid(uid);
    if (!fill_env(l, pw)) {
        snprintf(why, why_size, "no memory for the environment of the job");
    } else if (!fill_groups(l, pw)) {
        snprintf(why, why_size, "the groups of user %u could not be read", (unsigned)uid);
    } else if (groups_checked && !is_member(l, pw)) {
        snprintf(why, why_size,
                 "user %u is not in group %u on this machine: put him into it there, or run the job elsewhere (node=)",
                 (unsigned)uid, (unsigned)gid);
    } else {
        limits_read(&l->limits, LIMITS_DIR, pw ? pw->pw_name : NULL, uid, l->groups, l->group_count);
        l->umask = umask_of_login();
        return 0;
    }
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

/* Takes a new session keyring, because any holder of ours, as any user, can read its keys. It counts in our quota, so
 * that a user's quota of keys stops no job. Without keys in the kernel, or in a container that forbids them, nothing is
 * readable. */
static int leave_keyring(void) {
    long err = syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);

    return err >= 0 || errno == ENOSYS || errno == EPERM || errno == EACCES || errno == EOPNOTSUPP ? 0 : -1;
}

static int drop_inheritable(void) {
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, sets))
        return -1;
    for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
        sets[i].inheritable = 0;
    return (int)syscall(SYS_capset, &header, sets);
}

/* Drops priority that an administrator gave the daemon alone; lower priority applies to jobs as well. */
static int drop_haste(void) {
    struct sched_param usual = {0};
    long policy = syscall(SYS_sched_getscheduler, 0), io = syscall(SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0);
    long nice = syscall(SYS_getpriority, PRIO_PROCESS, 0); /* 20 - nice value */

    if (policy == SCHED_FIFO || policy == SCHED_RR || policy == SCHED_DEADLINE)
        if (syscall(SYS_sched_setscheduler, 0, SCHED_OTHER, &usual))
            return -1;
    if (nice > 20 && syscall(SYS_setpriority, PRIO_PROCESS, 0, 0))
        return -1;
    if (io > 0 && IOPRIO_PRIO_CLASS(io) == IOPRIO_CLASS_RT &&
        syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_PRIO_VALUE(IOPRIO_CLASS_NONE, 0)))
        return -1;
    return 0;
}

/* Core files only if limits.conf or the job sets that limit. */
static int drop_core(void) {
    struct rlimit core;

    if (getrlimit(RLIMIT_CORE, &core))
        return -1;
    core.rlim_cur = 0;
    return setrlimit(RLIMIT_CORE, &core);
}

int login_become(const struct login *l) {
    if (leave_keyring() || drop_core() || limits_set(&l->limits) || drop_haste() || drop_inheritable())
        return -1;
    umask(l->umask);
    if (syscall(SYS_setgroups, l->group_count, l->groups) || syscall(SYS_setresgid, l->gid, l->gid, l->gid) ||
        syscall(SYS_setresuid, l->uid, l->uid, l->uid))
        return -1;
    return suid_allowed ? 0 : prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}
