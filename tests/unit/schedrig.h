/* What tests of the scheduler over simulated hosts share: a scheduler with its database in a directory of its own, no
 * slot on this machine, and hosts whose runner is the test. Needs $PPFS_WORKER. Header only: each test is one file. */
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

static char dir[64], why[512];
static struct event_base *base;
static struct sched *s;
static bool open_for_writing; /* whether a file still has a writer */

/* --- what a runner is told and a simulated one does nothing about ------------------------------------------------ */

static void ignore_hold(void *self, uint64_t job, bool hold) {
}
static void ignore_resize(void *self, unsigned slots) {
}
static void ignore_flush(void *self) {
}

/* --- the scheduler ----------------------------------------------------------------------------------------------- */

static void on_change(void *arg, uint64_t job) {
}
static void on_log(void *arg, const char *sentence) {
    fprintf(stderr, "# %s\n", sentence);
}
static bool is_open(void *arg, uint64_t job, bool for_writing) {
    return open_for_writing;
}

/* As a daemon begins, with what is in dir. 0 or -errno */
static int rig_begin(void) {
    struct sched_config c = {.base = base,
                             .state_dir = dir,
                             .mountpoint = "/nowhere",
                             .worker_path = getenv("PPFS_WORKER"),
                             .cpus = 1,
                             .changed = on_change,
                             .group_changed = on_change,
                             .log = on_log};
    int rc = sched_create(&s, &c, why, sizeof why);
    if (rc == 0)
        rc = sched_recover(s, is_open, NULL);
    return rc == 0 ? sched_set_cpus(s, "local", 0) : rc;
}

/* 0, or the test cannot begin */
static int rig_setup(void) {
    strcpy(dir, "/tmp/ppfs-sched-XXXXXX");
    if (!getenv("PPFS_WORKER") || !mkdtemp(dir) || chmod(dir, 0700) < 0)
        return -1;
    base = event_base_new();
    return rig_begin();
}

static int rig_teardown(void) {
    char command[128];
    sched_destroy(s);
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* h is the first member of what stands for the host in the test; the scheduler frees it. */
static void rig_add(struct host *h, unsigned cpus, const struct runner_ops *ops, const char *name) {
    *h = (struct host){.s = s, .cpus = cpus, .wish = -1, .told = -1, .python = "3.11.2", .runner = {ops, h}};
    snprintf(h->name, sizeof h->name, "%s", name);
    assert_int_equal(host_enlist(s, h), 0);
    host_changed(h);
}

/* A draft with its first bytes. Returns its id. */
static uint64_t rig_write(uid_t uid, gid_t gid, const char *name, const void *bytes, size_t size) {
    struct writer w = {.uid = uid, .gid = gid, .pid = getpid(), .mode = 0644, .request = 2};
    struct job j;
    assert_int_equal(sched_create_draft(s, 0, name, true, &w, &j), 0);
    assert_int_equal(sched_write(s, j.id, bytes, size, 0, NULL, NULL), 0);
    return j.id;
}

/* What has happened, and a turn; the commit is the test's. */
static void rig_turn(void) {
    event_base_loop(base, EVLOOP_NONBLOCK);
    sched_turn(s);
}
#endif
