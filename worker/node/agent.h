/* The node's half: ppfs's come as clients, each with a session, and share one runner. What they start waits here until
 * the runner has a slot, first come, first served; what comes back is sent from each work in turn. A client that is
 * lost has its works killed. What is said is in messages.h. */
#ifndef PPFS_AGENT_H
#define PPFS_AGENT_H
#include "net/session/session.h"
#include "worker/runner/node_about.h"
#include "worker/pool/pool.h"

struct agent;
struct client;

struct agent_config {
    const char *name; /* of this node; node_name_valid */
    const char *dir;  /* where payloads are kept while they are needed, in files without a name */
    unsigned cpus;    /* slots, as the runner has them */
    uint64_t memory;  /* of the machine, 0: not known */
    struct resources resources;
    struct node_uids uids; /* users whose works it takes; none, where we are not root: all */
};

/* Called from the loop, never from inside an agent_* call. */
struct agent_events {
    void (*linked)(void *arg, uint64_t client, bool up); /* its link went, or is back */
    void (*taken)(void *arg, uint64_t client);           /* it has taken us in; this and the next may be NULL */
    void (*refused)(void *arg, uint64_t client, const char *why); /* it has not: "ADDR:PORT ..."; left() follows */
    void (*left)(void *arg, uint64_t client, bool for_good);      /* it has ended; for_good: it does not want us back */
    void (*busy)(void *arg, bool busy);                           /* there are works now, there are none any more */
    void (*python)(void *arg);                                    /* as runner_events has it, and the next */
    void (*unable)(void *arg);
    void (*log)(void *arg, const char *sentence);
};

int agent_create(struct agent **out, struct event_base *base, const struct agent_config *, const struct agent_events *,
                 void *arg);         /* 0 or -errno */
void agent_destroy(struct agent *s); /* ends all sessions; the runner is not touched; accepts NULL */

/* Events for the runner, with the agent as their arg. It is set once, before the first client. */
extern const struct runner_events agent_runner_events;
void agent_set_runner(struct agent *s, struct runner runner);

/* A fresh session. Takes it, also on failure. A number for the client, 0 without memory. */
uint64_t agent_client(struct agent *s, struct session *session);
uint64_t agent_client_of(const struct agent *s, const struct session *session); /* whose it is, 0: nobody's */

void agent_set_python(struct agent *s, const char *version);
void agent_resize(struct agent *s, unsigned cpus);
void agent_drain(struct agent *s);   /* all are asked to give no more; what comes all the same is run */
void agent_goodbye(struct agent *s); /* says that this node ends; left() follows as each has heard it */

/* Answers of workers that have enough calls ahead are gathered for up to a millisecond. While agent_gathers says so,
 * the loop may sleep for a part of that, to save wake-ups, before it sends them by agent_flush. */
bool agent_gathers(const struct agent *s);
void agent_flush(struct agent *s);

unsigned agent_works(const struct agent *s); /* under way, or with an end that is not sent yet */
unsigned agent_clients(const struct agent *s);
/* What it has done so far, for people: some lines, each with its newline. malloc'd; NULL without memory. */
char *agent_statistics(const struct agent *s);
#endif
