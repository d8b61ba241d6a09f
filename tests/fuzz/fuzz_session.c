/* What arrives after the handshake: links, greetings, sessions, and what remote.c hears of a node or agent.c of a ppfs,
 * against somebody who has the key and any manners at all.
 *
 * An input is a little program (see step): greet rightly or wrongly, say frames whole or in pieces, cut the link and
 * come again, while this side gives work and takes it back. Whatever is said, each work ends exactly once, nothing is
 * told of a work that has ended, and the answers of a lease come in order.
 *
 * With libFuzzer (configure --enable-fuzzing): tests/fuzz/fuzz_session DIRECTORY. Without it (make check) it has a main
 * of its own: the samples below, then 20,000 programs made of them by a fixed chance; or the files named. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/peer/peer.h"
#include "net/session/session_int.h"
#include "tests/fuzz/toy_runner.h"
#include "worker/remote/remote_internal.h"
#include "worker/node/agent.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { JOBS = 16, STEPS = 200 };

static struct event_base *base;
static struct hub *hub;
static struct disk *disk; /* of the remote; it works at once (bare_disk.c) */
static int theirs = -1;   /* the other end of the newest link, -1: none */

static void turn(void) {
    static uint8_t discarded[64 * 1024];

    for (int i = 0; i < 3; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        while (theirs >= 0 && recv(theirs, discarded, sizeof(discarded), MSG_DONTWAIT) > 0) {
        }
    }
}

/* --- as a ppfs: remote.c hears a node ---------------------------------------------------------------------------- */
static struct {
    bool given, lease;
    uint32_t sent, answered, recalls, asked;
} jobs[JOBS];
static struct remote *remote;
static bool begun;
static struct runner runner;

static void on_output(void *arg, uint64_t job, enum output_kind stream, const void *bytes, size_t size) {
    assert(job < JOBS && jobs[job].given && stream <= OUTPUT_FILES && size <= FRAME_BODY_MAX);
}

static void on_done(void *arg, uint64_t job, const struct work_outcome *o) {
    assert(job < JOBS && jobs[job].given);
    assert(strnlen(o->why, sizeof(o->why)) < sizeof(o->why));
    jobs[job].given = false;
}

static void on_answer(void *arg, uint64_t job, uint32_t number, enum answer_kind kind, const void *bytes, size_t size) {
    assert(job < JOBS && jobs[job].given && jobs[job].lease);
    assert(number > jobs[job].answered && number <= jobs[job].sent);
    if (kind == ANSWER_VALUE || kind == ANSWER_ERROR || (kind == ANSWER_NEED && !size))
        jobs[job].answered = number;
}

static void on_recalled(void *arg, uint64_t job, uint32_t number) {
    assert(job < JOBS && jobs[job].given && jobs[job].lease && jobs[job].recalls);
    assert(number >= jobs[job].asked && number <= jobs[job].sent + 1);
    jobs[job].recalls--;
}

static void on_trouble(void *arg, const char *sentence) {
    assert(strncmp(sentence, "node ", 5) == 0); /* what a node says in it is escaped where it is shown */
}

static const struct runner_events runner_events = {
    .output = on_output, .done = on_done, .answer = on_answer, .recalled = on_recalled, .trouble = on_trouble};

static void on_about(void *arg, struct remote *f) {
    assert(node_name_valid(remote_about(f)->name));
    if (begun)
        return;
    begun = true;
    assert(!remote_set_name(f, remote_about(f)->name, NULL));
    remote_begin(f, &runner_events, NULL);
    remote_runner(f, &runner);
}

static void on_remote_lost(void *arg, struct remote *f, const char *why) {
    assert(f == remote && *why);
    for (int i = 0; i < JOBS; i++)
        assert(!jobs[i].given);
    remote_destroy(f);
    remote = NULL;
    begun = false;
}

static void take_back(unsigned job, uint32_t number) {
    if (runner_recall(runner, job, number) == RUNNER_LATER && (!jobs[job].recalls++ || number < jobs[job].asked))
        jobs[job].asked = number;
}

/* Gives work, sends calls, takes back: what a scheduler does, chosen by two bytes. */
static void act(uint8_t what, uint8_t which) {
    unsigned job = which % JOBS;
    static const uint8_t hash[32];
    struct work w = {.job = job,
                     .attempt = what,
                     .kind = what & 8 ? WORK_STREAM_FRAMES : WORK_PICKLE,
                     .name = "x",
                     .node = "n",
                     .cwd = "",
                     .payload = "payload",
                     .payload_size = what & 8 ? 0 : 7};

    if (!begun)
        return;
    if ((what & 24) == 16) { /* some hundred pieces */
        w.file = "/proc/self/exe";
        w.payload_size = 0;
    }
    switch (what % 8) {
    case 0:
    case 1:
        if (!jobs[job].given && !runner_start(runner, &w)) {
            jobs[job].given = true;
            jobs[job].lease = what & 8;
            jobs[job].sent = jobs[job].answered = jobs[job].recalls = 0;
        }
        break;
    case 2:
    case 3:
        if (jobs[job].given && jobs[job].lease &&
            !runner_call(runner, job, jobs[job].sent + 1, what % 8 == 3 ? CALL_VALUES : CALL_PICKLE, "call", 4, NULL))
            jobs[job].sent++;
        break;
    case 4:
        if (jobs[job].given && jobs[job].lease && jobs[job].sent)
            take_back(job, 1 + what / 8 % jobs[job].sent);
        break;
    case 5: runner_kill(runner, job); break;
    case 6:
        runner_function(runner, job, hash, "f", what & 8 ? 1 : 0, NULL);
        runner_finish(runner, job);
        break;
    case 7:
        runner_hold(runner, job, what & 8);
        runner_flush(runner);
        break;
    }
}

/* --- as a node: agent.c hears a ppfs, and gives its work to toy_runner.c ------------------------------------------ */
static struct agent *agent;
static void on_client_linked(void *arg, uint64_t client, bool up) {
}

static void on_left(void *arg, uint64_t client, bool for_good) {
}

static void on_busy(void *arg, bool busy) {
}

static void on_python(void *arg) {
}

static void on_log(void *arg, const char *sentence) {
    assert(*sentence);
}

/* --- the hub ----------------------------------------------------------------------------------------------------- */
static bool as_node;
static unsigned long sessions; /* that began */

static void on_greeted(void *arg, void *tag, struct session *s, bool fresh) {
    static const struct remote_owner owner = {.about = on_about, .lost = on_remote_lost};

    if (!fresh)
        return;
    sessions++;
    if (as_node)
        assert(agent_client(agent, s));
    else if (remote)
        session_destroy(s); /* the fuzzer plays one node only, but may come again as another */
    else
        assert(!remote_create(&remote, base, disk, s, &owner, NULL));
}

static void on_failed(void *arg, void *tag, const char *why) {
    assert(*why);
}

static void connect_again(void) {
    struct tls_conn *conn;
    int ends[2], size = 1 << 20;

    if (theirs >= 0)
        close(theirs);
    assert(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends));
    theirs = ends[1];
    setsockopt(theirs, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    tls_conn_create(&conn, NULL, ends[0]);
    hub_greet(hub, conn, "them", NULL);
}

/* --- the program ------------------------------------------------------------------------------------------------- */
struct input {
    const uint8_t *at;
    size_t left;
};

static uint8_t byte(struct input *in) {
    return in->left ? (in->left--, *in->at++) : 0;
}

static void say_bytes(const void *bytes, size_t size) {
    if (theirs >= 0 && send(theirs, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EPIPE)
        assert(errno == ECONNRESET);
}

static void say(uint8_t kind, uint64_t id, const void *body, uint32_t size) {
    uint8_t header[FRAME_HEADER];

    frame_encode(header, kind, id, size);
    say_bytes(header, sizeof(header));
    say_bytes(body, size);
}

static void say_hello(uint8_t who) {
    uint8_t body[96] = "ppfsnode";

    body[8] = SESSION_VERSION;
    memset(body + 16, who, 16);
    body[32] = 1; /* a signature that bare_tls.c takes for one; to a ppfs a nonce */
    say(240, 0, body, as_node ? sizeof(body) : 64);
}

/* who: which session they claim to have; of ours the ids are runs of one odd number (bare_tls.c). */
static void say_resume(uint8_t who, uint8_t fresh, uint64_t received) {
    uint8_t body[32];

    memset(body, who, 16);
    memset(body + 16, fresh, 16);
    say(241, received, body, sizeof(body));
}

/* A START that is as it should be. */
static void say_start(uint8_t ref, uint8_t kind, uint8_t low) {
    struct work w = {.job = ref,
                     .attempt = 1,
                     .kind = kind % (WORK_CALL + 1),
                     .name = "x",
                     .node = "n",
                     .cwd = "/",
                     .payload = "#!",
                     .payload_size = 2};
    void *bytes;
    uint32_t size;

    if (low & 1 || work_is_lease(&w))
        w.payload_size = 0;
    if (!work_encode(&w, &bytes, &size)) {
        say(MESSAGE_START, message_id(ref, low & 1), bytes, size);
        free(bytes);
    }
}

static void say_about(uint8_t cpus, uint8_t draining) {
    struct node_about about = {.cpus = cpus, .draining = draining & 1, .name = "far", .python = "3.11.2"};
    uint8_t bytes[NODE_ABOUT_MAX];

    say(MESSAGE_ABOUT, 0, bytes, node_about_encode(&about, bytes));
}

static void say_frame(struct input *in, bool large) {
    static uint8_t filled[FRAME_BODY_MAX];
    uint8_t kind = byte(in), ref = byte(in), low = byte(in), size = byte(in);

    if (large) {
        memset(filled, byte(in), sizeof(filled));
        say(kind, message_id(ref, low), filled, size * 1024u);
        return;
    }
    size = size < in->left ? size : (uint8_t)in->left;
    say(kind, message_id(ref, low), in->at, size);
    in->at += size;
    in->left -= size;
}

static void say_done(uint8_t ref, uint8_t end) {
    struct work_outcome o = {.attempt = end, .end = WORK_DONE};
    uint8_t bytes[1024];
    uint32_t size;

    work_outcome_encode(&o, bytes, &size);
    say(MESSAGE_DONE, message_id(ref, 0), bytes, size);
}

static void step(struct input *in) {
    uint8_t what = byte(in), a, b;

    switch (what % 16) {
    case 0: /* raw bytes */
        a = byte(in);
        a = a < in->left ? a : (uint8_t)in->left;
        say_bytes(in->at, a);
        in->at += a;
        in->left -= a;
        break;
    case 1:
    case 2:
    case 3: say_frame(in, false); break;
    case 4: say_frame(in, true); break;
    case 5: connect_again(); break;
    case 6: say_hello(byte(in)); break;
    case 7:
        a = byte(in);
        b = byte(in);
        say_resume(a, b, byte(in));
        break;
    case 8: /* all that a greeting needs */
        connect_again();
        say_hello(7);
        say_resume(0, 9, 0);
        break;
    case 9:
        a = byte(in);
        say_start(a, byte(in), what / 16);
        break;
    case 10:
        a = byte(in);
        say_about(a, byte(in));
        break;
    case 11:
        a = byte(in);
        say_done(a, byte(in));
        break;
    case 12:
    case 13:
        a = byte(in);
        b = byte(in);
        as_node ? toy_tell(agent, a, b) : act(a, b);
        return; /* no turn of the loop between */
    case 14:
        if (theirs >= 0)
            shutdown(theirs, SHUT_WR);
        break;
    case 15:
        a = byte(in);
        if (as_node && a % 4 == 0)
            agent_drain(agent);
        else if (as_node && a % 4 == 1)
            agent_resize(agent, a / 4);
        else if (as_node && a % 4 == 2)
            agent_goodbye(agent);
        else if (!as_node && remote && begun && a % 8 == 0)
            remote_leave(remote);
        break;
    }
    turn();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct hub_events hub_events = {.greeted = on_greeted, .failed = on_failed};
    static const struct agent_config config = {
        .name = "node", .dir = "/tmp", .cpus = TOY_SLOTS, .uids = {1, {{0, UINT32_MAX - 1}}}};
    static const struct agent_events events = {
        .linked = on_client_linked, .left = on_left, .busy = on_busy, .python = on_python, .log = on_log};
    struct input in = {data, size};

    as_node = byte(&in) & 1;
    memset(jobs, 0, sizeof(jobs));
    toy_reset();
    if (!base)
        base = event_base_new();
    struct hub_config hub_config = {.side = as_node ? TLS_NODE : TLS_PPFS};
    assert(base && !hub_create(&hub, base, &hub_config, &hub_events, NULL));
    if (as_node) {
        assert(!agent_create(&agent, base, &config, &events, NULL));
        agent_set_runner(agent, (struct runner){&toy_ops, NULL});
    } else {
        assert(!disk_create(&disk, base));
    }
    connect_again();
    for (int i = 0; i < STEPS && in.left; i++)
        step(&in);
    turn();
    remote_destroy(remote);
    disk_destroy(disk);
    agent_destroy(agent);
    hub_destroy(hub);
    if (theirs >= 0)
        close(theirs);
    theirs = -1;
    remote = NULL;
    disk = NULL;
    begun = false;
    agent = NULL;
    for (int i = 0; i < 3; i++)
        event_base_loop(base, EVLOOP_NONBLOCK);
    return 0;
}

#ifdef PPFS_SAMPLES
#include "tests/fuzz/samples.h"

static const struct {
    const char *bytes;
    size_t size;
} samples[] = {
#define S(text)                                                                                                        \
    { text, sizeof(text) - 1 }
    S("\0\6\7\7\0\0\0\12\4\0\14\0\1\14\0\2\1\41\0\0\3abc\13\0\0"),                  /* a node: ABOUT, work, its DONE */
    S("\0\10\12\4\0\14\10\1\14\2\1\14\2\1\14\4\1\1\43\0\1\1x\1\43\0\2\1y\13\0\10"), /* a lease: calls, answers */
    S("\0\10\12\4\0\14\10\1\14\2\1\1\45\0\1\40aaaaaaaabbbbbbbbccccccccdddddddd\14\6\1"), /* a function is asked for */
    S("\0\10\12\4\0\14\10\1\14\2\1\14\4\1\1\46\0\1\0\1\50\0\0\5hello\1\51\0\0\0"), /* RECALLED, TROUBLE, GOODBYE */
    S("\0\10\12\4\0\14\10\1\14\2\1\14\2\1\14\14\1\1\46\0\1\0"), /* RECALLED, of more than was asked for */
    S("\0\10\12\4\0\5\6\7\7\1\0\0\5\6\7\7\3\0\1"),              /* comes again */
    S("\1\10\11\0\1\11\1\2\14\1\0\14\0\0\14\201\1\14\0\1"),     /* a ppfs: two works, output, their ends */
    S("\1\10\11\0\6\1\5\0\1\4call\1\6\0\2\4call\14\6\0\14\2\0\1\12\0\0\0\14\0\0"), /* a lease */
    S("\1\10\11\0\7\1\7\0\1\45aaaaaaaabbbbbbbbccccccccddddddddargs\14\16\0\1\11\0\0\45aaaaaaaabbbbbbbbccccccccddddddddf"
      "unc"),
    S("\1\10\11\0\7\1\10\0\1\110\1\1\0\0aaaaaaaabbbbbbbbccccccccddddddddeeeeeeeeffffffffgggggggghhhhhhhhargs"
      "\14\16\0\1\11\0\0\46aaaaaaaabbbbbbbbccccccccddddddddvalue\14\16\0\1\11\0\0\40eeeeeeeeffffffffgggggggghhhhhhhh"),
    S("\1\10\31\0\3\1\2\0\0\5bytes\4\2\0\0\100a\1\3\0\0\0\14\0\0"),               /* a payload in pieces */
    S("\0\10\12\4\0\14\20\1\14\20\2\1\52\0\4\0\1\52\0\10\0\13\0\20\1\52\1\11\0"), /* payload files, KEPT, an end */
    S("\1\10\11\0\6\4\4\0\0\100a\1\5\0\1\4call\1\13\0\1\0\1\14\0\0\0\1\15\0\1\0\1\16\0\6\0\1\20\0\0\24aaaaaaaaaaaaaaaaa"
      "aaa"),
    S("\1\10\1\22\0\0\3far\1\21\0\0\3why\5\6\7\7\0\10\0\1\21\0\0\4not!"), /* WELCOME; REFUSED after it, and before */
    S("\1\10\1\362\0\0\10stampstp\1\364\0\0\0\1\365\0\0\0"),              /* heartbeats and BYE */
};

/* A program cut from two samples, with some bytes changed. */
static size_t mix(uint8_t *out, size_t room) {
    size_t count = sizeof(samples) / sizeof(*samples), n = 0;

    for (int part = 0; part < 3; part++) {
        size_t k = (size_t)random() % count, from = part ? (size_t)random() % samples[k].size : 0;
        size_t size = samples[k].size - from;
        size = size < room - n ? size : room - n;
        memcpy(out + n, samples[k].bytes + from, size);
        n += size;
    }
    for (long i = random() % 4; i; i--)
        out[(size_t)random() % n] = (uint8_t)random();
    return n;
}

int main(int argc, char **argv) {
    uint8_t bytes[512];

    if (argc > 1)
        return run_samples(argc - 1, argv + 1);
    for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
        LLVMFuzzerTestOneInput((const uint8_t *)samples[i].bytes, samples[i].size);
        printf("ok %zu - sample %zu\n", i + 1, i);
    }
    assert(sessions >= 14); /* samples that ours takes for a greeting of its own version */
    srandom(1);
    for (int i = 0; i < 20000; i++)
        LLVMFuzzerTestOneInput(bytes, mix(bytes, sizeof(bytes)));
    printf("ok %zu - 20000 programs by chance\n", sizeof(samples) / sizeof(*samples) + 1);
    printf("1..%zu\n", sizeof(samples) / sizeof(*samples) + 1);
    event_base_free(base);
    return 0;
}
#endif
