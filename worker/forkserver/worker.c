/* The loop of a worker: take a START frame, do the work, see that its whole process tree is dead, say DONE.
 *
 * A call runs in this very process; afterwards everything that it may have changed is put back, and where that is
 * not possible (threads left running, descriptors 0-2 or the link replaced, another user, root or limit) the answer
 * is LAST and the process leaves. Everything else runs in a child. As a subreaper this process inherits whatever its
 * jobs leave behind. One wake-up a job: the work comes in one frame, and result and outcome leave in one write. */
#include "worker/forkserver/worker.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "net/clock.h"
#include "net/io.h"
#include "net/session/frame.h"
#include "worker/runner/cgroup.h"
#include "worker/runner/control.h"
#include "worker/runner/messages.h"
#include "worker/forkserver/order.h"
#include "worker/forkserver/program.h"
#include "worker/runner/reap.h"
#include "worker/runner/runner.h"
#include "worker/forkserver/watch.h"

enum { BUFFER = FRAME_HEADER + FRAME_BODY_MAX, LINK_FD = 200, TREE_MS = 10000 };

static struct worker {
    int link;
    struct lease_page *page;
    int page_file;
    bool leave;
    /* the next job is the last one: something of this one was left, which was found after its end was told */
    bool last;
    uint8_t buffer[BUFFER];        /* the frame at work: struct work points into it */
    uint8_t chunk[FRAME_BODY_MAX]; /* a piece of a result on its way */
} me;

/* --- the link --------------------------------------------------------------------------------------------------- */
static _Noreturn void leave(int status) {
    _exit(status);
}

/* Writes all parts. The process ends where the link has no reader any more. */
void worker_send(struct iovec *parts, size_t count) {
    struct msghdr msg = {.msg_iov = parts, .msg_iovlen = count};

    while (msg.msg_iovlen) {
        ssize_t sent = sendmsg(me.link, &msg, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0)
            leave(WORKER_EXIT_CUT);
        while (msg.msg_iovlen && (size_t)sent >= msg.msg_iov->iov_len) {
            sent -= (ssize_t)msg.msg_iov->iov_len;
            msg.msg_iov++;
            msg.msg_iovlen--;
        }
        if (msg.msg_iovlen) {
            msg.msg_iov->iov_base = (uint8_t *)msg.msg_iov->iov_base + sent;
            msg.msg_iov->iov_len -= (size_t)sent;
        }
    }
}

/* Sends bytes as frames, all but the last piece, which is left in part for the write that ends the job. */
static size_t send_all_but_last(enum output_kind kind, uint64_t job, const uint8_t *bytes, size_t size,
                                uint8_t header[FRAME_HEADER], struct iovec part[2]) {
    if (!size)
        return 0;
    while (size > FRAME_BODY_MAX) {
        frame_encode(header, MESSAGE_OUTPUT, message_id((uint32_t)job, kind), FRAME_BODY_MAX);
        struct iovec full[2] = {{header, FRAME_HEADER}, {(void *)bytes, FRAME_BODY_MAX}};
        worker_send(full, 2);
        bytes += FRAME_BODY_MAX;
        size -= FRAME_BODY_MAX;
    }
    frame_encode(header, MESSAGE_OUTPUT, message_id((uint32_t)job, kind), (uint32_t)size);
    part[0] = (struct iovec){header, FRAME_HEADER};
    part[1] = (struct iovec){(void *)bytes, size};
    return 2;
}

static void send_done(uint64_t job, const struct work_outcome *o, const void *result, size_t result_size,
                      const void *trace, size_t trace_size) {
    uint8_t headers[3][FRAME_HEADER], body[1024];
    struct iovec parts[6];
    size_t count = 0;
    uint32_t size;

    count += send_all_but_last(OUTPUT_RESULT, job, result, result_size, headers[0], parts + count);
    count += send_all_but_last(OUTPUT_TRACE, job, trace, trace_size, headers[1], parts + count);
    work_outcome_encode(o, body, &size);
    frame_encode(headers[2], me.leave ? MESSAGE_LAST : MESSAGE_DONE, message_id((uint32_t)job, 0), size);
    parts[count++] = (struct iovec){headers[2], FRAME_HEADER};
    parts[count++] = (struct iovec){body, size};
    worker_send(parts, count);
}

/* The result and trace of an isolated call, out of its memfd piece by piece: it may be larger than our memory. */
static void send_data(enum output_kind kind, uint64_t job, int fd, uint64_t at, uint64_t size) {
    uint8_t header[FRAME_HEADER];

    while (size) {
        ssize_t n = pread(fd, me.chunk, size < FRAME_BODY_MAX ? (size_t)size : FRAME_BODY_MAX, (off_t)at);
        if (n <= 0)
            leave(WORKER_EXIT_CUT); /* it shrank under us: only a process that should be dead could do that */
        frame_encode(header, MESSAGE_OUTPUT, message_id((uint32_t)job, kind), (uint32_t)n);
        struct iovec parts[2] = {{header, FRAME_HEADER}, {me.chunk, (size_t)n}};
        worker_send(parts, 2);
        at += (uint64_t)n;
        size -= (uint64_t)n;
    }
}

/* --- after a job ------------------------------------------------------------------------------------------------ */
void worker_restore(const char *cwd) {
    bool threads = python_threads();
    bool fine = order_restore(); /* first, for there may be a timer running */

    fine = python_restore(cwd) && fine;
    if (threads) /* the threads went on until they had been waited for */
        fine = order_restore() && fine;
    if (!reap_all(TREE_MS) || !fine)
        me.leave = true;
    watch.touched = false;
}

bool worker_spoiled(void) {
    return me.leave;
}

/* --- the kinds of work ------------------------------------------------------------------------------------------- */
static int64_t microseconds(struct timeval a, struct timeval b) {
    return (b.tv_sec - a.tv_sec) * INT64_C(1000000) + (b.tv_usec - a.tv_usec);
}

/* Resources that this process and its children have used. */
struct use {
    struct rusage self, children;
    int64_t at_us;
};

static void use_now(struct use *u) {
    getrusage(RUSAGE_SELF, &u->self);
    getrusage(RUSAGE_CHILDREN, &u->children);
    u->at_us = clock_us();
}

static void use_since(const struct use *before, struct work_outcome *o) {
    struct use now;

    use_now(&now);
    o->user_us = microseconds(before->self.ru_utime, now.self.ru_utime) +
                 microseconds(before->children.ru_utime, now.children.ru_utime);
    o->system_us = microseconds(before->self.ru_stime, now.self.ru_stime) +
                   microseconds(before->children.ru_stime, now.children.ru_stime);
    o->maxrss_kib = now.self.ru_maxrss;
    o->wall_us = now.at_us - before->at_us;
}

static void do_call(const struct work *w, struct work_outcome *o) {
    struct python_reply reply;
    struct job_environment p;
    struct use before;

    use_now(&before);

    if (environment_open(&p, w, o->why, sizeof(o->why))) {
        o->end = WORK_REFUSED;
        send_done(w->job, o, NULL, 0, NULL, 0);
        return;
    }
    python_call(w, p.cwd, NULL, &reply);
    worker_restore(p.cwd);
    o->end = reply.end;
    memcpy(o->why, reply.why, sizeof(o->why));
    use_since(&before, o);
    environment_close(&p);
    send_done(w->job, o, reply.result, reply.result_size, reply.trace, reply.trace_size);
    python_reply_clear(&reply);
}

static void run_program(const struct work *w, struct job_environment *p, int file, struct work_outcome *o) {
    char *words[] = {(char *)w->name, NULL};
    struct program prog = {.argv = words, .input = -1};

    o->end = WORK_REFUSED;
    if (environment_script(p, w->name, file, w->payload, w->payload_size, o->why, sizeof(o->why)))
        return;
    prog.path = p->script;
    program_run(&prog, p, o);
}

static void run_words(const struct work *w, const struct job_environment *p, struct work_outcome *o) {
    struct program prog = {.input = -1};
    void *input = NULL;
    size_t input_size = 0;

    o->end = WORK_REFUSED;
    if (python_read_run(w, &prog.argv, &input, &input_size, o->why, sizeof(o->why)))
        return;
    if (input_size)
        prog.input = program_input(input, input_size);
    free(input);
    if (input_size && prog.input < 0)
        snprintf(o->why, sizeof(o->why), "its stdin could not be kept: %s", strerror(errno));
    else
        program_run(&prog, p, o);
    if (prog.input >= 0)
        close(prog.input);
    free(prog.argv);
}

/* Runs it with its files in place. */
static void run_isolated(const struct work *w, struct job_environment *p, int file, struct job_process *iso,
                         struct work_outcome *o) {
    if (w->kind == WORK_PROGRAM) {
        run_program(w, p, file, o);
    } else if (w->kind == WORK_JSON_RUN) {
        run_words(w, p, o);
    } else {
        /* without room for it the script still runs, but no process that it starts anew finds its functions */
        if (w->kind == WORK_PYTHON &&
            environment_script(p, w->name, -1, w->payload, w->payload_size, o->why, sizeof(o->why)))
            environment_drop_script(p);
        job_process_run(w, p, iso);
        *o = iso->outcome;
    }
}

/* The same, with files that it is given before and gives afterwards: *files, *size. */
static void run_with_files(const struct work *w, struct job_environment *p, int file, struct job_process *iso,
                           struct work_outcome *o, int *files, uint64_t *size) {
    struct work bare = *w;

    bare.file = NULL; /* of the pack; what is left of it is a work like others */
    bare.files = NULL;
    bare.files_in = bare.files_out = false;
    if (w->files_in && !job_files_in(w, p, file, o))
        return;
    run_isolated(&bare, p, w->files_in ? -1 : file, iso, o);
    if (!job_process_bury(iso, TREE_MS))
        me.leave = true;
    if (w->files_out && o->end == WORK_DONE)
        *files = job_files_out(w, p, size, o);
}

static void do_isolated(const struct work *w, int file, struct work_outcome *o) {
    struct job_process iso = {.data = -1};
    struct job_environment p;
    int64_t started = clock_us();
    uint64_t files_size = 0;
    int files = -1;

    if (environment_open(&p, w, o->why, sizeof(o->why))) {
        o->end = WORK_REFUSED;
        send_done(w->job, o, NULL, 0, NULL, 0);
        return;
    }
    if (p.other) /* so that the job can open /dev/stdout and /dev/stderr */
        for (int fd = 1; fd <= 2; fd++)
            if (fchown(fd, p.user.uid, p.user.gid))
                continue;
    if (w->files_in || w->files_out)
        run_with_files(w, &p, file, &iso, o, &files, &files_size);
    else
        run_isolated(w, &p, file, &iso, o);
    if (!iso.left && !reap_all(TREE_MS))
        me.leave = true;
    order_descriptors();
    o->wall_us = clock_us() - started;
    environment_close(&p);
    if (iso.data >= 0) {
        send_data(OUTPUT_RESULT, w->job, iso.data, 0, iso.result_size);
        send_data(OUTPUT_TRACE, w->job, iso.data, iso.result_size, iso.trace_size);
        close(iso.data);
    }
    if (files >= 0) {
        send_data(OUTPUT_FILES, w->job, files, 0, files_size);
        close(files);
    }
    send_done(w->job, o, NULL, 0, NULL, 0);
    if (!job_process_bury(&iso, TREE_MS))
        me.last = true; /* the pool may have sent that job meanwhile */
}

/* rest: what has come over the link after the START. */
static void do_lease(const struct work *w, const void *rest, size_t rest_size) {
    struct lease_line line = {
        .link = me.link, .page = me.page, .page_file = me.page_file, .rest = rest, .rest_size = rest_size};
    struct work_outcome o = {.attempt = w->attempt};
    struct job_environment p;
    struct use before;

    use_now(&before);
    if (environment_open(&p, w, o.why, sizeof(o.why))) {
        o.end = WORK_REFUSED;
        me.leave = true; /* calls may be on their way */
    } else if (work_isolated(w)) {
        job_process_lease(w, &p, &line, &o);
        me.leave = true;
        reap_all(TREE_MS);
        o.wall_us = clock_us() - before.at_us;
        environment_close(&p);
    } else {
        python_begin_lease(w, p.cwd, NULL);
        bool whole = lease_run(&line, p.cwd);
        if (!me.leave)
            worker_restore(p.cwd);
        use_since(&before, &o);
        environment_close(&p);
        if (!whole)
            leave(0);
    }
    if (chdir("/"))
        me.leave = true;
    send_done(w->job, &o, NULL, 0, NULL, 0);
}

/* Reads a payload file whole. malloc'd bytes, or NULL with why. */
static void *read_payload(int fd, uint32_t *size, char *why, size_t why_size) {
    struct stat st;
    void *bytes = NULL;

    if (fstat(fd, &st) == 0 && st.st_size <= INT32_MAX && (bytes = malloc((size_t)st.st_size + 1)) &&
        io_read(fd, bytes, (size_t)st.st_size, IO_NEXT) == st.st_size) {
        *size = (uint32_t)st.st_size;
        return bytes;
    }
    free(bytes);
    snprintf(why, why_size, "its bytes (%lld of them) could not be read into memory", (long long)st.st_size);
    return NULL;
}

static void do_work(struct work *w) {
    struct work_outcome o = {.attempt = w->attempt};
    bool whole = w->kind == WORK_PROGRAM || w->files_in; /* it is used as a file */
    void *loaded = NULL;
    int file = -1;

    if (w->file) {
        file = open(w->file, O_RDONLY | O_CLOEXEC);
        o.end = WORK_REFUSED;
        if (file < 0)
            snprintf(o.why, sizeof(o.why), "its bytes in %.300s could not be opened: %s", w->file, strerror(errno));
        else if (!whole)
            w->payload = loaded = read_payload(file, &w->payload_size, o.why, sizeof(o.why));
        if (file < 0 || (!whole && !loaded)) {
            send_done(w->job, &o, NULL, 0, NULL, 0);
            goto out;
        }
        o.end = WORK_DONE;
    }
    if (w->kind != WORK_PYTHON || w->files_in || w->files_out)
        job_process_drop_spare();
    if (work_isolated(w))
        do_isolated(w, file, &o);
    else
        do_call(w, &o);
    if (chdir("/"))
        me.leave = true;
out:
    if (file >= 0)
        close(file);
    free(loaded);
}

/* --- the process ------------------------------------------------------------------------------------------------ */
static void take_descriptors(const int fds[SPAWN_FDS]) {
    int link = fds[0], out = fds[1], err = fds[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    void *page = mmap(NULL, sizeof(*me.page), PROT_READ | PROT_WRITE, MAP_SHARED, fds[3], 0);

    if (page == MAP_FAILED)
        leave(WORKER_EXIT_CUT);
    me.page = page;
    atomic_store(&me.page->runs, 1);
    me.page_file = fcntl(fds[3], F_DUPFD_CLOEXEC, LINK_FD + 1);
    if (me.page_file < 0)
        me.page_file = fcntl(fds[3], F_DUPFD_CLOEXEC, 3);
    close(fds[3]);
    /* High up, where neither a job's own descriptors nor what closes "the first few" meets it. */
    me.link = fcntl(link, F_DUPFD_CLOEXEC, LINK_FD);
    if (me.link < 0) /* a limit below that */
        me.link = fcntl(link, F_DUPFD_CLOEXEC, 3);
    if (null < 0 || me.link < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
        leave(WORKER_EXIT_CUT);
    close(null);
    close(link);
    close(out);
    close(err);
}

void worker_part(void) {
    close(me.link);
    close(me.page_file);
}

void worker_note(int link) {
    me.link = link;
    order_note(link);
}

/* The memory and pipes of a worker have met one user's work. */
static _Noreturn void refuse_user(const struct work *w) {
    struct work_outcome o = {.attempt = w->attempt, .end = WORK_REFUSED};

    me.leave = true;
    snprintf(o.why, sizeof(o.why), "it was given to a worker that is not for work of user %u", (unsigned)w->uid);
    send_done(w->job, &o, NULL, 0, NULL, 0);
    leave(0);
}

void worker_main(uint64_t serial, uid_t uid, const int fds[SPAWN_FDS], pid_t guard) {
    size_t have = 0;

    prctl(PR_SET_NAME, "ppfs-worker");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != guard)
        leave(0);
    setpgid(0, 0);
    take_descriptors(fds);
    worker_note(me.link);
    environment_begin_worker(serial);
    reap_stubborn = cgroup_clear;
    python_begin_worker();
    while (!me.leave) {
        struct frame f;
        struct work w;
        void *hold;
        ssize_t n = worker_receive(me.link, me.buffer + have, BUFFER - have, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
        int64_t took = frame_decode(me.buffer, have, &f);
        if (took == 0)
            continue;
        if (took < 0 || f.kind != MESSAGE_START || work_decode(f.body, f.size, &w, &hold))
            break;
        atomic_store(&me.page->took, w.job);
        /* The pool sends one piece of work and waits for its end, so nothing follows it but what belongs to it. */
        size_t rest = have - (size_t)took;
        if (f.id != message_id((uint32_t)w.job, 0) || (rest && !work_is_lease(&w)))
            break;
        if (w.uid != uid)
            refuse_user(&w);
        have = 0;
        if (work_is_lease(&w)) {
            job_process_drop_spare();
            do_lease(&w, me.buffer + took, rest);
        } else {
            me.leave = me.last;
            do_work(&w);
        }
        if (w.kind == WORK_PYTHON && !me.leave)
            job_process_spare(me.link);
        free(hold);
    }
    job_process_drop_spare();
    reap_all(TREE_MS);
    leave(0);
}
