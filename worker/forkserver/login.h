/* What a process of another user begins with: as at his login, and with nothing of ours.
 *
 *   groups          getgrouplist; on a node the job's own has to be among them
 *   environment     nothing, then PATH of login.defs, HOME, USER, LOGNAME, SHELL; LANG and PPFS of the daemon
 *   limits          those that ppfs was started with, then limits.conf and limits.d as pam_limits reads them; the soft
 *                   limit of core files is 0 unless they say otherwise
 *   umask           login.defs, else 022
 *   keyring         a new session keyring (none where the kernel or the container has no keys)
 *   privileges      no inheritable capabilities; no new ones by executing, without --suid-jobs
 *   nice value, scheduler, I/O class: negative ones and real time become the usual ones
 *   session, terminal, process group: of its own
 *   OOM score       500 as for every worker; only higher from there
 *
 * PAM is not linked: its sessions would have to be closed again by a process of root's for each job. So pam_env,
 * pam_systemd and a home directory made at login are not done, and the cgroup is one below that of ppfs. */
#ifndef PPFS_LOGIN_H
#define PPFS_LOGIN_H
#include <stdbool.h>
#include <stddef.h>
#include "worker/forkserver/limits.h"

/* Called once, in the fork server: set-user-ID bits take effect in jobs of other users, for sudo, say. */
void login_allow_suid(void);
/* Called once, in the fork server of a node: users get only groups in which this machine has them. */
void login_check_groups(void);

struct login {
    uid_t uid;
    gid_t gid, *groups;
    int group_count;
    /* The whole environment, NULL-terminated: PATH HOME USER LOGNAME SHELL, our LANG, and PPFS if a mount is here.
     * Without USER, LOGNAME and SHELL for a user unknown to this machine. */
    char **env;
    struct limits limits;
    mode_t umask;
};

/* Looks the user up, which may take long with a directory service. 0, or -1 with a sentence in why and nothing to
 * close. */
int login_open(struct login *l, uid_t uid, gid_t gid, char *why, size_t why_size);
void login_close(struct login *l); /* also accepts an all-zero one */

/* Becomes the user for good: groups, limits, umask, session keyring, no new privileges, no raised priority (nice value,
 * real time). Makes raw system calls only, so it is safe after vfork. 0 or -1 with errno. */
int login_become(const struct login *l);
#endif
