/* Where a job may run, as text: the column place. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/hosts/host.h"
#include "sched/users/limit.h"

void constraint_make(char place[CONSTRAINT_MAX], enum work_kind kind, const char *pattern, uint64_t memory,
                     const struct resources *resources) {
    char text[RESOURCES_TEXT];
    bool pickles = kind == WORK_PICKLE || kind == WORK_CALL || kind == WORK_STREAM_FRAMES;
    place[0] = 0;
    resources_text(resources, text);
    if (memory || *text)
        snprintf(place, CONSTRAINT_MAX - LIMIT_PLACE_MAX, "%c%" PRIx64 "%s%s:%s", pickles ? 'P' : '=', memory,
                 *text ? ";" : "", text, pattern ? pattern : "");
    else if (pickles || pattern)
        snprintf(place, CONSTRAINT_MAX - LIMIT_PLACE_MAX, "%c%s", pickles ? 'p' : '-', pattern ? pattern : "");
}

struct constraint constraint_parse(const char *place) {
    char *end;
    place = limit_skip(place);
    if (*place != 'P' && *place != '=')
        return (struct constraint){.pickles = *place == 'p', .pattern = *place ? place + 1 : ""};
    uint64_t memory = strtoull(place + 1, &end, 16);
    const char *resources = *end == ';' ? end + 1 : NULL;
    end += strcspn(end, ":");
    return (struct constraint){
        .pickles = *place == 'P', .memory = memory, .resources = resources, .pattern = *end ? end + 1 : end};
}
