/* crew_windows.h - what crew_posix.h offers, of Windows. */
#ifndef FASTKAIMING_CREW_H
#define FASTKAIMING_CREW_H

#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

enum { MOST_HELPERS = 1023 };

typedef struct {
    void (*help)(void *argument);
    void (*clean_up)(void *argument);
    void *argument;
    DWORD slot; /* of fiber-local storage */
    int caller_ends;
    atomic_int at_work;
    int started;
    HANDLE *helpers; /* not on the caller's stack, where so many would be too much for a small one */
} crew;

static DWORD WINAPI help_crew(void *argument) {
    crew *c = argument;
    c->help(c->argument);
    atomic_fetch_sub(&c->at_work, 1);
    return 0;
}

/* A thread that ends by ExitThread unwinds no stack, but calls the handlers of its fiber-local storage, while its stack
 * still stands. */
static void NTAPI clean_up_crew(void *argument) {
    crew *c = argument;
    c->caller_ends = 1;
    c->clean_up(c->argument);
}

static void assemble(crew *c, int wanted, void (*help)(void *), void *argument) {
    c->help = help;
    c->argument = argument;
    c->caller_ends = 0;
    c->started = 0;
    c->helpers = wanted > 0 ? malloc((size_t)wanted * sizeof *c->helpers) : NULL;
    c->slot = c->helpers != NULL ? FlsAlloc(clean_up_crew) : FLS_OUT_OF_INDEXES;
    if (c->slot == FLS_OUT_OF_INDEXES) { return; }
    atomic_init(&c->at_work, wanted);
    while (c->started < wanted && (c->helpers[c->started] = CreateThread(NULL, 0, help_crew, c, 0, NULL)) != NULL) {
        c->started++;
    }
    atomic_fetch_sub(&c->at_work, wanted - c->started);
}

/* Windows cannot fork. */
static int helpers_are_of_the_parent(const crew *c) {
    (void)c;
    return 0;
}

static void dismiss(crew *c) {
    /* While such a handler runs, no other thread may be able to end: all that it can wait for is the work. */
    while (c->caller_ends && atomic_load(&c->at_work) > 0) { Sleep(1); }
    for (int i = 0; i < c->started; i++) {
        if (!c->caller_ends) { WaitForSingleObject(c->helpers[i], INFINITE); }
        CloseHandle(c->helpers[i]);
    }
    free(c->helpers);
}

static void run_or_clean_up(crew *c, void (*work)(void *), void (*clean_up)(void *)) {
    c->clean_up = clean_up;
    if (c->slot != FLS_OUT_OF_INDEXES) { FlsSetValue(c->slot, c); }
    work(c->argument);
    if (c->slot != FLS_OUT_OF_INDEXES) {
        FlsSetValue(c->slot, NULL); /* or FlsFree would call the handler */
        FlsFree(c->slot);
    }
}

static int64_t milliseconds(void) { return (int64_t)GetTickCount64(); }

#endif
