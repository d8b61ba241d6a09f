/* Options as words: those of a script's comments and of a .options file, read and written. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/json_text.h"
#include "sched/job/options_int.h"

/* --- read -------------------------------------------------------------------------------------------------------- */

/* Unquotes the next word into word (as large as the text). Returns its end; NULL: there is none, or a quote is open. */
static const char *next_word(const char *p, const char *end, char *word, bool *open_quote) {
    char quote = 0;
    size_t n = 0;
    while (p < end && isspace((unsigned char)*p))
        p++;
    if (p == end)
        return NULL;
    for (; p < end && (quote || !isspace((unsigned char)*p)); p++) {
        if (quote ? *p == quote : *p == '\'' || *p == '"')
            quote = quote ? 0 : *p;
        else
            word[n++] = *p;
    }
    word[n] = 0;
    *open_quote = quote;
    return p;
}

/* Whether a known option begins so, or (whole) is called so. */
static bool is_name(const char *name, size_t size, bool whole) {
    for (unsigned i = 0; i < OPTIONS; i++)
        if (strncmp(options_name(i), name, size) == 0 && (!whole || strlen(options_name(i)) == size))
            return true;
    return false;
}

/* cut: the text may go on, so its last word is refused only if no continuation is valid. */
static int add_words(struct options *o, const char *text, size_t len, bool cut, char why[OPTIONS_WHY]) {
    if (memchr(text, 0, len)) {
        snprintf(why, OPTIONS_WHY, "the options have a NUL byte in them");
        return -EINVAL;
    }
    char *word = malloc(len + 1);
    if (!word)
        return -ENOMEM;
    const char *p = text + json_text_mark(text, len), *end = text + len;
    bool open_quote = false;
    int rc = 0;
    while (rc == 0 && (p = next_word(p, end, word, &open_quote))) {
        char *equals = strchr(word, '=');
        size_t name = equals ? (size_t)(equals - word) : strlen(word);
        if (cut && p == end && is_name(word, name, equals))
            continue;
        if (equals && (!open_quote || !is_name(word, name, true))) {
            rc = options_set_value(o, word, name, equals + 1, why);
        } else {
            snprintf(why, OPTIONS_WHY, "option word %.*s is not understood: %s", options_shown(word), word,
                     open_quote ? "its quote is not closed" : "NAME=VALUE is expected");
            rc = -EINVAL;
        }
    }
    free(word);
    return rc;
}

int options_add_words(struct options *o, const char *text, size_t len, char why[OPTIONS_WHY]) {
    return add_words(o, text, len, false, why);
}

int options_add_part(struct options *o, const char *text, size_t len, char why[OPTIONS_WHY]) {
    return add_words(o, text, len, true, why);
}

/* --- written ----------------------------------------------------------------------------------------------------- */
/* NAME=VALUE as options_add_words reads it. */
static void print_word(FILE *f, const char *name, const char *value) {
    bool quote = strpbrk(value, " \t\r\n\v\f'\"");
    fprintf(f, "%s%s=", quote ? "'" : "", name);
    for (; *value; value++)
        if (quote && *value == '\'')
            fputs("'\"'\"'", f);
        else
            fputc(*value, f);
    fputs(quote ? "'\n" : "\n", f);
}

static char *joined(const struct options_list *l) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (size_t i = 0; f && i < l->count; i++)
        fprintf(f, "%s%s", i ? "," : "", l->items[i]);
    return f && fclose(f) == 0 ? text : NULL;
}

/* NAME=VALUE of a set option, and frees its text. false: without memory. */
static bool print_text(FILE *f, enum option i, char *text) {
    if (!text)
        return false;
    print_word(f, options_name(i), text);
    free(text);
    return true;
}

char *options_words(const struct options *o) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    bool failed = !f;
    for (unsigned i = 0; !failed && i < OPTIONS; i++)
        if (o->set & (1u << i) && i != ENV)
            failed = !print_text(
                f, i, options_is_list(i) ? joined(options_names((struct options *)o, i)) : options_text(o, i));
    for (size_t i = 0; !failed && i < o->env.count; i++) {
        char *pair = strdup(o->env.items[i]);
        if (pair)
            pair[strcspn(pair, "=")] = ':';
        failed = !print_text(f, ENV, pair);
    }
    if (f && (fclose(f) != 0 || failed)) {
        free(text);
        text = NULL;
    }
    return text;
}
