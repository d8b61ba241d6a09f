/* Multicast on the local networks, for discover.c: where the groups are, and sockets to hear and to send with. */
#ifndef PPFS_DISCOVER_SOCKET_H
#define PPFS_DISCOVER_SOCKET_H
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define DISCOVER_GROUP4 "239.255.77.70"   /* RFC 2365: local scope */
#define DISCOVER_GROUP6 "ff12::7070:6673" /* link-local, not assigned */
#define DISCOVER_PORT 60070
#define DISCOVER_SOCKETS 4 /* of IPv4 to hear and to talk, of IPv6 the same; -1: not this family */

struct discover_where {
    bool use[2]; /* IPv4, IPv6 */
    struct sockaddr_storage group[2];
    char interface[IF_NAMESIZE]; /* "": all */
};

/* 0, or -EINVAL and one sentence. NULL and "" are all defaults. */
int discover_parse(struct discover_where *out, const char *where, char *why, size_t why_size);
/* A socket that hears what is sent to the group of family i, once discover_join was called. The descriptor or
 * -errno. */
int discover_hear(const struct discover_where *w, int i);
/* A socket to send with, and to hear answers on. The descriptor or -errno. */
int discover_talk(int i);
void discover_close(const int sockets[DISCOVER_SOCKETS]);
/* Joins the group on every interface that is there now; again and again does no harm. */
void discover_join(const struct discover_where *w, int i, int fd);
/* Sends to the group on every interface, where that can be. */
void discover_send(const struct discover_where *w, int i, int fd, const void *bytes, size_t size);
#endif
