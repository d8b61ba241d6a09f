
#include "tests/unit/fakehosts.h"

#include "net/session/frame.h"

unsigned now, delay; /* ticks */

const char *script; /* of every call, a letter an answer: v e n p; . takes a tick */

uint64_t answered;

static void say(struct way *w, struct message m) {
    struct message *copy = malloc(sizeof *copy);
    assert_non_null(copy);
    *copy = m;
    copy->next = NULL;
    copy->due = now + delay;
    if (!w->first)
        w->end = &w->first;
    *w->end = copy;
    w->end = &copy->next;
}

static bool hear(struct way *w, struct message *m) {
    struct message *first = w->first;
    if (!first || first->due > now)
        return false;
    *m = *first;
    w->first = first->next;
    free(first);
    return true;
}

static struct slot *slot_of(struct fake *f, uint64_t lease) {
    for (unsigned i = 0; i < 16; i++)
        if (f->slots[i].lease == lease)
            return &f->slots[i];
    return NULL;
}

static int to_start(void *self, const struct work *w) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = START, .lease = w->job});
    return 0;
}

static int to_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
                   struct shared_buffer *shared) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = CALL, .lease = lease, .number = number});
    return 0;
}

static int to_function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                       struct shared_buffer *shared) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = FUNCTION, .lease = lease});
    return 0;
}

static int to_finish(void *self, uint64_t lease) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = FINISH, .lease = lease});
    return 0;
}

static uint32_t to_recall(void *self, uint64_t lease, uint32_t number) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = RECALL, .lease = lease, .number = number});
    return RUNNER_LATER;
}

static void to_kill(void *self, uint64_t job) {
    struct fake *f = self;
    say(&f->there, (struct message){.word = KILL, .lease = job});
}

static const struct runner_ops ops = {to_start,     to_call, to_function, to_finish,     to_recall,
                                      ignore_flush, to_kill, ignore_hold, ignore_resize, NULL};

static void end(struct fake *f, struct slot *sl, enum word why_ended) {
    say(&f->back, (struct message){.word = DONE, .lease = sl->lease, .number = why_ended == KILL});
    *sl = (struct slot){0};
}

static void obey(struct fake *f, const struct message *m) {
    struct slot *sl = slot_of(f, m->word == START ? 0 : m->lease);
    if (!sl)
        return;
    if (m->word == START) {
        sl->lease = m->lease;
    } else if (m->word == CALL) {
        assert_true(sl->calls.count < 256);
        sl->calls.ring[(sl->calls.first + sl->calls.count++) % 256] = m->number;
    } else if (m->word == FUNCTION) {
        sl->waits = false;
    } else if (m->word == FINISH) {
        sl->finishing = true;
    } else if (m->word == KILL) {
        end(f, sl, KILL);
    } else {
        uint32_t limit = m->number;
        while (sl->calls.count && sl->calls.ring[(sl->calls.first + sl->calls.count - 1) % 256] >= m->number)
            sl->calls.count--;
        if (sl->current >= limit)
            limit = sl->current + 1;
        say(&f->back, (struct message){.word = RECALLED, .lease = m->lease, .number = limit});
    }
}

static void work(struct fake *f, struct slot *sl) {
    if (sl->waits)
        return;
    if (!(sl->lease & LEASE_BIT)) { /* a job: it is done */
        end(f, sl, FINISH);
        return;
    }
    if (!sl->current && sl->calls.count) {
        sl->current = sl->calls.ring[sl->calls.first];
        sl->calls.first = (sl->calls.first + 1) % 256;
        sl->calls.count--;
        sl->at = 0;
        return;
    }
    if (!sl->current) {
        if (sl->finishing)
            end(f, sl, FINISH);
        return;
    }
    char what = script[sl->at++];
    if (what == '.')
        return;
    static const uint8_t kinds[] = {
        ['v'] = ANSWER_VALUE, ['e'] = ANSWER_ERROR, ['p'] = ANSWER_PART, ['n'] = ANSWER_NEED};
    struct message m = {.word = ANSWER, .lease = sl->lease, .number = sl->current, .size = what == 'n' ? 32 : 5};
    m.kind = kinds[(unsigned char)what];
    sl->waits = what == 'n';
    say(&f->back, m);
    if (!script[sl->at])
        sl->current = 0;
}

static void tell(struct fake *f, const struct message *m) {
    static const char body[32] = "\x80\x04K\x01.";
    struct work_outcome o = {
        .attempt = 1, .wall_us = JOB_US, .end = m->number ? WORK_SIGNALED : WORK_DONE, .status = m->number ? 9 : 0};
    if (m->word == ANSWER && m->kind <= ANSWER_ERROR)
        answered++;
    if (m->word == ANSWER)
        host_events.answer(&f->h, m->lease, m->number, m->kind, body, m->size);
    else if (m->word == RECALLED)
        host_events.recalled(&f->h, m->lease, m->number);
    else
        host_events.done(&f->h, m->lease, &o);
}

void each_fake(void (*what)(struct fake *f)) {
    for (struct host *h = s->hosts->all, *next; h; h = next) {
        next = h->next;
        if (!h->pool)
            what((struct fake *)h);
    }
}

static void live(struct fake *f) {
    struct message m;
    while (hear(&f->there, &m))
        obey(f, &m);
    for (unsigned i = 0; i < 16; i++)
        if (f->slots[i].lease)
            work(f, &f->slots[i]);
    while (hear(&f->back, &m))
        tell(f, &m);
}

void turn(void) {
    now++;
    each_fake(live);
    event_del(s->lease_timer); /* comes after so many turns, not after so much time: steps are counted */
    if (now % 64 == 0)
        lease_timer(-1, 0, s);
    s->leases->reclaim_at = now % 16 ? clock_us() + 1000000 : 0;
    rig_turn();
    struct lease *l; /* its calls have taken what its host is to take, or the steps would depend on the clock */
    LIST_FOREACH(l, &s->leases->heard, heard_of)
        l->heard = l->last + (int64_t)((struct fake *)l->host)->us * l->got;
}

void tick(void) {
    turn();
    assert_int_equal(sched_commit(s), 0);
}

bool tick_in_vain(void) {
    turn();
    if (!sched_dirty(s)) /* false: nothing is to be kept */
        return sched_commit(s) < 0;
    sched_check(s, -ENOSPC);
    assert_int_equal(sched_commit(s), -ENOSPC);
    event_active(s->retry, EV_TIMEOUT, 0);
    return true;
}

static void still(struct fake *f) {
    struct message m;
    unsigned was = now;
    now = UINT32_MAX - delay;
    while (hear(&f->there, &m) || hear(&f->back, &m))
        ;
    now = was;
}

int setup(void **state) {
    now = delay = 0;
    open_for_writing = true;
    script = "v";
    return rig_setup();
}

int teardown(void **state) {
    each_fake(still);
    return rig_teardown();
}

struct fake *add_host(unsigned cpus, double us) {
    struct fake *f = calloc(1, sizeof *f);
    assert_non_null(f);
    static unsigned count;
    char name[32];
    snprintf(name, sizeof name, "fake%u", count++);
    f->us = us;
    rig_add(&f->h, cpus, &ops, name);
    return f;
}

uint64_t begin(const char *name, const void *bytes, size_t size) {
    return rig_write(getuid(), getgid(), name, bytes, size);
}

void append(uint64_t job, uint8_t kind, uint64_t id, const void *body, size_t size) {
    uint8_t bytes[256];
    frame_encode(bytes, kind, id, (uint32_t)size);
    memcpy(bytes + FRAME_HEADER, body, size);
    assert_int_equal(
        sched_write(s, job, bytes, FRAME_HEADER + size, (uint64_t)stream_find(s, job)->in_size, NULL, NULL), 0);
}

uint64_t lines(const char *name, unsigned n) {
    static const char line[] = "{\"call\": \"m.f\"}\n";
    char *text = malloc(n * (sizeof line - 1) + 1);
    assert_non_null(text);
    for (unsigned i = 0; i < n; i++)
        strcpy(text + i * (sizeof line - 1), line);
    unsigned size = n * (unsigned)(sizeof line - 1);
    uint64_t job = begin(name, text, size < WRITE ? size : WRITE);
    for (unsigned at = WRITE; at < size; at += WRITE)
        assert_int_equal(sched_write(s, job, text + at, size - at < WRITE ? size - at : WRITE, at, NULL, NULL), 0);
    free(text);
    return job;
}
