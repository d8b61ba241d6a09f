/* Options: one table of names and parsers; every source (words, JSON, the database) ends in the same parser of one
 * value. */
#include "sched/job/options_int.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/printable.h"
#include "sched/job/array.h"
#include "sched/job/job.h"
#include "worker/forkserver/sandbox.h"

#define LIST_MAX 1024u          /* entries of after= and env= */
#define PATTERNS_MAX 64u        /* of drafts=: every name is matched against all */
#define VALUE_MAX (64u * 1024u) /* bytes of one value */
/* of all entries of a list: each look at a job reads them again, in the loop */
#define LIST_KIB 256u

static const char *const empty[] = {NULL};

void options_list_clear(struct options_list *l) {
    for (size_t i = 0; i < l->count; i++)
        free(l->items[i]);
    free(l->items);
    *l = (struct options_list){0};
}

int options_list_add(struct options_list *l, const char *item, size_t len) {
    if (l->count >= LIST_MAX || len > LIST_KIB * 1024 - l->bytes)
        return -E2BIG;
    char **grown = reallocarray(l->items, l->count + 2, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    l->items = grown;
    grown[l->count] = strndup(item, len);
    if (!grown[l->count])
        return -ENOMEM;
    grown[++l->count] = NULL;
    l->bytes += len;
    return 0;
}

struct options *options_create(void) {
    struct options *o = calloc(1, sizeof *o);
    if (o)
        *o = (struct options){.cpus = 1, .keep_us = -1};
    return o;
}

void options_begin(struct options *o) {
    o->given = 0;
    o->old_env = o->env.count;
}

void options_destroy(struct options *o) {
    if (!o)
        return;
    free(o->cwd);
    free(o->node);
    free(o->array);
    options_list_clear(&o->env);
    options_list_clear(&o->after);
    options_list_clear(&o->drafts);
    options_list_clear(&o->needs);
    options_list_clear(&o->gives);
    free(o);
}

/* --- one value --------------------------------------------------------------------------------------------------- */

static int parse_whole(const char *v, int min, int max, int *out) {
    char *end;
    errno = 0;
    long long n = strtoll(v, &end, 10);
    if (end > v && isdigit((unsigned char)end[-1]) && strncmp(end, ".0", 2) == 0)
        end += 2; /* some languages write whole numbers so */
    if (end == v || *end || errno || n < min || n > max)
        return -EINVAL;
    *out = (int)n;
    return 0;
}

/* A number that may have a fraction, and a unit of the table. */
static int parse_unit(const char *v, const char *const *units, const double *factors, double max, double *out) {
    char *end;
    if (!isdigit((unsigned char)*v) && *v != '.')
        return -EINVAL; /* strtod would take "nan", "inf", signs and leading blanks */
    errno = 0;
    double n = strtod(v, &end);
    if (end == v || errno || !isfinite(n))
        return -EINVAL;
    for (size_t i = 0; units[i]; i++)
        if (strcmp(end, units[i]) == 0) {
            *out = n * factors[i];
            return *out <= max ? 0 : -EINVAL;
        }
    return -EINVAL;
}

int options_parse_time(const char *v, int64_t *us) {
    static const char *const units[] = {"", "s", "m", "h", "d", "ms", "us", NULL};
    static const double factors[] = {1e6, 1e6, 60e6, 3600e6, 86400e6, 1e3, 1};
    double n;
    if (parse_unit(v, units, factors, 10 * 365 * 86400e6, &n) < 0 || n < 1)
        return -EINVAL;
    *us = (int64_t)n;
    return 0;
}

static int parse_size(const char *v, uint64_t *bytes) {
    static const char *const units[] = {"", "K", "M", "G", "T", "KiB", "MiB", "GiB", "TiB", "k", NULL};
    static const double factors[] = {1, 0x1p10, 0x1p20, 0x1p30, 0x1p40, 0x1p10, 0x1p20, 0x1p30, 0x1p40, 0x1p10};
    double n;
    if (parse_unit(v, units, factors, 0x1p60, &n) < 0 || n < 1)
        return -EINVAL;
    *bytes = (uint64_t)n;
    return 0;
}

static int set_string(char **where, const char *v) {
    char *copy = strdup(v);
    if (!copy)
        return -ENOMEM;
    free(*where);
    *where = copy;
    return 0;
}

/* "none" cancels the group's option. */
static const char *const sandboxes[] = {"none", [SANDBOX_RO] = "ro", [SANDBOX_NET_OFF] = "net-off",
                                        [SANDBOX_RO | SANDBOX_NET_OFF] = "ro,net-off"};

static int set_sandbox(struct options *o, const char *v) {
    if (strcmp(v, "net-off,ro") == 0)
        v = "ro,net-off";
    for (unsigned i = 0; i < sizeof sandboxes / sizeof *sandboxes; i++)
        if (strcmp(v, sandboxes[i]) == 0) {
            o->sandbox = i;
            return 0;
        }
    return -EINVAL;
}

/* Words with commas between them. */
static int set_list(struct options_list *l, const char *v) {
    struct options_list fresh = {0};
    for (const char *p = v;; p++) {
        size_t n = strcspn(p, ",");
        int rc = n ? options_list_add(&fresh, p, n) : -EINVAL;
        if (rc < 0) {
            options_list_clear(&fresh);
            return rc;
        }
        p += n;
        if (!*p)
            break;
    }
    options_list_clear(l);
    *l = fresh;
    return 0;
}

/* Given more than once, it is one list. */
static int set_after(struct options *o, const char *v) {
    struct options_list more = {0};
    int rc = set_list(&more, v);
    if (rc == 0 && !(o->given & 1u << AFTER))
        options_list_clear(&o->after);
    for (size_t i = 0; i < more.count && rc == 0; i++)
        rc = options_list_add(&o->after, more.items[i], strlen(more.items[i]));
    options_list_clear(&more);
    return rc;
}

/* Limits number and length of patterns, because every name in the group is matched against all. */
static int check_drafts(const struct options_list *l) {
    for (size_t i = 0; i < l->count; i++)
        if (strlen(l->items[i]) > JOB_NAME_MAX || strchr(l->items[i], '/'))
            return -EINVAL;
    return l->count <= PATTERNS_MAX ? 0 : -EINVAL;
}

/* Whether it names something below a directory: none of its parts leaves it. */
static bool is_below(const char *path) {
    if (*path == '/')
        return false;
    for (const char *p = path; *p; p += strspn(p, "/")) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return false;
        p += n;
    }
    return *path && !strchr(path, ',');
}

int options_check_names(enum option i, const struct options_list *l) {
    if (i == DRAFTS)
        return check_drafts(l);
    for (size_t k = 0; k < l->count && i != AFTER; k++)
        if (!is_below(l->items[k]))
            return -EINVAL;
    return 0;
}

bool options_is_list(enum option i) {
    return i == AFTER || i == DRAFTS || i == NEEDS || i == GIVES;
}

struct options_list *options_names(struct options *o, enum option i) {
    if (i == AFTER)
        return &o->after;
    if (i == DRAFTS)
        return &o->drafts;
    return i == NEEDS ? &o->needs : &o->gives;
}

/* It replaces what is there. */
static int set_names(struct options *o, enum option i, const char *v) {
    struct options_list fresh = {0};
    int rc = *v || i != DRAFTS ? set_list(&fresh, v) : 0;
    if (rc == 0)
        rc = options_check_names(i, &fresh);
    else if (rc == -E2BIG && i == DRAFTS)
        rc = -EINVAL;
    if (rc < 0) {
        options_list_clear(&fresh);
        return rc;
    }
    options_list_clear(options_names(o, i));
    *options_names(o, i) = fresh;
    return 0;
}

/* "K:V" becomes "K=V"; it replaces that of a group. -EEXIST: K was given before. */
static int set_env(struct options *o, const char *v) {
    size_t key = strcspn(v, ":=");
    if (key == 0 || v[key] != ':')
        return -EINVAL;
    for (size_t i = 0; i < o->env.count; i++)
        if (strncmp(o->env.items[i], v, key) == 0 && o->env.items[i][key] == '=') {
            if (i >= o->old_env)
                return -EEXIST;
            o->env.bytes -= strlen(o->env.items[i]);
            free(o->env.items[i]);
            memmove(&o->env.items[i], &o->env.items[i + 1], (o->env.count - i) * sizeof *o->env.items);
            o->env.count--;
            o->old_env--;
            break;
        }
    int rc = options_list_add(&o->env, v, strlen(v));
    if (rc == 0)
        o->env.items[o->env.count - 1][key] = '=';
    return rc;
}

/* BINDING: it determines what a job runs, where or how often (options_binding). OF_GROUP: only .options files have
 * it. */
enum option_kind { MILD, BINDING, OF_GROUP };

#define PATHS "paths below its directory, without .., with commas between them"
#define NUMBER(field, least, most) offsetof(struct options, field), least, most
#define NO_NUMBER 0, 0, 0
static const struct {
    const char *name, *expected;
    enum option_kind is;
    size_t number; /* where a whole number is; of any other option 0 */
    int least, most;
} table[OPTIONS] = {
    [PRIORITY] = {"priority", "a whole number from -1000000 to 1000000", MILD, NUMBER(priority, -1000000, 1000000)},
    [TIMEOUT] = {"timeout", "a time such as 90, 30s, 5m or 2h", MILD, NO_NUMBER},
    [RETRIES] = {"retries", "a whole number from 0 to 1000", BINDING, NUMBER(retries, 0, 1000)},
    [AFTER] = {"after", "job names with commas between them", BINDING, NO_NUMBER},
    [CPUS] = {"cpus", "a whole number from 1 to 4096", BINDING, NUMBER(cpus, 1, 4096)},
    [GPU] = {"gpu", "a whole number from 1 to 64", BINDING, NUMBER(gpu, 1, RESOURCE_MOST)},
    [RESOURCES] = {"resources",
                   "up to 7 different NAME:N, N from 1 to 64, with commas between them (gpu= is an option of its own)",
                   BINDING, NO_NUMBER},
    [MEMORY] = {"memory", "a size such as 500M or 2G", BINDING, NO_NUMBER},
    [ENV] = {"env", "KEY:VALUE", BINDING, NO_NUMBER},
    [CWD] = {"cwd", "a directory that begins with /", BINDING, NO_NUMBER},
    [NODE] = {"node", "a node's name or a pattern such as gpu*", BINDING, NO_NUMBER},
    [HOLD] = {"hold", "0 or 1", MILD, NUMBER(hold, 0, 1)},
    [SANDBOX] = {"sandbox", "ro, net-off, both with a comma between them, or none", BINDING, NO_NUMBER},
    [DRAFTS] = {"drafts", "up to 64 patterns of names, without /, with commas between them", OF_GROUP, NO_NUMBER},
    [MAX] = {"max", "a whole number from 1 to 1000000000", OF_GROUP, NUMBER(max, 1, 1000000000)},
    [MAX_FAILS] = {"max_fails", "a whole number from 1 to 1000000000", OF_GROUP, NUMBER(max_fails, 1, 1000000000)},
    [ARRAY] = {"array", ARRAY_EXPECTED, BINDING, NO_NUMBER},
    [KEEP] = {"keep", "a time such as 30m, 12h or 7d, or 0 for ever", BINDING, NO_NUMBER},
    [NEEDS] = {"needs", PATHS, BINDING, NO_NUMBER},
    [GIVES] = {"gives", PATHS, BINDING, NO_NUMBER},
};

/* -EEXIST: it was given before. */
static int set(struct options *o, enum option i, const char *v) {
    struct array_list indexes;
    switch (i) {
    case TIMEOUT: return options_parse_time(v, &o->timeout_us);
    case KEEP:
        if (strcmp(v, "0") != 0)
            return options_parse_time(v, &o->keep_us);
        o->keep_us = 0;
        return 0;
    case MEMORY: return parse_size(v, &o->memory);
    case RESOURCES: return options_parse_resources(&o->resources, v);
    case SANDBOX: return set_sandbox(o, v);
    case CWD: return *v == '/' ? set_string(&o->cwd, v) : -EINVAL;
    case NODE: return *v ? set_string(&o->node, v) : -EINVAL;
    case ARRAY: return array_parse(v, &indexes) == 0 ? set_string(&o->array, v) : -EINVAL;
    case AFTER: return set_after(o, v);
    case DRAFTS:
    case NEEDS:
    case GIVES: return set_names(o, i, v);
    case ENV: return set_env(o, v);
    default: return parse_whole(v, table[i].least, table[i].most, (int *)((char *)o + table[i].number));
    }
}

char *options_text(const struct options *o, enum option i) {
    char text[RESOURCES_TEXT];
    int64_t us = i == KEEP ? o->keep_us : o->timeout_us;
    bool seconds = us % 1000000 == 0;
    switch (i) {
    case TIMEOUT:
    case KEEP:
        snprintf(text, sizeof text, "%" PRId64 "%s", seconds ? us / 1000000 : us, seconds ? "s" : "us");
        return strdup(us ? text : "0");
    case MEMORY: snprintf(text, sizeof text, "%" PRIu64, o->memory); return strdup(text);
    case RESOURCES:
        resources_text(&o->resources, text);
        for (char *c = text; (c = strchr(c, '='));)
            *c = ':';
        return strdup(text);
    case SANDBOX: return strdup(sandboxes[o->sandbox]);
    case CWD: return strdup(o->cwd);
    case NODE: return strdup(o->node);
    case ARRAY: return strdup(o->array);
    default: snprintf(text, sizeof text, "%d", *(const int *)((const char *)o + table[i].number)); return strdup(text);
    }
}

/* Bytes of a word to show: at most 60, ending at a whole character. */
int options_shown(const char *word) {
    size_t n = 0, c;
    while (word[n] && (c = utf8_length(word + n, strlen(word + n)), n + (c ? c : 1) <= 60))
        n += c ? c : 1;
    return (int)n;
}

const char *options_name(enum option i) {
    return table[i].name;
}

int options_too_much(enum option i, char why[OPTIONS_WHY]) {
    snprintf(why, OPTIONS_WHY,
             "option %s= has more than %u entries, or they are more than %u KiB, with those of its groups",
             table[i].name, LIST_MAX, LIST_KIB);
    return -EINVAL;
}

int options_set_value(struct options *o, const char *name, size_t name_len, const char *value, char why[OPTIONS_WHY]) {
    for (unsigned i = 0; i < OPTIONS; i++) {
        if (strlen(table[i].name) != name_len || memcmp(table[i].name, name, name_len) != 0)
            continue;
        bool adds_up = i == AFTER || i == ENV, again = !adds_up && o->given & 1u << i;
        int rc = strlen(value) <= VALUE_MAX ? set(o, (enum option)i, value) : -EINVAL;
        if (rc == 0 && again)
            rc = -EEXIST;
        if (rc == 0) {
            o->set |= 1u << i;
            o->given |= 1u << i;
        } else if (rc == -EEXIST) {
            snprintf(why, OPTIONS_WHY, "option %s=%.*s is given twice", table[i].name,
                     i == ENV ? (int)strcspn(value, ":") : 0, value);
            rc = -EINVAL;
        } else if (rc == -EINVAL)
            snprintf(why, OPTIONS_WHY, "option %s=%.*s is not understood: %s is expected", table[i].name,
                     options_shown(value), value, table[i].expected);
        else if (rc == -E2BIG)
            rc = options_too_much((enum option)i, why);
        return rc;
    }
    if (name_len)
        snprintf(why, OPTIONS_WHY, "option %.*s is not known", (int)(name_len < 60 ? name_len : 60), name);
    else
        snprintf(why, OPTIONS_WHY, "=%.*s is not understood: NAME=VALUE is expected", options_shown(value), value);
    return -EINVAL;
}

void options_drop_array(struct options *o) {
    free(o->array);
    o->array = NULL;
    o->set &= ~(1u << ARRAY);
}
const char *const *options_env(const struct options *o) {
    return o->env.count ? (const char *const *)o->env.items : empty;
}
const char *const *options_after(const struct options *o) {
    return o->after.count ? (const char *const *)o->after.items : empty;
}
const char *options_binding(const struct options *o) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (table[i].is == BINDING && o->set & 1u << i)
            return table[i].name;
    return NULL;
}
const char *const *options_drafts(const struct options *o) {
    const char *const *drafts = o->drafts.count ? (const char *const *)o->drafts.items : empty;
    return o->set & (1u << DRAFTS) ? drafts : NULL;
}
const char *options_of_group(const struct options *o) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (table[i].is == OF_GROUP && o->set & 1u << i)
            return table[i].name;
    return NULL;
}
const char *options_beyond_limits(const struct options *o) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (i != MAX && i != MAX_FAILS && o->set & 1u << i)
            return table[i].name;
    return NULL;
}
void options_drop_of_group(struct options *o) {
    options_list_clear(&o->drafts);
    o->max = o->max_fails = 0;
    for (unsigned i = 0; i < OPTIONS; i++)
        if (table[i].is == OF_GROUP)
            o->set &= ~(1u << i);
}
