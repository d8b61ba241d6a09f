/* Options as JSON: keys of a job, and a line in the database. options.c parses the values. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/json_text.h"
#include "sched/job/options_int.h"

/* --- read -------------------------------------------------------------------------------------------------------- */

/* A scalar as the text of a word. 0, -ENOMEM, or -EINVAL: it is no scalar. */
static int scalar_text(const json_t *v, char **text) {
    if (json_is_string(v) && strlen(json_string_value(v)) != json_string_length(v))
        return -EINVAL;
    if (json_is_string(v))
        *text = json_text_bytes(json_string_value(v));
    else if (json_is_boolean(v))
        *text = strdup(json_is_true(v) ? "1" : "0");
    else if (!json_is_integer(v))
        return -EINVAL;
    else if (asprintf(text, "%" JSON_INTEGER_FORMAT, json_integer_value(v)) < 0)
        *text = NULL;
    return *text ? 0 : -ENOMEM;
}

static int wrong_type(const char *name, char why[OPTIONS_WHY]) {
    snprintf(why, OPTIONS_WHY, "option %.*s has a value of a wrong type", options_shown(name), name);
    return -EINVAL;
}

/* key: of env, or NULL. */
static int set_scalar(struct options *o, const char *name, const char *key, const json_t *v, char why[OPTIONS_WHY]) {
    char *text = NULL, *key_bytes = NULL, *joined = NULL;
    int rc = scalar_text(v, &text);
    if (rc == -EINVAL)
        return wrong_type(name, why);
    if (rc == 0 && key && (!(key_bytes = json_text_bytes(key)) || asprintf(&joined, "%s:%s", key_bytes, text) < 0)) {
        joined = NULL;
        rc = -ENOMEM;
    }
    if (rc == 0)
        rc = options_set_value(o, name, strlen(name), key ? joined : text, why);
    free(joined);
    free(key_bytes);
    free(text);
    return rc;
}

static const char *expected(enum option which) {
    if (which == AFTER)
        return "job names are expected";
    return which == DRAFTS ? "patterns of names are expected"
                           : "paths below its directory, without .. or commas, are expected";
}

/* One of options_is_list, as an array of names. */
static int set_names(struct options *o, enum option which, const json_t *array, char why[OPTIONS_WHY]) {
    struct options_list *l = options_names(o, which);
    struct options_list fresh = {0};
    int rc = 0;
    for (size_t i = 0; i < json_array_size(array) && rc == 0; i++) {
        char *name = NULL;
        const json_t *v = json_array_get(array, i);
        rc = json_is_string(v) ? scalar_text(v, &name) : -EINVAL;
        if (rc == 0)
            rc = *name ? options_list_add(&fresh, name, strlen(name)) : -EINVAL;
        free(name);
    }
    if (rc == 0)
        rc = options_check_names(which, &fresh);
    if (rc < 0) {
        options_list_clear(&fresh);
        if (rc == -E2BIG)
            return options_too_much(which, why);
        if (rc == -EINVAL)
            snprintf(why, OPTIONS_WHY, "option %s is not understood: %s", options_name(which), expected(which));
        return rc;
    }
    options_list_clear(l);
    *l = fresh;
    o->set |= 1u << which;
    return 0;
}

static int add_key(struct options *o, const char *name, json_t *v, char why[OPTIONS_WHY]) {
    int rc = 0;
    if (json_is_boolean(v) && strcmp(name, "hold") != 0)
        return wrong_type(name, why);
    for (unsigned i = 0; i < OPTIONS && json_is_array(v); i++)
        if (options_is_list(i) && strcmp(name, options_name(i)) == 0)
            return set_names(o, i, v, why);
    if (json_is_array(v) && strcmp(name, "env") == 0) {
        for (size_t i = 0; i < json_array_size(v) && rc == 0; i++)
            rc = set_scalar(o, name, NULL, json_array_get(v, i), why);
        return rc;
    }
    if (json_is_object(v) && strcmp(name, "env") == 0) {
        const char *key;
        json_t *value;
        json_object_foreach(v, key, value) {
            if (rc == 0)
                rc = set_scalar(o, name, key, value, why);
        }
        return rc;
    }
    for (unsigned i = 0; i < OPTIONS; i++)
        if (strcmp(options_name(i), name) == 0)
            return set_scalar(o, name, NULL, v, why);
    return options_set_value(o, name, strlen(name), "", why); /* gives the error of an unknown name */
}

int options_add_json(struct options *o, json_t *object, const char *const *skip, char why[OPTIONS_WHY]) {
    const char *key;
    json_t *value;
    options_begin(o);
    json_object_foreach(object, key, value) {
        bool skipped = false;
        for (size_t i = 0; skip && skip[i]; i++)
            skipped |= strcmp(skip[i], key) == 0;
        int rc = skipped ? 0 : add_key(o, key, value, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

/* --- together, kept, read ---------------------------------------------------------------------------------------- */

/* NULL without memory, as all of these. */
static json_t *list_json(const struct options_list *l, char from, char to) {
    json_t *a = json_array();
    for (size_t i = 0; a && i < l->count; i++) {
        char *word = strdup(l->items[i]), *sign = word && from ? strchr(word, from) : NULL;
        if (sign)
            *sign = to;
        if (!word || json_array_append_new(a, json_text_make(word)) < 0) {
            json_decref(a);
            a = NULL;
        }
        free(word);
    }
    return a;
}

static json_t *value_json(const struct options *o, enum option i) {
    if (options_is_list(i))
        return list_json(options_names((struct options *)o, i), 0, 0);
    if (i == ENV)
        return list_json(&o->env, '=', ':');
    char *text = options_text(o, i);
    json_t *value = text ? json_text_make(text) : NULL;
    free(text);
    return value;
}

static json_t *to_json(const struct options *o) {
    json_t *j = json_object();
    for (unsigned i = 0; j && i < OPTIONS; i++)
        if (o->set & (1u << i) && json_object_set_new(j, options_name(i), value_json(o, i)) < 0) {
            json_decref(j);
            j = NULL;
        }
    return j;
}

int options_add(struct options *o, const struct options *over, char why[OPTIONS_WHY]) {
    json_t *j = to_json(over);
    int rc = j ? options_add_json(o, j, NULL, why) : -ENOMEM;
    json_decref(j);
    return rc;
}

char *options_save(const struct options *o) {
    if (!o->set)
        return strdup("");
    json_t *j = to_json(o);
    char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
    json_decref(j);
    return text;
}

int options_load(struct options *o, const char *saved) {
    char why[OPTIONS_WHY];
    json_error_t err;
    if (!saved || !*saved)
        return 0;
    json_t *j = json_loads(saved, 0, &err);
    if (!j)
        return json_error_code(&err) == json_error_out_of_memory ? -ENOMEM : -EINVAL;
    int rc = options_add_json(o, j, NULL, why);
    json_decref(j);
    return rc;
}
