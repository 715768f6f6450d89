/* refuse_threads.c - a library to preload into a process; it allows the creation of $ALLOWED_THREADS threads and makes
 * later ones fail, as at a limit of the system. At exit, it prints how many threads were requested. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

typedef int create(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

static atomic_int requested;

static int allowed(void) {
    const char *const text = getenv("ALLOWED_THREADS");
    return text == NULL ? 0 : atoi(text);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    if (atomic_fetch_add(&requested, 1) >= allowed()) { return EAGAIN; }
    create *real;
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attributes, start, argument);
}

__attribute__((destructor)) static void report(void) { fprintf(stderr, "threads requested: %d\n", requested); }
