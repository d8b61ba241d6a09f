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

/* Said once, in the template: programs may change users by their set-user-ID bits in jobs of others, as sudo does. */
void login_allow_suid(void);
/* The same, of users that another machine names: their groups are those that this machine says they are in. */
void login_check_groups(void);

struct login {
    uid_t uid;
    gid_t gid, *groups;
    int group_count;
    /* All of the environment, NULL-terminated: PATH HOME USER LOGNAME SHELL, our LANG, and PPFS where a mount is here.
     * No USER, LOGNAME and SHELL for a user whom this machine does not know. */
    char **env;
    struct limits limits;
    mode_t umask;
};

/* Looks the user up, which may take long where a directory service is asked. 0, or -1 with a sentence in why and
 * nothing to close. */
int login_open(struct login *l, uid_t uid, gid_t gid, char *why, size_t why_size);
void login_close(struct login *l); /* of one that is all zeros, too */

/* Takes on the user, for good: groups, limits, umask, a session keyring, no privilege to be had by executing, nothing
 * of ours that is better than what all have (nice value, real time). Makes system calls only, and raw ones, so it is
 * safe after vfork. 0 or -1 with errno. */
int login_become(const struct login *l);
#endif
