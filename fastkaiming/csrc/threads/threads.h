/* threads.h - a parallel loop over a range, on threads that live no longer than the call. */
#ifndef FASTKAIMING_THREADS_H
#define FASTKAIMING_THREADS_H

#include <stdint.h>

/* Work on [begin, end); returns how much was done, in a unit of its own. `worker` is 0 on the calling thread, and on
 * each of the others a number of its own below fk_max_threads(). */
typedef uint64_t fk_body(void *context, int worker, uint64_t begin, uint64_t end);

/* Called every 50 ms or so on the calling thread, and on no other; anything but 0 stops the loop. */
typedef int fk_watch(void *context, uint64_t done);

/* The most threads that fk_parallel_for uses for these arguments, the calling one included. */
int fk_max_threads(uint64_t size, uint64_t grain, int threads);

/* Run body over [0, size), `grain` at a time, on at most `threads` threads, the calling one included; fewer where the
 * system refuses to start more. Which thread takes which slice is left to chance. `watch` may be NULL; it is told the
 * sum of what body returned, and may end its thread. It may fork, too: the child then runs body over the whole range
 * again, on the calling thread alone, and its sum begins at 0 again. Returns 0, or the watcher's answer if that stopped
 * the loop. */
int fk_parallel_for(uint64_t size, uint64_t grain, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context);

#endif
