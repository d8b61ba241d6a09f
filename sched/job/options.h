/* Options of a job: what a script's #ppfs: lines, a JSON object's keys, a .options file or the helper say. */
#ifndef PPFS_OPTIONS_H
#define PPFS_OPTIONS_H
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTIONS_WHY 256u

struct options;

/* All unset. NULL without memory. */
struct options *options_create(void);
void options_destroy(struct options *o);

/* Adds "priority=5 timeout=30s env=K:V 'cwd=/a b'" (words as a shell quotes them); later words win, env accumulates.
 * 0, -ENOMEM, or -EINVAL with why = the word that was not understood and what was expected. */
int options_add_words(struct options *o, const char *text, size_t len, char why[OPTIONS_WHY]);
/* Whether a text that may still go on can become words that are understood: 0, -ENOMEM, or -EINVAL with why. */
int options_check_words(const char *text, size_t len, char why[OPTIONS_WHY]);
/* The words that say what is set, a line each; malloc'd, NULL without memory. */
char *options_words(const struct options *o);
/* Adds every key of the object, as json_text_read gives it, that is not in skip (NULL-terminated names). Same returns.
 * */
int options_add_json(struct options *o, json_t *object, const char *const *skip, char why[OPTIONS_WHY]);
/* What over sets replaces what o has. 0 or -ENOMEM. */
int options_add(struct options *o, const struct options *over);

/* One line of JSON for the database, and back. save: malloc'd, NULL without memory, "" when nothing is set. */
char *options_save(const struct options *o);
int options_load(struct options *o, const char *saved);

int options_priority(const struct options *o);
int64_t options_timeout_us(const struct options *o); /* 0 = none */
uint32_t options_retries(const struct options *o);
uint32_t options_cpus(const struct options *o);   /* at least 1 */
uint64_t options_memory(const struct options *o); /* bytes, 0 = no limit */
bool options_hold(const struct options *o);
unsigned options_sandbox(const struct options *o);          /* enum of worker/forkserver/sandbox.h, 0 = none */
const char *options_sandbox_words(const struct options *o); /* as sandbox= says it */
const char *options_cwd(const struct options *o);           /* NULL = none */
const char *options_node(const struct options *o);          /* NULL = any */
const char *const *options_env(const struct options *o);    /* NULL-terminated "K=V"; never NULL */
const char *const *options_after(const struct options *o);  /* NULL-terminated job names; never NULL */
/* The first option set that says what a job runs, where or how often: its name; NULL: none is. */
const char *options_binding(const struct options *o);
/* Of a .options file alone: patterns of names, NULL-terminated; NULL: it does not say. */
const char *const *options_drafts(const struct options *o);
void options_drop_drafts(struct options *o);
#define OPTIONS_SAVED_DRAFTS "\"drafts\":" /* what options_save gives has this where they are said */
#endif
