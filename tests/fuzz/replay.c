/* Runs saved samples through a fuzz target, where there is no libFuzzer: those in the directory given, or in
 * tests/fuzz/corpus/stream. Says one line of TAP for each. */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/fuzz/samples.h"

static char *join(const char *a, const char *b) {
    char *path;
    return asprintf(&path, "%s/%s", a, b) < 0 ? NULL : path;
}

static int is_sample(const struct dirent *e) {
    return e->d_name[0] != '.';
}

int main(int argc, char **argv) {
    const char *srcdir = getenv("srcdir"), *top = srcdir ? srcdir : ".";
    char *dir = argc > 1 ? join(argv[1], "") : join(top, "tests/fuzz/corpus/stream");
    struct dirent **names = NULL;
    bool good = true;
    int n = dir ? scandir(dir, &names, is_sample, alphasort) : -1;
    for (int i = 0; i < n; i++) {
        char *path = join(dir, names[i]->d_name);
        bool ok = path && run_sample(path) == 0;
        printf("%s %d - %s\n", ok ? "ok" : "not ok", i + 1, names[i]->d_name);
        fflush(stdout);
        good &= ok;
        free(path);
        free(names[i]);
    }
    printf("1..%d\n", n < 0 ? 0 : n);
    free(names);
    free(dir);
    return good && n > 0 ? 0 : 1;
}
