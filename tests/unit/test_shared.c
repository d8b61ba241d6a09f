/* The table of open handles that outlives a daemon: finding, refusing, and being cut off at any instruction. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/handles/shared.h"

struct table {
    struct shared *m;
    struct handles *h;
};

static int setup(void **state) {
    struct table *t = calloc(1, sizeof *t);
    t->m = shared_create();
    *state = t;
    return t->m && handles_attach(&t->h, t->m) == 0 ? 0 : -1;
}

static int teardown(void **state) {
    struct table *t = *state;
    handles_destroy(t->h);
    shared_destroy(t->m);
    free(t);
    return 0;
}

/* The next daemon's view of the same memory. */
static void restart(struct table *t) {
    handles_destroy(t->h);
    assert_int_equal(handles_attach(&t->h, t->m), 0);
}

/* One user's share is all but a sixteenth of what others leave; it comes back as theirs is closed, also in the next
 * daemon. */
static void test_shares(void **state) {
    struct table *t = *state;
    uint64_t fh = 1;
    unsigned took[3] = {0};
    for (uint32_t uid = 0; uid < 3; uid++)
        for (; handles_room(t->h, uid); took[uid]++) {
            handles_own(t->h, handles_put(t->h, fh, fh, fh, HANDLE_CONFIRMED), uid);
            fh++;
        }
    assert_in_range(took[0], SHARED_SLOTS / 16 * 15, SHARED_SLOTS / 16 * 15 + 16);
    assert_in_range(took[1], SHARED_SLOTS / 16 * 15 / 16, SHARED_SLOTS / 16);
    assert_in_range(took[2], 100, 300);
    restart(t);
    for (uint32_t uid = 0; uid < 3; uid++)
        assert_false(handles_room(t->h, uid));
    assert_true(handles_room(t->h, 3));
    for (uint64_t i = 1; i <= 5000; i++)
        handles_remove(t->h, i);
    for (uint32_t uid = 0; uid < 3; uid++)
        assert_true(handles_room(t->h, uid));
}

static void test_init_is_kept(void **state) {
    struct table *t = *state;
    char big[SHARED_INIT_MAX + 1] = {0};
    size_t size;
    assert_null(shared_init(t->m, &size));
    assert_int_equal(shared_save_init(t->m, big, sizeof big), -E2BIG);
    assert_null(shared_init(t->m, &size));
    assert_int_equal(shared_save_init(t->m, "hello", 5), 0);
    assert_memory_equal(shared_init(t->m, &size), "hello", 5);
    assert_int_equal(size, 5);
    restart(t);
}

static void test_find_and_remove(void **state) {
    struct table *t = *state;
    assert_null(handles_find(t->h, 2));
    struct handle *x = handles_put(t->h, 2, 77, 9, HANDLE_WRITER);
    assert_non_null(x);
    assert_ptr_equal(handles_find(t->h, 2), x);
    assert_int_equal(x->ino, 77);
    handles_put(t->h, 4, 78, 9, 0);
    handles_put(t->h, 6, 79, 10, HANDLE_WRITER);
    assert_int_equal(handles_count(t->h, 9, 0), 2);
    assert_int_equal(handles_count(t->h, 9, HANDLE_WRITER), 1);
    handles_remove(t->h, 2);
    handles_remove(t->h, 2);
    assert_null(handles_find(t->h, 2));
    assert_int_equal(handles_count(t->h, 9, HANDLE_WRITER), 0);
    assert_int_equal(atomic_load(&handles_first(t->h, 9)->fh), 4);
    assert_null(handles_next(t->h, handles_first(t->h, 9)));
    assert_int_equal(handles_count(t->h, 10, HANDLE_WRITER), 1);
}

static void test_put_again_replaces(void **state) {
    struct table *t = *state;
    handles_put(t->h, 2, 77, 9, HANDLE_WRITER);
    handles_put(t->h, 2, 80, 11, HANDLE_WRITER);
    assert_null(handles_first(t->h, 9));
    assert_int_equal(handles_find(t->h, 2)->job, 11);
}

static void test_full(void **state) {
    struct table *t = *state;
    for (uint64_t fh = 1; fh <= SHARED_SLOTS; fh++)
        assert_non_null(handles_put(t->h, fh, fh, fh % 7, 0));
    assert_null(handles_put(t->h, SHARED_SLOTS + 1, 1, 1, 0));
    for (uint64_t fh = 1; fh <= SHARED_SLOTS; fh++)
        assert_int_equal(handles_find(t->h, fh)->job, fh % 7);
    handles_remove(t->h, 12345);
    assert_non_null(handles_put(t->h, SHARED_SLOTS + 1, 1, 1, 0));
    assert_null(handles_find(t->h, 12345));
}

static void test_only_the_confirmed_outlive_a_daemon(void **state) {
    struct table *t = *state;
    handles_put(t->h, 2, 77, 9, HANDLE_WRITER);
    handles_put(t->h, 4, 78, 9, HANDLE_WRITER);
    handles_put(t->h, 6, 79, 9, HANDLE_WRITER);
    handles_confirm(t->h, 2);
    handles_confirm(t->h, 6);
    handles_confirm(t->h, 8); /* unknown: nothing */
    handles_remove(t->h, 6);
    restart(t);
    assert_non_null(handles_find(t->h, 2));
    assert_null(handles_find(t->h, 4));
    assert_null(handles_find(t->h, 6));
    assert_int_equal(handles_count(t->h, 9, HANDLE_WRITER), 1);
}

static void count_one(void *arg, struct handle *x) {
    ++*(unsigned *)arg;
}

/* What each slot must be whenever its fh can be seen: all of one handle. */
static void whole(void *arg, struct handle *x) {
    uint64_t fh = atomic_load(&x->fh);
    assert_int_equal(x->ino, fh * 3);
    assert_int_equal(x->job, fh % 1000);
    assert_int_equal(atomic_load(&x->flags) & HANDLE_WRITER, fh & 1 ? HANDLE_WRITER : 0);
}

static void churn(struct shared *m) {
    struct handles *h;
    unsigned seed = (unsigned)getpid();
    if (handles_attach(&h, m) != 0)
        _exit(1);
    for (;;) {
        uint64_t fh = 1 + (uint64_t)rand_r(&seed) % 5000;
        if (handles_find(h, fh))
            handles_remove(h, fh);
        else if (!handles_put(h, fh, fh * 3, fh % 1000, fh & 1 ? HANDLE_WRITER : 0))
            _exit(1);
        else
            handles_confirm(h, fh);
    }
}

/* kill -9 at 200 arbitrary moments: every handle that the next daemon sees is whole, found by both keys, and there
 * once. */
static void test_killed_at_any_instruction(void **state) {
    struct table *t = *state;
    for (int round = 0; round < 200; round++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            churn(t->m);
        assert_true(pid > 0);
        nanosleep(&(struct timespec){.tv_nsec = 200000 + round * 20000}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        restart(t);
        handles_each(t->h, whole, NULL);
        unsigned all = 0, found = 0, by_job = 0;
        handles_each(t->h, count_one, &all);
        for (uint64_t fh = 1; fh <= 5000; fh++)
            found += handles_find(t->h, fh) != NULL;
        for (uint64_t job = 0; job < 1000; job++)
            by_job += handles_count(t->h, job, 0);
        assert_int_equal(found, all);
        assert_int_equal(by_job, all);
    }
}

/* Requests are read where they are kept, as the structs that they are. */
static void test_requests_are_aligned(void **state) {
    struct table *t = *state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal((uintptr_t)shared_journal(t->m)[i].bytes % _Alignof(uint64_t), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_init_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(test_find_and_remove, setup, teardown),
        cmocka_unit_test_setup_teardown(test_put_again_replaces, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_the_confirmed_outlive_a_daemon, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_at_any_instruction, setup, teardown),
        cmocka_unit_test_setup_teardown(test_requests_are_aligned, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
