/* ABOUT as bytes: u32 version 4, u32 cpus, u32 flags (1 draining), u64 memory, u32 uid, u32 count of ranges, of each
 * u32 first and last; then name, python and resources, each with its final zero. Integers are little endian; every byte
 * must be used. */
#include "worker/runner/node_about.h"

#include <errno.h>
#include <string.h>

#include "net/wire.h"

enum { ABOUT_VERSION = 4, ABOUT_DRAINING = 1 };

static bool name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
           c == '-';
}

bool node_name_valid(const char *name) {
    size_t n = 0;

    if (name[0] == '.' || name[0] == '-' || !name[0])
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
    struct wire_out w = {.at = buf};
    char resources[RESOURCES_TEXT];

    wire_put_u32(&w, ABOUT_VERSION);
    wire_put_u32(&w, a->cpus);
    wire_put_u32(&w, a->draining ? ABOUT_DRAINING : 0);
    wire_put_u64(&w, a->memory);
    wire_put_u32(&w, a->uid);
    wire_put_u32(&w, a->uids.count);
    for (uint32_t i = 0; i < a->uids.count; i++) {
        wire_put_u32(&w, a->uids.at[i].first);
        wire_put_u32(&w, a->uids.at[i].last);
    }
    wire_put(&w, a->name, strlen(a->name) + 1);
    wire_put(&w, a->python, strlen(a->python) + 1);
    resources_text(&a->resources, resources);
    wire_put(&w, resources, strlen(resources) + 1);
    return (uint32_t)w.size;
}

int node_about_decode(const void *bytes, size_t size, struct node_about *out) {
    struct wire_in r = {.at = bytes, .left = size};
    char resources[RESOURCES_TEXT] = "";

    *out = (struct node_about){0};
    uint32_t version = wire_get_u32(&r);
    out->cpus = wire_get_u32(&r);
    uint32_t flags = wire_get_u32(&r);
    out->draining = flags & ABOUT_DRAINING;
    out->memory = wire_get_u64(&r);
    out->uid = wire_get_u32(&r);
    out->uids.count = wire_get_u32(&r);
    if (version != ABOUT_VERSION || out->uids.count > NODE_UIDS)
        return -EPROTO;
    for (uint32_t i = 0; i < out->uids.count; i++) {
        out->uids.at[i].first = wire_get_u32(&r);
        out->uids.at[i].last = wire_get_u32(&r);
    }
    wire_get_text(&r, out->name, sizeof(out->name));
    wire_get_text(&r, out->python, sizeof(out->python));
    wire_get_text(&r, resources, sizeof(resources));
    if (r.bad || r.left || out->cpus > NODE_CPUS_MAX || (flags & ~(uint32_t)ABOUT_DRAINING) ||
        !node_name_valid(out->name) || resources_parse(&out->resources, resources, strlen(resources)) < 0)
        return -EPROTO;
    for (const char *c = out->python; *c; c++) /* it is shown to people */
        if (!name_char(*c) && *c != '+')
            return -EPROTO;
    return 0;
}
