
#include "tests/unit/schedrig.h"

static char dir[64], why[512];

static struct event_base *base;

struct sched *s;

bool open_for_writing; /* whether a file still has a writer */

void ignore_hold(void *self, uint64_t job, bool hold) {
}

void ignore_resize(void *self, unsigned slots) {
}

void ignore_flush(void *self) {
}

static void on_change(void *arg, uint64_t job) {
}

static void on_log(void *arg, const char *sentence) {
    fprintf(stderr, "# %s\n", sentence);
}

static bool is_open(void *arg, uint64_t job, bool for_writing) {
    return open_for_writing;
}

int rig_begin(void) {
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

int rig_setup(void) {
    strcpy(dir, "/tmp/ppfs-sched-XXXXXX");
    if (!getenv("PPFS_WORKER") || !mkdtemp(dir) || chmod(dir, 0700) < 0)
        return -1;
    base = event_base_new();
    return rig_begin();
}

int rig_teardown(void) {
    char command[128];
    sched_destroy(s);
    event_base_free(base);
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

void rig_add(struct host *h, unsigned cpus, const struct runner_ops *ops, const char *name) {
    *h = (struct host){.s = s, .cpus = cpus, .wish = -1, .told = -1, .python = "3.11.2", .runner = {ops, h}};
    snprintf(h->name, sizeof h->name, "%s", name);
    assert_int_equal(host_enlist(s, h), 0);
    host_changed(h);
}

uint64_t rig_write(uid_t uid, gid_t gid, const char *name, const void *bytes, size_t size) {
    struct writer w = {.uid = uid, .gid = gid, .pid = getpid(), .mode = 0644, .request = 2};
    struct job j;
    assert_int_equal(sched_create_draft(s, 0, name, true, &w, &j), 0);
    assert_int_equal(sched_write(s, j.id, bytes, size, 0, NULL, NULL), 0);
    return j.id;
}

void rig_turn(void) {
    event_base_loop(base, EVLOOP_NONBLOCK);
    sched_turn(s);
}
