/* The node's half: ppfs's come as guests, each with a session, and share one runner. What they start waits here until
 * the runner has a slot, first come, first served; what comes back is sent from each work in turn. A guest that is lost
 * has its works killed. What is said is in far_proto.h; worker/README.md tells it in full. */
#ifndef PPFS_SERVE_H
#define PPFS_SERVE_H
#include "net/session/session.h"
#include "worker/runner/far_proto.h"
#include "worker/pool/pool.h"

struct serve;
struct guest;

struct serve_config {
    const char *name;     /* of this node; far_name_valid */
    const char *dir;      /* where payloads are kept while they are needed, in files without a name */
    unsigned cpus;        /* slots, as the runner has them */
    uint64_t memory;      /* of the machine, 0: not known */
    struct far_uids uids; /* users whose works it takes; none, where we are not root: all */
};

/* Called from the loop, never from inside a serve_* call. */
struct serve_events {
    void (*linked)(void *arg, uint64_t guest, bool up);          /* its link went, or is back */
    void (*taken)(void *arg, uint64_t guest);                    /* it has taken us in; may be NULL, and the next */
    void (*refused)(void *arg, uint64_t guest, const char *why); /* it has not: "ADDR:PORT ..."; left() follows */
    void (*left)(void *arg, uint64_t guest, bool for_good);      /* it has ended; for_good: it does not want us back */
    void (*busy)(void *arg, bool busy);                          /* there are works now, there are none any more */
    void (*python)(void *arg);                                   /* as pool_events has it, and the next */
    void (*unable)(void *arg);
    void (*log)(void *arg, const char *sentence);
};

int serve_create(struct serve **out, struct event_base *base, const struct serve_config *, const struct serve_events *,
                 void *arg);         /* 0 or -errno */
void serve_destroy(struct serve *s); /* ends all sessions; the runner is not touched; accepts NULL */

/* Events for the runner, with the serve as their arg. It is set once, before the first guest. */
extern const struct pool_events serve_runner_events;
void serve_set_runner(struct serve *s, struct runner runner);

/* A fresh session. Takes it, also on failure. A number for the guest, 0 without memory. */
uint64_t serve_guest(struct serve *s, struct session *session);
uint64_t serve_guest_of(const struct serve *s, const struct session *session); /* whose it is, 0: nobody's */

void serve_set_python(struct serve *s, const char *version);
void serve_resize(struct serve *s, unsigned cpus);
void serve_drain(struct serve *s);   /* all are asked to give no more; what comes all the same is run */
void serve_goodbye(struct serve *s); /* says that this node ends; left() follows as each has heard it */

/* Answers of workers that have enough calls ahead are gathered for a moment, up to a millisecond. Who runs the loop may
 * spare this machine its wake-ups by sleeping for some of that (serve_gathers), and then sends them (serve_flush). */
bool serve_gathers(const struct serve *s);
void serve_flush(struct serve *s);

unsigned serve_works(const struct serve *s); /* under way, or with an end that is not sent yet */
unsigned serve_guests(const struct serve *s);
/* What it has done so far, for people: some lines, each with its newline. malloc'd; NULL without memory. */
char *serve_statistics(const struct serve *s);
#endif
