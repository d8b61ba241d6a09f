/* Counts processors and memory as a container sees them: the affinity mask, what the machine has, cut by the tightest
 * quota or limit of any cgroup above us. */
#include "worker/runner/cpus.h"

#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Processors in the affinity mask, 1 when it cannot be read. */
static unsigned cpus_affinity(void) {
    unsigned count = 0;

    for (int cpus = 1024; !count && cpus <= 1 << 18;
         cpus *= 2) { /* EINVAL: the kernel knows more processors than that */
        cpu_set_t *set = CPU_ALLOC(cpus);
        if (!set)
            break;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0)
            count = (unsigned)CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
        CPU_FREE(set);
    }
    return count ? count : 1;
}

/* First line of dir/name as up to two numbers; "max" reads as -1. Returns how many were read. */
static int read_numbers(const char *dir, const char *name, long long out[2]) {
    char path[PATH_MAX], line[128], first[64], second[64];

    if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
        return 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return 0;
    bool got = fgets(line, sizeof(line), f);
    fclose(f);
    int n = got ? sscanf(line, "%63s %63s", first, second) : 0;
    if (n >= 1)
        out[0] = strcmp(first, "max") == 0 ? -1 : atoll(first);
    if (n >= 2)
        out[1] = atoll(second);
    return n < 0 ? 0 : n;
}

struct controller {
    const char *name;
    uint64_t (*limit)(const char *dir, bool v2); /* limit of one cgroup directory; UINT64_MAX: none */
};

/* Whole processors, rounded up. */
static uint64_t quota_of(const char *dir, bool v2) {
    long long quota[2] = {-1, 0}, period[2] = {0, 0};

    if (v2) {
        if (read_numbers(dir, "cpu.max", quota) < 2)
            return UINT64_MAX;
        period[0] = quota[1];
    } else if (!read_numbers(dir, "cpu.cfs_quota_us", quota) || !read_numbers(dir, "cpu.cfs_period_us", period)) {
        return UINT64_MAX;
    }
    if (quota[0] <= 0 || period[0] <= 0 || quota[0] / period[0] >= UINT_MAX)
        return UINT64_MAX;
    return (uint64_t)((quota[0] + period[0] - 1) / period[0]);
}

/* Bytes. */
static uint64_t memory_of(const char *dir, bool v2) {
    long long bytes[2] = {-1, 0};

    if (!read_numbers(dir, v2 ? "memory.max" : "memory.limit_in_bytes", bytes) || bytes[0] <= 0)
        return UINT64_MAX;
    return (uint64_t)bytes[0];
}

/* The smallest limit from mount/group up to mount itself. */
static uint64_t limit_upwards(const struct controller *c, const char *mount, const char *group, bool v2) {
    char dir[PATH_MAX];
    uint64_t least = UINT64_MAX;

    if (strstr(group, "..") || snprintf(dir, sizeof(dir), "%s%s", mount, group) >= (int)sizeof(dir))
        return least; /* ".." : our cgroup lies outside the namespace we see */
    for (;;) {
        uint64_t limit = c->limit(dir, v2);
        if (limit < least)
            least = limit;
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < strlen(mount))
            return least;
        *slash = 0;
    }
}

static bool has_word(const char *list, const char *word) {
    size_t len = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += len)
        if ((at == list || at[-1] == ',') && (at[len] == ',' || !at[len]))
            return true;
    return false;
}

/* Where a hierarchy is mounted, from /proc/self/mountinfo: the one of type cgroup2, or the v1 one with that
 * controller. root is the part of the hierarchy that the mount shows. */
static bool find_mount(bool v2, const char *controller, char mount[PATH_MAX], char root[PATH_MAX]) {
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    FILE *f = fopen("/proc/self/mountinfo", "re");

    while (f && !found && getline(&line, &cap, f) > 0) {
        char type[32], options[1024];
        const char *tail = strstr(line, " - ");
        if (!tail || sscanf(tail, " - %31s %*s %1023s", type, options) != 2)
            continue;
        if (strcmp(type, v2 ? "cgroup2" : "cgroup") != 0 || (!v2 && !has_word(options, controller)))
            continue;
        found = sscanf(line, "%*d %*d %*s %4095s %4095s", root, mount) == 2;
    }
    free(line);
    if (f)
        fclose(f);
    return found;
}

static uint64_t least_limit(const struct controller *c) {
    uint64_t least = UINT64_MAX;
    char line[PATH_MAX + 256];
    FILE *f = fopen("/proc/self/cgroup", "re");

    while (f && fgets(line, sizeof(line), f)) { /* "4:cpu,cpuacct:/group", and "0::/group" for v2 */
        char mount[PATH_MAX], root[PATH_MAX];
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':');
        char *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group)
            continue;
        *group++ = 0;
        controllers++;
        bool v2 = !*controllers;
        if ((!v2 && !has_word(controllers, c->name)) || !find_mount(v2, c->name, mount, root))
            continue;
        size_t skip = strcmp(root, "/") == 0 ? 0 : strlen(root);
        if (strncmp(group, root, skip) == 0)
            group += skip;
        uint64_t limit = limit_upwards(c, mount, strcmp(group, "/") == 0 ? "" : group, v2);
        if (limit < least)
            least = limit;
    }
    if (f)
        fclose(f);
    return least;
}

unsigned cpus_available(void) {
    static const struct controller cpu = {"cpu", quota_of};
    unsigned cpus = cpus_affinity();
    uint64_t quota = least_limit(&cpu);

    if (quota < cpus)
        cpus = (unsigned)quota;
    return cpus ? cpus : 1;
}

uint64_t cpus_memory(void) {
    static const struct controller memory = {"memory", memory_of};
    uint64_t limit = least_limit(&memory), kib = 0, total;
    char line[128];
    FILE *f = fopen("/proc/meminfo", "re");

    while (f && !kib && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemTotal: %" SCNu64 " kB", &kib) != 1)
            kib = 0;
    if (f)
        fclose(f);
    total = kib * 1024;
    if (limit == UINT64_MAX)
        return total;
    return total && total < limit ? total : limit;
}
