#include "worker/runner/network.h"

#include "worker/runner/reap.h"
#include "worker/runner/where.h"

static void on_child(void *arg, pid_t pid, bool runs) {
    reap_spare(pid, runs);
}

int network_create(struct proxy **out, struct event_base *base, struct tls *tls,
                   void (*log)(void *arg, const char *sentence), void *arg, char *why, size_t why_size) {
    struct proxy_events events = {.log = log, .child = on_child};
    char program[PATH_MAX];

    where_net(program);
    return proxy_create(out, base, tls, program, &events, arg, why, why_size);
}
