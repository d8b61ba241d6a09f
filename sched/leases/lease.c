/* Leases: a slot that a stream has for a while, here or on a node. The table of leases, the lines of each stream's, and
 * orders to their runners; lease_grant.c grants them, lease_end.c ends them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"
#include "sched/leases/lease_int.h"
#include "sched/leases/state.h"

static const struct state table[] = {
    [LEASE_LIVE] = {"live", 1 << LEASE_FINISHING | 1 << LEASE_KILLED | 1 << LEASE_ENDED},
    [LEASE_FINISHING] = {"finishing", 1 << LEASE_AWAY | 1 << LEASE_KILLED | 1 << LEASE_ENDED},
    [LEASE_AWAY] = {"away", 1 << LEASE_FINISHING | 1 << LEASE_ENDED},
    [LEASE_KILLED] = {"killed", 1 << LEASE_ENDED},
    [LEASE_ENDED] = {"ended", 0},
};
static const struct states lease_states = {"lease", table, LEASE_STATES};

void lease_becomes(struct lease *l, enum lease_state to) {
    states_changed(&lease_states, l->id & ~LEASE_BIT, l->host->name, l->state, to);
    l->state = to;
}

/* A lease's id has its place in the table, so that an answer finds it in one step. */
#define TABLE_BITS 16
#define TABLE_MAX (1u << TABLE_BITS)

struct lease *lease_find(struct sched *s, uint64_t id) {
    size_t at = id & (TABLE_MAX - 1);
    struct lease *l = at < s->leases->table_size ? s->leases->table[at] : NULL;
    return l && l->id == id ? l : NULL;
}

struct stream *lease_stream(const struct lease *l) {
    return l->stream || !l->away ? l->stream : stream_find(l->host->s, l->away);
}

/* A free place in the table: 0 and *at, or -ENOMEM, also when there are too many. */
static int free_place(struct sched *s, size_t *at) {
    for (size_t i = 0; i < s->leases->table_size; i++) {
        *at = (s->leases->at + i) % s->leases->table_size;
        if (!s->leases->table[*at]) {
            s->leases->at = *at;
            return 0;
        }
    }
    size_t size = s->leases->table_size ? s->leases->table_size * 2 : 16;
    struct lease **grown = size <= TABLE_MAX ? reallocarray(s->leases->table, size, sizeof(struct lease *)) : NULL;
    if (!grown)
        return -ENOMEM;
    memset(grown + s->leases->table_size, 0, (size - s->leases->table_size) * sizeof *grown);
    *at = s->leases->at = s->leases->table_size;
    s->leases->table = grown;
    s->leases->table_size = size;
    return 0;
}

int lease_new(struct stream *st, struct host *h, struct lease **out) {
    struct sched *s = h->s;
    struct lease *l = calloc(1, sizeof *l);
    size_t at;
    int rc = l ? free_place(s, &at) : -ENOMEM;
    if (rc < 0) {
        free(l);
        return rc;
    }
    *l = (struct lease){.id = LEASE_BIT | (++s->leases->last << TABLE_BITS & ~LEASE_BIT) | at,
                        .host = h,
                        .user = st->user,
                        .stream = st,
                        .began = clock_us(),
                        .next_number = 1};
    s->leases->table[at] = l;
    LIST_INSERT_HEAD(&s->leases->all, l, all);
    *out = l;
    return 0;
}

void lease_free(struct lease *l) {
    lease_becomes(l, LEASE_ENDED);
    l->host->s->leases->table[l->id & (TABLE_MAX - 1)] = NULL;
    if (l->count)
        LIST_REMOVE(l, busy);
    LIST_REMOVE(l, all);
    if (l->held)
        TAILQ_REMOVE(&l->user->waiting, l, unread);
    if (l->user->favourite == l->id)
        l->user->favourite = 0;
    pieces_free(&l->pieces);
    free(l->ring);
    free(l);
}

int leases_make(struct sched *s) {
    s->leases = calloc(1, sizeof *s->leases);
    return s->leases ? 0 : -ENOMEM;
}

void leases_free(struct sched *s) {
    if (!s->leases)
        return;
    for (struct lease *l; (l = LIST_FIRST(&s->leases->all));)
        lease_free(l);
    free(s->leases->table);
    free(s->leases);
}

/* --- lines ------------------------------------------------------------------------------------------------------- */

void lease_set_init(struct lease_set *set) {
    TAILQ_INIT(&set->all);
    for (int i = 0; i < LEASE_LINES; i++)
        TAILQ_INIT(&set->lines[i]);
}

/* An idle lease goes to the head: its worker is awake and has the function. */
void lease_stand(struct lease *l, enum lease_line line) {
    struct lease_set *set = l->stream->leases;
    if (l->line)
        TAILQ_REMOVE(&set->lines[l->line], l, place);
    set->idle -= l->idle;
    l->idle = line == LEASE_OPEN && l->count == 0;
    set->idle += l->idle;
    l->line = line;
    if (l->idle)
        TAILQ_INSERT_HEAD(&set->lines[line], l, place);
    else if (line)
        TAILQ_INSERT_TAIL(&set->lines[line], l, place);
}

void lease_reopen(struct lease *l) {
    if (l->stream && l->state == LEASE_LIVE)
        lease_stand(l, LEASE_OPEN);
}

/* Leases that sums over all may visit, for each call or lease that comes or goes. */
#define CREDIT 2u
#define CREDIT_MAX 2u

void lease_moved(struct stream *st) {
    struct lease_set *set = st->leases;
    set->credit += set->credit < set->count * CREDIT_MAX ? CREDIT : 0;
    if (++set->moves > set->count / 4) {
        set->moves = 0;
        set->epoch++;
    }
}

/* Takes it from its stream. */
void lease_part(struct lease *l) {
    lease_stand(l, LEASE_NOWHERE);
    TAILQ_REMOVE(&l->stream->leases->all, l, mates);
    l->stream->leases->count--;
    lease_moved(l->stream);
    l->stream = NULL;
    if (l->got)
        LIST_REMOVE(l, heard_of);
    l->got = 0;
}

/* --- its calls --------------------------------------------------------------------------------------------------- */

/* The call of that number, if a worker still has it; a cancelled call may have left memory. */
struct call *lease_sent_call(struct stream *st, uint64_t number) {
    struct call *c = stream_call(st, number);
    return c && c->state == CALL_SENT ? c : NULL;
}

bool lease_at(const struct lease *l, uint32_t number) {
    return l->stream && l->count && sent_at(l, 0)->number == number;
}

struct call *lease_next(struct stream *st) {
    while (st->next_send && st->next_send->state != CALL_PENDING)
        st->next_send = TAILQ_NEXT(st->next_send, order);
    bool waits = st->waiting > stream_share(st) && st->next_send != TAILQ_FIRST(&st->calls);
    waits |= user_is_behind(st->user);
    /* waits: for some answers to be written down */
    return waits ? NULL : st->next_send;
}

/* --- what its runner is told ------------------------------------------------------------------------------------- */

void lease_finish(struct lease *l) {
    if (l->state == LEASE_LIVE) {
        runner_finish(l->host->runner, l->id);
        host_touch(l->host);
        lease_becomes(l, LEASE_FINISHING);
    }
    if (l->stream)
        lease_stand(l, LEASE_NOWHERE);
}

static void hold(const struct lease *l, bool held) {
    if (l->host->runner.ops)
        runner_hold(l->host->runner, l->id, held);
}

void lease_hold(struct lease *l, bool first) {
    l->held = true;
    if (first)
        TAILQ_INSERT_HEAD(&l->user->waiting, l, unread);
    else
        TAILQ_INSERT_TAIL(&l->user->waiting, l, unread);
    hold(l, true);
}

void lease_read(struct lease *l) {
    if (!l->held)
        return;
    TAILQ_REMOVE(&l->user->waiting, l, unread);
    l->held = false;
    hold(l, false);
    lease_reopen(l);
}

void lease_kill(struct lease *l) {
    lease_read(l);
    if (l->state != LEASE_KILLED) {
        runner_kill(l->host->runner, l->id);
        lease_becomes(l, LEASE_KILLED);
    }
    if (l->stream)
        lease_stand(l, LEASE_NOWHERE);
}

void lease_died_why(const struct lease *l, const struct work_outcome *o, char why[LEASE_WHY]) {
    snprintf(why, LEASE_WHY, "%.400s%s%s%s", *o->why ? o->why : "its worker ended", l->host->pool ? "" : " (on nodes/",
             l->host->pool ? "" : l->host->name, l->host->pool ? "" : ")");
}
