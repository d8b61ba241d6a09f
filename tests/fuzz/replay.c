/* Runs saved samples through a fuzz target, where there is no libFuzzer: those in the directories given, or in
 * tests/fuzz/corpus/stream. Says one line of TAP for each. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *dir, const char *name, unsigned number) {
    static uint8_t bytes[1 << 20];
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "re");
    if (!f) {
        printf("not ok %u - %s cannot be opened\n", number, path);
        return 1;
    }
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    LLVMFuzzerTestOneInput(bytes, n);
    printf("ok %u - %s\n", number, name);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv) {
    const char *top = getenv("srcdir");
    char usual[4096], *dirs[] = {usual};
    unsigned number = 0;
    int bad = 0;
    snprintf(usual, sizeof usual, "%s/tests/fuzz/corpus/stream", top ? top : ".");
    for (int i = 0; i < (argc > 1 ? argc - 1 : 1); i++) {
        const char *dir = argc > 1 ? argv[i + 1] : dirs[0];
        DIR *d = opendir(dir);
        for (struct dirent *e; d && (e = readdir(d));)
            if (e->d_name[0] != '.')
                bad |= run_file(dir, e->d_name, ++number);
        if (d)
            closedir(d);
    }
    printf("1..%u\n", number);
    return bad || number == 0;
}
