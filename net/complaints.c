#include "net/complaints.h"

#include <stdio.h>
#include <string.h>

#include "net/clock.h"

enum { MINUTE = 60 * 1000, ADDRESSES = 64 };

/* Whether one more sentence fits in the minute. left: sentences left out in the minute before, if a new one begins. */
static bool admits(struct complaints_minute *m, unsigned most, unsigned *left) {
    int64_t now = clock_ms();

    *left = 0;
    if (!m->since || now - m->since >= MINUTE) {
        *left = m->left_out;
        m->left_out = m->told = 0;
        m->since = now ? now : 1;
    }
    if (m->told >= most) {
        m->left_out++;
        return false;
    }
    m->told++;
    return true;
}

static void add_count(char *sentence, size_t size, unsigned left, const char *source) {
    size_t at = strlen(sentence);

    if (left)
        snprintf(sentence + at, size - at, " (%u more of %.120s were left out)", left, source);
}

bool complaints_tell(struct complaints *c, const char *source, unsigned most, char *sentence, size_t size) {
    bool address = source[0] == '@';
    unsigned end = address ? ADDRESSES : COMPLAINTS_SOURCES, i = address ? 0 : ADDRESSES, oldest = i, left;

    for (; i < end; i++) {
        if (c->of[i].minute.since && strncmp(c->of[i].source, source, sizeof(c->of[i].source) - 1) == 0)
            break;
        if (c->of[i].minute.since < c->of[oldest].minute.since)
            oldest = i;
    }
    if (i == end) {
        i = oldest;
        memset(&c->of[i], 0, sizeof(c->of[i]));
        snprintf(c->of[i].source, sizeof(c->of[i].source), "%s", source);
    }
    if (!admits(&c->of[i].minute, most, &left))
        return false;
    add_count(sentence, size, left, source);
    return true;
}

bool complaints_tell_of(struct complaints *c, const char *address, unsigned most, char *sentence, size_t size) {
    char host[160];
    unsigned left;
    size_t word = strcspn(address, " ");
    const char *colon = memrchr(address, ':', word);

    snprintf(host, sizeof(host), "@%.*s", (int)(colon ? (size_t)(colon - address) : word), address);
    if (!complaints_tell(c, host, most, sentence, size) || !admits(&c->all, COMPLAINTS_ALL, &left))
        return false;
    add_count(sentence, size, left, "all nodes");
    if (c->all.told == COMPLAINTS_ALL && strlen(sentence) < size)
        snprintf(sentence + strlen(sentence), size - strlen(sentence), " (no more of nodes for a minute)");
    return true;
}
