/* The pool with work of several users: each has workers and a fork server of his own. Needs root. */
#include <linux/close_range.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "net/session/frame.h"
#include "tests/unit/poolrig.h"
#include "worker/runner/control.h"
#include "worker/runner/messages.h"
#include "worker/runner/reap.h"

enum { ALICE = 60001, MALLORY, CROWD = 61000, MANY = 20, FEW = 8 + 1 /* idle ones, and our own */ };

static struct work as(uid_t user, const char *script) {
    struct work w = text(WORK_PROGRAM, script);

    w.uid = w.gid = user;
    return w;
}

/* Who runs his work now. */
static pid_t worker_of(uid_t user) {
    struct job *j = run(as(user, "#!/bin/sh\necho $PPID"));

    assert_end(j, WORK_DONE, 0, "");
    return atoi(OUT(j));
}

static pid_t forkserver_of(pid_t worker) {
    return reap_parent(reap_parent(worker));
}

static unsigned forkservers(void) {
    char text[16 * 1024] = "", path[64];
    unsigned count = 0;

    snprintf(path, sizeof(path), "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(path, "re");
    assert_non_null(f);
    if (fgets(text, sizeof(text), f))
        for (char *p = text; (p = strchr(p, ' ')); p++)
            count++;
    fclose(f);
    return count;
}

static int no_root(void) {
    return geteuid() != 0;
}
#define NEED_ROOT                                                                                                      \
    if (no_root())                                                                                                     \
    skip()

static void workers_are_one_users(void **state) {
    NEED_ROOT;
    pid_t ours = worker_of(0);
    assert_int_equal(forkserver_of(ours), pool_forkserver(fix.pool));
    pid_t hers = worker_of(ALICE), his = worker_of(MALLORY);
    assert_int_not_equal(ours, hers);
    assert_int_not_equal(hers, his);
    assert_int_not_equal(forkserver_of(hers), forkserver_of(his));
    assert_int_equal(worker_of(MALLORY), his); /* his next job finds it warm */
    assert_int_equal(worker_of(ALICE), hers);
    assert_int_not_equal(worker_of(0), ours); /* two slots: it was the one idle for the longest */
    struct work w = as(ALICE, "#!/bin/sh\necho $PPID");
    w.gid = MALLORY; /* the group makes no other user */
    struct job *j = run(w);
    assert_int_equal(atoi(OUT(j)), hers);
}

static void no_more_than_a_few_forkservers_are_idle(void **state) {
    NEED_ROOT;
    for (uid_t user = CROWD; user < CROWD + MANY; user++)
        worker_of(user);
    for (int tries = 0; forkservers() > FEW && tries < 1000; tries++)
        loop_for_ms(10);
    assert_int_equal(forkservers(), FEW);
    assert_int_equal(fix.troubles, 0);
}

static void idle_forkservers_leave_with_all_that_is_theirs(void **state) {
    NEED_ROOT;
    pool_with(&(struct pool_config){.worker_path = worker_path(), .workers = 2, .keep_ms = 200});
    worker_of(0);
    loop_for_ms(100);
    int files = entries("/proc/self/fd");
    struct job *j = begin(as(ALICE, "#!/bin/sh\nsleep 0.5"));
    worker_of(MALLORY);
    loop_until(&j->done);
    for (int tries = 0; forkservers() > 1 && tries < 1000; tries++)
        loop_for_ms(10);
    assert_int_equal(forkservers(), 1);
    assert_end(j, WORK_DONE, 0, "");
    assert_int_equal(entries(scratch), 1);
    worker_of(0);
    assert_true(entries("/proc/self/fd") <= files);
    assert_int_equal(fix.troubles, 0);
    worker_of(ALICE); /* and come again */
}

static void death_of_a_forkserver_is_its_users(void **state) {
    NEED_ROOT;
    struct job *hers = begin(as(ALICE, "#!/bin/sh\necho $PPID; sleep 94"));
    struct job *his = begin(as(MALLORY, "#!/bin/sh\necho $PPID; sleep 0.5; echo end"));
    while (!strchr(OUT(hers), '\n') || !strchr(OUT(his), '\n'))
        loop_for_ms(5);
    kill(forkserver_of(atoi(OUT(hers))), SIGKILL);
    loop_until(&hers->done);
    assert_end(hers, WORK_LOST, 0, "the fork server of the workers of user 60001");
    assert_int_equal(fix.troubles, 1);
    loop_until(&his->done);
    assert_end(his, WORK_DONE, 0, "");
    assert_text(OUT(his), "end");
    worker_of(ALICE);
}

static void a_forkserver_that_cannot_start_is_in_nobodys_way(void **state) {
    NEED_ROOT;
    char path[] = "/tmp/ppfs-file-XXXXXX";
    int fd = mkstemp(path);
    char *real = realpath(worker_path(), NULL);
    dprintf(fd, "#!/bin/sh\n[ \"$3\" = %d ] && exit 3\nexec %s \"$@\"\n", MALLORY, real);
    fchmod(fd, 0755);
    close(fd);
    free(real);
    pool_with(&(struct pool_config){.worker_path = path, .workers = 2});
    worker_of(ALICE);
    assert_end(run(as(MALLORY, "#!/bin/sh\n")), WORK_REFUSED, 0, "of user 60002 does not start (exit status 3)");
    struct job *his = begin(as(MALLORY, "#!/bin/sh\n")); /* waits for the next start */
    worker_of(ALICE);
    worker_of(0);
    loop_until(&his->done);
    assert_end(his, WORK_REFUSED, 0, "does not start (exit status 3)");
    unlink(path);
}

static struct job *run_in_group(uid_t user, gid_t group) {
    struct work w = as(user, "#!/bin/sh\nid -g");

    w.gid = group;
    return run(w);
}

/* A ppfs that was broken into names any group: that of a disk is as good as root. */
static void groups_of_another_machine_are_those_of_ours(void **state) {
    enum { BIN = 2, DISK = 6, UNHEARD_OF = 61234 }; /* bin is a user of each Debian, with a group of the same number */
    static const uid_t users[] = {BIN, ALICE};      /* the second is known to nobody here */

    NEED_ROOT;
    pool_with(&(struct pool_config){.worker_path = worker_path(), .workers = 2, .check_groups = true});
    for (int i = 0; i < 2; i++) {
        assert_end(run_in_group(users[i], DISK), WORK_REFUSED, 0, "is not in group 6 on this machine");
        assert_end(run_in_group(users[i], 0), WORK_REFUSED, 0, "is not in group 0 on this machine");
    }
    assert_text(OUT(run_in_group(BIN, BIN)), "2");
    assert_text(OUT(run_in_group(ALICE, UNHEARD_OF)), "61234");
}

/* Whatever comes, goes and is killed: each work has one end, and it is its own. */
static void users_come_and_go_at_random(void **state) {
    NEED_ROOT;
    enum { WORKERS = 4, WORKS = 60 };
    struct job *jobs[WORKERS] = {0};
    uid_t users[WORKERS];
    unsigned begun = 0, ended = 0, left;
    unsigned short seed[3] = {1, 2, 3};

    pool_with(&(struct pool_config){.worker_path = worker_path(), .workers = WORKERS, .keep_ms = 20});
    do {
        left = 0;
        for (int i = 0; i < WORKERS; i++) {
            if (jobs[i] && jobs[i]->done) {
                char want[16];
                snprintf(want, sizeof(want), "%u\n", (unsigned)users[i]);
                if (jobs[i]->outcome.end == WORK_DONE)
                    assert_string_equal(OUT(jobs[i]), want);
                else
                    assert_true(jobs[i]->outcome.end == WORK_SIGNALED || jobs[i]->outcome.end == WORK_LOST);
                ended += jobs[i]->outcome.end == WORK_DONE;
                jobs[i] = NULL;
            }
            if (!jobs[i] && begun < WORKS) {
                users[i] = (uid_t)(nrand48(seed) % 4 ? CROWD + nrand48(seed) % 5 : 0);
                jobs[i] =
                    begin(as(users[i], nrand48(seed) % 2 ? "#!/bin/sh\nid -u\n" : "#!/bin/sh\nid -u; sleep 0.03\n"));
                begun++;
                if (nrand48(seed) % 6 == 0)
                    runner_kill(fix.runner, fix.last);
                if (nrand48(seed) % 12 == 0)
                    kill(pool_forkserver(fix.pool), SIGKILL);
            }
            left += jobs[i] != NULL;
        }
        loop_for_ms(5);
    } while (left || begun < WORKS);
    assert_true(ended > WORKS / 3);
}

/* Workers that have nothing to do, of one user, hold all descriptors but so many. */
static void with_few_descriptors(unsigned free) {
    enum { WORKERS = 12 };
    struct rlimit before, few;
    struct job *hers[WORKERS];

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    pool_up(2 * WORKERS);
    for (unsigned i = 0; i < WORKERS; i++)
        hers[i] = begin(as(ALICE, "#!/bin/sh\nsleep 0.2\n"));
    for (unsigned i = 0; i < WORKERS; i++)
        loop_until(&hers[i]->done);
    few = (struct rlimit){.rlim_cur = (rlim_t)entries("/proc/self/fd") + free, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    for (uid_t user = CROWD; user < CROWD + 3; user++)
        worker_of(user);
    worker_of(0);
    assert_int_equal(fix.troubles, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void idle_workers_leave_descriptors_for_a_worker(void **state) {
    NEED_ROOT;
    with_few_descriptors(30);
}

static void idle_workers_leave_descriptors_for_a_forkserver(void **state) {
    NEED_ROOT;
    with_few_descriptors(24);
}

/* A worker by hand: what it says to work of that user. */
static void ask_worker(uid_t own, uid_t user, struct work_outcome *o) {
    char root[] = "/tmp/ppfs-test-root-XXXXXX", uid[16], room[CMSG_SPACE(SPAWN_FDS * sizeof(int))] = {0};
    struct control c = {.kind = CONTROL_SPAWN, .serial = 1};
    struct iovec part = {&c, sizeof(c)};
    struct msghdr msg = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room)};
    struct work w = as(user, "#!/bin/sh\n");
    int control[2], line[2], page = memfd_create("page", 0);
    uint8_t head[FRAME_HEADER], answer[4096];
    struct frame f;
    void *bytes;
    uint32_t size;

    assert_non_null(mkdtemp(root));
    assert_int_equal(chmod(root, 0711), 0);
    int lock = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* else the worker of another run sweeps it away */
    assert_int_equal(flock(lock, LOCK_EX), 0);
    assert_int_equal(ftruncate(page, sizeof(struct lease_page)), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, control), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, line), 0);
    snprintf(uid, sizeof(uid), "%u", (unsigned)own);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(control[1], CONTROL_FD);
        close_range(CONTROL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
        execl(worker_path(), worker_path(), "/usr/bin/python3", root, uid, (char *)NULL);
        _exit(127);
    }
    close(control[1]);
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(SPAWN_FDS * sizeof(int));
    memcpy(CMSG_DATA(cmsg), (int[SPAWN_FDS]){line[1], 1, 2, page}, SPAWN_FDS * sizeof(int));
    assert_int_equal(sendmsg(control[0], &msg, 0), sizeof(c));
    w.job = 7;
    assert_int_equal(work_encode(&w, &bytes, &size), 0);
    frame_encode(head, MESSAGE_START, message_id(7, 0), size);
    assert_int_equal(send(line[0], head, sizeof(head), 0), sizeof(head));
    assert_int_equal(send(line[0], bytes, size, 0), size);
    free(bytes);
    ssize_t n = recv(line[0], answer, sizeof(answer), 0);
    assert_true(n > 0 && frame_decode(answer, (size_t)n, &f) > 0);
    assert_int_equal(f.kind, user == own ? MESSAGE_DONE : MESSAGE_LAST);
    assert_int_equal(work_outcome_decode(f.body, f.size, o), 0);
    close(control[0]);
    close(line[0]);
    close(line[1]);
    close(page);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    assert_int_equal(rmdir(root), -1); /* the fork server has removed it */
    close(lock);
}

static void a_worker_refuses_other_users_work(void **state) {
    NEED_ROOT;
    struct work_outcome o;

    ask_worker(ALICE, ALICE, &o);
    assert_string_equal(o.why, "");
    assert_int_equal(o.end, WORK_DONE);
    ask_worker(ALICE, MALLORY, &o);
    assert_int_equal(o.end, WORK_REFUSED);
    assert_text(o.why, "not for work of user 60002");
    ask_worker(ALICE, 0, &o);
    assert_int_equal(o.end, WORK_REFUSED);
}

int main(void) {
#define POOL_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        POOL_TEST(workers_are_one_users),
        POOL_TEST(no_more_than_a_few_forkservers_are_idle),
        POOL_TEST(death_of_a_forkserver_is_its_users),
        cmocka_unit_test_teardown(idle_forkservers_leave_with_all_that_is_theirs, teardown),
        cmocka_unit_test_teardown(a_forkserver_that_cannot_start_is_in_nobodys_way, teardown),
        cmocka_unit_test_teardown(groups_of_another_machine_are_those_of_ours, teardown),
        cmocka_unit_test_teardown(users_come_and_go_at_random, teardown),
        cmocka_unit_test_teardown(idle_workers_leave_descriptors_for_a_worker, teardown),
        cmocka_unit_test_teardown(idle_workers_leave_descriptors_for_a_forkserver, teardown),
        cmocka_unit_test(a_worker_refuses_other_users_work),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
