/* How much a log has of one source, which may be hostile, and of which others' lines are not to be crowded out: so many
 * sentences a minute. What is left out is counted, and told with the next one. Not for threads. */
#ifndef PPFS_COMPLAINTS_H
#define PPFS_COMPLAINTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COMPLAINTS_NODE 20u     /* sentences a minute about one node */
#define COMPLAINTS_ADDRESS 300u /* about all at one address: a node may change its name */
#define COMPLAINTS_ALL 600u     /* about all at all addresses: who has a network has many */
/* beyond that the one is forgotten that was begun first; the first few are for addresses alone */
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

/* Whether the sentence is to be told. It is given the count of those of that source that were left out before it. */
bool complaints_tell(struct complaints *c, const char *source, unsigned most, char *sentence, size_t size);
/* The same of all at an address: HOST of the HOST:PORT that the text begins with; and COMPLAINTS_ALL of all of these,
 * the last of which says so. */
bool complaints_tell_of(struct complaints *c, const char *address, unsigned most, char *sentence, size_t size);
#endif
