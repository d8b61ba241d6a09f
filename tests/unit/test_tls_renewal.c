/* A connection takes a new key after KEY_RECORDS records: tls.c with so few of them that a test gets there. */
#define KEY_RECORDS 3
#include "net/tls/tls.c"

#include "tests/unit/netrig.h"

static struct tls_conn *conn_over(struct tls *t, int fd) {
    struct tls_conn *c;
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(tls_conn_create(&c, t, fd), 0);
    return c;
}

static struct tls *t[2];
static struct tls_conn *c[2];

static void greet(void) {
    int ends[2], done = 0;
    t[0] = make_tls(TLS_PPFS, KEY_A);
    t[1] = make_tls(TLS_NODE, KEY_A);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    for (int i = 0; i < 2; i++)
        c[i] = conn_over(t[i], ends[i]);
    for (int turn = 0; turn < 100 && done != 3; turn++) {
        bool want_write;
        int err = tls_handshake(c[turn % 2], &want_write);
        assert_true(err == 0 || err == -EAGAIN);
        done |= err ? 0 : 1 << turn % 2;
    }
    assert_int_equal(done, 3);
}

static void part(void) {
    for (int i = 0; i < 2; i++) {
        tls_conn_destroy(c[i]);
        tls_destroy(t[i]);
    }
}

static void a_connection_takes_new_keys_in_time(void **state) {
    enum { RECORDS = 3000 };
    static uint8_t sent[TLS_RECORD], got[TLS_RECORD];
    greet();
    for (int i = 0; i < RECORDS; i++) {
        size_t size = i % 50 ? (size_t)i % 100 + 1 : TLS_RECORD, have = 0;
        memset(sent, i, size);
        assert_int_equal(tls_write(c[i % 2], sent, size), size);
        if (i % 2 == 0) /* a record costs 22 bytes, that of a KeyUpdate takes 27 */
            assert_int_equal(tls_unsent(c[0]), size + 22 + (i && i / 2 % KEY_RECORDS == 0 ? 27 : 0));
        assert_int_equal(tls_flush(c[i % 2]), 0);
        while (have < size) {
            ssize_t n = tls_read(c[!(i % 2)], got + have, size - have);
            assert_true(n > 0 || n == -EAGAIN);
            have += n > 0 ? (size_t)n : 0;
        }
        assert_memory_equal(sent, got, size);
    }
    part();
}

static void renew(int times) {
    for (int i = 0; i < times; i++) {
        assert_int_equal(SSL_key_update(c[1]->ssl, SSL_KEY_UPDATE_NOT_REQUESTED), 1);
        assert_int_equal(SSL_do_handshake(c[1]->ssl), 1);
    }
    assert_int_equal(tls_write(c[1], "x", 1), 1);
    assert_int_equal(tls_flush(c[1]), 0);
}

/* Or those that renew their keys without end would have all of the network process's time. */
static void who_renews_without_need_is_let_go(void **state) {
    uint8_t got = 0;
    greet();
    renew(RENEWALS);
    assert_int_equal(tls_read(c[0], &got, 1), 1);
    renew(1);
    assert_int_equal(tls_read(c[0], &got, 1), -EBADMSG);
    assert_int_equal(tls_read(c[0], &got, 1), -EBADMSG);
    part();
    greet();
    renew(1000);
    assert_int_equal(tls_read(c[0], &got, 1), -EBADMSG);
    assert_int_equal(c[0]->renewals, RENEWALS + 1);
    part();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_connection_takes_new_keys_in_time),
                                       cmocka_unit_test(who_renews_without_need_is_let_go)};
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
