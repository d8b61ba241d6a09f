#include "fs/process/quota.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "fs/process/args.h"
#include "net/trusted.h"

#define JOBS 1000000
#define DRAFTS 100000

static const char units[] = "kMGTPE";

/* Digits, followed by a unit of 1024 for bytes; or "none". */
static bool number(const char *text, bool bytes, int64_t *out) {
    char *end;
    if (strcmp(text, "none") == 0) {
        *out = QUOTA_NONE;
        return true;
    }
    errno = 0;
    unsigned long long n = *text >= '0' && *text <= '9' ? strtoull(text, &end, 10) : (errno = EINVAL, 0);
    if (errno || n >= QUOTA_NONE)
        return false;
    char letter = *end == 'K' ? 'k' : *end;
    const char *unit = bytes && letter ? strchr(units, letter) : NULL;
    unsigned shift = unit ? 10 * (unsigned)(unit - units + 1) : 0;
    if (unit)
        end++;
    if (*end || n > (uint64_t)(QUOTA_NONE - 1) >> shift)
        return false;
    *out = (int64_t)(n << shift);
    return true;
}

#define WORDS 5

static const char *const names[WORDS] = {"jobs", "bytes", "drafts", "slots", "waits"};

/* The index in names of the quota that a word sets, and its value in *value; WORDS: no such quota. */
static size_t name_of(const char *word, const char **value) {
    size_t size = strcspn(word, "="), i = 0;
    while (i < WORDS && (strlen(names[i]) != size || memcmp(names[i], word, size) != 0))
        i++;
    *value = word + size + 1;
    return word[size] ? i : WORDS;
}

/* Sets the quotas of a line in q. 0, or -EINVAL and a sentence in why. */
static int take_words(struct quota *q, char *rest, char *why, size_t why_size) {
    int64_t *to[WORDS] = {&q->jobs, &q->bytes, &q->drafts, &q->slots, &q->waits};
    bool seen[WORDS] = {false};
    const char *value;
    char *save;
    for (char *word = strtok_r(rest, " \t\r\n", &save); word; word = strtok_r(NULL, " \t\r\n", &save)) {
        size_t i = name_of(word, &value);
        if (i == WORDS || !number(value, i == 1, to[i])) {
            snprintf(why, why_size, "%.100s is none of jobs=N, bytes=SIZE, drafts=N, slots=N, waits=N", word);
            return -EINVAL;
        }
        if (seen[i]) {
            snprintf(why, why_size, "%s= stands twice", names[i]);
            return -EINVAL;
        }
        seen[i] = true;
    }
    return 0;
}

static int second_line(const char *name, char *why, size_t why_size) {
    snprintf(why, why_size, "%.100s has a line already", name);
    return -EINVAL;
}

/* Takes the line of * if others is given, and sets *others; else that of a user. */
static int take_line(struct quotas *out, char *line, bool *others, char *why, size_t why_size) {
    char *rest, *name;
    uid_t uid = 0;
    line[strcspn(line, "#")] = '\0';
    name = strtok_r(line, " \t\r\n", &rest);
    if (!name)
        return 0;
    bool all = strcmp(name, "*") == 0;
    if (!all && !args_user(name, &uid)) {
        snprintf(why, why_size, "there is no user %.100s", name);
        return -EINVAL;
    }
    struct quota q = out->others;
    int rc = take_words(&q, rest, why, why_size);
    if (rc < 0)
        return rc;
    if (all && others) {
        if (*others)
            return second_line(name, why, why_size);
        out->others = q;
        *others = true;
    }
    if (all || others)
        return 0;
    for (size_t i = 0; i < out->count; i++)
        if (out->items[i].uid == uid)
            return second_line(name, why, why_size);
    struct quota_of *grown = reallocarray(out->items, out->count + 1, sizeof *grown);
    if (!grown)
        return -ENOMEM;
    out->items = grown;
    out->items[out->count++] = (struct quota_of){uid, q};
    return 0;
}

/* The line of * first: a user's line takes missing quotas from it. */
static int take_file(struct quotas *out, FILE *f, const char *file, bool *others, char *why, size_t why_size) {
    char *line = NULL, wrong[256] = "";
    size_t cap = 0;
    int rc = 0;
    rewind(f);
    for (unsigned n = 1; rc == 0 && getline(&line, &cap, f) >= 0; n++) {
        rc = take_line(out, line, others, wrong, sizeof wrong);
        if (rc < 0)
            snprintf(why, why_size, "--quota %.300s, line %u: %s", file, n,
                     rc == -ENOMEM ? "not enough memory" : wrong);
    }
    if (rc == 0 && ferror(f)) {
        rc = -EIO;
        snprintf(why, why_size, "--quota %.300s cannot be read", file);
    }
    free(line);
    return rc;
}

int quota_read(struct quotas *out, const char *file, const char *dir, char *why, size_t why_size) {
    struct statvfs disk;
    *out = (struct quotas){
        .others = {.jobs = JOBS, .bytes = QUOTA_NONE, .drafts = DRAFTS, .slots = QUOTA_NONE, .waits = QUOTA_NONE}};
    if (statvfs(dir, &disk) == 0)
        out->others.bytes = (int64_t)(disk.f_blocks / 2 * disk.f_frsize);
    if (!file)
        return 0;
    char obstacle[768] = "not enough memory";
    struct stat st;
    int fd = trusted_path_file(file, &st, obstacle, sizeof obstacle);
    FILE *f = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (!f) {
        snprintf(why, why_size, "--quota %.300s: %.400s", file, obstacle);
        if (fd >= 0)
            close(fd);
        return fd < 0 ? fd : -ENOMEM;
    }
    if (trusted_others_write(&st)) {
        snprintf(why, why_size, "--quota %.300s: it has mode %04o, so another user could say what he may have", file,
                 (unsigned)st.st_mode & 07777);
        fclose(f);
        return -EPERM;
    }
    bool others = false;
    int rc = take_file(out, f, file, &others, why, why_size);
    if (rc == 0)
        rc = take_file(out, f, file, NULL, why, why_size);
    fclose(f);
    if (rc < 0)
        quota_free(out);
    return rc;
}

void quota_free(struct quotas *q) {
    free(q->items);
    *q = (struct quotas){0};
}
