/* Calls of leases: they are sent ahead and wait in their worker. What is sent in one turn of the loop leaves with one
 * write, at pool_flush or at the latest when the loop comes round. control.h says how calls are taken back and how
 * output is told to be a call's. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "net/session/shared_buffer.h"
#include "worker/pool/pool_parts.h"

/* Unread bytes of a worker, beyond which it gets no more calls. */
enum { UNREAD_MAX = 16 * 1024 * 1024 };

int ahead_open(struct slot *s, int *fd) {
    *fd = memfd_create("ppfs-lease", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    /* Sealed: a job that finds it must not make it shrink below us. */
    if (*fd < 0 || ftruncate(*fd, sizeof(*s->page)) ||
        fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        return -errno;
    void *page = mmap(NULL, sizeof(*s->page), PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    s->page = page;
    return 0;
}

void ahead_close(struct slot *s) {
    if (s->corked)
        LIST_REMOVE(s, next_corked);
    if (s->page)
        munmap(s->page, sizeof(*s->page));
}

void ahead_begin(struct slot *s) {
    s->sent = s->answered = s->half = 0;
    s->lent = 0;
    s->finished = s->asked = false;
    atomic_store(&s->page->seen, 0); /* its worker is idle or being made */
}

void pool_flush(void *self) {
    struct pool *p = self;
    struct slot *s;

    event_del(p->flush);
    while ((s = LIST_FIRST(&p->corked))) {
        LIST_REMOVE(s, next_corked);
        s->corked = false;
        link_uncork(s->link);
    }
}

static void on_flush(evutil_socket_t fd, short what, void *arg) {
    pool_flush(arg);
}

/* Gathers its frames until pool_flush. */
static void cork(struct slot *s) {
    struct pool *p = s->pool;

    if (s->corked)
        return;
    if (LIST_EMPTY(&p->corked))
        event_active(p->flush, EV_TIMEOUT, 0);
    link_cork(s->link);
    s->corked = true;
    LIST_INSERT_HEAD(&p->corked, s, next_corked);
}

/* The slot of a lease that takes calls, or NULL. */
static struct slot *lease_slot(struct pool *p, uint64_t lease) {
    struct slot *s = pool_slot(p, lease);
    return s && s->lease && !s->killed && !s->finished ? s : NULL;
}

/* Sends head and then bytes as the body of one frame, after PIECE frames if it does not fit. */
static int send_whole(struct slot *s, enum message_kind kind, uint32_t low, const void *head, size_t head_size,
                      const void *bytes, size_t size, struct shared_buffer *shared) {
    const uint8_t *at = bytes;
    uint64_t id = message_id((uint32_t)s->job, low);
    bool begun = head_size > 0;
    int err = 0;

    cork(s);
    if (head_size)
        err = link_send(s->link, MESSAGE_PIECE, id, head, (uint32_t)head_size);
    for (; !err && size > FRAME_BODY_MAX; at += FRAME_BODY_MAX, size -= FRAME_BODY_MAX) {
        err = link_send_shared(s->link, MESSAGE_PIECE, id, at, FRAME_BODY_MAX, shared);
        begun = true;
    }
    if (!err)
        err = link_send_shared(s->link, (uint8_t)kind, id, at, (uint32_t)size, shared);
    if (err == -EPIPE)
        return -ENOENT; /* its worker has died: done() follows */
    if (err && begun)
        forkserver_kill(s->forkserver,
                        s->serial); /* the worker would take the next frame for the end of these pieces */
    return err;
}

/* Sends a call whose bytes are the end of a file, which its worker maps. -EAGAIN: they go like others. */
static int send_file(struct slot *s, enum message_kind kind, uint32_t low, size_t size, struct shared_buffer *shared) {
    uint64_t id = message_id((uint32_t)s->job, low), n = htole64(size);

    cork(s);
    int err = link_send_file(s->link, MESSAGE_FILE, id, &n, sizeof(n), shared);
    if (!err && (err = link_send(s->link, (uint8_t)kind, id, NULL, 0)) == -ENOMEM)
        forkserver_kill(s->forkserver, s->serial);
    if (!err)
        s->lent += size;
    return err == -EPIPE ? -ENOENT : err;
}

/* Sends a call, or a piece of one, which makes it SENT. */
static int send_call(struct pool *p, uint64_t lease, enum message_kind kind, uint32_t number, const void *bytes,
                     size_t size, struct shared_buffer *shared) {
    struct slot *s = lease_slot(p, lease);

    if (!s)
        return -ENOENT;
    bool begins = !s->half;
    if (size > FRAME_WHOLE_MAX || (begins ? number <= s->sent : number != s->half))
        return -EINVAL;
    if (atomic_load(&s->page->seen) == s->sent) /* it has reached the last one */
        s->lent = 0;
    if ((begins && number - atomic_load(&s->page->seen) >= LEASE_WINDOW) ||
        link_pending(s->link) + s->lent > UNREAD_MAX)
        return -ENOMEM;
    if (begins)
        atomic_store(&s->page->calls[number % LEASE_WINDOW], LEASE_CALL_SENT);
    int err = -EAGAIN;
    if (shared && shared->file >= 0 && begins && kind != MESSAGE_PIECE)
        err = send_file(s, kind, number, size, shared);
    if (err == -EAGAIN)
        err = send_whole(s, kind, number, NULL, 0, bytes, size, shared);
    if (err)
        return err;
    s->sent = number;
    s->half = kind == MESSAGE_PIECE ? number : 0;
    return 0;
}

int pool_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes, size_t size,
              struct shared_buffer *shared) {
    if (format > CALL_VALUES)
        return -EINVAL;
    return send_call(self, lease, MESSAGE_CALL_JSON + format, number, bytes, size, shared);
}

int pool_piece(void *self, uint64_t lease, uint32_t number, const void *bytes, size_t size,
               struct shared_buffer *shared) {
    struct slot *s = pool_slot(self, lease);

    if (number)
        return send_call(self, lease, MESSAGE_PIECE, number, bytes, size, shared);
    if (!s || !s->lease || s->killed)
        return -ENOENT;
    if (link_pending(s->link) > UNREAD_MAX)
        return -ENOMEM;
    return send_whole(s, MESSAGE_PIECE, 0, NULL, 0, bytes, size, shared);
}

int pool_function(void *self, uint64_t lease, const uint8_t hash[FUNCTION_HASH], const void *bytes, size_t size,
                  struct shared_buffer *shared) {
    struct slot *s = pool_slot(self, lease);

    if (!s || !s->lease || s->killed)
        return -ENOENT;
    int err = send_whole(s, MESSAGE_FUNCTION, 0, hash, hash ? FUNCTION_HASH : 0, bytes, size, shared);
    if (err == -ENOMEM && !hash)
        return err; /* the pieces before it stand; it may be sent again */
    s->asked = false;
    s->given = link_given(s->link);
    return err;
}

int pool_finish(void *self, uint64_t lease) {
    struct slot *s = lease_slot(self, lease);
    struct work_outcome o = {.end = WORK_DONE};

    if (!s)
        return wait_end(self, lease, &o) ? 0 : -ENOENT;
    cork(s);
    int err = link_send(s->link, MESSAGE_FINISH, message_id((uint32_t)s->job, 0), NULL, 0);
    s->finished = !err;
    return err == -EPIPE ? -ENOENT : err;
}

uint32_t pool_recall(void *self, uint64_t lease, uint32_t number) {
    struct slot *s = pool_slot(self, lease);
    uint32_t first, seen;

    if (!s || !s->lease)
        return number;
    seen = atomic_load(&s->page->seen); /* at and below it, places may have the state of later numbers */
    for (first = s->sent + 1; first > number && first - 1 > seen; first--) {
        uint8_t sent = LEASE_CALL_SENT;
        _Atomic uint8_t *call = &s->page->calls[(first - 1) % LEASE_WINDOW];
        if (!atomic_compare_exchange_strong(call, &sent, LEASE_CALL_TAKEN) && sent != LEASE_CALL_TAKEN)
            break; /* it has begun; TAKEN: taken back before */
    }
    return first > number ? first : number;
}

/* Whether it can have read its last function or ACK. A worker that asks earlier reads nothing, and would fill our
 * memory. */
static bool may_ask(const struct slot *s) {
    return !s->asked && link_given(s->link) - link_pending(s->link) >= s->given;
}

bool ahead_told(struct slot *s, const struct frame *f) {
    struct pool *p = s->pool;
    uint32_t number = (uint32_t)f->id;
    enum answer_kind answer = (enum answer_kind)(f->kind - MESSAGE_PART);

    if (number <= s->answered || number > s->sent || !p->ev.answer)
        return false;
    if (f->kind == MESSAGE_PRINTED) {
        if (!may_ask(s))
            return false;
        pool_drain(s);
        link_send(s->link, MESSAGE_ACK, f->id, NULL, 0);
        s->given = link_given(s->link);
        return true;
    }
    if (f->kind < MESSAGE_PART || answer > ANSWER_NEED ||
        (answer == ANSWER_NEED && f->size && (f->size != FUNCTION_HASH || !may_ask(s))))
        return false;
    s->asked |= answer == ANSWER_NEED && f->size;
    if (answer_ends(answer, f->size))
        s->answered = number;
    p->ev.answer(p->arg, s->job, number, answer, f->body, f->size);
    return true;
}

int ahead_create(struct pool *p) {
    p->flush = evtimer_new(p->base, on_flush, p);
    return p->flush ? 0 : -ENOMEM;
}
