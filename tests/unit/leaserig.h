/* What the tests of leases share: a pool with real workers, one lease, and what its calls gave. $PPFS_WORKER, else
 * ./ppfs-worker. */
#ifndef PPFS_LEASERIG_H
#define PPFS_LEASERIG_H
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net/session/frame.h"
#include <cmocka.h>

#include "tests/unit/scratch.h"
#include "worker/pool/pool.h"

enum { CALLS = 4096, KEEP = 4096, PATIENCE_S = 60, LEASE = 77 };
struct call {
    bool answered;
    enum answer_kind kind;
    size_t size, kept, printed; /* kept: of text; printed: of output */
    char text[KEEP + 1], output[2][256];
};

struct fixture {
    struct event_base *base;
    struct pool *pool;
    struct runner runner; /* it */
    struct call *calls;   /* by number */
    uint32_t first;       /* the first that is not answered: output is its */
    uint32_t answers, needs;
    bool done, gave_up;
    const char *function;
    size_t function_size;
    void (*need)(const uint8_t *hash, uint64_t lease); /* NULL: every hash names that function */
    bool withheld;
    struct work_outcome outcome;
};

extern struct fixture fix;

void loop_for_ms(int ms, const bool *flag);
void loop_until(const bool *flag);
int setup(void **state);
int teardown(void **state);
struct work lease_work(enum work_kind kind);
void begin(struct work w);
void finish_well(void);
void json(uint32_t number, const char *text);
size_t put_string(char *to, const char *text, size_t size);
/* (text,), {} */
size_t pickle_args(char *to, const char *text, size_t size);
/* builtins.NAME, (text,), {} */
void pickled(uint32_t number, const char *name, const char *text);
void hashed(uint32_t number, char hash, const char *text, size_t size);
void function(const char *pickle, size_t size);
static const char pickled_len[] = "\x80\x03"
                                  "cbuiltins\nlen\n.";

#endif
