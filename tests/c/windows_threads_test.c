/* windows_threads_test.c - the loop on Windows' threads: workers help, a watcher's answer stops them, and one that ends
 * its thread leaves nobody at work. Prints what went wrong, if anything, which is its exit status too. */
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
    atomic_int helped;
} record;

static uint64_t take_a_moment(void *context, int worker, uint64_t begin, uint64_t end) {
    record *r = context;
    Sleep(MOMENT_MS);
    expect(worker >= 0 && worker < THREADS && (worker == 0) == (GetCurrentThreadId() == r->caller), "a wrong number");
    atomic_fetch_add(&r->worked, end - begin);
    if (GetCurrentThreadId() != r->caller) { atomic_store(&r->helped, 1); }
    return end - begin;
}

static int answer(void *context, uint64_t done) {
    const record *r = context;
    expect(GetCurrentThreadId() == r->caller, "watched on another thread");
    expect(done <= SLICES, "more done than there is");
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
    expect(fk_parallel_for(SLICES, 3, THREADS, take_a_moment, &whole, NULL, NULL) == 0, "an answer without a watcher");
    expect(whole.worked == SLICES && whole.helped, "a loop was not done by all to its end");

    expect(fk_parallel_for(SLICES, 1, THREADS, take_a_moment, &stopped, answer, &stopped) == ANSWER, "no answer");
    expect(stopped.worked > 0 && stopped.worked < SLICES, "the answer stopped nobody");

    const HANDLE caller = CreateThread(NULL, 0, loop_without_end, &ended, 0, NULL);
    WaitForSingleObject(caller, INFINITE);
    const uint64_t at_the_end = ended.worked;
    Sleep(50 * MOMENT_MS);
    expect(ended.helped && at_the_end < SLICES && ended.worked == at_the_end, "workers outlived their caller");
    return failures;
}
#endif
