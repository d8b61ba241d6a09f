/* Files whose descriptors go with the next bytes of a link. */
#ifndef PPFS_LINK_FILES_H
#define PPFS_LINK_FILES_H
#include <sys/socket.h>

enum { LINK_FILES = 16 }; /* that one read of the peer may bring */

struct shared_buffer;
struct link_files {
    struct shared_buffer *of[LINK_FILES]; /* held, in the order of their frames */
    unsigned count;
};

/* sendmsg of msg with all descriptors; what was sent is let go. */
ssize_t link_files_send(struct link_files *files, int fd, struct msghdr msg);
void link_files_drop(struct link_files *files);
#endif
