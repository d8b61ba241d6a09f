/* Large answers put together as frames, and handed on without being copied. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <cmocka.h>

#include "net/session/frame.h"
#include "sched/bytes/chunk.h"

static size_t counted;

static char byte_at(size_t i) {
    return (char)(i * 7 + i / 251);
}

static void add(struct chunks *c, size_t from, size_t size) {
    char *bytes = malloc(size);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_at(from + i);
    assert_int_equal(chunks_add(c, bytes, size, &counted), 0);
    free(bytes);
}

/* All of it as one run of bytes. */
static uint8_t *flat(const struct chunks *c) {
    uint8_t *bytes = malloc(c->size + 1);
    struct iovec *parts = chunks_parts(c);
    size_t size = 0;
    assert_true(bytes && parts);
    for (unsigned i = 0; i < c->count; i++) {
        memcpy(bytes + size, parts[i].iov_base, parts[i].iov_len);
        size += parts[i].iov_len;
    }
    assert_int_equal(size, c->size);
    free(parts);
    return bytes;
}

/* The frames that begin at bytes, up to one of kind: their bodies are those of add(0, size). Returns what follows. */
static const uint8_t *check(const uint8_t *bytes, size_t left, uint8_t kind, uint64_t id, size_t size) {
    struct frame f;
    size_t at = 0;
    do {
        int64_t n = frame_decode(bytes, left, &f);
        assert_true(n > 0);
        assert_int_equal(f.id, id);
        assert_int_equal(f.kind, at + f.size < size ? FRAME_PART : kind);
        assert_true(f.kind == kind || f.size == FRAME_BODY_MAX);
        for (size_t i = 0; i < f.size; i++)
            if ((char)f.body[i] != byte_at(at + i))
                fail_msg("byte %zu", at + i);
        at += f.size;
        bytes += n;
        left -= (size_t)n;
    } while (f.kind == FRAME_PART);
    assert_int_equal(at, size);
    return bytes;
}

static void a_body_becomes_frames(void **state) {
    static const size_t sizes[] = {
        1, 65536, FRAME_BODY_MAX - 1, FRAME_BODY_MAX, FRAME_BODY_MAX + 1, 2 * FRAME_BODY_MAX, 5000000};
    static const size_t steps[] = {65536, FRAME_BODY_MAX, 100001};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (unsigned j = 0; j < 3; j++) {
            struct chunks c = {0};
            for (size_t at = 0; at < sizes[i]; at += steps[j])
                add(&c, at, sizes[i] - at < steps[j] ? sizes[i] - at : steps[j]);
            assert_int_equal(chunks_body(&c), sizes[i]);
            chunks_finish(&c, FRAME_RESULT, 42);
            uint8_t *bytes = flat(&c);
            assert_ptr_equal(check(bytes, c.size, FRAME_RESULT, 42, sizes[i]), bytes + c.size);
            free(bytes);
            chunks_free(&c);
            assert_true(!c.first && !c.size && !c.count);
        }
}

static void lists_and_buffers_keep_their_order(void **state) {
    struct chunks all = {0}, one = {0}, two = {0}, none = {0};
    struct buffer b = {0};
    assert_int_equal(chunks_take(&all, &b, &counted), 0); /* of nothing: nothing */
    assert_int_equal(all.count, 0);
    assert_int_equal(buffer_add(&b, "before", 6), 0);
    assert_int_equal(chunks_take(&all, &b, &counted), 0);
    assert_true(!b.bytes && !b.size);
    add(&one, 0, 300000);
    chunks_finish(&one, FRAME_RESULT, 1);
    chunks_join(&all, &one);
    chunks_join(&all, &none);
    assert_true(!one.first && !one.size);
    assert_int_equal(buffer_add(&b, "between", 7), 0);
    assert_int_equal(chunks_take(&all, &b, &counted), 0);
    add(&two, 0, 70000);
    chunks_finish(&two, FRAME_ERROR, 2);
    chunks_join(&all, &two);
    assert_int_equal(all.count, 1 + 2 + 1 + 1);
    uint8_t *bytes = flat(&all);
    assert_memory_equal(bytes, "before", 6);
    const uint8_t *at = check(bytes + 6, all.size - 6, FRAME_RESULT, 1, 300000);
    assert_memory_equal(at, "between", 7);
    at = check(at + 7, all.size, FRAME_ERROR, 2, 70000);
    assert_ptr_equal(at, bytes + all.size);
    free(bytes);
    chunks_free(&all);
    chunks_free(&none);
}

static void bytes_stay_while_a_list_has_them(void **state) {
    struct chunks c = {0}, also = {0}, none = {0};
    struct buffer b = {0};
    add(&c, 0, 600000);
    chunks_finish(&c, FRAME_RESULT, 7);
    assert_int_equal(chunks_share(&c, &also), 0);
    assert_int_equal(also.size, c.size);
    assert_in_range(counted, c.size, 3 * (FRAME_HEADER + FRAME_BODY_MAX)); /* once */
    assert_int_equal(also.count, 3);
    chunks_free(&c);
    add(&c, 1, 600000); /* not into memory that the other list has */
    chunks_free(&c);
    uint8_t *bytes = flat(&also);
    assert_ptr_equal(check(bytes, also.size, FRAME_RESULT, 7, 600000), bytes + also.size);
    free(bytes);
    chunks_free(&also);
    assert_int_equal(chunks_share(&none, &also), 0);
    assert_true(!also.first);
    assert_int_equal(buffer_add(&b, "a line", 6), 0);
    const char *was = b.bytes;
    assert_int_equal(chunks_take(&c, &b, &counted), 0);
    assert_int_equal(chunks_share(&c, &also), 0);
    assert_int_equal(chunks_give(&c, &b), 0); /* the other has it still */
    assert_true(b.bytes != was && b.size == 6 && !c.first);
    buffer_free(&b);
    assert_int_equal(chunks_give(&also, &b), 0);
    assert_true(b.bytes == was && b.size == 6 && !also.first);
    assert_memory_equal(b.bytes, "a line", 6);
    assert_int_equal(buffer_add(&b, " and", 4), 0);
    assert_int_equal(chunks_take(&c, &b, &counted), 0);
    assert_int_equal(buffer_add(&b, ":", 1), 0);
    assert_int_equal(chunks_give(&c, &b), 0);
    assert_memory_equal(b.bytes, ":a line and", 11);
    buffer_free(&b);
    assert_int_equal(counted, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_becomes_frames),
        cmocka_unit_test(lists_and_buffers_keep_their_order),
        cmocka_unit_test(bytes_stay_while_a_list_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
