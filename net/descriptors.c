#include "net/descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PROBES = 512 };

static struct rlimit before;
static bool raised;

void descriptors_standard(void) {
    int fd;

    do /* each open takes the lowest free number */
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
}

void descriptors_raise(void) {
    if (raised || getrlimit(RLIMIT_NOFILE, &before))
        return;
    struct rlimit all = {.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
    raised = setrlimit(RLIMIT_NOFILE, &all) == 0;
}

void descriptors_restore(void) {
    if (raised)
        setrlimit(RLIMIT_NOFILE, &before);
}

unsigned descriptors_limit(void) {
    struct rlimit limit;

    return getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur > UINT_MAX ? UINT_MAX : (unsigned)limit.rlim_cur;
}

bool descriptors_spare(unsigned count, unsigned beyond) {
    int fds[PROBES];
    unsigned have = 0, quarter = descriptors_limit() / 4;

    if (beyond > quarter)
        beyond = quarter;
    unsigned want = count + beyond < PROBES ? count + beyond : PROBES;
    while (have < want && (fds[have] = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)) >= 0)
        have++;
    for (unsigned i = 0; i < have; i++)
        close(fds[i]);
    return have == want;
}

bool descriptors_short(int err) {
    return err == EMFILE || err == ENFILE || err == ENOBUFS || err == ETOOMANYREFS;
}
