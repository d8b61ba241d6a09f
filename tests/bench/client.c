/* The benchmark's client: plain system calls, so that what is measured is the filesystem.
 *
 *   client calls MOUNT COUNT FIRST     COUNT times: create, write, close jobs/bN; open, read, unlink results/bN
 *   client fill MOUNT COUNT GROUP      COUNT jobs into ten groups jobs/GROUP-K/, one after another
 *
 * Prints the microseconds that one job took, on average; after those of calls, p50 and p99 of the open of a result. Any
 * error ends it with exit status 1. */
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PATH_SIZE 4096
/* as many for few jobs as for many: groups take turns, so their number decides how far apart in the database they run
 * */
#define GROUPS 10ul

static const char call[] = "{\"call\": \"math.sqrt\", \"args\": [2]}\n";

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void submit(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        err(1, "create %s", path);
    if (write(fd, call, sizeof call - 1) != (ssize_t)sizeof call - 1)
        err(1, "write %s", path);
    if (close(fd) != 0)
        err(1, "close %s", path);
}

/* Returns the microseconds of its open. */
static double collect(const char *path) {
    char answer[256];
    double start = now_us();
    int fd = open(path, O_RDONLY);
    if (fd < 0)
        err(1, "open %s", path);
    double took = now_us() - start;
    ssize_t size = read(fd, answer, sizeof answer);
    if (size < 0)
        err(1, "read %s", path);
    if (size < 16 || strncmp(answer, "1.41421356237309", 16) != 0)
        errx(1, "%s says something else: %.*s", path, (int)size, answer);
    close(fd);
    if (unlink(path) != 0)
        err(1, "unlink %s", path);
    return took;
}

static int compare(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Fills in the microseconds of each open, sorted. */
static void calls(const char *mount, unsigned long count, unsigned long first, double *opens) {
    char path[PATH_SIZE];
    for (unsigned long i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/jobs/b%lu", mount, first + i);
        submit(path);
        snprintf(path, sizeof path, "%s/results/b%lu", mount, first + i);
        opens[i] = collect(path);
    }
    qsort(opens, count, sizeof *opens, compare);
}

static void fill(const char *mount, unsigned long count, const char *group) {
    char path[PATH_SIZE];
    unsigned long size = (count + GROUPS - 1) / GROUPS;
    for (unsigned long i = 0; i < count; i++) {
        if (i % size == 0) {
            snprintf(path, sizeof path, "%s/jobs/%s-%lu", mount, group, i / size);
            if (mkdir(path, 0755) != 0)
                err(1, "mkdir %s", path);
        }
        snprintf(path, sizeof path, "%s/jobs/%s-%lu/b%lu", mount, group, i / size, i);
        submit(path);
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        errx(2, "usage: client calls|fill MOUNT COUNT FIRST|GROUP");
    unsigned long count = strtoul(argv[3], NULL, 10);
    double *opens = calloc(count + 1, sizeof *opens), start = now_us();
    if (strcmp(argv[1], "calls") == 0)
        calls(argv[2], count, strtoul(argv[4], NULL, 10), opens);
    else if (strcmp(argv[1], "fill") == 0)
        fill(argv[2], count, argv[4]);
    else
        errx(2, "no such thing: %s", argv[1]);
    printf("%.3f %.3f %.3f\n", (now_us() - start) / (double)count, opens[count / 2], opens[count * 99 / 100]);
    free(opens);
    return 0;
}
