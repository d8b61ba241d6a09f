#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

#include "net/printable.h"
#include "scripts/ppfs_run/run.h"

int run_cannot(const char *format, ...) {
    char text[2 * PATH_MAX]; /* names may be those of other users */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printable(text, sizeof text);
    fprintf(stderr, "ppfs-run: %s\n", text);
    return RUN_CANNOT;
}
