/* threads.h - a parallel loop over a range, on threads that live no longer than the call. */
#ifndef FASTKAIMING_THREADS_H
#define FASTKAIMING_THREADS_H

#include <stdint.h>

/* Work on [begin, end). */
typedef void fk_body(void *context, uint64_t begin, uint64_t end);

/* Called every 50 ms or so on the calling thread, and on no other; anything but 0 stops the loop. */
typedef int fk_watch(void *context, uint64_t done);

typedef struct {
    uint64_t size;  /* the range is [0, size) */
    uint64_t grain; /* it is cut at every multiple of grain, counted from -phase */
    uint64_t phase; /* below grain */
} fk_range;

/* Run body over the range on at most `threads` threads, the calling one included; fewer where the system refuses to
 * start more. Which thread takes which piece is left to chance. `watch` may be NULL. Returns 0, or the watcher's answer
 * if that stopped the loop. */
int fk_parallel_for(const fk_range *range, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context);

#endif
