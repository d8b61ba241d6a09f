/* Multicast sockets. Interfaces come and go, so they are looked up anew each time. The loopback interface counts too:
 * on a machine without a network its own nodes are still found. What is sent goes no further than the next router. */
#include "net/untrusted/discover_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { INTERFACES_MAX = 64, BUFFER = 1 << 20 }; /* a thousand answers at once */
static const int family_of[2] = {AF_INET, AF_INET6};

/* Parses the group of `where`; empty: the default ones. False: it is no multicast group. */
static bool parse_group(struct discover_where *w, const char *text, size_t size, uint16_t port) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&w->group[0];
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&w->group[1];
    char group[INET6_ADDRSTRLEN];

    *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
    *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
    w->use[0] = w->use[1] = true;
    if (!size)
        return inet_pton(AF_INET, DISCOVER_GROUP4, &v4->sin_addr) == 1 &&
               inet_pton(AF_INET6, DISCOVER_GROUP6, &v6->sin6_addr) == 1;
    if (size >= sizeof(group))
        return false;
    memcpy(group, text, size);
    group[size] = 0;
    w->use[0] = inet_pton(AF_INET, group, &v4->sin_addr) == 1 && IN_MULTICAST(ntohl(v4->sin_addr.s_addr));
    w->use[1] = inet_pton(AF_INET6, group, &v6->sin6_addr) == 1 && IN6_IS_ADDR_MULTICAST(&v6->sin6_addr);
    return w->use[0] || w->use[1];
}

int discover_parse(struct discover_where *out, const char *where, char *why, size_t why_size) {
    const char *group = where ? where : "", *at = group;
    bool bracketed = *group == '[';
    size_t group_size = strcspn(group += bracketed, bracketed ? "%]" : "%:"), size;
    char *end;
    long port = DISCOVER_PORT;

    *out = (struct discover_where){0};
    at = group + group_size;
    if (*at == '%') {
        size = strcspn(++at, bracketed ? "]" : ":");
        if (!size || size >= sizeof(out->interface))
            goto bad;
        memcpy(out->interface, at, size);
        at += size;
    }
    if (bracketed && (!group_size || *at++ != ']'))
        goto bad;
    if (*at == '%' && !out->interface[0]) {
        size = strcspn(++at, ":");
        if (!size || size >= sizeof(out->interface))
            goto bad;
        memcpy(out->interface, at, size);
        at += size;
    }
    if (*at == ':') {
        port = at[1] >= '0' && at[1] <= '9' ? strtol(at + 1, &end, 10) : 0;
        at = port ? end : at;
    }
    if (*at || port < 1 || port > 65535 || !parse_group(out, group, group_size, (uint16_t)port))
        goto bad;
    return 0;
bad:
    snprintf(why, why_size,
             "'%.100s' is no place to discover: expected [GROUP][%%INTERFACE][:PORT] with a multicast group", where);
    return -EINVAL;
}

int discover_check(const char *where, char *why, size_t why_size) {
    struct discover_where w;

    return discover_parse(&w, where, why, why_size);
}

static int open_socket(int i) {
    int on = 1, size = BUFFER, fd = socket(family_of[i], SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
    if (i)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    return fd;
}

int discover_hear(const struct discover_where *w, int i) {
    struct sockaddr_storage at = w->group[i];
    int on = 1, off = 0, fd = open_socket(i);

    if (fd < 0)
        return fd;
    if (i) /* a link-local group would need an interface to be bound to */
        ((struct sockaddr_in6 *)&at)->sin6_addr = in6addr_any;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)); /* several on this machine hear the same */
    if (!i)                                                    /* only what was joined on this socket */
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof(off));
    if (bind(fd, (struct sockaddr *)&at, i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in))) {
        int err = -errno;
        close(fd);
        return err;
    }
    return fd;
}

int discover_talk(int i) {
    return open_socket(i);
}

void discover_close(const int sockets[DISCOVER_SOCKETS]) {
    for (int i = 0; i < DISCOVER_SOCKETS; i++)
        if (sockets[i] >= 0)
            close(sockets[i]);
}

/* The indices of the interfaces that w means. Every interface has an entry of the link layer. */
static int interfaces(const struct discover_where *w, unsigned out[INTERFACES_MAX]) {
    struct ifaddrs *all = NULL;
    int n = 0;

    if (getifaddrs(&all))
        return 0;
    for (struct ifaddrs *a = all; a && n < INTERFACES_MAX; a = a->ifa_next) {
        bool meant = a->ifa_addr && a->ifa_addr->sa_family == AF_PACKET && a->ifa_flags & IFF_UP &&
                     a->ifa_flags & (IFF_MULTICAST | IFF_LOOPBACK) &&
                     (!w->interface[0] || !strcmp(w->interface, a->ifa_name));
        if (meant)
            out[n++] = (unsigned)((const struct sockaddr_ll *)(const void *)a->ifa_addr)->sll_ifindex;
    }
    freeifaddrs(all);
    return n;
}

void discover_join(const struct discover_where *w, int i, int fd) {
    unsigned index[INTERFACES_MAX];
    int n = interfaces(w, index);

    for (int k = 0; k < n; k++) {
        struct ip_mreqn v4 = {.imr_multiaddr = ((const struct sockaddr_in *)&w->group[0])->sin_addr,
                              .imr_ifindex = (int)index[k]};
        struct ipv6_mreq v6 = {.ipv6mr_multiaddr = ((const struct sockaddr_in6 *)&w->group[1])->sin6_addr,
                               .ipv6mr_interface = index[k]};
        if (i)
            setsockopt(fd, IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, &v6, sizeof(v6));
        else
            setsockopt(fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &v4, sizeof(v4));
    }
}

void discover_send(const struct discover_where *w, int i, int fd, const void *bytes, size_t size) {
    unsigned index[INTERFACES_MAX];
    int n = interfaces(w, index);

    for (int k = 0; k < n; k++) {
        struct ip_mreqn v4 = {.imr_ifindex = (int)index[k]};
        int v6 = (int)index[k];
        int failed = i ? setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &v6, sizeof(v6))
                       : setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &v4, sizeof(v4));
        const struct sockaddr *to = (const struct sockaddr *)&w->group[i];
        socklen_t to_size = i ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        if (!failed)
            sendto(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL, to, to_size);
    }
}
