/* Addresses as people write them, "HOST:PORT" or "[V6]:PORT", and where a connection comes from. */
#ifndef PPFS_ADDRESS_H
#define PPFS_ADDRESS_H
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDRESS_MAX 300u /* bytes with the final zero */

struct address {
    char host[256], port[8];
};

/* Parses an address. 0, or -EINVAL and one sentence. dial: port 0 is refused. */
int address_parse(struct address *out, const char *text, bool dial, char *why, size_t why_size);
/* "1.2.3.4:5" or "[::1]:5"; an IPv4 address inside an IPv6 one is written as IPv4. */
void address_text(const struct sockaddr_storage *from, char out[ADDRESS_MAX]);

bool address_same_host(const char *a, const char *b); /* compares two such texts without their ports */

/* A source of connections: an IPv4 address, or the first 64 bits of an IPv6 address, which belong to one machine. */
struct origin {
    uint8_t bytes[16];
};
bool address_same_origin(const char *a, const char *b); /* of two such texts */
struct origin address_origin(const struct sockaddr_storage *from);
bool origin_same(const struct origin *a, const struct origin *b);

/* Sources in the log: each once a minute, and at most REFUSALS sources a minute. */
#define REFUSALS 64
struct refusals {
    struct {
        struct origin who;
        int64_t until; /* seconds of CLOCK_MONOTONIC */
    } told[REFUSALS];
};
bool refusals_tell(struct refusals *r, const struct origin *who); /* whether this refusal is to be logged */
#endif
