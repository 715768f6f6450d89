/* grid.c - coalesces axes, orders them by their strides and divides the grid into work units. */
#include "grid.h"

/* If rows are closer together in memory than columns, the staging buffer takes enough rows to write several whole cache
 * lines of a column before the next column, which lies in another page. With one line of float32 per column, fills took
 * a third longer. */
enum { MIN_DIRECT_BYTES = 1 << 10, COLUMN_MAJOR_STAGED_ROWS = 64, COLUMN_MAJOR_MIN_BLOCKS = 8 };

_Static_assert(FK_STAGING_BLOCKS >= 2 * COLUMN_MAJOR_STAGED_ROWS,
               "the staging buffer holds a block of each row, and one more per row");
_Static_assert(FK_MIN_WORK_UNIT_BYTES / sizeof(double) >= FK_STAGING_ROWS,
               "a work unit has an element of each staged row");
_Static_assert(FK_MIN_WORK_UNIT_BYTES >= FK_STAGING_BLOCKS * FK_BLOCK_BYTES, "a work unit fills the staging buffer");

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b > 0); }
static uint64_t magnitude(int64_t a) { return a < 0 ? -(uint64_t)a : (uint64_t)a; }

size_t fk_max_work_unit_elements(void) { return FK_MAX_WORK_UNIT_BYTES / 4; }

/* Return whether `outer` and `inner` together are one axis of equal strides. The arithmetic is unsigned, because an
 * array without elements may have strides whose products overflow signed numbers. */
static int continues(const fk_axis *outer, const fk_axis *inner) {
    return outer->step == inner->size * inner->step && (uint64_t)outer->stride == inner->size * (uint64_t)inner->stride;
}

/* Take the plan's axes as row axes: leave out axes of one element, and merge each axis that continues the one before
 * it. */
static void coalesce(const fk_plan *plan, fk_grid *grid) {
    grid->row_axis_count = 0;
    for (int i = 0; i < plan->axis_count; i++) {
        const fk_axis *axis = &plan->axes[i];
        fk_axis *last = grid->row_axis_count > 0 ? &grid->row_axes[grid->row_axis_count - 1] : NULL;
        if (axis->size == 1) { continue; }
        if (last != NULL && continues(last, axis)) {
            *last = (fk_axis){last->size * axis->size, axis->stride, axis->step};
        } else {
            grid->row_axes[grid->row_axis_count++] = *axis;
        }
    }
}

/* Make the row axis of the smallest stride the innermost one, unless rows are so short that neighbours in the stream
 * share blocks. Returns whether this stride is smaller than that of the columns; if so, enough rows are staged together
 * to fill whole cache lines. */
static int move_smallest_stride_last(fk_grid *grid, int long_rows) {
    int smallest = 0;
    for (int i = 1; i < grid->row_axis_count; i++) {
        if (magnitude(grid->row_axes[i].stride) <= magnitude(grid->row_axes[smallest].stride)) { smallest = i; }
    }
    const fk_axis axis = grid->row_axes[smallest];
    const int column_major = grid->column.size > 1 && magnitude(axis.stride) < magnitude(grid->column.stride);
    if (grid->column.size > 1 && !column_major && !long_rows) { return 0; }
    for (int i = smallest; i + 1 < grid->row_axis_count; i++) { grid->row_axes[i] = grid->row_axes[i + 1]; }
    grid->row_axes[grid->row_axis_count - 1] = axis;
    return column_major;
}

static void choose_staging_size(fk_grid *grid, uint64_t block_elements, uint64_t min_rows) {
    const uint64_t step = grid->column.step;
    const uint64_t max_columns = (FK_STAGING_BLOCKS / min_rows - 1) * block_elements / step;
    grid->staging_columns = min_u64(grid->column.size, max_columns);
    const uint64_t row_blocks =
        grid->staging_columns == 1 ? 1 : ceil_div(grid->staging_columns * step, block_elements) + 1; /* upper bound */
    grid->staging_rows = min_u64(grid->rows, FK_STAGING_BLOCKS / row_blocks);
    if (grid->staging_rows == 1) { grid->staging_columns = FK_STAGING_BLOCKS * block_elements / step; }
}

/* Return the phase for which every work unit of `unit_size` elements, except the first, begins at an address that is a
 * multiple of the size of a unit in memory. Then no two units share a huge page. If the stride is negative, units may
 * begin anywhere. */
static uint64_t phase_of(const void *out, int64_t stride, uint64_t size, uint64_t unit_size) {
    return size > unit_size && stride > 0 ? (uintptr_t)out / (uint64_t)stride % unit_size : 0;
}

/* Return the number of columns of a work unit. If rows are closer together in memory than columns, a unit has few
 * columns, so that it contains all rows, which are adjacent in memory, but enough columns that most blocks are sampled
 * for a single unit. */
static uint64_t columns_of_work_unit(const fk_grid *grid, uint64_t unit_elements, uint64_t block_elements) {
    if (!grid->column_major) { return min_u64(grid->column.size, unit_elements / grid->staging_rows); }
    const uint64_t blocks = unit_elements / grid->rows / block_elements;
    return min_u64(grid->column.size,
                   block_elements * (blocks > COLUMN_MAJOR_MIN_BLOCKS ? blocks : COLUMN_MAJOR_MIN_BLOCKS));
}

static void cut_into_work_units(fk_grid *grid, const void *out, uint64_t unit_elements, uint64_t block_elements) {
    const int64_t row_stride = grid->row_axis_count > 0 ? grid->row_axes[grid->row_axis_count - 1].stride : 0;
    grid->unit_columns = columns_of_work_unit(grid, unit_elements, block_elements);
    grid->unit_rows = min_u64(grid->rows, unit_elements / grid->unit_columns / grid->staging_rows * grid->staging_rows);
    grid->column_phase = phase_of(out, grid->column.stride, grid->column.size, grid->unit_columns);
    if (grid->column_major) { grid->column_phase -= grid->column_phase % block_elements; }
    grid->row_phase = phase_of(out, row_stride, grid->rows, grid->unit_rows);
    grid->units_across = ceil_div(grid->column.size + grid->column_phase, grid->unit_columns);
    grid->work_units = ceil_div(grid->rows + grid->row_phase, grid->unit_rows) * grid->units_across;
}

void fk_grid_of(const fk_plan *plan, uint64_t work_unit_bytes, fk_grid *grid) {
    const size_t sampled = fk_sampled_bytes(plan->operation), stored = fk_stored_bytes(plan->operation, plan->format);
    const uint64_t block_elements = FK_BLOCK_BYTES / sampled;
    coalesce(plan, grid);
    grid->column = (fk_axis){1, (int64_t)stored, 1};
    if (grid->row_axis_count > 0 && grid->row_axes[grid->row_axis_count - 1].step < block_elements) {
        grid->column = grid->row_axes[--grid->row_axis_count];
    }
    const int long_rows = grid->column.size * stored >= MIN_DIRECT_BYTES;
    grid->column_major = grid->row_axis_count > 0 && move_smallest_stride_last(grid, long_rows);
    grid->rows = 1;
    for (int i = 0; i < grid->row_axis_count; i++) { grid->rows *= grid->row_axes[i].size; }
    if (grid->rows == 0 || grid->column.size == 0) {
        grid->work_units = 0;
        return;
    }
    grid->direct = !plan->byte_swapped && (uintptr_t)plan->out % stored == 0 && grid->column.step == 1 &&
                   grid->column.stride == (int64_t)stored && (grid->rows == 1 || long_rows);
    for (int i = 0; i < grid->row_axis_count; i++) {
        grid->direct &= magnitude(grid->row_axes[i].stride) % stored == 0;
    }
    choose_staging_size(grid, block_elements, grid->column_major ? min_u64(grid->rows, COLUMN_MAJOR_STAGED_ROWS) : 1);
    cut_into_work_units(grid, plan->out, work_unit_bytes / stored, block_elements);
}

fk_region fk_grid_work_unit(const fk_grid *grid, uint64_t unit) {
    const uint64_t across = unit % grid->units_across, down = unit / grid->units_across;
    const uint64_t row_end = (down + 1) * grid->unit_rows - grid->row_phase;
    const uint64_t column_end = (across + 1) * grid->unit_columns - grid->column_phase;
    return (fk_region){
        .row = down == 0 ? 0 : row_end - grid->unit_rows,
        .row_end = min_u64(grid->rows, row_end),
        .column = across == 0 ? 0 : column_end - grid->unit_columns,
        .column_end = min_u64(grid->column.size, column_end),
    };
}

fk_region fk_grid_whole(const fk_grid *grid) { return (fk_region){0, grid->rows, 0, grid->column.size}; }

/* Extend a span by the elements from `first` to `last` along an axis. */
static void extend(fk_span *span, int64_t stride, uint64_t first, uint64_t last) {
    span->begin += (uintptr_t)stride * (uintptr_t)(stride > 0 ? first : last);
    span->end += (uintptr_t)stride * (uintptr_t)(stride > 0 ? last : first);
}

fk_span fk_grid_span(const fk_grid *grid, const fk_plan *plan, const fk_region *region) {
    const size_t bytes = fk_stored_bytes(plan->operation, plan->format);
    const uint64_t elements = (region->row_end - region->row) * (region->column_end - region->column);
    uint64_t first = region->row, last = region->row_end - 1;
    fk_span span = {(uintptr_t)plan->out, (uintptr_t)plan->out + bytes};
    extend(&span, grid->column.stride, region->column, region->column_end - 1);
    for (int i = grid->row_axis_count - 1; i >= 0; i--) {
        const fk_axis *axis = &grid->row_axes[i];
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
    for (int i = grid->row_axis_count - 1; i >= 0; i--) {
        const fk_axis *axis = &grid->row_axes[i];
        r.at[i] = row % axis->size;
        row /= axis->size;
        r.index += r.at[i] * axis->step;
        r.out += (int64_t)r.at[i] * axis->stride;
    }
    return r;
}

void fk_next_row(fk_row *row) {
    for (int i = row->grid->row_axis_count - 1; i >= 0; i--) {
        const fk_axis *axis = &row->grid->row_axes[i];
        row->index += axis->step;
        row->out += axis->stride;
        if (++row->at[i] < axis->size) { return; }
        row->at[i] = 0;
        row->index -= axis->size * axis->step;
        row->out -= (int64_t)axis->size * axis->stride;
    }
}
