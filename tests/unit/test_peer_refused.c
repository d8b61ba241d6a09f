/* Peers without the key, and those who have it and halt: refused, and nobody else waits. */
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <sys/eventfd.h>

#include "net/address.h"
#include "net/untrusted/acceptor.h"
#include "net/tls/tls_int.h"
#include "tests/unit/peerrig.h"

/* --- without the key --------------------------------------------------------------------------------------------- */
static void another_key_is_refused_at_both_ends(void **state) {
    struct end listener, dialler;
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    dial_as(&dialler, TLS_PPFS, KEY_B, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    turn_until(has_refused, &listener);
    assert_int_equal(dialler.failed, 1);
    assert_int_equal(listener.accepted, 0);
    assert_non_null(strstr(dialler.sentence, "another key"));
    assert_non_null(strstr(listener.sentence, "another key"));
    end_free(&dialler);
    end_free(&listener);
}

/* A relay that leads a ppfs back to itself, or one ppfs to another: the key is right and the part is not. */
static void the_same_part_is_refused(void **state) {
    for (int side = 0; side < 2; side++) {
        struct end listener, dialler;
        listen_as(&listener, side ? TLS_NODE : TLS_PPFS, KEY_A, "127.0.0.1:0");
        dial_as(&dialler, side ? TLS_NODE : TLS_PPFS, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        turn_until(has_refused, &listener);
        assert_int_equal(dialler.failed, 1);
        assert_int_equal(listener.accepted, 0);
        end_free(&dialler);
        end_free(&listener);
    }
}

/* A stranger who sends bytes and closes. */
static void send_without_key(struct end *listener, const void *bytes, size_t size) {
    int fd = connect_to(peer_listener_address(listener->listener));
    assert_int_equal(send(fd, bytes, size, MSG_NOSIGNAL), (ssize_t)size);
    shutdown(fd, SHUT_WR);
    turn_until(has_refused, listener);
    close(fd);
    assert_int_equal(listener->accepted, 0);
}

static void plain_clients_are_refused(void **state) {
    struct end listener;
    uint8_t frame[FRAME_HEADER];
    listen_as(&listener, TLS_NODE, KEY_A, "127.0.0.1:0");
    send_without_key(&listener, "GET / HTTP/1.0\r\n\r\n", 18);
    assert_non_null(strstr(listener.sentence, "TLS 1.3"));
    listen_again(&listener, TLS_NODE, KEY_A);
    frame_encode(frame, 240, 0, 0);
    send_without_key(&listener, frame, sizeof(frame));
    listen_again(&listener, TLS_NODE, KEY_A);
    send_without_key(&listener, "", 0);
    end_free(&listener);
}

/* The first flight of a dial, as somebody on the network sees it. */
static size_t record_hello(uint8_t *to, size_t room) {
    char address[64];
    struct end dialler;
    int listening = listen_on(address);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    fcntl(listening, F_SETFL, O_NONBLOCK);
    int fd = -1;
    ssize_t n = -1;
    for (double limit = now_s() + DEADLINE_S; n <= 0 && now_s() < limit;) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        fd = fd >= 0 ? fd : accept4(listening, NULL, NULL, SOCK_NONBLOCK);
        n = fd >= 0 ? recv(fd, to, room, 0) : -1;
    }
    assert_true(n > 100);
    close(fd);
    close(listening);
    turn_until(dial_over, &dialler);
    end_free(&dialler);
    return (size_t)n;
}

static void replayed_and_truncated_handshakes_are_refused(void **state) {
    uint8_t hello[4096];
    size_t size = record_hello(hello, sizeof(hello));
    struct end listener;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    for (size_t cut = 0; cut <= size; cut += 1 + size / 40) { /* the last is nearly whole */
        send_without_key(&listener, hello, cut);
        listen_again(&listener, TLS_PPFS, KEY_A);
    }
    send_without_key(&listener, hello, size);
    for (size_t at = 0; at < size; at += 7) { /* and each with one byte changed */
        listen_again(&listener, TLS_PPFS, KEY_A);
        hello[at] ^= 0x41;
        send_without_key(&listener, hello, size);
        hello[at] ^= 0x41;
    }
    end_free(&listener);
}

static X509 *self_signed(EVP_PKEY *key) {
    X509 *x = X509_new();
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)"rogue", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_sign(x, key, EVP_sha256());
    return x;
}

/* A child that speaks TLS without the key. Exits with 0 when the other end let it in. */
static pid_t rogue(int fd, bool server) {
    pid_t pid = fork();
    if (pid)
        return pid;
    SSL_CTX *x = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    if (server) {
        EVP_PKEY *key = EVP_EC_gen("P-256");
        SSL_CTX_use_certificate(x, self_signed(key));
        SSL_CTX_use_PrivateKey(x, key);
    }
    SSL *ssl = SSL_new(x);
    int conn = server ? accept(fd, NULL, NULL) : fd;
    char byte;
    SSL_set_fd(ssl, conn);
    int done = server ? SSL_accept(ssl) : SSL_connect(ssl);
    if (done == 1 && server)
        done = SSL_read(ssl, &byte, 1);
    _exit(done == 1 ? 0 : 1);
}

static void a_rogue_server_with_a_certificate_is_refused(void **state) {
    char address[64];
    struct end dialler;
    int status, listening = listen_on(address);
    pid_t pid = rogue(listening, true);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "another key or none"));
    end_free(&dialler);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    close(listening);
}

static const struct tls_keys *leaked; /* what the child below has of the key */

static int find_leaked(SSL *ssl, const unsigned char *id, size_t id_size, SSL_SESSION **out) {
    static const unsigned char suite[2] = {0x13, 0x01};
    *out = SSL_SESSION_new();
    return SSL_SESSION_set1_master_key(*out, leaked->at[0].psk, TLS_PSK) &&
           SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, suite)) &&
           SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

static int fill_ticket(SSL *ssl, void *arg) {
    static const char much[2000];
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), much, sizeof(much));
}

static SSL_TICKET_RETURN take_ticket(SSL *ssl, SSL_SESSION *session, const unsigned char *name, size_t size,
                                     SSL_TICKET_STATUS status, void *arg) {
    return SSL_TICKET_RETURN_IGNORE;
}

/* A child that has the key, and sends the first record of a message of the handshake that goes on in the next. */
static pid_t halting(int listening) {
    pid_t pid = fork();
    if (pid)
        return pid;
    SSL_CTX *x = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_psk_find_session_callback(x, find_leaked);
    SSL_CTX_set_num_tickets(x, 0);
    SSL_CTX_set_session_ticket_cb(x, fill_ticket, take_ticket, NULL);
    SSL_CTX_set_max_send_fragment(x, 512);
    SSL *ssl = SSL_new(x);
    int conn = accept(listening, NULL, NULL);
    SSL_set_fd(ssl, conn);
    if (SSL_accept(ssl) != 1)
        _exit(1);
    BIO *out = BIO_new(BIO_s_mem());
    char *bytes;
    SSL_set0_wbio(ssl, out);
    SSL_new_session_ticket(ssl);
    if (SSL_do_handshake(ssl) != 1)
        _exit(2);
    long size = BIO_get_mem_data(out, &bytes), first = 5 + ((uint8_t)bytes[3] << 8 | (uint8_t)bytes[4]);
    if (size < 5 || size <= first || write(conn, bytes, (size_t)first) != first)
        _exit(3);
    while (read(conn, bytes, 1) > 0)
        ;
    _exit(0);
}

static void one_with_the_key_that_halts_in_a_message_does_not_hold_up_the_loop(void **state) {
    char address[64];
    struct end dialler;
    int status, listening = listen_on(address);
    struct tls *theirs = make_tls(TLS_PPFS, KEY_A);
    leaked = tls_keys(theirs);
    pid_t pid = halting(listening);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    link_up(&dialler);
    alarm(DEADLINE_S); /* no deadline of the loop ends what never comes back to it */
    while (!dialler.closed) {
        link_send(dialler.link, 1, 2, "whatever", 8);
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    alarm(0);
    assert_int_equal(dialler.closed, EPROTO);
    end_free(&dialler);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    tls_destroy(theirs);
    close(listening);
}

static void a_client_without_a_key_is_refused(void **state) {
    struct end listener;
    int status;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    pid_t pid = rogue(fd, false);
    close(fd);
    turn_until(has_refused, &listener);
    assert_non_null(strstr(listener.sentence, "another key or none"));
    assert_int_equal(listener.accepted, 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    end_free(&listener);
}

static int show_old_key(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *size, SSL_SESSION **out) {
    static const unsigned char suite[2] = {0x13, 0x01}, key[32];
    *id = (const unsigned char *)"ppfs";
    *size = 4;
    *out = SSL_SESSION_new();
    return SSL_SESSION_set1_master_key(*out, key, sizeof(key)) &&
           SSL_SESSION_set_cipher(*out, SSL_CIPHER_find(ssl, suite)) &&
           SSL_SESSION_set_protocol_version(*out, TLS1_3_VERSION);
}

/* A node of before there was a key for each: it is told from one with another key. */
static void a_node_of_before_is_refused_with_what_to_do(void **state) {
    struct end listener;
    int status;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    pid_t pid = fork();
    if (pid == 0) {
        SSL_CTX *x = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_psk_use_session_callback(x, show_old_key);
        SSL *ssl = SSL_new(x);
        SSL_set_fd(ssl, fd);
        _exit(SSL_connect(ssl) == 1 ? 0 : 1);
    }
    close(fd);
    turn_until(has_refused, &listener);
    assert_non_null(strstr(listener.sentence, "older ppfs"));
    assert_non_null(strstr(listener.sentence, "join.key"));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_not_equal(status, 0);
    assert_int_equal(listener.accepted, 0);
    end_free(&listener);
}

static bool peer_closed(void *arg) {
    char byte;
    return recv(*(int *)arg, &byte, 1, MSG_DONTWAIT) == 0;
}

static void a_silent_peer_is_closed_and_disturbs_nobody(void **state) {
    struct end listener, dialler;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener));
    event_base_loop(base, EVLOOP_ONCE);
    dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    assert_int_equal(listener.refused, 0);
    turn_until(peer_closed, &fd);
    assert_int_equal(listener.refused, 1);
    assert_non_null(strstr(listener.sentence, "5 seconds"));
    close(fd);
    /* And the other way round: a server that says nothing. */
    char address[64];
    int listening = listen_on(address);
    end_free(&dialler);
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "5 seconds"));
    close(listening);
    end_free(&dialler);
    end_free(&listener);
}

/* A machine that is off, or a firewall that drops: nobody was there to show a key or not. */
static void who_does_not_answer_is_told_from_who_is_silent(void **state) {
    char address[64];
    struct end dialler;
    int fds[8], listening = listen_on(address);
    assert_int_equal(listen(listening, 0), 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(strrchr(address, ':') + 1))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < 8; i++) { /* more than the backlog takes: what comes now is dropped */
        fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(fds[i], (struct sockaddr *)&to, sizeof(to));
    }
    dial_as(&dialler, TLS_NODE, KEY_A, address);
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.failed, 1);
    assert_non_null(strstr(dialler.sentence, "has not answered in 5 seconds"));
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    close(listening);
    end_free(&dialler);
}

static bool accepted_all(void *arg) {
    struct expected *x = arg;
    return (uint64_t)x->end->accepted >= x->frames;
}

static void a_thousand_without_a_key_at_once_cost_little_and_keep_nobody_out(void **state) {
    enum { STRANGERS = 1000 };
    struct rlimit limit;
    struct end listener, dialler;
    static int fds[STRANGERS];
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2 * STRANGERS)
        skip();
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    unsigned before = open_descriptors();
    for (int i = 0; i < STRANGERS; i++)
        fds[i] = connect_to(peer_listener_address(listener.listener));
    for (int i = 0; i < 5; i++) { /* honest ones behind them in the backlog, and among them */
        dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
        turn_until(dial_over, &dialler);
        assert_int_equal(dialler.dialled, 1);
        end_free(&dialler);
    }
    struct expected x = {&listener, 5};
    turn_until(accepted_all, &x);
    assert_true(open_descriptors() <= before + STRANGERS + CANDIDATES_MAX + 8);
    assert_int_equal(listener.refused, 1); /* one source, one minute, one line */
    for (int i = 0; i < STRANGERS; i++)
        close(fds[i]);
    end_free(&listener);
}

static void without_descriptors_connections_wait_in_the_backlog(void **state) {
    struct rlimit limit, none;
    struct end listener, dialler;
    listen_as(&listener, TLS_PPFS, KEY_A, "127.0.0.1:0");
    int fd = connect_to(peer_listener_address(listener.listener)), next = dup(fd);
    close(next);
    unsigned before = open_descriptors();
    getrlimit(RLIMIT_NOFILE, &limit);
    none = limit;
    /* the lowest free one is one too many; then: those there are, are for workers */
    for (int kept = 0; kept <= 3; kept += 3) {
        none.rlim_cur = (rlim_t)(next + kept);
        setrlimit(RLIMIT_NOFILE, &none);
        for (int i = 0; i < 20; i++)
            event_base_loop(base, EVLOOP_NONBLOCK);
        assert_int_equal(open_descriptors(), before);
        if (kept) {
            dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
            turn_until(dial_over, &dialler);
            assert_int_equal(dialler.failed, 1);
            assert_non_null(strstr(dialler.sentence, "Too many open files"));
            end_free(&dialler);
        }
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    dial_as(&dialler, TLS_NODE, KEY_A, peer_listener_address(listener.listener));
    turn_until(dial_over, &dialler);
    assert_int_equal(dialler.dialled, 1);
    close(fd);
    end_free(&dialler);
    end_free(&listener);
}
int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(another_key_is_refused_at_both_ends),
        cmocka_unit_test(the_same_part_is_refused),
        cmocka_unit_test(plain_clients_are_refused),
        cmocka_unit_test(replayed_and_truncated_handshakes_are_refused),
        cmocka_unit_test(a_rogue_server_with_a_certificate_is_refused),
        cmocka_unit_test(one_with_the_key_that_halts_in_a_message_does_not_hold_up_the_loop),
        cmocka_unit_test(a_node_of_before_is_refused_with_what_to_do),
        cmocka_unit_test(a_client_without_a_key_is_refused),
        cmocka_unit_test(a_silent_peer_is_closed_and_disturbs_nobody),
        cmocka_unit_test(who_does_not_answer_is_told_from_who_is_silent),
        cmocka_unit_test(a_thousand_without_a_key_at_once_cost_little_and_keep_nobody_out),
        cmocka_unit_test(without_descriptors_connections_wait_in_the_backlog),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
