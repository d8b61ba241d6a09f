/* Files of jobs as they are written: a part of sched.h. */
#ifndef PPFS_SCHED_JOB_FILES_H
#define PPFS_SCHED_JOB_FILES_H
#include "sched/job/group.h"
#include "sched/job/job.h"
#include "sched/turn/config.h"

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
#endif
