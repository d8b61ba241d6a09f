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
    assert_int_equal(TOLD(spool_load(spool, n, buf, size + 1, 0, NULL, on_told, arg)), size);
    assert_memory_equal(buf, bytes, size);
    free(buf);
}

static void a_file_is_copied(void **state) {
    static const int refusals[] = {0, EXDEV, ENOSYS, EINVAL};
    char *bytes = malloc(LARGE);
    for (size_t i = 0; i < LARGE; i++)
        bytes[i] = (char)(i * 7 + i / 251);
    assert_int_equal(TOLD(spool_write(spool, name(1), bytes, LARGE, 0, NULL, on_told, arg)), 0);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        refusal = refusals[i];
        refused = 0;
        assert_int_equal(TOLD(spool_write(spool, name(2), "before", 6, LARGE, NULL, on_told, arg)), 0);
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
    assert_int_equal(TOLD(spool_write(spool, name(1), "x", 1, 0, NULL, on_told, arg)), 0);
    assert_int_equal(TOLD(spool_copy(spool, name(1), name(2), on_told, arg)), -ENOSPC);
    assert_int_equal(TOLD(spool_copy(spool, name(9), name(2), on_told, arg)), -EIO); /* no such file */
}

static void bytes_are_written(void **state) {
    uint8_t hash[32] = {0};
    char text[] = "hello";
    bool done = false;
    assert_int_equal(spool_write_copy(spool, name(4), text, 5, 0, NULL, on_told, &done), -EINPROGRESS);
    memset(text, 0, sizeof text); /* it has a copy */
    turn_until(is_set, &done);
    expect(name(4), "hello", 5);
    assert_int_equal(TOLD(spool_write_hashed(spool, name(5), "hello", 5, hash, on_told, arg)), -EBADMSG);
    assert_int_equal(spool_size(spool, name(5)), -ENOENT);
    struct iovec parts[] = {{"ab", 2}, {"cde", 3}};
    assert_int_equal(TOLD(spool_write_parts(spool, name(4), parts, 2, 1, true, NULL, on_told, arg)), 0);
    expect(name(4), "habcde", 6);
    assert_int_equal(TOLD(spool_truncate(spool, name(4), 2, on_told, arg)), 0);
    expect(name(4), "ha", 2);
    assert_int_equal(TOLD(spool_sync(spool, (struct spool_name[]){name(4)}, 1, false, on_told, arg)), 0);
}

static void flip(uint64_t at) {
    char path[SPOOL_PATH], byte;
    int fd = open(spool_path(spool, name(6), path), O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 16;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
    close(fd);
}

/* What comes in pieces of any size, behind other bytes, is read from anywhere; where a bit is another it is not. */
static void a_changed_bit_is_found(void **state) {
    enum { START = 1000, SIZE = 3 * SUM_BLOCK + 77 };
    struct sums sums = {.start = START};
    unsigned char *bytes = malloc(SIZE), *buf = malloc(SIZE);
    srand(1);
    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)rand();
    for (size_t at = 0, n; at < SIZE; at += n) {
        n = 1 + (size_t)rand() % (at < SUM_BLOCK ? 100 : SUM_BLOCK);
        n = n < SIZE - at ? n : SIZE - at;
        assert_int_equal(TOLD(spool_write(spool, name(6), bytes + at, n, START + at, &sums, on_told, arg)), 0);
    }
    assert_int_equal(TOLD(spool_write(spool, name(6), "x", 1, START + SIZE + 5, &sums, on_told, arg)), 0); /* a gap */
    assert_int_equal(sums.size, SIZE);
    for (int i = 0; i < 2; i++) /* a turn that is not committed ends them again */
        assert_int_equal(sums_end(&sums), 0);
    assert_int_equal(sums.count, 4);
    for (int i = 0; i < 200; i++) {
        struct part part;
        size_t at = (size_t)rand() % SIZE, n = 1 + (size_t)rand() % (SIZE - at), hit = at + (size_t)rand() % n;
        assert_int_equal(part_of(&part, START, SIZE, sums.blocks, sums.count * 8, START + at, n), 0);
        bool flipped = i % 2;
        if (flipped)
            flip(START + hit);
        int64_t rc = i % 4 < 2 ? TOLD(spool_load(spool, name(6), buf, n, START + at, &part, on_told, arg))
                               : spool_read(spool, name(6), buf, n, START + at, &part, NULL, NULL);
        assert_int_equal(rc, flipped ? -EIO : (int64_t)n);
        assert_true(flipped || memcmp(buf, bytes + at, n) == 0);
        if (flipped)
            flip(START + hit);
    }
    assert_true(spool_damaged(spool, name(6)) && !spool_damaged(spool, name(5)));
    assert_int_equal(part_of(&(struct part){0}, START, SIZE - 100, sums.blocks, sums.count * 8, START, 1), -EIO);
    sums_free(&sums);
    free(bytes);
    free(buf);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(a_file_is_copied), TEST(a_copy_that_fails_says_so), TEST(bytes_are_written),
                                       TEST(a_changed_bit_is_found)};
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
