/* Clients: what is sent to them, and that one is to end. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "worker/node/agent_parts.h"

enum { RETRY_US = 5000, GATHER_US = 200, AHEAD_ENOUGH = 32 };

void agent_soon(struct agent *s) {
    static const struct timeval now = {0};
    if (!evtimer_pending(s->later, NULL))
        evtimer_add(s->later, &now);
}

void agent_retry(struct agent *s) {
    static const struct timeval pause = {.tv_usec = RETRY_US};
    if (!evtimer_pending(s->retry, NULL))
        evtimer_add(s->retry, &pause);
}

/* What is posted for this task now may wait for a moment: its worker has enough calls ahead not to miss the answer, and
 * a few more answers will go with it. */
static bool is_patient(const struct task *t) {
    return t && t->lease && t->sent - t->answered >= AHEAD_ENOUGH;
}

void client_post(struct client *g, enum message_kind kind, uint64_t id, const void *body, uint32_t size) {
    static const struct timeval moment = {.tv_usec = GATHER_US};
    struct agent *s = g->agent;
    bool answer = kind == MESSAGE_VALUE || kind == MESSAGE_ERROR;

    if (!g->session)
        return;
    if (!g->corked) {
        session_cork(g->session);
        g->corked = true;
        LIST_INSERT_HEAD(&s->corked, g, next_corked);
    }
    if (!s->hasty && answer && is_patient(task_of_ref(g, (uint32_t)(id >> 32)))) {
        if (!evtimer_pending(s->flush, NULL))
            event_add(s->flush, &moment);
    } else if (!s->hasty) {
        s->hasty = true;
        event_active(s->flush, EV_TIMEOUT, 0);
    }
    if (session_send(g->session, (uint8_t)kind, id, body, size) == -ENOMEM)
        client_break(g, "there is no memory for what is to be sent to it");
}

void client_about(struct client *g) {
    struct agent *s = g->agent;
    struct node_about about = {.cpus = s->cpus,
                               .memory = s->memory,
                               .resources = s->resources,
                               .uid = geteuid(),
                               .uids = s->uids,
                               .draining = s->draining};
    uint8_t bytes[NODE_ABOUT_MAX];

    strcpy(about.name, s->name);
    strcpy(about.python, s->python);
    client_post(g, MESSAGE_ABOUT, 0, bytes, node_about_encode(&about, bytes));
}

void agent_tell_all(struct agent *s) {
    struct client *g;

    LIST_FOREACH(g, &s->clients, next)
        client_about(g);
}

void client_break(struct client *g, const char *why) {
    if (g->ending)
        return;
    g->ending = true;
    if (!g->refused)
        agent_log(g->agent, "ppfs at %s has gone%s: %s", session_address(g->session),
                  g->taken ? "" : " before it had taken this node in", why);
    session_destroy(g->session);
    g->session = NULL;
    agent_soon(g->agent);
}
