/* A node somewhere else, as the ppfs it works for sees it: a runner over a session. The fleet (fleet.h) makes and
 * destroys it; what is said to the node is in far_proto.h.
 *
 * While the network is cut the node stays, until its lease is over: work goes on there, and what is asked of it is sent
 * when it is back (far_linked says how it is). When it is lost each work it had gets done(WORK_LOST), then the fleet
 * says gone(). */
#ifndef PPFS_FAR_H
#define PPFS_FAR_H
#include "worker/pool/pool.h"

struct far;
struct far_uids;

/* Its calls: see runner.h. start never says -EAGAIN: more than far_cpus wait on the node until a slot is free. A
 * payload in a file is read in pieces while it is sent, so the file must stay until done(). */
void far_runner(struct far *f, struct runner *out);

const char *far_name(const struct far *f);    /* a file name, like no other of the fleet, never "local"; stays */
const char *far_address(const struct far *f); /* "ADDR:PORT" of its end of the link, of the last one when it has none */
const char *far_dialled(const struct far *f); /* as given to fleet_dial; NULL: it came to us */
unsigned far_cpus(const struct far *f);       /* slots; runner_resize changes them, and changed() tells */
uint64_t far_memory(const struct far *f);     /* bytes that its machine has, 0: not known */
const char *far_python(const struct far *f);  /* "3.11.2", "" until its workers have said so */
uid_t far_uid(const struct far *f);           /* that it runs as */
const struct far_uids *far_uids(const struct far *f); /* whom it takes: far_proto.h */
bool far_draining(const struct far *f);               /* it wants to leave: give it no more, end its leases */
bool far_linked(const struct far *f);                 /* the network is there */
/* milliseconds since it was last heard of, 0 as long as it answers heartbeats */
unsigned far_quiet_ms(const struct far *f);
int64_t far_rtt_us(const struct far *f);  /* round trip of its link, smoothed; 0: not measured yet */
int64_t far_seen_us(const struct far *f); /* when it was last heard, microseconds since the epoch */
#endif
