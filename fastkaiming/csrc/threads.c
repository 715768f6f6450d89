/* threads.c - threads are created per loop and joined before it returns; the caller works too; an atomic counter of
 * pieces balances them. No pool: nothing survives the call, so a fork, another runtime or an interpreter's end finds
 * nothing. */
#define _GNU_SOURCE /* for the affinity of threads; elsewhere it asks for nothing */
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <time.h>

enum { MAX_HELPERS = 1023, WATCH_INTERVAL_MS = 50 };

typedef struct {
    uint64_t size, grain;
    uint64_t pieces;
    fk_body *body;
    void *context;
    _Atomic uint64_t next_piece;
    _Atomic uint64_t done;
    atomic_int stopped;
} loop;

static int work_on_one_piece(loop *l) {
    if (atomic_load_explicit(&l->stopped, memory_order_relaxed)) { return 0; }
    const uint64_t piece = atomic_fetch_add_explicit(&l->next_piece, 1, memory_order_relaxed);
    if (piece >= l->pieces) { return 0; }
    const uint64_t begin = piece * l->grain;
    const uint64_t end = piece + 1 == l->pieces ? l->size : begin + l->grain;
    atomic_fetch_add_explicit(&l->done, l->body(l->context, begin, end), memory_order_relaxed);
    return 1;
}

static void *help(void *argument) {
    while (work_on_one_piece(argument)) {}
    return NULL;
}

static int64_t milliseconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void work_and_watch(loop *l, fk_watch *watch, void *watch_context) {
    int64_t last = milliseconds();
    while (work_on_one_piece(l)) {
        if (watch == NULL || milliseconds() - last < WATCH_INTERVAL_MS) { continue; }
        const int answer = watch(watch_context, atomic_load_explicit(&l->done, memory_order_relaxed));
        if (answer != 0) { atomic_store(&l->stopped, answer); }
        last = milliseconds();
    }
}

/* Some schedulers queue a new thread behind its creator for a millisecond or more, though another CPU idles. So helpers
 * start on the CPUs that the caller may use but does not run on. */
#if defined(__GLIBC__)
typedef cpu_set_t cpus;

static int usable_cpus(cpus *usable) {
    return sched_getaffinity(0, sizeof *usable, usable) == 0 && CPU_COUNT(usable) > 1;
}

static void start_beside_caller(pthread_attr_t *attributes, const cpus *usable) {
    cpus others = *usable;
    const int own = sched_getcpu();
    if (own >= 0) { CPU_CLR((size_t)own, &others); }
    pthread_attr_setaffinity_np(attributes, sizeof others, &others);
}

/* For a thread that has ended already, glibc takes this for the calling thread's affinity: which it is, so no harm. */
static void allow_every_cpu(pthread_t helper, const cpus *usable) {
    pthread_setaffinity_np(helper, sizeof *usable, usable);
}
#else
typedef char cpus;

static int usable_cpus(cpus *usable) {
    *usable = 0;
    return 0;
}

static void start_beside_caller(pthread_attr_t *attributes, const cpus *usable) { (void)attributes, (void)usable; }
static void allow_every_cpu(pthread_t helper, const cpus *usable) { (void)helper, (void)usable; }
#endif

/* Helpers start with signals blocked, so that the process's handlers run on the threads that they belong to; all but
 * those of a thread's own faults, whose handlers (of a guard page, a truncated file) have to run where they arise.
 * Returns how many could be started: EAGAIN (a limit on threads or memory) only means fewer. */
static int start_helpers(loop *l, int wanted, pthread_t *helpers, const cpus *usable) {
    static const int own_faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};
    sigset_t others, before;
    pthread_attr_t attributes;
    if (wanted <= 0 || pthread_attr_init(&attributes) != 0) { return 0; }
    if (usable != NULL) { start_beside_caller(&attributes, usable); }
    sigfillset(&others);
    for (size_t i = 0; i < sizeof own_faults / sizeof *own_faults; i++) { sigdelset(&others, own_faults[i]); }
    pthread_sigmask(SIG_BLOCK, &others, &before);
    int started = 0;
    while (started < wanted && pthread_create(&helpers[started], &attributes, help, l) == 0) { started++; }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return started;
}

typedef struct {
    loop *loop;
    int started;
    pthread_t helpers[MAX_HELPERS];
    const cpus *usable;
} crew;

/* Helpers work on the loop's variables, on the caller's stack, until they are joined. */
static void dismiss(void *argument) {
    crew *c = argument;
    for (int i = 0; i < c->started; i++) {
        /* One that waits for a busy CPU still would hold up the end, with nothing left to do. */
        if (c->usable != NULL) { allow_every_cpu(c->helpers[i], c->usable); }
        pthread_join(c->helpers[i], NULL);
    }
}

static void stop_and_dismiss(void *argument) {
    crew *c = argument;
    atomic_store(&c->loop->stopped, 1);
    dismiss(c);
}

int fk_parallel_for(uint64_t size, uint64_t grain, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context) {
    loop l = {
        .size = size,
        .grain = grain,
        .pieces = size / grain + (size % grain > 0),
        .body = body,
        .context = context,
    };
    crew c;
    const int useful = l.pieces > MAX_HELPERS ? MAX_HELPERS : (int)l.pieces - 1;
    const int wanted = useful < threads - 1 ? useful : threads - 1;
    cpus own;
    c.loop = &l;
    c.usable = wanted > 0 && usable_cpus(&own) ? &own : NULL;
    c.started = start_helpers(&l, wanted, c.helpers, c.usable);
    /* The watcher may not return: at its end, an interpreter ends the threads that ask for its lock. */
    pthread_cleanup_push(stop_and_dismiss, &c);
    work_and_watch(&l, watch, watch_context);
    pthread_cleanup_pop(0);
    dismiss(&c);
    return atomic_load(&l.stopped);
}
