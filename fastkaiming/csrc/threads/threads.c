/* threads.c - creates threads for a loop and joins them before it returns; the calling thread works too. An atomic
 * counter of slices balances the load. There is no thread pool: because no thread outlives the call, forks, other
 * runtimes and the exit of an interpreter cannot interfere with any. */
#if defined(_WIN32)
#include "threads/workers_windows.h"
#else
#include "threads/workers_posix.h"
#endif
#include "threads/threads.h"

#include <stdatomic.h>
#include <stddef.h>

enum { WATCH_INTERVAL_MS = 50 };

typedef struct {
    uint64_t size, grain;
    uint64_t slices;
    fk_body *body;
    void *context;
    fk_watch *watch;
    void *watch_context;
    worker_threads *workers;
    _Atomic uint64_t next_slice;
    _Atomic uint64_t done;
    atomic_int next_worker; /* the number of the next worker thread; the calling thread has number 0 */
    atomic_int stopped;
} loop;

static uint64_t slice_count(uint64_t size, uint64_t grain) { return size / grain + (size % grain > 0); }

static int max_workers(uint64_t slices, int threads) {
    const uint64_t useful = slices > 0 ? slices - 1 : 0;
    const int started = useful > MAX_WORKERS ? MAX_WORKERS : (int)useful;
    return started < threads - 1 ? started : threads - 1;
}

int fk_max_threads(uint64_t size, uint64_t grain, int threads) {
    return 1 + max_workers(slice_count(size, grain), threads);
}

static int run_next_slice(loop *l, int worker) {
    if (atomic_load_explicit(&l->stopped, memory_order_relaxed)) { return 0; }
    const uint64_t slice = atomic_fetch_add_explicit(&l->next_slice, 1, memory_order_relaxed);
    if (slice >= l->slices) { return 0; }
    const uint64_t begin = slice * l->grain;
    const uint64_t end = slice + 1 == l->slices ? l->size : begin + l->grain;
    atomic_fetch_add_explicit(&l->done, l->body(l->context, worker, begin, end), memory_order_relaxed);
    return 1;
}

static void run_slices(void *argument) {
    loop *l = argument;
    const int worker = atomic_fetch_add_explicit(&l->next_worker, 1, memory_order_relaxed);
    while (run_next_slice(l, worker)) {}
}

/* The watcher may fork. The child has only the calling thread, so slices that workers of the parent had begun, or would
 * have begun, are not done in the child's memory. It is unknown which slices these are, so the child works on all
 * slices again; the body writes the same values. */
static void restart_in_child(loop *l) {
    if (!workers_belong_to_parent(l->workers)) { return; }
    atomic_store(&l->next_slice, 0);
    atomic_store(&l->done, 0);
}

static void work_and_watch(void *argument) {
    loop *l = argument;
    const int watched = l->watch != NULL && l->slices > 1; /* a single slice ends before the watcher is due */
    int64_t last = watched ? milliseconds() : 0;
    while (run_next_slice(l, 0)) {
        if (!watched || milliseconds() - last < WATCH_INTERVAL_MS) { continue; }
        const int answer = l->watch(l->watch_context, atomic_load_explicit(&l->done, memory_order_relaxed));
        restart_in_child(l);
        if (answer != 0) { atomic_store(&l->stopped, answer); }
        last = milliseconds();
    }
}

/* Workers use the loop's variables, which lie on the caller's stack, until they are joined. */
static void stop_and_join(void *argument) {
    loop *l = argument;
    restart_in_child(l);
    atomic_store(&l->stopped, 1);
    join_workers(l->workers);
}

int fk_parallel_for(uint64_t size, uint64_t grain, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context) {
    worker_threads workers;
    loop l = {
        .size = size,
        .grain = grain,
        .slices = slice_count(size, grain),
        .body = body,
        .context = context,
        .watch = watch,
        .watch_context = watch_context,
        .workers = &workers,
        .next_worker = 1,
    };
    start_workers(&workers, max_workers(l.slices, threads), run_slices, &l);
    /* The watcher might never return: when the Python interpreter exits, it ends the threads that request the GIL. */
    run_with_cleanup(&workers, work_and_watch, stop_and_join);
    join_workers(&workers);
    return atomic_load(&l.stopped);
}
