#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "scripts/ppfs_run/run.h"

static const char help[] = "usage: ppfs-run [options] [--] COMMAND [ARGUMENT]...\n"
                           "       ppfs-run [options] -c RECIPE                      SHELL=ppfs-run of make\n"
                           "       ppfs-run [options] -g GROUP [--] COMMAND [ARGUMENT|{}]... ::: ITEM...\n"
                           "       ppfs-run [options] -g GROUP --lines FILE|--array FIRST-LAST [--] COMMAND\n"
                           "       ppfs-run --wait NAME | --failed GROUP | --retry GROUP | --cancel NAME\n"
                           "Runs a command as a job of a ppfs, shows what it prints, and ends as it ended.\n"
                           "  -d, --detach          print the name of the job and return\n"
                           "  -n, --no-stdin        leave standard input alone\n"
                           "  -o, --option OPT,...  options of the job, such as cpus=2,timeout=5m (ppfs(5))\n"
                           "  -m, --mount DIR       the ppfs to use (default: $PPFS, yours, root's)\n"
                           "  -g, --group GROUP     a job for each item, in a group of that name\n"
                           "      --lines FILE      the items are its lines; - is standard input\n"
                           "      --array FIRST-LAST  the items are these numbers\n"
                           "      --max N           of the group, run N at once at most\n"
                           "      --max-fails N     when N of them have failed, cancel the others\n"
                           "      --progress        show how far the group is\n"
                           "      --wait NAME       wait for a job or a group, and end as it ended\n"
                           "      --failed GROUP    print the names of those that failed, a line each\n"
                           "      --retry GROUP     run those that failed once more\n"
                           "      --cancel NAME     cancel a job, or all of a group\n"
                           "      --help --version\n";

enum {
    OPT_LINES = 256,
    OPT_ARRAY,
    OPT_MAX,
    OPT_MAX_FAILS,
    OPT_PROGRESS,
    OPT_WAIT,
    OPT_FAILED,
    OPT_RETRY,
    OPT_CANCEL,
    OPT_HELP,
    OPT_VERSION
};
enum { ARRAY_MAX = 10000000, LIMIT_MAX = 1000000000 };

/* Both are of a group. */
struct sources {
    const char *lines, *array;
    char *recipe;
    bool literal; /* "--" stands before the command */
};

void args_help(void) {
    fputs(help, stdout);
}

static int wrong(const char *format, const char *word) {
    fputs("ppfs-run: ", stderr);
    fprintf(stderr, format, word);
    fputs(" (ppfs-run --help shows the options)\n", stderr);
    return RUN_CANNOT;
}

static bool has_option(const struct run_args *a, const char *sign) {
    for (const char *at = a->options; at && (at = strstr(at, sign)); at++)
        if (at == a->options || at[-1] == ' ')
            return true;
    return false;
}

/* "cpus=2,after=a,b" becomes "cpus=2 after=a,b": a comma before a word that has a sign begins the next. */
static int add_options(struct run_args *a, const char *text) {
    size_t had = a->options ? strlen(a->options) : 0, size = strlen(text);
    for (const char *c = text; *c; c++)
        if (isspace((unsigned char)*c))
            return wrong("-o %s: a value with a blank cannot be given", text);
    char *grown = realloc(a->options, had + size + 2);
    if (!grown)
        return run_cannot("not enough memory");
    a->options = grown;
    if (had)
        grown[had++] = ' ';
    memcpy(grown + had, text, size + 1);
    for (char *comma = grown + had; (comma = strchr(comma, ',')); comma++) {
        size_t word = strcspn(comma + 1, ",=");
        if (comma[1 + word] == '=' && strspn(comma + 1, "abcdefghijklmnopqrstuvwxyz_") == word)
            *comma = ' ';
    }
    if (has_option(a, "max="))
        return wrong("%s", "max= is of a group: give --max N, and -g GROUP");
    if (has_option(a, "max_fails="))
        return wrong("%s", "max_fails= is of a group: give --max-fails N, and -g GROUP");
    return 0;
}

static bool is_number(const char *text, const char *end) {
    return end > text && end - text < 10 && strspn(text, "0123456789") >= (size_t)(end - text);
}

/* Whether array= of ppfs(5) takes it. */
static bool is_plain(const char *number) {
    return *number != '0' || !isdigit((unsigned char)number[1]);
}

/* The numbers from first to last, a line each. */
static int make_array(struct run_args *a, const char *text) {
    const char *dash = strchr(text, '-');
    size_t size;
    if (!dash || !is_number(text, dash) || !is_number(dash + 1, dash + 1 + strlen(dash + 1)) ||
        atol(dash + 1) < atol(text) || atol(dash + 1) - atol(text) >= ARRAY_MAX)
        return wrong("--array needs FIRST-LAST, such as 1-100, not '%s'", text);
    a->array = text;
    a->first = (size_t)atol(text);
    a->last = (size_t)atol(dash + 1);
    if (!a->max_fails && is_plain(text) && is_plain(dash + 1))
        return 0; /* the group is an array */
    FILE *f = open_memstream(&a->lines, &size);
    for (long i = atol(text); f && i <= atol(dash + 1); i++)
        fprintf(f, "%ld\n", i);
    return f && fclose(f) == 0 ? 0 : run_cannot("not enough memory");
}

/* All of it; whoever else has the pipe may have made it O_NONBLOCK. 0 or -errno. */
static int read_all(int fd, char **text, size_t *size) {
    FILE *out = open_memstream(text, size);
    char buf[1 << 16];
    int rc = out ? 0 : -ENOMEM;
    for (ssize_t n = 1; rc == 0 && n;) {
        n = read(fd, buf, sizeof buf);
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1);
        else if (n < 0 && errno != EINTR)
            rc = -errno;
        else if (n > 0 && fwrite(buf, 1, (size_t)n, out) != (size_t)n)
            rc = -ENOMEM;
    }
    if (out && fclose(out) != 0 && rc == 0)
        rc = -ENOMEM;
    return rc;
}

static int read_lines(struct run_args *a, const char *file) {
    bool is_input = strcmp(file, "-") == 0;
    int fd = is_input ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    size_t size = 0;
    int rc = fd < 0 ? -errno : read_all(fd, &a->lines, &size);
    if (fd >= 0 && !is_input)
        close(fd);
    if (rc < 0)
        return run_cannot("cannot read %s: %s", file, strerror(-rc));
    if (strlen(a->lines) < size)
        return run_cannot("%s has a zero byte, and no argument of a command may have one", file);
    return 0;
}

/* Cuts lines into items; an empty one is an item too. */
static int cut_lines(struct run_args *a) {
    size_t count = 0, at = 0;
    for (const char *c = a->lines; *c; c = strchrnul(c, '\n'), c += *c != '\0')
        count++;
    a->items = calloc(count + 1, sizeof *a->items);
    if (!a->items)
        return run_cannot("not enough memory");
    for (char *line = a->lines; *line && at < count; at++) {
        char *end = strchrnul(line, '\n');
        a->items[at] = line;
        line = *end ? end + 1 : end;
        *end = '\0';
    }
    return 0;
}

/* What stands behind the options. */
static int read_command(struct run_args *a, char **words, const struct sources *from) {
    static char *shell[] = {"/bin/sh", "-c", NULL, NULL};
    if (from->recipe) {
        if (*words)
            return wrong("'%s' stands behind -c and its line", *words);
        shell[2] = from->recipe;
        words = shell;
    }
    a->command = words;
    if (a->name && !from->lines && !from->array) {
        for (; *words && strcmp(*words, ":::") != 0; words++)
            ;
        if (!*words)
            return wrong("-g %s needs items: ::: a b c, --lines FILE or --array FIRST-LAST", a->name);
        *words = NULL;
        a->items = words + 1;
    }
    if (!*a->command)
        return wrong("%s", "there is no command");
    for (; !a->name && !from->literal && *words; words++)
        if (strcmp(*words, ":::") == 0)
            return wrong("'%s' and items need -g GROUP, or -- before a command that has such an argument", *words);
    int rc = 0;
    if (from->lines)
        rc = read_lines(a, from->lines);
    else if (from->array)
        rc = make_array(a, from->array);
    return rc == 0 && a->lines ? cut_lines(a) : rc;
}

static int set_action(struct run_args *a, enum run_do what, const char *name) {
    if (a->what != RUN_COMMAND)
        return wrong("%s", "of --wait, --failed, --retry and --cancel one is possible");
    a->what = what;
    a->name = name;
    return 0;
}

/* As max= and max_fails= of ppfs(5) take it. */
static int add_limit(unsigned *limit, const char *name, const char *text) {
    char format[64], *end;
    errno = 0;
    unsigned long n = strtoul(text, &end, 10);
    if (isdigit((unsigned char)*text) && !*end && !errno && n >= 1 && n <= LIMIT_MAX) {
        *limit = (unsigned)n;
        return 0;
    }
    snprintf(format, sizeof format, "--%s %%s: a whole number from 1 to %d is expected", name, LIMIT_MAX);
    return wrong(format, text);
}

static int given_twice(const struct option *longs, int c) {
    while (longs->name && longs->val != c)
        longs++;
    return longs->name ? wrong("--%s is given twice", longs->name) : wrong("%s is given twice", "-c");
}

static bool is_name(const char *name) {
    return *name && *name != '/' && *name != '.' && !strstr(name, "/.") && name[strlen(name) - 1] != '/';
}

int args_read(struct run_args *a, int argc, char **argv) {
    static const struct option longs[] = {{"detach", no_argument, NULL, 'd'},
                                          {"no-stdin", no_argument, NULL, 'n'},
                                          {"option", required_argument, NULL, 'o'},
                                          {"mount", required_argument, NULL, 'm'},
                                          {"group", required_argument, NULL, 'g'},
                                          {"lines", required_argument, NULL, OPT_LINES},
                                          {"array", required_argument, NULL, OPT_ARRAY},
                                          {"max", required_argument, NULL, OPT_MAX},
                                          {"max-fails", required_argument, NULL, OPT_MAX_FAILS},
                                          {"progress", no_argument, NULL, OPT_PROGRESS},
                                          {"wait", required_argument, NULL, OPT_WAIT},
                                          {"failed", required_argument, NULL, OPT_FAILED},
                                          {"retry", required_argument, NULL, OPT_RETRY},
                                          {"cancel", required_argument, NULL, OPT_CANCEL},
                                          {"help", no_argument, NULL, OPT_HELP},
                                          {"version", no_argument, NULL, OPT_VERSION},
                                          {NULL, 0, NULL, 0}};
    struct sources from = {0};
    int rc = 0;
    bool given[OPT_VERSION + 1] = {false};
    *a = (struct run_args){0};
    for (int c; rc == 0 && (c = getopt_long(argc, argv, "+dno:m:g:c:", longs, NULL)) != -1;) {
        if (optarg && c != 'o' && given[c])
            return given_twice(longs, c);
        given[c] = true;
        switch (c) {
        case 'd': a->detach = true; break;
        case 'n': a->no_stdin = true; break;
        case 'o': rc = add_options(a, optarg); break;
        case 'm': a->mount = optarg; break;
        case 'g': a->name = optarg; break;
        case 'c': from.recipe = optarg; break;
        case OPT_LINES: from.lines = optarg; break;
        case OPT_ARRAY: from.array = optarg; break;
        case OPT_MAX: rc = add_limit(&a->max, "max", optarg); break;
        case OPT_MAX_FAILS: rc = add_limit(&a->max_fails, "max-fails", optarg); break;
        case OPT_PROGRESS: a->progress = true; break;
        case OPT_HELP: a->what = RUN_HELP; return 0;
        case OPT_VERSION: a->what = RUN_VERSION; return 0;
        case OPT_WAIT: rc = set_action(a, RUN_WAIT, optarg); break;
        case OPT_FAILED: rc = set_action(a, RUN_FAILED, optarg); break;
        case OPT_RETRY: rc = set_action(a, RUN_RETRY, optarg); break;
        case OPT_CANCEL: rc = set_action(a, RUN_CANCEL, optarg); break;
        default: return RUN_CANNOT; /* getopt has said why */
        }
    }
    if (rc)
        return rc;
    if (a->name && !is_name(a->name))
        return wrong("'%s' is the name of no job and no group", a->name);
    if (!a->name && (from.lines || from.array || a->progress || a->max || a->max_fails))
        return wrong("%s", "--lines, --array, --progress, --max and --max-fails are for a group: -g GROUP");
    if (!a->detach && has_option(a, "array="))
        return wrong("%s", "-o array= makes many jobs of one, whose output is not shown: use -d, or -g GROUP --array");
    if (from.lines && from.array)
        return wrong("%s", "of --lines and --array one is possible");
    if (a->what != RUN_COMMAND)
        return argv[optind] ? wrong("'%s' stands behind the name", argv[optind]) : 0;
    from.literal = from.recipe || strcmp(argv[optind - 1], "--") == 0;
    return read_command(a, argv + optind, &from);
}

void args_free(struct run_args *a) {
    free(a->options);
    if (a->lines)
        free(a->items);
    free(a->lines);
}
