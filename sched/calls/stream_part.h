/* Call jobs: those that run a call of a stream each. See stream_part.c. */
#ifndef PPFS_STREAM_PART_H
#define PPFS_STREAM_PART_H
#include "sched/calls/call.h"

struct job_row;
struct run;
struct sched;
struct user;

struct unmet { /* jobs of calls that the parser has not met again, by the numbers of these */
    struct unmet_part {
        uint64_t number, job;
    } * parts;
    size_t count, at; /* those before at were met */
};

/* stream_part.c: calls whose jobs run them, those that have options or are programs */
int stream_release(struct stream *st, uint64_t id); /* a call that is held, or will be, is not to be */
/* Nobody can let go any more of what is held: those calls fail, some a turn. 0 or -errno; at the end st->held_over. */
int stream_hold_over(struct stream *st);
/* The call that the job answers, and its stream; NULL when nobody waits for that any more. */
struct call *stream_part_call(struct sched *s, uint64_t stream, uint64_t number, uint64_t job, struct stream **out);
void stream_part_is(struct stream *st, struct call *c); /* it goes into the queue, or is there */
int stream_part_has(struct stream *st, struct call *c, const struct job_row *r); /* its job is that one. 0 or -errno */
int stream_part_compare(const void *a, const void *b);                           /* two struct unmet_part */
bool stream_part_waits(const struct stream *st, uint64_t number); /* that call has one, and is to stay pending */
/* ... and no call has it yet: its stream is not in memory, or has not met that call. */
bool stream_part_away(struct sched *s, uint64_t stream, uint64_t number, uint64_t job);
/* What a call has printed. NULL: nobody wants it any more. */
struct stream *stream_part_printed(struct sched *s, uint64_t stream, uint64_t number, uint64_t job,
                                   enum output_kind which, const void *bytes, size_t size);
/* Sends STARTED for those that have been running for two ticks of the timer. */
void stream_parts_tick(struct sched *s);

/* stream_body.c: a job of its own for that call, at once or when the file of it has been made. 0 or -errno */
int stream_job(struct stream *st, struct call *c);

/* stream_resume.c. After a commit that failed jobs that are in the database go on. As the stream is read anew they wait
 * for their calls: 0 or -errno */
int stream_parts_load(struct stream *st);
int stream_parts_claim(struct stream *st);  /* calls that the parser has met have their jobs. 0 or -errno */
int stream_parts_answer(struct stream *st); /* ... and those that have ended meanwhile answer them. 0 or -errno */

/* stream_ended.c: what such a job answered goes to the stream. 0, -errno, or 1: the stream removes it, later, also
 * where it has yet to meet the call. */
int stream_job_ended(struct sched *s, const struct job_row *r);
void stream_endings(struct user *u, bool all); /* of those that wait for memory one goes on, or all do */
void stream_endings_free(struct sched *s);
/* stream_prints.c */
void stream_printed(struct run *r, enum output_kind which, const void *bytes, size_t size);
void stream_prints_resume(struct stream *st); /* after a flush, what holds goes on */
#endif
