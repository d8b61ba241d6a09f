/* The options gpu= and resources=. */
#include <errno.h>
#include <string.h>

#include "sched/job/options_int.h"

/* "a:1,b:2" is kept as resources.h has it. */
int options_parse_resources(struct resources *to, const char *v) {
    struct resources fresh = {0};
    char text[RESOURCES_TEXT];
    if (!*v || strlen(v) >= sizeof text || strchr(v, '='))
        return -EINVAL;
    strcpy(text, v);
    for (char *c = text; (c = strchr(c, ':'));)
        *c = '=';
    if (resources_parse(&fresh, text, strlen(text)) < 0 || fresh.count == RESOURCE_KINDS ||
        resources_find(&fresh, "gpu") >= 0)
        return -EINVAL;
    *to = fresh;
    return 0;
}

struct resources options_resources(const struct options *o) {
    struct resources all = o->resources;
    if (o->gpu) {
        strcpy(all.at[all.count].name, "gpu");
        all.at[all.count++].n = (unsigned)o->gpu;
    }
    return all;
}
