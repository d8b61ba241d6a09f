/* The lines of limits.conf(5), read as by pam_limits(8): domain, soft or hard, item, value. A line for the user goes
 * before one for his group, and that before one for all; among equals the last counts. Limits on logins and priority do
 * not apply to jobs. */
#include "worker/forkserver/limits.h"

#include <errno.h>
#include <glob.h>
#include <grp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BY_USER = 1, BY_GROUP, BY_ALL };

static const struct {
    const char *name;
    int resource;
    unsigned unit;
} items[] = {
    {"core", RLIMIT_CORE, 1024},       {"data", RLIMIT_DATA, 1024},  {"fsize", RLIMIT_FSIZE, 1024},
    {"memlock", RLIMIT_MEMLOCK, 1024}, {"nofile", RLIMIT_NOFILE, 1}, {"rss", RLIMIT_RSS, 1024},
    {"stack", RLIMIT_STACK, 1024},     {"cpu", RLIMIT_CPU, 60},      {"nproc", RLIMIT_NPROC, 1},
    {"as", RLIMIT_AS, 1024},           {"locks", RLIMIT_LOCKS, 1},   {"sigpending", RLIMIT_SIGPENDING, 1},
    {"msgqueue", RLIMIT_MSGQUEUE, 1},  {"nice", RLIMIT_NICE, 1},     {"rtprio", RLIMIT_RTPRIO, 1},
};

struct who {
    const char *name;
    uid_t uid;
    const gid_t *groups;
    int group_count;
};

static bool in_group(const struct who *w, gid_t low, gid_t high) {
    for (int i = 0; i < w->group_count; i++)
        if (w->groups[i] >= low && w->groups[i] <= high)
            return true;
    return false;
}

/* "500:", ":700" or "500:700". */
static bool range_of(const char *text, unsigned long *low, unsigned long *high) {
    char *end;

    *low = strtoul(text, &end, 10);
    if (*end != ':' || (end == text && !end[1]))
        return false;
    const char *second = end + 1;
    *high = *second ? strtoul(second, &end, 10) : UINT32_MAX - 1ul;
    return !*second || (end > second && !*end);
}

/* The rank of a line with that domain for the user; 0: it does not apply. */
static unsigned concerns(const struct who *w, const char *domain) {
    unsigned long low, high;

    if (strcmp(domain, "*") == 0)
        return BY_ALL;
    if (domain[0] == '@') {
        if (range_of(domain + 1, &low, &high))
            return in_group(w, (gid_t)low, (gid_t)high) ? BY_GROUP : 0;
        const struct group *g = getgrnam(domain + 1);
        return g && in_group(w, g->gr_gid, g->gr_gid) ? BY_GROUP : 0;
    }
    if (range_of(domain, &low, &high))
        return w->uid >= low && w->uid <= high ? BY_USER : 0;
    return w->name && strcmp(domain, w->name) == 0 ? BY_USER : 0;
}

static bool amount_of(const char *text, int resource, unsigned unit, rlim_t *amount) {
    char *end;

    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (resource == RLIMIT_NICE) {
        if (n < -20)
            n = -20;
        *amount = (rlim_t)(n > 19 ? 1 : 20 - n);
        return end != text && !*end;
    }
    if (strcmp(text, "unlimited") == 0 || strcmp(text, "infinity") == 0 || strcmp(text, "-1") == 0) {
        *amount = RLIM_INFINITY;
        return true;
    }
    if (end == text || *end || errno || n < 0)
        return false;
    *amount = (rlim_t)n > RLIM_INFINITY / unit ? RLIM_INFINITY : (rlim_t)n * unit;
    return true;
}

static void say(struct limits *l, unsigned by, const char *type, int resource, rlim_t amount) {
    struct limit *one = &l->of[resource];
    bool soft = type[0] != 'h', hard = type[0] != 's';

    if (soft && (!one->soft_by || by <= one->soft_by)) {
        one->soft_by = by;
        one->soft = amount;
    }
    if (hard && (!one->hard_by || by <= one->hard_by)) {
        one->hard_by = by;
        one->hard = amount;
    }
}

/* False: the user keeps the present limits. */
static bool take_line(struct limits *l, const struct who *w, char *line) {
    char domain[128], type[8], item[16], amount[32];
    rlim_t value;

    line[strcspn(line, "#\n")] = 0;
    int words = sscanf(line, "%127s %7s %15s %31s", domain, type, item, amount);
    unsigned by = words >= 2 ? concerns(w, domain) : 0;
    if (!by || (strcmp(type, "soft") != 0 && strcmp(type, "hard") != 0 && strcmp(type, "-") != 0))
        return true;
    if (words == 2 && type[0] == '-')
        return by != BY_USER;
    for (size_t i = 0; words == 4 && i < sizeof(items) / sizeof(items[0]); i++)
        if (strcmp(item, items[i].name) == 0 && amount_of(amount, items[i].resource, items[i].unit, &value))
            say(l, by, type, items[i].resource, value);
    return true;
}

static bool take_file(struct limits *l, const struct who *w, const char *path) {
    char line[1024];
    FILE *f = fopen(path, "re");
    bool going = true;

    while (f && going && fgets(line, sizeof(line), f))
        going = take_line(l, w, line);
    if (f)
        fclose(f);
    return going;
}

void limits_read(struct limits *l, const char *dir, const char *name, uid_t uid, const gid_t *groups, int group_count) {
    const struct who who = {name, uid, groups, group_count};
    char path[256];
    glob_t found;

    *l = (struct limits){0};
    snprintf(path, sizeof(path), "%s/limits.conf", dir);
    bool going = take_file(l, &who, path);
    snprintf(path, sizeof(path), "%s/limits.d/*.conf", dir);
    if (glob(path, 0, NULL, &found) == 0) {
        for (size_t i = 0; going && i < found.gl_pathc; i++)
            going = take_file(l, &who, found.gl_pathv[i]);
        globfree(&found);
    }
    if (!going)
        *l = (struct limits){0};
}

int limits_set(const struct limits *l) {
    struct rlimit now;

    for (int i = 0; i < RLIM_NLIMITS; i++) {
        const struct limit *one = &l->of[i];
        if (!one->soft_by && !one->hard_by)
            continue;
        if (getrlimit(i, &now))
            return -1;
        rlim_t before = now.rlim_max;
        if (one->hard_by)
            now.rlim_max = one->hard;
        if (one->soft_by)
            now.rlim_cur = one->soft;
        if (now.rlim_cur > now.rlim_max)
            now.rlim_cur = now.rlim_max;
        if (setrlimit(i, &now) == 0)
            continue;
        if (errno != EPERM) /* a container's root may raise none */
            return -1;
        now.rlim_max = now.rlim_max > before ? before : now.rlim_max;
        now.rlim_cur = now.rlim_cur > before ? before : now.rlim_cur;
        if (setrlimit(i, &now))
            return -1;
    }
    return 0;
}
