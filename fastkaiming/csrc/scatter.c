/* scatter.c - samples elements into the staging buffer, swaps their bytes if required, and scatters them to memory. */
#include "scatter.h"

#include <string.h>

#define FK_INLINE static inline __attribute__((always_inline))

_Static_assert(FK_STAGING_BLOCKS % FK_MAX_TILE_BLOCKS == 0,
               "a list of blocks can be padded to whole tiles of any size");
_Static_assert(FK_STAGING_ROWS >= FK_STAGING_BLOCKS, "each staged block may belong to a row of its own");
_Static_assert(FK_STAGING_BYTES <= UINT32_MAX, "sampled_at can count all staged elements");

static void place_row(fk_staging *s, const fk_row *row, uint64_t column, uint64_t at) {
    s->sampled_at[s->rows] = (uint32_t)at;
    s->out[s->rows++] = row->out + (int64_t)column * s->grid->column.stride;
}

/* Sample the elements of one row from `column` on. Returns the number of elements sampled. */
static size_t sample_row(fk_staging *s, const fk_row *row, uint64_t column) {
    const uint64_t step = s->grid->column.step, count = (s->columns - 1) * step + 1;
    fk_sample_run(s->sampler, row->index + column * step, count, s->sampled, NULL);
    place_row(s, row, column, 0);
    return (size_t)count;
}

/* Sample the elements of up to `rows` rows from `column` on, as many as one call of the kernel can serve, and advance
 * `row` past them. Adjacent rows that share a block sample it once. Returns the number of elements sampled. */
static size_t sample_rows(fk_staging *s, fk_row *row, uint64_t rows, uint64_t column) {
    const uint64_t block_elements = s->sampler->block_elements, step = s->grid->column.step;
    uint64_t high = 0, last = 0;
    size_t blocks = 0;
    for (; s->rows < rows; fk_next_row(row)) {
        const uint64_t first = row->index + column * step;
        const uint64_t begin = first / block_elements, end = (first + (s->columns - 1) * step) / block_elements;
        if (blocks > 0 && (begin >> 32 != high || end >> 32 != high)) { break; }
        if (begin >> 32 != end >> 32) {
            const size_t sampled = sample_row(s, row, column);
            fk_next_row(row);
            return sampled;
        }
        high = begin >> 32;
        const int shared = blocks > 0 && begin == last;
        place_row(s, row, column, (blocks - (size_t)shared) * block_elements + first % block_elements);
        for (uint64_t block = begin + (uint64_t)shared; block <= end; block++) { s->low[blocks++] = (uint32_t)block; }
        last = end;
    }
    fk_sample_blocks(s->sampler, (uint32_t)high, s->low, blocks, s->sampled);
    return blocks * block_elements;
}

FK_INLINE void scatter_row_major(const fk_staging *s, int64_t stride, size_t spacing, size_t bytes) {
    for (size_t i = 0; i < s->rows; i++) {
        char *out = s->out[i];
        const char *from = s->sampled + s->sampled_at[i] * bytes;
        for (uint64_t k = 0; k < s->columns; k++, out += stride, from += spacing) { memcpy(out, from, bytes); }
    }
}

FK_INLINE void scatter_column_major(const fk_staging *s, int64_t stride, size_t spacing, size_t bytes) {
    const size_t rows = s->rows; /* a copy, because the compiler cannot rule out that the stores alias s->rows */
    const char *from = s->sampled;
    for (uint64_t k = 0; k < s->columns; k++, from += spacing) {
        const int64_t by = (int64_t)k * stride;
        for (size_t i = 0; i < rows; i++) { memcpy(s->out[i] + by, from + s->sampled_at[i] * bytes, bytes); }
    }
}

/* Scatter along the axis of the smaller stride. `bytes` is a compile-time constant. */
FK_INLINE void scatter_elements(const fk_staging *s, size_t bytes) {
    const fk_grid *grid = s->grid;
    const int64_t stride = grid->column.stride;
    const size_t spacing = grid->column.step * bytes;
    if (grid->column_major) {
        scatter_column_major(s, stride, spacing, bytes);
    } else {
        scatter_row_major(s, stride, spacing, bytes);
    }
}

static void scatter_staged(const fk_staging *s) {
    const size_t bytes = s->sampler->element_bytes;
    if (s->grid->column.step == 1 && s->grid->column.stride == (int64_t)bytes) {
        for (size_t i = 0; i < s->rows; i++) {
            memcpy(s->out[i], s->sampled + s->sampled_at[i] * bytes, s->columns * bytes);
        }
        return;
    }
    switch (bytes) {
    case 1: scatter_elements(s, 1); break;
    case 2: scatter_elements(s, 2); break;
    case 4: scatter_elements(s, 4); break;
    default: scatter_elements(s, 8); break;
    }
}

/* Return the end of the columns that are staged together, from `column` on. If a single row is staged at a time, the
 * parts begin at multiples of blocks and tiles. */
static uint64_t staging_end(const fk_grid *grid, const fk_row *row, uint64_t column, uint64_t column_end) {
    uint64_t columns = grid->staging_columns;
    if (grid->staging_rows == 1 && grid->column.step == 1) { columns -= (row->index + column) % columns; }
    return columns < column_end - column ? column + columns : column_end;
}

void fk_fill_staged(const fk_plan *plan, const fk_grid *grid, const fk_sampler *sampler, const fk_region *region,
                    fk_staging *s) {
    s->grid = grid;
    s->sampler = sampler;
    uint64_t end;
    for (uint64_t row = region->row; row < region->row_end; row += grid->staging_rows) {
        const uint64_t rows = row + grid->staging_rows < region->row_end ? grid->staging_rows : region->row_end - row;
        const fk_row first = fk_grid_row(grid, plan, row);
        for (uint64_t column = region->column; column < region->column_end; column = end) {
            end = staging_end(grid, &first, column, region->column_end);
            s->columns = end - column;
            fk_row cursor = first;
            for (uint64_t left = rows; left > 0; left -= s->rows) {
                s->rows = 0;
                const size_t sampled =
                    grid->staging_rows == 1 ? sample_row(s, &cursor, column) : sample_rows(s, &cursor, left, column);
                if (plan->byte_swapped) { sampler->kernels->swap(s->sampled, sampled, sampler->element_bytes); }
                scatter_staged(s);
            }
        }
    }
}
