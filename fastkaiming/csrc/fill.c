/* fill.c - plans become cells, cells are shared out between threads, and each becomes runs or batches. */
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

enum { SMALL_BYTES = 1 << 20, LARGE_BYTES = 64 << 20, MOST_CELLS = 16, FEW_THREADS = 8 };
enum { CELLS_PER_THREAD = 8, LEAST_CELLS_PER_THREAD = 2 };

/* Smaller plans ask the system nothing about their pages: mincore takes 0.6 us, 1% of what a fill of so much takes. And
 * arrays that are smaller than LEAST_HUGE_BYTES usually lie in memory that was touched before. */
enum { LEAST_POPULATED_BYTES = 1 << 20, LEAST_HUGE_BYTES = 4 << 20 };

/* The memory that one thread works in. It is not on the thread's stack, for which a caller may have chosen 32 KiB. */
typedef struct {
    fk_grid grid; /* of the plan at hand, where there are several */
    union {
        fk_batch batch;
        fk_stream_buffer streaming;
    };
} scratch;

/* The plans of one fill, and how many cells there are up to the end of each. */
typedef struct {
    const fk_plan *plans;
    size_t count;
    uint64_t *cells_up_to;
    uint64_t cell_bytes;
    int threads;
    const fk_kernels *kernels;
    const fk_grid *last; /* the grid of the last plan, which is the only one of most fills */
    scratch *scratch;    /* one for each thread, or NULL where no plan needs any */
    atomic_int faulted;  /* memory could not be written, so every thread stops */
} job;

/* Larger fills than this leave the caches anyway. A virtual machine is told of the whole host's last-level cache, of
 * which it has a share: measured on one with 260 MB, streaming is ahead from 64 MiB on. */
static uint64_t cacheable_bytes(void) {
    const uint64_t most = UINT64_C(32) << 20;
#if defined(_SC_LEVEL3_CACHE_SIZE)
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (cache > 0 && (uint64_t)cache < most) { return (uint64_t)cache; }
#endif
    return most;
}

/* A plain store has memory read the line that it overwrites. Few threads leave memory the time for that; many would ask
 * for twice what it gives, by the model in docs/roofline.md, which no machine has confirmed. */
static int streams(const fk_plan *plan, uint64_t elements, const fk_kernels *kernels, int threads) {
    if (kernels->flush == NULL || plan->store == FK_STORE_PLAIN) { return 0; }
    if (plan->store == FK_STORE_STREAMING) { return 1; }
    const uint64_t bytes = elements * fk_stored_bytes(plan->operation, plan->format);
    if (bytes <= SMALL_BYTES || bytes <= cacheable_bytes()) { return 0; } /* a small fill does not even ask */
    return threads > FEW_THREADS || fk_gains_by_streaming();
}

int fk_streams(void) { return fk_selected()->flush != NULL; }

static uint64_t elements_of(const fk_plan *plan) {
    uint64_t elements = 1;
    for (int i = 0; i < plan->axis_count; i++) { elements *= plan->axes[i].size; }
    return elements;
}

/* Straight to memory, a row after the other; past the caches where `buffer` is not NULL. */
static void fill_runs(const fk_plan *plan, const fk_grid *grid, const fk_draw *draw, const fk_box *box,
                      fk_stream_buffer *buffer) {
    fk_row row = fk_grid_row(grid, plan, box->row);
    for (uint64_t i = box->row; i < box->row_end; i++, fk_next_row(&row)) {
        char *const out = row.out + box->column * draw->element_bytes;
        fk_draw_run(draw, row.index + box->column, box->column_end - box->column, out, buffer);
    }
}

static uint64_t stored_bytes(const fk_plan *plan) {
    return elements_of(plan) * fk_stored_bytes(plan->operation, plan->format);
}

/* Cells [begin, end) of one plan, in a thread's scratch memory, up to one whose memory cannot be written. Returns their
 * elements. */
static uint64_t fill_cells_of(const fk_plan *plan, job *j, scratch *own, uint64_t begin, uint64_t end) {
    const fk_draw draw = fk_draw_of(plan, j->kernels);
    const int streaming = streams(plan, elements_of(plan), j->kernels, j->threads);
    const int populating = stored_bytes(plan) >= LEAST_POPULATED_BYTES;
    const fk_grid *grid = j->last;
    uint64_t done = 0;
    if (plan != &j->plans[j->count - 1]) {
        fk_grid_of(plan, j->cell_bytes, &own->grid);
        grid = &own->grid;
    }
    for (uint64_t cell = begin; cell < end && !atomic_load_explicit(&j->faulted, memory_order_relaxed); cell++) {
        const fk_box box = fk_grid_cell(grid, cell);
        const fk_pages pages = populating ? fk_populate(fk_grid_span(grid, plan, &box)) : FK_PAGES_PRESENT;
        if (pages == FK_PAGES_FAULT) {
            atomic_store(&j->faulted, 1);
            break;
        }
        if (grid->direct) {
            /* Pages that the system has just zeroed are in the cache. */
            const int in_cache = pages == FK_PAGES_NEW && plan->store != FK_STORE_STREAMING;
            fill_runs(plan, grid, &draw, &box, streaming && !in_cache ? &own->streaming : NULL);
        } else {
            fk_fill_batches(plan, grid, &draw, &box, &own->batch);
        }
        done += (box.row_end - box.row) * (box.column_end - box.column);
    }
    return done;
}

/* The first plan that has cells behind the first `cell`. */
static size_t plan_of(const job *j, uint64_t cell) {
    size_t low = 0, high = j->count - 1;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (j->cells_up_to[middle] > cell) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* Cells [begin, end) of all plans, in the floating-point environment that the stream is defined in. */
static uint64_t fill_cells(void *context, int worker, uint64_t begin, uint64_t end) {
    job *j = context;
    scratch *const own = j->scratch != NULL ? &j->scratch[worker] : NULL;
    const fk_fpenv callers = fk_enter_default_fpenv();
    uint64_t done = 0;
    for (size_t i = plan_of(j, begin); begin < end; i++) {
        const uint64_t before = i > 0 ? j->cells_up_to[i - 1] : 0;
        const uint64_t stop = end < j->cells_up_to[i] ? end : j->cells_up_to[i];
        done += fill_cells_of(&j->plans[i], j, own, begin - before, stop - before);
        begin = stop;
    }
    fk_leave_default_fpenv(&callers);
    return done;
}

/* The bytes of a cell: so few that each thread gets several cells, and all threads end at about the same time. Large
 * fills are cut below the size of a huge page, whose fault threads then share, only for very many threads. */
static uint64_t cell_bytes(uint64_t bytes, int threads) {
    const uint64_t cells = (uint64_t)threads * (bytes < LARGE_BYTES ? CELLS_PER_THREAD : LEAST_CELLS_PER_THREAD);
    uint64_t cell = FK_MOST_CELL_BYTES;
    while (threads > 1 && cell > FK_LEAST_CELL_BYTES && bytes / cell < cells) { cell /= 2; }
    return cell;
}

/* How many cells a thread takes at a time: one, unless they are small; never many, for a plan among small ones may have
 * large cells. */
static uint64_t grain(uint64_t cells, uint64_t bytes, uint64_t cell_bytes) {
    const uint64_t cells_at_a_time = bytes > 0 ? cell_bytes * cells / bytes : 1;
    return cells_at_a_time < 1 ? 1 : cells_at_a_time < MOST_CELLS ? cells_at_a_time : MOST_CELLS;
}

/* Scratch memory for so many threads, and in `memory` what to free. Windows has no aligned_alloc. */
static scratch *allocate_scratch(int threads, void **memory) {
    const size_t alignment = _Alignof(scratch);
    *memory = malloc((size_t)threads * sizeof(scratch) + alignment - 1);
    return *memory == NULL ? NULL : (scratch *)(((uintptr_t)*memory + alignment - 1) / alignment * alignment);
}

fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context) {
    uint64_t one, cells = 0, bytes = 0;
    int needs_scratch = count > 1, stopped = 0;
    void *scratch_memory = NULL;
    fk_grid grid;
    job j = {plans, count, .cells_up_to = &one, .threads = threads, .kernels = fk_selected(), .last = &grid};
    if (count > 1 && (j.cells_up_to = malloc(count * sizeof one)) == NULL) { return FK_NO_MEMORY; }
    for (size_t i = 0; i < count; i++) { bytes += stored_bytes(&plans[i]); }
    j.cell_bytes = cell_bytes(bytes, threads);
    for (size_t i = 0; i < count; i++) {
        fk_grid_of(&plans[i], j.cell_bytes, &grid);
        j.cells_up_to[i] = cells += grid.cells;
        if (grid.cells == 0) { continue; }
        needs_scratch |= !grid.direct || streams(&plans[i], elements_of(&plans[i]), j.kernels, threads);
        if (stored_bytes(&plans[i]) >= LEAST_HUGE_BYTES) {
            const fk_box whole = fk_grid_whole(&grid);
            fk_advise_huge_pages(fk_grid_span(&grid, &plans[i], &whole));
        }
    }
    const uint64_t at_a_time = grain(cells, bytes, j.cell_bytes);
    if (needs_scratch) { j.scratch = allocate_scratch(fk_most_workers(cells, at_a_time, threads), &scratch_memory); }
    const int refused = needs_scratch && j.scratch == NULL;
    if (!refused) { stopped = fk_parallel_for(cells, at_a_time, threads, fill_cells, &j, watch, context); }
    free(scratch_memory);
    if (j.cells_up_to != &one) { free(j.cells_up_to); }
    return refused ? FK_NO_MEMORY : stopped ? FK_CANCELLED : atomic_load(&j.faulted) ? FK_FAULT : FK_OK;
}
