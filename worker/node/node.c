/* The life of ppfs-node: it gets connections (those it dials, those that dial it), greets with them through one hub,
 * and each session that comes of it is a client of agent.c, whose works its own pool of workers runs.
 *
 * It leaves when it is told to (SIGTERM), when it had nothing to do for --idle-exit, or when it only joins and the last
 * ppfs has let it go. Leaving is always the same: give no more, wait until nothing runs, say goodbye, wait for it to be
 * heard. */
#include "worker/node/node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "net/complaints.h"
#include "net/event.h"
#include "net/peer/discover.h"
#include "net/peer/peer.h"
#include "net/states.h"
#include "net/trusted.h"
#include "worker/runner/cpus.h"
#include "worker/runner/network.h"
#include "worker/runner/redial.h"

enum { GOODBYE_S = 2 /* for a goodbye to be heard */, SIGNALS = 5, GATHER_NS = 100000 };

struct join { /* an address that is kept dialled */
    struct node *node;
    struct redial *redial; /* NULL: that ppfs has let us go */
    bool greeting, told;   /* told: that it cannot be reached was logged, or (refused) that it does not want us */
    bool refused;
    uint64_t client; /* 0: nobody is there */
};

struct node {
    const struct node_args *args;
    struct event_base *base;
    struct node_key key;
    char name[NODE_NAME];
    struct tls *tls;
    struct proxy *proxy;
    struct hub *hub;
    struct peer_listener *listener;
    struct discover *discover;
    struct agent *agent;
    struct pool *pool;
    struct join joins[NODE_JOINS];
    struct dials dials;
    struct event *signals[SIGNALS], *idle, *end;
    atomic_bool trace; /* transitions are written (net/states.h) */
    unsigned cpus;     /* slots */
    bool leaving, parting, stopped;
    int status; /* what the program ends with */
    bool able;  /* its workers' Python has come up: only then it offers to work */
    char trouble[1024];
    struct complaints complaints;
};

/* --- leaving ----------------------------------------------------------------------------------------------------- */
static void stop(struct node *n) {
    n->stopped = true;
    event_base_loopbreak(n->base);
}

/* The next step of leaving, if it is time for it. */
static void leave_on(struct node *n) {
    static const struct timeval patience = {.tv_sec = GOODBYE_S};

    if (!n->leaving || agent_works(n->agent))
        return;
    if (!agent_clients(n->agent)) {
        stop(n);
    } else if (!n->parting) {
        n->parting = true;
        agent_goodbye(n->agent);
        event_add(n->end, &patience);
    }
}

static void on_end(evutil_socket_t fd, short what, void *arg) {
    stop(arg);
}

static void leave(struct node *n, const char *why) {
    if (n->leaving)
        return;
    if (!n->able) { /* nobody knows of it yet */
        stop(n);
        return;
    }
    n->leaving = true;
    node_say("%s; it takes no more and leaves when nothing runs (%u works under way)", why, agent_works(n->agent));
    agent_drain(n->agent);
    leave_on(n);
}

static void on_idle(evutil_socket_t fd, short what, void *arg) {
    leave(arg, "there was nothing to do");
}

static void rest(struct node *n, bool idle) {
    struct timeval pause = {.tv_sec = n->args->idle_exit_s};

    if (!n->args->idle_exit_s)
        return;
    if (idle)
        event_add(n->idle, &pause);
    else
        event_del(n->idle);
}

/* --- signals ----------------------------------------------------------------------------------------------------- */
static void on_leave_signal(evutil_socket_t fd, short what, void *arg) {
    struct node *n = arg;

    if (n->leaving)
        stop(n);
    else
        leave(n, "asked to leave");
}

static void on_hangup(evutil_socket_t fd, short what, void *arg) {
    node_say("its terminal has gone; it leaves at once");
    stop(arg);
}

static void on_statistics(evutil_socket_t fd, short what, void *arg) {
    struct node *n = arg;
    char *text = agent_statistics(n->agent);

    if (text)
        fputs(text, stderr);
    free(text);
}

static void on_trace(evutil_socket_t fd, short what, void *arg) {
    struct node *n = arg;

    atomic_store(&n->trace, !atomic_load(&n->trace));
    node_say("transitions are traced%s", atomic_load(&n->trace) ? "" : " no longer");
}

static void write_trace(const char *sentence) {
    node_say("%s", sentence);
}

static int watch_signals(struct node *n) {
    static const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
    static const event_callback_fn calls[SIGNALS] = {on_leave_signal, on_leave_signal, on_hangup, on_statistics,
                                                     on_trace};

    states_trace(&n->trace, write_trace);
    signal(SIGPIPE, SIG_IGN);
    for (int i = 0; i < SIGNALS; i++) {
        n->signals[i] = evsignal_new(n->base, numbers[i], calls[i], n);
        if (!n->signals[i] || event_add(n->signals[i], NULL))
            return -ENOMEM;
    }
    return 0;
}

/* --- dialling ---------------------------------------------------------------------------------------------------- */
/* Tells it once, until that ppfs was there again: the address is tried for ever. */
static void tell_failure(struct join *j, const char *why) {
    if (!j->told)
        node_say("%s; it goes on trying", why);
    j->told = true;
}

static void on_connected(void *arg, struct tls_conn *conn) {
    struct join *j = arg;
    int err = hub_greet(j->node->hub, conn, redial_address(j->redial), j);

    j->greeting = !err;
    if (err) {
        redial_later(j->redial);
        tell_failure(j, hub_greet_error(err));
    }
}

static void on_dial_failed(void *arg, const char *why) {
    tell_failure(arg, why);
}

static void join_end(struct join *j) {
    if (j->greeting)
        hub_forget(j->node->hub, j);
    j->greeting = false;
    redial_destroy(j->redial);
    j->redial = NULL;
}

static int dial_all(struct node *n) {
    static const struct redial_events events = {.connected = on_connected, .failed = on_dial_failed};
    int err = 0;

    dials_init(&n->dials);
    for (unsigned i = 0; i < n->args->join_count && !err; i++) {
        struct join *j = &n->joins[i];
        j->node = n;
        err = redial_create(&j->redial, n->base, n->tls, &n->dials, n->args->joins[i], false, &events, j);
        if (!err)
            redial_now(j->redial);
    }
    return err;
}

/* --- sessions ---------------------------------------------------------------------------------------------------- */
static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    struct node *n = arg;
    struct join *j = tag;
    uint64_t client = fresh ? agent_client(n->agent, s) : agent_client_of(n->agent, s);

    if (!j)
        return;
    j->greeting = false;
    j->told = j->told && fresh;
    j->client = client;
    if (client)
        redial_calm(j->redial);
    else
        redial_later(j->redial);
}

/* why: it begins with the address, of which who has a network has many. */
static void not_served(struct node *n, const char *why) {
    char sentence[1024];

    snprintf(sentence, sizeof(sentence), "a ppfs that dialled us was not served: %.900s", why);
    if (complaints_tell_of(&n->complaints, why, COMPLAINTS_NODE, sentence, sizeof(sentence)) &&
        complaints_tell(&n->complaints, "such", COMPLAINTS_ADDRESS, sentence, sizeof(sentence)))
        node_say("%s", sentence);
}

static void on_greet_failed(void *arg, void *tag, const char *why) {
    struct join *j = tag;

    if (!j) {
        not_served(arg, why);
        return;
    }
    j->greeting = false;
    redial_later(j->redial);
    tell_failure(j, why);
}

static struct join *join_of(struct node *n, uint64_t client) {
    for (unsigned i = 0; i < n->args->join_count; i++)
        if (n->joins[i].client == client && n->joins[i].redial)
            return &n->joins[i];
    return NULL;
}

static void on_taken(void *arg, uint64_t client) {
    struct join *j = join_of(arg, client);

    if (j)
        j->told = j->refused = false;
}

static void on_refused(void *arg, uint64_t client, const char *why) {
    struct join *j = join_of(arg, client);

    if (!j) {
        not_served(arg, why);
        return;
    }
    redial_refused(j->redial);
    j->told = j->told && j->refused;
    j->refused = true;
    tell_failure(j, why);
}

static void on_linked(void *arg, uint64_t client, bool up) {
    struct node *n = arg;

    for (unsigned i = 0; !up && i < n->args->join_count; i++)
        if (n->joins[i].client == client && n->joins[i].redial && !n->joins[i].greeting)
            redial_again(n->joins[i].redial);
}

static void on_left(void *arg, uint64_t client, bool for_good) {
    struct node *n = arg;
    unsigned left = 0;

    for (unsigned i = 0; i < n->args->join_count; i++) {
        struct join *j = &n->joins[i];
        if (j->client == client) {
            j->client = 0;
            if (for_good)
                join_end(j);
            else if (!j->greeting)
                redial_later(j->redial);
        }
        left += j->redial != NULL;
    }
    if (for_good && !left && !n->listener)
        leave(n, "the last ppfs has let it go");
    leave_on(n);
}

static void on_busy(void *arg, bool busy) {
    struct node *n = arg;

    rest(n, !busy);
    leave_on(n);
}

static void on_python(void *arg) {
    struct node *n = arg;
    n->able = true;
    agent_set_python(n->agent, pool_python(n->pool));
}

/* Whatever it would be given from now on would only be lost here. */
static void on_unable(void *arg) {
    struct node *n = arg;

    if (!n->able)
        return;
    node_say("its workers cannot be started any more; it leaves at once");
    n->status = 1;
    stop(n);
}

static void on_log(void *arg, const char *sentence) {
    struct node *n = arg;

    if (n->able)
        node_say("%s", sentence);
    else /* there are no clients yet: it is the pool's */
        snprintf(n->trouble, sizeof(n->trouble), "%s", sentence);
}

static void on_accepted(void *arg, struct tls_conn *conn, const char *address) {
    hub_accept(((struct node *)arg)->hub, conn, address);
}

/* --- its start --------------------------------------------------------------------------------------------------- */
/* Opens the listener, and answers discovery. */
static int open_doors(struct node *n, char *why, size_t size) {
    static const struct peer_listener_events listener = {.accepted = on_accepted, .refused = on_log};
    static const struct discover_events discover = {.refused = on_log};
    const struct node_args *a = n->args;
    const char *anybody = a->discover ? "[::]:0" : NULL, *listen = a->listen ? a->listen : anybody;
    int err = 0;

    if (listen)
        err = peer_listen(&n->listener, n->base, n->tls, listen, &listener, n, why, size);
    if (err && !a->listen) /* no IPv6 here */
        err = peer_listen(&n->listener, n->base, n->tls, "0.0.0.0:0", &listener, n, why, size);
    if (!err && a->discover) {
        const char *port = strrchr(peer_listener_address(n->listener), ':') + 1;
        err = discover_create(&n->discover, n->base, n->tls, a->where, hub_shown(n->hub), (uint16_t)atoi(port),
                              &discover, n, why, size);
    }
    return err;
}

/* Waits for the workers' Python. A node that offered to work without would fail every job that it is given. */
static int wait_able(struct node *n, char *why, size_t size) {
    while (!n->able && !n->trouble[0] && !n->stopped)
        event_base_loop(n->base, EVLOOP_ONCE);
    snprintf(why, size, "%s", n->stopped ? "it was stopped before its workers were ready" : n->trouble);
    return n->able ? 0 : -EIO;
}

static void on_net_log(void *arg, const char *sentence) {
    node_say("%s", sentence);
}

static int start(struct node *n, char *why, size_t size) {
    static const struct hub_events hub_events = {.greeted = on_greeted, .failed = on_greet_failed};
    static const struct agent_events agent_events = {.linked = on_linked,
                                                     .taken = on_taken,
                                                     .refused = on_refused,
                                                     .left = on_left,
                                                     .busy = on_busy,
                                                     .python = on_python,
                                                     .unable = on_unable,
                                                     .log = on_log};
    const struct node_args *a = n->args;
    struct agent_config agent = {.name = n->name,
                                 .dir = trusted_temporary(),
                                 .cpus = n->cpus,
                                 .memory = cpus_memory(),
                                 .resources = a->resources,
                                 .uids = a->uids};
    struct hub_config hub = {.side = TLS_NODE, .silence_ms = a->silence_ms, .node = &n->key};

    snprintf(why, size, "not enough memory");
    n->base = event_base_new();
    if (!n->base)
        return -ENOMEM;
    n->idle = evtimer_new(n->base, on_idle, n);
    n->end = evtimer_new(n->base, on_end, n);
    int err = n->idle && n->end ? watch_signals(n) : -ENOMEM;
    if (!err)
        err = trusted_temporary_check(why, size);
    if (!err)
        err = node_tls(a, &n->key, n->name, &n->tls, why, size);
    if (!err)
        err = network_create(&n->proxy, n->base, n->tls, on_net_log, n, why, size);
    if (!err)
        err = hub_create(&n->hub, n->base, &hub, &hub_events, n);
    if (!err)
        err = agent_create(&n->agent, n->base, &agent, &agent_events, n);
    if (!err)
        err = node_pool(a, n->cpus, n->base, n->agent, &n->pool, why, size);
    if (!err)
        err = wait_able(n, why, size);
    if (!err)
        err = open_doors(n, why, size);
    if (!err)
        err = dial_all(n);
    if (!err && a->pid_file)
        err = node_pid_file(a->pid_file, why, size);
    return err;
}

static void end(struct node *n) {
    for (unsigned i = 0; i < n->args->join_count; i++)
        if (n->joins[i].node)
            join_end(&n->joins[i]);
    discover_destroy(n->discover);
    peer_listener_destroy(n->listener);
    agent_destroy(n->agent);
    pool_destroy(n->pool);
    hub_destroy(n->hub);
    proxy_destroy(n->proxy);
    tls_destroy(n->tls);
    for (int i = 0; i < SIGNALS; i++)
        event_drop(n->signals[i]);
    event_drop(n->idle);
    event_drop(n->end);
    if (n->base)
        event_base_free(n->base);
}

/* While workers have calls ahead their answers come one by one, each a wake-up: then it looks only now and then. */
static void turn(struct node *n) {
    static const struct timespec moment = {.tv_nsec = GATHER_NS};

    event_base_loop(n->base, EVLOOP_ONCE);
    while (!n->stopped && agent_gathers(n->agent)) {
        nanosleep(&moment, NULL);
        event_base_loop(n->base, EVLOOP_NONBLOCK);
        agent_flush(n->agent);
    }
}

int node_run(const struct node_args *a) {
    static struct node node; /* large, and there is one */
    struct node *n = &node;
    char why[1024];

    n->args = a;
    n->cpus = node_slots(a->cpus);
    prctl(PR_SET_CHILD_SUBREAPER, 1); /* this process kills what a dying fork server leaves */
    if (start(n, why, sizeof(why))) {
        node_say("%s", why);
        end(n);
        return 1;
    }
    node_say("%s is ready with %u slots%s%s", n->name, n->cpus, n->listener ? ", listening at " : "",
             n->listener ? peer_listener_address(n->listener) : "");
    rest(n, true);
    while (!n->stopped)
        turn(n);
    node_say("%s leaves", n->name);
    if (a->pid_file)
        unlink(a->pid_file);
    end(n);
    return n->status;
}
