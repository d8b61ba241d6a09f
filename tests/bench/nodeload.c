/* nodeload KEY local|far SLOTS CALLS [RESULT-BYTES]: how many no-op calls a second a runner does, with calls sent ahead
 * to SLOTS leases. local: a pool in this process. far: waits for a node; prints the address for its --join first. */
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "worker/remote/registry.h"
#include "worker/runner/where.h"

enum { AHEAD = 2000 };

static struct runner runner;
static bool up, finished;
static unsigned slots;
static uint32_t total, sent, answered, on_the_way[64], number[64];
static size_t bytes_back;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    if (stream != OUTPUT_RESULT)
        fwrite(bytes, 1, size, stderr);
}

static void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    fprintf(stderr, "a lease has ended: %s\n", o->why);
    exit(1);
}

static void on_answer(void *arg, uint64_t lease, uint32_t n, enum answer_kind kind, const void *bytes, size_t size) {
    bytes_back += size;
    if (kind == ANSWER_PART)
        return;
    if (kind != ANSWER_VALUE) {
        fprintf(stderr, "a call failed: %.*s\n", (int)size, (const char *)bytes);
        exit(1);
    }
    on_the_way[lease]--;
    finished = ++answered == total;
}

static void on_trouble(void *arg, const char *sentence) {
    fprintf(stderr, "%s\n", sentence);
}

static void on_recalled(void *arg, uint64_t lease, uint32_t n) {
}

static void on_room(void *arg) {
}

static const struct runner_events events = {.output = on_output,
                                            .done = on_done,
                                            .answer = on_answer,
                                            .trouble = on_trouble,
                                            .recalled = on_recalled,
                                            .room = on_room};

static void *on_up(void *arg, struct remote *remote) {
    remote_runner(remote, &runner);
    up = true;
    return &runner;
}

static void on_changed(void *node, struct remote *remote) {
}

static void on_gone(void *node, struct remote *remote, const char *why) {
    fprintf(stderr, "%s\n", why);
    exit(1);
}

int main(int argc, char **argv) {
    static const struct registry_events registry_events = {
        .up = on_up, .changed = on_changed, .gone = on_gone, .log = on_trouble};
    struct event_base *base = event_base_new();
    struct registry *registry = NULL;
    struct pool *pool = NULL;
    char why[1024], worker[PATH_MAX], text[128];

    if (argc < 5) {
        fputs("usage: farload KEY local|far SLOTS CALLS [RESULT-BYTES]\n", stderr);
        return 2;
    }
    slots = (unsigned)atoi(argv[3]);
    total = (uint32_t)atoi(argv[4]);
    if (strcmp(argv[2], "far") == 0) {
        struct registry_config config = {.key_file = argv[1], .listen = "127.0.0.1:0", .runner = &events};
        if (registry_create(&registry, base, &config, &registry_events, NULL, why, sizeof(why))) {
            fprintf(stderr, "%s\n", why);
            return 1;
        }
        struct registry_key join;
        bool found;
        if (registry_first_key(registry, "/nonexistent", &join, &found) || registry_set_keys(registry, &join, 1))
            return 1;
        printf("%s\n", registry_address(registry));
        fflush(stdout);
        while (!up)
            event_base_loop(base, EVLOOP_ONCE);
    } else {
        where_worker(worker);
        struct pool_config config = {.worker_path = worker, .workers = slots};
        if (pool_create(&pool, base, &config, &events, NULL))
            return 1;
        pool_runner(pool, &runner);
    }
    int size = argc > 5 ? atoi(argv[5]) : 0;
    if (size)
        snprintf(text, sizeof(text), "{\"call\": \"operator.mul\", \"args\": [\"x\", %d]}", size);
    else
        snprintf(text, sizeof(text), "{\"call\": \"math.sqrt\", \"args\": [4]}");
    for (unsigned i = 0; i < slots; i++) {
        struct work w = {.job = i,
                         .attempt = 1,
                         .kind = WORK_STREAM_JSON,
                         .name = "x",
                         .node = "x",
                         .cwd = "/",
                         .uid = geteuid(),
                         .gid = getegid()};
        while (runner_start(runner, &w))
            event_base_loop(base, EVLOOP_ONCE);
    }
    double began = now();
    while (!finished) {
        for (unsigned i = 0; i < slots; i++)
            while (sent < total && on_the_way[i] < (size ? 4 : AHEAD) &&
                   runner_call(runner, i, number[i] + 1, CALL_JSON, text, strlen(text), NULL) == 0) {
                number[i]++;
                on_the_way[i]++;
                sent++;
            }
        runner_flush(runner);
        event_base_loop(base, EVLOOP_ONCE);
    }
    double took = now() - began;
    printf("%u calls in %.3f s: %.0f a second, %.1f MB/s\n", total, took, total / took,
           (double)bytes_back / took / 1e6);
    registry_destroy(registry);
    pool_destroy(pool);
    event_base_free(base);
    return 0;
}
