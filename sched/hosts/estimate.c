/* Measured run times. Estimates are wrong at times, so nothing depends on them but the order in which hosts are tried
 * and the number of calls that is sent ahead. A difference counts only where runs of the function were alike. */
#include "sched/hosts/estimate.h"

#include <math.h>
#include <search.h>

#include "net/clock.h"
#include "net/hash.h"
#include "sched/hosts/hosts.h"
#include "sched/hosts/state.h"

#define WAYS 16u    /* places of a key: its set of the cache */
#define KEEP 0.8    /* weight of the old mean at each run */
#define ALIKE 0.5   /* runs with less spread than that part of the mean are alike */
#define SLOWER 1.25 /* a smaller ratio is no difference */
#define WEIGH_US 1000000
#define DOUBT 3u             /* failures in a row that make a function doubted on a host without a success ... */
#define DOUBT_LATE 50u       /* ... and on a host with one */
#define LACK 3u              /* hosts that lack a module, after which it is looked for only where it may well be */
#define TRIES_MAX 4u         /* doublings of the pause; then a function that has worked nowhere is not doubted */
#define NAME_MAX_HASHED 256u /* bytes of a name that count */

/* --- functions --------------------------------------------------------------------------------------------------- */

uint64_t estimate_key(uint64_t a, uint64_t b) {
    uint64_t x = (a ^ hash_number(b)) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    return x ? x : 1;
}

uint64_t estimate_key_text(const char *text, size_t size) {
    return estimate_key(hash_bytes(text, size < NAME_MAX_HASHED ? size : NAME_MAX_HASHED), size);
}

uint64_t estimate_key_of(uid_t uid, uint64_t key) {
    key = (key & ~(uint64_t)UINT32_MAX) | uid;
    return key ? key : 1;
}

static unsigned first_way(uint64_t key) {
    return (unsigned)(key >> 32) % (ESTIMATE_MAX / WAYS) * WAYS;
}

unsigned estimate_function(struct sched *s, uint64_t key) {
    struct estimates *t = &s->hosts->estimates;
    unsigned first = first_way(key), at = first;
    for (unsigned i = first; i < first + WAYS; i++) {
        if (t->keys[i] == key) {
            t->used[i] = ++t->clock;
            return i + 1;
        }
        if (t->clock - t->used[i] > t->clock - t->used[at])
            at = i;
    }
    t->fastest[at + 1] = 0;
    t->worked[at + 1] = t->failed[at + 1] = 0;
    t->elsewhere[at + 1] = false;
    t->lacking[at + 1] = 0;
    t->given[at + 1]++;
    t->another[at + 1] = (struct another){0};
    t->keys[at] = key;
    t->used[at] = ++t->clock;
    return at + 1;
}

/* --- run times --------------------------------------------------------------------------------------------------- */

static struct took took(const struct host *h, unsigned function) {
    struct took t = h->took[function];
    return t.of == h->s->hosts->estimates.given[function] ? t : (struct took){0};
}

static bool alike(struct took t) {
    return t.us > 0 && t.spread < (float)ALIKE * t.us;
}

void estimate_note(struct host *h, unsigned function, double us, unsigned runs) {
    struct took t = took(h, function);
    float *fastest = &h->s->hosts->estimates.fastest[function];
    double keep = 1;
    if (function == 0 || runs == 0)
        return;
    for (unsigned i = 0; i < runs && i < 32; i++)
        keep *= KEEP;
    us = us < 0.01 ? 0.01 : us;
    if (t.us == 0) {
        t.us = t.spread = (float)us;
        t.of = h->s->hosts->estimates.given[function];
    }
    t.spread = (float)(t.spread * keep + fabs(us - t.us) * (1 - keep));
    t.us = (float)(t.us * keep + us * (1 - keep));
    h->took[function] = t;
    if (alike(t) && (*fastest == 0 || t.us < *fastest))
        *fastest = t.us;
    h->s->hosts->estimates.changed = true;
}

bool estimate_sure(const struct host *h, unsigned function) {
    return alike(took(h, function));
}

bool estimate_span(const struct host *h, unsigned function, double *least, double *most) {
    struct took t = took(h, function);
    const struct slot_use *r;
    int64_t now = clock_us();
    *least = t.us - 2 * t.spread;
    *most = t.us + 2 * t.spread;
    LIST_FOREACH(r, &h->under_way, mates)
        if (r->function == function && r->began && (double)(now - r->began) > *most)
            return false;
    return alike(t);
}

bool estimate_faster(const struct host *h, const struct host *than, unsigned function) {
    struct took t = took(h, function);
    return alike(t) && t.us * SLOWER < estimate_us(than, function);
}

static double by_others(const struct host *h, unsigned function) {
    return h->s->hosts->estimates.fastest[function] * (h->slower > 1 ? h->slower : 1);
}

double estimate_us(const struct host *h, unsigned function) {
    struct took t = took(h, function);
    return t.us > 0 ? t.us : by_others(h, function);
}

double estimate_excess(const struct host *h, unsigned function) {
    struct took t = took(h, function);
    double fastest = h->s->hosts->estimates.fastest[function];
    double us = alike(t) ? t.us : 0;
    if (t.us == 0)
        us = by_others(h, function);
    return fastest > 0 && us > fastest * SLOWER ? us - fastest : 0;
}

/* --- failures ---------------------------------------------------------------------------------------------------- */

static uint32_t serial(struct host *h) {
    if (!h->serial)
        h->serial = ++h->s->hosts->estimates.serials;
    return h->serial;
}

static struct took *ended(struct host *h, unsigned function) {
    if (h->took[function].of != h->s->hosts->estimates.given[function])
        h->took[function] = (struct took){.of = h->s->hosts->estimates.given[function]};
    return &h->took[function];
}

void estimate_ended(struct host *h, unsigned function, bool failed) {
    struct estimates *all = &h->s->hosts->estimates;
    if (function == 0)
        return;
    struct took *t = ended(h, function);
    if (!failed) {
        all->another[function].until = 0;
        all->worked[function] = serial(h);
        all->lacking[function] -= t->lacks && all->lacking[function];
        if (t->lacks)
            h->lacks[0] = 0;
        t->failed = t->tries = 0;
        t->worked = true;
        t->lacks = false;
        return;
    }
    t->failed += t->failed < UINT16_MAX;
    h->faulted |= t->failed >= DOUBT;
    if (!all->failed[function])
        all->failed[function] = serial(h);
    all->elsewhere[function] |= all->failed[function] != serial(h);
    if (estimate_doubts(h, function) && !t->tries)
        estimate_tries(h, function);
}

void estimate_lacks(struct host *h, unsigned function) {
    struct took *t = ended(h, function);
    h->s->hosts->estimates.lacking[function] += !t->lacks;
    t->lacks = h->faulted = true;
    if (!t->tries)
        estimate_tries(h, function);
}

bool estimate_elsewhere(const struct sched *s, unsigned function) {
    const struct estimates *all = &s->hosts->estimates;
    const struct host *local = s->hosts->all;
    return all->worked[function] || all->lacking[function] <= LACK || (local->cpus && !took(local, function).lacks);
}

bool estimate_doubts(const struct host *h, unsigned function) {
    const struct estimates *all = &h->s->hosts->estimates;
    struct took t = took(h, function);
    if (t.lacks)
        return true;
    if (t.failed < (t.worked ? DOUBT_LATE : DOUBT))
        return false;
    if (all->worked[function])
        return all->worked[function] != h->serial;
    return !all->elsewhere[function] && t.tries < TRIES_MAX; /* no other host has shown that it can work */
}

bool estimate_shuns(const struct host *h, unsigned function) {
    const struct took *t = &h->took[function];
    return function && (t->failed >= DOUBT || t->lacks) && estimate_doubts(h, function) && clock_us() < t->until;
}

void estimate_tries(struct host *h, unsigned function) {
    if (!function || !estimate_doubts(h, function))
        return;
    struct took *t = &h->took[function];
    t->until = clock_us() + (INT64_C(1000000) << t->tries);
    t->tries += t->tries < TRIES_MAX;
}

void estimate_forget(const struct host *h) {
    struct another *all = h->s->hosts->estimates.another;
    for (unsigned i = 0; i <= ESTIMATE_MAX; i++)
        if (all[i].found == h || all[i].but == h)
            all[i] = (struct another){0};
}

unsigned estimate_doubted(const struct host *h) {
    unsigned n = 0;
    for (unsigned i = 1; h->faulted && i <= ESTIMATE_MAX; i++, h->s->steps++)
        n += estimate_doubts(h, i);
    return n;
}

/* --- hosts ------------------------------------------------------------------------------------------------------- */

/* Compares the hosts that are sure of that function with the fastest of them, if there are two. */
static void compare(struct sched *s, unsigned function) {
    float fastest = 0;
    unsigned sure = 0;
    for (struct host *h = s->hosts->all; h; h = h->next)
        if (estimate_sure(h, function)) {
            sure++;
            fastest = fastest == 0 || h->took[function].us < fastest ? h->took[function].us : fastest;
        }
    s->hosts->estimates.fastest[function] = fastest;
    for (struct host *h = s->hosts->all; h && sure > 1; h = h->next)
        if (estimate_sure(h, function)) {
            h->log_slower += log((double)h->took[function].us / fastest);
            h->compared++;
        }
}

void estimate_weigh(struct sched *s) {
    int64_t now = s->hosts->estimates.changed && s->hosts->all->next ? clock_us() : 0;
    if (!now || now - s->hosts->estimates.weighed < WEIGH_US)
        return;
    s->hosts->estimates.changed = false;
    s->hosts->estimates.weighed = now;
    for (struct host *h = s->hosts->all; h; h = h->next)
        h->log_slower = h->compared = 0;
    for (unsigned i = 0; i < ESTIMATE_MAX; i++)
        if (s->hosts->estimates.keys[i])
            compare(s, i + 1);
    for (struct host *h = s->hosts->all; h; h = h->next)
        h->slower = h->compared ? exp(h->log_slower / h->compared) : 1;
}

/* --- jobs -------------------------------------------------------------------------------------------------------- */

static uint64_t job_key(const struct job *j, uint64_t stream) {
    return estimate_key_of(j->uid, estimate_key(stream ? stream : j->group, 256u + (unsigned)j->kind));
}

unsigned estimate_of_job(struct sched *s, const struct job *j, uint64_t stream) {
    return estimate_function(s, job_key(j, stream));
}

unsigned estimate_known(const struct sched *s, const struct job *j) {
    uint64_t key = job_key(j, 0);
    for (unsigned i = first_way(key); i < first_way(key) + WAYS; i++)
        if (s->hosts->estimates.keys[i] == key)
            return i + 1;
    return 0;
}

/* How many jobs of that function one host will have ended until then, microseconds from now, beside those that it runs.
 * One that takes longer than it should says nothing of when its slots will be free. */
static uint64_t jobs_until(const struct host *h, unsigned function, double limit, int64_t now) {
    const struct slot_use *r;
    uint64_t jobs = 0;
    double us = took(h, function).us;
    LIST_FOREACH(r, &h->under_way, mates) {
        double ran = r->began ? (double)(now - r->began) : 0;
        if (r->over || r->function != function || ran > us * (1 + ALIKE))
            continue;
        double left = limit - host_way_us(h) - (us > ran ? us - ran : 0);
        jobs += left >= us ? (uint64_t)(left / us) : 0;
    }
    return jobs;
}

bool estimate_waits(struct sched *s, const struct host *h, unsigned function) {
    struct tally all;
    if (estimate_excess(h, function) == 0 || store_tally_get(s->store, 0, &all) < 0)
        return false;
    double us = estimate_us(h, function);
    double limit = us + host_way_us(h);
    int64_t now = clock_us();
    uint64_t jobs = 0;
    for (const struct host *other = s->hosts->all; other; other = other->next)
        if (host_live(other) && estimate_faster(other, h, function))
            jobs += jobs_until(other, function, limit, now);
    return jobs >= (all.active > all.running ? all.active - all.running : 1);
}

bool estimate_holds(struct sched *s, const struct host *h, unsigned function) {
    bool waits = estimate_waits(s, h, function);
    if (waits)
        host_wake_in(s, (int64_t)(estimate_us(h, function) / 8));
    return waits;
}
