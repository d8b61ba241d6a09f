/* Files of keys, and what a mount signs. */
#include "tests/unit/netrig.h"

/* --- the key file ------------------------------------------------------------------------------------------------ */
static void a_mount_makes_its_secret_once_and_only_for_itself(void **state) {
    char path[128], first[100] = "", second[100] = "";
    struct stat st;
    struct mount_key *m;
    snprintf(path, sizeof(path), "%s/made", dir);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mount_key_make(path), i ? -EEXIST : 0);
        int fd = open(path, O_RDONLY);
        assert_int_equal(read(fd, i ? second : first, 99), 90);
        assert_int_equal(fstat(fd, &st), 0);
        close(fd);
    }
    assert_string_equal(first, second);
    assert_int_equal(strspn(first + 25, "0123456789abcdef"), 64);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(mount_key_read(&m, path, why, sizeof(why)), 0);
    mount_key_destroy(m);
    assert_int_equal(mount_key_make("/nonexistent/key"), -ENOENT);
}

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

static void a_bad_key_file_is_refused_in_one_sentence(void **state) {
    static const char node[] = "ppfs node key 1\nname: n\nsecret: " HEX "mount: " HEX "find: " HEX;
    static const struct {
        const char *bytes;
        mode_t mode;
        int mount, node; /* what reading it as the one and as the other returns */
        const char *says[2];
    } cases[] = {
        {KEY_A, 0400, 0, -EINVAL, {"", "must not leave its machine"}},
        {node, 0600, -EINVAL, 0, {"is a key for nodes", ""}},
        {KEY_A, 0640, -EPERM, -EPERM, {"chmod 600", "chmod 600"}},
        {HEX, 0600, -EPFNOSUPPORT, -EINVAL, {"known to every node", "join.key"}},
        {"", 0600, -EPFNOSUPPORT, -EINVAL, {"none that this ppfs made", "no key"}},
        {KEY_A "x", 0600, -EINVAL, -EINVAL, {"damaged", "must not leave"}},
        {"ppfs mount key 1\nsecret: 01\n", 0600, -EINVAL, -EINVAL, {"damaged", "must not leave"}},
        {"ppfs node key 1\nname: ../n\nsecret: " HEX "mount: " HEX "find: " HEX,
         0600,
         -EINVAL,
         -EINVAL,
         {"for nodes", "damaged"}},
        {"ppfs node key 1\nname: \nsecret: " HEX "mount: " HEX "find: " HEX,
         0600,
         -EINVAL,
         -EINVAL,
         {"for nodes", "damaged"}},
        {"ppfs node key 1\nname: n\nsecret: " HEX "mount: " HEX, 0600, -EINVAL, -EINVAL, {"for nodes", "damaged"}},
    };
    struct mount_key *m;
    struct node_key n;
    char long_key[5000], link[128];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        const char *path = key_file("case", cases[i].bytes, cases[i].mode);
        print_message("%zu\n", i);
        *why = 0;
        assert_int_equal(mount_key_read(&m, path, why, sizeof(why)), cases[i].mount);
        assert_non_null(strstr(why, cases[i].says[0]));
        if (!cases[i].mount)
            mount_key_destroy(m);
        *why = 0;
        assert_int_equal(node_key_read(&n, path, why, sizeof(why)), cases[i].node);
        assert_non_null(strstr(why, cases[i].says[1]));
        assert_null(strchr(why, '\n'));
    }
    memset(long_key, 'x', sizeof(long_key));
    long_key[sizeof(long_key) - 1] = 0;
    assert_int_equal(node_key_read(&n, key_file("long", long_key, 0600), why, sizeof(why)), -EINVAL);
    assert_int_equal(node_key_read(&n, "/nonexistent/key", why, sizeof(why)), -ENOENT);
    assert_non_null(strstr(why, "/nonexistent/key"));
    assert_int_equal(node_key_read(&n, dir, why, sizeof(why)), -EINVAL);
    snprintf(link, sizeof(link), "%s/link", dir);
    assert_int_equal(symlink(key_file("right", node, 0600), link), 0);
    assert_int_equal(node_key_read(&n, link, why, sizeof(why)), 0); /* our own */
    assert_string_equal(n.name, "n");
    if (geteuid() == 0) {
        assert_int_equal(lchown(link, 4711, 4711), 0);
        assert_int_equal(node_key_read(&n, link, why, sizeof(why)), -ELOOP);
        assert_non_null(strstr(why, "4711"));
        const char *theirs = key_file("theirs", node, 0600);
        assert_int_equal(chown(theirs, 4711, 4711), 0);
        assert_int_equal(node_key_read(&n, theirs, why, sizeof(why)), -EPERM);
    }
}

static void what_a_mount_gives_to_a_node_is_read_as_it_was(void **state) {
    uint8_t secret[KEY_SECRET] = {1, 2, 3};
    char text[KEY_TEXT], path[128];
    struct node_key given, got;
    mount_key_node(mount_of(KEY_A), "anode-7", secret, &given);
    assert_in_range(node_key_text(&given, text), 1, KEY_TEXT - 1);
    assert_int_equal(node_key_read(&got, key_file("given", text, 0600), why, sizeof(why)), 0);
    assert_memory_equal(&given, &got, sizeof(got));
    snprintf(path, sizeof(path), "%s/written", dir);
    for (int i = 0; i < 2; i++) /* the second replaces the first */
        assert_int_equal(node_key_write(node_of(i ? KEY_B : KEY_A), path), 0);
    assert_int_equal(node_key_read(&got, path, why, sizeof(why)), 0);
    assert_memory_equal(node_of(KEY_B), &got, sizeof(got));
    assert_memory_not_equal(node_of(KEY_A)->secret, got.secret, KEY_SECRET);
}

/* Who has a node's key has neither the mount's secret nor its signature of this greeting. */
static void only_the_mount_signs_and_only_for_one_greeting(void **state) {
    struct key_greeting g = {.binding = {1}, .nonce = {2}, .ppfs = {3}, .node = {4}};
    uint8_t signature[KEY_SIGNATURE], other[KEY_SIGNATURE];
    assert_int_equal(mount_key_sign(mount_of(KEY_A), &g, signature), 0);
    assert_int_equal(mount_key_sign(mount_of(KEY_B), &g, other), 0);
    assert_true(node_key_verify(node_of(KEY_A), &g, signature));
    assert_false(node_key_verify(node_of(KEY_A), &g, other));
    assert_false(node_key_verify(node_of(KEY_B), &g, signature));
    for (size_t i = 0; i < sizeof(g); i += 16) {
        ((uint8_t *)&g)[i]++;
        assert_false(node_key_verify(node_of(KEY_A), &g, signature));
        ((uint8_t *)&g)[i]--;
    }
}

static void a_signature_fits_its_bytes_and_key_only(void **state) {
    uint8_t mac[TLS_MAC_SIZE], other[TLS_MAC_SIZE];
    struct tls *a = make_tls(TLS_PPFS, KEY_A), *node = make_tls(TLS_NODE, KEY_A), *b = make_tls(TLS_PPFS, KEY_B);
    assert_int_equal(tls_sign(a, "hello", 5, mac), 0);
    assert_true(tls_verify(node, "hello", 5, mac));
    assert_false(tls_verify(node, "hellp", 5, mac));
    assert_false(tls_verify(node, "hello", 4, mac));
    assert_false(tls_verify(b, "hello", 5, mac));
    assert_int_equal(tls_sign(b, "hello", 5, other), 0);
    assert_memory_not_equal(mac, other, sizeof(mac));
    tls_destroy(a);
    tls_destroy(b);
    tls_destroy(node);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mount_makes_its_secret_once_and_only_for_itself),
        cmocka_unit_test(a_bad_key_file_is_refused_in_one_sentence),
        cmocka_unit_test(what_a_mount_gives_to_a_node_is_read_as_it_was),
        cmocka_unit_test(only_the_mount_signs_and_only_for_one_greeting),
        cmocka_unit_test(a_signature_fits_its_bytes_and_key_only),
    };
    return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
