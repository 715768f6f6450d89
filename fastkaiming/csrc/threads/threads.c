/* threads.c - threads are created per loop and joined before it returns; the caller works too; an atomic counter of
 * pieces balances them. No pool: nothing survives the call, so a fork, another runtime or an interpreter's end finds
 * nothing. */
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
    uint64_t pieces;
    fk_body *body;
    void *context;
    fk_watch *watch;
    void *watch_context;
    crew *helpers;
    _Atomic uint64_t next_piece;
    _Atomic uint64_t done;
    atomic_int workers; /* that have a number */
    atomic_int stopped;
} loop;

static uint64_t pieces_of(uint64_t size, uint64_t grain) { return size / grain + (size % grain > 0); }

static int most_helpers(uint64_t pieces, int threads) {
    const uint64_t useful = pieces > 0 ? pieces - 1 : 0;
    const int started = useful > MOST_HELPERS ? MOST_HELPERS : (int)useful;
    return started < threads - 1 ? started : threads - 1;
}

int fk_most_workers(uint64_t size, uint64_t grain, int threads) {
    return 1 + most_helpers(pieces_of(size, grain), threads);
}

static int work_on_one_piece(loop *l, int worker) {
    if (atomic_load_explicit(&l->stopped, memory_order_relaxed)) { return 0; }
    const uint64_t piece = atomic_fetch_add_explicit(&l->next_piece, 1, memory_order_relaxed);
    if (piece >= l->pieces) { return 0; }
    const uint64_t begin = piece * l->grain;
    const uint64_t end = piece + 1 == l->pieces ? l->size : begin + l->grain;
    atomic_fetch_add_explicit(&l->done, l->body(l->context, worker, begin, end), memory_order_relaxed);
    return 1;
}

static void help(void *argument) {
    loop *l = argument;
    const int worker = 1 + atomic_fetch_add_explicit(&l->workers, 1, memory_order_relaxed);
    while (work_on_one_piece(l, worker)) {}
}

/* The watcher may fork. Of the parent's threads, the child has the calling one alone; what its helpers had begun, and
 * what they would have begun, is not done in the child's memory. As nobody knows which pieces that were, the child
 * works on all of them again: the body writes the same values the second time. */
static void start_again_in_a_child(loop *l) {
    if (!helpers_are_of_the_parent(l->helpers)) { return; }
    atomic_store(&l->next_piece, 0);
    atomic_store(&l->done, 0);
}

static void work_and_watch(void *argument) {
    loop *l = argument;
    const int watched = l->watch != NULL && l->pieces > 1; /* a single piece ends before there is time to look */
    int64_t last = watched ? milliseconds() : 0;
    while (work_on_one_piece(l, 0)) {
        if (!watched || milliseconds() - last < WATCH_INTERVAL_MS) { continue; }
        const int answer = l->watch(l->watch_context, atomic_load_explicit(&l->done, memory_order_relaxed));
        start_again_in_a_child(l);
        if (answer != 0) { atomic_store(&l->stopped, answer); }
        last = milliseconds();
    }
}

/* Helpers work on the loop's variables, on the caller's stack, until they are joined. */
static void stop_and_dismiss(void *argument) {
    loop *l = argument;
    start_again_in_a_child(l);
    atomic_store(&l->stopped, 1);
    dismiss(l->helpers);
}

int fk_parallel_for(uint64_t size, uint64_t grain, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context) {
    crew helpers;
    loop l = {
        .size = size,
        .grain = grain,
        .pieces = pieces_of(size, grain),
        .body = body,
        .context = context,
        .watch = watch,
        .watch_context = watch_context,
        .helpers = &helpers,
    };
    assemble(&helpers, most_helpers(l.pieces, threads), help, &l);
    /* The watcher may not return: at its end, an interpreter ends the threads that ask for its lock. */
    run_or_clean_up(&helpers, work_and_watch, stop_and_dismiss);
    dismiss(&helpers);
    return atomic_load(&l.stopped);
}
