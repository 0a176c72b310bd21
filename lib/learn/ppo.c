#include "learn/ppo.h"

#include <math.h>
#include <string.h>

#include "base/explog.h"
#include "base/mem.h"
#include "base/rng.h"
#include "kernels/kernels.h"
#include "learn/optimiser.h"

ss_ppo_config ss_ppo_defaults(void)
{
    return (ss_ppo_config){.copies = 16,
                           .horizon = 128,
                           .minibatch = 256,
                           .epochs = 4,
                           .hidden = 64,
                           .lambda = 0.95,
                           .clip = 0.2,
                           .entropy = 0.01,
                           .value = 0.5,
                           .rate = 1e-3,
                           .norm = 0.5,
                           .seed = 1,
                           .steps = 600000};
}

/* ---- networks over a batch ---- */

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t gemm_work(int n, int in, int hidden, int out)
{
    const int wide[] = {in, hidden, out};
    size_t all = 0;
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            all = most(all, ss_gemm_work(false, true, n, wide[i], wide[k]));
            all = most(all, ss_gemm_work(true, false, wide[i], wide[k], n));
            all = most(all, ss_gemm_work(false, false, n, wide[i], wide[k]));
        }
    return all;
}

/* Where a network's parts begin in its weights, or its gradient's. */
typedef struct parts {
    float *w1, *b1, *w2, *b2, *w3, *b3;
} parts;

static parts parts_of(const ss_mlp *m, float *w)
{
    size_t in = (size_t)m->in, h = (size_t)m->hidden, out = (size_t)m->out;
    parts p = {.w1 = w};
    p.b1 = p.w1 + h * in;
    p.w2 = p.b1 + h;
    p.b2 = p.w2 + h * h;
    p.w3 = p.b2 + h;
    p.b3 = p.w3 + out * h;
    return p;
}

/* y [n][out] = x W^T + b, through tanh if asked for. */
static void forward_layer(int n, int in, int out, const float *x, const float *w, const float *b, bool squash,
                          float *y, float *work)
{
    ss_gemm(NULL, false, true, n, out, in, x, in, w, in, false, y, out, work);
    for (int i = 0; i < n; i++) {
        float *row = y + (size_t)i * (size_t)out;
        for (int k = 0; k < out; k++)
            row[k] += b[k];
    }
    size_t all = (size_t)n * (size_t)out;
    if (squash)
        for (size_t i = 0; i < all; i++)
            y[i] = 1 - 2 / (ss_expf(2 * y[i]) + 1);
}

static void forward(const ss_mlp *m, int n, const float *x, float *one, float *two, float *y, float *work)
{
    parts p = parts_of(m, m->w);
    forward_layer(n, m->in, m->hidden, x, p.w1, p.b1, true, one, work);
    forward_layer(n, m->hidden, m->hidden, one, p.w2, p.b2, true, two, work);
    forward_layer(n, m->hidden, m->out, two, p.w3, p.b3, false, y, work);
}

/* dW = dy^T x, db = sum dy, and, when dx is wanted, dx = dy W, times the slope of the tanh that x came out
 * of. */
static void backward_layer(int n, int in, int out, const float *x, const float *w, const float *dy, float *dw,
                           float *db, float *dx, float *work)
{
    ss_gemm(NULL, true, false, out, in, n, dy, out, x, in, false, dw, in, work);
    memset(db, 0, (size_t)out * sizeof *db);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < out; k++)
            db[k] += dy[(size_t)i * (size_t)out + (size_t)k];
    if (!dx)
        return;
    ss_gemm(NULL, false, false, n, in, out, dy, out, w, in, false, dx, in, work);
    size_t all = (size_t)n * (size_t)in;
    for (size_t i = 0; i < all; i++)
        dx[i] *= 1 - x[i] * x[i];
}

static void backward(const ss_mlp *m, int n, const float *x, const float *one, const float *two,
                     const float *dy, float *done, float *dtwo, float *gradient, float *work)
{
    parts p = parts_of(m, m->w), g = parts_of(m, gradient);
    backward_layer(n, m->hidden, m->out, two, p.w3, dy, g.w3, g.b3, dtwo, work);
    backward_layer(n, m->hidden, m->hidden, one, p.w2, dtwo, g.w2, g.b2, done, work);
    backward_layer(n, m->in, m->hidden, x, p.w1, done, g.w1, g.b1, NULL, work);
}

/* ---- loss ---- */

size_t ss_ppo_work(int n, int inputs, int hidden, int actions)
{
    return (size_t)n * (4 * (size_t)hidden + 3 * (size_t)actions + 2) +
           gemm_work(n, inputs, hidden, actions) + gemm_work(n, inputs, hidden, 1);
}

/* logp [actions] of preferences in place. */
static void log_softmax(float *y, int n)
{
    float top = y[0], sum = 0;
    for (int i = 1; i < n; i++)
        top = y[i] > top ? y[i] : top;
    for (int i = 0; i < n; i++)
        sum += ss_expf(y[i] - top);
    float log_sum = top + ss_logf(sum);
    for (int i = 0; i < n; i++)
        y[i] -= log_sum;
}

/* One row: adds to the loss; y holds logarithms of odds, and then their gradient. */
static void policy_row(const ss_ppo_config *c, int actions, int action, float old, float advantage,
                       float each, float *y, float *p, ss_ppo_loss *l)
{
    float h = 0;
    log_softmax(y, actions);
    for (int i = 0; i < actions; i++) {
        p[i] = ss_expf(y[i]);
        h -= p[i] * y[i];
    }
    float ratio = ss_expf(y[action] - old), low = 1 - (float)c->clip, high = 1 + (float)c->clip;
    float clipped = ratio < low ? low : ratio > high ? high : ratio;
    bool binds = clipped * advantage < ratio * advantage; /* the smaller is the constant one */
    l->policy -= (double)(each * (binds ? clipped : ratio) * advantage);
    l->entropy += (double)(each * h);
    float pull = binds ? 0 : -each * ratio * advantage, e = each * (float)c->entropy;
    for (int i = 0; i < actions; i++)
        y[i] = pull * ((float)(i == action) - p[i]) + e * p[i] * (y[i] + h);
}

ss_ppo_loss ss_ppo_gradient(const ss_mlp *actor, const ss_mlp *critic, const ss_ppo_batch *b,
                            const ss_ppo_config *c, float *gradient, float *work)
{
    size_t n = (size_t)b->n, h = (size_t)actor->hidden, k = (size_t)actor->out;
    float *one = work, *two = one + n * h, *done = two + n * h, *dtwo = done + n * h;
    float *y = dtwo + n * h, *p = y + n * k, *v = p + n * k, *rest = v + n;
    float each = 1 / (float)b->n;
    ss_ppo_loss l = {0};
    forward(actor, b->n, b->x, one, two, y, rest);
    for (size_t i = 0; i < n; i++)
        policy_row(c, actor->out, b->action[i], b->logp[i], b->advantage[i], each, y + i * k, p, &l);
    backward(actor, b->n, b->x, one, two, y, done, dtwo, gradient, rest);
    forward(critic, b->n, b->x, one, two, v, rest);
    for (size_t i = 0; i < n; i++) {
        float d = v[i] - b->target[i];
        l.value += (double)(each * d * d / 2);
        v[i] = each * (float)c->value * d;
    }
    backward(critic, b->n, b->x, one, two, v, done, dtwo,
             gradient + ss_mlp_size(actor->in, actor->hidden, actor->out), rest);
    l.total = l.policy - c->entropy * l.entropy + c->value * l.value;
    return l;
}

/* ---- learner ---- */

struct ss_ppo {
    ss_ppo_task task;
    ss_ppo_config c;
    ss_mlp actor, critic; /* their weights are one block */
    float *weights, *gradient, *moment, *moment2;
    size_t size;
    uint64_t steps, updates;
    ss_rng rng;
    double spread; /* by which rewards are scaled; 0: not known yet */
    /* [horizon][copies] ... */
    float *x, *logp, *value, *advantage, *target, *reward, *discount, *bootstrap;
    int *action;
    uint8_t *over;
    /* of a minibatch */
    float *bx, *blogp, *badvantage, *btarget, *work, *preference, *last;
    int *baction;
    uint32_t *order;
};

static float *floats(size_t n, bool *ok)
{
    float *v = *ok ? ss_zalloc(n, sizeof *v) : NULL;
    *ok = *ok && v;
    return v;
}

/* Rows of norm `gain`, as an orthogonal start would have them, near enough: normal draws, each row scaled. */
static void start_layer(ss_rng *r, float *w, int out, int in, double gain)
{
    for (int i = 0; i < out; i++) {
        float *row = w + (size_t)i * (size_t)in;
        double sum = 0;
        for (int k = 0; k < in; k++) {
            row[k] = ss_rng_normal(r);
            sum += (double)row[k] * (double)row[k];
        }
        for (int k = 0; k < in; k++)
            row[k] = (float)((double)row[k] * gain / sqrt(sum + 1e-12));
    }
}

static void start(ss_ppo *p)
{
    ss_rng r = ss_rng_make(p->c.seed, 0x70706f3a696e6974u);
    const ss_mlp *net[] = {&p->actor, &p->critic};
    for (int i = 0; i < 2; i++) {
        parts at = parts_of(net[i], net[i]->w);
        start_layer(&r, at.w1, net[i]->hidden, net[i]->in, 1.4142);
        start_layer(&r, at.w2, net[i]->hidden, net[i]->hidden, 1.4142);
        start_layer(&r, at.w3, net[i]->out, net[i]->hidden, i ? 1 : 0.01);
    }
}

int ss_ppo_open(ss_ppo **out, const ss_ppo_task *task, const ss_ppo_config *c, ss_err *e)
{
    ss_ppo *p = *out = ss_zalloc(1, sizeof *p);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "no memory to train a policy");
    p->task = *task;
    p->c = *c;
    p->rng = ss_rng_make(c->seed, 0x70706f3a64726177u);
    int in = task->inputs, out_n = task->actions;
    size_t actor = ss_mlp_size(in, c->hidden, out_n), critic = ss_mlp_size(in, c->hidden, 1);
    size_t copies = (size_t)c->copies, all = copies * (size_t)c->horizon, mini = (size_t)c->minibatch;
    bool ok = true;
    p->size = actor + critic;
    p->weights = floats(p->size, &ok);
    p->gradient = floats(p->size, &ok);
    p->moment = floats(p->size, &ok);
    p->moment2 = floats(p->size, &ok);
    p->actor = (ss_mlp){in, c->hidden, out_n, p->weights};
    p->critic = (ss_mlp){in, c->hidden, 1, ok ? p->weights + actor : NULL};
    p->x = floats(all * (size_t)in, &ok);
    p->logp = floats(all, &ok);
    p->value = floats(all, &ok);
    p->advantage = floats(all, &ok);
    p->target = floats(all, &ok);
    p->reward = floats(all, &ok);
    p->discount = floats(all, &ok);
    p->bootstrap = floats(all, &ok);
    p->last = floats(copies * (size_t)in, &ok);
    p->bx = floats(mini * (size_t)in, &ok);
    p->blogp = floats(mini, &ok);
    p->badvantage = floats(mini, &ok);
    p->btarget = floats(mini, &ok);
    p->preference = floats(copies * ((size_t)out_n + 1), &ok);
    p->work = floats(
        most(ss_ppo_work(c->minibatch, in, c->hidden, out_n), ss_ppo_work(c->copies, in, c->hidden, out_n)),
        &ok);
    p->action = ok ? ss_alloc(all, sizeof *p->action) : NULL;
    p->baction = ok ? ss_alloc(mini, sizeof *p->baction) : NULL;
    p->over = ok ? ss_alloc(all, 1) : NULL;
    p->order = ok ? ss_alloc(all, sizeof *p->order) : NULL;
    if (!ok || !p->action || !p->baction || !p->over || !p->order) {
        ss_ppo_close(out);
        return ss_err_set(e, SS_ENOMEM, "no memory to train a policy");
    }
    start(p);
    for (int i = 0; i < c->copies; i++)
        task->reset(task->arg, i);
    return SS_OK;
}

void ss_ppo_close(ss_ppo **out)
{
    ss_ppo *p = *out;
    if (!p)
        return;
    void *const blocks[] = {p->weights, p->gradient,  p->moment,  p->moment2,    p->x,        p->logp,
                            p->value,   p->advantage, p->target,  p->reward,     p->discount, p->bootstrap,
                            p->last,    p->bx,        p->blogp,   p->badvantage, p->btarget,  p->preference,
                            p->work,    p->action,    p->baction, p->over,       p->order};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        ss_free(blocks[i]);
    ss_free(p);
    *out = NULL;
}

const ss_mlp *ss_ppo_actor(const ss_ppo *p)
{
    return &p->actor;
}

const ss_mlp *ss_ppo_critic(const ss_ppo *p)
{
    return &p->critic;
}

static int draw(ss_rng *r, const float *logp, int n)
{
    float u = ss_rng_uniform(r), sum = 0;
    for (int i = 0; i < n - 1; i++)
        if (u < (sum += ss_expf(logp[i])))
            return i;
    return n - 1;
}

/* Values [copies] of what is seen. */
static void values_of(ss_ppo *p, const float *x, float *v)
{
    size_t n = (size_t)p->c.copies, h = (size_t)p->c.hidden;
    forward(&p->critic, p->c.copies, x, p->work, p->work + n * h, v, p->work + 2 * n * h);
}

static void collect(ss_ppo *p)
{
    int copies = p->c.copies, in = p->task.inputs, out = p->task.actions;
    size_t n = (size_t)copies, h = (size_t)p->c.hidden;
    for (int t = 0; t < p->c.horizon; t++) {
        size_t row = (size_t)t * n;
        float *x = p->x + row * (size_t)in;
        for (int i = 0; i < copies; i++)
            p->task.see(p->task.arg, i, x + (size_t)i * (size_t)in);
        forward(&p->actor, copies, x, p->work, p->work + n * h, p->preference, p->work + 2 * n * h);
        values_of(p, x, p->value + row);
        bool ended = false;
        for (int i = 0; i < copies; i++) {
            float *y = p->preference + (size_t)i * (size_t)out;
            double reward, discount;
            log_softmax(y, out);
            int a = draw(&p->rng, y, out);
            p->action[row + (size_t)i] = a;
            p->logp[row + (size_t)i] = y[a];
            bool over = p->task.act(p->task.arg, i, a, &reward, &discount);
            p->reward[row + (size_t)i] = (float)reward;
            p->discount[row + (size_t)i] = (float)discount;
            p->over[row + (size_t)i] = over;
            ended = ended || over;
        }
        if (!ended)
            continue;
        for (int i = 0; i < copies; i++)
            p->task.see(p->task.arg, i, p->last + (size_t)i * (size_t)in);
        values_of(p, p->last, p->bootstrap + row);
        for (int i = 0; i < copies; i++)
            if (p->over[row + (size_t)i])
                p->task.reset(p->task.arg, i);
    }
    for (int i = 0; i < copies; i++)
        p->task.see(p->task.arg, i, p->last + (size_t)i * (size_t)in);
}

/* Mean reward; and the spread by which rewards are scaled, which follows slowly. */
static double measure(ss_ppo *p)
{
    size_t n = (size_t)p->c.copies * (size_t)p->c.horizon;
    double mean = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        mean += (double)p->reward[i] / (double)n;
        squares += (double)p->reward[i] * (double)p->reward[i] / (double)n;
    }
    double now = 3 * sqrt(squares) + 1e-8; /* neighbours agree, so sums spread more than single ones */
    p->spread = p->spread > 0 ? 0.95 * p->spread + 0.05 * now : now;
    return mean;
}

static double judge(ss_ppo *p)
{
    size_t n = (size_t)p->c.copies;
    double sum = 0, squares = 0, errors = 0;
    size_t all = n * (size_t)p->c.horizon;
    float *next = p->preference; /* [copies] */
    values_of(p, p->last, next);
    for (size_t i = 0; i < n; i++) {
        double advantage = 0;
        for (int t = p->c.horizon - 1; t >= 0; t--) {
            size_t at = (size_t)t * n + i;
            bool end = t == p->c.horizon - 1;
            double then = p->over[at] ? (double)p->bootstrap[at] : (double)(end ? next[i] : p->value[at + n]);
            double d = (double)p->discount[at], v = (double)p->value[at];
            double delta = (double)p->reward[at] / p->spread + d * then - v;
            advantage = delta + (p->over[at] ? 0 : d * p->c.lambda * advantage);
            p->advantage[at] = (float)advantage;
            p->target[at] = (float)(advantage + v);
            sum += advantage + v;
            squares += (advantage + v) * (advantage + v);
            errors += advantage * advantage;
        }
    }
    double variance = squares / (double)all - sum / (double)all * (sum / (double)all);
    return variance > 0 ? 1 - errors / (double)all / variance : 0;
}

static void gather(ss_ppo *p, const uint32_t *order)
{
    int n = p->c.minibatch;
    size_t in = (size_t)p->task.inputs;
    double mean = 0, squares = 0;
    for (int i = 0; i < n; i++) {
        size_t at = order[i];
        memcpy(p->bx + (size_t)i * in, p->x + at * in, in * sizeof *p->bx);
        p->baction[i] = p->action[at];
        p->blogp[i] = p->logp[at];
        p->badvantage[i] = p->advantage[at];
        p->btarget[i] = p->target[at];
        mean += (double)p->advantage[at] / n;
    }
    for (int i = 0; i < n; i++)
        squares += ((double)p->badvantage[i] - mean) * ((double)p->badvantage[i] - mean) / n;
    for (int i = 0; i < n; i++)
        p->badvantage[i] = (float)(((double)p->badvantage[i] - mean) / (sqrt(squares) + 1e-8));
}

static int improve(ss_ppo *p, ss_ppo_report *r, ss_err *e)
{
    size_t all = (size_t)p->c.copies * (size_t)p->c.horizon, mini = (size_t)p->c.minibatch;
    double left = 1 - (double)p->steps / (double)p->c.steps;
    ss_optimiser_config o = {
        .kind = SS_OPTIMISER_ADAM, .rate = (float)(p->c.rate * fmax(left, 0.02)), .clip = (float)p->c.norm};
    ss_optimiser_report told = {0};
    int n = 0;
    for (int epoch = 0; epoch < p->c.epochs; epoch++) {
        ss_rng_shuffle(&p->rng, p->order, all);
        for (size_t at = 0; at + mini <= all; at += mini) {
            gather(p, p->order + at);
            ss_ppo_batch b = {p->c.minibatch, p->bx, p->baction, p->blogp, p->badvantage, p->btarget};
            ss_ppo_loss l = ss_ppo_gradient(&p->actor, &p->critic, &b, &p->c, p->gradient, p->work);
            if (!isfinite(l.total) || !ss_optimiser_step(&o, NULL, ++p->updates, p->size, p->weights,
                                                         p->gradient, p->moment, p->moment2, &told))
                return ss_err_set(e, SS_EUNFIT,
                                  "loss or gradient of the policy is not finite after %llu steps",
                                  (unsigned long long)p->steps);
            n++;
            r->entropy += (l.entropy - r->entropy) / n;
            r->policy += (l.policy - r->policy) / n;
            r->value += (l.value - r->value) / n;
            r->gradient += (told.gradient - r->gradient) / n;
        }
    }
    return SS_OK;
}

int ss_ppo_step(ss_ppo *p, ss_ppo_report *r, ss_err *e)
{
    *r = (ss_ppo_report){0};
    collect(p);
    p->steps += (uint64_t)p->c.copies * (uint64_t)p->c.horizon;
    r->steps = p->steps;
    r->reward = measure(p);
    r->explained = judge(p);
    return improve(p, r, e);
}
