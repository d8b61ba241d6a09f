/* Works of clients: from START to DONE.
 *
 * A payload file has no name in agent.dir; the workers open it through this process's /proc entry, so nothing is left
 * when the node is killed. The disk thread makes and writes it; ppfs is told how much is there (KEPT), and sends only
 * so much ahead of that. So a disk that hangs costs its own works the time, and nobody else.
 *
 * Where this process is not root a job runs as our own user, whoever wrote it over there. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "net/states.h"
#include "worker/node/agent_parts.h"

static const char no_memory[] = "there is no memory for its work";

/* --- the tables -------------------------------------------------------------------------------------------------- */
/* The low half of an id tells a worker's works apart: an index would come back with the next of them. */
static uint32_t task_index(uint64_t id) {
    return (uint32_t)(id >> 32);
}

struct task *task_of_id(const struct agent *s, uint64_t id) {
    uint32_t index = task_index(id);
    struct task *t = index < s->task_count ? s->tasks[index] : NULL;

    return t && t->id == id ? t : NULL;
}

/* Room for index `at` in an array of pointers. 0 or -ENOMEM. */
static int grow(struct task ***array, uint32_t *room, uint32_t at) {
    uint32_t more = *room ? *room : 16;

    if (at < *room)
        return 0;
    while (more <= at)
        more *= 2;
    struct task **bigger = realloc(*array, more * sizeof(struct task *));
    if (!bigger)
        return -ENOMEM;
    memset(bigger + *room, 0, (more - *room) * sizeof(struct task *));
    *array = bigger;
    *room = more;
    return 0;
}

static struct task *task_new(struct client *g, uint32_t ref) {
    struct agent *s = g->agent;
    uint32_t index = 0;

    while (index < s->task_count && s->tasks[index])
        index++;
    if (grow(&s->tasks, &s->task_count, index) || grow(&g->tasks, &g->task_room, ref))
        return NULL;
    struct task *t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    *t = (struct task){.id = (uint64_t)index << 32 | ++s->serial, .client = g, .ref = ref};
    TAILQ_INIT(&t->held);
    STAILQ_INIT(&t->out);
    s->tasks[index] = g->tasks[ref] = t;
    s->works++;
    g->started++;
    s->started++;
    agent_soon(s);
    return t;
}

static const struct state table[] = {
    [TASK_RECEIVING] = {"receiving", 1u << TASK_WAITING | 1u << TASK_RUNNING | 1u << TASK_ENDED},
    [TASK_WAITING] = {"waiting", 1u << TASK_RUNNING | 1u << TASK_ENDED},
    [TASK_RUNNING] = {"running", 1u << TASK_ENDED},
    [TASK_ENDED] = {"ended", 0},
};
static const struct states task_states = {"work", table, TASK_ENDED + 1};

/* Waiting tasks are in a list, the oldest first. */
static void become(struct task *t, enum task_state to) {
    struct agent *s = t->client->agent;

    states_changed(&task_states, (uint32_t)t->id, t->work.name, t->state, to);
    if (t->state == TASK_WAITING)
        TAILQ_REMOVE(&s->waiting, t, next_waiting);
    t->state = to;
    if (to == TASK_WAITING)
        TAILQ_INSERT_TAIL(&s->waiting, t, next_waiting);
}

/* Frees what its work points into: the runner has that work, or nobody will have it. */
static void start_free(struct task *t) {
    free(t->start);
    free(t->start_env);
    t->start = t->start_env = NULL;
    t->work.name = NULL;
}

void task_free(struct task *t) {
    struct client *g = t->client;
    struct agent *s = g->agent;

    calls_end(t);
    out_drop(t);
    if (t->state == TASK_WAITING)
        TAILQ_REMOVE(&s->waiting, t, next_waiting);
    g->tasks[t->ref] = NULL;
    s->tasks[task_index(t->id)] = NULL;
    s->works--;
    file_writer_close(t->payload);
    start_free(t);
    free(t);
    agent_soon(s);
}

/* --- the end ----------------------------------------------------------------------------------------------------- */
void task_end(struct task *t, const struct work_outcome *o) {
    struct client *g = t->client;
    struct agent *s = g->agent;
    uint8_t bytes[1024];
    uint32_t size;

    calls_end(t);
    become(t, TASK_ENDED);
    file_writer_close(t->payload);
    t->payload = NULL;
    if (!t->lease) {
        g->done += o->end == WORK_DONE;
        s->done += o->end == WORK_DONE;
        g->failed += o->end != WORK_DONE;
        s->failed += o->end != WORK_DONE;
    }
    work_outcome_encode(o, bytes, &size);
    out_send(t, MESSAGE_DONE, MESSAGE_DONE, 0, bytes, size);
    if (STAILQ_EMPTY(&t->out)) /* else when that was sent, or with its client */
        task_free(t);
}

__attribute__((format(printf, 3, 4))) static void give_up(struct task *t, enum work_end end, const char *format, ...) {
    struct work_outcome o = {.attempt = t->work.attempt, .end = end, .status = end == WORK_SIGNALED ? 9 : 0};
    va_list args;

    va_start(args, format);
    vsnprintf(o.why, sizeof(o.why), format, args);
    va_end(args);
    task_end(t, &o);
}

void task_orphan(struct task *t) {
    struct agent *s = t->client->agent;

    if (t->state != TASK_RUNNING) {
        task_free(t);
        return;
    }
    calls_end(t);
    out_drop(t);
    t->client->tasks[t->ref] = NULL;
    t->client = NULL;
    runner_kill(s->runner, t->id);
}

void orphan_free(struct agent *s, struct task *t) {
    s->tasks[task_index(t->id)] = NULL;
    s->works--;
    file_writer_close(t->payload);
    free(t);
    agent_soon(s);
}

void task_kill(struct task *t) {
    if (t->state == TASK_RUNNING)
        runner_kill(t->client->agent->runner, t->id);
    else if (t->state != TASK_ENDED)
        give_up(t, WORK_SIGNALED, "killed");
}

void task_hold(struct task *t, bool hold) {
    if (t->held_there == hold)
        return;
    t->held_there = hold;
    if (t->state == TASK_RUNNING && !t->pausing)
        runner_hold(t->client->agent->runner, t->id, hold);
}

/* --- starting ---------------------------------------------------------------------------------------------------- */
/* Gives it to the runner. False: there is no slot. */
static bool give(struct task *t) {
    struct agent *s = t->client->agent;
    char path[64];
    struct work w = t->work;

    w.job = t->id;
    if (geteuid() != 0) {
        w.uid = geteuid();
        w.gid = getegid();
    }
    if (t->payload) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), file_writer_fd(t->payload));
        w.file = path;
    }
    int err = runner_start(s->runner, &w);
    if (err == -EAGAIN)
        return false;
    if (err) {
        give_up(t, WORK_LOST, "node %s could not start it: %s", s->name, strerror(-err));
        return true;
    }
    become(t, TASK_RUNNING);
    start_free(t);
    if (t->held_there)
        runner_hold(s->runner, t->id, true);
    calls_send_held(t);
    return true;
}

static void wait_or_give(struct task *t) {
    struct agent *s = t->client->agent;

    if (TAILQ_EMPTY(&s->waiting) && give(t))
        return;
    become(t, TASK_WAITING);
    agent_retry(s);
}

void task_run_waiting(struct agent *s) {
    struct task *t;

    while ((t = TAILQ_FIRST(&s->waiting)) && give(t))
        ;
    if (t) /* perhaps descriptors are short, not slots: then no end of a work may bring us here */
        agent_retry(s);
}

/* The disk has taken some of its payload, or cannot. */
static void on_progress(void *arg) {
    struct task *t = arg;
    struct agent *s = t->client->agent;
    int err = file_writer_error(t->payload);

    if (err) {
        give_up(t, WORK_LOST, "node %s cannot keep its bytes in %.200s: %s", s->name, s->dir, strerror(-err));
        return;
    }
    client_post(t->client, MESSAGE_KEPT, message_id(t->ref, file_writer_kept(t->payload)), NULL, 0);
    if (t->whole && file_writer_idle(t->payload))
        wait_or_give(t);
}

/* Where all works run as our own user, those of two users, of two ppfs say, could read one another's: the first who
 * gives work is the one. All are told. */
static void take_only(struct agent *s, uid_t user) {
    s->bound = true;
    s->uids = (struct node_uids){.count = 1};
    s->uids.at[0].first = s->uids.at[0].last = user;
    agent_tell_all(s);
}

/* ppfs was told whom we take; one that gives others all the same is told so, and that costs nothing but the way. */
static bool is_taken(struct agent *s, uid_t user) {
    bool ours = geteuid() != 0;

    if (!node_uids_have(&s->uids, user) && (!ours || s->uids.count))
        return false;
    if (ours && !s->bound)
        take_only(s, user);
    return true;
}

/* Nobody has begun it: it is charged no death. */
static void give_back(struct task *t, bool no_room, const char *why) {
    struct work_outcome o = {.attempt = t->work.attempt, .end = WORK_LOST, .unbegun = true, .no_room = no_room};

    snprintf(o.why, sizeof(o.why), "node %s %s", t->client->agent->name, why);
    task_end(t, &o);
}

bool task_begin(struct client *g, const struct frame *m) {
    uint32_t ref = (uint32_t)(m->id >> 32), low = (uint32_t)m->id;
    void *start, *env = NULL;
    struct work w;

    if (ref >= MESSAGE_REFS || low > 1 || task_of_ref(g, ref))
        return false;
    start = malloc(m->size + 1u);
    int err = start ? work_decode(memcpy(start, m->body, m->size), m->size, &w, &env) : -ENOMEM;
    bool sane = err != -EPROTO && (err || (w.file != NULL) == (low == 1));
    struct task *t = !err && sane ? task_new(g, ref) : NULL;
    if (!t) {
        free(start);
        free(env);
        if (sane)
            client_break(g, no_memory);
        return sane;
    }
    t->start = start;
    t->start_env = env;
    t->work = w;
    t->lease = work_is_lease(&w);
    char why[64] = "";
    bool no_room = g->agent->works > MESSAGE_REFS; /* of all ppfs together */
    if (no_room)
        snprintf(why, sizeof(why), "has %d works already", MESSAGE_REFS);
    else if (!is_taken(g->agent, t->work.uid))
        snprintf(why, sizeof(why), "runs nothing of user %u", (unsigned)t->work.uid);
    if (*why) {
        give_back(t, no_room, why);
        return true;
    }
    if (!low) {
        wait_or_give(t);
        return true;
    }
    if (file_writer_open(&t->payload, g->agent->disk, g->agent->dir, on_progress, t))
        client_break(g, no_memory);
    return true;
}

bool task_payload(struct task *t, const struct frame *m) {
    if (t->state == TASK_ENDED)
        return true; /* it was killed, or its file could not be written */
    if (t->state != TASK_RECEIVING || t->whole)
        return false;
    t->whole = m->kind == MESSAGE_PAYLOAD_END;
    if (m->size && ++t->came - file_writer_kept(t->payload) > PAYLOAD_AHEAD)
        return false;
    if (m->size && file_writer_add(t->payload, m->body, m->size))
        client_break(t->client, no_memory);
    if (t->whole && file_writer_idle(t->payload))
        wait_or_give(t);
    return true;
}
