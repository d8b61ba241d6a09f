/* The scheduler: keeps jobs in the database, orders them, runs them, keeps what they answer.
 *
 * Everything here happens in the thread of the loop. Changes gather in one transaction; sched_commit ends it. A caller
 * tells nobody that a change was made before sched_commit has returned 0; when it returns an error, none was made.
 * Calls return 0 or -errno and change nothing when they fail. A call with a done function may return -EINPROGRESS:
 * done(arg, rc) then comes from the loop later (the change it made is still to be committed).
 *
 * EROFS is never used; ENOSPC means the disk (or the ballast, see store.c), EDQUOT the quota, ESHUTDOWN that we stop.
 * */
#ifndef PPFS_SCHED_H
#define PPFS_SCHED_H
#include <event2/event.h>
#include <stdio.h>

#include "sched/job/group.h"
#include "sched/job/job.h"
#include "sched/users/quota.h"

struct sched;
typedef void sched_done(void *arg, int rc);

struct sched_config {
    struct event_base *base;
    const char *state_dir;       /* exists, ours, locked by the supervisor */
    const char *mountpoint;      /* absolute; writers whose directory is below it get a fresh one to run in */
    const char *worker_path;     /* the ppfs-worker binary */
    const char *python;          /* as given to --python, or NULL */
    unsigned cpus;               /* local slots */
    const char *key;             /* file of the shared key, NULL: key in state_dir, made if it is not there */
    const char *listen;          /* ADDR:PORT for nodes that dial in, or NULL */
    unsigned silence_ms;         /* after which a node is cut off; 0: 5000 */
    bool sync_full;              /* --sync full */
    const struct quotas *quotas; /* NULL: nobody else writes here, and nothing is counted */
    bool suid_jobs;              /* --suid-jobs */
    const char *node_users;      /* lines NAME=UID: --node-user; or NULL */
    bool again;                  /* a daemon ran on this mount before: what was set in nodes/ holds */
    /* After a commit, for each job that changed (state, output, disappeared), at most once a turn. */
    void (*changed)(void *arg, uint64_t job);
    /* After a commit in which something in this group (or below it) ended or was queued. */
    void (*group_changed)(void *arg, uint64_t group);
    /* That request, which waits for that job's result, is not to wait: it fails with rc. */
    void (*refused)(void *arg, uint64_t job, uint64_t request, int rc);
    void (*log)(void *arg, const char *sentence);
    void *arg;
};

/* Opens or makes the database, checks it. On failure why has one sentence for the user. */
int sched_create(struct sched **out, const struct sched_config *c, char *why, size_t why_size);
/* Running jobs go back to the queue; commits; kills workers. Accepts NULL. */
void sched_destroy(struct sched *s);
/* Once at start: drafts whose writer is gone (open() says no) and whose bytes were acknowledged are queued, other such
 * drafts say why they stay, orphans that nobody has open are dropped. Jobs that ran go back to the queue. open() is
 * kept: later it tells whether a result that is to be replaced is still being read. */
int sched_recover(struct sched *s, bool (*open)(void *arg, uint64_t job, bool for_writing), void *arg);

bool sched_dirty(const struct sched *s);
/* Grows when the database could not be read or written: what was found since it was last looked at may be wrong. */
uint64_t sched_faults(const struct sched *s);
void sched_turn(struct sched *s);  /* due work and dispatch decisions, before each commit */
int sched_commit(struct sched *s); /* 0 (also when nothing was to do) or -errno: rolled back */
/* The last commit found the disk full, and what was kept for that has been given up: what removes may be done again. */
bool sched_made_room(const struct sched *s);
void sched_answered(struct sched *s); /* after the replies to what was committed: work that nobody waits for */
unsigned sched_running(const struct sched *s);

/* --- looking up ------------------------------------------------------------------------------------------------ */
int sched_job(struct sched *s, uint64_t id, struct job *out); /* -ENOENT */
int sched_find(struct sched *s, uint64_t group, const char *name, bool draft, struct job *out);
/* The job of that id; where its name was written again of late, the one that has the name now, as far as whoever might
 * read the old one may read that. -ENOENT: gone, and no such one is known. One that was forgotten while it is read, and
 * whose name is free, is found (SHELF_ORPHAN). */
int sched_newest(struct sched *s, uint64_t id, struct job *out);
int sched_group(struct sched *s, uint64_t id, struct group *out);            /* id 0 works */
bool sched_name_is_draft(struct sched *s, uint64_t group, const char *name); /* in that group: draft_name.c */
int sched_find_group(struct sched *s, uint64_t parent, const char *name, struct group *out);
int sched_tally(struct sched *s, uint64_t group, struct tally *out);
/* Calls each with every job of the group whose id > after and whose shelf is in the mask (1 << SHELF_x), in order of
 * id, until it returns false. Only id, name, state, shelf, draft are filled in. */
int sched_list(struct sched *s, uint64_t group, unsigned shelves, uint64_t after,
               bool (*each)(void *arg, const struct job *), void *arg);
int sched_list_groups(struct sched *s, uint64_t parent, uint64_t after, bool (*each)(void *arg, const struct group *),
                      void *arg);
/* "G/x", the job's path below jobs/. 0 or -ENAMETOOLONG. */
int sched_path(struct sched *s, const struct job *j, char *buf, size_t size);
/* One sentence: why it waits (place in the queue, dependency, slots, hold, next attempt in ...), or why it failed. ""
 * when there is none. */
void sched_why(struct sched *s, const struct job *j, char *buf, size_t size);

/* Bytes of a job's body so far (live while it runs) and their number. sched_read returns the bytes copied, 0 at
 * (present) end, -errno, or -EINPROGRESS (disk: done(arg, bytes or -errno) comes later; buf must stay). */
int64_t sched_size(struct sched *s, uint64_t job, enum job_body body);
int64_t sched_read(struct sched *s, uint64_t job, enum job_body body, void *buf, size_t size, uint64_t offset,
                   sched_done *done, void *arg);

/* --- writing a job --------------------------------------------------------------------------------------------- */
struct writer {
    uid_t uid;
    gid_t gid;
    pid_t pid;        /* 0 = unknown */
    mode_t mode;      /* permission bits for a new file */
    uint64_t request; /* unique of the FUSE request, top bit cleared */
    bool again;       /* the request may have been handled before */
    uint64_t copies;  /* the job whose file it is copying: the new one runs where that does; 0 = none */
    bool temporary;   /* it makes a file as mkstemp does: O_EXCL, to read and write, 0600 */
    bool append;      /* it writes at the end only: then a stream that runs may be opened */
};
/* Of who asks as uid and *gid: *gid is made the group that is his own where a program with a set-group-ID bit lends him
 * one. 0; -EPERM: the user is lent by a set-user-ID bit, or it cannot be told. For a job is not that program's doing,
 * but its writer's. */
int sched_own_group(pid_t pid, uid_t uid, gid_t *gid);
/* A new draft. exclusive: -EEXIST while the name has a job (unended), a result or a failure. An existing draft is
 * opened. -ETXTBSY: running. -EISDIR: a group. -EINVAL/-ENAMETOOLONG: the name. */
int sched_create_draft(struct sched *s, uint64_t group, const char *name, bool exclusive, const struct writer *w,
                       struct job *out);
/* Opens jobs/x for writing: *out is the draft to write (the job itself, or a new draft with a copy of it unless
 * truncate). */
int sched_open_draft(struct sched *s, uint64_t job, bool truncate, const struct writer *w, struct job *out,
                     sched_done *done, void *arg);
/* -EINPROGRESS: bytes must stay until done. -ESPIPE: not at the end of a stream. */
int sched_write(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                void *arg);
/* A write that may have been handled before, by a daemon that died: what a stream has already, it takes as that. */
int sched_write_again(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                      void *arg);
int sched_truncate(struct sched *s, uint64_t job, uint64_t size, sched_done *done, void *arg);
/* At FLUSH by pid: asks whether the writer is being killed, checks a .options file (-EINVAL), replaces nothing yet.
 * opener: it is who opened the file. sync: fsync; bytes and row survive power loss when done. */
int sched_flush(struct sched *s, uint64_t job, pid_t pid, bool opener, bool sync, sched_done *done, void *arg);
/* The last writer is gone: an undotted draft with bytes is queued (or fails, or stays a draft if its writer was
 * killed). The kernel tells nobody an error of this: what cannot be committed is tried again until it can. */
void sched_release(struct sched *s, uint64_t job);
void sched_give_up(struct sched *s, uint64_t job, int error); /* a write to it failed (errno): it stays a draft */
/* With --sync full a rename survives power loss when done, as what was written does. done: see above. */
int sched_rename(struct sched *s, uint64_t group, const char *name, uint64_t to_group, const char *to_name,
                 bool no_replace, bool again, sched_done *done, void *arg);
/* Whether that user may say, change or end what a group's .options says: 0, or -EPERM: neither its owner nor root. */
int sched_may_set_options(struct sched *s, uint64_t group, uid_t uid);
/* NULL = as it is. -ETXTBSY: another user for what is no draft, or another group for what runs */
int sched_set_owner(struct sched *s, uint64_t job, const uid_t *uid, const gid_t *gid, const mode_t *mode);

/* --- steering -------------------------------------------------------------------------------------------------- */
/* mv failures/x jobs/x: a failed job is queued again, with its options, directory and environment as they were, and its
 * attempts counted on; one that never ran is submitted again. -ENOENT: it did not fail. -EPERM: a stream. done: as of
 * sched_rename. */
int sched_run_again(struct sched *s, uint64_t job, uint64_t to_group, const char *to_name, bool no_replace,
                    sched_done *done, void *arg);
int sched_cancel(struct sched *s, uint64_t job); /* rm jobs/x; a draft just goes away. -ENOENT once ended */
/* It is cancelled, and what it was running has not ended yet: its output, exit and usage are still to come. */
bool sched_ending(struct sched *s, const struct job *j);
/* rm results/x: forgets an ended job. held_open: somebody still reads it; sched_drop when the last one has closed.
 * -EBUSY while unended */
int sched_forget(struct sched *s, uint64_t job, bool held_open);
int sched_drop(struct sched *s, uint64_t job);
/* -EINVAL out of range, -ENOENT ended; -EBUSY: nothing would come of it, as it runs (and is no stream) or is a draft.
 * */
int sched_set_priority(struct sched *s, uint64_t job, int priority);
int sched_set_hold(struct sched *s, uint64_t job, bool hold);
/* A request of pid waits for that job's result; from now on for another one's; no longer. */
void sched_blocked(struct sched *s, pid_t pid, uint64_t request, uint64_t job);
void sched_waits_on(struct sched *s, uint64_t request, uint64_t job);
void sched_unblocked(struct sched *s, uint64_t request);

int sched_mkgroup(struct sched *s, uint64_t parent, const char *name, const struct writer *w, struct group *out);
/* rmdir in jobs/, results/, failures/; SHELF_GONE: info/ */
int sched_rmgroup(struct sched *s, uint64_t group, enum job_shelf side);
int sched_rename_group(struct sched *s, uint64_t group, uint64_t to_parent, const char *to_name, sched_done *done,
                       void *arg); /* as sched_rename */
int sched_set_group_owner(struct sched *s, uint64_t group, const uid_t *uid, const gid_t *gid, const mode_t *mode);

/* --- nodes ----------------------------------------------------------------------------------------------------- */
enum node_state { NODE_UP, NODE_DRAIN, NODE_DOWN };
struct node {
    char name[NODE_NAME_MAX + 1];
    enum node_state state;
    unsigned cpus, running; /* slots; those in use */
    uint64_t done, failed;
    double seconds; /* of run time */
    char python[64];
    char address[128];
    int64_t seen; /* microseconds since the epoch */
    /* one sentence: why it is away, is given less than it could, or gets no pickles; "" when all is well */
    char why[400];
    bool pickles; /* its Python understands what this machine's pickles */
};
int sched_node(struct sched *s, uint64_t id, struct node *out);       /* -ENOENT */
int sched_find_node(struct sched *s, const char *name, uint64_t *id); /* -ENOENT */
int sched_list_nodes(struct sched *s, bool (*each)(void *arg, const struct node *), void *arg);
/* Their names in the order of their ids, from the one behind after on: 0 for the first. Meets no others. */
void sched_page_nodes(struct sched *s, uint64_t after, bool (*each)(void *arg, const char *name, uint64_t id),
                      void *arg);
uint64_t sched_node_id(const char *name);                             /* 56 bits, not 0 */
int sched_set_cpus(struct sched *s, const char *node, unsigned cpus); /* -EINVAL over 4096 */
int sched_set_node_state(struct sched *s, const char *node, enum node_state state);
const char *node_state_name(enum node_state s);
/* Dials HOST:PORT, now and at every start, until it is removed. -EEXIST, -EINVAL: that is no HOST:PORT, -ENAMETOOLONG.
 * */
int sched_add_node(struct sched *s, const char *address);
/* It finishes what it runs and is let go; it is shown no more. -EBUSY: it is this machine. */
int sched_remove_node(struct sched *s, const char *name);
/* Keys of nodes: "join" for any number of them, each other for the node of that name. A new one is random. -EEXIST,
 * -EINVAL: no name of a node, -ENOSPC. Removing one revokes it: who is here with it is lost. */
int sched_add_key(struct sched *s, const char *name);
int sched_remove_key(struct sched *s, const char *name);
int sched_find_key(struct sched *s, const char *name, uint64_t *id);
#define SCHED_KEY_TEXT 320u
/* its file; NULL: only whether it is there. -ENOENT */
int sched_key(struct sched *s, uint64_t id, char text[SCHED_KEY_TEXT]);
void sched_page_keys(struct sched *s, uint64_t after, bool (*each)(void *arg, const char *name, uint64_t id),
                     void *arg);
/* "HOST:PORT" that nodes may join, "" = none may; with this machine's name where it listens at all its addresses. */
void sched_listens(struct sched *s, char buf[256]);
/* Where nodes are looked for: NULL nowhere, "" in the local networks, or GROUP%INTERFACE:PORT. set: 0, -EINVAL, -errno.
 * */
const char *sched_discovers(struct sched *s);
int sched_set_discover(struct sched *s, const char *where);
const char *sched_node_of(struct sched *s, const struct job *j);
#endif
