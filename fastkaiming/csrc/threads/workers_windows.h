/* workers_windows.h - worker threads on Windows, with the interface of workers_posix.h. */
#ifndef FASTKAIMING_WORKERS_H
#define FASTKAIMING_WORKERS_H

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { MAX_WORKERS = 1023 };

typedef struct {
    void (*work)(void *argument);
    void (*clean_up)(void *argument);
    void *argument;
    DWORD slot; /* of fiber-local storage */
    int caller_ends;
    atomic_int working;
    int started;
    HANDLE *workers; /* not on the caller's stack, which may be too small for so many */
} worker_threads;

static DWORD WINAPI run_worker(void *argument) {
    worker_threads *w = argument;
    w->work(w->argument);
    atomic_fetch_sub(&w->working, 1);
    return 0;
}

/* A thread that ends by ExitThread does not unwind its stack, but it calls the handlers of its fiber-local storage
 * while the stack is still valid. */
static void NTAPI clean_up_at_exit(void *argument) {
    worker_threads *w = argument;
    w->caller_ends = 1;
    w->clean_up(w->argument);
}

static void start_workers(worker_threads *w, int wanted, void (*work)(void *), void *argument) {
    w->work = work;
    w->argument = argument;
    w->caller_ends = 0;
    w->started = 0;
    w->workers = wanted > 0 ? malloc((size_t)wanted * sizeof *w->workers) : NULL;
    w->slot = w->workers != NULL ? FlsAlloc(clean_up_at_exit) : FLS_OUT_OF_INDEXES;
    if (w->slot == FLS_OUT_OF_INDEXES) { return; }
    atomic_init(&w->working, wanted);
    while (w->started < wanted && (w->workers[w->started] = CreateThread(NULL, 0, run_worker, w, 0, NULL)) != NULL) {
        w->started++;
    }
    atomic_fetch_sub(&w->working, wanted - w->started);
}

/* Windows cannot fork. */
static int workers_belong_to_parent(const worker_threads *w) {
    (void)w;
    return 0;
}

static void join_workers(worker_threads *w) {
    /* While clean_up_at_exit runs, other threads may be unable to end, so waiting for their end could deadlock. Wait
     * for their work only. */
    while (w->caller_ends && atomic_load(&w->working) > 0) { Sleep(1); }
    for (int i = 0; i < w->started; i++) {
        if (!w->caller_ends) { WaitForSingleObject(w->workers[i], INFINITE); }
        CloseHandle(w->workers[i]);
    }
    free(w->workers);
}

static void run_with_cleanup(worker_threads *w, void (*work)(void *), void (*clean_up)(void *)) {
    w->clean_up = clean_up;
    if (w->slot != FLS_OUT_OF_INDEXES) { FlsSetValue(w->slot, w); }
    work(w->argument);
    if (w->slot != FLS_OUT_OF_INDEXES) {
        FlsSetValue(w->slot, NULL); /* otherwise FlsFree would call the handler */
        FlsFree(w->slot);
    }
}

static int64_t milliseconds(void) { return (int64_t)GetTickCount64(); }

#endif
