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
    uint64_t copies;  /* the job whose file it copies, whose directory the new job gets; 0 = none */
    bool temporary;   /* it makes the file as by mkstemp: O_EXCL, for reading and writing, 0600 */
    bool append;      /* it appends only, so it may open a running stream */
};
/* For a process with the credentials uid and *gid: sets *gid to the real group of its user if the program has a
 * set-group-ID bit, because a job belongs to its writer, not to the program. 0; -EPERM: the program has a set-user-ID
 * bit, or that cannot be read. */
int sched_own_group(pid_t pid, uid_t uid, gid_t *gid);
/* A new draft. exclusive: -EEXIST while the name has a job (unended), a result or a failure. An existing draft is
 * opened. -ETXTBSY: running. -EISDIR: a group. -EINVAL/-ENAMETOOLONG: the name. */
int sched_create_draft(struct sched *s, uint64_t group, const char *name, bool exclusive, const struct writer *w,
                       struct job *out);
/* Opens jobs/x for writing. *out is the draft to write: the job itself, or a new draft, with a copy of the job unless
 * truncate. */
int sched_open_draft(struct sched *s, uint64_t job, bool truncate, const struct writer *w, struct job *out,
                     sched_done *done, void *arg);
/* -EINPROGRESS: bytes must stay valid until done. -ESPIPE: not at the end of a stream. */
int sched_write(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                void *arg);
/* A write that an earlier daemon may have handled: a stream accepts bytes that it has already. */
int sched_write_again(struct sched *s, uint64_t job, const void *bytes, size_t size, uint64_t offset, sched_done *done,
                      void *arg);
int sched_truncate(struct sched *s, uint64_t job, uint64_t size, sched_done *done, void *arg);
/* At FLUSH by pid: checks whether the writer is being killed, and a .options file (-EINVAL); replaces nothing yet.
 * opener: pid opened the file. sync: fsync; bytes and row survive power loss when done. */
int sched_flush(struct sched *s, uint64_t job, pid_t pid, bool opener, bool sync, sched_done *done, void *arg);
/* The last writer has closed: an undotted draft with bytes is queued (or fails, or stays a draft if its writer was
 * killed). No client gets an error of this, so a failed commit is retried until it succeeds. */
void sched_release(struct sched *s, uint64_t job);
void sched_give_up(struct sched *s, uint64_t job, int error); /* a write to it failed (errno): it stays a draft */
/* With --sync full a rename survives power loss when done. done: see above. */
int sched_rename(struct sched *s, uint64_t group, const char *name, uint64_t to_group, const char *to_name,
                 bool no_replace, bool again, sched_done *done, void *arg);
/* Whether that user may write or remove a group's .options: 0, or -EPERM: neither its owner nor root. */
int sched_may_set_options(struct sched *s, uint64_t group, uid_t uid);
/* NULL = unchanged. -ETXTBSY: another user for a job that is no draft, or another group for a running job */
int sched_set_owner(struct sched *s, uint64_t job, const uid_t *uid, const gid_t *gid, const mode_t *mode);
#endif
