/* Python work that is more than a call in the worker: what has a process of its own, and leases.
 *
 * The child tells its end through a page that it shares with us, and a call's
 * value through a memfd: neither can make us wait, whatever the job does to its descriptors or its children. What
 * stands in them was written by the job, so sizes are checked and texts are cut. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/frame.h"
#include "worker/program.h"
#include "worker/reap.h"
#include "worker/worker.h"

struct report {
    uint32_t told; /* the child came to its end and filled in the rest */
    uint32_t end;
    uint64_t result_size, trace_size;
    char why[sizeof(((struct work_outcome *)0)->why)];
};

/* Appends to the memfd. False when it does not fit into memory. */
static bool put_all(int fd, const void *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)bytes + done, size - done);
        if (n < 0 && errno != EINTR)
            return false;
        done += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static void child_call(const struct work *w, const struct place *p, int data, struct report *report) {
    struct python_reply reply;

    python_call(w, p->cwd, (const char *const *)p->env, &reply);
    report->end = (uint32_t)reply.end;
    memcpy(report->why, reply.why, sizeof(report->why));
    if (put_all(data, reply.result, reply.result_size) && put_all(data, reply.trace, reply.trace_size)) {
        report->result_size = reply.result_size;
        report->trace_size = reply.trace_size;
    } else {
        report->end = WORK_RAISED;
        snprintf(report->why, sizeof(report->why), "the result could not be kept: %s", strerror(errno));
    }
    python_flush();
    report->told = 1;
    _exit(0);
}

/* The child takes on its place. Returns only when it has. */
static void child_enter(const struct place *p, struct report *report) {
    const char *step = place_enter(p);

    if (step) {
        report->end = WORK_REFUSED;
        snprintf(report->why, sizeof(report->why), "the job could not %s: %s", step, strerror(errno));
        report->told = 1;
        _exit(0);
    }
    signal(SIGPIPE, SIG_IGN); /* as in python3 */
    signal(SIGXFSZ, SIG_IGN);
}

static _Noreturn void child_main(const struct work *w, const struct place *p, int data, struct report *report) {
    pid_t self = getpid();
    char why[sizeof(report->why)];

    child_enter(p, report);
    if (w->kind != WORK_PYTHON)
        child_call(w, p, data, report);
    int status = python_script(w, p->cwd, (const char *const *)p->env, why, sizeof(why));
    if (getpid() == self) { /* else a process that the script forked has come to its own end here */
        memcpy(report->why, why, sizeof(report->why));
        report->told = 1;
    }
    _exit(status);
}

/* Whether the memfd holds what the report says. */
static bool report_fits(const struct report *report, int data) {
    struct stat st;
    return fstat(data, &st) == 0 && report->result_size <= (uint64_t)st.st_size &&
           report->trace_size <= (uint64_t)st.st_size - report->result_size;
}

static void take_report(const struct work *w, const struct report *shared, struct isolated *iso) {
    struct work_outcome *o = &iso->outcome;
    struct report report = *shared; /* a copy that does not change while it is checked */

    report.why[sizeof(report.why) - 1] = 0;
    if (!report.told)
        return;
    if (report.end == WORK_REFUSED) {
        o->end = WORK_REFUSED;
    } else if (w->kind == WORK_PYTHON) {
        if (o->end != WORK_EXITED || !report.why[0])
            return;
    } else {
        if (o->end != WORK_DONE || report.end > WORK_RAISED || !report_fits(&report, iso->data))
            return;
        o->end = (enum work_end)report.end;
        iso->result_size = report.result_size;
        iso->trace_size = report.trace_size;
    }
    memcpy(o->why, report.why, sizeof(o->why));
}

/* One page for the worker's whole life, empty: its jobs come one after the other. NULL: no memory. */
static struct report *empty_report(void) {
    static struct report *shared;

    if (!shared) {
        void *page = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        shared = page == MAP_FAILED ? NULL : page;
    }
    if (shared)
        memset(shared, 0, sizeof(*shared));
    return shared;
}

static pid_t fork_python(void) {
    python_before_fork();
    pid_t pid = fork();
    int saved = errno;
    if (pid == 0)
        python_forked();
    else
        python_after_fork();
    errno = saved;
    return pid;
}

static void no_process(struct work_outcome *o) {
    o->end = WORK_REFUSED;
    snprintf(o->why, sizeof(o->why), "no process could be made for the job: %s", strerror(errno));
}

/* --- the spare --------------------------------------------------------------------------------------------------
 * A script needs a process of its own, and the copies of pages that a fork costs take longer than most scripts. So after
 * a script the worker forks the process of the next one while it has nothing to do; that rehearses (glue.py), which copies
 * the pages that every script touches, and waits for its work on a socket. */
static struct {
    pid_t pid; /* 0: there is none */
    int fd;
} spare;

static bool read_all(int fd, void *bytes, size_t size) {
    for (size_t have = 0; have < size;) {
        ssize_t n = read(fd, (char *)bytes + have, size - have);
        if (n == 0 || (n < 0 && errno != EINTR))
            return false;
        have += n > 0 ? (size_t)n : 0;
    }
    return true;
}

static _Noreturn void spare_main(int fd, struct report *report) {
    struct work w;
    struct place p;
    uint32_t size;
    void *bytes, *hold;

    python_rehearse();
    if (!read_all(fd, &size, sizeof(size)) || !(bytes = malloc(size)) || !read_all(fd, bytes, size) ||
        work_decode(bytes, size, &w, &hold))
        _exit(0);
    close(fd);
    if (place_open(&p, &w, report->why, sizeof(report->why))) {
        report->end = WORK_REFUSED;
        report->told = 1;
        _exit(0);
    }
    child_main(&w, &p, -1, report);
}

void isolate_spare(int link) {
    struct report *shared = empty_report();
    pid_t self = getpid();
    int fds[2];

    if (spare.pid || !shared || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return;
    spare.pid = fork_python();
    if (spare.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
            _exit(0);
        close(link);
        close(fds[0]);
        spare_main(fds[1], shared);
    }
    close(fds[1]);
    if (spare.pid < 0) {
        spare.pid = 0;
        close(fds[0]);
    }
    spare.fd = fds[0];
}

void isolate_drop_spare(void) {
    if (!spare.pid)
        return;
    close(spare.fd);
    kill(spare.pid, SIGKILL);
    while (waitpid(spare.pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    spare.pid = 0;
}

/* Hands a script to the spare. Its process, or -1: there is none (any more), or the script is not for it. */
static pid_t use_spare(const struct work *w, const struct place *p) {
    struct work there = *w;
    struct iovec parts[2];
    void *bytes = NULL;
    uint32_t size;
    pid_t pid = spare.pid;

    there.cwd = p->cwd; /* a directory that was made for the job is there already */
    if (!pid || w->kind != WORK_PYTHON || w->file || p->other || work_encode(&there, &bytes, &size)) {
        isolate_drop_spare();
        return -1;
    }
    parts[0] = (struct iovec){&size, sizeof(size)};
    parts[1] = (struct iovec){bytes, size};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(spare.fd, &message, MSG_NOSIGNAL);
    free(bytes);
    if (sent != (ssize_t)(sizeof(size) + size)) { /* it died of something */
        isolate_drop_spare();
        return -1;
    }
    close(spare.fd);
    spare.pid = 0;
    return pid;
}

void isolate_run(const struct work *w, const struct place *p, int link, struct isolated *iso) {
    bool call = w->kind != WORK_PYTHON;
    struct report *shared = empty_report();
    struct rusage usage;
    pid_t pid = -1;

    *iso = (struct isolated){.data = -1, .outcome = {.attempt = w->attempt}};
    if (call)
        iso->data = memfd_create("ppfs-result", MFD_CLOEXEC);
    if (shared)
        pid = use_spare(w, p);
    if (pid < 0 && shared && (!call || iso->data >= 0))
        pid = fork_python();
    if (pid == 0) {
        close(link);
        child_main(w, p, iso->data, shared);
    }
    if (pid < 0) {
        no_process(&iso->outcome);
        return;
    }
    int status = reap_until(pid, &usage);
    program_outcome(status, &usage, &iso->outcome);
    take_report(w, shared, iso);
    if (!call || iso->outcome.end == WORK_SIGNALED || shared->told)
        return;
    /* A call must come to its end: os._exit(0) in it is not one. */
    iso->outcome.end = WORK_EXITED;
    snprintf(iso->outcome.why, sizeof(iso->outcome.why), "the call ended its process with exit status %d",
             iso->outcome.status);
}

/* --- leases ------------------------------------------------------------------------------------------------------
 * Calls wait in a buffer of ours, as many as one recv has brought. A call costs an exchange in the page, the call itself,
 * a look whether it left children, changed the directory or printed, and the one write of its answer. What is looked at
 * with more system calls than that waits until there is nothing to do for a while, or CALLS_PER_TIDYING calls are over, or a
 * call took so long that it does not matter, or it left a trace of something unusual. */
enum { READ_MIN = 64 * 1024, KEEP_MAX = 1024 * 1024, CALLS_PER_TIDYING = 64 };
enum { TIDYING_US = 200, SPIN_US = 50, IDLE_MS = 1, REST_US = 50000 };

struct lease {
    struct lease_line line;
    const char *cwd;
    char at_work[PATH_MAX]; /* where getcwd says that cwd is */
    uint8_t *in;            /* bytes at .. len have come and are not yet consumed */
    size_t cap, at, len;
    uint8_t *whole; /* what PIECE frames have brought */
    size_t whole_size, whole_cap;
    uint32_t reads;  /* of the page, at the end of the last call */
    unsigned untidy; /* calls since worker_restore */
};

static void tidy(struct lease *l) {
    worker_restore(l->cwd);
    if (chdir(l->cwd) || !getcwd(l->at_work, sizeof(l->at_work)))
        l->at_work[0] = 0; /* it is gone: every call is then one that moved */
    python_lease_mark();
    l->untidy = 0;
}

static ssize_t receive_some(struct lease *l, int flags) {
    return recv(l->line.link, l->in + l->len, l->cap - l->len, flags);
}

/* The buffer is empty. After a call the next one often follows the answer at once: a worker that is still awake saves both
 * sides the wake-up, and gives way to whoever else wants to run. Then there is time to tidy up. */
static ssize_t await_some(struct lease *l) {
    int64_t before = worker_now_us();
    struct pollfd polled = {.fd = l->line.link, .events = POLLIN};
    ssize_t n = -1;

    errno = EAGAIN; /* which is what brought us here */
    while (l->untidy && n < 0 && errno == EAGAIN && worker_now_us() - before < SPIN_US) {
        sched_yield();
        n = receive_some(l, MSG_DONTWAIT);
    }
    if (n >= 0 || errno != EAGAIN)
        return n;
    if (l->untidy && poll(&polled, 1, IDLE_MS) == 0)
        tidy(l);
    n = receive_some(l, 0);
    if (worker_now_us() - before > REST_US)
        python_lease_rest(l->cwd);
    return n;
}

/* Reads once. False when the link has ended, or its bytes find no memory. */
static bool receive(struct lease *l) {
    if (l->at == l->len)
        l->at = l->len = 0;
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

/* Cuts bytes out of what has come. */
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

static void drop_pieces(struct lease *l) {
    l->whole_size = 0;
    if (l->whole_cap > KEEP_MAX) {
        free(l->whole);
        l->whole = NULL;
        l->whole_cap = 0;
    }
}

/* --- answers */
static void answer(uint32_t number, uint32_t what, const void *bytes, size_t size) {
    uint8_t header[FRAME_HEADER];
    const uint8_t *at = bytes;

    for (;; at += FRAME_BODY_MAX, size -= FRAME_BODY_MAX) {
        bool last = size <= FRAME_BODY_MAX;
        uint32_t n = last ? (uint32_t)size : FRAME_BODY_MAX;
        frame_encode(header, WORKER_ANSWER, lease_id(number, last ? what : ANSWER_PART), n);
        struct iovec parts[2] = {{header, FRAME_HEADER}, {(void *)at, n}};
        worker_send(parts, n ? 2 : 1);
        if (last)
            return;
    }
}

static bool in_pipe(int fd) {
    int count = 0;
    return ioctl(fd, FIONREAD, &count) == 0 && count > 0;
}

/* What comes out of the pipes is told to be of the first call that is not answered, so the next one begins when it was
 * read. False when the link has ended. */
static bool await_ack(struct lease *l) {
    struct frame f;
    size_t skip = 0, size;

    while ((size = look(l, skip, &f)) && f.kind != WORKER_ACK)
        skip += size;
    if (!size)
        return false;
    cut(l, skip, size);
    l->reads = atomic_load(&l->line.page->reads);
    return true;
}

/* Asks for a function and waits for it. own: the size of the call's frame, the first in the buffer, or 0. False when
 * the link has ended; else *have tells whether it is there, a why not. */
static bool need_function(struct lease *l, uint32_t number, size_t own, const uint8_t hash[FUNCTION_HASH], bool *have,
                          struct python_answer *a) {
    struct frame f;
    size_t first = own, skip = own, size, whole = 0;

    answer(number, ANSWER_NEED, hash, FUNCTION_HASH);
    while ((size = look(l, skip, &f)) && f.kind != WORKER_FUNCTION) {
        skip += size;
        if (f.kind != WORKER_PIECE)
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
        *have = python_add_function(hash, bytes + FUNCTION_HASH, whole - FUNCTION_HASH, a);
    free(bytes);
    return fits;
}

/* --- calls */
/* In order before the next one. Whether it left children or moved costs two system calls, all else none. */
static void after_call(struct lease *l, int64_t started) {
    char at[PATH_MAX];
    bool smells = python_lease_smells();

    if (waitpid(-1, NULL, WNOHANG) >= 0 || errno != ECHILD || !getcwd(at, sizeof(at)) || strcmp(at, l->at_work) != 0)
        smells = true;
    l->untidy++;
    if (smells || l->untidy >= CALLS_PER_TIDYING || worker_now_us() - started > TIDYING_US)
        tidy(l);
}

/* Runs the call in the frame f, own bytes large and first in the buffer, and answers it. False when the link has
 * ended. */
static bool run_call(struct lease *l, const struct frame *f, size_t own) {
    struct lease_page *page = l->line.page;
    struct python_answer a = {0};
    uint32_t number = (uint32_t)f->id, what = (uint32_t)(f->id >> 32);
    uint8_t sent = LEASE_CALL_SENT, hash[FUNCTION_HASH];
    bool have = true;

    bool ours = atomic_compare_exchange_strong(&page->calls[number % LEASE_WINDOW], &sent, LEASE_CALL_BEGUN);
    atomic_store(&page->seen, number);
    if (what > CALL_HASH || (l->whole_size && !keep_piece(l, f)))
        return false;
    if (!ours) {
        cut(l, 0, own);
        drop_pieces(l);
        return true;
    }
    const uint8_t *bytes = l->whole_size ? l->whole : f->body;
    size_t size = l->whole_size ? l->whole_size : f->size;
    int64_t started = worker_now_us();
    if (what == CALL_HASH && size >= FUNCTION_HASH) {
        memcpy(hash, bytes, FUNCTION_HASH);
        if (!python_find_function(hash) && !need_function(l, number, own, hash, &have, &a))
            return false;
        bytes = (l->whole_size ? l->whole : l->in + l->at + FRAME_HEADER) + FUNCTION_HASH; /* the buffer has moved */
        size -= FUNCTION_HASH;
    }
    if (have)
        python_lease_call((enum call_format)what, bytes, size, &a);
    cut(l, 0, own);
    drop_pieces(l);
    after_call(l, started);
    bool printed = atomic_load(&page->reads) != l->reads || in_pipe(1) || in_pipe(2);
    answer(number, a.kind | (printed ? ANSWER_PRINTED : 0u), a.bytes, a.size);
    python_answer_clear(&a);
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
    if (!getcwd(l.at_work, sizeof(l.at_work)))
        l.at_work[0] = 0;
    while (going && !finished && (size = look(&l, 0, &f))) {
        switch (f.kind) {
        case WORKER_PIECE:
            going = keep_piece(&l, &f);
            cut(&l, 0, size);
            break;
        case WORKER_CALL:
            going = run_call(&l, &f, size);
            break;
        case WORKER_FINISH:
            finished = true;
            break;
        default:
            going = false;
        }
    }
    free(l.in);
    free(l.whole);
    return finished;
}

static _Noreturn void child_lease(const struct work *w, const struct place *p, const struct lease_line *line,
                                  struct report *report) {
    child_enter(p, report);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that it finds what its calls leave behind */
    python_begin_lease(w, p->cwd, (const char *const *)p->env);
    report->end = WORK_DONE;
    report->told = lease_run(line, p->cwd);
    _exit(0);
}

void isolate_lease(const struct work *w, const struct place *p, const struct lease_line *line, struct work_outcome *o) {
    struct report *shared = empty_report();
    struct rusage usage;
    pid_t pid = shared ? fork_python() : -1;

    if (pid == 0)
        child_lease(w, p, line, shared);
    if (pid < 0) {
        no_process(o);
        return;
    }
    int status = reap_until(pid, &usage);
    program_outcome(status, &usage, o);
    if (o->end == WORK_SIGNALED)
        return;
    if (shared->told && shared->end == WORK_REFUSED) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "%.*s", (int)sizeof(shared->why) - 1, shared->why);
    } else if (!shared->told) { /* a call has ended the process */
        o->end = WORK_EXITED;
        snprintf(o->why, sizeof(o->why), "the call ended its process with exit status %d", o->status);
    }
}
