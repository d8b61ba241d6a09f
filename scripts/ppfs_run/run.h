/* ppfs-run: a command as a job, through the files of a mount alone. args.c reads the command line, find.c chooses the
 * mount, script.c writes job files, follow.c shows what a job prints until it has ended, group.c has many jobs at once,
 * run.c is the life of one; cannot.c says for all of them why there is none. */
#ifndef PPFS_RUN_H
#define PPFS_RUN_H
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum {
    RUN_TIMED_OUT =
        124,          /* exit statuses; else that of the command, 128 + the number of the signal that ended it, ... */
    RUN_CANNOT = 125, /* ... or this: no mount, refused, never ran */
};
enum run_do { RUN_COMMAND, RUN_HELP, RUN_VERSION, RUN_WAIT, RUN_FAILED, RUN_RETRY, RUN_CANCEL };

struct run_args {
    enum run_do what;
    const char *name;  /* of -g, --wait, --failed, --retry and --cancel; NULL: a lone command */
    const char *mount; /* NULL: find.c chooses */
    char *options;     /* words for a line "#ppfs:", NULL: none; args_free */
    char **command;    /* NULL-terminated, points into argv */
    char **items;      /* of a group, NULL-terminated; args_free where lines has them */
    char *lines;       /* what items point into, NULL: into argv */
    const char
        *array; /* FIRST-LAST where the items are numbers; then there may be no items, for a group that is an array */
    size_t first, last; /* of that */
    bool detach, no_stdin, progress;
    unsigned max, max_fails; /* of a group; 0: no limit */
};

/* Writes "ppfs-run: " and the sentence to standard error. Returns RUN_CANNOT. */
int run_cannot(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* 0, or the exit status after a line on standard error. */
int args_read(struct run_args *a, int argc, char **argv);
void args_free(struct run_args *a);
void args_help(void);

/* The mount as an absolute path, for free(): the one that is named, $PPFS, this user's own of the mount table, root's.
 * NULL after a line on standard error. */
char *find_mount(const char *named);

/* What job files have in common: a script for sh that has this process's umask and environment, and the options. NULL:
 * no memory. For free(). */
char *script_head(const char *options);
/* Writes a new job file: head, and the command with item for each "{}" (or behind it, where there is none) and index as
 * PPFS_INDEX. item: NULL: as it is; script_index: that is what PPFS_INDEX will be. input: what its standard input is to
 * have, read to its end; -1: nothing. 0 or -errno; then there is no such job. -EINTR: a signal came (follow_caught). */
extern const char script_index[];
int script_write(const char *path, const char *head, char **command, const char *item, size_t index, int input);

/* What can be known of a job that has ended without opening anything. */
struct follow_known {
    bool done, silent[2]; /* it succeeded; it printed nothing to standard output, or error */
};
/* Whether it has ended, and with an exit status; else k is not set. */
bool follow_ended(const char *mount, const char *name, struct follow_known *k);
/* Copies what the job of that name prints to standard output and standard error until it has ended. mount is the
 * mountpoint. k: of one that has ended; else NULL. beat, where it is not NULL, is called every second. 0, -errno, or
 * the number of the signal that came meanwhile (SIGPIPE: nobody reads our output any more). */
int follow(const char *mount, const char *name, const struct follow_known *k, void (*beat)(void *arg), void *arg);
/* Signals that would end us are kept for follow from here on, which returns them; a second one ends us at once. */
void follow_signals(void);
int follow_caught(void); /* the one that came; 0: none */
/* poll(2), which such a signal ends: -EINTR. Without follow_signals before it none does. */
int follow_ready(struct pollfd *fds, nfds_t count, int timeout_ms);
/* Restores and raises the signal; ends this process. */
void follow_die(int signal) __attribute__((noreturn));
/* Waits for the end of a job; at once where there is none of that name. */
void follow_end(const char *mount, const char *name);
/* What became of a job whose file was just written. 0: it was taken. RUN_CANNOT after a line that says why it failed
 * before it ran. */
int follow_taken(const char *mount, const char *name);
/* Waits until an array has elements; before, it is one job that may wait. 0, the signal that came, or RUN_CANNOT after
 * a line: it never will. */
int follow_begun(const char *mount, const char *name);
/* The exit status of a job that has ended, after a line on standard error where the command itself did not end. Waits
 * for its end where it has not. */
int follow_status(const char *mount, const char *name);

/* Many jobs: a command for each item, and what can be done with a group. Each returns an exit status. */
int group_run(const char *mount, const struct run_args *a);
int group_wait(const char *mount, const char *name);
int group_failed(const char *mount, const char *name);
int group_retry(const char *mount, const char *name);
int group_cancel(const char *mount, const char *name);
#endif
