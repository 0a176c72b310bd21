/**
 * A small pool of threads. Workers sleep on a condition variable when idle: four filters share a small machine.
 * What a task computes must not depend on which thread runs it, nor on how many there are.
 */
#ifndef SS_BASE_POOL_H
#define SS_BASE_POOL_H

#include "err.h"

typedef struct ss_pool ss_pool;

/** threads >= 1 counts the caller; 0 = the CPUs this process is allowed. */
int ss_pool_open(ss_pool **p, int threads, ss_err *e);
int ss_pool_threads(const ss_pool *p); /* 1 for NULL */
/** Call fn(arg, i, thread) for i in 0..n-1, each once, and return when all are done. NULL pool: in a loop. */
void ss_pool_run(ss_pool *p, int n, void (*fn)(void *arg, int i, int thread), void *arg);
void ss_pool_close(ss_pool **p);

#endif
