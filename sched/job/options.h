/* Options of a job, from a script's #ppfs: lines, a JSON object's keys or a .options file. */
#ifndef PPFS_OPTIONS_H
#define PPFS_OPTIONS_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "worker/runner/resources.h"

#define OPTIONS_WHY 256u

struct options_list {
    char **items; /* NULL-terminated, NULL while empty */
    size_t count, bytes;
};

/* Read by everybody, written by the functions below. Strings: NULL where they are not set. */
struct options {
    unsigned set;   /* 1 << enum option */
    unsigned given; /* the same, of what is being read: the other options are of groups ... */
    size_t old_env; /* ... and so are the first variables of env */
    int priority, retries, cpus, gpu, hold;
    /* from .options files only: jobs and calls that run at once; failed jobs at which the rest is cancelled; 0: any */
    int max, max_fails;
    int64_t timeout_us;         /* 0: none */
    int64_t keep_us;            /* 0: for ever, -1: not said */
    uint64_t memory;            /* bytes, 0: no limit */
    struct resources resources; /* gpu apart */
    unsigned sandbox;           /* enum of worker/forkserver/sandbox.h */
    char *cwd, *node, *array;   /* array: as array_parse reads it */
    struct options_list env, after, drafts;
    struct options_list needs, gives; /* paths and patterns below the directory */
};

/* No option set. NULL without memory. */
struct options *options_create(void);
void options_destroy(struct options *o);

/* What is added next is another file: it replaces what is there, and has each option once. */
void options_begin(struct options *o);
/* Adds "priority=5 timeout=30s env=K:V 'cwd=/a b'" (words as a shell quotes them); later words win, env accumulates.
 * 0, -ENOMEM, or -EINVAL with why = the word that was not understood and what was expected. */
int options_add_words(struct options *o, const char *text, size_t len, char why[OPTIONS_WHY]);
/* The same of a text that may go on: without its last word, if that is or can become valid. */
int options_add_part(struct options *o, const char *text, size_t len, char why[OPTIONS_WHY]);
/* The options as words, one in each line; malloc'd, NULL without memory. */
char *options_words(const struct options *o);
/* Adds every key of the object, as json_text_read gives it, unless it is in skip (NULL-terminated). Same returns. */
int options_add_json(struct options *o, json_t *object, const char *const *skip, char why[OPTIONS_WHY]);
/* Options set in over replace those of o. 0, -ENOMEM, or -EINVAL with why: they are too many together. */
int options_add(struct options *o, const struct options *over, char why[OPTIONS_WHY]);

/* One line of JSON for the database, and back. save: malloc'd, NULL without memory, "" when nothing is set. */
char *options_save(const struct options *o);
/* Over what o has. 0, -ENOMEM, -EINVAL: it is none, or together with that too much. */
int options_load(struct options *o, const char *saved);

int options_parse_time(const char *text, int64_t *us);       /* 90, 30s, 5m, 2h, 7d: 0 or -EINVAL */
struct resources options_resources(const struct options *o); /* those of gpu= and resources= */
void options_drop_array(struct options *o);
const char *const *options_env(const struct options *o);   /* NULL-terminated "K=V"; never NULL */
const char *const *options_after(const struct options *o); /* NULL-terminated job names; never NULL */
/* The name of the first set option that determines what a job runs, where or how often; NULL: none is set. */
const char *options_binding(const struct options *o);
/* From .options files only: patterns of names, NULL-terminated; NULL: not set. */
const char *const *options_drafts(const struct options *o);
/* The name of the first set option that only a .options file may have; NULL: none is set. */
const char *options_of_group(const struct options *o);
void options_drop_of_group(struct options *o); /* all of these */
/* The name of the first set option that is neither max= nor max_fails=; NULL: none is set. */
const char *options_beyond_limits(const struct options *o);
/* In the text of options_save if drafts=, or max=, or max_fails= is set. */
#define OPTIONS_SAVED_DRAFTS "\"drafts\":"
#define OPTIONS_SAVED_MAX "\"max"
#endif
