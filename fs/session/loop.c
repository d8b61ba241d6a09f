/* One turn: events change state inside one open transaction (on_fuse reads at most REQUESTS_A_TURN of them) ->
 * sched_turn -> sched_commit -> the replies that waited for it -> parked requests of what changed. */
#include "fs/session/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fs/session/journal.h"
#include "fs/handles/handle.h"
#include "fs/log.h"
#include "fs/session/reply.h"
#include "fs/session/wait.h"
#include "net/clock.h"
#include "net/event.h"
#include "worker/runner/cpus.h"

#define REQUESTS_A_TURN 64
#define SPIN_NS 60000
#define BEAT_S 2 /* interval of an idle loop's turns, which the supervisor counts */
#define UNIQUE_RESENT ((uint64_t)1 << 63)
#ifndef FUSE_NOTIFY_RESEND /* linux/fuse.h before 6.9 */
#define FUSE_NOTIFY_RESEND 7
#endif

struct loop {
    struct event *fuse, *beat, *signals[3];
    struct shared *shared;
    struct fuse_buf buf;
    void (*on_ready)(void *arg);
    void *ready_arg;
    uint64_t requests; /* handled so far */
    unsigned processors;
    bool stop;
    int rc;
};

/* What FUSE calls them, for stats. */
static const char *name_of(uint32_t opcode) {
    static const char *const names[] = {
        [FUSE_LOOKUP] = "lookup",   [FUSE_FORGET] = "forget",   [FUSE_GETATTR] = "getattr", [FUSE_SETATTR] = "setattr",
        [FUSE_MKDIR] = "mkdir",     [FUSE_UNLINK] = "unlink",   [FUSE_RMDIR] = "rmdir",     [FUSE_RENAME] = "rename",
        [FUSE_RENAME2] = "rename",  [FUSE_OPEN] = "open",       [FUSE_READ] = "read",       [FUSE_WRITE] = "write",
        [FUSE_RELEASE] = "release", [FUSE_FLUSH] = "flush",     [FUSE_FSYNC] = "fsync",     [FUSE_OPENDIR] = "opendir",
        [FUSE_CREATE] = "create",   [FUSE_READDIR] = "readdir", [FUSE_POLL] = "poll",
    };
    return opcode < sizeof names / sizeof *names && names[opcode] ? names[opcode] : "other requests";
}

static void handle_request(struct fs *fs, struct fuse_buf *buf, bool again) {
    const struct fuse_in_header *head = buf->mem;
    struct request before = fs->now;
    again |= (head->unique & UNIQUE_RESENT) != 0;
    fs->now = (struct request){.bytes = buf->mem,
                               .size = buf->size,
                               .unique = head->unique & ~UNIQUE_RESENT,
                               .again = again,
                               .faults = sched_faults(fs->sched),
                               .handling = true,
                               .uid = head->uid,
                               .gid = head->gid};
    uint32_t opcode = head->opcode; /* a handler may keep the buffer, or free it */
    bool init = opcode == FUSE_INIT;
    int saved = init ? shared_save_init(fs->loop->shared, buf->mem, buf->size) : 0;
    fuse_session_process_buf(fs->session, buf);
    if (saved)
        log_line(
            "the kernel's first request has %zu bytes, more than ppfs can keep: a killed daemon will not come back",
            buf->size);
    if (init && fs->loop->on_ready)
        fs->loop->on_ready(fs->loop->ready_arg);
    fs->now = before;
    fs->loop->requests++;
    sched_took(fs->sched, name_of(opcode));
}

void loop_again(struct fs *fs, const void *bytes, size_t size) {
    handle_request(fs, &(struct fuse_buf){.mem = (void *)bytes, .size = size}, false);
}

static void handle_left(struct fs *fs, const void *bytes, size_t size) {
    handle_request(fs, &(struct fuse_buf){.mem = (void *)bytes, .size = size}, true);
}

void *loop_keep(struct fs *fs) {
    void *mem = fs->loop->buf.mem;
    fs->loop->buf.mem = NULL;
    return mem;
}

static void on_fuse(evutil_socket_t fd, short what, void *arg) {
    struct fs *fs = arg;
    struct loop *l = fs->loop;
    for (int i = 0; i < REQUESTS_A_TURN && !l->stop; i++) {
        int n = fuse_session_receive_buf(fs->session, &l->buf);
        if (n == -EAGAIN)
            break;
        if (n == -EINTR)
            continue;
        if (n <= 0) { /* 0: unmounted */
            l->rc = n;
            l->stop = true;
            break;
        }
        sched_woke(fs->sched);
        if (i == 0)
            sched_took(fs->sched, "other events");
        journal_note(fs, l->buf.mem, l->buf.size);
        handle_request(fs, &l->buf, false);
    }
}

static void on_beat(evutil_socket_t fd, short what, void *arg) {
}

static void on_signal(evutil_socket_t fd, short what, void *arg) {
    struct fs *fs = arg;
    fs->loop->stop = true;
}

/* Answers the requests that the last daemon left unanswered. */
static void take_over(struct fs *fs) {
    size_t size;
    const void *init = shared_init(fs->loop->shared, &size);
    if (!init)
        return;
    fuse_session_process_buf(fs->session, &(struct fuse_buf){.mem = (void *)init, .size = size});
    struct fuse_out_header resend = {.len = sizeof resend, .error = FUSE_NOTIFY_RESEND};
    if (journal_kept(fs))
        journal_replay(fs, handle_left);
    else if (write(fuse_session_fd(fs->session), &resend, sizeof resend) < 0)
        log_line("the kernel did not send unanswered requests again: %s", strerror(errno));
    handle_wake_all(fs);
}

int loop_create(struct fs *fs, struct shared *shared, void (*on_ready)(void *arg), void *arg) {
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    struct loop *l = calloc(1, sizeof *l);
    if (!l)
        return -ENOMEM;
    fs->loop = l;
    l->shared = shared;
    l->on_ready = on_ready;
    l->ready_arg = arg;
    l->processors = cpus_available();
    int fd = fuse_session_fd(fs->session);
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0)
        return -errno;
    l->fuse = event_new(fs->base, fd, EV_READ | EV_PERSIST, on_fuse, fs);
    l->beat = event_new(fs->base, -1, EV_PERSIST, on_beat, NULL);
    if (!l->fuse || event_add(l->fuse, NULL) < 0 || !l->beat ||
        event_add(l->beat, &(struct timeval){.tv_sec = BEAT_S}) < 0)
        return -ENOMEM;
    for (unsigned i = 0; i < 3; i++) {
        l->signals[i] = evsignal_new(fs->base, signals[i], on_signal, fs);
        if (!l->signals[i] || event_add(l->signals[i], NULL) < 0)
            return -ENOMEM;
    }
    take_over(fs);
    return 0;
}

void loop_destroy(struct loop *l) {
    if (!l)
        return;
    event_drop(l->fuse);
    event_drop(l->beat);
    for (unsigned i = 0; i < 3; i++)
        event_drop(l->signals[i]);
    free(l->buf.mem);
    free(l);
}

/* Commits the changes of this turn and sends the answers. An answer may cause a change (an unwanted handle is closed),
 * which needs another commit; the number of rounds is limited for when the disk is full. */
static void turn(struct fs *fs) {
    sched_woke(fs->sched);
    sched_took(fs->sched, "other events");
    for (int i = 0; i < 4; i++) {
        sched_turn(fs->sched);
        int rc = sched_commit(fs->sched);
        sched_took(fs->sched, "commit");
        replies_send(fs, rc);
        waits_turn(fs);
        sched_took(fs->sched, "replies");
        if (!replies_waiting(fs) && !sched_dirty(fs->sched))
            break;
    }
    sched_answered(fs->sched);
    sched_took(fs->sched, "checkpoint");
    sched_turned(fs->sched);
}

/* Polls for a moment before sleeping, because waking an idle processor costs more than a request; not if a job could
 * use the processor meanwhile. */
static void gather(struct fs *fs, int64_t spin_until) {
    struct loop *l = fs->loop;
    uint64_t before = l->requests;
    bool looked = false;
    while (!l->stop && sched_running(fs->sched) < l->processors && clock_ns() < spin_until) {
        event_base_loop(fs->base, EVLOOP_ONCE | EVLOOP_NONBLOCK); /* without ONCE: until no event is ready */
        if (l->requests != before || sched_dirty(fs->sched))
            return;
        looked = true;
    }
    /* Events that changed nothing in the database (output, timers) get their turn before the sleep. */
    if (!l->stop && !looked)
        event_base_loop(fs->base, EVLOOP_ONCE);
}

int loop_run(struct fs *fs) {
    struct loop *l = fs->loop;
    int64_t spin_until = 0;
    _Atomic uint64_t *turns = shared_turns(l->shared);
    turn(fs);
    while (!l->stop) {
        uint64_t before = l->requests;
        atomic_fetch_add_explicit(turns, 1, memory_order_relaxed);
        gather(fs, spin_until);
        turn(fs);
        if (l->requests != before)
            spin_until = clock_ns() + SPIN_NS;
    }
    atomic_store(turns, TURNS_OVER);
    return l->rc;
}
