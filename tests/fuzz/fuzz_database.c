/* A database that was changed while nothing was mounted: single bytes, whole pages, its length. It is opened, examined
 * and salvaged; what is shown of a job or a body, of the old one as of the new one, is what was written.
 *
 * An input is a list of changes of six bytes each: where (4), what, with which byte. With libFuzzer (configure
 * --enable-fuzzing): tests/fuzz/fuzz_database DIRECTORY. Without it (make check) it has a main of its own: changes by a
 * fixed chance; or the files named. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sched/db/store.h"
#include "sched/db/store_bodies.h"
#include "sched/db/store_jobs.h"
#include "sched/db/store_salvage.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define JOBS 12
#define BODY 3000
#define PAGE 1024

static char top[64], old_dir[80], new_dir[80];
static uint8_t *base;
static size_t base_size;
static struct job_row jobs[JOBS];

static void fill(uint8_t *bytes, int job, enum job_body b) {
    for (int i = 0; i < BODY; i++)
        bytes[i] = (uint8_t)(job * 31 + (int)b * 7 + i);
}

static void make(struct store *st) {
    uint8_t bytes[BODY];
    for (int i = 0; i < JOBS; i++) {
        struct job_row *r = &jobs[i];
        r->job = (struct job){.id = store_next_id(st), .state = JOB_DONE, .shelf = SHELF_RESULTS, .kind = WORK_PROGRAM};
        if (i % 3 == 1)
            r->job.state = JOB_FAILED, r->job.shelf = SHELF_FAILURES, r->job.error = EIO, r->job.exit_status = i;
        if (i % 3 == 2)
            r->job.state = JOB_QUEUED, r->job.shelf = SHELF_JOBS;
        r->job.uid = (uid_t)(1000 + i);
        snprintf(r->job.name, sizeof r->job.name, "job-%d", i);
        snprintf(r->job.why, sizeof r->job.why, "it is %d", i);
        assert(store_job_insert(st, r, "/tmp") == 0);
        for (enum job_body b = BODY_SPEC; b <= BODY_STDOUT; b++) {
            fill(bytes, i, b);
            assert(store_body_put(st, r->job.id, b, bytes, (size_t)(b == BODY_SPEC ? 100 : BODY)) == 0);
        }
    }
    assert(store_commit(st) == 0);
}

static void remove_all(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", top);
    if (system(command) != 0)
        perror(top);
}

static void begin(void) {
    char why[512], path[128];
    struct store *st;
    strcpy(top, access("/dev/shm", W_OK) == 0 ? "/dev/shm/ppfs-fuzz-XXXXXX" : "/tmp/ppfs-fuzz-XXXXXX");
    assert(mkdtemp(top));
    atexit(remove_all);
    snprintf(old_dir, sizeof old_dir, "%s/old", top);
    snprintf(new_dir, sizeof new_dir, "%s/new", top);
    assert(mkdir(old_dir, 0700) == 0);
    assert(store_open(&st, old_dir, why, sizeof why) == 0);
    make(st);
    store_close(st);
    snprintf(path, sizeof path, "%s/ppfs.db", old_dir);
    struct stat file;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert(fd >= 0 && fstat(fd, &file) == 0);
    base_size = (size_t)file.st_size;
    base = malloc(base_size);
    assert(base && read(fd, base, base_size) == (ssize_t)base_size);
    close(fd);
}

/* All but when it may run, which is changed in many rows at once. */
static bool same(const struct job_row *a, const struct job_row *b) {
    struct job_row x = *a;
    x.job.not_before = b->job.not_before;
    return memcmp(&x, b, sizeof x) == 0;
}

static bool any(void *arg, const struct job *j) {
    return true;
}

static void look(struct store *st) {
    static uint8_t got[BODY + 1], wanted[BODY];
    struct job_row r;
    struct body b;
    for (int i = 0; i < JOBS; i++) {
        if (store_job_get(st, jobs[i].job.id, &r) == 0 && !r.job.damaged)
            assert(same(&r, &jobs[i]));
        if (store_job_find(st, 0, jobs[i].job.name, false, &r) == 0 && !r.job.damaged)
            assert(same(&r, &jobs[i]));
        for (enum job_body body = BODY_SPEC; body <= BODY_STDOUT; body++) {
            if (store_body_get(st, jobs[i].job.id, body, &b) < 0 || b.file)
                continue;
            int64_t n = store_body_read(st, jobs[i].job.id, body, got, sizeof got, 0);
            fill(wanted, i, body);
            assert(n < 0 ||
                   (n == (body == BODY_SPEC ? 100 : BODY) && n == b.size && memcmp(got, wanted, (size_t)n) == 0));
        }
    }
    store_job_list(st, 0, ~0u, 0, any, NULL);
}

static void told(void *arg, const char *line) {
    assert(*line);
}

static void open_and_look(const char *dir) {
    char why[512] = "";
    struct store *st = NULL;
    int rc = store_open(&st, dir, why, sizeof why);
    assert(rc == 0 || *why);
    if (rc == 0)
        look(st);
    store_close(st);
}

static void clear(const char *dir) {
    static const char *const made[] = {"ppfs.db", "ppfs.db-wal", "ppfs.db-shm", "ppfs.db-journal", "ballast"};
    char path[128];
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, made[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/spool", dir);
    rmdir(path);
}

static void put_changed(const uint8_t *data, size_t size) {
    char path[128];
    uint8_t *bytes = malloc(base_size);
    size_t length = base_size;
    memcpy(bytes, base, base_size);
    for (; size >= 6; data += 6, size -= 6) {
        size_t at =
            ((size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16 | (size_t)data[3] << 24) % base_size;
        switch (data[4] % 16) {
        case 0: memset(bytes + at / PAGE * PAGE, data[5], PAGE); break;
        case 1: length = at; break;
        case 2: memcpy(bytes + at / PAGE * PAGE, bytes + data[5] % (base_size / PAGE) * PAGE, PAGE); break;
        case 3: bytes[at] = data[5]; break;
        default: bytes[at] ^= (uint8_t)(1 << data[5] % 8);
        }
    }
    snprintf(path, sizeof path, "%s/ppfs.db", old_dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0 && write(fd, bytes, length) == (ssize_t)length);
    close(fd);
    free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!base)
        begin();
    clear(old_dir);
    clear(new_dir);
    rmdir(new_dir);
    put_changed(data, size);
    store_examine(old_dir, told, NULL);
    if (store_salvage(old_dir, new_dir, told, NULL) >= 0)
        open_and_look(new_dir);
    open_and_look(old_dir);
    return 0;
}

#ifdef PPFS_SAMPLES
#include "tests/fuzz/samples.h"

#define ROUNDS 40

int main(int argc, char **argv) {
    if (argc > 1)
        return run_samples(argc - 1, argv + 1);
    srandom(1);
    for (int n = 0; n < ROUNDS; n++) {
        uint8_t bytes[6 * 4];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)random();
        LLVMFuzzerTestOneInput(bytes, (size_t)(n % 4 + 1) * 6);
    }
    printf("ok 1 - %d changed databases\n1..1\n", ROUNDS);
    return 0;
}
#endif
