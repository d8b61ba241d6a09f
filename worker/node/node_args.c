#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/peer/discover.h"
#include "net/peer/peer.h"
#include "net/printable.h"
#include "net/trusted.h"
#include "worker/runner/cpus.h"
#include "worker/node/node.h"

enum { IDLE_MAX = 10000000, SILENCE_MAX = 3600 };

void node_args_help(void) {
    puts("usage: ppfs-node --join HOST:PORT | --listen ADDR:PORT | --discover  [options]\n"
         "Lends this machine's processors to a ppfs elsewhere; stays in the foreground.\n"
         "  --join HOST:PORT      dial a ppfs that has --listen; may be repeated\n"
         "  --listen ADDR:PORT    wait for a ppfs to dial (mkdir nodes/HOST:PORT)\n"
         "  --discover[=[GROUP][%INTERFACE][:PORT]]  answer a ppfs that looks for nodes\n"
         "  --key FILE            key for nodes (default ~/.local/state/ppfs/join.key)\n"
         "  --cpus N              slots (default: the processors of this machine)\n"
         "  --resource NAME=N     N of what jobs ask for with resources=; may be repeated\n"
         "  --name NAME           in nodes/ (default: of its key, or the host's)\n"
         "  --python PATH         interpreter or virtual environment that jobs see\n"
         "  --idle-exit SECONDS   leave when there was nothing to do for so long\n"
         "  --silence SECONDS     a ppfs that is silent so long is given up (default 5)\n"
         "  --root-jobs           run jobs of the other machine's root, too, as root\n"
         "  --uids LIST           of these users only: numbers, ranges, names, with commas\n"
         "  --suid-jobs           programs such as sudo work in jobs of other users, too\n"
         "  --pid-file FILE       write the process id there once it is ready\n"
         "  --help --version\n"
         "SIGTERM: take no more, and leave when what runs has ended; again: leave at once.\n"
         "SIGUSR1: print statistics. SIGUSR2: log transitions, or stop that.");
}

void node_say(const char *format, ...) {
    char line[2048];
    va_list args;

    int n = snprintf(line, sizeof(line), "ppfs-node: ");
    va_start(args, format);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, format, args);
    va_end(args);
    printable(line + n, sizeof(line) - (size_t)n - 1);
    strcat(line, "\n");
    fputs(line, stderr);
}

static int wrong(const char *format, const char *word) {
    fputs("ppfs-node: ", stderr);
    fprintf(stderr, format, word);
    fputs(" (ppfs-node --help shows the options)\n", stderr);
    return -EINVAL;
}

/* A number from least to most, nothing after it. */
static bool number(const char *text, unsigned long least, unsigned long most, unsigned *out) {
    char *end;
    unsigned long n = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : most + 1;

    if (n < least || n > most || *end)
        return false;
    *out = (unsigned)n;
    return true;
}

static int add_range(struct node_uids *to, unsigned long first, unsigned long last) {
    if (to->count == NODE_UIDS)
        return wrong("--uids has more than 32 users and ranges%s", "");
    to->at[to->count].first = (uint32_t)first;
    to->at[to->count++].last = (uint32_t)last;
    return 0;
}

/* "1000", "1000-1999" or a user's name. */
static int add_uids(struct node_uids *to, const char *word) {
    const struct passwd *pw = *word ? getpwnam(word) : NULL;
    char *end = NULL;

    if (pw)
        return add_range(to, pw->pw_uid, pw->pw_uid);
    if (!*word)
        return wrong("--uids needs users with commas between: numbers, ranges such as 1000-1999, names; one is empty%s",
                     "");
    if (*word < '0' || *word > '9')
        return wrong("--uids: this machine knows no user '%s'", word);
    unsigned long first = strtoul(word, &end, 10), last = first;
    if (*end == '-' && end[1] >= '0' && end[1] <= '9')
        last = strtoul(end + 1, &end, 10);
    if (*end)
        return wrong("--uids: '%s' is no number, no range such as 1000-1999, and no user of this machine", word);
    if (first > last)
        return wrong("--uids: the range '%s' ends before it begins", word);
    if (last >= UINT32_MAX)
        return wrong("--uids: '%s' goes beyond 4294967294, the last number that a user can have", word);
    return add_range(to, first, last);
}

static int read_uids(struct node_args *a, const char *list) {
    char *copy = strdup(list), *left = copy, *word;
    int err = copy ? 0 : -ENOMEM;

    while (!err && (word = strsep(&left, ",")))
        err = add_uids(&a->uids, word);
    free(copy);
    return err;
}

/* Root's work is taken only with --root-jobs, even if --uids names root. */
static int complete_uids(struct node_args *a) {
    if (node_uids_have(&a->uids, 0) && !a->root_jobs)
        return wrong("%s", "--uids names root: give --root-jobs if root's jobs shall run here");
    if (geteuid() != 0 && !a->uids.count)
        return 0;
    if (!a->uids.count)
        add_range(&a->uids, 1, UINT32_MAX - 1);
    return a->root_jobs && !node_uids_have(&a->uids, 0) ? add_range(&a->uids, 0, 0) : 0;
}

static int one(struct node_args *a, int option, const char *value) {
    char why[256];
    unsigned seconds;

    switch (option) {
    case 'j':
        if (a->join_count == NODE_JOINS)
            return wrong("--join %s: a node joins 64 ppfs at most", value);
        if (peer_check_address(value, true, why, sizeof(why)))
            return wrong("--join: %s", why);
        a->joins[a->join_count++] = value;
        return 0;
    case 'l':
        a->listen = value;
        return peer_check_address(value, false, why, sizeof(why)) ? wrong("--listen: %s", why) : 0;
    case 'd':
        a->discover = true;
        a->where = value;
        return value && discover_check(value, why, sizeof(why)) ? wrong("--discover: %s", why) : 0;
    case 'k': a->key_file = value; return 0;
    case 'c':
        return number(value, 1, NODE_CPUS_MAX, &a->cpus)
                   ? 0
                   : wrong("--cpus needs a number from 1 to 4096, not '%s'", value);
    case 'R': return resources_add(&a->resources, value, strlen(value)) < 0 ? wrong(RESOURCES_NEED, value) : 0;
    case 'n':
        if (!node_name_valid(value))
            return wrong("--name needs up to 63 letters, digits, '.', '_' and '-', the first no '.' or '-', not '%s'",
                         value);
        snprintf(a->name, sizeof(a->name), "%s", value);
        a->named = true;
        return 0;
    case 'p': a->python = value; return 0;
    case 'i':
        return number(value, 1, IDLE_MAX, &a->idle_exit_s) ? 0 : wrong("--idle-exit needs seconds, not '%s'", value);
    case 's':
        if (!number(value, 1, SILENCE_MAX, &seconds))
            return wrong("--silence needs seconds from 1 to 3600, not '%s'", value);
        a->silence_ms = seconds * 1000;
        return 0;
    case 'f': a->pid_file = value; return 0;
    case 'u': a->suid_jobs = true; return 0;
    case 'r': a->root_jobs = true; return 0;
    case 'U': return read_uids(a, value);
    case 'h': a->help = true; return 0;
    case 'V': a->version = true; return 0;
    }
    return -EINVAL;
}

/* Where a ppfs of this user keeps the key for its nodes. */
static void default_key(struct node_args *a) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");

    if (state && state[0] == '/')
        snprintf(a->key_path, sizeof(a->key_path), "%s/ppfs/join.key", state);
    else
        snprintf(a->key_path, sizeof(a->key_path), "%s/.local/state/ppfs/join.key", home ? home : "");
    a->key_file = a->key_path;
}

static int given_twice(const struct option *longs, int c) {
    while (longs->val != c)
        longs++;
    return wrong("--%s is given twice", longs->name);
}

int node_args_read(struct node_args *a, int argc, char **argv) {
    static const struct option longs[] = {
        {"join", required_argument, NULL, 'j'},
        {"listen", required_argument, NULL, 'l'},
        {"discover", optional_argument, NULL, 'd'},
        {"key", required_argument, NULL, 'k'},
        {"cpus", required_argument, NULL, 'c'},
        {"name", required_argument, NULL, 'n'},
        {"python", required_argument, NULL, 'p'},
        {"idle-exit", required_argument, NULL, 'i'},
        {"silence", required_argument, NULL, 's'},
        {"suid-jobs", no_argument, NULL, 'u'},
        {"pid-file", required_argument, NULL, 'f'},
        {"root-jobs", no_argument, NULL, 'r'},
        {"uids", required_argument, NULL, 'U'},
        {"resource", required_argument, NULL, 'R'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {NULL, 0, NULL, 0},
    };
    char host[256] = "node";
    bool given[UCHAR_MAX + 1] = {false};
    int c, err = 0;

    *a = (struct node_args){.cpus = cpus_available()};
    gethostname(host, sizeof(host) - 1);
    node_name_from(host, a->name);
    opterr = 0;
    while (!err && (c = getopt_long(argc, argv, ":h", longs, NULL)) != -1) {
        if (c == ':' || c == '?')
            err = wrong(c == ':' ? "%s needs an argument" : "unknown option %s", argv[optind - 1]);
        else if (optarg && c != 'j' && c != 'R' && given[c])
            err = given_twice(longs, c);
        else
            err = one(a, c, optarg);
        given[c] = true;
    }
    if (err || a->help || a->version)
        return err;
    if (optind < argc)
        return wrong("'%s' is one argument too many", argv[optind]);
    if (!a->listen && !a->join_count && !a->discover)
        return wrong("%s", "which ppfs shall it work for? Give --join HOST:PORT, --listen ADDR:PORT or --discover");
    if (!a->key_file)
        default_key(a);
    return complete_uids(a);
}

/* In a directory that others write too, /tmp say, they may have put something else under its name. */
int node_pid_file(const char *path, char *why, size_t size) {
    int fd = trusted_file(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC);
    int err = fd < 0 ? fd : 0;
    const char *reason;

    if (fd >= 0 && dprintf(fd, "%d\n", (int)getpid()) < 0)
        err = -EIO;
    if (fd >= 0)
        close(fd);
    if (!err)
        return 0;
    switch (err) {
    case -ELOOP: reason = "it is a symbolic link"; break;
    case -EINVAL: reason = "it is no regular file"; break;
    case -EPERM: reason = "that file belongs to somebody else or has a second name"; break;
    default: reason = strerror(-err);
    }
    snprintf(why, size, "the process id cannot be written to %.800s: %s", path, reason);
    return err;
}
