/* Inside the options: struct options. Only the files of the options include this. */
#ifndef PPFS_OPTIONS_INT_H
#define PPFS_OPTIONS_INT_H
#include "sched/job/options.h"

struct options_list {
    char **items; /* NULL-terminated, NULL while empty */
    size_t count, bytes;
};

struct options {
    unsigned set;   /* 1 << enum */
    unsigned given; /* the same, of what is being read: the other options are of groups ... */
    size_t old_env; /* ... and so are the first variables of env */
    int priority;
    int64_t timeout_us, keep_us;
    uint32_t retries, cpus, max, max_fails;
    uint64_t memory;
    unsigned gpu;
    struct resources resources;
    bool hold;
    unsigned sandbox; /* enum of worker/forkserver/sandbox.h */
    char *cwd, *node, *array;
    struct options_list env, after, drafts;
};

enum option {
    PRIORITY,
    TIMEOUT,
    RETRIES,
    AFTER,
    CPUS,
    MEMORY,
    GPU,
    RESOURCES,
    ENV,
    CWD,
    NODE,
    HOLD,
    SANDBOX,
    DRAFTS,
    MAX,
    MAX_FAILS,
    ARRAY,
    KEEP,
    OPTIONS
};

const char *options_name(enum option i);
/* One option from its text. 0, -ENOMEM, or -EINVAL with why. */
int options_set_value(struct options *o, const char *name, size_t name_len, const char *value, char why[OPTIONS_WHY]);
/* 0, -ENOMEM, -E2BIG: it has too many, or too much. */
int options_list_add(struct options_list *l, const char *item, size_t len);
int options_too_much(enum option i, char why[OPTIONS_WHY]);       /* says so of one of the lists; -EINVAL */
int options_parse_resources(struct resources *to, const char *v); /* 0 or -EINVAL */
int options_check_drafts(const struct options_list *l);           /* 0 or -EINVAL */
void options_list_clear(struct options_list *l);
int options_shown(const char *word); /* bytes of it that a message shows: at most 60, whole characters */
#endif
