/* The spool's files, also where the kernel copies nothing from one to the other. */
#include <sys/syscall.h>
#include <sys/uio.h>

#include "sched/db/spool.h"
#include "tests/unit/netrig.h"

enum { LARGE = 100000 };

static struct disk *disk;
static struct spool *spool;
static int refusal; /* the errno of copy_file_range, 0: it copies */
static unsigned refused;

/* Instead of libc's. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags) {
    if (!refusal)
        return syscall(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
    refused++;
    errno = refusal;
    return -1;
}

static int setup(void **state) {
    refusal = 0;
    refused = 0;
    return disk_create(&disk, base) < 0 ? -1 : spool_create(&spool, dir, disk, -1);
}

static int teardown(void **state) {
    disk_destroy(disk);
    spool_destroy(spool);
    return 0;
}

static struct spool_name name(uint64_t job) {
    return (struct spool_name){job, BODY_SPEC, 1};
}

static int64_t told;

static void on_told(void *arg, int rc) {
    told = rc;
    *(bool *)arg = true;
}

static bool is_set(void *arg) {
    return *(bool *)arg;
}

/* What a call that was sent is told in the end. */
#define TOLD(call)                                                                                                     \
    ({                                                                                                                 \
        bool done = false;                                                                                             \
        void *arg = &done;                                                                                             \
        assert_int_equal(call, -EINPROGRESS);                                                                          \
        turn_until(is_set, &done);                                                                                     \
        told;                                                                                                          \
    })

static void expect(struct spool_name n, const char *bytes, size_t size) {
    char *buf = malloc(size + 1);
    assert_int_equal(TOLD(spool_load(spool, n, buf, size + 1, 0, on_told, arg)), size);
    assert_memory_equal(buf, bytes, size);
    free(buf);
}

static void a_file_is_copied(void **state) {
    static const int refusals[] = {0, EXDEV, ENOSYS, EINVAL};
    char *bytes = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    assert_int_equal(TOLD(spool_write(spool, name(1), bytes, LARGE, 0, on_told, arg)), 0);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refusal = refusals[i];
        refused = 0;
        assert_int_equal(TOLD(spool_write(spool, name(2), "before", 6, LARGE, on_told, arg)), 0);
        assert_int_equal(TOLD(spool_copy(spool, name(1), name(2), on_told, arg)), 0);
        expect(name(2), bytes, LARGE); /* and nothing behind it */
        assert_int_equal(TOLD(spool_copy_part(spool, name(1), 1000, 50000, name(3), 0, on_told, arg)), 50000);
        assert_int_equal(TOLD(spool_copy_part(spool, name(1), LARGE - 10, 50, name(3), 50000, on_told, arg)), 10);
        char *whole = malloc(50010);
        memcpy(whole, bytes + 1000, 50000);
        memcpy(whole + 50000, bytes + LARGE - 10, 10);
        expect(name(3), whole, 50010);
        free(whole);
        assert_true(refused == (refusal ? 3 : 0)); /* it is not asked for each piece */
    }
    free(bytes);
}

static void a_copy_that_fails_says_so(void **state) {
    refusal = ENOSPC;
    assert_int_equal(TOLD(spool_write(spool, name(1), "x", 1, 0, on_told, arg)), 0);
    assert_int_equal(TOLD(spool_copy(spool, name(1), name(2), on_told, arg)), -ENOSPC);
    assert_int_equal(TOLD(spool_copy(spool, name(9), name(2), on_told, arg)), -EIO); /* no such file */
}

static void bytes_are_written(void **state) {
    uint8_t hash[32] = {0};
    char text[] = "hello";
    bool done = false;
    assert_int_equal(spool_write_copy(spool, name(4), text, 5, 0, on_told, &done), -EINPROGRESS);
    memset(text, 0, sizeof text); /* it has a copy */
    turn_until(is_set, &done);
    expect(name(4), "hello", 5);
    assert_int_equal(TOLD(spool_write_hashed(spool, name(5), "hello", 5, hash, on_told, arg)), -EBADMSG);
    assert_int_equal(spool_size(spool, name(5)), -ENOENT);
    struct iovec parts[] = {{"ab", 2}, {"cde", 3}};
    assert_int_equal(TOLD(spool_write_parts(spool, name(4), parts, 2, 1, true, on_told, arg)), 0);
    expect(name(4), "habcde", 6);
    assert_int_equal(TOLD(spool_truncate(spool, name(4), 2, on_told, arg)), 0);
    expect(name(4), "ha", 2);
    assert_int_equal(TOLD(spool_sync(spool, (struct spool_name[]){name(4)}, 1, false, on_told, arg)), 0);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(a_file_is_copied), TEST(a_copy_that_fails_says_so),
                                       TEST(bytes_are_written)};
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
