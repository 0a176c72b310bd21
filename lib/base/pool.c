#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/*
 * Looks at a flag before sleeping, some 30 us: the gap between two layers is shorter than a wake-up, and a
 * pool with nothing to do sleeps. After the first ones the processor is offered to others now and then:
 * whoever is waited for may be waiting for this very processor.
 */
#define LOOKS      1500
#define LOOKS_HARD 50
#define LINE       64 /* bytes: what one side writes while another looks lies on lines of its own */

/*
 * Tasks first .. end - 1 of a job, one share a thread: job number << 32 | next task. A share that still names
 * an earlier job is untouched, so that nobody has to set it up.
 */
typedef struct share {
    _Alignas(LINE) _Atomic uint64_t next;
} share;

struct ss_pool {
    int threads;
    pthread_t *worker; /* [threads - 1] */
    int started;
    share *share; /* [threads] */
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    /* A job is published by its number and over when every worker has left it. Who is about to sleep says so
     * before it looks for the last time, who changes what it waits for looks for sleepers afterwards. What a
     * worker has to know comes with the number. */
    _Alignas(LINE) atomic_uint job;
    int n;
    void (*fn)(void *arg, int i, int thread);
    void *arg;
    bool stop; /* read after a new job number */
    _Alignas(LINE) atomic_int sleepers;
    _Alignas(LINE) atomic_int busy;
    atomic_bool caller_sleeps;
};

typedef struct start_arg {
    ss_pool *pool;
    int thread;
} start_arg;

static inline void pause_cpu(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

/* Before look i. */
static inline void look_again(int i)
{
    if (i >= LOOKS_HARD && i % 16 == 0)
        sched_yield();
    else
        pause_cpu();
}

/* The next task of share t, or -1. */
static int claim(ss_pool *p, unsigned job, int t)
{
    const uint64_t mark = (uint64_t)job << 32;
    const int first = (int)((int64_t)p->n * t / p->threads),
              end = (int)((int64_t)p->n * (t + 1) / p->threads);
    _Atomic uint64_t *next = &p->share[t].next;
    uint64_t v = atomic_load_explicit(next, memory_order_relaxed);
    for (;;) {
        int i = v >> 32 == job ? (int)(v & UINT32_MAX) : first;
        if (i >= end && v >> 32 == job)
            return -1;
        int after = i < end ? i + 1 : i;
        if (atomic_compare_exchange_weak_explicit(next, &v, mark | (unsigned)after, memory_order_relaxed,
                                                  memory_order_relaxed))
            return i < end ? i : -1;
    }
}

/* Its own share first: a task reads what the same one of the layer before has written, which is in this
 * processor's cache then, and fetching it from another may take as long as the task. Then what others have
 * left. */
static void take_tasks(ss_pool *p, unsigned job, int thread)
{
    for (int k = 0, i; k < p->threads; k++)
        while ((i = claim(p, job, (thread + k) % p->threads)) >= 0)
            p->fn(p->arg, i, thread);
}

static void wait_for_job(ss_pool *p, unsigned seen)
{
    for (int i = 0; i < LOOKS; i++) {
        if (atomic_load_explicit(&p->job, memory_order_acquire) != seen)
            return;
        look_again(i);
    }
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->sleepers, 1);
    while (atomic_load(&p->job) == seen)
        pthread_cond_wait(&p->start, &p->lock);
    atomic_fetch_sub(&p->sleepers, 1);
    pthread_mutex_unlock(&p->lock);
}

static void *work(void *arg)
{
    start_arg *s = arg;
    ss_pool *p = s->pool;
    int thread = s->thread;
    ss_free(s);
    for (unsigned seen = 0;; seen++) {
        wait_for_job(p, seen);
        if (p->stop)
            return NULL;
        take_tasks(p, seen + 1, thread);
        if (atomic_fetch_sub(&p->busy, 1) == 1 && atomic_load(&p->caller_sleeps)) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void publish(ss_pool *p)
{
    atomic_fetch_add(&p->job, 1);
    if (!atomic_load(&p->sleepers))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->lock);
}

static int allowed_cpus(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 1024 ? 1024 : (int)n;
}

/* Signals are the business of the threads the program has made itself. */
static int start_worker(ss_pool *p, int thread)
{
    start_arg *s = ss_alloc(1, sizeof *s);
    if (!s)
        return ENOMEM;
    *s = (start_arg){p, thread};
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int r = pthread_create(&p->worker[thread - 1], NULL, work, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r)
        ss_free(s);
    return r;
}

int ss_pool_open(ss_pool **out, int threads, ss_err *e)
{
    *out = NULL;
    if (threads < 0 || threads > 1024)
        return ss_err_set(e, SS_ERANGE, "%d threads: must be 0..1024", threads);
    if (threads == 0)
        threads = allowed_cpus();
    ss_pool *p = ss_zalloc(1, sizeof *p);
    if (!p)
        return ss_err_set(e, SS_ENOMEM, "no memory for a pool of threads");
    p->threads = threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->start, NULL);
    pthread_cond_init(&p->done, NULL);
    p->worker = ss_zalloc((size_t)threads, sizeof *p->worker);
    p->share = ss_zalloc((size_t)threads, sizeof *p->share);
    int r = p->worker && p->share ? 0 : ENOMEM;
    for (; !r && p->started < threads - 1; p->started++)
        if ((r = start_worker(p, p->started + 1)))
            break;
    if (r) {
        ss_pool_close(&p);
        return ss_err_set(e, r == ENOMEM ? SS_ENOMEM : SS_ELIMIT, "cannot start %d threads: %s", threads,
                          strerror(r));
    }
    *out = p;
    return 0;
}

int ss_pool_threads(const ss_pool *p)
{
    return p ? p->threads : 1;
}

void ss_pool_run(ss_pool *p, int n, void (*fn)(void *arg, int i, int thread), void *arg)
{
    if (!p || p->threads == 1 || n <= 1) {
        for (int i = 0; i < n; i++)
            fn(arg, i, 0);
        return;
    }
    p->n = n;
    p->fn = fn;
    p->arg = arg;
    atomic_store_explicit(&p->busy, p->threads - 1, memory_order_relaxed);
    publish(p);
    take_tasks(p, atomic_load_explicit(&p->job, memory_order_relaxed), 0);
    for (int i = 0; i < LOOKS; i++) {
        if (!atomic_load_explicit(&p->busy, memory_order_acquire))
            return;
        look_again(i);
    }
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->busy))
        pthread_cond_wait(&p->done, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}

void ss_pool_close(ss_pool **pp)
{
    ss_pool *p = *pp;
    if (!p)
        return;
    *pp = NULL;
    p->stop = true;
    publish(p);
    for (int i = 0; i < p->started; i++)
        pthread_join(p->worker[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->start);
    pthread_mutex_destroy(&p->lock);
    ss_free(p->worker);
    ss_free(p->share);
    ss_free(p);
}
