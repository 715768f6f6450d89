/* fill.c - divides plans into work units and fills the units on several threads. */
#include "fill.h"

#include <stdatomic.h>
#include <stdlib.h>
#if !defined(_WIN32)
#include <unistd.h>
#endif

#include "scatter.h"
#include "simd/dispatch.h"
#include "math/fpenv.h"
#include "pages.h"
#include "threads/threads.h"

enum { SMALL_BYTES = 1 << 20, LARGE_BYTES = 64 << 20, MAX_WORK_UNITS = 16, MAX_THREADS_WITH_PLAIN_STORES = 8 };
enum { WORK_UNITS_PER_THREAD = 8, MIN_WORK_UNITS_PER_THREAD = 2 };

/* Smaller plans do not query the state of their pages: mincore takes 0.6 us, 1% of the time of a fill of this size.
 * Arrays smaller than MIN_BYTES_FOR_HUGE_PAGES usually lie in already touched memory. */
enum { MIN_POPULATED_BYTES = 1 << 20, MIN_BYTES_FOR_HUGE_PAGES = 4 << 20 };

/* The working memory of one thread. It is not on the thread's stack, because callers may run on stacks of 32 KiB. */
typedef struct {
    fk_grid grid; /* of the current plan, if there are several */
    union {
        fk_staging staging;
        fk_streaming_buffer streaming;
    };
} scratch;

/* The plans of one fill. work_units_up_to[i] is the number of work units of plans 0 to i. */
typedef struct {
    const fk_plan *plans;
    size_t count;
    uint64_t *work_units_up_to;
    uint64_t work_unit_bytes;
    int threads;
    const fk_kernels *kernels;
    const fk_grid *last; /* the grid of the last plan, which is the only plan of most fills */
    scratch *scratch;    /* one for each thread, or NULL if no plan needs any */
    atomic_int faulted;  /* memory could not be written, so all threads stop */
} job;

/* Fills larger than this exceed the caches in any case. A virtual machine reports the last-level cache of the whole
 * host, of which it has only a share: on one that reports 260 MB, streaming stores were measured to be faster from 64
 * MiB on. */
static uint64_t cacheable_bytes(void) {
    const uint64_t max = UINT64_C(32) << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0 && (uint64_t)cache < max) { return (uint64_t)cache; }
#endif
    return max;
}

/* A plain store first reads the cache line that it overwrites (read for ownership). With few threads, the memory
 * bandwidth suffices for these reads; with many, the demand would be twice the available bandwidth according to the
 * model in docs/roofline.md, which has not been confirmed by measurement. */
static int uses_streaming_stores(const fk_plan *plan, uint64_t elements, const fk_kernels *kernels, int threads) {
    if (kernels->flush == NULL || plan->store == FK_STORE_PLAIN) { return 0; }
    if (plan->store == FK_STORE_STREAMING) { return 1; }
    const uint64_t bytes = elements * fk_stored_bytes(plan->operation, plan->format);
    if (bytes <= SMALL_BYTES || bytes <= cacheable_bytes()) { return 0; } /* small fills skip the sysconf call */
    return threads > MAX_THREADS_WITH_PLAIN_STORES || fk_prefers_streaming();
}

int fk_has_streaming_stores(void) { return fk_selected()->flush != NULL; }

static uint64_t elements_of(const fk_plan *plan) {
    uint64_t elements = 1;
    for (int i = 0; i < plan->axis_count; i++) { elements *= plan->axes[i].size; }
    return elements;
}

/* Fill a region row by row, directly in memory. Streaming stores are used if `buffer` is not NULL. */
static void fill_runs(const fk_plan *plan, const fk_grid *grid, const fk_sampler *sampler, const fk_region *region,
                      fk_streaming_buffer *buffer) {
    fk_row row = fk_grid_row(grid, plan, region->row);
    for (uint64_t i = region->row; i < region->row_end; i++, fk_next_row(&row)) {
        char *const out = row.out + region->column * sampler->element_bytes;
        fk_sample_run(sampler, row.index + region->column, region->column_end - region->column, out, buffer);
    }
}

static uint64_t stored_bytes(const fk_plan *plan) {
    return elements_of(plan) * fk_stored_bytes(plan->operation, plan->format);
}

/* Fill work units [begin, end) of one plan with a thread's scratch memory, and stop at a unit whose memory cannot be
 * written. Returns the number of elements filled. */
static uint64_t fill_work_units_of_plan(const fk_plan *plan, job *j, scratch *own, uint64_t begin, uint64_t end) {
    const fk_sampler sampler = fk_make_sampler(plan, j->kernels);
    const int streaming = uses_streaming_stores(plan, elements_of(plan), j->kernels, j->threads);
    const int populating = stored_bytes(plan) >= MIN_POPULATED_BYTES;
    const fk_grid *grid = j->last;
    uint64_t done = 0;
    if (plan != &j->plans[j->count - 1]) {
        fk_grid_of(plan, j->work_unit_bytes, &own->grid);
        grid = &own->grid;
    }
    for (uint64_t unit = begin; unit < end && !atomic_load_explicit(&j->faulted, memory_order_relaxed); unit++) {
        const fk_region region = fk_grid_work_unit(grid, unit);
        const fk_pages pages = populating ? fk_populate(fk_grid_span(grid, plan, &region)) : FK_PAGES_PRESENT;
        if (pages == FK_PAGES_FAULT) {
            atomic_store(&j->faulted, 1);
            break;
        }
        if (grid->direct) {
            /* Pages that the system has just zeroed are in the cache. */
            const int in_cache = pages == FK_PAGES_NEW && plan->store != FK_STORE_STREAMING;
            fill_runs(plan, grid, &sampler, &region, streaming && !in_cache ? &own->streaming : NULL);
        } else {
            fk_fill_staged(plan, grid, &sampler, &region, &own->staging);
        }
        done += (region.row_end - region.row) * (region.column_end - region.column);
    }
    return done;
}

/* Return the plan that work unit `unit` belongs to. */
static size_t plan_of(const job *j, uint64_t unit) {
    size_t low = 0, high = j->count - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (j->work_units_up_to[middle] > unit) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Fill work units [begin, end) of all plans in the floating-point environment that stream v1 defines. */
static uint64_t fill_work_units(void *context, int worker, uint64_t begin, uint64_t end) {
    job *j = context;
    scratch *const own = j->scratch != NULL ? &j->scratch[worker] : NULL;
    const fk_fpenv caller_env = fk_enter_default_fpenv();
    uint64_t done = 0;
    for (size_t i = plan_of(j, begin); begin < end; i++) {
        const uint64_t before = i > 0 ? j->work_units_up_to[i - 1] : 0;
        const uint64_t stop = end < j->work_units_up_to[i] ? end : j->work_units_up_to[i];
        done += fill_work_units_of_plan(&j->plans[i], j, own, begin - before, stop - before);
        begin = stop;
    }
    fk_leave_default_fpenv(&caller_env);
    return done;
}

/* Return the size of a work unit in bytes: small enough for each thread to get several units, so that all threads end
 * at about the same time. Only with very many threads are the units of a large fill smaller than a huge page, because
 * threads then share the page fault of a huge page. */
static uint64_t work_unit_bytes(uint64_t bytes, int threads) {
    const uint64_t work_units =
        (uint64_t)threads * (bytes < LARGE_BYTES ? WORK_UNITS_PER_THREAD : MIN_WORK_UNITS_PER_THREAD);
    uint64_t unit = FK_MAX_WORK_UNIT_BYTES;
    while (threads > 1 && unit > FK_MIN_WORK_UNIT_BYTES && bytes / unit < work_units) { unit /= 2; }
    return unit;
}

/* Return how many work units a thread takes at a time: one, unless the units are small. The number is limited, because
 * a plan among small ones may have large units. */
static uint64_t grain_size(uint64_t work_units, uint64_t bytes, uint64_t work_unit_bytes) {
    const uint64_t units_at_a_time = bytes > 0 ? work_unit_bytes * work_units / bytes : 1;
    return units_at_a_time < 1 ? 1 : units_at_a_time < MAX_WORK_UNITS ? units_at_a_time : MAX_WORK_UNITS;
}

/* Allocate scratch memory for a number of threads; `memory` receives the pointer to free. Windows has no aligned_alloc.
 */
static scratch *allocate_scratch(int threads, void **memory) {
    const size_t alignment = _Alignof(scratch);
    *memory = malloc((size_t)threads * sizeof(scratch) + alignment - 1);
    return *memory == NULL ? NULL : (scratch *)(((uintptr_t)*memory + alignment - 1) / alignment * alignment);
}

fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context) {
    uint64_t single, work_units = 0, bytes = 0;
    int needs_scratch = count > 1, stopped = 0;
    void *scratch_memory = NULL;
    fk_grid grid;
    job j = {plans, count, .work_units_up_to = &single, .threads = threads, .kernels = fk_selected(), .last = &grid};
    if (count > 1 && (j.work_units_up_to = malloc(count * sizeof single)) == NULL) { return FK_NO_MEMORY; }
    for (size_t i = 0; i < count; i++) { bytes += stored_bytes(&plans[i]); }
    j.work_unit_bytes = work_unit_bytes(bytes, threads);
    for (size_t i = 0; i < count; i++) {
        fk_grid_of(&plans[i], j.work_unit_bytes, &grid);
        j.work_units_up_to[i] = work_units += grid.work_units;
        if (grid.work_units == 0) { continue; }
        needs_scratch |= !grid.direct || uses_streaming_stores(&plans[i], elements_of(&plans[i]), j.kernels, threads);
        if (stored_bytes(&plans[i]) >= MIN_BYTES_FOR_HUGE_PAGES) {
            const fk_region whole = fk_grid_whole(&grid);
            fk_advise_huge_pages(fk_grid_span(&grid, &plans[i], &whole));
        }
    }
    const uint64_t grain = grain_size(work_units, bytes, j.work_unit_bytes);
    if (needs_scratch) { j.scratch = allocate_scratch(fk_max_threads(work_units, grain, threads), &scratch_memory); }
    const int refused = needs_scratch && j.scratch == NULL;
    if (!refused) { stopped = fk_parallel_for(work_units, grain, threads, fill_work_units, &j, watch, context); }
    free(scratch_memory);
    if (j.work_units_up_to != &single) { free(j.work_units_up_to); }
    return refused ? FK_NO_MEMORY : stopped ? FK_CANCELLED : atomic_load(&j.faulted) ? FK_FAULT : FK_OK;
}
