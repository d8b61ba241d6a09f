/* Counts of a node's work so far, for people. */
#include <stdio.h>

#include "net/clock.h"
#include "worker/node/agent_internal.h"

char *agent_statistics(const struct agent *s) {
    const struct client *g;
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);

    if (!f)
        return NULL;
    fprintf(f, "%s: %u slots, %u works under way, up %lld s%s\n", s->name, s->cpus, s->works,
            (long long)(clock_us() - s->began_us) / 1000000, s->draining ? ", draining" : "");
    fprintf(f, "in all: %llu works begun, %llu done, %llu failed; %llu calls\n", (unsigned long long)s->started,
            (unsigned long long)s->done, (unsigned long long)s->failed, (unsigned long long)s->calls);
    LIST_FOREACH(g, &s->clients, next)
        if (g->session)
            fprintf(f,
                    "ppfs at %s (%s, %u us away): %llu works begun, %llu done, %llu failed; %llu calls; %zu bytes on "
                    "the way\n",
                    session_address(g->session), session_linked(g->session) ? "linked" : "no link",
                    session_rtt(g->session), (unsigned long long)g->started, (unsigned long long)g->done,
                    (unsigned long long)g->failed, (unsigned long long)g->calls, session_pending(g->session));
    return fclose(f) == 0 ? text : NULL;
}
