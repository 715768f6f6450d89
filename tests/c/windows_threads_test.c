/* windows_threads_test.c - tests fk_parallel_for on Windows: workers take part in the loop, the watcher's return value
 * stops it, and a watcher that ends its thread leaves no worker running. Prints failures; the exit status is their
 * number. */
#if defined(_WIN32)
#include <windows.h>

#include <stdatomic.h>
#include <stdio.h>

#include "threads/threads.h"

enum { SLICES = 400, THREADS = 3, MOMENT_MS = 2, ANSWER = 7 };

static atomic_int failures;

static void expect(int holds, const char *what) {
    if (holds) { return; }
    printf("windows_threads_test: %s\n", what);
    atomic_fetch_add(&failures, 1);
}

typedef struct {
    DWORD caller;
    _Atomic uint64_t worked;
    atomic_int workers_took_part;
} record;

static uint64_t take_a_moment(void *context, int worker, uint64_t begin, uint64_t end) {
    record *r = context;
    Sleep(MOMENT_MS);
    expect(worker >= 0 && worker < THREADS && (worker == 0) == (GetCurrentThreadId() == r->caller),
           "wrong worker number");
    atomic_fetch_add(&r->worked, end - begin);
    if (GetCurrentThreadId() != r->caller) { atomic_store(&r->workers_took_part, 1); }
    return end - begin;
}

static int answer(void *context, uint64_t done) {
    const record *r = context;
    expect(GetCurrentThreadId() == r->caller, "the watcher was called on another thread");
    expect(done <= SLICES, "more work reported than exists");
    return ANSWER;
}

static int end_the_thread(void *context, uint64_t done) {
    (void)context, (void)done;
    ExitThread(0);
}

static DWORD WINAPI loop_without_end(void *argument) {
    record *r = argument;
    r->caller = GetCurrentThreadId();
    fk_parallel_for(SLICES, 1, THREADS, take_a_moment, r, end_the_thread, NULL);
    return 0;
}

int main(void) {
    static record whole, stopped, ended;
    whole.caller = stopped.caller = GetCurrentThreadId();
    expect(fk_parallel_for(SLICES, 3, THREADS, take_a_moment, &whole, NULL, NULL) == 0,
           "nonzero result without a watcher");
    expect(whole.worked == SLICES && whole.workers_took_part, "not all slices were done, or workers took no part");

    expect(fk_parallel_for(SLICES, 1, THREADS, take_a_moment, &stopped, answer, &stopped) == ANSWER,
           "the return value was lost");
    expect(stopped.worked > 0 && stopped.worked < SLICES, "the return value did not stop the loop");

    const HANDLE caller = CreateThread(NULL, 0, loop_without_end, &ended, 0, NULL);
    WaitForSingleObject(caller, INFINITE);
    const uint64_t at_the_end = ended.worked;
    Sleep(50 * MOMENT_MS);
    expect(ended.workers_took_part && at_the_end < SLICES && ended.worked == at_the_end,
           "workers went on after their caller had ended");
    return failures;
}
#endif
