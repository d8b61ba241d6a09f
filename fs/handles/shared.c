/* Table of open handles in shared memory, and a daemon's index of it: two chained hashes (by fh, by job) and a stack of
 * free slots, all of slot numbers + 1 so that zeroed memory is empty. */
#include "fs/handles/shared.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "net/hash.h"

struct shared {
    _Atomic uint64_t turns;
    atomic_bool trace;
    struct successors successors;
    _Atomic uint32_t init_size; /* written after the bytes */
    char init[SHARED_INIT_MAX];
    struct handle slots[SHARED_SLOTS];
    struct journal_entry journal[JOURNAL_ENTRIES];
};

struct handles {
    struct shared *m;
    uint32_t free_count;
    struct user {
        uint32_t uid, count;
    } * users; /* users with open handles */
    size_t user_count, user_cap;
    uint32_t free[SHARED_SLOTS];
    uint32_t by_fh[SHARED_SLOTS], fh_next[SHARED_SLOTS];
    uint32_t by_job[SHARED_SLOTS], job_next[SHARED_SLOTS];
};

struct shared *shared_create(void) {
    void *m = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return m == MAP_FAILED ? NULL : m;
}

void shared_destroy(struct shared *m) {
    if (m)
        munmap(m, sizeof *m);
}

_Atomic uint64_t *shared_turns(struct shared *m) {
    return &m->turns;
}

atomic_bool *shared_trace(struct shared *m) {
    return &m->trace;
}

struct successors *shared_successors(struct shared *m) {
    return &m->successors;
}

int shared_save_init(struct shared *m, const void *bytes, size_t size) {
    if (size > sizeof m->init)
        return -E2BIG;
    memcpy(m->init, bytes, size);
    atomic_store(&m->init_size, (uint32_t)size);
    return 0;
}

const void *shared_init(const struct shared *m, size_t *size) {
    *size = atomic_load(&m->init_size);
    return *size ? m->init : NULL;
}

struct journal_entry *shared_journal(struct shared *m) {
    return m->journal;
}

static uint32_t bucket(uint64_t key) {
    return (uint32_t)(hash_number(key) >> 48); /* SHARED_SLOTS is 1 << 16 */
}

static void chain_add(uint32_t *heads, uint32_t *next, uint64_t key, uint32_t slot) {
    next[slot] = heads[bucket(key)];
    heads[bucket(key)] = slot + 1;
}

static void chain_remove(uint32_t *heads, uint32_t *next, uint64_t key, uint32_t slot) {
    uint32_t *at = &heads[bucket(key)];
    while (*at && *at != slot + 1)
        at = &next[*at - 1];
    if (*at)
        *at = next[slot];
}

static struct user *user_of(const struct handles *h, uint32_t uid) {
    for (size_t i = 0; i < h->user_count; i++)
        if (h->users[i].uid == uid)
            return &h->users[i];
    return NULL;
}

bool handles_room(const struct handles *h, uint32_t uid) {
    const struct user *u = user_of(h, uid);
    return h->free_count && (u ? u->count : 0) / 15 < h->free_count;
}

static void count_in(struct handles *h, struct handle *x) {
    struct user *u = user_of(h, x->uid);
    if (!u && h->user_count == h->user_cap) {
        size_t cap = h->user_cap ? h->user_cap * 2 : 8;
        struct user *grown = reallocarray(h->users, cap, sizeof *grown);
        x->owned = grown != NULL; /* without memory it counts for no user */
        if (!grown)
            return;
        h->users = grown;
        h->user_cap = cap;
    }
    if (!u) {
        u = &h->users[h->user_count++];
        *u = (struct user){.uid = x->uid};
    }
    u->count++;
}

static void count_out(struct handles *h, struct handle *x) {
    struct user *u = x->owned ? user_of(h, x->uid) : NULL;
    if (u && --u->count == 0)
        *u = h->users[--h->user_count];
    x->owned = false;
}

void handles_own(struct handles *h, struct handle *x, uint32_t uid) {
    count_out(h, x);
    x->uid = uid;
    x->owned = true;
    count_in(h, x);
}

int handles_attach(struct handles **out, struct shared *m) {
    struct handles *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->m = m;
    for (uint32_t i = SHARED_SLOTS; i-- > 0;) {
        struct handle *x = &m->slots[i];
        uint64_t fh = atomic_load(&x->fh);
        if (fh && !(atomic_load(&x->flags) & HANDLE_CONFIRMED)) {
            atomic_store(&x->fh, 0);
            fh = 0;
        }
        if (!fh) {
            h->free[h->free_count++] = i;
            continue;
        }
        chain_add(h->by_fh, h->fh_next, fh, i);
        chain_add(h->by_job, h->job_next, x->job, i);
        if (x->owned)
            count_in(h, x);
    }
    *out = h;
    return 0;
}

void handles_destroy(struct handles *h) {
    if (h)
        free(h->users);
    free(h);
}

static uint32_t slot_of(const struct handles *h, const struct handle *x) {
    return (uint32_t)(x - h->m->slots);
}

struct handle *handles_find(struct handles *h, uint64_t fh) {
    for (uint32_t at = h->by_fh[bucket(fh)]; at; at = h->fh_next[at - 1]) {
        struct handle *x = &h->m->slots[at - 1];
        if (atomic_load_explicit(&x->fh, memory_order_relaxed) == fh)
            return x;
    }
    return NULL;
}

struct handle *handles_put(struct handles *h, uint64_t fh, uint64_t ino, uint64_t job, unsigned flags) {
    handles_remove(h, fh);
    if (!h->free_count)
        return NULL;
    uint32_t i = h->free[--h->free_count];
    struct handle *x = &h->m->slots[i];
    x->ino = ino;
    x->job = job;
    x->poll = 0;
    x->seen = 0;
    x->error = 0;
    x->owned = false;
    x->opener = 0;
    atomic_store(&x->flags, flags);
    atomic_store(&x->fh, fh);
    chain_add(h->by_fh, h->fh_next, fh, i);
    chain_add(h->by_job, h->job_next, job, i);
    return x;
}

void handles_confirm(struct handles *h, uint64_t fh) {
    struct handle *x = handles_find(h, fh);
    if (x)
        atomic_fetch_or(&x->flags, HANDLE_CONFIRMED);
}

void handles_remove(struct handles *h, uint64_t fh) {
    struct handle *x = handles_find(h, fh);
    if (!x)
        return;
    uint32_t i = slot_of(h, x);
    count_out(h, x);
    atomic_store(&x->fh, 0);
    chain_remove(h->by_fh, h->fh_next, fh, i);
    chain_remove(h->by_job, h->job_next, x->job, i);
    h->free[h->free_count++] = i;
}

static struct handle *job_from(struct handles *h, uint32_t at, uint64_t job) {
    while (at && h->m->slots[at - 1].job != job)
        at = h->job_next[at - 1];
    return at ? &h->m->slots[at - 1] : NULL;
}

struct handle *handles_first(struct handles *h, uint64_t job) {
    return job_from(h, h->by_job[bucket(job)], job);
}

struct handle *handles_next(struct handles *h, const struct handle *x) {
    return job_from(h, h->job_next[slot_of(h, x)], x->job);
}

unsigned handles_count(struct handles *h, uint64_t job, unsigned flags) {
    unsigned n = 0;
    for (struct handle *x = handles_first(h, job); x; x = handles_next(h, x))
        n += (atomic_load(&x->flags) & flags) == flags;
    return n;
}

void handles_each(struct handles *h, void (*each)(void *arg, struct handle *), void *arg) {
    for (uint32_t i = 0; i < SHARED_SLOTS; i++)
        if (atomic_load(&h->m->slots[i].fh))
            each(arg, &h->m->slots[i]);
}
