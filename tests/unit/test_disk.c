/* The disk thread, and the files that it reads and writes for the loop. A FIFO is the disk that lets one wait: its
 * open() returns when somebody opens the other end. */
#include "tests/unit/netrig.h"
#include "worker/runner/disk.h"
#include "worker/runner/file_writer.h"
#include "worker/runner/file_reader.h"

enum { LARGE = 3 * FILE_READER_AHEAD + 12345 };

static struct disk *disk;
static unsigned told, open_before;

static void on_told(void *arg) {
    told++;
}

static unsigned descriptors(void) {
    unsigned n = 0;
    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int setup(void **state) {
    open_before = descriptors();
    told = 0;
    return disk_create(&disk, base);
}

/* The thread ends, and with it what was closed while it was busy: no descriptor is left. (LeakSanitizer sees the
 * memory.) */
static int teardown(void **state) {
    disk_destroy(disk);
    assert_int_equal(descriptors(), open_before);
    return 0;
}

static uint8_t byte_at(size_t i) {
    return (uint8_t)(i * 7 + i / 251);
}

static const char *in_dir(const char *name) {
    static char path[4][128];
    static unsigned next;
    char *p = path[next++ % 4];

    snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
    return p;
}

/* A file of which the thread gets hold only when somebody calls let_on(). */
static const char *hanging(void) {
    const char *path = in_dir("fifo");
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    return path;
}

static int let_on(void) {
    int fd = open(in_dir("fifo"), O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    return fd;
}

/* --- reading -------------------------------------------------------------------------------------------------------
 * */
static bool has_news(void *arg) {
    const uint8_t *bytes;
    return file_reader_peek(arg, &bytes) != -EAGAIN;
}

/* Reads all of s, step bytes at a time. Its size; how it ended is in *end. */
static size_t read_all(struct file_reader *s, size_t step, ssize_t *end) {
    const uint8_t *bytes;
    size_t size = 0;

    for (;;) {
        turn_until(has_news, s);
        *end = file_reader_peek(s, &bytes);
        if (*end <= 0)
            return size;
        size_t n = (size_t)*end < step ? (size_t)*end : step;
        assert_in_range(*end, 1, FILE_READER_AHEAD);
        for (size_t i = 0; i < n; i++)
            if (bytes[i] != byte_at(size + i))
                fail_msg("byte %zu", size + i);
        file_reader_took(s, n);
        size += n;
    }
}

static void a_file_is_read_in_pieces(void **state) {
    static const size_t steps[] = {65536, 1000, LARGE};
    const char *path = in_dir("large");
    FILE *f = fopen(path, "we");
    struct file_reader *s;
    ssize_t end;

    for (size_t i = 0; i < LARGE; i++)
        putc(byte_at(i), f);
    fclose(f);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(file_reader_open(&s, disk, path, on_told, NULL), 0);
        assert_int_equal(read_all(s, steps[i], &end), LARGE);
        assert_int_equal(end, 0);
        file_reader_close(s);
    }
    assert_in_range(told, 3 * 4, 3 * 5);
}

static void what_cannot_be_read_says_why(void **state) {
    struct file_reader *s;
    ssize_t end;

    assert_int_equal(file_reader_open(&s, disk, in_dir("nothing"), on_told, NULL), 0);
    assert_int_equal(read_all(s, 1, &end), 0);
    assert_int_equal(end, -ENOENT);
    file_reader_close(s);
    assert_int_equal(file_reader_open(&s, disk, dir, on_told, NULL), 0);
    assert_int_equal(read_all(s, 1, &end), 0);
    assert_int_equal(end, -EISDIR);
    file_reader_close(s);
    file_reader_close(NULL);
}

static void the_loop_does_not_wait_for_an_open(void **state) {
    const uint8_t *bytes;
    struct file_reader *s;
    ssize_t end;

    assert_int_equal(file_reader_open(&s, disk, hanging(), on_told, NULL), 0);
    for (int i = 0; i < 10; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    assert_int_equal(file_reader_peek(s, &bytes), -EAGAIN);
    assert_int_equal(told, 0);
    int fd = let_on();
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(write(fd, &(uint8_t){byte_at(i)}, 1), 1);
    close(fd);
    assert_int_equal(read_all(s, 300, &end), 1000);
    assert_int_equal(end, 0);
    file_reader_close(s);
}

static void a_source_that_is_closed_while_it_is_read_tells_no_more(void **state) {
    struct file_reader *s, *other;
    ssize_t end;

    assert_int_equal(file_reader_open(&s, disk, hanging(), on_told, NULL), 0);
    file_reader_close(s);
    assert_int_equal(file_reader_open(&other, disk, in_dir("nothing"), on_told, NULL), 0);
    close(let_on());
    assert_int_equal(read_all(other, 1, &end), 0);
    assert_int_equal(told, 1); /* of the other */
    file_reader_close(other);
}

/* --- writing -------------------------------------------------------------------------------------------------------
 * */
static bool is_idle(void *arg) {
    return file_writer_idle(arg);
}

static void add(struct file_writer *s, size_t from, size_t size) {
    static uint8_t bytes[LARGE];

    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(from + i);
    assert_int_equal(file_writer_add(s, bytes, size), 0);
}

static void check(const struct file_writer *s, size_t size) {
    static uint8_t bytes[2 * LARGE];

    assert_int_equal(file_writer_error(s), 0);
    assert_int_equal(pread(file_writer_fd(s), bytes, sizeof(bytes), 0), size);
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != byte_at(i))
            fail_msg("byte %zu", i);
}

static void pieces_are_kept_in_order_while_the_loop_goes_on(void **state) {
    struct file_reader *before;
    struct file_writer *s;
    size_t size = 0;

    assert_int_equal(file_reader_open(&before, disk, hanging(), on_told, NULL), 0); /* the thread hangs in it */
    assert_int_equal(file_writer_open(&s, disk, dir, on_told, NULL), 0);
    for (size_t i = 1; i <= 100; i++) {
        add(s, size, i * 10);
        size += i * 10;
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    assert_int_equal(file_writer_kept(s), 0);
    assert_false(file_writer_idle(s));
    close(let_on());
    turn_until(is_idle, s);
    assert_int_equal(file_writer_kept(s), 100);
    check(s, size);
    add(s, size, LARGE);
    turn_until(is_idle, s);
    assert_int_equal(file_writer_kept(s), 101);
    check(s, size + LARGE);
    file_writer_close(s);
    file_reader_close(before);
}

static void an_empty_file_is_made_as_well(void **state) {
    struct file_writer *s;

    assert_int_equal(file_writer_open(&s, disk, dir, on_told, NULL), 0);
    turn_until(is_idle, s);
    check(s, 0);
    file_writer_close(s);
}

static void what_cannot_be_kept_says_why(void **state) {
    struct rlimit little = {.rlim_cur = 100000}, usual;
    struct file_writer *s;

    assert_int_equal(file_writer_open(&s, disk, "/nonexistent", on_told, NULL), 0);
    add(s, 0, 10);
    turn_until(is_idle, s);
    assert_int_equal(file_writer_error(s), -ENOENT);
    assert_int_equal(file_writer_kept(s), 0);
    file_writer_close(s);
    getrlimit(RLIMIT_FSIZE, &usual);
    little.rlim_max = usual.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &little);
    assert_int_equal(file_writer_open(&s, disk, dir, on_told, NULL), 0);
    add(s, 0, 60000);
    add(s, 60000, 60000);
    add(s, 120000, 10);
    turn_until(is_idle, s);
    setrlimit(RLIMIT_FSIZE, &usual);
    assert_int_equal(file_writer_error(s), -EFBIG);
    assert_int_equal(file_writer_kept(s), 1);
    file_writer_close(s);
    file_writer_close(NULL);
}

static void a_sink_that_is_closed_while_it_is_written_tells_no_more(void **state) {
    struct file_reader *before;
    struct file_writer *s;

    assert_int_equal(file_reader_open(&before, disk, hanging(), on_told, NULL), 0);
    assert_int_equal(file_writer_open(&s, disk, dir, on_told, NULL), 0);
    add(s, 0, LARGE);
    file_writer_close(s);
    file_reader_close(before);
    close(let_on());
    disk_destroy(disk); /* which works off all of it */
    disk = NULL;
    assert_int_equal(told, 0);
}

#define DISK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
/* --- turns ---------------------------------------------------------------------------------------------------------
 * */
static struct {
    struct disk_task task;
    char name;
} tasks[6];
static const char *fifo;
static char order[8];

static void wait_for_it(struct disk_task *t) {
    close(open(fifo, O_RDONLY | O_CLOEXEC));
}

static void note(struct disk_task *t) {
    for (size_t i = 0; i < sizeof(tasks) / sizeof(*tasks); i++)
        if (t == &tasks[i].task)
            strncat(order, &tasks[i].name, 1);
}

static void count(struct disk_task *t) {
    on_told(t);
}

static bool all_told(void *arg) {
    return told == sizeof(tasks) / sizeof(*tasks);
}

/* What takes long goes last, and whoever has much of it does not hold up others. */
static void owners_take_turns(void **state) {
    static const struct {
        char name;
        uint32_t owner;
    } longer[] = {{'a', 1000}, {'b', 1000}, {'c', 1000}, {'d', 1001}};
    fifo = hanging();
    order[0] = 0;
    tasks[0].task = (struct disk_task){.work = wait_for_it, .done = count};
    disk_submit(disk, &tasks[0].task);
    for (size_t i = 0; i < 4; i++) {
        tasks[i + 1].task = (struct disk_task){.work = note, .done = count};
        tasks[i + 1].name = longer[i].name;
        disk_submit_long(disk, &tasks[i + 1].task, longer[i].owner);
    }
    tasks[5].task = (struct disk_task){.work = note, .done = count};
    tasks[5].name = 'x';
    disk_submit(disk, &tasks[5].task);
    close(let_on());
    turn_until(all_told, NULL);
    assert_string_equal(order, "xadbc");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        DISK_TEST(a_file_is_read_in_pieces),
        DISK_TEST(what_cannot_be_read_says_why),
        DISK_TEST(the_loop_does_not_wait_for_an_open),
        DISK_TEST(a_source_that_is_closed_while_it_is_read_tells_no_more),
        DISK_TEST(pieces_are_kept_in_order_while_the_loop_goes_on),
        DISK_TEST(an_empty_file_is_made_as_well),
        DISK_TEST(what_cannot_be_kept_says_why),
        DISK_TEST(a_sink_that_is_closed_while_it_is_written_tells_no_more),
        DISK_TEST(owners_take_turns),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
