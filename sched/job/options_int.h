/* Inside the options. Only the files of the options include this. */
#ifndef PPFS_OPTIONS_INT_H
#define PPFS_OPTIONS_INT_H
#include "sched/job/options.h"

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
    NEEDS,
    GIVES,
    OPTIONS
};

const char *options_name(enum option i);
/* One option from its text. 0, -ENOMEM, or -EINVAL with why. */
int options_set_value(struct options *o, const char *name, size_t name_len, const char *value, char why[OPTIONS_WHY]);
/* 0, -ENOMEM, -E2BIG: it has too many, or too much. */
int options_list_add(struct options_list *l, const char *item, size_t len);
int options_too_much(enum option i, char why[OPTIONS_WHY]);       /* says so of one of the lists; -EINVAL */
int options_parse_resources(struct resources *to, const char *v); /* 0 or -EINVAL */
/* The value of a set option that is no list, as options_set_value reads it; malloc'd, NULL without memory. */
char *options_text(const struct options *o, enum option i);
int options_check_names(enum option i, const struct options_list *l); /* 0 or -EINVAL */
bool options_is_list(enum option i); /* after=, drafts=, needs=, gives=: names with commas between */
struct options_list *options_names(struct options *o, enum option i); /* of one of these */
void options_list_clear(struct options_list *l);
int options_shown(const char *word); /* bytes of it that a message shows: at most 60, whole characters */
#endif
