/* Clients: their sessions, what they say, and what the runner tells about their works.
 *
 * Nothing is freed while a frame or an event is being handled: a client that ends is only marked; its works are killed
 * and it is freed by the timer `later`, which also tells left() and busy(). A work that runs when its client goes is an
 * orphan until the runner says that it is dead. */
#include "worker/node/agent.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "net/event.h"
#include "worker/node/agent_parts.h"

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    struct agent *s = arg;

    for (uint32_t i = 0; i < s->task_count; i++) {
        struct task *t = s->tasks[i];
        if (!t || !t->client || TAILQ_EMPTY(&t->held) || t->state != TASK_RUNNING)
            continue;
        calls_send_held(t);
        if (!TAILQ_EMPTY(&t->held))
            agent_retry(s);
    }
    task_run_waiting(s);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */
void agent_flush(struct agent *s) {
    event_del(s->flush);
    s->hasty = false;
    for (struct client *g; (g = LIST_FIRST(&s->corked));) {
        LIST_REMOVE(g, next_corked);
        g->corked = false;
        if (g->session)
            session_uncork(g->session);
        out_pump(g); /* if the network took all of it at once nobody will say so */
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg) {
    agent_flush(arg);
}

bool agent_gathers(const struct agent *s) {
    return !LIST_EMPTY(&s->corked) && !s->hasty;
}

/* --- the end of a client ------------------------------------------------------------------------------------------ */
static void client_free(struct client *g) {
    for (uint32_t i = 0; i < g->task_room; i++)
        if (g->tasks[i])
            task_orphan(g->tasks[i]);
    LIST_REMOVE(g, next);
    if (g->corked)
        LIST_REMOVE(g, next_corked);
    session_destroy(g->session);
    functions_free(g);
    free(g->tasks);
    free(g);
}

static void on_later(evutil_socket_t fd, short what, void *arg) {
    struct agent *s = arg;

    for (struct client *g = LIST_FIRST(&s->clients), *next; g; g = next) {
        uint64_t number = g->number;
        bool leaving = g->leaving;
        next = LIST_NEXT(g, next);
        if (!g->ending)
            continue;
        client_free(g);
        s->ev.left(s->arg, number, leaving);
        next = LIST_FIRST(&s->clients); /* left() may have changed the list */
    }
    task_run_waiting(s);
    if (s->told_busy != (s->works > 0)) {
        s->told_busy = s->works > 0;
        s->ev.busy(s->arg, s->told_busy);
    }
}

/* --- what its session tells --------------------------------------------------------------------------------------- */
static void on_linked(void *arg, bool up, const char *why) {
    struct client *g = arg;

    agent_log(g->agent, "the link with ppfs at %s is %s%s%s", session_address(g->session), up ? "up again" : "down",
              why && *why ? ": " : "", why ? why : "");
    if (up)
        out_pump(g);
    g->agent->ev.linked(g->agent->arg, g->number, up);
}

static void on_room(void *arg) {
    out_pump(arg);
}

static void on_lost(void *arg, const char *why) {
    client_break(arg, why);
}

/* --- what the runner tells --------------------------------------------------------------------------------------- */
/* The task, when somebody still wants to hear of it. */
static struct task *wanted(struct agent *s, uint64_t id) {
    struct task *t = task_of_id(s, id);
    return t && t->client && t->state == TASK_RUNNING ? t : NULL;
}

static void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    struct task *t = wanted(arg, job);

    if (t)
        out_send(t, MESSAGE_OUTPUT, MESSAGE_OUTPUT, (uint32_t)stream, bytes, size);
}

static void on_answer(void *arg, uint64_t lease, uint32_t number, enum answer_kind kind, const void *bytes,
                      size_t size) {
    struct task *t = wanted(arg, lease);

    if (!t)
        return;
    if (answer_ends(kind, size))
        t->answered = number;
    if (kind == ANSWER_NEED && size)
        calls_need(t, number, bytes);
    else
        out_send(t, MESSAGE_PART, MESSAGE_PART + kind, number, bytes, size);
    if (!TAILQ_EMPTY(&t->held))
        calls_send_held(t);
}

static void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    struct agent *s = arg;
    struct task *t = task_of_id(s, job);

    if (!t)
        return;
    if (t->client) {
        struct work_outcome said = *o;
        said.attempt = t->work.attempt;
        task_end(t, &said);
    } else {
        orphan_free(s, t);
    }
    task_run_waiting(s);
}

static void on_trouble(void *arg, const char *sentence) {
    struct client *g;
    struct agent *s = arg;

    agent_log(s, "%s", sentence);
    LIST_FOREACH(g, &s->clients, next)
        client_post(g, MESSAGE_TROUBLE, 0, sentence, (uint32_t)strnlen(sentence, MESSAGE_SENTENCE - 1));
}

static void on_python(void *arg) {
    struct agent *s = arg;
    s->ev.python(s->arg);
}

static void on_unable(void *arg) {
    struct agent *s = arg;
    s->ev.unable(s->arg);
}

const struct runner_events agent_runner_events = {.output = on_output,
                                                  .done = on_done,
                                                  .answer = on_answer,
                                                  .trouble = on_trouble,
                                                  .python = on_python,
                                                  .unable = on_unable};

/* --- its life ---------------------------------------------------------------------------------------------------- */
int agent_create(struct agent **out, struct event_base *base, const struct agent_config *config,
                 const struct agent_events *ev, void *arg) {
    struct agent *s = calloc(1, sizeof(*s));

    if (!s)
        return -ENOMEM;
    *s = (struct agent){.base = base,
                        .ev = *ev,
                        .arg = arg,
                        .cpus = config->cpus,
                        .memory = config->memory,
                        .resources = config->resources,
                        .uids = config->uids,
                        .began_us = clock_us()};
    TAILQ_INIT(&s->waiting);
    snprintf(s->name, sizeof(s->name), "%s", config->name);
    s->dir = strdup(config->dir);
    s->later = evtimer_new(base, on_later, s);
    s->flush = evtimer_new(base, on_flush, s);
    s->retry = evtimer_new(base, on_retry, s);
    int err = s->dir && s->later && s->flush && s->retry ? disk_create(&s->disk, base) : -ENOMEM;
    if (err) {
        agent_destroy(s);
        return err;
    }
    *out = s;
    return 0;
}

void agent_destroy(struct agent *s) {
    struct client *g;

    if (!s)
        return;
    LIST_FOREACH(g, &s->clients, next)
        for (uint32_t i = 0; i < g->task_room; i++)
            if (g->tasks[i]) /* nobody is asked to kill it: the runner ends with us */
                task_free(g->tasks[i]);
    while (!LIST_EMPTY(&s->clients))
        client_free(LIST_FIRST(&s->clients));
    for (uint32_t i = 0; i < s->task_count; i++) /* orphans */
        if (s->tasks[i])
            orphan_free(s, s->tasks[i]);
    free(s->tasks);
    disk_destroy(s->disk);
    event_drop(s->later);
    event_drop(s->flush);
    event_drop(s->retry);
    free(s->dir);
    free(s);
}

void agent_set_runner(struct agent *s, struct runner runner) {
    s->runner = runner;
}

uint64_t agent_client(struct agent *s, struct session *session) {
    static const struct session_events events = {
        .frame = client_hear, .linked = on_linked, .room = on_room, .sent = on_room, .lost = on_lost};
    struct client *g = calloc(1, sizeof(*g));

    if (!g) {
        session_destroy(session);
        return 0;
    }
    *g = (struct client){.agent = s, .session = session, .number = ++s->last_client};
    TAILQ_INIT(&g->ring);
    TAILQ_INIT(&g->functions);
    LIST_INSERT_HEAD(&s->clients, g, next);
    session_watch(session, &events, g);
    client_about(g);
    return g->number;
}

uint64_t agent_client_of(const struct agent *s, const struct session *session) {
    const struct client *g;

    LIST_FOREACH(g, &s->clients, next)
        if (g->session == session)
            return g->number;
    return 0;
}

void agent_set_python(struct agent *s, const char *version) {
    snprintf(s->python, sizeof(s->python), "%s", version);
    agent_tell_all(s);
}

void agent_resize(struct agent *s, unsigned cpus) {
    if (cpus != s->cpus)
        agent_log(s, "%u slots from now on", cpus);
    s->cpus = cpus;
    runner_resize(s->runner, cpus);
    agent_soon(s);
    agent_tell_all(s);
}

void agent_drain(struct agent *s) {
    s->draining = true;
    agent_tell_all(s);
}

void agent_goodbye(struct agent *s) {
    struct client *g;

    LIST_FOREACH(g, &s->clients, next)
        client_post(g, MESSAGE_GOODBYE, 0, NULL, 0);
}

unsigned agent_works(const struct agent *s) {
    return s->works;
}

unsigned agent_clients(const struct agent *s) {
    const struct client *g;
    unsigned n = 0;

    LIST_FOREACH(g, &s->clients, next)
        n += !g->ending;
    return n;
}
