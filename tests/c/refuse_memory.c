/* refuse_memory.c - a library to preload into a process; it makes one selected allocation fail, as if no memory were
 * left. Requires glibc, because it calls the real functions by glibc's own names. */
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);

void refuse_allocation(long nth);
int stop_refusing(void);

static atomic_long left;

/* Make the n-th allocation from now on fail. */
void refuse_allocation(long nth) { atomic_store(&left, nth); }

/* Stop, and return whether that allocation was reached. */
int stop_refusing(void) { return atomic_exchange(&left, 0) < 0; }

static int is_refused(void) {
    if (atomic_load(&left) <= 0 || atomic_fetch_sub(&left, 1) != 1) { return 0; }
    atomic_store(&left, -1);
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size) { return is_refused() ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return is_refused() ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return is_refused() ? NULL : __libc_realloc(old, size); }
