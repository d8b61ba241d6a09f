/* Python work with a process of its own. The child reports its end in a page that it shares with us, and a call's value
 * in a memfd: neither can make us wait, whatever the job does to its descriptors or its children. The job has written
 * both, so sizes are checked and texts are cut. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/io.h"
#include "worker/forkserver/fresh.h"
#include "worker/forkserver/program.h"
#include "worker/runner/reap.h"
#include "worker/forkserver/worker.h"

struct report {
    uint32_t told; /* the child came to its end and filled in the rest */
    uint32_t over; /* a script's: nothing is left to do but to leave, with this status and usage */
    int32_t status;
    int64_t user_us, system_us, maxrss_kib;
    uint32_t end;
    uint64_t result_size, trace_size;
    char why[sizeof(((struct work_outcome *)0)->why)];
};

static void child_call(const struct work *w, const struct job_environment *p, int data, struct report *report) {
    struct python_reply reply;

    python_call(w, p->cwd, (const char *const *)p->env, &reply);
    report->end = (uint32_t)reply.end;
    memcpy(report->why, reply.why, sizeof(report->why));
    if (io_write(data, reply.result, reply.result_size, IO_NEXT) == 0 &&
        io_write(data, reply.trace, reply.trace_size, IO_NEXT) == 0) {
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

/* The child takes on its job environment. Returns only when it has. */
static void child_enter(const struct job_environment *p, struct report *report) {
    const char *step = environment_enter(p);

    if (step) {
        report->end = WORK_REFUSED;
        snprintf(report->why, sizeof(report->why), "the job could not %s: %s", step, strerror(errno));
        report->told = 1;
        _exit(0);
    }
    if (p->other) /* the change of user has closed its files in /proc to it, and itself to its user's debugger */
        prctl(PR_SET_DUMPABLE, 1);
    signal(SIGPIPE, SIG_IGN); /* as in python3 */
    signal(SIGXFSZ, SIG_IGN);
}

/* Whether this process has no child and no second thread: then only the kernel's work on its own end is left. */
static bool alone(void) {
    struct stat tasks;

    while (waitpid(-1, NULL, WNOHANG) > 0)
        continue;
    return errno == ECHILD && stat("/proc/self/task", &tasks) == 0 && tasks.st_nlink == 3;
}

static int64_t both_us(struct timeval a, struct timeval b) {
    return (a.tv_sec + b.tv_sec) * INT64_C(1000000) + a.tv_usec + b.tv_usec;
}

/* Reports the end early: taking down an interpreter takes as long as many a script. */
static void tell_end(int status, int wake, struct report *report) {
    struct rusage self, children;

    if (wake < 0 || !alone() || getrusage(RUSAGE_SELF, &self) || getrusage(RUSAGE_CHILDREN, &children))
        return;
    report->status = status & 0xff;
    report->user_us = both_us(self.ru_utime, children.ru_utime);
    report->system_us = both_us(self.ru_stime, children.ru_stime);
    report->maxrss_kib = self.ru_maxrss > children.ru_maxrss ? self.ru_maxrss : children.ru_maxrss;
    report->over = 1;
    if (write(wake, "", 1) < 0)
        return; /* our exit wakes it */
}

/* Runs w in this process, which is its own. wake: gets a byte when the report is whole; -1: none. */
static _Noreturn void child_main(const struct work *w, const struct job_environment *p, int data, int wake,
                                 struct report *report) {
    pid_t self = getpid();
    char why[sizeof(report->why)];

    if (w->kind != WORK_PYTHON)
        child_call(w, p, data, report);
    int status = python_script(w, p->script, p->cwd, (const char *const *)p->env, why, sizeof(why));
    if (getpid() == self) { /* otherwise a process that the script forked has reached its end here */
        memcpy(report->why, why, sizeof(report->why));
        report->told = 1;
        tell_end(status, wake, report);
    }
    _exit(status);
}

/* Whether the memfd holds what the report says. */
static bool report_fits(const struct report *report, int data) {
    struct stat st;
    return fstat(data, &st) == 0 && report->result_size <= (uint64_t)st.st_size &&
           report->trace_size <= (uint64_t)st.st_size - report->result_size;
}

static void take_report(const struct work *w, const struct report *shared, struct job_process *iso) {
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

/* The worker's one page, emptied: its jobs run one after the other. NULL: no memory. */
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

/* --- the spare --------------------------------------------------------------------------------------------------- */
/* A script needs a process of its own, and the copies of pages that a fork costs take longer than most scripts. So an
 * idle worker forks the process of the next script ahead, after one script. That process rehearses (scripts.py), which
 * copies the pages that every script touches, and waits for its work on a socket. */
static struct {
    pid_t pid;     /* 0: there is none */
    int fd, pidfd; /* pidfd: -1 where the kernel has none; then the process is waited for */
} spare = {.fd = -1, .pidfd = -1};

static _Noreturn void spare_main(int fd, struct report *report) {
    struct work w;
    struct job_environment p;
    uint32_t size;
    void *bytes, *hold;

    python_rehearse();
    if (io_read(fd, &size, sizeof(size), IO_NEXT) != sizeof(size) || !(bytes = malloc(size)) ||
        io_read(fd, bytes, size, IO_NEXT) != size || work_decode(bytes, size, &w, &hold))
        _exit(0);
    if (environment_open(&p, &w, report->why, sizeof(report->why))) {
        report->end = WORK_REFUSED;
        report->told = 1;
        _exit(0);
    }
    p.script = (char *)w.file;
    child_enter(&p, report);
    child_main(&w, &p, -1, fd, report);
}

void job_process_spare(int link) {
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
        close(fds[0]);
        worker_part();
        dup3(fds[1], link, O_CLOEXEC); /* a high number is in no script's way */
        close(fds[1]);
        spare_main(link, shared);
    }
    close(fds[1]);
    if (spare.pid < 0) {
        spare.pid = 0;
        close(fds[0]);
        return;
    }
    spare.fd = fds[0];
    spare.pidfd = pidfd_open(spare.pid, 0);
}

static void close_spare(void) {
    close(spare.fd);
    if (spare.pidfd >= 0)
        close(spare.pidfd);
    spare.fd = spare.pidfd = -1;
}

void job_process_drop_spare(void) {
    if (!spare.pid)
        return;
    close_spare();
    kill(spare.pid, SIGKILL);
    while (waitpid(spare.pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    spare.pid = 0;
}

/* Hands a script to the spare. Returns its process; -1: there is no spare, or the script is not for one. */
static pid_t use_spare(const struct work *w, const struct job_environment *p) {
    struct work there = *w;
    struct iovec parts[2];
    void *bytes = NULL;
    uint32_t size;
    pid_t pid = spare.pid;

    there.cwd = p->cwd; /* a directory that was made for the job is there already */
    if (p->script) {    /* the spare reads the source there */
        there.file = p->script;
        there.payload = NULL;
        there.payload_size = 0;
    }
    if (!pid || w->kind != WORK_PYTHON || (w->file && !p->script) || work_encode(&there, &bytes, &size)) {
        job_process_drop_spare();
        return -1;
    }
    parts[0] = (struct iovec){&size, sizeof(size)};
    parts[1] = (struct iovec){bytes, size};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent = sendmsg(spare.fd, &message, MSG_NOSIGNAL);
    free(bytes);
    if (sent != (ssize_t)(sizeof(size) + size)) { /* it died of something */
        job_process_drop_spare();
        return -1;
    }
    spare.pid = 0;
    return pid;
}

/* Whether pid is our only child: what a script left behind would be another. */
static bool only_child(pid_t pid) {
    char text[64], want[16];

    if (io_read_text("/proc/thread-self/children", text, sizeof(text)) < 0) /* a kernel that does not list them */
        return false;
    snprintf(want, sizeof(want), "%d ", (int)pid);
    return strcmp(text, want) == 0;
}

/* Waits for the spare's script to end. True: it has reported its end, and its process is still to be reaped. */
static bool await_end(pid_t pid, const struct report *shared, struct job_process *iso) {
    struct pollfd polled[2] = {{.fd = spare.fd, .events = POLLIN}, {.fd = spare.pidfd, .events = POLLIN}};
    struct report r;

    while (spare.pidfd >= 0 && poll(polled, 2, -1) < 0 && errno == EINTR)
        continue;
    close_spare();
    if (!(polled[0].revents & POLLIN) || !only_child(pid))
        return false;
    r = *shared;
    if (!r.over || r.user_us < 0 || r.system_us < 0 || r.maxrss_kib < 0)
        return false;
    iso->outcome.end = r.status & 0xff ? WORK_EXITED : WORK_DONE;
    iso->outcome.status = r.status & 0xff;
    iso->outcome.user_us = r.user_us;
    iso->outcome.system_us = r.system_us;
    iso->outcome.maxrss_kib = r.maxrss_kib;
    if (r.status & 0xff)
        snprintf(iso->outcome.why, sizeof(iso->outcome.why), "exit status %d", r.status & 0xff);
    iso->left = pid;
    return true;
}

bool job_process_bury(struct job_process *iso, unsigned max_ms) {
    struct rusage usage;

    if (iso->left <= 0)
        return true;
    kill(iso->left, SIGKILL); /* it has reported its end */
    reap_until(iso->left, &usage);
    iso->left = 0;
    return reap_all(max_ms); /* and that it had no children */
}

/* Runs w in a fresh interpreter, and copies its report to *told. line: of a lease. */
static void run_fresh(const struct work *w, const struct job_environment *p, int data, const struct lease_line *line,
                      struct report *told, struct work_outcome *o) {
    struct fresh_files files = {.data = data, .link = line ? line->link : -1, .page = line ? line->page_file : -1};

    files.report = memfd_create("ppfs-report", MFD_CLOEXEC);
    if (files.report < 0 || ftruncate(files.report, sizeof(*told))) {
        no_process(o);
    } else {
        fresh_run(w, p, p->script, &files, line ? line->rest : NULL, line ? line->rest_size : 0, o);
        if (pread(files.report, told, sizeof(*told), 0) != (ssize_t)sizeof(*told))
            told->told = 0;
    }
    if (files.report >= 0)
        close(files.report);
}

/* Runs w in a fork of this interpreter and waits for it. False: it has reported its end early, and take_report has the
 * rest. */
static bool run_copy(const struct work *w, const struct job_environment *p, struct job_process *iso,
                     struct report **told) {
    struct report *shared = *told = empty_report();
    struct rusage usage;
    pid_t pid = shared ? use_spare(w, p) : -1;

    if (pid > 0 && await_end(pid, shared, iso))
        return false;
    if (pid < 0 && shared)
        pid = fork_python();
    if (pid == 0) {
        worker_part();
        child_enter(p, shared);
        child_main(w, p, iso->data, -1, shared);
    }
    if (pid < 0) {
        no_process(&iso->outcome);
    } else {
        int status = reap_until(pid, &usage);
        program_outcome(status, &usage, &iso->outcome);
    }
    return true;
}

void job_process_run(const struct work *w, const struct job_environment *p, struct job_process *iso) {
    bool call = w->kind != WORK_PYTHON;
    struct report fresh = {0}, *told = &fresh;

    *iso = (struct job_process){.data = -1, .outcome = {.attempt = w->attempt}};
    if (call && (iso->data = memfd_create("ppfs-result", MFD_CLOEXEC)) < 0) {
        no_process(&iso->outcome);
        return;
    }
    if (fresh_wanted(w)) {
        job_process_drop_spare();
        run_fresh(w, p, iso->data, NULL, &fresh, &iso->outcome);
    } else if (!run_copy(w, p, iso, &told)) {
        take_report(w, told, iso);
        return;
    }
    if (!told || iso->outcome.end == WORK_REFUSED)
        return;
    take_report(w, told, iso);
    if (!call || iso->outcome.end == WORK_SIGNALED || told->told)
        return;
    /* A call that leaves by os._exit(0) has failed. */
    iso->outcome.end = WORK_EXITED;
    snprintf(iso->outcome.why, sizeof(iso->outcome.why), "the call ended its process with exit status %d",
             iso->outcome.status);
}

/* --- a lease with a process of its own ---------------------------------------------------------------------------- */
/* In a process of its own that has entered its job environment. */
static _Noreturn void child_lease(const struct work *w, const struct job_environment *p, const struct lease_line *line,
                                  struct report *report) {
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* so that it finds what its calls leave behind */
    worker_note(line->link);
    python_begin_lease(w, p->cwd, (const char *const *)p->env);
    report->end = WORK_DONE;
    report->told = lease_run(line, p->cwd);
    _exit(0);
}

void job_process_lease(const struct work *w, const struct job_environment *p, const struct lease_line *line,
                       struct work_outcome *o) {
    struct report fresh = {0}, *told = &fresh;
    struct rusage usage;

    if (fresh_wanted(w)) {
        run_fresh(w, p, -1, line, &fresh, o);
    } else {
        told = empty_report();
        pid_t pid = told ? fork_python() : -1;
        if (pid == 0) {
            close(line->page_file); /* what is mapped needs none */
            child_enter(p, told);
            child_lease(w, p, line, told);
        }
        if (pid < 0) {
            no_process(o);
            return;
        }
        int status = reap_until(pid, &usage);
        program_outcome(status, &usage, o);
    }
    if (o->end == WORK_SIGNALED || o->end == WORK_REFUSED)
        return;
    if (told->told && told->end == WORK_REFUSED) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "%.*s", (int)sizeof(told->why) - 1, told->why);
    } else if (!told->told) { /* a call has ended the process */
        o->end = WORK_EXITED;
        snprintf(o->why, sizeof(o->why), "the call ended its process with exit status %d", o->status);
    }
}

/* --- in a Python of its own --------------------------------------------------------------------------------------- */
void job_process_fresh(int argc, char **argv) {
    static struct fresh f;
    struct report *report = MAP_FAILED;
    struct lease_page *page = NULL;

    prctl(PR_SET_NAME, "ppfs-worker");
    if (fresh_open(&f, argc, argv))
        report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED, f.files.report, 0);
    if (report != MAP_FAILED && f.files.page >= 0)
        page = mmap(NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, f.files.page, 0);
    if (report == MAP_FAILED || page == MAP_FAILED) {
        fprintf(stderr, "ppfs-worker: ppfs starts this program by itself; run ppfs instead\n");
        _exit(2);
    }
    close(f.files.report); /* what is mapped needs no descriptor, and the job is to find none */
    if (page)
        close(f.files.page);
    if (python_start_fresh(f.program, f.locale, report->why, sizeof(report->why))) {
        report->end = WORK_REFUSED;
        report->told = 1;
        _exit(0);
    }
    python_begin_worker();
    f.environment.env = (char **)f.work.env;
    if (!page)
        child_main(&f.work, &f.environment, f.files.data, -1, report);
    struct lease_line line = {f.files.link, -1, page, f.rest, f.rest_size};
    child_lease(&f.work, &f.environment, &line, report);
}
