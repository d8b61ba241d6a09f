/* The kind of a job file, by its content alone; runs and unpickles nothing. */
#ifndef PPFS_SPEC_H
#define PPFS_SPEC_H
#include "sched/job/options.h"
#include "worker/runner/work.h"

#define SPEC_JSON_MAX (16u << 20)     /* bytes of a JSON job file; larger data belongs in a file or a pickle */
#define SPEC_SOURCE_MAX SPEC_JSON_MAX /* bytes of Python source, which is read whole */
#define SPEC_WHY 400u

#define SPEC_HEAD 64u /* bytes at its beginning that spec_is_stream and spec_needs read */

/* The kind of stream of a file with that name and beginning, else WORK_NONE. Its magic goes before its name. */
bool spec_is_stream(const char *name, const void *bytes, size_t size, enum work_kind *kind);

/* Number of bytes at the beginning of a file that spec_read needs to judge the whole file. */
uint64_t spec_needs(const char *name, const void *head, size_t head_size, uint64_t size);
/* Pure; may run in any thread. 0: *kind is the kind, o has the file's options. -EINVAL: the job must fail, for the
 * reason in why. -ENOMEM. */
int spec_read(const char *name, const void *bytes, size_t size, enum work_kind *kind, struct options *o,
              char why[SPEC_WHY]);

/* A sentence about comment lines at a script's beginning that look like options but are none: those of sbatch, and
 * misspelt marks. NULL: there are none in these bytes. */
const char *spec_ignored(const char *text, size_t size);
#endif
