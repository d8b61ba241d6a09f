/* The frame format, and links over a socketpair: pieces of every size, broken peers, destruction from within. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/session/link.h"
#include "net/session/link_files.h"
#include "net/session/shared_buffer.h"

static void header_round_trip(void **state) {
    uint8_t bytes[FRAME_HEADER + 5];
    struct frame f;
    frame_encode(bytes, 7, UINT64_C(0x1122334455667788), 5);
    memcpy(bytes + FRAME_HEADER, "hello", 5);
    static const uint8_t expected[] = {5, 0, 0, 0, 7, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11};
    assert_memory_equal(bytes, expected, FRAME_HEADER);
    assert_int_equal(frame_decode(bytes, sizeof(bytes), &f), sizeof(bytes));
    assert_int_equal(f.kind, 7);
    assert_true(f.id == UINT64_C(0x1122334455667788));
    assert_int_equal(f.size, 5);
    assert_memory_equal(f.body, "hello", 5);
}

static void less_than_a_frame_waits(void **state) {
    uint8_t bytes[FRAME_HEADER + 3] = {0};
    struct frame f;
    frame_encode(bytes, 1, 2, 3);
    for (size_t len = 0; len < sizeof(bytes); len++)
        assert_int_equal(frame_decode(bytes, len, &f), 0);
    assert_int_equal(frame_decode(bytes, sizeof(bytes), &f), sizeof(bytes));
}

static void what_is_no_frame_is_refused(void **state) {
    struct frame f;
    for (int at = 5; at < 8; at++) {
        uint8_t bytes[FRAME_HEADER] = {0};
        bytes[at] = 1;
        assert_int_equal(frame_decode(bytes, sizeof(bytes), &f), -EPROTO);
    }
    uint8_t large[FRAME_HEADER] = {1, 0, 4, 0}; /* FRAME_BODY_MAX + 1 */
    assert_int_equal(frame_decode(large, sizeof(large), &f), -EPROTO);
    uint8_t largest[FRAME_HEADER] = {0, 0, 4, 0};
    assert_int_equal(frame_decode(largest, sizeof(largest), &f), 0);
}

static void random_bytes_are_harmless(void **state) {
    srandom(1);
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)random() % 64;
        uint8_t *bytes = malloc(len + 1); /* of its own, so that the sanitizer sees its end */
        struct frame f;
        for (size_t i = 0; i < len; i++)
            bytes[i] = (uint8_t)(random() % 3 ? 0 : random());
        int64_t took = frame_decode(bytes, len, &f);
        assert_true(took == 0 || took == -EPROTO || (took >= FRAME_HEADER && (size_t)took <= len));
        free(bytes);
    }
}

/* --- links -------------------------------------------------------------------------------------------------------- */
struct end {
    struct link *link;
    uint64_t frames, bytes;
    uint8_t last_kind;
    int closed; /* -1: not */
    bool destroy_at_frame;
};

static void on_frame(void *arg, const struct frame *f) {
    struct end *e = arg;
    e->frames++;
    e->bytes += f->size;
    e->last_kind = f->kind;
    for (uint32_t i = 0; i < f->size; i += 4099)
        assert_int_equal(f->body[i], (uint8_t)f->id);
    if (e->destroy_at_frame) {
        link_destroy(e->link);
        e->link = NULL;
    }
}

static void on_closed(void *arg, int err) {
    struct end *e = arg;
    assert_int_equal(e->closed, -1);
    e->closed = err;
    link_destroy(e->link);
    e->link = NULL;
}

static const struct link_events events = {.frame = on_frame, .closed = on_closed};

static void link_up(struct event_base *base, struct end *e, int fd) {
    *e = (struct end){.closed = -1};
    assert_int_equal(link_create(&e->link, base, fd, &events, e), 0);
}

static void turns(struct event_base *base, int count) {
    while (count--)
        event_base_loop(base, EVLOOP_NONBLOCK);
}

static void links_carry_frames_of_every_size(void **state) {
    struct event_base *base = event_base_new();
    struct end a, b;
    int ends[2];
    uint8_t *body = malloc(FRAME_BODY_MAX);
    uint64_t sent = 0, bytes = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &a, ends[0]);
    link_up(base, &b, ends[1]);
    for (uint32_t size = 0; size <= FRAME_BODY_MAX; size = size < 3 ? size + 1 : size * 3) {
        memset(body, (int)(sent & 0xff), size);
        assert_int_equal(link_send(a.link, 9, sent, body, size), 0);
        sent++;
        bytes += size;
    }
    memset(body, (int)(sent & 0xff), FRAME_BODY_MAX);
    assert_int_equal(link_send(a.link, 9, sent++, body, FRAME_BODY_MAX), 0);
    bytes += FRAME_BODY_MAX;
    assert_true(link_pending(a.link) > 0);
    for (int i = 0; i < 1000 && b.frames < sent; i++)
        turns(base, 1);
    assert_int_equal(b.frames, sent);
    assert_int_equal(b.bytes, bytes);
    assert_int_equal(link_pending(a.link), 0);
    /* corked: nothing leaves before the last uncork */
    link_cork(a.link);
    link_cork(a.link);
    for (int i = 0; i < 50; i++)
        assert_int_equal(link_send(a.link, 8, 0, NULL, 0), 0);
    link_uncork(a.link);
    turns(base, 5);
    assert_int_equal(b.frames, sent);
    link_uncork(a.link);
    turns(base, 5);
    assert_int_equal(b.frames, sent + 50);
    assert_int_equal(b.last_kind, 8);
    /* held: what comes waits; drained: it does not */
    link_hold(b.link, true);
    assert_int_equal(link_send(a.link, 7, 0, NULL, 0), 0);
    turns(base, 5);
    assert_int_equal(b.last_kind, 8);
    link_drain(b.link);
    assert_int_equal(b.last_kind, 7);
    assert_int_equal(link_send(a.link, 6, 0, NULL, 0), 0);
    link_hold(b.link, false);
    turns(base, 5);
    assert_int_equal(b.last_kind, 6);
    link_destroy(a.link);
    turns(base, 5);
    assert_int_equal(b.closed, 0);
    free(body);
    event_base_free(base);
}

struct writer {
    int fd;
    unsigned frames;
    uint8_t bytes[16 * 1024];
};

/* As much as was read. */
static void writes_on(void *arg, const struct frame *f) {
    struct writer *w = arg;
    if (++w->frames % (sizeof w->bytes / FRAME_HEADER) == 0)
        assert_int_equal(send(w->fd, w->bytes, sizeof w->bytes, MSG_DONTWAIT), sizeof w->bytes);
}

static void who_goes_on_writing_is_not_read_for_ever(void **state) {
    static const struct link_events events = {.frame = writes_on};
    struct event_base *base = event_base_new();
    struct writer w = {0};
    struct link *l;
    int fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    w.fd = fds[1];
    assert_int_equal(link_create(&l, base, fds[0], &events, &w), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(send(w.fd, w.bytes, sizeof w.bytes, MSG_DONTWAIT), sizeof w.bytes);
    link_drain(l);
    assert_true(link_received(l) >= 4 * sizeof w.bytes && link_received(l) <= 6 * sizeof w.bytes);
    link_destroy(l);
    close(w.fd);
    event_base_free(base);
}

/* All links together have a share of each turn, as many peers may have much to say at once. */
static void many_that_write_leave_the_others_their_turn(void **state) {
    enum { MANY = 256, WAITS = 96 * 1024 };
    static const uint8_t bytes[WAITS];
    struct event_base *base = event_base_new();
    struct end *ends = calloc(MANY, sizeof *ends);
    int fds[MANY][2];
    uint64_t before = 0, all = 0;
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds[i]), 0);
        link_up(base, &ends[i], fds[i][0]);
        assert_int_equal(send(fds[i][1], bytes, WAITS, MSG_DONTWAIT), WAITS);
    }
    for (int turn = 0; all < (uint64_t)MANY * WAITS; turn++) {
        event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        for (int i = (int)(all = 0); i < MANY; i++) {
            assert_true(turn < 8 || link_received(ends[i].link)); /* the loop looks at more in each turn */
            all += link_received(ends[i].link);
        }
        assert_in_range(all - before, 1, turn ? 2 << 20 : 6 << 20);
        before = all;
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(ends[i].frames, WAITS / FRAME_HEADER);
        link_destroy(ends[i].link);
        close(fds[i][1]);
    }
    free(ends);
    event_base_free(base);
}

/* However fast the peer reads, and however large what waits is: others have their turn, and nothing is copied. */
static void a_turn_writes_some_of_what_is_lent(void **state) {
    enum { SIZE = 64 << 20, A_TURN = 4 << 20, ROOM = 16 << 20 };
    struct event_base *base = event_base_new();
    struct end a = {0}, b = {0};
    int ends[2], room = ROOM;
    size_t before;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    if (setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room))) /* without privilege: what there is */
        setsockopt(ends[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    link_up(base, &a, ends[0]);
    link_up(base, &b, ends[1]);
    uint8_t *memory = calloc(1, SIZE);
    struct shared_buffer *shared = shared_buffer_new(memory);
    assert_non_null(memory);
    assert_non_null(shared);
    link_cork(a.link);
    for (size_t at = 0; at < SIZE; at += FRAME_BODY_MAX)
        assert_int_equal(link_send_shared(a.link, 9, at, memory + at, FRAME_BODY_MAX, shared), 0);
    assert_int_equal(shared->holders, 1 + SIZE / FRAME_BODY_MAX);
    before = link_pending(a.link);
    link_uncork(a.link);
    while (before) {
        assert_in_range(before - link_pending(a.link), 0, A_TURN);
        before = link_pending(a.link);
        event_base_loop(base, EVLOOP_ONCE);
    }
    while (b.frames < SIZE / FRAME_BODY_MAX)
        event_base_loop(base, EVLOOP_ONCE);
    assert_int_equal(shared->holders, 1);
    shared_buffer_release(shared);
    link_destroy(a.link);
    link_destroy(b.link);
    event_base_free(base);
}

/* Files come with their frames or before, in their order, and are held until then. */
static void files_come_before_their_frames(void **state) {
    struct event_base *base = event_base_new();
    struct shared_buffer *files[LINK_FILES];
    struct end a = {0};
    int ends[2], got[LINK_FILES + 1];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &a, ends[0]);
    link_cork(a.link);
    assert_int_equal(link_send(a.link, 1, 0, NULL, 0), 0);
    for (unsigned i = 0; i < LINK_FILES; i++) {
        int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        assert_int_equal(write(fd, &i, sizeof(i)), sizeof(i));
        files[i] = shared_buffer_of_file(fd, sizeof(i));
        assert_non_null(files[i]);
        assert_int_equal(write(fd, &i, 1), -1); /* it is sealed */
        assert_int_equal(link_send_file(a.link, 2, i, &i, sizeof(i), files[i]), 0);
        assert_int_equal(files[i]->holders, 2);
    }
    assert_int_equal(link_send_file(a.link, 2, 0, NULL, 0, files[0]), -EAGAIN);
    link_uncork(a.link);
    struct {
        struct cmsghdr head;
        char room[256];
    } control;
    uint8_t bytes[FRAME_HEADER];
    struct iovec part = {bytes, sizeof(bytes)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    assert_int_equal(recvmsg(ends[1], &msg, 0), sizeof(bytes)); /* the first frame, which has none */
    assert_int_equal(control.head.cmsg_len, CMSG_LEN(LINK_FILES * sizeof(int)));
    memcpy(got, CMSG_DATA(&control.head), LINK_FILES * sizeof(int));
    for (unsigned i = 0; i < LINK_FILES; i++) {
        unsigned is;
        assert_int_equal(pread(got[i], &is, sizeof(is), 0), sizeof(is));
        assert_int_equal(is, i);
        assert_int_equal(files[i]->holders, 1);
        close(got[i]);
        shared_buffer_release(files[i]);
    }
    link_destroy(a.link);
    close(ends[1]);
    event_base_free(base);
}

static void frames_come_out_however_they_are_cut(void **state) {
    struct event_base *base = event_base_new();
    struct end e;
    int ends[2];
    uint8_t bytes[3 * (FRAME_HEADER + 7)];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &e, ends[0]);
    for (int i = 0; i < 3; i++) {
        frame_encode(bytes + i * (FRAME_HEADER + 7), 1, 0, 7);
        memset(bytes + i * (FRAME_HEADER + 7) + FRAME_HEADER, 0, 7);
    }
    for (size_t step = 1; step < sizeof(bytes); step++) {
        uint64_t before = e.frames;
        for (size_t at = 0; at < sizeof(bytes); at += step) {
            size_t n = sizeof(bytes) - at < step ? sizeof(bytes) - at : step;
            assert_int_equal(write(ends[1], bytes + at, n), n);
            turns(base, 1);
        }
        assert_int_equal(e.frames, before + 3);
    }
    assert_int_equal(write(ends[1], bytes, 20), 20); /* an end in the middle of a frame is an error */
    close(ends[1]);
    turns(base, 3);
    assert_int_equal(e.closed, ECONNRESET);
    event_base_free(base);
}

static void what_a_peer_sent_before_it_went_is_told(void **state) {
    struct event_base *base = event_base_new();
    struct end e;
    int ends[2];
    uint8_t bytes[FRAME_HEADER];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &e, ends[0]);
    frame_encode(bytes, 1, 0, 0);
    assert_int_equal(write(ends[1], bytes, sizeof(bytes)), sizeof(bytes));
    close(ends[1]);
    assert_int_equal(link_send(e.link, 1, 0, NULL, 0), 0); /* fails, before anything was read */
    turns(base, 3);
    assert_int_equal(e.frames, 1);
    assert_int_equal(e.closed, EPIPE);
    event_base_free(base);
}

static void a_broken_peer_ends_the_link(void **state) {
    struct event_base *base = event_base_new();
    struct end e;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &e, ends[0]);
    assert_int_equal(write(ends[1], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27), 27);
    turns(base, 3);
    assert_int_equal(e.closed, EPROTO);
    close(ends[1]);
    /* sending to one that has gone: told by closed(), in the loop */
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &e, ends[0]);
    close(ends[1]);
    assert_int_equal(link_send(e.link, 1, 1, "x", 1), 0);
    assert_int_equal(e.closed, -1);
    assert_int_equal(link_send(e.link, 1, 1, "x", 1), -EPIPE);
    turns(base, 3);
    assert_int_equal(e.closed, EPIPE);
    event_base_free(base);
}

static void a_link_may_be_destroyed_by_its_frame(void **state) {
    struct event_base *base = event_base_new();
    struct end e;
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    link_up(base, &e, ends[0]);
    e.destroy_at_frame = true;
    uint8_t three[3 * FRAME_HEADER];
    for (int i = 0; i < 3; i++)
        frame_encode(three + i * FRAME_HEADER, 1, 0, 0);
    assert_int_equal(write(ends[1], three, sizeof(three)), sizeof(three));
    turns(base, 3);
    assert_int_equal(e.frames, 1);
    assert_int_equal(e.closed, -1);
    close(ends[1]);
    link_destroy(NULL);
    event_base_free(base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(header_round_trip),
        cmocka_unit_test(less_than_a_frame_waits),
        cmocka_unit_test(what_is_no_frame_is_refused),
        cmocka_unit_test(random_bytes_are_harmless),
        cmocka_unit_test(links_carry_frames_of_every_size),
        cmocka_unit_test(frames_come_out_however_they_are_cut),
        cmocka_unit_test(what_a_peer_sent_before_it_went_is_told),
        cmocka_unit_test(a_broken_peer_ends_the_link),
        cmocka_unit_test(a_link_may_be_destroyed_by_its_frame),
        cmocka_unit_test(who_goes_on_writing_is_not_read_for_ever),
        cmocka_unit_test(many_that_write_leave_the_others_their_turn),
        cmocka_unit_test(a_turn_writes_some_of_what_is_lent),
        cmocka_unit_test(files_come_before_their_frames),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
