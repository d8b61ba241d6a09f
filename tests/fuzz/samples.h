/* Runs saved samples through a fuzz target that is built without libFuzzer. */
#ifndef PPFS_SAMPLES_H
#define PPFS_SAMPLES_H
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first MiB of that file. 0, or 1: it cannot be read, which is said. */
static inline int run_sample(const char *path) {
    static uint8_t bytes[1 << 20];
    FILE *f = fopen(path, "re");
    if (!f) {
        perror(path);
        return 1;
    }
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return LLVMFuzzerTestOneInput(bytes, n);
}

static inline int run_samples(int count, char **paths) {
    int bad = 0;
    for (int i = 0; i < count; i++)
        bad |= run_sample(paths[i]);
    return bad;
}
#endif
