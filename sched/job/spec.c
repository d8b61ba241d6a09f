/* The kinds of job files. Pure functions of the bytes: the disk thread calls them, too. */
#include "sched/job/spec.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "net/session/frame.h"
#include "net/printable.h"
#include "sched/job/json_text.h"
#include "worker/runner/pyenv.h"

#define PICKLE_PROTO 0x80
#define LINE_MAX_ 4096u /* bytes of a #! or #ppfs: line */

/* Keys of a JSON job that are not options, and those whose values only the function gets. */
static const char *const call_keys[] = {"call", "args", "kwargs", "nan", NULL};
static const char *const run_keys[] = {"run", "stdin", NULL};
static const char *const all_keys[] = {"call", "args", "kwargs", "nan", "run", "stdin", NULL};
static const char *const opaque_keys[] = {"args", "kwargs", NULL};

static int refuse(char why[SPEC_WHY], const char *sentence) {
    snprintf(why, SPEC_WHY, "%s", sentence);
    return -EINVAL;
}

static int check_call(json_t *j, char why[SPEC_WHY]) {
    json_t *args = json_object_get(j, "args"), *kwargs = json_object_get(j, "kwargs"), *nan = json_object_get(j, "nan");
    if (!json_is_string(json_object_get(j, "call")))
        return refuse(why, "\"call\" must be a string such as \"math.sqrt\"");
    if (args && !json_is_array(args))
        return refuse(why, "\"args\" must be an array");
    if (kwargs && !json_is_object(kwargs))
        return refuse(why, "\"kwargs\" must be an object");
    if (nan && (!json_is_string(nan) || strcmp(json_string_value(nan), "null") != 0))
        return refuse(why, "\"nan\" must be \"null\": what is written for NaN and Infinity, which JSON does not have");
    return 0;
}

static int check_run(json_t *j, char why[SPEC_WHY]) {
    json_t *run = json_object_get(j, "run"), *in = json_object_get(j, "stdin");
    size_t n = json_array_size(run);
    for (size_t i = 0; i < n; i++)
        if (!json_is_string(json_array_get(run, i)))
            n = 0;
    if (n == 0)
        return refuse(why, "\"run\" must be an array of strings, the program first");
    return in && !json_is_string(in) ? refuse(why, "\"stdin\" must be a string") : 0;
}

static int read_json(const void *bytes, size_t size, enum work_kind *kind, struct options *o, char why[SPEC_WHY]) {
    if (size > SPEC_JSON_MAX)
        return refuse(why, "a JSON job may have 16 MiB at most: put the data into a file or send a pickle");
    char at[SPEC_WHY - 32];
    json_t *j;
    int rc = json_text_read(bytes, size, all_keys, opaque_keys, &j, at, sizeof at);
    if (rc == -EINVAL)
        snprintf(why, SPEC_WHY, "not valid JSON: %s", at);
    if (rc < 0)
        return rc;
    bool call = json_object_get(j, "call"), run = json_object_get(j, "run");
    if (call == run)
        rc = refuse(why, call ? "a JSON job has either \"call\" or \"run\", not both"
                              : "a JSON job needs \"call\" or \"run\"");
    else
        rc = call ? check_call(j, why) : check_run(j, why);
    if (rc == 0)
        rc = options_add_json(o, j, call ? call_keys : run_keys, why);
    *kind = call ? WORK_JSON_CALL : WORK_JSON_RUN;
    json_decref(j);
    return rc;
}

/* Refuses a JSON array, which Python would run as an expression without effect. 0, -ENOMEM, -EINVAL. */
static int refuse_array(const char *bytes, size_t size, char why[SPEC_WHY]) {
    char at[SPEC_WHY];
    json_t *j;
    int rc = size > SPEC_JSON_MAX ? -EINVAL : json_text_read(bytes, size, NULL, NULL, &j, at, sizeof at);
    if (rc < 0)
        return rc == -ENOMEM ? rc : 0;
    json_decref(j);
    return refuse(why, "it is a JSON array, and a JSON job is one object: {\"call\": ...} or {\"run\": ...}; "
                       "many of them are a stream, one a line in a file NAME.jsonl");
}

/* #ppfs: lines among the first comment lines of a script. */
static int read_comments(const char *p, const char *end, struct options *o, char why[SPEC_WHY]) {
    static const char mark[] = "#ppfs:";
    options_begin(o);
    while (p < end && (*p == '#' || *p == '\n' || *p == '\r')) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        const char *stop = newline ? newline : end;
        size_t len = (size_t)(stop - p);
        if (len >= sizeof mark - 1 && memcmp(p, mark, sizeof mark - 1) == 0) {
            if (len > LINE_MAX_)
                return refuse(why, "a #ppfs: line is longer than 4096 bytes");
            int rc = options_add_words(o, p + sizeof mark - 1, len - (sizeof mark - 1), why);
            if (rc < 0)
                return rc;
        }
        p = newline ? newline + 1 : end;
    }
    return 0;
}

static size_t blanks(const char *p, size_t size) {
    size_t n = 0;
    while (n < size && (p[n] == ' ' || p[n] == '\t'))
        n++;
    return n;
}

/* Something like "# PPFS timeout=7s". */
static bool is_near_miss(const char *line, size_t size) {
    static const char mark[] = "#ppfs:";
    size_t at = 1 + blanks(line + 1, size - 1);
    if ((size >= sizeof mark - 1 && memcmp(line, mark, sizeof mark - 1) == 0) || size - at < 4 ||
        strncasecmp(line + at, "ppfs", 4) != 0)
        return false;
    at += 4;
    at += blanks(line + at, size - at);
    at += at < size && line[at] == ':';
    at += blanks(line + at, size - at);
    size_t word = at;
    while (at < size && line[at] >= 'a' && line[at] <= 'z')
        at++;
    return at > word && at < size && line[at] == '=';
}

const char *spec_ignored(const char *text, size_t size) {
    static const char sbatch[] = "#SBATCH";
    const char *p = text + json_text_mark(text, size), *end = text + size;
    for (const char *newline; p < end && (*p == '#' || *p == '\n' || *p == '\r'); p = newline ? newline + 1 : end) {
        newline = memchr(p, '\n', (size_t)(end - p));
        size_t len = (size_t)((newline ? newline : end) - p);
        if (len >= sizeof sbatch - 1 && memcmp(p, sbatch, sizeof sbatch - 1) == 0)
            return "its #SBATCH lines do nothing here: options are in lines that begin with #ppfs:";
        if (*p == '#' && is_near_miss(p, len))
            return "a comment that looks like options does nothing: such a line begins with #ppfs: to the letter";
    }
    return NULL;
}

static bool is_text(const char *p, size_t size) {
    size_t n = memchr(p, 0, size) ? 0 : 1;
    for (size_t at = 0; n && at < size; at += n)
        n = utf8_length(p + at, size - at);
    return n;
}

/* The beginning of the text, after a byte order mark and blanks. */
static size_t text_at(const char *p, size_t size) {
    size_t at = json_text_mark(p, size);
    while (at < size && strchr(" \t\r\n", p[at]) && p[at])
        at++;
    return at;
}

static bool is_shebang(const char *p, size_t size) {
    return size >= 2 && p[0] == '#' && p[1] == '!';
}

static int refuse_large(char why[SPEC_WHY]) {
    return refuse(
        why, "Python source may have 16 MiB at most: put what it works on into a file that it reads, or send a pickle");
}

/* first: it is at offset 0, as a #! line must be. */
static int read_shebang(const char *p, size_t size, bool first, enum work_kind *kind, char why[SPEC_WHY]) {
    char line[LINE_MAX_];
    const char *newline = memchr(p, '\n', size);
    size_t len = newline ? (size_t)(newline - p) : size;
    if (len >= sizeof line)
        len = sizeof line - 1;
    memcpy(line, p, len);
    line[len] = 0;
    *kind = pyenv_is_own(line) ? WORK_PYTHON : WORK_PROGRAM; /* for Python a #! is a comment, and CR LF ends a line */
    if (*kind == WORK_PYTHON && size > SPEC_SOURCE_MAX)
        return refuse_large(why);
    if (*kind == WORK_PYTHON || (first && (len == 0 || line[len - 1] != '\r')))
        return 0;
    if (!first)
        return refuse(why, "blank lines stand before its #! line: take them away, for a script begins with that line");
    snprintf(why, SPEC_WHY,
             "its lines end in CR LF, as on Windows, and no program is named %.*s with a CR: sed -i 's/\\r$//' FILE "
             "takes them out",
             (int)(len - 3 < 100 ? len - 3 : 100), line + 2);
    return -EINVAL;
}

bool spec_is_stream(const char *name, const void *bytes, size_t size, enum work_kind *kind) {
    size_t n = strlen(name);
    bool portable, frames = frame_magic(bytes, size, &portable);
    bool json = !frames && n > 6 && strcmp(name + n - 6, ".jsonl") == 0;
    *kind = json ? WORK_STREAM_JSON : WORK_NONE;
    if (frames)
        *kind = portable ? WORK_STREAM_PORTABLE : WORK_STREAM_FRAMES;
    return frames || json;
}

static bool is_elf(const void *bytes, size_t size) {
    return size >= 4 && memcmp(bytes,
                               "\x7f"
                               "ELF",
                               4) == 0;
}

uint64_t spec_needs(const char *name, const void *head, size_t head_size, uint64_t size) {
    const unsigned char *b = head;
    enum work_kind kind;
    uint64_t most =
        SPEC_SOURCE_MAX + 1; /* source must be text to its end; larger source or JSON is refused by its size */
    if (head_size == 0 || spec_is_stream(name, head, head_size, &kind) || is_elf(head, head_size) ||
        b[0] == PICKLE_PROTO)
        most = SPEC_HEAD;
    return size < most ? size : most;
}

int spec_read(const char *name, const void *bytes, size_t size, enum work_kind *kind, struct options *o,
              char why[SPEC_WHY]) {
    const unsigned char *b = bytes;
    const char *text = bytes;
    *kind = WORK_NONE;
    why[0] = 0;
    if (size == 0)
        return refuse(why, "the job file is empty");
    if (spec_is_stream(name, bytes, size, kind))
        return 0;
    if (b[0] == PICKLE_PROTO) {
        if (size < 3 || b[1] < 2 || b[1] > 5)
            return refuse(why, "it begins like a pickle, but not of protocol 2 to 5");
        *kind = WORK_PICKLE;
        return 0;
    }
    if (is_elf(bytes, size)) {
        *kind = WORK_PROGRAM;
        return 0;
    }
    size_t at = text_at(text, size), mark = json_text_mark(text, size);
    const char *start = text + at;
    if (at < size && *start == '{')
        return read_json(start, size - at, kind, o, why);
    if (at < size && *start == '[') {
        int rc = refuse_array(start, size - at, why);
        if (rc < 0)
            return rc;
    }
    if (is_shebang(start, size - at)) {
        int rc = read_shebang(start, size - at, at == mark, kind, why);
        return rc < 0 ? rc : read_comments(text + mark, text + size, o, why);
    }
    if (!is_text(text, size))
        return refuse(why, "the file is none of what a job may be: a pickle, a JSON object, a #! script, an ELF "
                           "program or Python source in UTF-8");
    if (size > SPEC_SOURCE_MAX)
        return refuse_large(why);
    *kind = WORK_PYTHON;
    return read_comments(text + mark, text + size, o, why);
}
