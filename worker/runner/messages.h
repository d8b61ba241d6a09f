/* What runs work and who gives it say to each other, in frames (net/session/frame.h): a pool and its worker over a
 * socket pair, a ppfs and a node over a session (net/session/session.h). A frame's id is ref << 32 | low.
 *
 * Each work has a ref, free again after its DONE: at a node a number below MESSAGE_REFS that ppfs chooses; at a worker,
 * which has one at a time, the low half of the job's number. A call is named by its number (low).
 *
 * A worker hears one START, or one, calls and a FINISH; then its DONE or LAST comes, and the next START may follow. A
 * frame that does not fit that order comes from a job that found its worker's link: the worker is killed. A node is
 * asked about works that have just ended, too: that is ignored. Anything else that makes no sense ends the session. All
 * integers are little endian. */
#ifndef PPFS_MESSAGES_H
#define PPFS_MESSAGES_H
#include <stdint.h>

enum {
    MESSAGE_REFS = 65536, /* work under way at one node, for one ppfs */
    /* bytes of output, result or payload in one frame of a session, so that no other waits long behind it */
    MESSAGE_CHUNK = 64 * 1024,
    /* PAYLOAD frames with bytes, or PIECEs, of one work that a node may have been sent and not told KEPT of: 8 MiB */
    PAYLOAD_AHEAD = 128,
    MESSAGE_SENTENCE = 1024,
    PPFS_ID_MIN = 16,
    PPFS_ID_MAX = 64,
    FUNCTION_HASH = 32,
};

enum message_kind {
    /* To a worker and to a node. PAYLOAD and RECALL to WELCOME are a node's alone, ACK and FILE a worker's. */
    MESSAGE_START = 1,   /* work_encode; low 1: the payload follows, and the name of its file is "/" */
    MESSAGE_PAYLOAD,     /* a piece of at most MESSAGE_CHUNK */
    MESSAGE_PAYLOAD_END, /* the last one */
    /* the next bytes of the body of that ref's CALL_* or FUNCTION; low: the number of the call, 0: of a FUNCTION. Only
     * pieces of the same frame, and then its end, may follow, but for KILL, HOLD and ACK */
    MESSAGE_PIECE,
    MESSAGE_CALL_JSON, /* low: its number; the four in the order of enum call_format */
    MESSAGE_CALL_PICKLE,
    MESSAGE_CALL_HASH,
    MESSAGE_CALL_VALUES,
    MESSAGE_FUNCTION, /* the answer to NEED: 32 bytes hash, then the function or value; nothing: there is none */
    MESSAGE_FINISH,   /* no more calls: DONE follows when all are answered */
    MESSAGE_RECALL,   /* low: the number from which calls are taken back; RECALLED comes */
    MESSAGE_KILL,
    MESSAGE_HOLD,   /* low: 1 hold, 0 go on */
    MESSAGE_RESIZE, /* no ref; low: slots */
    MESSAGE_LEAVE,  /* no ref: do not come back */
    MESSAGE_HELLO, /* no ref; PPFS_ID_MIN to _MAX bytes: which ppfs it is, the same after it was started again; what its
                         predecessor had is ended */
    MESSAGE_REFUSED, /* no ref; a sentence: it is not taken in now; the session ends. The node tries again */
    MESSAGE_WELCOME, /* no ref; its name in nodes/ */
    MESSAGE_ACK,     /* low: what that call has printed was read */
    /* low: the number of a call; u64 n, then CALL_* without a body, which is the n bytes of the file that came along */
    MESSAGE_FILE,
    /* From a worker and from a node. LAST and PRINTED are a worker's, ABOUT, RECALLED and TROUBLE to KEPT a node's. */
    MESSAGE_ABOUT = 32, /* no ref; node_about_encode: the first frame, and again when something in it changes */
    MESSAGE_OUTPUT,     /* low: enum output_kind, of a worker none of its pipes' */
    MESSAGE_PART,       /* low: number of the call; the four in the order of enum answer_kind */
    MESSAGE_VALUE,
    MESSAGE_ERROR,
    MESSAGE_NEED,
    MESSAGE_RECALLED, /* low: the first number that will surely not run */
    MESSAGE_DONE,     /* work_outcome_encode: the last frame of its ref */
    MESSAGE_TROUBLE,  /* no ref; a sentence for the log */
    MESSAGE_GOODBYE,  /* no ref: it ends and has no work any more; low 1: after LEAVE */
    MESSAGE_KEPT, /* low: so many PAYLOAD frames with bytes are in the file, or PIECEs with the worker, modulo 2^32 */
    MESSAGE_LAST, /* as DONE, and this worker leaves: it may not be used again */
    MESSAGE_PRINTED, /* low: number of the call whose answer follows: read my output, then send ACK; I wait for it */
};

static inline uint64_t message_id(uint32_t ref, uint32_t low) {
    return (uint64_t)ref << 32 | low;
}

static inline uint32_t message_ref(uint64_t id) {
    return (uint32_t)(id >> 32);
}
#endif
