#include "tests/fuzz/toy_runner.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "net/session/frame.h"

static struct {
    bool given, killed;
    uint64_t id;
    uint32_t attempt;
    bool lease;
    uint32_t calls;
} tasks[TOY_SLOTS];

static int task_at(uint64_t id) {
    for (int i = 0; i < TOY_SLOTS; i++)
        if (tasks[i].given && tasks[i].id == id)
            return i;
    return -1;
}

static int toy_start(void *self, const struct work *w) {
    assert(task_at(w->job) < 0);
    assert(strlen(w->name) < WORK_META_MAX && strlen(w->cwd) < WORK_META_MAX);
    for (int i = 0; i < TOY_SLOTS; i++)
        if (!tasks[i].given) {
            tasks[i].given = true;
            tasks[i].killed = false;
            tasks[i].id = w->job;
            tasks[i].attempt = w->attempt;
            tasks[i].lease = work_is_lease(w);
            tasks[i].calls = 0;
            return 0;
        }
    return -EAGAIN;
}

static int toy_call(void *self, uint64_t lease, uint32_t number, enum call_format format, const void *bytes,
                    size_t size, struct shared_buffer *shared) {
    int i = task_at(lease);

    assert(i >= 0 && tasks[i].lease && format <= CALL_VALUES && size <= FRAME_WHOLE_MAX);
    if (number <= tasks[i].calls)
        return -EINVAL;
    if (number % 5 == 4)
        return -ENOMEM;
    tasks[i].calls = number;
    return 0;
}

static int toy_function(void *self, uint64_t lease, const uint8_t hash[32], const void *bytes, size_t size,
                        struct shared_buffer *shared) {
    return task_at(lease) >= 0 ? 0 : -ENOENT;
}

static int toy_piece(void *self, uint64_t lease, uint32_t number, const void *bytes, size_t size,
                     struct shared_buffer *shared) {
    assert(size <= FRAME_WHOLE_MAX);
    if (task_at(lease) < 0)
        return -ENOENT;
    return number % 5 == 3 ? -ENOMEM : 0;
}

static int toy_finish(void *self, uint64_t lease) {
    return task_at(lease) >= 0 ? 0 : -ENOENT;
}

static uint32_t toy_recall(void *self, uint64_t lease, uint32_t number) {
    int i = task_at(lease);

    return i >= 0 && number <= tasks[i].calls ? tasks[i].calls + 1 : number;
}

static void toy_flush(void *self) {
}

static void toy_kill(void *self, uint64_t job) {
    int i = task_at(job);

    if (i >= 0)
        tasks[i].killed = true;
}

static void toy_hold(void *self, uint64_t job, bool hold) {
}

static void toy_resize(void *self, unsigned slots) {
    assert(slots <= NODE_CPUS_MAX);
}

const struct runner_ops toy_ops = {.start = toy_start,
                                   .call = toy_call,
                                   .function = toy_function,
                                   .piece = toy_piece,
                                   .finish = toy_finish,
                                   .recall = toy_recall,
                                   .flush = toy_flush,
                                   .kill = toy_kill,
                                   .hold = toy_hold,
                                   .resize = toy_resize};

void toy_tell(struct agent *agent, uint8_t what, uint8_t which) {
    static const uint8_t large[200 * 1024];
    int i = which % TOY_SLOTS;
    struct work_outcome o = {.attempt = tasks[i].attempt, .end = tasks[i].killed ? WORK_SIGNALED : WORK_DONE};

    if (!tasks[i].given)
        return;
    if (tasks[i].killed || what % 4 == 0) {
        tasks[i].given = false;
        agent_runner_events.done(agent, tasks[i].id, &o);
    } else if (what % 4 == 1) {
        agent_runner_events.output(agent, tasks[i].id, what / 4 % 4, large, what & 128 ? sizeof(large) : 10);
    } else if (tasks[i].lease && tasks[i].calls) {
        enum answer_kind kind = what / 4 % 4;
        agent_runner_events.answer(agent, tasks[i].id, tasks[i].calls, kind, large,
                                   kind == ANSWER_NEED ? 32 : what * 100u);
    }
}

void toy_reset(void) {
    memset(tasks, 0, sizeof(tasks));
}
