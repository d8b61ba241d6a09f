/* What users write into jobs/: options as words and as they are kept, job files of every kind, JSON, text that becomes
 * JSON, and indexes of arrays. The first byte of an input says which. What is taken must come out again as it was.
 *
 * With libFuzzer (configure --enable-fuzzing): tests/fuzz/fuzz_files DIRECTORY. Without it (make check) it has a main
 * of its own: some samples, each with 2,000 changes by a fixed chance; or the files named. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/job/array.h"
#include "sched/job/json_string.h"
#include "sched/job/json_text.h"
#include "sched/job/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OF_WORDS, OF_KEPT, OF_JOB_FILE, OF_JSON, OF_STRING, OF_ARRAY, WAYS };

/* What can be written down and read is the same then, and is written down so again. */
static void same_again(const struct options *o) {
    char why[OPTIONS_WHY] = "";
    struct options *again = options_create(), *kept = options_create();
    char *words = options_words(o), *saved = options_save(o);
    assert(again && kept && words && saved);
    options_begin(again);
    assert(options_add_words(again, words, strlen(words), why) == 0);
    assert(options_load(kept, saved) == 0);
    char *words_again = options_words(again), *saved_again = options_save(kept);
    assert(strcmp(words, words_again) == 0 && strcmp(saved, saved_again) == 0);
    free(words);
    free(saved);
    free(words_again);
    free(saved_again);
    options_destroy(again);
    options_destroy(kept);
}

static void fuzz_words(const char *text, size_t size) {
    char why[OPTIONS_WHY] = "";
    struct options *o = options_create();
    options_begin(o);
    int rc = options_add_words(o, text, size, why);
    assert(rc == 0 || (rc == -EINVAL && *why && strlen(why) < sizeof why));
    if (rc == 0)
        same_again(o);
    options_destroy(o);
}

static void fuzz_kept(const char *text) {
    struct options *o = options_create();
    int rc = options_load(o, text);
    assert(rc == 0 || rc == -EINVAL);
    if (rc == 0)
        same_again(o);
    options_destroy(o);
}

static int read_spec(const char *name, const char *bytes, size_t size, enum work_kind *kind, char **options) {
    char why[SPEC_WHY] = "";
    struct options *o = options_create();
    int rc = spec_read(name, bytes, size, kind, o, why);
    assert(rc == 0 || (rc == -EINVAL && *why && strlen(why) < sizeof why));
    *options = rc == 0 ? options_save(o) : strdup(why);
    options_destroy(o);
    return rc;
}

/* What is needed of a file says the same as all of it. */
static void fuzz_job_file(const char *bytes, size_t size) {
    static const char *const names[] = {"x", "x.py", "x.sh", "x.json", "x.jsonl", "x.pickle"};
    const char *name = names[size ? (uint8_t)bytes[0] % 6 : 0];
    enum work_kind kind = WORK_NONE, kind_again = WORK_NONE, streams = WORK_NONE;
    char *options, *again;
    bytes += size > 0;
    size -= size > 0;
    spec_is_stream(name, bytes, size, &streams);
    spec_ignored(bytes, size);
    uint64_t needs = spec_needs(name, bytes, size < SPEC_HEAD ? size : SPEC_HEAD, size);
    assert(needs <= size);
    int rc = read_spec(name, bytes, size, &kind, &options);
    assert(read_spec(name, bytes, (size_t)needs, &kind_again, &again) == rc);
    assert(kind == kind_again && strcmp(options, again) == 0);
    free(options);
    free(again);
}

static void fuzz_json(const char *text, size_t size) {
    char why[300] = "";
    json_t *value = NULL;
    int rc = json_text_read(text, size, NULL, NULL, &value, why, sizeof why);
    assert(rc == 0 ? value != NULL : rc == -EINVAL && *why);
    if (rc == 0) {
        char *dumped = json_dumps(value, JSON_ENCODE_ANY);
        assert(dumped);
        free(dumped);
        json_decref(value);
    }
    if (memchr(text, 0, size))
        return;
    json_t *made = json_text_make(text);
    char *bytes = json_text_bytes(json_string_value(made));
    assert(strcmp(bytes, text) == 0);
    free(bytes);
    json_decref(made);
    json_decref(json_text_shown(text, size));
}

static int string_of(const char *text, size_t size, size_t piece, struct json_string *s) {
    int rc = 0;
    for (size_t at = 0; at < size && rc == 0; at += piece)
        rc = json_string_add(s, text + at, size - at < piece ? size - at : piece);
    return rc == 0 ? json_string_end(s) : rc;
}

/* However it comes it is the same, and it is what jansson makes of it. */
static void fuzz_json_string(const char *text, size_t size) {
    struct json_string whole = {0}, pieces = {0};
    int rc = string_of(text, size, size + 1, &whole);
    assert(string_of(text, size, 1 + size % 5, &pieces) == rc);
    if (rc == 0) {
        assert(whole.text.size == pieces.text.size &&
               memcmp(whole.text.bytes, pieces.text.bytes, whole.text.size) == 0);
        json_t *back = json_loadb(whole.text.bytes, whole.text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert(back && json_string_length(back) == size && memcmp(json_string_value(back), text, size) == 0);
        json_decref(back);
    }
    buffer_free(&whole.text);
    buffer_free(&pieces.text);
}

static void fuzz_array(const char *text) {
    struct array_list l;
    if (array_parse(text, &l) < 0)
        return;
    for (uint32_t n = 0, k = 0; n < 50 && k < l.size; n++, k += 1 + l.size / 50) {
        char index[32];
        uint32_t back;
        snprintf(index, sizeof index, "%u", array_index(&l, k));
        assert(array_place(&l, index, &back) && back == k);
        assert(k == 0 || array_index(&l, k) > array_index(&l, k - 1));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    char *text = malloc(size); /* all but the first byte, and a NUL behind them */
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    switch (data[0] % WAYS) {
    case OF_WORDS: fuzz_words(text, size - 1); break;
    case OF_KEPT: fuzz_kept(text); break;
    case OF_JOB_FILE: fuzz_job_file(text, size - 1); break;
    case OF_JSON: fuzz_json(text, size - 1); break;
    case OF_STRING: fuzz_json_string(text, size - 1); break;
    default: fuzz_array(text);
    }
    free(text);
    return 0;
}

#ifdef PPFS_SAMPLES
#include "tests/fuzz/samples.h"

static const char *const samples[] = {
    "\0priority=-5 timeout=1.5s retries=2 'cwd=/a b' after=a,G/b env=A:2 env='B:x y' node=gpu* memory=500M sandbox=ro",
    "\0hold=1 cpus=2 drafts='*.swp' max=3 max_fails=1 array=0-9:3%2 gpu=1 resources=licence:2 keep=7d",
    "\1{\"priority\":-5,\"timeout\":1500000,\"cwd\":\"/a b\",\"after\":[\"a\"],\"env\":[\"A=2\"],\"drafts\":[\"*~\"]}",
    "\2\1#!/usr/bin/env python3\n#ppfs: priority=4 env=A:1\n#ppfs: cpus=2\n#SBATCH -n 1\nprint(1)\n",
    "\2\3{\"call\": \"math.gcd\", \"args\": [84, 36], \"priority\": 3, \"env\": {\"A\": 1}, \"after\": [\"x\"]}",
    "\2\3{\"run\": [\"wc\", \"-l\"], \"stdin\": \"x\\udc80\", \"timeout\": \"5m\"}",
    "\3{\"a\": [1, 2.5, 123456789012345678901234567890, true, null, \"\\ud83d\\ude00\\udcff\"], \"b\": {}}",
    "\4caf\xc3\xa9 \"quoted\" \\ \n\t\x01 \xf0\x9f\x98\x80",
    "\0050-99:5,101,103-200%8",
};

int main(int argc, char **argv) {
    size_t count = sizeof samples / sizeof *samples;
    if (argc > 1)
        return run_samples(argc - 1, argv + 1);
    srandom(1);
    for (size_t i = 0; i < count; i++) {
        uint8_t bytes[256];
        size_t size = 1 + strlen(samples[i] + 1);
        assert(size < sizeof bytes);
        for (int n = 0; n < 2000; n++) {
            memcpy(bytes, samples[i], size);
            for (int changes = n % 5; changes > 0; changes--)
                bytes[1 + (size_t)random() % (size - 1)] =
                    random() % 2 ? (uint8_t)random() : bytes[(size_t)random() % size];
            LLVMFuzzerTestOneInput(bytes, n % 3 ? size : 1 + (size_t)random() % size);
        }
        printf("ok %zu - sample %zu\n", i + 1, i);
        fflush(stdout);
    }
    printf("1..%zu\n", count);
    return 0;
}
#endif
