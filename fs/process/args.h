/* The command line of ppfs(1). */
#ifndef PPFS_ARGS_H
#define PPFS_ARGS_H
#include <stdbool.h>
#include <sys/types.h>
#include "worker/runner/resources.h"

struct args {
    bool foreground, help, version;
    bool everyone; /* -o allow_other */
    bool sync_full;
    bool no_resend;
    bool suid_jobs;
    bool trace;     /* log each transition */
    unsigned given; /* while it is read: which of those that can be given once */
    int64_t keep_us;
    unsigned keep_results;    /* 0: all */
    unsigned cpus, silence_s; /* silence_s 0: the default */
    char *state, *python;     /* NULL: the default */
    char *key, *listen;       /* NULL: the default, none */
    struct resources resources;
    char *node_users;    /* lines NAME=UID; NULL: none */
    char *quota;         /* NULL: the defaults */
    char *check;         /* a state directory to examine, instead of mounting; else NULL */
    char *salvage[2];    /* a damaged one, and a new one for what is whole in it; else NULL */
    char *mountpoint;    /* as given */
    char *mount_options; /* for FUSE, "a,b=c"; NULL: none */
};

/* 0, or -EINVAL after one line on stderr. The caller owns the strings: args_free. */
int args_read(struct args *a, int argc, char **argv);
void args_free(struct args *a);
void args_help(void);
bool args_user(const char *text, uid_t *out); /* a user by name or number; false: there is none */
#endif
