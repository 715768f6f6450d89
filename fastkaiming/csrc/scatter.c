/* batch.c - a batch is drawn into the first-level cache, swapped, and put in its place. */
#include "scatter.h"

#include <string.h>

#define FK_INLINE static inline __attribute__((always_inline))

_Static_assert(FK_BATCH_BLOCKS % FK_MAX_TILE_BLOCKS == 0, "lists of blocks end with a whole tile, of any power of 2");
_Static_assert(FK_BATCH_ROWS >= FK_BATCH_BLOCKS, "a batch may have a row for each of its blocks");
_Static_assert(FK_BATCH_BYTES <= UINT32_MAX, "drawn_at counts all elements of a batch");

static void take(fk_batch *b, const fk_row *row, uint64_t column, uint64_t at) {
    b->drawn_at[b->rows] = (uint32_t)at;
    b->out[b->rows++] = row->out + (int64_t)column * b->grid->column.stride;
}

/* The elements of one row from `column` on. Returns how many elements were drawn. */
static size_t draw_row(fk_batch *b, const fk_row *row, uint64_t column) {
    const uint64_t step = b->grid->column.step, count = (b->columns - 1) * step + 1;
    fk_draw_run(b->draw, row->index + column * step, count, b->drawn, NULL);
    take(b, row, column, 0);
    return (size_t)count;
}

/* The elements of up to `rows` rows from `column` on, as many of them as one call of the kernel can serve; moves the
 * cursor past them. Neighbours that share a block draw it once. Returns how many elements were drawn. */
static size_t draw_rows(fk_batch *b, fk_row *row, uint64_t rows, uint64_t column) {
    const uint64_t block_elements = b->draw->block_elements, step = b->grid->column.step;
    uint64_t high = 0, last = 0;
    size_t blocks = 0;
    for (; b->rows < rows; fk_next_row(row)) {
        const uint64_t first = row->index + column * step;
        const uint64_t begin = first / block_elements, end = (first + (b->columns - 1) * step) / block_elements;
        if (blocks > 0 && (begin >> 32 != high || end >> 32 != high)) { break; }
        if (begin >> 32 != end >> 32) {
            const size_t drawn = draw_row(b, row, column);
            fk_next_row(row);
            return drawn;
        }
        high = begin >> 32;
        const int shared = blocks > 0 && begin == last;
        take(b, row, column, (blocks - (size_t)shared) * block_elements + first % block_elements);
        for (uint64_t block = begin + (uint64_t)shared; block <= end; block++) { b->low[blocks++] = (uint32_t)block; }
        last = end;
    }
    fk_draw_blocks(b->draw, (uint32_t)high, b->low, blocks, b->drawn);
    return blocks * block_elements;
}

FK_INLINE void put_along_rows(const fk_batch *b, int64_t stride, size_t apart, size_t bytes) {
    for (size_t i = 0; i < b->rows; i++) {
        char *out = b->out[i];
        const char *from = b->drawn + b->drawn_at[i] * bytes;
        for (uint64_t k = 0; k < b->columns; k++, out += stride, from += apart) { memcpy(out, from, bytes); }
    }
}

FK_INLINE void put_across_rows(const fk_batch *b, int64_t stride, size_t apart, size_t bytes) {
    const size_t rows = b->rows; /* which the bytes written might be, for all that the compiler knows */
    const char *from = b->drawn;
    for (uint64_t k = 0; k < b->columns; k++, from += apart) {
        const int64_t by = (int64_t)k * stride;
        for (size_t i = 0; i < rows; i++) { memcpy(b->out[i] + by, from + b->drawn_at[i] * bytes, bytes); }
    }
}

/* In the order in which memory is denser. `bytes` is known when this is compiled. */
FK_INLINE void put_elements(const fk_batch *b, size_t bytes) {
    const fk_grid *grid = b->grid;
    const int64_t stride = grid->column.stride;
    const size_t apart = grid->column.step * bytes;
    if (grid->across_rows) {
        put_across_rows(b, stride, apart, bytes);
    } else {
        put_along_rows(b, stride, apart, bytes);
    }
}

static void put_in_place(const fk_batch *b) {
    const size_t bytes = b->draw->element_bytes;
    if (b->grid->column.step == 1 && b->grid->column.stride == (int64_t)bytes) {
        for (size_t i = 0; i < b->rows; i++) {
            memcpy(b->out[i], b->drawn + b->drawn_at[i] * bytes, b->columns * bytes);
        }
        return;
    }
    switch (bytes) {
    case 1: put_elements(b, 1); break;
    case 2: put_elements(b, 2); break;
    case 4: put_elements(b, 4); break;
    default: put_elements(b, 8); break;
    }
}

/* Columns [column, result) of a box make a batch. Of a row by itself, batches begin where blocks and tiles do. */
static uint64_t batch_end(const fk_grid *grid, const fk_row *row, uint64_t column, uint64_t column_end) {
    uint64_t columns = grid->batch_columns;
    if (grid->batch_rows == 1 && grid->column.step == 1) { columns -= (row->index + column) % columns; }
    return columns < column_end - column ? column + columns : column_end;
}

void fk_fill_batches(const fk_plan *plan, const fk_grid *grid, const fk_draw *draw, const fk_box *box, fk_batch *b) {
    b->grid = grid;
    b->draw = draw;
    uint64_t end;
    for (uint64_t row = box->row; row < box->row_end; row += grid->batch_rows) {
        const uint64_t rows = row + grid->batch_rows < box->row_end ? grid->batch_rows : box->row_end - row;
        const fk_row first = fk_grid_row(grid, plan, row);
        for (uint64_t column = box->column; column < box->column_end; column = end) {
            end = batch_end(grid, &first, column, box->column_end);
            b->columns = end - column;
            fk_row cursor = first;
            for (uint64_t left = rows; left > 0; left -= b->rows) {
                b->rows = 0;
                const size_t drawn =
                    grid->batch_rows == 1 ? draw_row(b, &cursor, column) : draw_rows(b, &cursor, left, column);
                if (plan->swapped) { draw->kernels->swap(b->drawn, drawn, draw->element_bytes); }
                put_in_place(b);
            }
        }
    }
}
