/* What runners are told of a job, and the environment that names the processors and resources of a run. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sched/hosts/host.h"
#include "sched/job/array.h"
#include "sched/runs/run.h"

int run_work(struct sched *s, uint64_t job, struct job_work *out) {
    struct job_row *row = &out->row;
    out->options = NULL;
    out->cwd = NULL;
    out->env = NULL;
    out->made_count = 0;
    int rc = store_job_get(s->store, job, row);
    if (rc == 0)
        rc = sched_path(s, &row->job, out->name, sizeof out->name);
    if (rc == 0)
        rc = submit_options(s, row, &out->options);
    if (rc == 0)
        rc = store_job_texts(s->store, job, NULL, &out->cwd);
    if (rc < 0)
        return rc;
    if (row->array) {
        char index[64], why[OPTIONS_WHY];
        snprintf(index, sizeof index, "env=" ARRAY_INDEX ":%" PRIu64, row->call);
        options_begin(out->options); /* it replaces what they have by that name */
        rc = options_add_words(out->options, index, strlen(index), why);
        if (rc < 0)
            return rc;
    }
    const char *own = out->options->cwd;
    out->work = (struct work){.job = job,
                              .attempt = 1,
                              .kind = work_told(row->job.kind),
                              .name = out->name,
                              .cwd = own ? own : out->cwd,
                              .cwd_required = own,
                              .uid = row->job.uid,
                              .gid = row->job.gid,
                              .sandbox = out->options->sandbox,
                              .env = options_env(out->options)};
    return 0;
}

void run_work_free(struct job_work *w) {
    for (unsigned i = 0; i < w->made_count; i++)
        free(w->made[i]);
    free(w->env);
    free(w->cwd);
    options_destroy(w->options);
}

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
