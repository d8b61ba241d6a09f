#include "fs/tree/kinds.h"

#include "fs/tree/info.h"
#include "fs/tree/attr.h"
#include "fs/tree/dashboard.h"
#include "fs/tree/events.h"
#include "fs/tree/failed.h"
#include "fs/tree/jobs.h"
#include "fs/tree/keys.h"
#include "fs/tree/list.h"
#include "fs/tree/nodes.h"
#include "fs/tree/results.h"
#include "fs/tree/root.h"
#include "fs/tree/running.h"
#include "fs/tree/stats.h"
#include "fs/tree/group_control.h"
#include "fs/tree/trace.h"

#define ON(shelf) (1u << SHELF_##shelf)
#define DIRECTORY(p, n, ...)                                                                                           \
    { .name = n, .parent = KIND_##p, .type = S_IFDIR, __VA_ARGS__ }
#define FILE_IN(p, n, ...)                                                                                             \
    { .name = n, .parent = KIND_##p, .type = S_IFREG, __VA_ARGS__ }
#define FEED(begin, more) .open = feed_open, .read = feed_read, .feed_begin = begin, .feed = more
#define EVENTS FEED(events_begin, events_feed), .ready = feed_ready
/* the directories that have the groups below jobs/ */
#define SIDE(n, finder, remove, remove_directory, on, of)                                                              \
    DIRECTORY(ROOT, n, .attr = jobs_dir_attr, .lookup = jobs_lookup, .find = finder, .list = list_group,               \
              .unlink = remove, .rmdir = remove_directory, .shelves = on, .leaf = of)
#define ROOT_FILE(n, t) FILE_IN(ROOT, n, .attr = root_attr, .text = t)
#define NODE_FILE(n, ...) FILE_IN(NODE, n, .attr = nodes_attr, .text = nodes_text, ##__VA_ARGS__)
#define NODES_FILE(n, ...) FILE_IN(NODES, n, .attr = nodes_attr, .text = nodes_text, ##__VA_ARGS__)
#define INFO_FILE(n, ...) FILE_IN(INFO_JOB, n, .attr = info_attr, .text = info_text, ##__VA_ARGS__)
#define INFO_LIVE(n, r) FILE_IN(INFO_JOB, n, .attr = info_attr, .open = info_open, .read = r, .ready = info_ready)
#define GROUP_WAITS(n)                                                                                                 \
    FILE_IN(INFO, n, .attr = info_group_attr, .open = info_group_open, .read = info_group_wait,                        \
            .ready = info_group_ready)
#define GROUP_CONTROL(n) FILE_IN(INFO, n, .attr = info_group_attr, .text = group_control_text, .set = group_control_set)

const struct kind_ops kinds[KINDS] = {
    [KIND_ROOT] = {.type = S_IFDIR, .attr = root_attr, .lookup = events_lookup},
    [KIND_README] = ROOT_FILE("README", root_text),
    [KIND_VERSION] = ROOT_FILE("version", root_text),
    [KIND_STATS] = ROOT_FILE("stats", stats_text),
    [KIND_STATS_JSON] = ROOT_FILE("stats.json", stats_json),
    [KIND_METRICS] = ROOT_FILE("metrics.prom", stats_metrics),
    [KIND_DASHBOARD] = ROOT_FILE("dashboard.html", dashboard_text),
    [KIND_EVENTS] = FILE_IN(ROOT, "events", .attr = root_attr, EVENTS),
    [KIND_RUNNING] = FILE_IN(ROOT, "running", .attr = root_attr, FEED(NULL, running_feed)),
    [KIND_TRACE] = FILE_IN(ROOT, "trace.json", .attr = root_attr, FEED(NULL, trace_feed), .feed_is_dear = true),

    [KIND_JOBS] = SIDE("jobs", jobs_find, jobs_unlink, jobs_rmdir, ON(JOBS), KIND_JOB),
    [KIND_RESULTS] = SIDE("results", results_find, results_unlink, jobs_rmdir, ON(RESULTS), KIND_RESULT),
    [KIND_FAILURES] = SIDE("failures", failures_find, results_unlink, jobs_rmdir, ON(FAILURES), KIND_FAILURE),
    [KIND_INFO] = SIDE("info", results_find, info_group_unlink, info_rmdir,
                       ON(JOBS) | ON(RESULTS) | ON(FAILURES) | ON(GONE), KIND_INFO_JOB),
    [KIND_GROUP_WAIT] = GROUP_WAITS(".wait"),
    [KIND_GROUP_OK] = GROUP_WAITS(".ok"),
    [KIND_GROUP_PROGRESS] = FILE_IN(INFO, ".progress", .attr = info_group_attr, .text = info_group_progress),
    [KIND_GROUP_EVENTS] = FILE_IN(INFO, ".events", .attr = info_group_attr, EVENTS),
    [KIND_GROUP_HOLD] = GROUP_CONTROL(".hold"),
    [KIND_GROUP_PRIORITY] = GROUP_CONTROL(".priority"),
    [KIND_GROUP_FAILED] = FILE_IN(INFO, ".failed", .attr = failed_attr, FEED(failed_begin, failed_feed)),

    [KIND_NODES] = DIRECTORY(ROOT, "nodes", .attr = nodes_attr, .lookup = nodes_lookup, .list = nodes_list,
                             .leaf = KIND_NODE, .mkdir = nodes_mkdir, .rmdir = nodes_rmdir),
    [KIND_NODES_LISTEN] = NODES_FILE(".listen"),
    [KIND_NODES_DISCOVER] = NODES_FILE(".discover", .set = nodes_set_discover),
    [KIND_KEYS] = DIRECTORY(NODES, ".keys", .attr = keys_attr, .lookup = nodes_lookup, .list = keys_list,
                            .leaf = KIND_KEY, .mkdir = nodes_mkdir, .rmdir = keys_rmdir),
    [KIND_KEY] = {.type = S_IFDIR, .attr = keys_attr},
    [KIND_KEY_TEXT] = FILE_IN(KEY, "key", .attr = keys_attr, .text = keys_text),
    [KIND_NODE] = {.type = S_IFDIR, .attr = nodes_attr},
    [KIND_NODE_CPUS] = NODE_FILE("cpus", .set = nodes_set),
    [KIND_NODE_STATE] = NODE_FILE("state", .set = nodes_set),
    [KIND_NODE_RUNNING] = NODE_FILE("running"),
    [KIND_NODE_DONE] = NODE_FILE("done"),
    [KIND_NODE_FAILED] = NODE_FILE("failed"),
    [KIND_NODE_SECONDS] = NODE_FILE("seconds"),
    [KIND_NODE_PYTHON] = NODE_FILE("python"),
    [KIND_NODE_RESOURCES] = NODE_FILE("resources"),
    [KIND_NODE_ADDRESS] = NODE_FILE("address"),
    [KIND_NODE_SEEN] = NODE_FILE("seen"),
    [KIND_NODE_WHY] = NODE_FILE("why"),

    [KIND_JOB] = {.type = S_IFREG, .attr = attr_job, .open = jobs_open, .read = jobs_read},
    [KIND_RESULT] =
        {.type = S_IFREG, .attr = results_attr, .open = results_open, .read = results_read, .ready = results_ready},
    [KIND_FAILURE] = {.type = S_IFREG, .attr = failures_attr, .open = failures_open, .read = failures_read},
    [KIND_INFO_JOB] = {.type = S_IFDIR, .attr = info_attr, .unlink = info_unlink},
    [KIND_STATE] = INFO_FILE("state"),
    [KIND_WHY] = INFO_FILE("why"),
    [KIND_WAIT] = INFO_LIVE("wait", info_wait),
    [KIND_STDOUT] = INFO_LIVE("stdout", info_read),
    [KIND_STDERR] = INFO_LIVE("stderr", info_read),
    [KIND_SPEC] = INFO_LIVE("spec", info_read),
    [KIND_EXIT] = INFO_FILE("exit"),
    [KIND_ATTEMPT] = INFO_FILE("attempt"),
    [KIND_NODE_OF] = INFO_FILE("node"),
    [KIND_TIMES] = INFO_FILE("times"),
    [KIND_USAGE] = INFO_FILE("usage"),
    [KIND_PRIORITY] = INFO_FILE("priority", .set = info_set),
    [KIND_EVENTS_OF] = FILE_IN(INFO_JOB, "events", .attr = info_attr, EVENTS),
    [KIND_HOLD] = INFO_FILE("hold", .set = info_set),
};
