/* record_pages.c - a library to preload into a process; it records calls of mincore and madvise. After
 * start_recording(1), MADV_POPULATE_WRITE fails, as in older kernels. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { POPULATE_WRITE = 23, MINCORE = -1, MOST = 4096 };

/* `kind` is the advice of madvise, or MINCORE. */
typedef struct { uintptr_t address, length, kind; } request;

int requests(const request **made);
void start_recording(int fail_populate);

static request recorded[MOST];
static atomic_int count;
static atomic_int populate_fails;

void start_recording(int fail_populate) {
    atomic_store(&count, 0);
    atomic_store(&populate_fails, fail_populate);
}

/* Return the number of calls since start_recording(). */
int requests(const request **made) {
    *made = recorded;
    return atomic_load(&count);
}

static void record(void *address, size_t length, int kind) {
    const int at = atomic_fetch_add(&count, 1);
    if (at < MOST) { recorded[at] = (request){(uintptr_t)address, length, (uintptr_t)kind}; }
}

int madvise(void *address, size_t length, int advice) {
    record(address, length, advice);
    if (advice == POPULATE_WRITE && atomic_load(&populate_fails)) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_madvise, address, length, advice);
}

int mincore(void *address, size_t length, unsigned char *present) {
    record(address, length, MINCORE);
    return (int)syscall(SYS_mincore, address, length, present);
}
