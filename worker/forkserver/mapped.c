/* Large calls, whose bytes come in a file beside the frames of a link: they are mapped, each page when it is touched.
 * A map is private: what a call writes there nobody else sees. The file is sealed, so nobody else changes it either; it
 * is mapped as it comes and closed, so that no call meets its descriptor. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/session/link_files.h"
#include "worker/forkserver/worker.h"

enum { AHEAD = 64 }; /* files of calls that wait: more than ppfs sends ahead */

static struct {
    struct worker_map maps[AHEAD + LINK_FILES]; /* in the order in which they came; at: the next one */
    unsigned at, count;
} come;

/* Without memory for it the map is empty, which ends the lease when it is asked for. */
static void keep(int fd) {
    struct stat st;
    struct worker_map m = {0};

    if (fstat(fd, &st) == 0 && st.st_size > 0)
        m = (struct worker_map){mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0),
                                (size_t)st.st_size};
    if (m.bytes == MAP_FAILED)
        m = (struct worker_map){0};
    close(fd);
    if (come.count == sizeof(come.maps) / sizeof(*come.maps)) {
        memmove(come.maps, come.maps + come.at, (come.count - come.at) * sizeof(*come.maps));
        come.count -= come.at;
        come.at = 0;
    }
    come.maps[come.count++] = m;
}

ssize_t worker_receive(int link, void *to, size_t room, int flags) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(LINK_FILES * sizeof(int))];
    } control;
    struct iovec part = {to, room};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};

    if (come.count - come.at > AHEAD) {
        errno = EPROTO;
        return -1;
    }
    ssize_t n = recvmsg(link, &msg, flags | MSG_CMSG_CLOEXEC);
    if (n > 0 && (msg.msg_flags & MSG_CTRUNC)) { /* the map of a call is missing, and another would be taken for it */
        errno = EPROTO;
        return -1;
    }
    if (n <= 0 || !msg.msg_controllen)
        return n;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        for (size_t i = 0; c->cmsg_type == SCM_RIGHTS && CMSG_LEN((i + 1) * sizeof(int)) <= c->cmsg_len; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
            keep(fd);
        }
    return n;
}

struct worker_map worker_take_map(void) {
    return come.at < come.count ? come.maps[come.at++] : (struct worker_map){0};
}
