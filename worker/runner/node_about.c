/* ABOUT as bytes: u32 version 3, u32 cpus, u32 flags (1 draining), u64 memory, u32 uid, u32 count of ranges, of each
 * u32 first and last; then name and python, each with its final zero. Integers are little endian; every byte must be
 * used. */
#include "worker/runner/node_about.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

enum { ABOUT_VERSION = 3, ABOUT_DRAINING = 1, ABOUT_HEAD = 28 };

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool node_name_valid(const char *name) {
    size_t n = 0;

    if (name[0] == '.' || !name[0])
        return false;
    for (; name[n]; n++)
        if (!name_char(name[n]))
            return false;
    return n < NODE_NAME;
}

void node_name_from(const char *text, char name[NODE_NAME]) {
    size_t n = 0;

    for (; n < NODE_NAME - 1 && text[n]; n++)
        name[n] = name_char(text[n]) && (n || text[n] != '.') ? text[n] : '-';
    name[n] = 0;
    if (!n)
        strcpy(name, "node");
}

uint32_t node_about_encode(const struct node_about *a, uint8_t *buf) {
    uint32_t head[7] = {htole32(ABOUT_VERSION),
                        htole32(a->cpus),
                        htole32(a->draining ? ABOUT_DRAINING : 0),
                        htole32((uint32_t)a->memory),
                        htole32((uint32_t)(a->memory >> 32)),
                        htole32(a->uid),
                        htole32(a->uids.count)};
    size_t name = strlen(a->name) + 1, python = strlen(a->python) + 1, at = sizeof(head);

    memcpy(buf, head, sizeof(head));
    for (uint32_t i = 0; i < a->uids.count; i++, at += 8) {
        uint32_t range[2] = {htole32(a->uids.at[i].first), htole32(a->uids.at[i].last)};
        memcpy(buf + at, range, sizeof(range));
    }
    memcpy(buf + at, a->name, name);
    memcpy(buf + at + name, a->python, python);
    return (uint32_t)(at + name + python);
}

/* The text at the head of what is left goes to out. False when it does not fit or does not end. */
static bool take_text(const char **at, size_t *left, char *out, size_t room) {
    size_t n = strnlen(*at, *left);

    if (n == *left || n >= room)
        return false;
    memcpy(out, *at, n + 1);
    *at += n + 1;
    *left -= n + 1;
    return true;
}

int node_about_decode(const void *bytes, size_t size, struct node_about *out) {
    uint32_t head[7];
    const char *at = bytes;

    *out = (struct node_about){0};
    if (size < ABOUT_HEAD || size > NODE_ABOUT_MAX)
        return -EPROTO;
    memcpy(head, at, sizeof(head));
    at += sizeof(head);
    size -= sizeof(head);
    out->cpus = le32toh(head[1]);
    out->memory = le32toh(head[3]) | (uint64_t)le32toh(head[4]) << 32;
    out->uid = le32toh(head[5]);
    out->uids.count = le32toh(head[6]);
    if (out->uids.count > NODE_UIDS || size < out->uids.count * 8)
        return -EPROTO;
    for (uint32_t i = 0; i < out->uids.count; i++, at += 8, size -= 8) {
        uint32_t range[2];
        memcpy(range, at, sizeof(range));
        out->uids.at[i].first = le32toh(range[0]);
        out->uids.at[i].last = le32toh(range[1]);
    }
    uint32_t flags = le32toh(head[2]);
    out->draining = flags & ABOUT_DRAINING;
    if (le32toh(head[0]) != ABOUT_VERSION || out->cpus > NODE_CPUS_MAX || (flags & ~(uint32_t)ABOUT_DRAINING) ||
        !take_text(&at, &size, out->name, sizeof(out->name)) ||
        !take_text(&at, &size, out->python, sizeof(out->python)) || size || !node_name_valid(out->name))
        return -EPROTO;
    for (const char *c = out->python; *c; c++) /* it is shown to people */
        if (!name_char(*c) && *c != '+')
            return -EPROTO;
    return 0;
}
