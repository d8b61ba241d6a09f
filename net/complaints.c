#include "net/complaints.h"

#include <stdio.h>
#include <string.h>

#include "net/clock.h"

enum { MINUTE = 60 * 1000, ADDRESSES = 64 };

bool complaints_tell(struct complaints *c, const char *source, unsigned most, char *sentence, size_t size) {
    int64_t now = clock_ms();
    bool address = source[0] == '@';
    unsigned end = address ? ADDRESSES : COMPLAINTS_SOURCES, i = address ? 0 : ADDRESSES, oldest = i, left = 0;

    for (; i < end; i++) {
        if (c->of[i].since && strncmp(c->of[i].source, source, sizeof(c->of[i].source) - 1) == 0)
            break;
        if (c->of[i].since < c->of[oldest].since)
            oldest = i;
    }
    if (i == end) {
        i = oldest;
        memset(&c->of[i], 0, sizeof(c->of[i]));
        snprintf(c->of[i].source, sizeof(c->of[i].source), "%s", source);
    }
    if (!c->of[i].since || now - c->of[i].since >= MINUTE) {
        left = c->of[i].left_out;
        c->of[i].left_out = c->of[i].told = 0;
        c->of[i].since = now ? now : 1;
    }
    if (c->of[i].told >= most) {
        c->of[i].left_out++;
        return false;
    }
    c->of[i].told++;
    size_t at = strlen(sentence);
    if (left)
        snprintf(sentence + at, size - at, " (%u more of %.120s were left out)", left, source);
    return true;
}

bool complaints_tell_of(struct complaints *c, const char *address, unsigned most, char *sentence, size_t size) {
    char host[160];
    size_t word = strcspn(address, " ");
    const char *colon = memrchr(address, ':', word);

    snprintf(host, sizeof(host), "@%.*s", (int)(colon ? (size_t)(colon - address) : word), address);
    return complaints_tell(c, host, most, sentence, size);
}
