/* The frame: how ppfs, its workers and its nodes talk over any byte stream.
 *
 *   offset 0  u32 length of the body, little endian, at most FRAME_BODY_MAX
 *          4  u8  kind
 *          5  u8[3] zero
 *          8  u64 id, little endian (a job, or what the kind says)
 *         16  body
 *
 * A frame with a body over the cap or a nonzero reserved byte is a broken peer: -EPROTO, and the link ends.
 * Every integer is read with bounds checked; nothing here allocates by a length that a peer named. */
#ifndef PPFS_FRAME_H
#define PPFS_FRAME_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAME_HEADER 16u
#define FRAME_BODY_MAX (256u * 1024u) /* bytes; larger things are sent as several frames */

/* A binary stream is a magic and frames: kinds 0-31 are input, 32-63 output, and unknown ones of 64-255 are skipped.
 * ppfs-stream(5) has the bodies. */
#define FRAME_MAGIC "\x89ppfs\r\n\x1a\x01\0\0\0\0\0\0\0"
#define FRAME_MAGIC_SIZE 16u
/* byte of an input's magic: 1 if every Python understands its pickles */
#define FRAME_PORTABLE_AT 9u
#define FRAME_WHOLE_MAX ((1u << 30) - 1) /* bytes of a body with the PART frames before it */
enum stream_frame {
    FRAME_PART = 1,
    FRAME_FUNC,
    FRAME_CALL,
    FRAME_CANCEL,
    FRAME_RELEASE,
    FRAME_RESULT = 33,
    FRAME_ERROR,
    FRAME_OUTPUT,
    FRAME_CANCELLED,
    FRAME_STARTED,
    FRAME_SKIPPABLE = 64,
};
enum stream_error { ERROR_RAISED = 1, ERROR_PICKLE, ERROR_DIED, ERROR_TIMEOUT, ERROR_REFUSED, ERROR_OPTIONS };

struct frame {
    uint8_t kind;
    uint64_t id;
    const uint8_t *body; /* not owned: points into the caller's buffer */
    uint32_t size;
};

/* Whether the bytes begin with the magic of a binary input. */
bool frame_magic(const void *bytes, size_t size, bool *portable);

/* Writes the 16 header bytes. size <= FRAME_BODY_MAX (asserted). */
void frame_encode(uint8_t header[FRAME_HEADER], uint8_t kind, uint64_t id, uint32_t size);

/* Decodes a frame. Returns its bytes with the header (*out filled in), 0: more bytes are needed, -EPROTO: malformed. */
int64_t frame_decode(const uint8_t *bytes, size_t len, struct frame *out);

/* Decodes the 16 bytes of a header (body NULL). 0, or -EPROTO: malformed. */
int frame_header(const uint8_t header[FRAME_HEADER], struct frame *out);
#endif
