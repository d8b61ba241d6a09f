/* Hosts that are simulated in ticks: their workers, and messages that take a while. Over schedrig.h. */
#ifndef PPFS_FAKEHOSTS_H
#define PPFS_FAKEHOSTS_H
#include "tests/unit/schedrig.h"
#include "sched/hosts/state.h"
#include "net/clock.h"
#include "sched/leases/state.h"

#define WRITE 32768u   /* bytes of one write */
#define JOB_US 2000000 /* what a job says that it took */
enum word { START, CALL, FUNCTION, FINISH, RECALL, KILL, ANSWER, RECALLED, DONE };
struct message {
    struct message *next;
    enum word word;
    uint64_t lease;
    uint32_t number;
    enum answer_kind kind;
    size_t size;
    unsigned due;
};

struct way {
    struct message *first, **end;
};

struct slot { /* one lease of a simulated worker */
    uint64_t lease;
    struct {
        uint32_t first, count; /* calls that wait, their numbers in ring */
        uint32_t ring[256];
    } calls;
    uint32_t current; /* 0: none */
    unsigned at;      /* in its script */
    bool waits;       /* for a FUNCTION */
    bool finishing;
};

struct fake {
    struct host h; /* first: the scheduler frees it */
    struct way there, back;
    struct slot slots[16];
    double us; /* what a call takes there */
};

extern unsigned now, delay;
extern const char *script;
extern uint64_t answered;

void each_fake(void (*what)(struct fake *f));
void turn(void);
void tick(void);
/* As on a disk that is full. What is to be done again a second later is done with the next turn. */
bool tick_in_vain(void);
int setup(void **state);
int teardown(void **state);
struct fake *add_host(unsigned cpus, double us);
uint64_t begin(const char *name, const void *bytes, size_t size);
void append(uint64_t job, uint8_t kind, uint64_t id, const void *body, size_t size);
uint64_t lines(const char *name, unsigned n);
#endif
