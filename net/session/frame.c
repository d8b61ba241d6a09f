/* The frame format of frame.h: the only place that knows the header's layout. Nothing here allocates. */
#include "net/session/frame.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>

bool frame_magic(const void *bytes, size_t size, bool *portable) {
    uint8_t head[FRAME_MAGIC_SIZE];

    *portable = false;
    if (size < sizeof(head))
        return false;
    memcpy(head, bytes, sizeof(head));
    bool flagged = head[FRAME_PORTABLE_AT] == 1;
    if (flagged)
        head[FRAME_PORTABLE_AT] = 0;
    bool magic = memcmp(head, FRAME_MAGIC, sizeof(head)) == 0;
    *portable = magic && flagged;
    return magic;
}

void frame_encode(uint8_t header[FRAME_HEADER], uint8_t kind, uint64_t id, uint32_t size) {
    assert(size <= FRAME_BODY_MAX);
    uint32_t size_le = htole32(size);
    uint64_t id_le = htole64(id);

    memcpy(header, &size_le, sizeof(size_le));
    header[4] = kind;
    memset(header + 5, 0, 3);
    memcpy(header + 8, &id_le, sizeof(id_le));
}

int frame_header(const uint8_t header[FRAME_HEADER], struct frame *out) {
    uint32_t size;
    uint64_t id;

    memcpy(&size, header, sizeof(size));
    memcpy(&id, header + 8, sizeof(id));
    *out = (struct frame){.kind = header[4], .id = le64toh(id), .size = le32toh(size)};
    return out->size > FRAME_BODY_MAX || header[5] || header[6] || header[7] ? -EPROTO : 0;
}

int64_t frame_decode(const uint8_t *bytes, size_t len, struct frame *out) {
    struct frame f;

    if (len < FRAME_HEADER)
        return 0;
    if (frame_header(bytes, &f))
        return -EPROTO;
    if (len - FRAME_HEADER < f.size)
        return 0;
    f.body = bytes + FRAME_HEADER;
    *out = f;
    return (int64_t)FRAME_HEADER + f.size;
}
