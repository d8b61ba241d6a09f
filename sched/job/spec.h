/* What a job file is, told by its content alone; nothing in here runs or unpickles anything. */
#ifndef PPFS_SPEC_H
#define PPFS_SPEC_H
#include "sched/job/options.h"
#include "worker/runner/work.h"

#define SPEC_JSON_MAX (16u << 20)     /* bytes of a JSON job file; larger data belongs in a file or a pickle */
#define SPEC_SOURCE_MAX SPEC_JSON_MAX /* bytes of Python source, which is read whole */
#define SPEC_WHY 400u

#define SPEC_HEAD 64u /* bytes of its beginning that spec_is_stream and spec_needs look at, at most */

/* Whether a file of that name that begins so is a stream, and of which kind (else WORK_NONE). Its magic says more than
 * its name. */
bool spec_is_stream(const char *name, const void *bytes, size_t size, enum work_kind *kind);

/* How many bytes of a file of size spec_read has to be given, so that it says what it would of all of them. */
uint64_t spec_needs(const char *name, const void *head, size_t head_size, uint64_t size);
/* Pure; may run in any thread. On 0 *kind says what it is and o has the options it carries.
 * -EINVAL: the job must fail, why says so in one sentence. -ENOMEM. */
int spec_read(const char *name, const void *bytes, size_t size, enum work_kind *kind, struct options *o,
              char why[SPEC_WHY]);

/* A sentence on what looks like options among a script's first comment lines and is none, as far as they are in these
 * bytes: those of sbatch, and misspelt marks. NULL: there is nothing of the kind. */
const char *spec_ignored(const char *text, size_t size);
#endif
