#include "net/session/link_files.h"

#include <string.h>

#include "net/session/shared_buffer.h"

void link_files_drop(struct link_files *files) {
    while (files->count)
        shared_buffer_release(files->of[--files->count]);
}

ssize_t link_files_send(struct link_files *files, int fd, struct msghdr msg) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(LINK_FILES * sizeof(int))];
    } control = {0};
    size_t size = files->count * sizeof(int);

    control.head.cmsg_len = CMSG_LEN(size);
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    msg.msg_control = &control;
    msg.msg_controllen = CMSG_SPACE(size);
    for (unsigned i = 0; i < files->count; i++)
        memcpy(CMSG_DATA(&control.head) + i * sizeof(int), &files->of[i]->file, sizeof(int));
    ssize_t sent = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0)
        link_files_drop(files);
    return sent;
}
