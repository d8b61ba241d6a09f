/* The supervisor: mounts, keeps the descriptor of the mount open, and starts a new daemon whenever one dies, so that no
 * client notices. SIGTERM, SIGINT and SIGHUP stop the daemon cleanly, then unmount; SIGUSR2 turns the trace of
 * transitions on and off. If the supervisor is killed, the daemon goes on alone. The supervisor does little, so that
 * little can fail in it. */
#ifndef PPFS_SUPERVISOR_H
#define PPFS_SUPERVISOR_H
#include "fs/process/daemon.h"

struct supervisor_config {
    struct daemon_config daemon; /* the supervisor sets ready, failed and arg */
    int tell; /* for a start in the background: gets '+' when ready, else a sentence; -1: stderr gets it */
};

/* Mounts and runs until the mount is gone. Returns the exit status of the command. */
int supervisor_run(struct supervisor_config *c);
/* The other end, in the command that started it: returns its exit status, 0 once the mount is ready. */
int supervisor_wait_ready(int told, const char *state_dir);
#endif
