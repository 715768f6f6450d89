/* threads.h - a parallel loop over a range. Its threads end before the call returns. */
#ifndef FASTKAIMING_THREADS_H
#define FASTKAIMING_THREADS_H

#include <stdint.h>

/* Work on [begin, end) and return the amount of work done, in any unit. `worker` is 0 on the calling thread; each other
 * thread has its own number below fk_max_threads(). */
typedef uint64_t fk_body(void *context, int worker, uint64_t begin, uint64_t end);

/* Called about every 50 ms, only on the calling thread. A nonzero return value stops the loop. */
typedef int fk_watch(void *context, uint64_t done);

/* Return the largest number of threads that fk_parallel_for uses for these arguments, including the calling one. */
int fk_max_threads(uint64_t size, uint64_t grain, int threads);

/* Call body for slices of [0, size) of `grain` each, on at most `threads` threads, including the calling one. If the
 * system cannot create more threads, fewer are used. The assignment of slices to threads is not deterministic. `watch`
 * may be NULL. It receives the sum of the return values of body, and it may end the calling thread. It may also fork:
 * the child then calls body for the whole range again, on the calling thread only, and the sum starts from 0. Returns
 * 0, or the watcher's return value if that stopped the loop. */
int fk_parallel_for(uint64_t size, uint64_t grain, int threads, fk_body *body, void *context, fk_watch *watch,
                    void *watch_context);

#endif
