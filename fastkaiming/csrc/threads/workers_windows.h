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
    worker_threads *c = argument;
    c->work(c->argument);
    atomic_fetch_sub(&c->working, 1);
    return 0;
}

/* A thread that ends by ExitThread does not unwind its stack, but it calls the handlers of its fiber-local storage
 * while the stack is still valid. */
static void NTAPI clean_up_at_exit(void *argument) {
    worker_threads *c = argument;
    c->caller_ends = 1;
    c->clean_up(c->argument);
}

static void start_workers(worker_threads *c, int wanted, void (*work)(void *), void *argument) {
    c->work = work;
    c->argument = argument;
    c->caller_ends = 0;
    c->started = 0;
    c->workers = wanted > 0 ? malloc((size_t)wanted * sizeof *c->workers) : NULL;
    c->slot = c->workers != NULL ? FlsAlloc(clean_up_at_exit) : FLS_OUT_OF_INDEXES;
    if (c->slot == FLS_OUT_OF_INDEXES) { return; }
    atomic_init(&c->working, wanted);
    while (c->started < wanted && (c->workers[c->started] = CreateThread(NULL, 0, run_worker, c, 0, NULL)) != NULL) {
        c->started++;
    }
    atomic_fetch_sub(&c->working, wanted - c->started);
}

/* Windows cannot fork. */
static int workers_belong_to_parent(const worker_threads *c) {
    (void)c;
    return 0;
}

static void join_workers(worker_threads *c) {
    /* While such a handler runs, other threads may be unable to end, so waiting for their end could deadlock. Wait for
     * their work only. */
    while (c->caller_ends && atomic_load(&c->working) > 0) { Sleep(1); }
    for (int i = 0; i < c->started; i++) {
        if (!c->caller_ends) { WaitForSingleObject(c->workers[i], INFINITE); }
        CloseHandle(c->workers[i]);
    }
    free(c->workers);
}

static void run_with_cleanup(worker_threads *c, void (*work)(void *), void (*clean_up)(void *)) {
    c->clean_up = clean_up;
    if (c->slot != FLS_OUT_OF_INDEXES) { FlsSetValue(c->slot, c); }
    work(c->argument);
    if (c->slot != FLS_OUT_OF_INDEXES) {
        FlsSetValue(c->slot, NULL); /* otherwise FlsFree would call the handler */
        FlsFree(c->slot);
    }
}

static int64_t milliseconds(void) { return (int64_t)GetTickCount64(); }

#endif
