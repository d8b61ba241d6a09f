/* What the tests of nodes share: a registry and one or two nodes (hub, agent, a pool of real workers) in one process
 * and one loop, over real connections on loopback. $PPFS_WORKER, else ./ppfs-worker. */
#ifndef PPFS_NODERIG_H
#define PPFS_NODERIG_H
#include "tests/unit/netrig.h"
#include "worker/runner/messages.h"
#include "worker/runner/node_about.h"
#include "worker/remote/registry.h"
#include "worker/runner/redial.h"
#include "worker/node/agent.h"

#define MEMORY (5ull << 32 | 7) /* of each node, it says */
enum { JOBS = 64, CALLS = 3000, KEEP = 512, SLOTS = 2 };
struct job {
    bool done;
    struct work_outcome outcome;
    size_t size[4];
    uint32_t sum; /* of the result's bytes */
    char text[4][KEEP];
    unsigned order; /* how many were done before it */
};

struct call {
    bool answered;
    enum answer_kind kind;
    size_t size;
    char text[KEEP];
};

/* One node, as ppfs-node is made. */
struct node {
    const char *name, *dir;
    unsigned cpus;
    struct tls *tls;
    struct hub *hub;
    struct agent *agent;
    struct pool *pool;
    struct dials dials;
    struct redial *redial;
    bool left, for_good, busy;
    unsigned links, clients;
};

struct fixture {
    struct tls *tls;
    struct registry *registry;
    struct remote *remote[2]; /* as they came up */
    char gone[2][256];
    unsigned up, changes, done_count, needs, recalls;
    uint32_t recalled, answers, last_answer;
    bool room, stay_away;
    struct node node[2];
    struct job jobs[JOBS];
    struct call calls[CALLS];
    const char *function;
    size_t function_size;
    struct runner runner;               /* of the first */
    char trouble[1024], node_log[1024]; /* why the last client of a node has gone */
    const char *via;                    /* what nodes dial; NULL: the registry itself */
};

#define REMOTE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

extern struct fixture fix;
extern const struct runner_events runner_events;
extern const char sleeper[];

void *on_up(void *arg, struct remote *remote);
void on_changed(void *node, struct remote *remote);
void on_gone(void *node, struct remote *remote, const char *reason);
void on_log(void *arg, const char *sentence);
/* With the key of node_of(KEY_A). */
void let_nodes_in(struct registry *f);
void make_registry(unsigned silence_ms);
void node_connected(void *arg, struct tls_conn *conn);
void node_dial_failed(void *arg, const char *reason);
void make_node(struct node *n, const char *name, unsigned silence_ms);
void end_node(struct node *n);
void wait_up(unsigned i);
int setup(void **state);
int teardown(void **state);
void one_node(void);
struct work work_of(uint64_t id, enum work_kind kind, const char *text);
void begin(uint64_t id, enum work_kind kind, const char *text);
void begin_file(uint64_t id, enum work_kind kind, const char *file);
struct job *ended(uint64_t id);
void assert_end(const struct job *j, enum work_end end, const char *part);
bool has_output(void *arg);
bool flag(void *arg);
bool is_gone(void *arg);
void json(uint32_t number, const char *format, unsigned a);
#endif
