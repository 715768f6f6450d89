/* workers_posix.h - what threads.c asks of the operating system, of POSIX and Linux. */
#ifndef FASTKAIMING_WORKERS_H
#define FASTKAIMING_WORKERS_H

#define _GNU_SOURCE /* for the affinity of threads; elsewhere it asks for nothing */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 1023 };

/* Some schedulers queue a new thread behind its creator for a millisecond or more, though another CPU idles. So workers
 * start on the CPUs that the caller may use but does not run on. */
#if defined(__GLIBC__)
typedef cpu_set_t cpus;

static int usable_cpus(cpus *usable) {
    return sched_getaffinity(0, sizeof *usable, usable) == 0 && CPU_COUNT(usable) > 1;
}

static void avoid_caller_cpu(pthread_attr_t *attributes, const cpus *usable) {
    cpus others = *usable;
    const int own = sched_getcpu();
    if (own >= 0) { CPU_CLR((size_t)own, &others); }
    pthread_attr_setaffinity_np(attributes, sizeof others, &others);
}

/* For a thread that has ended already, glibc takes this for the calling thread's affinity: which it is, so no harm. */
static void allow_every_cpu(pthread_t worker, const cpus *usable) {
    pthread_setaffinity_np(worker, sizeof *usable, usable);
}
#else
typedef char cpus;

static int usable_cpus(cpus *usable) {
    *usable = 0;
    return 0;
}

static void avoid_caller_cpu(pthread_attr_t *attributes, const cpus *usable) { (void)attributes, (void)usable; }
static void allow_every_cpu(pthread_t worker, const cpus *usable) { (void)worker, (void)usable; }
#endif

typedef struct {
    void (*work)(void *argument);
    void *argument;
    int started;
    pid_t process; /* that the workers are threads of */
    int placed;    /* did the workers start on some of the usable CPUs? */
    cpus usable;
    pthread_t *workers; /* not on the caller's stack, where so many would be too much for a small one */
} worker_threads;

static void *run_worker(void *argument) {
    const worker_threads *c = argument;
    c->work(c->argument);
    return NULL;
}

/* Start as many as can be, up to `wanted`, each to run work(argument): EAGAIN (a limit on threads or memory) only means
 * fewer, and no memory for their list means none. They start with signals blocked, so that the process's handlers run
 * on the threads that they belong to; all but those of a thread's own faults, whose handlers (of a guard page, a
 * truncated file) have to run where they do. */
static void start_workers(worker_threads *c, int wanted, void (*work)(void *), void *argument) {
    static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t others, before;
    pthread_attr_t attributes;
    c->work = work;
    c->argument = argument;
    c->started = 0;
    c->process = wanted > 0 ? getpid() : 0;
    c->placed = wanted > 0 && usable_cpus(&c->usable);
    c->workers = wanted > 0 ? malloc((size_t)wanted * sizeof *c->workers) : NULL;
    if (c->workers == NULL || pthread_attr_init(&attributes) != 0) { return; }
    if (c->placed) { avoid_caller_cpu(&attributes, &c->usable); }
    sigfillset(&others);
    for (size_t i = 0; i < sizeof fault_signals / sizeof *fault_signals; i++) { sigdelset(&others, fault_signals[i]); }
    pthread_sigmask(SIG_BLOCK, &others, &before);
    while (c->started < wanted && pthread_create(&c->workers[c->started], &attributes, run_worker, c) == 0) {
        c->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Has this process been forked since the workers started, so that they do not exist in it? Then they are forgotten, and
 * nobody waits for them. */
static int workers_belong_to_parent(worker_threads *c) {
    if (c->started == 0 || getpid() == c->process) { return 0; }
    c->started = 0;
    return 1;
}

/* Wait until all have ended. */
static void join_workers(worker_threads *c) {
    for (int i = 0; i < c->started; i++) {
        /* One that waits for a busy CPU still would hold up the end, with nothing left to do. */
        if (c->placed) { allow_every_cpu(c->workers[i], &c->usable); }
        pthread_join(c->workers[i], NULL);
    }
    free(c->workers);
}

/* Run work(argument), and if the calling thread ends in it, clean_up(argument); it may dismiss the worker_threads. */
static void run_with_cleanup(worker_threads *c, void (*work)(void *), void (*clean_up)(void *)) {
    pthread_cleanup_push(clean_up, c->argument);
    work(c->argument);
    pthread_cleanup_pop(0);
}

static int64_t milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
