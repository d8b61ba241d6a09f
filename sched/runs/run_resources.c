/* The environment that names the processors and resources of a run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/hosts/host.h"
#include "sched/runs/run.h"

/* Adds NAME=0,2 for the indices in taken. False: without memory. */
static bool add_indices(struct job_work *w, const char *before, const char *name, uint64_t taken) {
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return false;
    fprintf(f, "%s%s=", before, name);
    for (const char *comma = ""; taken; taken &= taken - 1, comma = ",")
        fprintf(f, "%s%d", comma, __builtin_ctzll(taken));
    if (fclose(f) != 0) {
        free(text);
        return false;
    }
    w->env[w->env_count++] = w->made[w->made_count++] = text;
    return true;
}

int run_add_environment(struct job_work *w, const struct run *r) {
    const struct resources *of = &r->host->resources;
    static const char *const devices[] = {"CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"}; /* of NVIDIA and AMD */
    size_t own = 0;
    uint64_t any = 0;
    for (unsigned i = 0; i < of->count; i++)
        any |= r->use.resources[i];
    if (!any && r->use.cpus == 1)
        return 0;
    while (w->work.env[own])
        own++;
    w->env = calloc(own + RESOURCE_KINDS + 4, sizeof *w->env);
    if (!w->env)
        return -ENOMEM;
    memcpy(w->env, w->work.env, own * sizeof *w->env);
    w->env_count = own;
    if (r->use.cpus > 1) {
        if (asprintf(&w->made[0], ENV_CPUS "=%u", (unsigned)r->use.cpus) < 0)
            return -ENOMEM;
        w->env[w->env_count++] = w->made[w->made_count++];
    }
    for (unsigned i = 0; i < of->count; i++) {
        uint64_t taken = r->use.resources[i];
        bool fine = !taken || add_indices(w, "PPFS_RESOURCE_", of->at[i].name, taken);
        for (unsigned k = 0; k < 2 && fine && taken && strcmp(of->at[i].name, "gpu") == 0; k++)
            fine = add_indices(w, "", devices[k], taken);
        if (!fine)
            return -ENOMEM;
    }
    w->work.env = w->env;
    return 0;
}
