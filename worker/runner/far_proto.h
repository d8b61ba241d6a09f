/* What a ppfs and a node say to each other over a session (net/session/session.h): ordered, each frame exactly once.
 *
 * Each work has a ref, a number below FAR_REFS that ppfs chooses; it is free again after its DONE. A frame's id is ref
 * << 32 | low. Frames for a ref that the node does not know are about work that has just ended: they are ignored.
 * Anything else that makes no sense ends the session. worker/README.md has the bodies byte by byte. */
#ifndef PPFS_FAR_PROTO_H
#define PPFS_FAR_PROTO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAR_REFS = 65536,      /* work under way at one node, for one ppfs */
    FAR_CHUNK = 64 * 1024, /* bytes of output, result or payload in one frame, so that no other waits long behind it */
    FAR_AHEAD = 128,       /* PAYLOAD frames with bytes of one work that may be on the way to the node's disk: 8 MiB */
    FAR_CPUS_MAX = 4096,   /* slots of a node */
    FAR_NAME = 64,         /* a node's name, with the final zero */
    FAR_ABOUT_MAX = 512,   /* bytes of an ABOUT */
    FAR_UIDS = 32,         /* ranges of users in it */
    FAR_SENTENCE = 1024,
    FAR_ID_MIN = 16,
    FAR_ID_MAX = 64,
};

enum far_frame {
    /* ppfs to node */
    FAR_START = 1, /* work_encode; low 1: the payload follows in PAYLOAD frames, up to PAYLOAD_END */
    FAR_PAYLOAD,
    FAR_PAYLOAD_END,
    FAR_PIECE,     /* the first part of the body of the CALL_* or FUNCTION of that ref that follows */
    FAR_CALL_JSON, /* low: its number; the four in the order of enum call_format */
    FAR_CALL_PICKLE,
    FAR_CALL_HASH,
    FAR_CALL_VALUES,
    FAR_FUNCTION, /* 32 bytes hash, then the function or value; nothing: there is none */
    FAR_FINISH,
    FAR_RECALL, /* low: the number from which calls are taken back */
    FAR_KILL,
    FAR_HOLD,    /* low: 1 hold, 0 go on */
    FAR_RESIZE,  /* low: slots; no ref */
    FAR_LEAVE,   /* no ref: do not come back */
    FAR_HELLO,   /* no ref; 16 to FAR_ID_MAX bytes: who that ppfs is, also after it was started again */
    FAR_REFUSED, /* no ref; a sentence: it is not taken in now; the session ends */
    FAR_WELCOME, /* no ref; the name that it has in nodes/ */
    /* node to ppfs */
    FAR_ABOUT = 32, /* no ref; struct far_about: the first frame, and again when it changes */
    FAR_OUTPUT,     /* low: enum pool_stream */
    FAR_PART,       /* low: number of the call; the four in the order of enum pool_answer */
    FAR_VALUE,
    FAR_ERROR,
    FAR_NEED,
    FAR_RECALLED, /* low: the first number that will not run */
    FAR_DONE,     /* work_outcome_encode: the last frame of its ref */
    FAR_TROUBLE,  /* no ref; a sentence for the log */
    FAR_GOODBYE,  /* no ref: it ends, and has nothing any more; low 1: and it was told to (LEAVE) */
    FAR_KEPT,     /* low: so many PAYLOAD frames with bytes are in the file, modulo 2^32 */
};

static inline uint64_t far_id(uint32_t ref, uint32_t low) {
    return (uint64_t)ref << 32 | low;
}

/* Users of the ppfs whose work a node takes. */
struct far_uids {
    uint32_t count;
    struct {
        uint32_t first, last;
    } at[FAR_UIDS];
};
static inline bool far_uids_have(const struct far_uids *u, uint32_t uid) {
    for (uint32_t i = 0; i < u->count; i++)
        if (uid >= u->at[i].first && uid <= u->at[i].last)
            return true;
    return false;
}

struct far_about {
    uint32_t cpus;
    uint32_t uid;         /* that it runs as: 0 runs each work as its user, another all of them as itself */
    struct far_uids uids; /* none, where it is not 0: whoever ppfs says */
    uint64_t memory;      /* bytes that the machine has; 0: it does not know */
    bool draining;
    char name[FAR_NAME]; /* of letters, digits, '.', '_' and '-', not beginning with '.' */
    char python[32];     /* "" while it is not known */
};
/* Into buf of FAR_ABOUT_MAX bytes. */
uint32_t far_about_encode(const struct far_about *a, uint8_t *buf);
int far_about_decode(const void *bytes, size_t size, struct far_about *out); /* 0 or -EPROTO */
bool far_name_valid(const char *name);
/* Makes a valid name of any text: what may not stand in one becomes '-'. */
void far_name_from(const char *text, char name[FAR_NAME]);
#endif
