/* The send queue: what a link has been lent. (test_session has its order and its acknowledgements, over real links.) */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "net/session/send_queue.h"

/* A peer may acknowledge what a link still has to encrypt: it says so of frames that it cannot have. */
static void what_is_kept_outlives_its_acknowledgement(void **state) {
    static const uint32_t sizes[] = {5000, 100000};
    static uint8_t body[100000], other[100000];
    memset(other, 0xff, sizeof(other));
    for (unsigned i = 0; i < 2; i++) { /* in a block with others, and in one of its own */
        struct send_queue o = {0};
        struct send_queue_run run, all;
        struct frame f;
        for (int j = 0; j < 3; j++)
            assert_int_equal(send_queue_add(&o, 7, 42, body, sizes[i]), 0);
        assert_true(send_queue_next(&o, 0, &run));
        assert_int_equal(run.frames, 1); /* one at least */
        assert_true(send_queue_next(&o, 1 << 20, &all));
        assert_int_equal(all.frames, i ? 1 : 3); /* those that lie together */
        send_queue_keep(&run);
        send_queue_advance(&o, &run);
        assert_int_equal(send_queue_ack(&o, 2), -EPROTO); /* the second was not sent */
        while (send_queue_next(&o, 1 << 20, &all))
            send_queue_advance(&o, &all);
        assert_int_equal(send_queue_ack(&o, 3), 0);
        assert_int_equal(o.bytes, 0);
        for (int j = 0; j < 20; j++)
            assert_int_equal(send_queue_add(&o, 8, 43, other, sizes[i]), 0);
        assert_int_equal(frame_decode(run.bytes, run.size, &f), run.size);
        assert_int_equal(f.kind, 7);
        assert_memory_equal(f.body, body, sizes[i]);
        send_queue_clear(&o);
        assert_memory_equal(f.body, body, sizes[i]);
        send_queue_release(run.block);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_kept_outlives_its_acknowledgement),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
