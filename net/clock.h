/* The clocks: a monotonic one for durations, and the wall clock, which may jump, for people and for comparing two
 * machines. */
#ifndef PPFS_CLOCK_H
#define PPFS_CLOCK_H
#include <stdint.h>
#include <time.h>

static inline int64_t clock_read_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline int64_t clock_ns(void) {
    return clock_read_ns(CLOCK_MONOTONIC);
}

static inline int64_t clock_us(void) {
    return clock_ns() / 1000;
}

static inline int64_t clock_ms(void) {
    return clock_ns() / 1000000;
}

/* Microseconds since 1970. */
static inline int64_t clock_wall_us(void) {
    return clock_read_ns(CLOCK_REALTIME) / 1000;
}
#endif
