/* What tests of the scheduler over simulated hosts share: a scheduler with its database in a directory of its own, no
 * slot on this machine, and hosts whose runner is the test. Needs $PPFS_WORKER. */
#ifndef PPFS_SCHEDRIG_H
#define PPFS_SCHEDRIG_H
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched/sched.h"
#include "sched/leases/lease_int.h"
#include "sched/streams/streams.h"

extern struct sched *s;
extern bool open_for_writing;

void ignore_hold(void *self, uint64_t job, bool hold);
void ignore_resize(void *self, unsigned slots);
void ignore_flush(void *self);
/* As a daemon begins, with what is in dir. 0 or -errno */
int rig_begin(void);
/* 0, or the test cannot begin */
int rig_setup(void);
int rig_teardown(void);
/* h is the first member of what stands for the host in the test; the scheduler frees it. */
void rig_add(struct host *h, unsigned cpus, const struct runner_ops *ops, const char *name);
/* A draft with its first bytes. Returns its id. */
uint64_t rig_write(uid_t uid, gid_t gid, const char *name, const void *bytes, size_t size);
/* What has happened, and a turn; the commit is the test's. */
void rig_turn(void);
#endif
