/* Work: what a runner is told about one attempt of a job, and how that crosses a link; decode trusts nothing. */
#ifndef PPFS_WORK_H
#define PPFS_WORK_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The kind of a job file, by its content. The numbers are on the wire: never change them. */
enum work_kind {
    WORK_NONE,
    WORK_PICKLE,        /* a pickled (func, args, kwargs) or callable: result is a pickle */
    WORK_JSON_CALL,     /* {"call": ...}: result is JSON */
    WORK_JSON_RUN,      /* {"run": [...]}: result is stdout */
    WORK_PYTHON,        /* source, or #! of the workers' own Python: runs warm as __main__, result is stdout */
    WORK_PROGRAM,       /* #! of anything else, ELF: exec, result is stdout */
    WORK_STREAM_JSON,   /* a lease (pool.h), no payload: calls follow, each a JSON object */
    WORK_STREAM_FRAMES, /* a lease, no payload: calls follow, each a pickle */
    /* a call of a stream: u32 count of values, each 32 bytes SHA-256, u32 size, a pickle; u32 size of a
     * pickled callable, that, a pickled (args, kwargs); size 0: a pickled (func, args, kwargs). Result is
     * a pickle, the trace the body of an ERROR frame */
    WORK_CALL,
    /* Kinds of jobs that no runner is told of: the two above, where every Python understands the pickles. */
    WORK_STREAM_PORTABLE,
    WORK_CALL_PORTABLE,
};

/* The kind that a runner is told for a job of that kind. */
static inline enum work_kind work_told(enum work_kind kind) {
    if (kind == WORK_STREAM_PORTABLE)
        return WORK_STREAM_FRAMES;
    return kind == WORK_CALL_PORTABLE ? WORK_CALL : kind;
}

/* Formats of calls of a lease, and kinds of answers; on the wire. */
enum call_format {
    CALL_JSON,   /* {"call": ...} */
    CALL_PICKLE, /* a pickled (func, args, kwargs) or callable */
    CALL_HASH,   /* 32 bytes SHA-256 of a pickled function, then a pickled (args, kwargs) */
    /* u8 what follows: 0 as CALL_PICKLE, 1 as CALL_HASH; u8 count of values, u16 0 (or the size of options, which
     * no lease is sent, then those), 32 bytes SHA-256 of each value; then what follows. The pickle may refer to
     * these values by their hashes, as its persistent ids: a stream's CALL frame (ppfs-stream(5)) */
    CALL_VALUES,
};
enum answer_kind {
    ANSWER_PART,  /* a chunk of a large VALUE or ERROR; the rest follows */
    ANSWER_VALUE, /* JSON without a newline, or a pickle */
    ANSWER_ERROR, /* JSON: a sentence, newline, traceback; else the body of an ERROR frame of a stream */
    /* a hash: the worker waits for that function or value (pool_function). No bytes: the call is not for a lease
     * (it has options, or is a program); that was its answer */
    ANSWER_NEED,
};

/* Whether no more comes for that call. */
static inline bool answer_ends(enum answer_kind kind, size_t size) {
    return kind == ANSWER_VALUE || kind == ANSWER_ERROR || (kind == ANSWER_NEED && !size);
}

#define ENV_CPUS "PPFS_CPUS"          /* in a work's env where it has more than one */
#define WORK_INLINE_MAX (64u * 1024u) /* bytes of payload sent in the frame; a larger payload is a file */
#define WORK_META_MAX (64u * 1024u)   /* bytes of everything but the payload */

struct work {
    uint64_t job;
    uint32_t attempt;
    enum work_kind kind;
    const char *name;  /* the job's path below jobs/, e.g. "G/x": PPFS_JOB, argv[0] */
    const char *node;  /* PPFS_NODE */
    const char *cwd;   /* directory to run in; "" or absent on this machine: a fresh one, removed afterwards */
    bool cwd_required; /* cwd came from the option cwd=: absent means the attempt fails */
    uid_t uid;         /* runs as this user (another than our own only if we are root) */
    gid_t gid;
    uint64_t memory;        /* bytes of address space it may use, 0 = no limit */
    uint32_t sandbox;       /* enum of sandbox.h, 0 = none */
    const char *const *env; /* NULL-terminated "K=V" added to the environment; may be NULL */
    const char *file;    /* payload is this file (absolute path, opened before privileges are dropped), or NULL ... */
    const void *payload; /* ... then these bytes; with files_in these bytes in any case */
    uint32_t payload_size;
    bool files_in, files_out; /* file is a pack (files.py) for its directory; one comes back, OUTPUT_FILES */
    const char *files; /* their names, with commas between; without files_out the only ones that come in; NULL: all */
};

/* Whether it needs a process of its own: calls and leases run in the worker itself unless they have memory, env, a
 * sandbox, files or another uid. */
bool work_isolated(const struct work *w);
bool work_is_lease(const struct work *w); /* WORK_STREAM_* */

/* Serialises into a malloc'd buffer (*out, caller frees) that fits one frame. 0, -EMSGSIZE, -ENOMEM. */
int work_encode(const struct work *w, void **out, uint32_t *size);
/* Decodes; every pointer in *w points into bytes, owned by the caller, or into the malloc'd *hold. 0 or -EPROTO,
 * -ENOMEM. */
int work_decode(const void *bytes, size_t size, struct work *w, void **hold);

/* How an attempt ended. */
enum work_end {
    WORK_DONE,     /* returned, or exited 0 */
    WORK_RAISED,   /* a call raised, would not unpickle, or its result would not pickle; trace has the traceback */
    WORK_EXITED,   /* exit status other than 0 */
    WORK_SIGNALED, /* killed by a signal (its process, or the worker under it) */
    WORK_REFUSED,  /* could not be started: no such directory, interpreter, call ... */
    WORK_LOST,     /* its fork server or node died: not its fault, it may run again */
};

struct work_outcome {
    bool unbegun; /* LOST: it had not begun, so no death counts */
    bool no_room; /* unbegun: no process or descriptor is free now */
    uint32_t attempt;
    enum work_end end;
    int status; /* exit status or signal number */
    int64_t user_us, system_us, wall_us;
    int64_t maxrss_kib;
    char why[512]; /* one sentence without a final newline, "" when done */
};
#define WORK_MODULE 64u
/* Whether why, the sentence of a call that failed, says that it could not be loaded, so that it has not begun, because
 * the Python there has no such module. module: its name; "": it is not told. */
bool work_lacks(const char *why, size_t size, char module[WORK_MODULE]);
void work_outcome_encode(const struct work_outcome *o, uint8_t *buf, uint32_t *size); /* buf of 1024 bytes */
int work_outcome_decode(const void *bytes, size_t size, struct work_outcome *o);      /* 0 or -EPROTO */
#endif
