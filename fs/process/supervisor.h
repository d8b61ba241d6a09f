/* The supervisor: mounts, keeps the descriptor of the mount open, and keeps a daemon serving it: one that dies is
 * started again, and no client notices. SIGTERM, SIGINT and SIGHUP stop the daemon cleanly, then unmount; SIGUSR2 turns
 * the trace of transitions on and off. Killed itself, it leaves a daemon that carries on. It does little, so that there
 * is little that can fail. */
#ifndef PPFS_SUPERVISOR_H
#define PPFS_SUPERVISOR_H
#include "fs/process/daemon.h"

struct supervisor_config {
    struct daemon_config daemon; /* ready, failed and arg are the supervisor's to set */
    int tell; /* where a background start is reported: '+' when ready, else a sentence; -1: none, stderr */
};

/* Mounts and runs until the mount is gone. Returns the exit status of the command. */
int supervisor_run(struct supervisor_config *c);
/* The other end, in the command that started it: returns its exit status, 0 once the mount is ready. */
int supervisor_wait_ready(int told, const char *state_dir);
#endif
