/* Options as the words of a .options file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/options_int.h"

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

static void print_option(FILE *f, const struct options *o, enum option i) {
    const char *name = options_name(i);
    bool seconds = o->timeout_us % 1000000 == 0;
    switch (i) {
    case PRIORITY: fprintf(f, "%s=%d\n", name, o->priority); break;
    case TIMEOUT:
        fprintf(f, "%s=%lld%s\n", name, (long long)(seconds ? o->timeout_us / 1000000 : o->timeout_us),
                seconds ? "s" : "us");
        break;
    case RETRIES: fprintf(f, "%s=%u\n", name, o->retries); break;
    case CPUS: fprintf(f, "%s=%u\n", name, o->cpus); break;
    case MEMORY: fprintf(f, "%s=%llu\n", name, (unsigned long long)o->memory); break;
    case MAX: fprintf(f, "%s=%u\n", name, o->max); break;
    case MAX_FAILS: fprintf(f, "%s=%u\n", name, o->max_fails); break;
    case HOLD: fprintf(f, "%s=%d\n", name, o->hold); break;
    case SANDBOX: fprintf(f, "%s=%s\n", name, options_sandbox_words(o)); break;
    case CWD: print_word(f, name, o->cwd); break;
    case NODE: print_word(f, name, o->node); break;
    case ARRAY: print_word(f, name, o->array); break;
    case AFTER:
    case ENV:
    case DRAFTS:
    case OPTIONS: break; /* lists */
    }
}

static char *joined(const struct options_list *l) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (size_t i = 0; f && i < l->count; i++)
        fprintf(f, "%s%s", i ? "," : "", l->items[i]);
    return f && fclose(f) == 0 ? text : NULL;
}

/* false: without memory. */
static bool print_list(FILE *f, const struct options *o, enum option i, const struct options_list *l) {
    if (!(o->set & (1u << i)))
        return true;
    char *text = joined(l);
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
        if (o->set & (1u << i))
            print_option(f, o, i);
    failed = failed || !print_list(f, o, AFTER, &o->after) || !print_list(f, o, DRAFTS, &o->drafts);
    for (size_t i = 0; !failed && i < o->env.count; i++) {
        char *pair = strdup(o->env.items[i]);
        failed = !pair;
        if (pair) {
            pair[strcspn(pair, "=")] = ':';
            print_word(f, options_name(ENV), pair);
        }
        free(pair);
    }
    if (f && (fclose(f) != 0 || failed)) {
        free(text);
        text = NULL;
    }
    return text;
}
