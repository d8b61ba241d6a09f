/* Limits of groups: how many jobs and calls of a group, and of those in it, run at once (max= of its .options). Those
 * of the innermost such group have a ready queue of their own, so that a full group holds up no other: their places
 * begin with "#GROUP:", in hexadecimal. Only sched/ includes this. */
#ifndef PPFS_LIMIT_H
#define PPFS_LIMIT_H
#include <stdbool.h>
#include <stdint.h>

#include "sched/db/store_jobs.h"

struct sched;
struct stream;
struct limit;

/* What the group's own .options say; 0: nothing. 0 or -errno */
int limit_options(struct sched *s, uint64_t group, uint32_t *max, uint32_t *max_fails);
const char *limit_skip(const char *place); /* the place without its group */
/* Puts the innermost limited group of those around that group before the place, if there is one, and takes away what
 * stood there. */
void limit_place(struct sched *s, uint64_t group, char place[CONSTRAINT_MAX]);
/* That of a place; NULL: none. It stays as long as something holds it, else until the end of the turn. */
struct limit *limit_of(struct sched *s, const char *place);
bool limit_has_room(struct limit *l); /* for one more; NULL: yes */
bool limit_is_leased(const struct limit *l);
/* Somebody waits for room in it, since this dispatch: a stream, or NULL for jobs and for several. l may be NULL. */
void limit_want(struct limit *l, const struct stream *who);
bool limit_wanted(const struct limit *l, const struct stream *but); /* somebody else than that one does */
void limit_unwant(struct limit *l);                                 /* room is being made for one of them */
bool limits_wanted(const struct sched *s);                          /* somebody waits in one of them */
/* One more that runs, or one less; l may be NULL. lease: it is a lease. */
void limit_holds(struct limit *l, int n, bool lease);
/* One that runs lends its slot and counts no longer, or has it again. */
void limit_lends(struct limit *l, bool lend, bool lease);
/* The .options of a group, or where it is, has changed, or a turn that changed that was not committed. */
void limits_changed(struct sched *s);
uint64_t limits_generation(const struct sched *s); /* one more after each of these */
bool limits_said(const struct sched *s);           /* the options of a group may say max= or max_fails= */
void limits_say(struct sched *s);                  /* they do */
void limits_begin(struct sched *s);                /* whether they do, is looked up */
struct limit_about {
    uint64_t group;
    unsigned used;
    uint32_t max;
};
bool limit_full(struct limit *l, struct limit_about *out); /* the innermost that has no room; false: all have */
void limits_free(struct sched *s);
#endif
