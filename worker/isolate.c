/* Python work in a process of its own. The child tells its end through a page that it shares with us, and a call's
 * value through a memfd: neither can make us wait, whatever the job does to its descriptors or its children. What
 * stands in them was written by the job, so sizes are checked and texts are cut. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

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

static _Noreturn void child_main(const struct work *w, const struct place *p, int data, struct report *report) {
    pid_t self = getpid();
    const char *step = place_enter(p);
    char why[sizeof(report->why)];

    if (step) {
        report->end = WORK_REFUSED;
        snprintf(report->why, sizeof(report->why), "the job could not %s: %s", step, strerror(errno));
        report->told = 1;
        _exit(0);
    }
    signal(SIGPIPE, SIG_IGN); /* as in python3 */
    signal(SIGXFSZ, SIG_IGN);
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

static struct report *report_page(void) {
    static struct report *shared; /* one page for the worker's whole life: its jobs come one after the other */
    if (!shared) {
        void *page = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        shared = page == MAP_FAILED ? NULL : page;
    }
    return shared;
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
    struct report *shared = report_page();
    pid_t self = getpid();
    int fds[2];

    if (spare.pid || !shared || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
        return;
    python_before_fork();
    spare.pid = fork();
    if (spare.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != self)
            _exit(0);
        close(link);
        close(fds[0]);
        python_forked();
        spare_main(fds[1], shared);
    }
    python_after_fork();
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
static pid_t use_spare(const struct work *w, const struct place *p, struct report *shared) {
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
    memset(shared, 0, sizeof(*shared));
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
    struct report *shared = report_page();
    bool call = w->kind != WORK_PYTHON;
    struct rusage usage;
    pid_t pid = -1;

    *iso = (struct isolated){.data = -1, .outcome = {.attempt = w->attempt}};
    if (call)
        iso->data = memfd_create("ppfs-result", MFD_CLOEXEC);
    if (shared)
        pid = use_spare(w, p, shared);
    if (pid < 0 && shared && (!call || iso->data >= 0)) {
        memset(shared, 0, sizeof(*shared));
        python_before_fork();
        pid = fork();
        if (pid == 0) {
            close(link);
            python_forked();
            child_main(w, p, iso->data, shared);
        }
        int saved = errno;
        python_after_fork();
        errno = saved;
    }
    if (pid < 0) {
        iso->outcome.end = WORK_REFUSED;
        snprintf(iso->outcome.why, sizeof(iso->outcome.why), "no process could be made for the job: %s",
                 strerror(errno));
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
