#include "learn/tutor.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

struct ss_tutor {
    const ss_world *world;
    const ss_trace *const *trace;
    size_t traces;
    ss_tutor_config c;
    ss_env *env; /* [copies] */
    ss_rng rng;
    ss_ppo *ppo;
    ss_learned *policy;
};

ss_tutor_config ss_tutor_defaults(void)
{
    return (ss_tutor_config){.ppo = ss_ppo_defaults(), .gamma = 0.8, .windows = 200};
}

static void reset(void *arg, int copy)
{
    ss_tutor *t = arg;
    const ss_trace *trace = t->trace[ss_rng_below(&t->rng, (uint32_t)t->traces)];
    double start = floor((double)ss_rng_uniform(&t->rng) * ss_trace_seconds(trace));
    ss_env_reset(&t->env[copy], trace, start, ss_rng_u64(&t->rng));
}

static void see(void *arg, int copy, float *x)
{
    ss_tutor *t = arg;
    float all[SS_SIGHT_INPUTS];
    ss_sight_inputs(&t->env[copy].s.view, &t->policy->scale, t->policy->action, all);
    for (int i = 0; i < t->policy->net.in; i++)
        x[i] = all[t->policy->input[i]];
}

static bool act(void *arg, int copy, int action, double *reward, double *discount)
{
    ss_tutor *t = arg;
    ss_env *env = &t->env[copy];
    int n = ss_env_step(env, action, reward, NULL), every = t->policy->every;
    *reward = (*reward - n * t->c.baseline) / every;
    *discount = n == every ? t->c.gamma : pow(t->c.gamma, (double)n / every);
    return ss_env_over(env);
}

static int make_policy(ss_tutor *t, const ss_uncertainty *u, ss_err *e)
{
    const ss_split_action *action;
    int n = ss_world_actions(t->world, &action), in = 0, input[SS_SIGHT_INPUTS];
    for (int i = 0; i < SS_SIGHT_INPUTS; i++)
        if (!t->c.without[i])
            input[in++] = i;
    if (!in)
        return ss_err_set(e, SS_EINVAL, "a policy without any input");
    ss_learned *l = t->policy = ss_learned_new(in, t->c.ppo.hidden, n);
    if (!l)
        return ss_err_set(e, SS_ENOMEM, "no memory for a policy");
    memcpy(l->input, input, sizeof input);
    memcpy(l->action, action, (size_t)n * sizeof *action);
    l->u = *u;
    l->scale = ss_world_scale(t->world);
    l->every = ss_world_config(t->world)->every;
    return SS_OK;
}

int ss_tutor_open(ss_tutor **out, const ss_world *w, const ss_uncertainty *u, const ss_trace *const *trace,
                  size_t traces, const ss_tutor_config *c, ss_err *e)
{
    ss_tutor *t = *out = ss_zalloc(1, sizeof *t);
    if (!t)
        return ss_err_set(e, SS_ENOMEM, "no memory to train a policy");
    *t = (ss_tutor){w, trace, traces, *c, NULL, ss_rng_make(c->ppo.seed, 0x7475746f72000000u), NULL, NULL};
    t->env = ss_zalloc((size_t)c->ppo.copies, sizeof *t->env);
    int rc = t->env ? make_policy(t, u, e) : ss_err_set(e, SS_ENOMEM, "no memory to train a policy");
    for (int i = 0; i < c->ppo.copies && !rc; i++)
        rc = ss_env_open(&t->env[i], w, c->windows, e);
    if (!rc) {
        ss_ppo_task task = {t->policy->net.in, t->policy->net.out, t, reset, see, act};
        rc = ss_ppo_open(&t->ppo, &task, &c->ppo, e);
    }
    if (rc)
        ss_tutor_close(out);
    return rc;
}

void ss_tutor_close(ss_tutor **out)
{
    ss_tutor *t = *out;
    if (!t)
        return;
    ss_ppo_close(&t->ppo);
    for (int i = 0; t->env && i < t->c.ppo.copies; i++)
        ss_env_close(&t->env[i]);
    ss_free(t->env);
    ss_learned_free(t->policy);
    ss_free(t);
    *out = NULL;
}

int ss_tutor_step(ss_tutor *t, ss_ppo_report *r, ss_err *e)
{
    return ss_ppo_step(t->ppo, r, e);
}

ss_learned *ss_tutor_policy(ss_tutor *t)
{
    const ss_mlp *m = ss_ppo_actor(t->ppo);
    memcpy(t->policy->net.w, m->w, ss_mlp_size(m->in, m->hidden, m->out) * sizeof *m->w);
    return t->policy;
}
