/* Files that travel with a job, into its directory and out of it, by files.py: each in a child that has the job's
 * user and directory, and where it takes what a job made, its sandbox. What a job with sandbox= gives is laid out
 * outside of it, for its writer has named that. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/forkserver/worker.h"
#include "worker/runner/reap.h"

/* What the child says: nothing where all went well. */
struct told {
    uint32_t whole;
    char why[sizeof(((struct work_outcome *)0)->why)];
};

static _Noreturn void child(const struct work *w, struct job_environment *p, bool out, int fd, struct told *told) {
    p->memory = 0; /* that is the job's, not Python's */
    const char *step = environment_enter(p);

    if (step)
        snprintf(told->why, sizeof(told->why), "it could not %s: %s", step, strerror(errno));
    else
        python_travel(out, fd, out == w->files_out ? w->files : NULL, told->why, sizeof(told->why));
    told->whole = 1;
    _exit(0);
}

/* True: done. Else o has what was in the way. */
static bool travel(const struct work *w, const struct job_environment *p, bool out, int fd, struct work_outcome *o) {
    struct told *told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct job_environment own = *p;
    const char *why = "no process could be made for it";
    struct rusage usage;

    python_before_fork();
    pid_t pid = told != MAP_FAILED ? fork() : -1;
    if (pid == 0) {
        python_forked(); /* what is open closes with it, soon, and it starts no program */
        child(w, &own, out, fd, told);
    }
    python_after_fork();
    if (pid > 0) {
        reap_until(pid, &usage);
        told->why[sizeof(told->why) - 1] = 0;
        why = told->whole ? told->why : "its process was killed";
    }
    bool fine = !*why;
    if (!fine) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "%s: %.400s",
                 out ? "its files could not be taken" : "its files could not be laid out", why);
    }
    if (told != MAP_FAILED)
        munmap(told, sizeof(*told));
    return fine;
}

bool job_files_in(const struct work *w, const struct job_environment *p, int fd, struct work_outcome *o) {
    return travel(w, p, false, fd, o);
}

int job_files_out(const struct work *w, const struct job_environment *p, uint64_t *size, struct work_outcome *o) {
    int fd = environment_file();
    struct stat st;

    if (fd < 0) {
        o->end = WORK_REFUSED;
        snprintf(o->why, sizeof(o->why), "there is no room for the files that it gives: %s", strerror(errno));
        return -1;
    }
    if (travel(w, p, true, fd, o) && fstat(fd, &st) == 0) {
        *size = (uint64_t)st.st_size;
        return fd;
    }
    close(fd);
    return -1;
}
