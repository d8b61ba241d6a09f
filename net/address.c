/* Addresses: text to parts, socket addresses to text, and the sources of refusals. Pure except for the clock. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/clock.h"

static bool port_ok(const char *port, bool dial) {
    size_t digits = strspn(port, "0123456789");
    long n = digits && digits <= 5 && !port[digits] ? strtol(port, NULL, 10) : -1;

    return n >= (dial ? 1 : 0) && n <= 65535;
}

/* Letters of names and addresses; no blanks, slashes or control characters that would end up in file names and logs. */
static bool host_ok(const char *host, size_t len, bool bracketed) {
    for (size_t i = 0; i < len; i++) {
        char c = host[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && !strchr(bracketed ? ":.%-_" : ".-_", c))
            return false;
    }
    return len && len < sizeof(((struct address *)0)->host);
}

int address_parse(struct address *out, const char *text, bool dial, char *why, size_t why_size) {
    bool bracketed = text[0] == '[';
    const char *host = text + bracketed, *colon = strrchr(text, ':');
    size_t len = colon && colon >= host ? (size_t)(colon - host) : 0;

    if (bracketed)
        len = len && host[len - 1] == ']' ? len - 1 : 0;
    if (!host_ok(host, len, bracketed) || !port_ok(colon + 1, dial)) {
        snprintf(why, why_size,
                 "'%.100s' is no address: expected HOST:PORT or [IPV6]:PORT with a port from %d to 65535", text, dial);
        return -EINVAL;
    }
    memcpy(out->host, host, len);
    out->host[len] = 0;
    snprintf(out->port, sizeof(out->port), "%.7s", colon + 1);
    return 0;
}

int peer_check_address(const char *address, bool dial, char *why, size_t why_size) {
    struct address parts;

    return address_parse(&parts, address, dial, why, why_size);
}

static bool mapped(const struct sockaddr_storage *from) {
    return from->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&((const struct sockaddr_in6 *)from)->sin6_addr);
}

void address_text(const struct sockaddr_storage *from, char out[ADDRESS_MAX]) {
    char host[256] = "?", port[8] = "?";
    bool v6 = from->ss_family == AF_INET6;
    socklen_t size = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);

    getnameinfo((const struct sockaddr *)from, size, host, sizeof(host), port, sizeof(port),
                NI_NUMERICHOST | NI_NUMERICSERV);
    if (mapped(from))
        snprintf(out, ADDRESS_MAX, "%s:%s", host + strlen("::ffff:"), port);
    else
        snprintf(out, ADDRESS_MAX, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

bool address_same_host(const char *a, const char *b) {
    const char *a_end = strrchr(a, ':'), *b_end = strrchr(b, ':');
    return a_end && b_end && a_end - a == b_end - b && strncmp(a, b, (size_t)(a_end - a)) == 0;
}

/* Parses the address of "[V6%SCOPE]:PORT". */
static bool text_in6(const char *text, struct in6_addr *out) {
    char host[INET6_ADDRSTRLEN];
    size_t size = text[0] == '[' ? strcspn(text + 1, "%]") : 0;

    if (!size || size >= sizeof(host))
        return false;
    memcpy(host, text + 1, size);
    host[size] = 0;
    return inet_pton(AF_INET6, host, out) == 1;
}

bool address_same_origin(const char *a, const char *b) {
    struct in6_addr in6[2];
    const size_t network = sizeof(in6[0]) / 2;

    return address_same_host(a, b) ||
           (text_in6(a, &in6[0]) && text_in6(b, &in6[1]) && !memcmp(&in6[0], &in6[1], network));
}

struct origin address_origin(const struct sockaddr_storage *from) {
    struct origin s = {{0}};

    if (from->ss_family == AF_INET6)
        memcpy(s.bytes, &((const struct sockaddr_in6 *)from)->sin6_addr, mapped(from) ? 16 : 8);
    if (from->ss_family == AF_INET) {
        s.bytes[10] = s.bytes[11] = 0xff;
        memcpy(s.bytes + 12, &((const struct sockaddr_in *)from)->sin_addr, 4);
    }
    return s;
}

bool origin_same(const struct origin *a, const struct origin *b) {
    return !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool refusals_tell(struct refusals *r, const struct origin *who) {
    int64_t now = clock_ms() / 1000;
    int free_one = -1;

    for (int i = 0; i < REFUSALS; i++) {
        bool old = r->told[i].until <= now;
        if (!old && origin_same(&r->told[i].who, who))
            return false;
        if (old)
            free_one = i;
    }
    if (free_one < 0)
        return false;
    r->told[free_one].who = *who;
    r->told[free_one].until = now + 60;
    return true;
}
