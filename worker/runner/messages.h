/* What a ppfs and a node say to each other over a session (net/session/session.h): ordered, each frame exactly once.
 *
 * Each work has a ref, a number below MESSAGE_REFS that ppfs chooses; it is free again after its DONE. A frame's id is ref
 * << 32 | low. Frames for a ref that the node does not know are about work that has just ended: they are ignored.
 * Anything else that makes no sense ends the session. worker/README.md has the bodies byte by byte. */
#ifndef PPFS_MESSAGES_H
#define PPFS_MESSAGES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MESSAGE_REFS = 65536, /* work under way at one node, for one ppfs */
    MESSAGE_CHUNK =
        64 * 1024,        /* bytes of output, result or payload in one frame, so that no other waits long behind it */
    PAYLOAD_AHEAD = 128,  /* PAYLOAD frames with bytes of one work that may be on the way to the node's disk: 8 MiB */
    NODE_CPUS_MAX = 4096, /* slots of a node */
    NODE_NAME = 64,       /* a node's name, with the final zero */
    NODE_NAME_BASE = 50,  /* so much of it is before the number that one gets whose name another has: NAME-2 */
    NODE_ABOUT_MAX = 512, /* bytes of an ABOUT */
    NODE_UIDS = 32,       /* ranges of users in it */
    MESSAGE_SENTENCE = 1024,
    PPFS_ID_MIN = 16,
    PPFS_ID_MAX = 64,
};

enum message_kind {
    /* ppfs to node */
    MESSAGE_START = 1, /* work_encode; low 1: the payload follows in PAYLOAD frames, up to PAYLOAD_END */
    MESSAGE_PAYLOAD,
    MESSAGE_PAYLOAD_END,
    MESSAGE_PIECE,     /* the first part of the body of the CALL_* or FUNCTION of that ref that follows */
    MESSAGE_CALL_JSON, /* low: its number; the four in the order of enum call_format */
    MESSAGE_CALL_PICKLE,
    MESSAGE_CALL_HASH,
    MESSAGE_CALL_VALUES,
    MESSAGE_FUNCTION, /* 32 bytes hash, then the function or value; nothing: there is none */
    MESSAGE_FINISH,
    MESSAGE_RECALL, /* low: the number from which calls are taken back */
    MESSAGE_KILL,
    MESSAGE_HOLD,    /* low: 1 hold, 0 go on */
    MESSAGE_RESIZE,  /* low: slots; no ref */
    MESSAGE_LEAVE,   /* no ref: do not come back */
    MESSAGE_HELLO,   /* no ref; 16 to PPFS_ID_MAX bytes: who that ppfs is, also after it was started again */
    MESSAGE_REFUSED, /* no ref; a sentence: it is not taken in now; the session ends */
    MESSAGE_WELCOME, /* no ref; the name that it has in nodes/ */
    /* node to ppfs */
    MESSAGE_ABOUT = 32, /* no ref; struct node_about: the first frame, and again when it changes */
    MESSAGE_OUTPUT,     /* low: enum output_kind */
    MESSAGE_PART,       /* low: number of the call; the four in the order of enum answer_kind */
    MESSAGE_VALUE,
    MESSAGE_ERROR,
    MESSAGE_NEED,
    MESSAGE_RECALLED, /* low: the first number that will not run */
    MESSAGE_DONE,     /* work_outcome_encode: the last frame of its ref */
    MESSAGE_TROUBLE,  /* no ref; a sentence for the log */
    MESSAGE_GOODBYE,  /* no ref: it ends, and has nothing any more; low 1: and it was told to (LEAVE) */
    MESSAGE_KEPT,     /* low: so many PAYLOAD frames with bytes are in the file, modulo 2^32 */
};

static inline uint64_t message_id(uint32_t ref, uint32_t low) {
    return (uint64_t)ref << 32 | low;
}

/* Users of the ppfs whose work a node takes. */
struct node_uids {
    uint32_t count;
    struct {
        uint32_t first, last;
    } at[NODE_UIDS];
};
static inline bool node_uids_have(const struct node_uids *u, uint32_t uid) {
    for (uint32_t i = 0; i < u->count; i++)
        if (uid >= u->at[i].first && uid <= u->at[i].last)
            return true;
    return false;
}

struct node_about {
    uint32_t cpus;
    uint32_t uid;          /* that it runs as: 0 runs each work as its user, another all of them as itself */
    struct node_uids uids; /* none, where it is not 0: whoever ppfs says */
    uint64_t memory;       /* bytes that the machine has; 0: it does not know */
    bool draining;
    char name[NODE_NAME]; /* of letters, digits, '.', '_' and '-', not beginning with '.' */
    char python[32];      /* "" while it is not known */
};
/* Into buf of NODE_ABOUT_MAX bytes. */
uint32_t node_about_encode(const struct node_about *a, uint8_t *buf);
int node_about_decode(const void *bytes, size_t size, struct node_about *out); /* 0 or -EPROTO */
bool node_name_valid(const char *name);
/* Makes a valid name of any text: what may not stand in one becomes '-'. */
void node_name_from(const char *text, char name[NODE_NAME]);
#endif
