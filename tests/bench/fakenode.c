/* fakenode ADDRESS KEY NODES SLOTS MS: NODES nodes in one process that join a ppfs and answer without working: every
 * job and every call takes MS milliseconds of a slot's time and returns 1 (a script prints it). On SIGTERM, and at the
 * end of all sessions, it prints how many calls there were and how busy the slots were from the first one to the last.
 * */
#include <event2/event.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "worker/runner/redial.h"
#include "worker/node/agent.h"

struct fake_call {
    struct fake_call *next;
    uint32_t number;
    enum call_format format;
};

struct slot {
    struct node *node;
    bool busy, lease, finishing;
    uint64_t job;
    uint32_t attempt;
    enum work_kind kind;
    struct fake_call *calls, **calls_end;
    struct event *timer;
};

struct node {
    struct node_key key;
    struct tls *tls;
    struct hub *hub;
    struct agent *agent;
    struct dials dials;
    struct redial *redial;
    struct slot *slots;
};

static struct event_base *base;
static unsigned slots_each, node_count;
static const struct timeval *duration;
static uint64_t calls;
static double first, last, busy_s, each_s;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void work_on(struct slot *s) {
    if (!first)
        first = now();
    event_add(s->timer, duration);
}

static void end_slot(struct slot *s, enum work_end end) {
    struct work_outcome o = {.attempt = s->attempt, .end = end};

    event_del(s->timer);
    while (s->calls) {
        struct fake_call *c = s->calls;
        s->calls = c->next;
        free(c);
    }
    s->calls_end = &s->calls;
    s->busy = false;
    agent_runner_events.done(s->node->agent, s->job, &o);
}

static void on_timer(evutil_socket_t fd, short what, void *arg) {
    static const char pickle[] = "\x80\x04K\x01.";
    struct slot *s = arg;

    calls++;
    busy_s += each_s;
    last = now();
    if (!s->lease) {
        bool pickled = s->kind == WORK_PICKLE || s->kind == WORK_CALL, json = s->kind == WORK_JSON_CALL;
        agent_runner_events.output(s->node->agent, s->job, pickled || json ? OUTPUT_RESULT : OUTPUT_STDOUT,
                                   pickled ? pickle : "1\n", pickled ? 5 : 2);
        end_slot(s, WORK_DONE);
        return;
    }
    struct fake_call *c = s->calls;
    s->calls = c->next;
    if (!s->calls)
        s->calls_end = &s->calls;
    uint64_t job = s->job;
    uint32_t number = c->number;
    bool json = c->format == CALL_JSON;
    free(c);
    if (s->calls)
        work_on(s);
    agent_runner_events.answer(s->node->agent, job, number, ANSWER_VALUE, json ? "1" : pickle, json ? 1 : 5);
    if (!s->calls && s->finishing)
        end_slot(s, WORK_DONE);
}

/* --- the runner ----------------------------------------------------------------------------------------------------
 * */
static struct slot *slot_of(struct node *n, uint64_t job) {
    for (unsigned i = 0; i < slots_each; i++)
        if (n->slots[i].busy && n->slots[i].job == job)
            return &n->slots[i];
    return NULL;
}

static int start(void *self, const struct work *w) {
    struct node *n = self;

    for (unsigned i = 0; i < slots_each; i++) {
        struct slot *s = &n->slots[i];
        if (s->busy)
            continue;
        s->busy = true;
        s->lease = work_is_lease(w);
        s->finishing = false;
        s->job = w->job;
        s->attempt = w->attempt;
        s->kind = w->kind;
        if (!s->lease)
            work_on(s);
        return 0;
    }
    return -11;
}

static int call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                struct shared_buffer *shared) {
    struct slot *s = slot_of(self, lease);
    struct fake_call *c = s ? malloc(sizeof(*c)) : NULL;

    if (!c)
        return -2;
    *c = (struct fake_call){.number = number, .format = format};
    if (!s->calls)
        work_on(s);
    *s->calls_end = c;
    s->calls_end = &c->next;
    return 0;
}

static int function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                    struct shared_buffer *shared) {
    return 0;
}

static void finish_soon(evutil_socket_t fd, short what, void *arg) {
    struct slot *s = arg;

    if (s->busy && s->finishing && !s->calls)
        end_slot(s, WORK_DONE);
}

static void kill_soon(evutil_socket_t fd, short what, void *arg) {
    struct slot *s = arg;

    if (s->busy)
        end_slot(s, WORK_SIGNALED);
}

static int finish(void *self, uint64_t lease) {
    static const struct timeval at_once;
    struct slot *s = slot_of(self, lease);

    if (!s)
        return -2;
    s->finishing = true;
    if (!s->calls)
        event_base_once(base, -1, EV_TIMEOUT, finish_soon, s, &at_once);
    return 0;
}

static uint32_t recall(void *self, uint64_t lease, uint32_t number) {
    struct slot *s = slot_of(self, lease);

    if (!s || !s->calls)
        return number;
    struct fake_call **at = &s->calls->next; /* the first one runs */
    while (*at && (*at)->number < number)
        at = &(*at)->next;
    uint32_t limit = s->calls->number >= number ? s->calls->number + 1 : number;
    if (*at)
        limit = (*at)->number;
    while (*at) {
        struct fake_call *c = *at;
        *at = c->next;
        free(c);
    }
    s->calls_end = at;
    return limit;
}

static void flush(void *self) {
}

static void kill_job(void *self, uint64_t job) {
    static const struct timeval at_once;
    struct slot *s = slot_of(self, job);

    if (s)
        event_base_once(base, -1, EV_TIMEOUT, kill_soon, s, &at_once);
}

static void hold_job(void *self, uint64_t job, bool hold) {
}

static void resize(void *self, unsigned slots) {
}

static const struct runner_ops ops = {.start = start,
                                      .call = call,
                                      .function = function,
                                      .finish = finish,
                                      .recall = recall,
                                      .flush = flush,
                                      .kill = kill_job,
                                      .hold = hold_job,
                                      .resize = resize};

/* --- sessions ------------------------------------------------------------------------------------------------------
 * */
static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    struct node *n = arg;

    if (fresh)
        agent_client(n->agent, s);
}

/* A hundred at once are more than a ppfs greets at a time: those it sends away come again. */
static void on_greet_failed(void *arg, void *tag, const char *why) {
    struct node *n = arg;

    redial_later(n->redial);
}

static void on_connected(void *arg, struct tls_conn *conn) {
    struct node *n = arg;
    hub_greet(n->hub, conn, redial_address(n->redial), NULL);
}

static void on_dial_failed(void *arg, const char *why) {
}

static void on_linked(void *arg, uint64_t client, bool up) {
    struct node *n = arg;

    if (!up)
        redial_now(n->redial);
}

static void on_left(void *arg, uint64_t client, bool for_good) {
    if (--node_count == 0)
        event_base_loopbreak(base);
}

static void on_busy(void *arg, bool busy) {
}

static void on_python(void *arg) {
}

static void on_log(void *arg, const char *sentence) {
}

static void on_term(evutil_socket_t fd, short what, void *arg) {
    event_base_loopbreak(base);
}

static void make_node(struct node *n, unsigned index, const char *address, const char *key) {
    static const struct hub_events hub_events = {.greeted = on_greeted, .failed = on_greet_failed};
    static const struct agent_events agent_events = {
        .linked = on_linked, .left = on_left, .busy = on_busy, .python = on_python, .unable = on_python, .log = on_log};
    static const struct redial_events redial_events = {.connected = on_connected, .failed = on_dial_failed};
    char name[64], why[512];
    struct agent_config config = {.name = name, .dir = "/tmp", .cpus = slots_each, .uids = {1, {{0, UINT32_MAX - 1}}}};
    struct hub_config hub = {.side = TLS_NODE, .node = &n->key};
    struct tls_key shown;

    snprintf(name, sizeof(name), "fake%03u", index);
    if (node_key_read(&n->key, key, why, sizeof(why)) || tls_create(&n->tls, TLS_NODE, n->key.find, why, sizeof(why)) ||
        node_key_tls(n->key.secret, &shown) || tls_add_key(n->tls, &shown)) {
        fprintf(stderr, "fakenode: %s\n", why);
        exit(1);
    }
    dials_init(&n->dials);
    n->slots = calloc(slots_each, sizeof(*n->slots));
    for (unsigned i = 0; i < slots_each; i++) {
        n->slots[i] = (struct slot){.node = n, .timer = NULL};
        n->slots[i].calls_end = &n->slots[i].calls;
        n->slots[i].timer = evtimer_new(base, on_timer, &n->slots[i]);
    }
    if (hub_create(&n->hub, base, &hub, &hub_events, n) || agent_create(&n->agent, base, &config, &agent_events, n) ||
        redial_create(&n->redial, base, n->tls, &n->dials, address, false, &redial_events, n))
        exit(1);
    agent_set_runner(n->agent, (struct runner){.ops = &ops, .self = n});
    agent_set_python(n->agent, PPFS_PYTHON_VERSION ".0");
    redial_now(n->redial);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fputs("usage: fakenode ADDRESS KEY NODES SLOTS MS\n", stderr);
        return 2;
    }
    unsigned nodes = (unsigned)atoi(argv[3]);
    int ms = atoi(argv[5]);
    struct timeval each = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    struct node *all = calloc(nodes, sizeof(*all));

    signal(SIGPIPE, SIG_IGN);
    slots_each = (unsigned)atoi(argv[4]);
    node_count = nodes;
    each_s = ms / 1000.0;
    base = event_base_new();
    duration = event_base_init_common_timeout(base, &each); /* all timers are alike: a list, not a heap */
    struct event *term = evsignal_new(base, SIGTERM, on_term, NULL);
    event_add(term, NULL);
    for (unsigned i = 0; i < nodes; i++)
        make_node(&all[i], i, argv[1], argv[2]);
    event_base_dispatch(base);
    double span = last - first + each_s;
    printf("%llu calls, %.1f s, %.0f a second, slots busy %.1f %%\n", (unsigned long long)calls, span,
           (double)calls / span, 100 * busy_s / (span * nodes * slots_each));
    return 0;
}
