/* Strangers: processes that became our children because we are their subreaper and their own parent died. */
#ifndef PPFS_REAP_H
#define PPFS_REAP_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Sends SIGKILL to every child of this process for which known(arg, pid) is false (known NULL: to all), and to its
 * process group. Does not wait. Returns how many it could signal: 0 when none is left, or when this user may not
 * kill those that are. */
unsigned reap_round(bool (*known)(void *arg, pid_t pid), void *arg);

/* pid is a child of this process and no stranger (true), until it has ended (false): reap_round lets it be. Up to 4. */
void reap_spare(pid_t pid, bool spare);

/* Kills and waits for every child there is, and for what these leave behind, until none is left or max_ms have passed.
 * Costs one system call where there is none. Returns true when none is left. */
bool reap_all(unsigned max_ms);

/* What reap_all calls besides when its rounds do not come to an end; NULL: nothing. */
extern void (*reap_stubborn)(void);

/* Waits for pid, a child, and meanwhile for whatever else ends below us, so that no zombies gather. The usage is the
 * one of pid and of what it had waited for. */
int reap_until(pid_t pid, struct rusage *usage); /* the wait status */

/* A child that wants to be traced by its parent (PTRACE_TRACEME, as programs do that look for a debugger) stops at its
 * next signal, and wait says so: lets it go on with the signal, untraced. False: the status is that of an end. */
bool reap_goes_on(pid_t pid, int status);

/* Parent of pid, from /proc; 0 when there is no such process. */
pid_t reap_parent(pid_t pid);

/* "exit status 3", "killed by SIGSEGV (segmentation fault)": a wait status in words. Returns buf. */
const char *reap_status_words(int status, char *buf, size_t size);
#endif
