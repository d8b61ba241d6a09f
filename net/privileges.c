#include "net/privileges.h"

#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

static bool among(int cap, const int *caps, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (caps[i] == cap)
            return true;
    return false;
}

static int apply(capng_select_t which) {
    errno = 0;
    if (capng_apply(which) == 0)
        return 0;
    return errno ? -errno : -EPERM;
}

static bool reached(const char *const *paths, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (paths[i] && faccessat(AT_FDCWD, paths[i], F_OK, AT_EACCESS) && errno == EACCES)
            return false;
    return true;
}

int privileges_keep(const int *keep, size_t keep_count, const char *const *paths, size_t path_count) {
    if (capng_get_caps_process())
        return -EPERM;
    for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
        if (!among(cap, keep, keep_count))
            capng_update(CAPNG_DROP,
                         cap == CAP_DAC_READ_SEARCH ? CAPNG_EFFECTIVE
                                                    : CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_INHERITABLE,
                         (unsigned)cap);
    int err = apply(CAPNG_SELECT_CAPS);
    if (err || !capng_have_capability(CAPNG_PERMITTED, CAP_DAC_READ_SEARCH) ||
        among(CAP_DAC_READ_SEARCH, keep, keep_count))
        return err;
    bool enough = reached(paths, path_count);
    capng_update(enough ? CAPNG_DROP : CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_READ_SEARCH);
    return apply(CAPNG_SELECT_CAPS);
}

int privileges_none(void) {
    if (capng_get_caps_process())
        return -EPERM;
    capng_clear(CAPNG_SELECT_CAPS);
    return apply(CAPNG_SELECT_CAPS);
}
