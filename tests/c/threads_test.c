/* threads_test.c - runs the loops described by its input, one per line, and prints their results. Link with
 * -Wl,--wrap=pthread_create.
 *
 *     loop SIZE GRAIN THREADS CREATIONS PARTIES
 *         CREATIONS threads can be created; after that, pthread_create fails. If PARTIES is not 0, each slice waits
 *         until PARTIES threads work on slices: a loop with fewer threads never ends.
 *     watch SLICES THREADS CALL ANSWER
 *         Slices of size SLICE that take a moment each and report WORTH per unit, and a watcher whose CALL-th call
 *         returns ANSWER; other calls return 0.
 *     exit SLICES THREADS
 *         The same slices, on a thread that the watcher ends in its first call. Prints the amount of work done when
 *         that thread has ended, and a moment later. */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "threads/threads.h"

enum { MAX_SLICES = 4096, MAX_CALLS = 256, SLICE = 10, WORTH = 3 };

/* Simulates the system's limit on threads. */

static int creations_left, created;

int __real_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    if (creations_left == 0) { return EAGAIN; }
    creations_left--;
    created++;
    return __real_pthread_create(thread, attributes, start, argument);
}

/* Return how many signals are unblocked on this thread: signals of a thread's own faults, or all others. The C library
 * reserves the unnamed signals below SIGRTMIN. */
static int open_signals(int own_faults) {
    sigset_t blocked;
    int open = 0;
    pthread_sigmask(SIG_SETMASK, NULL, &blocked);
    for (int s = 1; s <= SIGRTMAX; s++) {
        const int reserved = s == SIGKILL || s == SIGSTOP || (s > SIGSYS && s < SIGRTMIN);
        const int fault = s == SIGSEGV || s == SIGBUS || s == SIGFPE || s == SIGILL || s == SIGTRAP || s == SIGSYS;
        open += !reserved && fault == own_faults && !sigismember(&blocked, s);
    }
    return open;
}

typedef struct { uint64_t begin, end; } slice;

typedef struct {
    pthread_t caller;
    pthread_barrier_t *together;
    slice slices[MAX_SLICES];
    atomic_int count;
    atomic_int open_in_workers, faults_closed_in_workers;
    int max_threads;
    pthread_t thread_of[MAX_SLICES]; /* by worker number, which belongs to one thread only */
    atomic_int numbered[MAX_SLICES], misnumbered;
} record;

static void check_number(record *r, int worker) {
    const int is_caller = pthread_equal(pthread_self(), r->caller) != 0;
    if (worker < 0 || worker >= r->max_threads || (worker == 0) != is_caller) {
        atomic_fetch_add(&r->misnumbered, 1);
    } else if (!atomic_exchange(&r->numbered[worker], 1)) {
        r->thread_of[worker] = pthread_self();
    } else if (!pthread_equal(r->thread_of[worker], pthread_self())) {
        atomic_fetch_add(&r->misnumbered, 1);
    }
}

static uint64_t work(void *context, int worker, uint64_t begin, uint64_t end) {
    record *r = context;
    const int i = atomic_fetch_add(&r->count, 1);
    if (i < MAX_SLICES) { r->slices[i] = (slice){begin, end}; }
    check_number(r, worker);
    if (!pthread_equal(pthread_self(), r->caller)) {
        atomic_fetch_add(&r->open_in_workers, open_signals(0));
        atomic_fetch_add(&r->faults_closed_in_workers, 6 - open_signals(1));
    }
    if (r->together) { pthread_barrier_wait(r->together); }
    return end - begin;
}

static int by_begin(const void *a, const void *b) {
    const slice *p = a, *q = b;
    return p->begin != q->begin ? (p->begin > q->begin) - (p->begin < q->begin) : (p->end > q->end) - (p->end < q->end);
}

static int run_loop(void) {
    uint64_t size, grain;
    int threads;
    unsigned parties;
    if (scanf("%" SCNu64 " %" SCNu64 " %d %d %u", &size, &grain, &threads, &creations_left, &parties) != 5) {
        return 1;
    }
    static record r;
    memset(&r, 0, sizeof r);
    r.caller = pthread_self();
    r.max_threads = fk_max_threads(size, grain, threads);
    created = 0;
    pthread_barrier_t barrier;
    if (parties > 0) {
        pthread_barrier_init(&barrier, NULL, parties);
        r.together = &barrier;
    }
    const int open_before = open_signals(0) + open_signals(1);
    const int result = fk_parallel_for(size, grain, threads, work, &r, NULL, NULL);
    if (parties > 0) { pthread_barrier_destroy(&barrier); }

    printf("result=%d created=%d misnumbered=%d open_in_workers=%d faults_closed_in_workers=%d closed_in_caller=%d "
           "slices=",
           result, created, r.misnumbered, r.open_in_workers, r.faults_closed_in_workers,
           open_before - open_signals(0) - open_signals(1));
    if (r.count > MAX_SLICES) { return 1; }
    qsort(r.slices, (size_t)r.count, sizeof r.slices[0], by_begin);
    for (int i = 0; i < r.count; i++) { printf("%" PRIu64 ":%" PRIu64 ",", r.slices[i].begin, r.slices[i].end); }
    printf("\n");
    return 0;
}

typedef struct {
    pthread_t caller;
    int call, answer;
    int calls, calls_elsewhere;
    uint64_t done[MAX_CALLS];
} watcher;

static int watch(void *context, uint64_t done) {
    watcher *w = context;
    w->calls_elsewhere += !pthread_equal(pthread_self(), w->caller);
    if (w->calls < MAX_CALLS) { w->done[w->calls] = done; }
    return ++w->calls == w->call ? w->answer : 0;
}

static uint64_t take_a_moment(void *context, int worker, uint64_t begin, uint64_t end) {
    (void)worker;
    _Atomic uint64_t *worked = context;
    const struct timespec moment = {.tv_nsec = 2000000};
    nanosleep(&moment, NULL);
    atomic_fetch_add(worked, WORTH * (end - begin));
    return WORTH * (end - begin);
}

static int run_watch(void) {
    uint64_t slices;
    int threads;
    static watcher w;
    memset(&w, 0, sizeof w);
    w.caller = pthread_self();
    creations_left = -1;
    if (scanf("%" SCNu64 " %d %d %d", &slices, &threads, &w.call, &w.answer) != 4) { return 1; }
    _Atomic uint64_t worked = 0;
    const int result = fk_parallel_for(slices * SLICE, SLICE, threads, take_a_moment, &worked, watch, &w);
    printf("result=%d worked=%" PRIu64 " calls=%d ", result, worked, w.calls);
    printf("calls_elsewhere=%d done=", w.calls_elsewhere);
    for (int i = 0; i < w.calls && i < MAX_CALLS; i++) { printf("%" PRIu64 ",", w.done[i]); }
    printf("\n");
    return 0;
}

typedef struct {
    uint64_t slices;
    int threads;
    _Atomic uint64_t worked;
} unfinished;

static int end_the_thread(void *context, uint64_t done) {
    (void)context, (void)done;
    pthread_exit(NULL);
}

static void *loop_without_end(void *argument) {
    unfinished *u = argument;
    fk_parallel_for(u->slices * SLICE, SLICE, u->threads, take_a_moment, &u->worked, end_the_thread, NULL);
    return NULL;
}

static int run_exit(void) {
    static unfinished u;
    memset(&u, 0, sizeof u);
    creations_left = -1;
    if (scanf("%" SCNu64 " %d", &u.slices, &u.threads) != 2) { return 1; }
    pthread_t caller;
    if (__real_pthread_create(&caller, NULL, loop_without_end, &u) != 0) { return 1; }
    pthread_join(caller, NULL);
    const uint64_t at_the_end = u.worked;
    const struct timespec moment = {.tv_nsec = 100000000};
    nanosleep(&moment, NULL);
    printf("at_the_end=%" PRIu64 " later=%" PRIu64 "\n", at_the_end, u.worked);
    return 0;
}

static int run(const char *command) {
    if (strcmp(command, "loop") == 0) { return run_loop(); }
    return strcmp(command, "exit") == 0 ? run_exit() : run_watch();
}

int main(void) {
    char command[16];
    while (scanf("%15s", command) == 1) {
        if (run(command)) {
            fprintf(stderr, "threads_test: cannot run %s\n", command);
            return 1;
        }
    }
    return 0;
}
