/* grid.c - axes are coalesced, put in an order that memory likes, and cut into cells and batches. */
#include "grid.h"

/* Across rows, a batch writes whole lines of every column, and several of them while it has the column's page at hand:
 * one line of float32 a column was a third slower. */
enum { LEAST_DIRECT_BYTES = 1 << 10, ROWS_ACROSS = 64, LEAST_BLOCKS_ACROSS = 8 };

_Static_assert(FK_BATCH_BLOCKS >= 2 * ROWS_ACROSS,
               "a batch of so many rows has a block of each, and one more where it begins");
_Static_assert(FK_LEAST_CELL_BYTES / sizeof(double) >= FK_BATCH_ROWS, "a cell has an element of each row of a batch");
_Static_assert(FK_LEAST_CELL_BYTES >= FK_BATCH_BLOCKS * FK_BLOCK_BYTES, "a cell holds a batch");

static uint64_t smaller(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t ratio_up(uint64_t a, uint64_t b) { return a / b + (a % b > 0); }
static uint64_t magnitude(int64_t a) { return a < 0 ? -(uint64_t)a : (uint64_t)a; }

size_t fk_chunk_elements(void) { return FK_MOST_CELL_BYTES / 4; }

/* Is `inner`, run through again and again, the same walk as `outer` and `inner`? Unsigned, for an array without
 * elements may have strides whose products no signed number holds. */
static int continues(const fk_axis *outer, const fk_axis *inner) {
    return outer->step == inner->size * inner->step && (uint64_t)outer->stride == inner->size * (uint64_t)inner->stride;
}

/* The plan's axes as row axes, those of a single element left out and those that continue one another made one. */
static void coalesce(const fk_plan *plan, fk_grid *grid) {
    grid->row_axes = 0;
    for (int i = 0; i < plan->axis_count; i++) {
        const fk_axis *axis = &plan->axes[i];
        fk_axis *last = grid->row_axes > 0 ? &grid->row[grid->row_axes - 1] : NULL;
        if (axis->size == 1) { continue; }
        if (last != NULL && continues(last, axis)) {
            *last = (fk_axis){last->size * axis->size, axis->stride, axis->step};
        } else {
            grid->row[grid->row_axes++] = *axis;
        }
    }
}

/* Let the rows follow one another along the axis on which memory is densest, unless they are so short that neighbours
 * in the stream share blocks. Returns whether memory is denser there than along a row: then a batch takes as many rows
 * as fill a cache line. */
static int put_densest_last(fk_grid *grid, int long_rows) {
    int densest = 0;
    for (int i = 1; i < grid->row_axes; i++) {
        if (magnitude(grid->row[i].stride) <= magnitude(grid->row[densest].stride)) { densest = i; }
    }
    const fk_axis axis = grid->row[densest];
    const int across = grid->column.size > 1 && magnitude(axis.stride) < magnitude(grid->column.stride);
    if (grid->column.size > 1 && !across && !long_rows) { return 0; }
    for (int i = densest; i + 1 < grid->row_axes; i++) { grid->row[i] = grid->row[i + 1]; }
    grid->row[grid->row_axes - 1] = axis;
    return across;
}

static void cut_into_batches(fk_grid *grid, uint64_t block_elements, uint64_t least_rows) {
    const uint64_t step = grid->column.step;
    const uint64_t most_columns = (FK_BATCH_BLOCKS / least_rows - 1) * block_elements / step;
    grid->batch_columns = smaller(grid->column.size, most_columns);
    const uint64_t row_blocks =
        grid->batch_columns == 1 ? 1 : ratio_up(grid->batch_columns * step, block_elements) + 1; /* at the most */
    grid->batch_rows = smaller(grid->rows, FK_BATCH_BLOCKS / row_blocks);
    if (grid->batch_rows == 1) { grid->batch_columns = FK_BATCH_BLOCKS * block_elements / step; }
}

/* Where cells of so many elements have to begin for the memory of all but the first to begin at a multiple of what a
 * cell takes: then no two cells share a huge page. Where the
 * stride is negative, cells may begin anywhere. */
static uint64_t phase_of(const void *out, int64_t stride, uint64_t size, uint64_t cell_size) {
    return size > cell_size && stride > 0 ? (uintptr_t)out / (uint64_t)stride % cell_size : 0;
}

/* Across rows, a cell has as few columns as let it have all rows, which lie side by side; but enough of them that most
 * of the blocks drawn lie in one cell. */
static uint64_t columns_of_cell(const fk_grid *grid, uint64_t cell_elements, uint64_t block_elements) {
    if (!grid->across_rows) { return smaller(grid->column.size, cell_elements / grid->batch_rows); }
    const uint64_t blocks = cell_elements / grid->rows / block_elements;
    return smaller(grid->column.size, block_elements * (blocks > LEAST_BLOCKS_ACROSS ? blocks : LEAST_BLOCKS_ACROSS));
}

static void cut_into_cells(fk_grid *grid, const void *out, uint64_t cell_elements, uint64_t block_elements) {
    const int64_t row_stride = grid->row_axes > 0 ? grid->row[grid->row_axes - 1].stride : 0;
    grid->cell_columns = columns_of_cell(grid, cell_elements, block_elements);
    grid->cell_rows = smaller(grid->rows, cell_elements / grid->cell_columns / grid->batch_rows * grid->batch_rows);
    grid->column_phase = phase_of(out, grid->column.stride, grid->column.size, grid->cell_columns);
    if (grid->across_rows) { grid->column_phase -= grid->column_phase % block_elements; }
    grid->row_phase = phase_of(out, row_stride, grid->rows, grid->cell_rows);
    grid->cells_across = ratio_up(grid->column.size + grid->column_phase, grid->cell_columns);
    grid->cells = ratio_up(grid->rows + grid->row_phase, grid->cell_rows) * grid->cells_across;
}

void fk_grid_of(const fk_plan *plan, uint64_t cell_bytes, fk_grid *grid) {
    const size_t drawn = fk_drawn_bytes(plan->operation), stored = fk_stored_bytes(plan->operation, plan->format);
    const uint64_t block_elements = FK_BLOCK_BYTES / drawn;
    coalesce(plan, grid);
    grid->column = (fk_axis){1, (int64_t)stored, 1};
    if (grid->row_axes > 0 && grid->row[grid->row_axes - 1].step < block_elements) {
        grid->column = grid->row[--grid->row_axes];
    }
    const int long_rows = grid->column.size * stored >= LEAST_DIRECT_BYTES;
    grid->across_rows = grid->row_axes > 0 && put_densest_last(grid, long_rows);
    grid->rows = 1;
    for (int i = 0; i < grid->row_axes; i++) { grid->rows *= grid->row[i].size; }
    if (grid->rows == 0 || grid->column.size == 0) {
        grid->cells = 0;
        return;
    }
    grid->direct = !plan->swapped && (uintptr_t)plan->out % stored == 0 && grid->column.step == 1 &&
                   grid->column.stride == (int64_t)stored && (grid->rows == 1 || long_rows);
    for (int i = 0; i < grid->row_axes; i++) { grid->direct &= magnitude(grid->row[i].stride) % stored == 0; }
    cut_into_batches(grid, block_elements, grid->across_rows ? smaller(grid->rows, ROWS_ACROSS) : 1);
    cut_into_cells(grid, plan->out, cell_bytes / stored, block_elements);
}

fk_box fk_grid_cell(const fk_grid *grid, uint64_t cell) {
    const uint64_t across = cell % grid->cells_across, down = cell / grid->cells_across;
    const uint64_t row_end = (down + 1) * grid->cell_rows - grid->row_phase;
    const uint64_t column_end = (across + 1) * grid->cell_columns - grid->column_phase;
    return (fk_box){
        .row = down == 0 ? 0 : row_end - grid->cell_rows,
        .row_end = smaller(grid->rows, row_end),
        .column = across == 0 ? 0 : column_end - grid->cell_columns,
        .column_end = smaller(grid->column.size, column_end),
    };
}

fk_box fk_grid_whole(const fk_grid *grid) { return (fk_box){0, grid->rows, 0, grid->column.size}; }

/* Let a span have the elements from `first` to `last` along an axis. */
static void extend(fk_span *span, int64_t stride, uint64_t first, uint64_t last) {
    span->begin += (uintptr_t)stride * (uintptr_t)(stride > 0 ? first : last);
    span->end += (uintptr_t)stride * (uintptr_t)(stride > 0 ? last : first);
}

fk_span fk_grid_span(const fk_grid *grid, const fk_plan *plan, const fk_box *box) {
    const size_t bytes = fk_stored_bytes(plan->operation, plan->format);
    const uint64_t elements = (box->row_end - box->row) * (box->column_end - box->column);
    uint64_t first = box->row, last = box->row_end - 1;
    fk_span span = {(uintptr_t)plan->out, (uintptr_t)plan->out + bytes};
    extend(&span, grid->column.stride, box->column, box->column_end - 1);
    for (int i = grid->row_axes - 1; i >= 0; i--) {
        const fk_axis *axis = &grid->row[i];
        const int all = first / axis->size != last / axis->size;
        extend(&span, axis->stride, all ? 0 : first % axis->size, all ? axis->size - 1 : last % axis->size);
        first /= axis->size;
        last /= axis->size;
    }
    return span.end - span.begin <= 2 * bytes * elements ? span : (fk_span){0, 0};
}

fk_row fk_grid_row(const fk_grid *grid, const fk_plan *plan, uint64_t row) {
    fk_row r;
    r.grid = grid;
    r.index = plan->first;
    r.out = plan->out;
    for (int i = grid->row_axes - 1; i >= 0; i--) {
        const fk_axis *axis = &grid->row[i];
        r.at[i] = row % axis->size;
        row /= axis->size;
        r.index += r.at[i] * axis->step;
        r.out += (int64_t)r.at[i] * axis->stride;
    }
    return r;
}

void fk_next_row(fk_row *row) {
    for (int i = row->grid->row_axes - 1; i >= 0; i--) {
        const fk_axis *axis = &row->grid->row[i];
        row->index += axis->step;
        row->out += axis->stride;
        if (++row->at[i] < axis->size) { return; }
        row->at[i] = 0;
        row->index -= axis->size * axis->step;
        row->out -= (int64_t)axis->size * axis->stride;
    }
}
