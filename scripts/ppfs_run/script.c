/* A job file is a script for sh: its words are quoted here once, and nothing quotes them again. What standard input is
 * to have stands behind it in the same file, however long it is and whatever bytes it has. */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/io.h"
#include "scripts/ppfs_run/run.h"

enum { OFFSET_DIGITS = 20 };

static void put_quoted(FILE *f, const char *word, size_t size) {
    fputc('\'', f);
    for (size_t i = 0; i < size; i++)
        word[i] == '\'' ? fputs("'\\''", f) : fputc(word[i], f);
    fputc('\'', f);
}

/* Whether -o env=NAME:... says it of that variable. */
static bool is_option(const char *options, const char *variable, size_t name) {
    static const char sign[] = "env=";
    for (const char *at = options; at && (at = strstr(at, sign)); at++) {
        const char *known = at + strlen(sign);
        if ((at == options || at[-1] == ' ') && strncmp(known, variable, name) == 0 && known[name] == ':')
            return true;
    }
    return false;
}

/* What a job has of its own, or what is about where this process stands, is left out. */
static bool is_carried(const char *variable, size_t name) {
    static const char *const own[] = {"PWD", "OLDPWD", "SHLVL", "_", "PPFS"};
    if (!name || isdigit((unsigned char)*variable) || strncmp(variable, "PPFS_", 5) == 0)
        return false;
    for (size_t i = 0; i < name; i++)
        if (!isalnum((unsigned char)variable[i]) && variable[i] != '_')
            return false; /* sh could not export it */
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strlen(own[i]) == name && strncmp(own[i], variable, name) == 0)
            return false;
    return true;
}

char *script_head(const char *options) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    mode_t mask = umask(0);
    umask(mask);
    if (!f)
        return NULL;
    fputs("#!/bin/sh\n", f);
    if (options)
        fprintf(f, "#ppfs: %s\n", options);
    fprintf(f, "umask %04o\n", (unsigned)mask);
    for (char **v = environ; *v; v++) {
        size_t name = strcspn(*v, "=");
        if (!(*v)[name] || !is_carried(*v, name) || is_option(options, *v, name))
            continue;
        fprintf(f, "export %.*s=", (int)name, *v);
        put_quoted(f, *v + name + 1, strlen(*v + name + 1));
        fputc('\n', f);
    }
    if (fclose(f) == 0)
        return text;
    free(text);
    return NULL;
}

const char script_index[] = "\"$PPFS_INDEX\"";

static void put_item(FILE *f, const char *item) {
    if (item == script_index)
        fputs(item, f);
    else
        put_quoted(f, item, strlen(item));
}

/* A word of the command, with the item for each "{}". True: there was one. */
static bool put_word(FILE *f, const char *word, const char *item) {
    bool had = false;
    fputc(' ', f);
    for (const char *at; item && (at = strstr(word, "{}")); word = at + 2) {
        put_quoted(f, word, (size_t)(at - word));
        put_item(f, item);
        had = true;
    }
    if (!had || *word)
        put_quoted(f, word, strlen(word));
    return had;
}

/* sh itself would name the file of the script. */
static void put_refusal(FILE *f, const char *program, const char *item, const char *what, int status) {
    fprintf(f, " || {\n    printf 'ppfs-run: %%s: %s\\n'", what);
    put_word(f, program, item);
    fprintf(f, " >&2\n    exit %d\n}\n", status);
}

static void put_check(FILE *f, const char *program, const char *item) {
    fputs("case", f);
    put_word(f, program, item);
    fputs(" in */*) [ ! -e", f);
    put_word(f, program, item);
    fputs(" ] || { [ -f", f);
    put_word(f, program, item);
    fputs(" ] && [ -x", f);
    put_word(f, program, item);
    fputs(" ]; }", f);
    put_refusal(f, program, item, "this is no program (a script needs chmod +x)", 126);
    fputs(";; esac\ncommand -v --", f);
    put_word(f, program, item);
    fputs(" >/dev/null", f);
    put_refusal(f, program, item, "not found", 127);
}

/* The script up to the input. The offset of that stands in it: as many digits however long the rest is. */
static char *script_text(const char *head, char **command, const char *item, size_t index, bool input, size_t *size) {
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    long digits = 0;
    bool had = false;
    if (!f)
        return NULL;
    fputs(head, f);
    if (item && item != script_index)
        fprintf(f, "export PPFS_INDEX=%zu\n", index);
    put_check(f, *command, item);
    if (input) {
        fputs("tail -c +", f);
        fflush(f);
        digits = (long)*size;
        fprintf(f, "%*s -- \"$0\" | exec", OFFSET_DIGITS, "");
    } else {
        fputs("exec", f);
    }
    for (; *command; command++)
        had |= put_word(f, *command, item);
    if (item && !had) {
        fputc(' ', f);
        put_item(f, item);
    }
    fputs(input ? "\nexit\n" : "\n", f);
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    if (input) {
        char number[OFFSET_DIGITS + 1];
        snprintf(number, sizeof number, "%0*zu", OFFSET_DIGITS, *size + 1);
        memcpy(text + digits, number, OFFSET_DIGITS);
    }
    return text;
}

static int copy(int from, int to) {
    char buf[1 << 16];
    for (;;) {
        struct pollfd in = {.fd = from, .events = POLLIN};
        int rc = follow_ready(&in, 1, -1);
        ssize_t n = rc < 0 ? rc : read(from, buf, sizeof buf);
        if (rc < 0 || n == 0)
            return rc < 0 ? rc : 0;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            continue;
        rc = n < 0 ? -errno : io_write(to, buf, (size_t)n, IO_NEXT);
        if (rc)
            return rc;
    }
}

int script_write(const char *path, const char *head, char **command, const char *item, size_t index, int input) {
    size_t size;
    char *text = script_text(head, command, item, index, input >= 0, &size);
    int rc = text ? 0 : -ENOMEM, fd = -1;
    if (rc == 0 && (fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0)) < 0)
        rc = -errno;
    if (rc == 0 && fchmod(fd, 0600) < 0) /* who may read the job could read the environment, which is in it */
        rc = -errno;
    if (rc == 0)
        rc = io_write(fd, text, size, IO_NEXT);
    if (rc == 0 && input >= 0)
        rc = copy(input, fd);
    if (rc < 0 && fd >= 0)
        unlink(path); /* what is closed would be queued, were it there */
    if (fd >= 0 && close(fd) < 0 && rc == 0) {
        rc = -errno;
        unlink(path);
    }
    free(text);
    return rc;
}
