/* What the tests of net/ share: a loop with a deadline, key files, peers on loopback. */
#ifndef PPFS_NETRIG_H
#define PPFS_NETRIG_H
#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "net/tls/key.h"
#include "net/session/link.h"
#include "net/session/session_int.h"
#include "net/peer/peer.h"

enum { DEADLINE_S = 60 }; /* ends a hang; nothing is expected to take that long */
#define turn_until(done, arg) turn_until_(done, arg, #done)
/* How a HELLO begins: SESSION_VERSION stands behind the name. */
#define HELLO_BEGIN "ppfsnode\5"

#define KEY_A "ppfs mount key 1\nsecret: 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"
#define KEY_B "ppfs mount key 1\nsecret: 1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\n"

extern struct event_base *base;
extern char dir[];
extern char why[512];

double now_s(void);
/* Turns the loop until done(arg); fails the test after DEADLINE_S, naming what was awaited. */
void turn_until_(bool (*done)(void *arg), void *arg, const char *name);
char *key_file(const char *name, const char *bytes, mode_t mode);
/* The mount with that secret; kept until the end. */
const struct mount_key *mount_of(const char *key);
/* The key that it has for any number of nodes. */
const struct node_key *node_of(const char *key);
struct tls *make_tls(enum tls_side side, const char *key);
int connect_to(const char *address);
/* A bare listening socket; its address in text. */
int listen_on(char address[64]);
int rig_setup(void **state);
int rig_teardown(void **state);
#endif
