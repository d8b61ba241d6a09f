/* A node somewhere else, as the ppfs it works for sees it: a runner over a session. The registry (registry.h) makes and
 * destroys it; what is said to the node is in messages.h.
 *
 * While the network is cut the node stays, until its lease is over: work goes on there, and what is asked of it is sent
 * when it is back (remote_linked says how it is). When it is lost each work it had gets done(WORK_LOST), then the
 * registry says gone(). */
#ifndef PPFS_REMOTE_H
#define PPFS_REMOTE_H
#include "worker/pool/pool.h"
#include "worker/runner/node_about.h"

struct remote;

/* Its calls: see runner.h. start never says -EAGAIN: more than it has slots wait on the node until a slot is free. A
 * payload in a file is read in pieces while it is sent, so the file must stay until done(). */
void remote_runner(struct remote *f, struct runner *out);

const char *remote_name(const struct remote *f); /* a file name, like no other of the registry, never "local"; stays */
/* "ADDR:PORT" of its end of the link, of the last one when it has none */
const char *remote_address(const struct remote *f);
const char *remote_dialled(const struct remote *f); /* as given to registry_dial; NULL: it came to us */
/* As the node says: its slots are what runner_resize changes; draining: give it no more, end its leases. changed()
 * tells that something in it is new. */
const struct node_about *remote_about(const struct remote *f);
bool remote_linked(const struct remote *f); /* the network is there */
/* milliseconds since it was last heard of, 0 as long as it answers heartbeats */
unsigned remote_quiet_ms(const struct remote *f);
int64_t remote_rtt_us(const struct remote *f);  /* round trip of its link, smoothed; 0: not measured yet */
int64_t remote_seen_us(const struct remote *f); /* when it was last heard, microseconds since the epoch */
#endif
