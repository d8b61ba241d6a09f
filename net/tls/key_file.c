/* Files of keys. */
#include "net/tls/key_int.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/io.h"
#include "net/trusted.h"

enum { FILE_MAX = 4096 };
static const char mount_magic[] = "ppfs mount key 1\n", node_magic[] = "ppfs node key 1\n";

/* --- writing ----------------------------------------------------------------------------------------------------- */
static void hex(const uint8_t *bytes, size_t size, char *out) {
    for (size_t i = 0; i < size; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
}

/* Writes the file completely or not at all. replace: an old one is replaced; else of two concurrent writers one gets
 * -EEXIST. */
static int write_file(const char *path, const char *text, size_t size, bool replace) {
    char draft[PATH_MAX];

    if (snprintf(draft, sizeof(draft), "%s.XXXXXX", path) >= (int)sizeof(draft))
        return -ENAMETOOLONG;
    int fd = mkostemp(draft, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int err = io_write(fd, text, size, IO_NEXT);
    if (!err && fsync(fd))
        err = -errno;
    close(fd);
    if (!err && (replace ? rename(draft, path) : link(draft, path)))
        err = -errno;
    if (err || !replace)
        unlink(draft);
    return err;
}

static int make(const char *path, const char *head, const char *label) {
    uint8_t random[KEY_SECRET];
    char text[KEY_TEXT], digits[2 * KEY_SECRET + 1];
    struct stat st;

    if (!lstat(path, &st))
        return -EEXIST;
    int err = tls_random(random, sizeof(random));
    hex(random, sizeof(random), digits);
    int size = snprintf(text, sizeof(text), "%s%s%s\n", head, label, digits);
    if (!err)
        err = write_file(path, text, (size_t)size, false);
    key_wipe(random, sizeof(random));
    key_wipe(digits, sizeof(digits));
    key_wipe(text, sizeof(text));
    return err;
}

int mount_key_make(const char *path) {
    return make(path, mount_magic, "secret: ");
}

int key_make_random(const char *path) {
    return make(path, "", "");
}

size_t node_key_text(const struct node_key *k, char *buf) {
    char secret[2 * KEY_SECRET + 1], mount[2 * KEY_SECRET + 1], find[2 * TLS_PSK + 1];

    hex(k->secret, KEY_SECRET, secret);
    hex(k->mount, KEY_SECRET, mount);
    hex(k->find, TLS_PSK, find);
    int size = snprintf(buf, KEY_TEXT, "%sname: %s\nsecret: %s\nmount: %s\nfind: %s\n", node_magic, k->name, secret,
                        mount, find);
    key_wipe(secret, sizeof(secret));
    return (size_t)size;
}

int node_key_write(const struct node_key *k, const char *path) {
    char text[KEY_TEXT];
    int err = write_file(path, text, node_key_text(k, text), true);

    key_wipe(text, sizeof(text));
    return err;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */
static int wrong(int err, char *why, size_t why_size, const char *format, ...) __attribute__((format(printf, 4, 5)));
static int wrong(int err, char *why, size_t why_size, const char *format, ...) {
    va_list args;

    va_start(args, format);
    vsnprintf(why, why_size, format, args);
    va_end(args);
    return err;
}

/* Opens it if no other user can replace it. Links of trusted users are followed, as Kubernetes mounts secrets as links.
 * A descriptor, or -errno and one sentence. */
static int open_file(const char *path, const char *what, char *why, size_t why_size) {
    char obstacle[768];
    struct stat st;
    int fd = trusted_path_file(path, &st, obstacle, sizeof(obstacle));

    if (fd == -EPERM || fd == -ELOOP)
        return wrong(fd, why, why_size, "%s %s is not taken, as somebody could put another in its place: %s", what,
                     path, obstacle);
    if (fd < 0)
        return wrong(fd, why, why_size, "%s %s cannot be read: %s", what, path, obstacle);
    if (!(st.st_mode & 077))
        return fd;
    close(fd);
    return wrong(-EPERM, why, why_size, "%s %s can be used by others (mode %03o); run: chmod 600 %s", what, path,
                 (unsigned)st.st_mode & 0777, path);
}

/* The text of the file, in buf of FILE_MAX + 1 bytes, with a final zero. 0, or -errno and one sentence. */
static int read_file(const char *path, const char *what, char *buf, char *why, size_t why_size) {
    int fd = open_file(path, what, why, why_size);

    if (fd < 0)
        return fd;
    int64_t n = io_read(fd, buf, FILE_MAX, IO_NEXT);
    size_t have = n > 0 ? (size_t)n : 0;
    int err = n < 0 ? (int)n : 0;
    close(fd);
    if (err)
        wrong(err, why, why_size, "%s %s cannot be read: %s", what, path, strerror(-err));
    else if (have == FILE_MAX)
        err = wrong(-EINVAL, why, why_size, "%s %s has 4096 bytes or more, which no key has", what, path);
    buf[have] = 0;
    if (!err && strlen(buf) != have)
        err = wrong(-EINVAL, why, why_size, "%s %s is not text, as a key is", what, path);
    return err;
}

/* Reads "LABEL: DIGITS\n" at *at, and moves *at behind it. */
static bool take_hex(const char **at, const char *label, uint8_t *out, size_t size) {
    size_t n = strlen(label);
    unsigned byte;

    if (strncmp(*at, label, n) || strspn(*at + n, "0123456789abcdef") != 2 * size || (*at)[n + 2 * size] != '\n')
        return false;
    for (size_t i = 0; i < size; i++) {
        sscanf(*at + n + 2 * i, "%2x", &byte);
        out[i] = (uint8_t)byte;
    }
    *at += n + 2 * size + 1;
    return true;
}

static bool take_name(const char **at, char name[KEY_NAME]) {
    static const char label[] = "name: ",
                      letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    const char *from = *at + sizeof(label) - 1;

    if (strncmp(*at, label, sizeof(label) - 1))
        return false;
    size_t n = strncmp(from, KEY_ANY "\n", 2) == 0 ? 1 : strspn(from, letters);
    if (!n || n >= KEY_NAME || from[n] != '\n' || *from == '.')
        return false;
    memcpy(name, from, n);
    name[n] = 0;
    *at = from + n + 1;
    return true;
}

int mount_key_read(struct mount_key **out, const char *path, char *why, size_t why_size) {
    static const char what[] = "the key of the mount";
    char text[FILE_MAX + 1] = "";
    const char *at = text + sizeof(mount_magic) - 1;
    struct mount_key *m = calloc(1, sizeof(*m));
    int err = m ? read_file(path, what, text, why, why_size) : wrong(-ENOMEM, why, why_size, "not enough memory");

    if (!err && strncmp(text, node_magic, sizeof(node_magic) - 1) == 0)
        err = wrong(-EINVAL, why, why_size,
                    "%s is a key for nodes, and that of a mount is needed (leave --key out, and ppfs makes one)", path);
    else if (!err && strncmp(text, mount_magic, sizeof(mount_magic) - 1))
        err = wrong(-EPFNOSUPPORT, why, why_size,
                    "%s %s is none that this ppfs made (keys of before were known to every node); remove it, or leave "
                    "--key out, and "
                    "ppfs makes one",
                    what, path);
    else if (!err && (!take_hex(&at, "secret: ", m->secret, KEY_SECRET) || *at))
        err = wrong(-EINVAL, why, why_size,
                    "%s %s is damaged; remove it, and ppfs makes another (nodes then need new keys, too)", what, path);
    if (!err && (err = mount_key_complete(m)))
        wrong(err, why, why_size, "OpenSSL has no HKDF and Ed25519 here, so no connection can be secured");
    key_wipe(text, sizeof(text));
    if (err)
        mount_key_destroy(m);
    else
        *out = m;
    return err;
}

int node_key_read(struct node_key *out, const char *path, char *why, size_t why_size) {
    static const char what[] = "the key file", take[] = "take join.key from the state directory of its ppfs";
    char text[FILE_MAX + 1] = "";
    const char *at = text + sizeof(node_magic) - 1;
    int err = read_file(path, what, text, why, why_size);
    size_t n = err ? strlen(why) : 0;

    *out = (struct node_key){0};
    if (err == -ENOENT)
        snprintf(why + n, why_size > n ? why_size - n : 0, " (%s)", take);
    else if (!err && strncmp(text, mount_magic, sizeof(mount_magic) - 1) == 0)
        err = wrong(-EINVAL, why, why_size,
                    "%s %s is the secret of a mount, which must not leave its machine: remove it here, and %s", what,
                    path, take);
    else if (!err && strncmp(text, node_magic, sizeof(node_magic) - 1))
        err = wrong(-EINVAL, why, why_size,
                    "%s %s is no key of this ppfs (one key for all nodes is no longer used); %s", what, path, take);
    else if (!err &&
             (!take_name(&at, out->name) || !take_hex(&at, "secret: ", out->secret, KEY_SECRET) ||
              !take_hex(&at, "mount: ", out->mount, KEY_SECRET) || !take_hex(&at, "find: ", out->find, TLS_PSK) || *at))
        err = wrong(-EINVAL, why, why_size, "%s %s is damaged; %s", what, path, take);
    key_wipe(text, sizeof(text));
    if (err)
        key_wipe(out, sizeof(*out));
    return err;
}
