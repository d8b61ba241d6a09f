/* What pool.c (slots and their work), pool_wait.c (what waits) and pool_template.c (the template process) share. Nobody
 * else includes it.
 *
 * A slot is one worker. Its life: EMPTY -> IDLE <-> BUSY -> EMPTY. A job's done() comes with the DONE or LAST frame
 * of its worker, or, where the worker died or was killed, with the template's EXITED: never before its process tree
 * is dead. Until then the slot stays BUSY. */
#ifndef PPFS_POOL_INTERNAL_H
#define PPFS_POOL_INTERNAL_H
#include "net/link.h"
#include "worker/control.h"
#include "worker/pool.h"

enum slot_state { SLOT_EMPTY, SLOT_IDLE, SLOT_BUSY };

struct slot {
    struct pool *pool;
    enum slot_state state;
    uint64_t serial;
    pid_t guard; /* 0 until SPAWNED has come */
    struct link *link;
    struct lease_page *page;
    struct slot *next_corked; /* where corked */
    bool corked;
    struct event *out[2]; /* POOL_STDOUT, POOL_STDERR */
    int out_fd[2];
    bool tainted; /* ran a call in process: what must start clean goes elsewhere */
    bool held;
    int64_t user_us, system_us; /* of the jobs that it has ended */

    uint64_t job; /* valid while BUSY, as all below */
    uint32_t attempt;
    bool killed; /* by pool_kill: its frames no longer count */
    int64_t killed_us;
    bool in_process; /* the job runs in the worker itself */
    int64_t started_us;

    bool lease;              /* the job is one; the rest is valid then */
    uint32_t sent, answered; /* the highest numbers of its calls */
    bool finished;           /* FINISH was sent */
    enum pool_stream fresh; /* output that was read, but is not yet told: answers that were sent before it come first */
    size_t fresh_size;      /* in pool.buffer; 0: none */
};

/* Work that was accepted but cannot be given to anyone: its done() comes from the loop. */
struct refusal {
    struct refusal *next;
    uint64_t job;
    struct work_outcome outcome;
};

/* Work that waits for a template. */
struct waiting {
    struct waiting *next;
    uint64_t job;
    void *bytes; /* of work_encode */
    uint32_t size;
};

struct pool {
    struct event_base *base;
    struct pool_events ev;
    void *arg;
    char *worker_path, *program;
    char *root;          /* directory for what jobs need for a while; the template makes and removes it */
    unsigned size;       /* how many may work at once */
    bool give_back;
    struct slot **slots; /* slot_count of them; each one malloc'd, so that callbacks may point to it */
    size_t slot_count;
    uint64_t next_serial;
    struct waiting *waiting;
    struct refusal *refusals, **refusals_end;
    struct event *refuse;
    struct slot *corked; /* slots whose frames wait for pool_flush */
    struct event *flush;
    uint8_t *buffer; /* for reading pipes */

    pid_t template; /* 0: none runs */
    int control;    /* -1: none */
    struct event *control_event, *retry, *sweep;
    struct event *watch; /* looks whether the template still does what it is told */
    bool up;             /* HELLO has come */
    unsigned failures;   /* starts in a row that did not come to HELLO, or did not last a second */
    int64_t template_started_us;
    char version[32];
    char trouble[CONTROL_TEXT + 64]; /* why the last one failed */
    pid_t *others;                   /* children of this process that are not the pool's, at pool_create */
    size_t other_count;
    int64_t sweep_until_us;
    unsigned sweep_quiet;
};

void pool_trouble(struct pool *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- pool_template.c: the template process --- */
int template_open(struct pool *p);    /* starts it; 0 or -errno, nothing to close then but by template_close */
void template_close(struct pool *p);  /* ends it and everything below, waits up to a few seconds */
bool template_usable(struct pool *p); /* starts one where it may; false while it is paused after failures */
int template_spawn(struct pool *p, uint64_t serial, const int fds[SPAWN_FDS]); /* sends SPAWN; fds stay the caller's */
void template_kill(struct pool *p, uint64_t serial);

/* --- pool_wait.c: accepted work that no worker has --- */
int wait_open(struct pool *p); /* 0 or -ENOMEM */
void wait_close(struct pool *p);
/* done() follows from the loop, with this end and why. 0 or -ENOMEM. */
int wait_refuse(struct pool *p, uint64_t job, const struct work_outcome *o);
int wait_refuse_start(struct pool *p, const struct work *w, int err); /* the same: no worker, for err */
/* Keeps bytes of work_encode (then its own) until a template runs. 0 or -ENOMEM. */
int wait_add(struct pool *p, uint64_t job, void *bytes, uint32_t size);
void wait_over(struct pool *p); /* a template runs: starts it all */
unsigned wait_count(const struct pool *p);
bool wait_end(struct pool *p, uint64_t job, struct work_outcome *o); /* ends it so; false when it does not wait */

/* --- pool_wait.c: leases, and the calls that wait in their workers --- */
int ahead_open(struct slot *s, int *fd); /* the worker's page; the caller closes *fd. 0 or -errno */
void ahead_close(struct slot *s);
void ahead_begin(struct slot *s);                       /* the slot's job, just given to it, is a lease */
bool ahead_told(struct slot *s, const struct frame *f); /* takes an ANSWER; false: it makes no sense */
void ahead_output(struct slot *s);                      /* tells what is fresh */

/* --- pool.c, called by pool_template.c --- */
struct slot *pool_slot(struct pool *p, uint64_t job); /* the busy one that has it, or NULL */
void pool_drain(struct slot *s);                      /* tells all output that is in the pipes */
void pool_on_spawned(struct pool *p, uint64_t serial, int value);
void pool_on_exited(struct pool *p, const struct control *c);
void pool_on_template_gone(struct pool *p, bool refused); /* every slot ends; work that waits too: LOST, or REFUSED */
#endif
