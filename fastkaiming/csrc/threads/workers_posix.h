/* workers_posix.h - worker threads on Linux and other POSIX systems. */
#ifndef FASTKAIMING_WORKERS_H
#define FASTKAIMING_WORKERS_H

#define _GNU_SOURCE /* declares the functions of thread affinity in glibc */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WORKERS = 1023 };

/* Some schedulers queue a new thread behind its creator for a millisecond or more even if another CPU is idle.
 * Therefore workers start on the CPUs that the caller may use, except the one it runs on. */
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

/* If the thread has already ended, glibc sets the affinity of the calling thread instead. This is harmless, because
 * that thread already has this affinity. */
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
    pid_t process;         /* the process whose threads the workers are */
    int avoids_caller_cpu; /* whether the workers started on a subset of the usable CPUs */
    cpus usable;
    pthread_t *workers; /* not on the caller's stack, which may be too small for so many */
} worker_threads;

static void *run_worker(void *argument) {
    const worker_threads *w = argument;
    w->work(w->argument);
    return NULL;
}

/* Start up to `wanted` workers, each of which runs work(argument). If a thread cannot be created (EAGAIN: a limit on
 * threads or memory), fewer are started; if there is no memory for the list of workers, none are. Workers start with
 * signals blocked, so that the process's handlers run on the threads that they are meant for. The signals of a thread's
 * own faults stay unblocked: their handlers (for a guard page, or a truncated file) must run on the thread that faults.
 */
static void start_workers(worker_threads *w, int wanted, void (*work)(void *), void *argument) {
    static const int fault_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t others, before;
    pthread_attr_t attributes;
    w->work = work;
    w->argument = argument;
    w->started = 0;
    w->process = wanted > 0 ? getpid() : 0;
    w->avoids_caller_cpu = wanted > 0 && usable_cpus(&w->usable);
    w->workers = wanted > 0 ? malloc((size_t)wanted * sizeof *w->workers) : NULL;
    if (w->workers == NULL || pthread_attr_init(&attributes) != 0) { return; }
    if (w->avoids_caller_cpu) { avoid_caller_cpu(&attributes, &w->usable); }
    sigfillset(&others);
    for (size_t i = 0; i < sizeof fault_signals / sizeof *fault_signals; i++) { sigdelset(&others, fault_signals[i]); }
    pthread_sigmask(SIG_BLOCK, &others, &before);
    while (w->started < wanted && pthread_create(&w->workers[w->started], &attributes, run_worker, w) == 0) {
        w->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Return whether this process was forked after the workers started, so that they do not exist in it. If so, forget
 * them, so that they are not joined. */
static int workers_belong_to_parent(worker_threads *w) {
    if (w->started == 0 || getpid() == w->process) { return 0; }
    w->started = 0;
    return 1;
}

static void join_workers(worker_threads *w) {
    for (int i = 0; i < w->started; i++) {
        /* A worker that still waits for a busy CPU would delay the return although no work is left. */
        if (w->avoids_caller_cpu) { allow_every_cpu(w->workers[i], &w->usable); }
        pthread_join(w->workers[i], NULL);
    }
    free(w->workers);
}

/* Run work(argument), and, if the calling thread ends in it, clean_up(argument), which may join the workers. */
static void run_with_cleanup(worker_threads *w, void (*work)(void *), void (*clean_up)(void *)) {
    pthread_cleanup_push(clean_up, w->argument);
    work(w->argument);
    pthread_cleanup_pop(0);
}

static int64_t milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

#endif
