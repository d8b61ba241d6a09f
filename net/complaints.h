/* Limits of the log: so many sentences a minute about one source, so that a hostile source does not crowd out the
 * others. Sentences that are left out are counted, and the next one tells their number. Not for threads. */
#ifndef PPFS_COMPLAINTS_H
#define PPFS_COMPLAINTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPLAINTS_NODE 20u     /* sentences a minute about one node */
#define COMPLAINTS_ADDRESS 300u /* about one address: a node may change its name */
#define COMPLAINTS_ALL 600u     /* about all addresses: an attacker with a network has many */
/* the oldest is forgotten for one more; the first few are for addresses alone */
#define COMPLAINTS_SOURCES 256u

struct complaints { /* zeros: none yet */
    struct complaints_minute {
        int64_t since; /* clock_ms when it began */
        unsigned told, left_out;
    } all;
    struct {
        char source[160];
        struct complaints_minute minute;
    } of[COMPLAINTS_SOURCES];
};

/* Whether the sentence may be logged. Appends the number of sentences of that source that were left out before. */
bool complaints_tell(struct complaints *c, const char *source, unsigned most, char *sentence, size_t size);
/* The same for an address, the HOST of the HOST:PORT at the beginning of the text; COMPLAINTS_ALL for all addresses
 * together, and the last one says so. */
bool complaints_tell_of(struct complaints *c, const char *address, unsigned most, char *sentence, size_t size);
#endif
