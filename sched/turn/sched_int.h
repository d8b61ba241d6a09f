/* Inside the scheduler: what its rooms share. Only sched/ includes this. */
#ifndef PPFS_SCHED_INT_H
#define PPFS_SCHED_INT_H
#include "net/complaints.h"
#include "sched/hosts/host_pick.h"
#include "sched/dispatch/lend.h"
#include "sched/job/options.h"
#include "sched/sched.h"
#include "sched/turn/ops.h"
#include "sched/job/spec.h"
#include "sched/db/spool.h"
#include "sched/db/store.h"
#include "sched/db/store_bodies.h"
#include "sched/db/store_deps.h"
#include "sched/db/store_functions.h"
#include "sched/db/store_groups.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_nodes.h"
#include "sched/db/store_streams.h"
#include "sched/db/store_users.h"
#include "sched/users/user.h"
#include "worker/runner/disk.h"

#define INLINE_MAX (64u * 1024u) /* bytes of a body that stands in its row */
#define DEATHS_MAX 3             /* running at so many deaths of ppfs or its node: failed */

struct ids { /* a growing set of ids; small, so searched from end to end */
    uint64_t *items;
    size_t count, cap;
};
int ids_add(struct ids *l, uint64_t id); /* 0 (also when it is in already) or -ENOMEM */
bool ids_has(const struct ids *l, uint64_t id);
void ids_remove(struct ids *l, uint64_t id);

enum run_state {
    RUN_STARTING, /* written as running, not yet committed */
    RUN_RUNNING,  /* the pool has it */
    RUN_ENDING,   /* it has ended; its output may still be on the way to the disk */
    RUN_ENDED,    /* its end is written, not yet committed */
};
enum run_fate { FATE_NONE, FATE_TIMEOUT, FATE_DROPPED /* cancelled, replaced or forgotten: nobody wants its end */ };

struct output { /* what it wrote so far: in memory up to INLINE_MAX, then in a spool file */
    char *bytes;
    size_t cap;
    int64_t size;
    int64_t written; /* of a spooled one: how much of it the file has */
    bool spooled;
};

struct run { /* an attempt under way: the only thing in memory that grows with work, and it is bounded by the slots */
    uint64_t id; /* first: key of the tree */
    struct sched *s;
    struct host *host; /* where it is; it stays as long as the run */
    struct user *user;
    uint64_t stream, call; /* whose call it runs, 0 = none's */
    unsigned live;         /* 1 << enum output_kind: what goes to that stream at once */
    uint32_t attempt, cpus;
    unsigned function;     /* estimate.h */
    int64_t began;         /* clock_us: given to the runner */
    LIST_ENTRY(run) mates; /* of host.under_way */
    bool filled;           /* began on a host that is kept for another job */
    enum run_state state;
    enum run_fate fate;
    struct output out[4];   /* by enum output_kind */
    size_t writing;         /* bytes on the way to the disk */
    unsigned tasks;         /* disk tasks that point here */
    int error;              /* first errno of storing its output */
    int64_t live_bytes;     /* its part of user.live */
    size_t away;            /* bytes that it printed while its stream did not have its call */
    bool held, lent, begun; /* begun: the runner took it */
    bool refused;           /* it was to wait for a result, and may not: lend.c */
    unsigned waits;         /* requests of it for which its slot is lent */
    bool noted;             /* how long it ran */
    struct event *timeout;
    struct work_outcome outcome;
    struct run *next; /* in the list of this turn that it stands in */
};

struct later { /* a call to be answered after the commit, once the disk has it */
    struct later *next;
    struct spool_name name;
    bool has_file;
    sched_done *done;
    void *arg;
};

/* Of a name that was written again: the new job. Some of late, for those who wait for the old one, or have just looked
 * it up. */
#define HEIRS 1024u
struct heir {
    uint64_t of, job;
    uid_t uid; /* of the old one, as its attributes that the kernel may still go by */
    gid_t gid;
    mode_t mode;
};

struct sched {
    struct sched_config c;
    const struct sched_ops *ops;
    char *state_dir, *mountpoint;
    struct store *store;
    /* in threads of their own: syncer, the database's log as it grows (checkpoint.c); checker, NULL where there is
     * none, the check of a large database, which may take minutes */
    struct disk *disk, *syncer, *checker;
    struct spool *spool;
    struct host *hosts;        /* local first */
    struct host **hosts_by_id; /* host_list.c */
    size_t host_count;
    struct registry *registry;
    struct complaints complaints; /* about nodes and users */
    struct speeds speeds;

    void *runs;        /* tsearch tree of struct run */
    int64_t steady_us; /* see sched_steady */

    uint64_t unkept; /* turns that could not be committed since one last was */
    bool stopping, damaged;
    void *users; /* tsearch tree of struct user */
    struct user_heap user_heaps[USERS_HEAPS];
    double user_time_us;              /* the virtual time at which a user begins */
    LIST_HEAD(, user) holding;        /* some of whose answers are not read: answers.h */
    LIST_HEAD(, user) met, streaming; /* of this dispatch; with streams in memory */
    bool stirred;       /* slots came free or work came, since the last dispatch that began with all users */
    struct keys *keys;  /* keys.c */
    uid_t owner;        /* who mounted */
    bool users_unknown; /* others may have ready jobs as well: dispatch.c looks */
    unsigned backlog,
        placed_backlog;     /* users of whom the database may have ready jobs: that run anywhere; that have a place */
    unsigned users_starved; /* users of whom something waits for slots that their quota would allow */
    bool telling;           /* a host is to be dialled, told or let go after this commit */
    bool settling, opening, placing, sweeping, deps; /* slices of queue.c that may have work */
    struct run *starts, *ended;
    struct ids kills, changed, submitting, converting;
    struct ids released, again; /* of this turn; of turns that were not committed, for the retry */
    struct spool_name *unlinks;
    size_t unlink_count, unlink_cap;
    LIST_HEAD(, lease) leases, busy, heard; /* lease.c: all; those with calls; those with answers of this turn */
    struct lease **lease_table;
    size_t lease_table_size, lease_at;
    unsigned away;                    /* leases whose stream left memory as a commit failed: lease_away.c */
    unsigned lease_count, calls_sent; /* calls_sent: over all of them, and not answered */
    int64_t reclaim_at;               /* clock_us: not before */
    uint64_t dispatches, reclaims;
    struct waiting_place *waiting_places; /* dispatch.c, of this lease_reclaim */
    unsigned waiting_count;
    TAILQ_HEAD(, host) roomy; /* those with a free slot, and some that had one */
    TAILQ_HEAD(, host) lost;  /* nodes that are away and shown as such, the oldest first ... */
    unsigned lost_count;      /* ... so many */
    LIST_HEAD(, host) resting, kept_hosts;
    uint64_t host_orders; /* hosts that ever were */
    struct picks picks[PICKS];
    struct host *spares; /* of this dispatch: kept hosts with free slots where something may begin */
    unsigned pick_next;
    uint64_t steps;             /* leases, hosts and streams that were met in walks over them: a test reads it */
    LIST_HEAD(, host) touched;  /* were told something since the last commit: to be flushed */
    LIST_HEAD(, host) fresh;    /* host_count */
    bool drained;               /* a host may have begun to drain */
    struct stream *streams;     /* those in memory; stream.c */
    struct fetch *fetches;      /* functions and values that are being read; values.c */
    LIST_HEAD(, kept_set) kept; /* stream_kept.c */
    bool stream_waits;          /* one is queued until fewer have something to do */
    unsigned stream_count, idle_count;
    uint64_t stream_loads;     /* times that one came into memory */
    TAILQ_HEAD(, stream) idle; /* of them: have nothing to do; the longest first */
    struct heir heirs[HEIRS];  /* the newest at heir_count - 1 */
    uint64_t heir_count;
    uint64_t last_lease;
    bool drafts_said;                                           /* a .options file may say drafts= */
    bool trash;                                                 /* logs to be deleted */
    bool (*is_open)(void *arg, uint64_t job, bool for_writing); /* fs knows */
    void *is_open_arg;
    struct later *laters;
    struct lends lends;
    struct event *due, *tick, *retry, *lease_timer, *wake, *tidy;
    int64_t changed_at;            /* clock_us: the last commit of a change */
    bool made_room;                /* see sched_made_room */
    bool log_syncing;              /* checkpoint.c: the database's log is being synced ... */
    uint64_t log_synced;           /* ... of this one what it had was, and may be copied: store_log_id, 0 = none */
    unsigned log_pages, log_tried; /* its pages after the last turn; when it was last to be copied */
    int64_t wake_at;               /* clock_us, where wake is pending */
    int64_t due_at;                /* of the due timer, 0 = none */
    uint64_t first_id;             /* ids below were handed out by earlier daemons */
    /* that a turn gives to long work, and as much to dispatch: queue.c looks at the clock between them */
    int64_t slice_us;
    uint64_t placed; /* of the jobs that fit no node: those up to this id were judged again */
    uint64_t opened; /* in the group that is being opened: jobs up to this id are done */
    char scratch[INLINE_MAX + 1];
};

void sched_log(struct sched *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* About a node or a user, who can cause it at will: so many a minute (net/complaints.h). address: where it is, NULL:
 * here. */
void sched_log_about(struct sched *s, const char *who, const char *address, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same, of a user: one who has many uids is not told more of than a network of nodes. */
void sched_log_uid(struct sched *s, uid_t uid, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same, of the user whose job or stream it is. */
void sched_log_user(struct sched *s, uint64_t job, const char *format, ...) __attribute__((format(printf, 3, 4)));
void sched_tick(struct sched *s); /* another turn at once */
/* Microseconds since 1970 by the wall clock as it was when this daemon began: what is to happen later (not_before) goes
 * by it, so that nobody waits for a day because the clock was set back. The next daemon's may be another, see
 * sched_recover. */
int64_t sched_steady(const struct sched *s);
#define RETRY_PAUSE_MAX 60            /* seconds between attempts, at most */
int sched_may_begin(struct sched *s); /* 0 or -errno: nothing new is taken now */
/* Once this turn is committed, and the disk has that body, done is called. -EINPROGRESS or -errno */
int sched_synced(struct sched *s, uint64_t job, const struct body *b, sched_done *done, void *arg);
/* A change of names was made: with --sync full done is called when it is on the disk (-EINPROGRESS), else 0. */
int sched_renamed(struct sched *s, uint64_t job, sched_done *done, void *arg);
void sched_answer_laters(struct sched *s, int rc); /* of both, with the commit's rc */
void sched_set_due(struct sched *s);               /* the timer, for the next retry of a job */
void sched_retry(struct sched *s);                 /* what could not be done now is tried again a second later */

/* transition.c: the one way to another state */
int sched_move(struct sched *s, struct job_row *r, enum job_state to, unsigned also_save);
int sched_fail(struct sched *s, struct job_row *r, int error, const char *why, unsigned also_save);
/* By the kind of job, see ops.h. */
int job_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save);
void job_cancel(struct sched *s, const struct job_row *r);
int sched_remove(struct sched *s, struct job_row *r); /* the job, its run and its bodies go away */
int sched_drop_bodies(struct sched *s, uint64_t job, bool spec);
/* An error that the store does not know of by itself: this turn is not committed for it; but -ENOENT. Returns rc. */
int sched_check(struct sched *s, int rc);
void sched_note(struct sched *s, uint64_t job);
void sched_note_heir(struct sched *s, const struct job *old, uint64_t heir);
/* Who has its name by now, 0 = nobody that is known. *was: what the old one was, where there is somebody. */
uint64_t sched_heir(const struct sched *s, uint64_t job, struct heir *was);
void sched_note_unlink(struct sched *s, struct spool_name n);

/* query.c: drafts in there that are on their way into the queue */
uint64_t group_being_read(struct sched *s, uint64_t group);

/* tidy.c */
void tidy_later(struct sched *s); /* something has changed: a second of quiet from here on */
void tidy_timer(evutil_socket_t fd, short what, void *arg);

/* checkpoint.c: after the replies of a turn */
void checkpoint_turn(struct sched *s);

/* submit.c */
int submit_job(struct sched *s, struct job_row *r);
bool reading_stop(struct sched *s,
                  uint64_t job); /* a draft that is being read stays one; false: it is not being read */
/* waits for others, for a node, or is queued */
int submit_ready(struct sched *s, struct job_row *r, unsigned also_save);
int submit_options(struct sched *s, const struct job_row *r, struct options **out);
bool submit_placeable(struct sched *s, const struct job_row *r, const struct options *o);
int submit_place(struct sched *s, const struct job_row *r, char place[PLACE_MAX]); /* where its calls or it may run */
int submit_enqueue(struct sched *s, struct job_row *r, unsigned also_save);
/* a draft that is a stream, at its first write */
int submit_stream(struct sched *s, struct job_row *r, enum work_kind kind);
struct buffer;
struct call_text {
    uint64_t number;
    const char *line; /* JSON: has its options among others ... */
    size_t size;
    const char *options; /* ... frames: a JSON object; NULL where there is a line */
};
/* A call job. *out is that job; it may have failed already. body: what its file says; with out->job.id given, it is in
 * the spool file of that job already. */
int submit_call(struct sched *s, const struct job_row *owner, const struct call_text *c, const struct buffer *body,
                struct job_row *out);

/* draft.c */
#define SPEC_FILE 1                                              /* number of a spec's spool file */
int draft_spec(struct sched *s, uint64_t job, struct body *out); /* where its bytes are (or are on the way to) */

/* writer.c */
/* The directory that the writer is in; "" when it cannot be told. */
void writer_directory(pid_t pid, char *buf, size_t size);
/* of our own mount: a job would keep that busy, and runs elsewhere */
bool writer_is_inside(const struct sched *s, const char *directory);
int writer_killed_by(pid_t pid); /* the signal that is killing the process right now, 0: none is */
const char *writer_signal_name(int signal);
bool writer_killed_open(const struct job *j, pid_t pid, bool opener); /* what was closed is open again: see there */

/* draft_name.c: whether a job stays a draft until it is renamed, for its name is one of what is not finished: .x, x~,
 * x.tmp, or what drafts= says; and a sentence that says so. */
bool draft_stays(struct sched *s, const struct job *j);
bool draft_why(struct sched *s, const struct job *j, char *why, size_t size);

/* options_file.c */
int options_file_write(struct sched *s, const struct job *j, const char *text,
                       size_t size); /* it is to have that text: 0, -EINVAL, -EFBIG */
int options_file_check(struct sched *s, const struct job *j,
                       uint64_t group); /* whether it may become that group's: 0 or what take says */
int options_file_take(struct sched *s,
                      const struct job *j); /* it was closed: in force from here on. -EPERM, -EINVAL, -EFBIG */
/* Its last writer has gone. What was not taken goes: it has the words that are in force again, or is removed where none
 * are. */
int options_file_settle(struct sched *s, struct job_row *r);

/* group_options.c: adds what the groups above a job of that user say, the outermost first. -EPERM with why: they say
 * what only a job's own user, or root, may say of it; o then has some of it. */
int group_options(struct sched *s, uint64_t group, uid_t writer, struct options *o, char *why, size_t size);
int group_options_check(struct sched *s, uint64_t group, uid_t writer, char *why,
                        size_t size); /* whether they would: 0, -EPERM */
/* Of a draft that is closed. -EPERM: it will fail as it is queued, for its group would bind it; this way its writer
 * hears of it. */
int group_options_close(struct sched *s, const struct job *j);

/* groups.c: whether that user may look up names in a group, by the modes of its directories, as the kernel goes by them
 * where names are looked up in the mount. Of his groups only the main one is known here; what depends on another is no.
 * */
bool group_may_search(const struct group *g, uid_t uid, gid_t gid);
bool group_may_reach(struct sched *s, uint64_t group, uid_t uid, gid_t gid); /* from jobs/ down to it */

/* node.c: why no node takes it, for a job that fits none and for one that waits for a slot */
void node_why_aside(struct sched *s, const struct job *j, char *buf, size_t size);
bool node_why_silent(const struct host *h, char *buf, size_t size); /* false: it is not, and buf is "" */
void node_why_queued(struct sched *s, const struct job *j, char *buf, size_t size);

/* queue.c */
void queue_turn(struct sched *s);

/* dispatch.c */
void dispatch_turn(struct sched *s);

/* backlog.c */
void backlog_mark(struct sched *s, const struct job_row *r); /* r is queued: the next dispatch looks for it */
/* Somebody waits for a slot, other than streams of that user. */
bool backlog_waits(const struct sched *s, const struct user *but);
/* Whether a job waits that the host could run; by what waited when backlog_look was called. */
void backlog_look(struct sched *s);
bool backlog_wants(const struct host *h);

/* run.c */
struct run *run_find(struct sched *s, uint64_t job);
int run_start(struct sched *s, struct job_row *r, struct host *h, unsigned also_save);
void run_committed(struct sched *s);
void run_rolled_back(struct sched *s);
void run_retry_ends(struct sched *s); /* after a commit that failed: the ends that have to be written again */
void run_stop_all(struct sched *s, bool all);
void run_drop(struct sched *s, uint64_t job);
void run_cancel(struct sched *s, uint64_t job);
void run_output(struct host *h, uint64_t job, enum output_kind stream, const void *bytes, size_t size);
void run_done(struct host *h, uint64_t job, const struct work_outcome *o);
void run_lend(struct run *r, bool lend);
#endif
