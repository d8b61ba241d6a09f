#include "fs/process/args.h"

#include <errno.h>
#include <fuse_opt.h>
#include <getopt.h>
#include <pwd.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/peer/peer.h"
#include "sched/job/options.h"
#include "worker/runner/cpus.h"
#include "worker/runner/node_about.h"

#define CPUS_MAX 4096

void args_help(void) {
    puts("usage: ppfs [options] MOUNTPOINT         (fusermount3 -u MOUNTPOINT unmounts it)\n"
         "Mounts a directory that runs the job files written into it. See ppfs(1).\n"
         "\n"
         "  -f                  stay in the foreground, log to stderr\n"
         "  -o OPT,...          FUSE mount options; the options below may stand here, too\n"
         "  --state DIR         queue and results (default ~/.local/state/ppfs)\n"
         "  --cpus N            slots of this machine (default: its processors; 0: none)\n"
         "  --resource NAME=N   N of what jobs ask for with resources=; may be repeated\n"
         "  --python PATH       interpreter or virtual environment that jobs see\n"
         "  --listen ADDR:PORT  let nodes join there (port 0 picks one, see nodes/.listen)\n"
         "  --key FILE          secret of the mount (default DIR/key); nodes get join.key\n"
         "  --silence SECONDS   a node that is silent so long is given up (default 5)\n"
         "  --keep TIME         forget jobs that ended so long ago, such as 12h or 30d\n"
         "  --keep-results N    forget ended jobs of each user beyond the newest N\n"
         "  --node-user NAME=USER  whose jobs a node gets that does not run as root\n"
         "  --quota FILE        limits: lines of USER|* jobs=N bytes=SIZE drafts=N slots=N\n"
         "  --suid-jobs         programs such as sudo work in jobs of other users, too\n"
         "  --sync full|normal  full: close() survives power loss; normal: fsync() does\n"
         "  --trace             log each transition (SIGUSR2 turns it on and off)\n"
         "  --check DIR         print what is wrong with a state directory\n"
         "  --salvage OLD NEW   make NEW of what is whole in a damaged state directory\n"
         "  --help --version");
}

static int set_string(char **to, const char *value) {
    free(*to);
    *to = strdup(value);
    return *to ? 0 : -ENOMEM;
}

/* Made absolute, because the daemon has another working directory. */
static int set_path(char **to, const char *value) {
    char *cwd = *value == '/' ? NULL : getcwd(NULL, 0), *path = NULL;
    int rc = 0;
    if (*value == '/' || !cwd)
        return set_string(to, value);
    if (asprintf(&path, "%s/%s", cwd, value) < 0)
        rc = -ENOMEM;
    if (rc == 0)
        rc = set_string(to, path);
    free(path);
    free(cwd);
    return rc;
}

static int wrong(const char *format, const char *word) {
    fputs("ppfs: ", stderr);
    fprintf(stderr, format, word);
    fputs(" (ppfs --help shows the options)\n", stderr);
    return -EINVAL;
}

bool args_user(const char *text, uid_t *out) {
    const struct passwd *pw = getpwnam(text);
    char *end;
    unsigned long n = *text >= '0' && *text <= '9' ? strtoul(text, &end, 10) : UINT32_MAX;
    if (pw)
        n = pw->pw_uid;
    else if (n >= UINT32_MAX || *end)
        return false;
    *out = (uid_t)n;
    return true;
}

static int node_user(struct args *a, const char *value) {
    const char *equal = value ? strchr(value, '=') : NULL;
    char *more = NULL, name[256], why[256];
    uid_t uid;
    if (!equal || equal == value || equal - value > 255 || memchr(value, '\n', (size_t)(equal - value)) ||
        !args_user(equal + 1, &uid))
        return wrong("--node-user needs NAME=USER, the name of a node and a user of this machine, not '%s'",
                     value ? value : "");
    snprintf(name, sizeof(name), "%.*s", (int)(equal - value), value);
    if (!node_name_valid(name) && peer_check_address(name, true, why, sizeof(why)))
        return wrong("--node-user %s: that is the name of no node, which has letters, digits, '.', '_' and '-', nor "
                     "its HOST:PORT",
                     value);
    if (asprintf(&more, "%s%.*s=%u\n", a->node_users ? a->node_users : "", (int)(equal - value), value, (unsigned)uid) <
        0)
        return -ENOMEM;
    free(a->node_users);
    a->node_users = more;
    return 0;
}

static int set_number(unsigned *to, const char *value, unsigned long least, unsigned long most, const char *sentence) {
    char *end = NULL;
    unsigned long n = value && *value >= '0' && *value <= '9' ? strtoul(value, &end, 10) : 0;
    if (!end || *end || n < least || n > most)
        return wrong(sentence, value ? value : "");
    *to = (unsigned)n;
    return 0;
}

static bool set_flag(struct args *a, const char *name) {
    static const struct {
        const char *name;
        size_t at;
    } flags[] = {{"no_resend", offsetof(struct args, no_resend)},
                 {"suid_jobs", offsetof(struct args, suid_jobs)},
                 {"trace", offsetof(struct args, trace)}};
    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++)
        if (strcmp(name, flags[i].name) == 0)
            return *(bool *)((char *)a + flags[i].at) = true;
    return false;
}

/* False: it is one that is given once, and was given before. */
static bool is_new(struct args *a, const char *name) {
    static const char *const once[] = {"state", "python",  "key",  "quota", "listen",
                                       "keep",  "silence", "cpus", "sync",  "keep_results"};
    for (size_t i = 0; i < sizeof once / sizeof *once; i++)
        if (strcmp(name, once[i]) == 0) {
            bool again = a->given & 1u << i;
            a->given |= 1u << i;
            return !again;
        }
    return true;
}

/* One of our own options; value is NULL if it has none. 1: not one of ours. */
static int own_option(struct args *a, const char *name, const char *value) {
    bool has = value && *value;
    char why[256];
    if (!is_new(a, name))
        return wrong("--%s is given twice", strcmp(name, "keep_results") == 0 ? "keep-results" : name);
    if (strcmp(name, "state") == 0)
        return has ? set_string(&a->state, value) : wrong("%s needs a directory", "--state");
    if (strcmp(name, "python") == 0)
        return has ? set_string(&a->python, value) : wrong("%s needs a path", "--python");
    if (strcmp(name, "key") == 0)
        return has ? set_path(&a->key, value) : wrong("%s needs a file", "--key");
    if (strcmp(name, "quota") == 0)
        return has ? set_path(&a->quota, value) : wrong("%s needs a file", "--quota");
    if (strcmp(name, "listen") == 0 && has && peer_check_address(value, false, why, sizeof why) == 0)
        return set_string(&a->listen, value);
    if (strcmp(name, "listen") == 0)
        return wrong("--listen needs ADDR:PORT, not '%s'", value ? value : "");
    if (strcmp(name, "node_user") == 0)
        return node_user(a, value);
    if (strcmp(name, "resource") == 0 && has && resources_add(&a->resources, value, strlen(value)) == 0)
        return 0;
    if (strcmp(name, "resource") == 0)
        return wrong(RESOURCES_NEED, has ? value : "");
    if (strcmp(name, "keep") == 0 && has && options_parse_time(value, &a->keep_us) == 0)
        return 0;
    if (strcmp(name, "keep") == 0)
        return wrong("--keep needs a time such as 12h or 30d, not '%s'", has ? value : "");
    if (strcmp(name, "keep_results") == 0)
        return set_number(&a->keep_results, value, 1, 1000000000,
                          "--keep-results needs a number from 1 to 1000000000, not '%s'");
    if (strcmp(name, "silence") == 0)
        return set_number(&a->silence_s, value, 1, 3600, "--silence needs seconds from 1 to 3600, not '%s'");
    if (strcmp(name, "cpus") == 0)
        return set_number(&a->cpus, value, 0, CPUS_MAX, "--cpus needs a number from 0 to 4096, not '%s'");
    if (strcmp(name, "sync") == 0) {
        a->sync_full = value && strcmp(value, "full") == 0;
        if (!a->sync_full && (!value || strcmp(value, "normal") != 0))
            return wrong("--sync is full or normal, not '%s'", value ? value : "");
        return 0;
    }
    return set_flag(a, name) ? 0 : 1;
}

/* getopt's '?' and ':'. optopt is the unknown letter, which may be one of several in a word. */
static int unknown(int c, const char *word) {
    char letter[] = {'-', (char)optopt, '\0'};
    bool is_long = word[0] == '-' && word[1] == '-';
    return wrong(c == ':' ? "%s needs an argument" : "unknown option %s", is_long || !optopt ? word : letter);
}

/* Options for mount(8) and the start-up of a machine, without effect here. */
static bool for_fstab(const char *option) {
    static const char *const names[] = {"auto", "noauto", "user", "nouser", "users", "_netdev", "nofail", "defaults"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(option, names[i]) == 0)
            return true;
    return strncmp(option, "x-", 2) == 0;
}

/* One of the options of -o: 0 when it is taken, 1 when it is for FUSE. */
static int listed_option(void *data, const char *option, int key, struct fuse_args *rest) {
    struct args *a = data;
    if (!*option || for_fstab(option))
        return 0;
    char *name = strdup(option), *equal = name ? strchr(name, '=') : NULL;
    if (equal)
        *equal = '\0';
    const char *value = equal ? equal + 1 : NULL;
    int rc = name ? own_option(a, name, value) : -ENOMEM;
    a->everyone |= rc > 0 && strcmp(option, "allow_other") == 0;
    free(name);
    return rc < 0 ? -1 : rc;
}

/* -o a,b=c: takes our own options out; the rest goes to FUSE. (libfuse's parser is used for such lists only: with long
 * options it would read --stated as --state d.) */
static int mount_options(struct args *a, const char *text) {
    struct fuse_args list = FUSE_ARGS_INIT(0, NULL);
    int rc = fuse_opt_add_arg(&list, "ppfs") | fuse_opt_add_arg(&list, "-o") | fuse_opt_add_arg(&list, text);
    if (rc == 0)
        rc = fuse_opt_parse(&list, a, NULL, listed_option);
    if (rc == 0 && list.argc > 2)
        rc = fuse_opt_add_opt(&a->mount_options, list.argv[2]);
    fuse_opt_free_args(&list);
    return rc ? -EINVAL : 0;
}

static bool is_directory(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

int args_read(struct args *a, int argc, char **argv) {
    static const struct option longs[] = {
        {"state", required_argument, NULL, 's'},
        {"cpus", required_argument, NULL, 'c'},
        {"python", required_argument, NULL, 'p'},
        {"sync", required_argument, NULL, 'y'},
        {"listen", required_argument, NULL, 'l'},
        {"key", required_argument, NULL, 'k'},
        {"silence", required_argument, NULL, 'i'},
        {"node-user", required_argument, NULL, 'n'},
        {"resource", required_argument, NULL, 'r'},
        {"quota", required_argument, NULL, 'q'},
        {"suid-jobs", no_argument, NULL, 'u'},
        {"trace", no_argument, NULL, 't'},
        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},
        {"check", required_argument, NULL, 'C'},
        {"salvage", required_argument, NULL, 'S'},
        {"keep", required_argument, NULL, 'e'},
        {"keep-results", required_argument, NULL, 'E'},
        {NULL, 0, NULL, 0},
    };
    static const char *const own[256] = {
        ['s'] = "state", ['c'] = "cpus",     ['p'] = "python", ['y'] = "sync",        ['l'] = "listen",
        ['k'] = "key",   ['i'] = "silence",  ['q'] = "quota",  ['u'] = "suid_jobs",   ['n'] = "node_user",
        ['t'] = "trace", ['r'] = "resource", ['e'] = "keep",   ['E'] = "keep_results"};
    bool has_options = false;
    int c, rc = 0;
    *a = (struct args){.cpus = cpus_available()};
    opterr = 0;
    while (rc == 0 && (c = getopt_long(argc, argv, ":fo:hV", longs, NULL)) != -1) {
        if (c == 'f')
            a->foreground = true;
        else if (c == 'h')
            a->help = true;
        else if (c == 'V')
            a->version = true;
        else if (c == 'C')
            rc = set_string(&a->check, optarg);
        else if (c == 'S')
            rc = set_string(&a->salvage[0], optarg);
        else if (c == 'o') {
            has_options = true;
            rc = mount_options(a, optarg);
        } else
            rc = own[c] ? own_option(a, own[c], optarg) : unknown(c, argv[optind - 1]);
    }
    if (rc || a->help || a->version)
        goto out;
    int left = argc - optind;
    if (a->check) {
        rc = left ? wrong("--check examines one state directory, and '%s' is one argument too many", argv[optind]) : 0;
        goto out;
    }
    if (a->salvage[0]) {
        rc = left == 1 ? set_string(&a->salvage[1], argv[optind])
                       : wrong("%s", "--salvage needs two directories: OLD NEW");
        goto out;
    }
    /* mount(8) gives -o, and the source in fstab first. */
    bool from_mount = has_options && left == 2 && (is_directory(argv[optind + 1]) || !is_directory(argv[optind]));
    if (left < 1)
        rc = wrong("%s", "which directory shall it be mounted on?");
    else if (left > 1 && !from_mount)
        rc = wrong("it is mounted on one directory, and '%s' is one argument too many", argv[argc - 1]);
    else
        rc = set_string(&a->mountpoint, argv[optind + left - 1]);
    if (rc == 0 && a->quota && (!a->everyone || geteuid() != 0))
        rc = wrong("%s would bind nobody: other users submit only where root mounts with -o allow_other", "--quota");
out:
    if (rc)
        args_free(a);
    return rc;
}

void args_free(struct args *a) {
    free(a->check);
    free(a->salvage[0]);
    free(a->salvage[1]);
    free(a->state);
    free(a->python);
    free(a->key);
    free(a->node_users);
    free(a->listen);
    free(a->quota);
    free(a->mountpoint);
    free(a->mount_options);
    *a = (struct args){0};
}
