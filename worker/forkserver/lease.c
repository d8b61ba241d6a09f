/* A lease in its worker.
 *
 * Calls wait in a buffer of ours, as many as one recv has brought. A call costs an exchange in the page, the call
 * itself, a look whether it left something changed or printed, and the one write of its answer. All is compared whole
 * when that look saw something, when there is nothing to do for a while, CALLS_PER_TIDYING calls are over, or a call
 * took so long that it does not matter. A worker that cannot be put in order ends its lease: nothing that was sent
 * ahead has begun.
 *
 * Functions stay in the worker, from one lease to the next, up to 64 MiB of pickles; what was used least recently goes
 * first. A function that is new makes it look whether files of the user's modules have changed. Values likewise, as
 * pickles, for they can be changed: each call has objects of its own, but bytes and text are shared. All that a call
 * names is there before anything of it is unpickled, and stays until it has ended. */
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/session/frame.h"
#include "worker/forkserver/watch.h"
#include "worker/forkserver/worker.h"
#include "worker/runner/messages.h"

enum { READ_MIN = 64 * 1024, KEEP_MAX = 1024 * 1024, CALLS_PER_TIDYING = 64 };
enum { TIDYING_US = 200, SPIN_US = 50, IDLE_MS = 1, REST_US = 50000 };

struct lease {
    struct lease_line line;
    const char *cwd;
    uint8_t *in; /* bytes at .. len have come and are not yet consumed */
    size_t cap, at, len;
    uint8_t *whole; /* what PIECE frames have brought */
    size_t whole_size, whole_cap;
    struct worker_map map; /* the file whose last file_size bytes are the body of the next call */
    size_t file_size;
    uint32_t reads;  /* of the page, at the end of the last call */
    unsigned untidy; /* calls since worker_restore */
};

static void tidy(struct lease *l) {
    worker_restore(l->cwd);
    if (chdir(l->cwd)) /* it is gone: the next call is where it was left */
        errno = 0;
    watch.touched = watch.printed = false;
    python_lease_mark();
    l->untidy = 0;
}

static ssize_t receive_some(struct lease *l, int flags) {
    return worker_receive(l->line.link, l->in + l->len, l->cap - l->len, flags);
}

/* The buffer is empty. The next call often follows an answer at once: a worker that is still awake saves both sides a
 * wake-up, and yields to whoever else wants to run. After that there is time to tidy up. */
static ssize_t await_some(struct lease *l) {
    int64_t before = clock_us();
    struct pollfd polled = {.fd = l->line.link, .events = POLLIN};
    ssize_t n = -1;

    errno = EAGAIN; /* as the read before this has found */
    while (l->untidy && n < 0 && errno == EAGAIN && clock_us() - before < SPIN_US) {
        sched_yield();
        n = receive_some(l, MSG_DONTWAIT);
    }
    if (n >= 0 || errno != EAGAIN)
        return n;
    if (l->untidy && poll(&polled, 1, IDLE_MS) == 0)
        tidy(l);
    n = receive_some(l, 0);
    if (clock_us() - before > REST_US)
        python_lease_rest(l->cwd);
    return n;
}

/* Gives back the memory of an empty buffer that a large value has made large. */
static void shrink(struct lease *l) {
    uint8_t *less = l->cap > KEEP_MAX ? realloc(l->in, READ_MIN) : NULL;

    if (less) {
        l->in = less;
        l->cap = READ_MIN;
    }
}

/* Reads once. False when the link has ended, or its bytes find no memory. */
static bool receive(struct lease *l) {
    if (l->at == l->len) {
        l->at = l->len = 0;
        shrink(l);
    }
    if (l->cap - l->len < READ_MIN && l->at >= READ_MIN) {
        memmove(l->in, l->in + l->at, l->len - l->at);
        l->len -= l->at;
        l->at = 0;
    }
    if (l->cap - l->len < READ_MIN) {
        uint8_t *bigger = realloc(l->in, 2 * l->cap + READ_MIN);
        if (!bigger)
            return false;
        l->in = bigger;
        l->cap = 2 * l->cap + READ_MIN;
    }
    ssize_t n = receive_some(l, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        n = await_some(l);
    if (n < 0 && errno == EINTR)
        return true;
    l->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The frame that stands skip bytes behind the first one not consumed. Its size, 0 when the link has ended. Moves the
 * buffer: what pointed into it is void. */
static size_t look(struct lease *l, size_t skip, struct frame *f) {
    for (;;) {
        int64_t took = frame_decode(l->in + l->at + skip, l->len - l->at - skip, f);
        if (took > 0)
            return (size_t)took;
        if (took < 0 || !receive(l))
            return 0;
    }
}

/* Removes bytes from the buffer. */
static void cut(struct lease *l, size_t skip, size_t size) {
    uint8_t *from = l->in + l->at + skip;

    if (skip) {
        memmove(from, from + size, (size_t)(l->in + l->len - from) - size);
        l->len -= size;
    } else {
        l->at += size;
    }
}

static bool keep_piece(struct lease *l, const struct frame *f) {
    if (l->whole_size + f->size > l->whole_cap) {
        size_t cap = 2 * l->whole_cap + f->size;
        uint8_t *bigger = realloc(l->whole, cap);
        if (!bigger)
            return false;
        l->whole = bigger;
        l->whole_cap = cap;
    }
    memcpy(l->whole + l->whole_size, f->body, f->size);
    l->whole_size += f->size;
    return true;
}

/* A file has come with the frame f, which precedes a call. False: there is no memory for it, or it makes no sense. */
static bool keep_map(struct lease *l, const struct frame *f) {
    uint64_t size;

    if (f->size != sizeof(size) || l->map.bytes || l->whole_size)
        return false;
    memcpy(&size, f->body, sizeof(size));
    l->map = worker_take_map();
    l->file_size = le64toh(size);
    return l->map.bytes && l->file_size <= l->map.size;
}

static void drop_pieces(struct lease *l) {
    if (l->map.bytes)
        munmap(l->map.bytes, l->map.size);
    l->map = (struct worker_map){0};
    l->whole_size = 0;
    if (l->whole_cap > KEEP_MAX) {
        free(l->whole);
        l->whole = NULL;
        l->whole_cap = 0;
    }
}

/* --- answers */
static bool in_pipe(int fd) {
    int count = 0;
    return ioctl(fd, FIONREAD, &count) == 0 && count > 0;
}

/* Answers the call of that id. printed: something is in the pipes, which PRINTED says before the last frame. */
static void answer(uint64_t id, enum answer_kind kind, bool printed, const void *bytes, size_t size) {
    uint8_t note[FRAME_HEADER], header[FRAME_HEADER];
    const uint8_t *at = bytes;

    for (; size > FRAME_BODY_MAX; at += FRAME_BODY_MAX, size -= FRAME_BODY_MAX) {
        frame_encode(header, MESSAGE_PART, id, FRAME_BODY_MAX);
        worker_send((struct iovec[]){{header, FRAME_HEADER}, {(void *)at, FRAME_BODY_MAX}}, 2);
    }
    frame_encode(note, MESSAGE_PRINTED, id, 0);
    frame_encode(header, (uint8_t)(MESSAGE_PART + kind), id, (uint32_t)size);
    struct iovec parts[3] = {{note, FRAME_HEADER}, {header, FRAME_HEADER}, {(void *)at, size}};
    worker_send(parts + !printed, 1u + printed + (size > 0));
}

/* Waits until the pipes were read: the pool takes their bytes for output of the first unanswered call, so the next one
 * must not begin before. False when the link has ended. */
static bool await_ack(struct lease *l) {
    struct frame f;
    size_t skip = 0, size;

    while ((size = look(l, skip, &f)) && f.kind != MESSAGE_ACK)
        skip += size;
    if (!size)
        return false;
    cut(l, skip, size);
    l->reads = atomic_load(&l->line.page->reads);
    return true;
}

/* --- what a call names */
struct todo {                /* the call that is about to run; its frame is the first in the buffer */
    uint64_t id;             /* of it, as the next */
    size_t own;              /* bytes */
    enum call_format format; /* of what stands behind skip bytes of its body */
    size_t skip;
    bool values; /* its pickle refers to values */
    bool have;   /* all that it names is in this process; else answer says why not */
    struct python_answer answer;
};

struct named { /* a kind of what calls name */
    bool (*find)(const uint8_t hash[32]);
    bool (*add)(const uint8_t hash[32], const void *bytes, size_t size, struct python_answer *a);
};
static const struct named function = {python_find_function, python_add_function};
static const struct named value = {python_find_value, python_add_value};

/* The body of the call, valid until the buffer moves. */
static const uint8_t *body_of(const struct lease *l, const struct todo *t, size_t *size) {
    if (l->map.bytes) {
        *size = l->file_size;
        return (uint8_t *)l->map.bytes + l->map.size - l->file_size;
    }
    *size = l->whole_size ? l->whole_size : t->own - FRAME_HEADER;
    return l->whole_size ? l->whole : l->in + l->at + FRAME_HEADER;
}

/* Asks for it and waits. False when the link has ended. */
static bool ask(struct lease *l, struct todo *t, const struct named *kind, const uint8_t hash[FUNCTION_HASH]) {
    struct frame f;
    size_t first = t->own, skip = t->own, size, whole = 0;

    answer(t->id, ANSWER_NEED, false, hash, FUNCTION_HASH);
    while ((size = look(l, skip, &f)) && f.kind != MESSAGE_FUNCTION) {
        skip += size;
        if (f.kind != MESSAGE_PIECE)
            first = skip; /* pieces stand directly before what they are pieces of */
    }
    if (!size)
        return false;
    size_t end = skip + size;
    uint8_t *bytes = malloc(end - first);
    if (!bytes)
        return false;
    for (size_t at = first; at < end; at += size) {
        size = look(l, at, &f);
        memcpy(bytes + whole, f.body, f.size);
        whole += f.size;
    }
    cut(l, first, end - first);
    bool fits = whole >= FUNCTION_HASH && memcmp(bytes, hash, FUNCTION_HASH) == 0;
    if (fits)
        t->have = kind->add(hash, bytes + FUNCTION_HASH, whole - FUNCTION_HASH, &t->answer);
    free(bytes);
    return fits;
}

/* Provides the function or value of the hash at that offset of the body, if there is one. False when the link has
 * ended. */
static bool need(struct lease *l, struct todo *t, const struct named *kind, size_t offset) {
    uint8_t hash[FUNCTION_HASH];
    size_t size;

    memcpy(hash, body_of(l, t, &size) + offset, sizeof(hash));
    return kind->find(hash) || ask(l, t, kind, hash);
}

/* Provides all that the call names, before anything of it is unpickled. False when the link has ended. */
static bool provide(struct lease *l, struct todo *t) {
    size_t size, count = 0;
    const uint8_t *bytes = body_of(l, t, &size);
    bool sane = true;

    if (t->format == CALL_VALUES) {
        sane = size >= 4 && bytes[0] <= 1 && !bytes[2] && !bytes[3] && size - 4 >= bytes[1] * (size_t)FUNCTION_HASH;
        t->values = true;
        t->format = sane && bytes[0] ? CALL_HASH : CALL_PICKLE;
        count = sane ? bytes[1] : 0;
        t->skip = 4 + count * FUNCTION_HASH;
    }
    if (t->format == CALL_HASH)
        sane = sane && size - t->skip >= FUNCTION_HASH;
    if (!sane) {
        python_lease_refuse("the bytes of the call are cut off", &t->answer);
        t->have = false;
    }
    for (size_t i = 0; t->have && i < count; i++)
        if (!need(l, t, &value, 4 + i * FUNCTION_HASH))
            return false;
    if (!t->have || t->format != CALL_HASH)
        return true;
    t->skip += FUNCTION_HASH;
    return need(l, t, &function, t->skip - FUNCTION_HASH);
}

/* --- calls */
/* Puts the process in order for the next call, if needed. Only the look for children costs a system call (watch.h). */
static void after_call(struct lease *l, int64_t started) {
    bool smells = python_lease_smells() || watch.printed; /* perhaps a warning, which is shown once */

    if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD)
        smells = true;
    l->untidy++;
    if (smells || l->untidy >= CALLS_PER_TIDYING || clock_us() - started > TIDYING_US)
        tidy(l);
}

/* Runs the call in the frame f, own bytes large and first in the buffer, and answers it. False when the link has
 * ended. */
static bool run_call(struct lease *l, const struct frame *f, size_t own) {
    struct lease_page *page = l->line.page;
    uint32_t number = (uint32_t)f->id;
    struct todo t = {.id = f->id, .own = own, .format = (enum call_format)(f->kind - MESSAGE_CALL_JSON), .have = true};
    uint8_t sent = LEASE_CALL_SENT;
    size_t size;

    bool ours = atomic_compare_exchange_strong(&page->calls[number % LEASE_WINDOW], &sent, LEASE_CALL_BEGUN);
    atomic_store(&page->seen, number);
    if (l->whole_size && !keep_piece(l, f))
        return false;
    if (!ours) {
        cut(l, 0, own);
        drop_pieces(l);
        return true;
    }
    int64_t started = clock_us();
    python_patch_begin();
    if (!provide(l, &t))
        return false;
    const uint8_t *bytes = body_of(l, &t, &size);
    if (t.have) {
        struct worker_map map = l->map;
        l->map = (struct worker_map){0};
        python_lease_call(t.format, t.values, bytes + t.skip, size - t.skip, map.bytes, map.size, &t.answer);
    }
    if (t.values)
        python_drop_values();
    cut(l, 0, own);
    drop_pieces(l);
    after_call(l, started);
    /* A worker that leaves may no longer see its pipes: whatever is in them is this call's. */
    bool printed = atomic_load(&page->reads) != l->reads || in_pipe(1) || in_pipe(2) || worker_spoiled();
    answer(t.id, t.answer.kind, printed, t.answer.bytes, t.answer.size);
    python_answer_clear(&t.answer);
    return !printed || await_ack(l);
}

bool lease_run(const struct lease_line *line, const char *cwd) {
    struct lease l = {.line = *line, .cwd = cwd, .cap = line->rest_size + READ_MIN, .len = line->rest_size};
    struct frame f;
    size_t size;
    bool going = true, finished = false;

    l.in = malloc(l.cap);
    if (!l.in)
        return false;
    memcpy(l.in, line->rest, line->rest_size);
    l.reads = atomic_load(&line->page->reads);
    watch.touched = watch.printed = false;
    while (going && !finished && !worker_spoiled() && (size = look(&l, 0, &f))) {
        switch (f.kind) {
        case MESSAGE_PIECE:
            going = keep_piece(&l, &f);
            cut(&l, 0, size);
            break;
        case MESSAGE_FILE:
            going = keep_map(&l, &f);
            cut(&l, 0, size);
            break;
        case MESSAGE_CALL_JSON:
        case MESSAGE_CALL_PICKLE:
        case MESSAGE_CALL_HASH:
        case MESSAGE_CALL_VALUES: going = run_call(&l, &f, size); break;
        case MESSAGE_FINISH: finished = true; break;
        default: going = false;
        }
    }
    drop_pieces(&l);
    free(l.in);
    free(l.whole);
    return finished || (going && worker_spoiled());
}
