/* grid.h - the geometry of a fill: an array as a grid of rows whose elements are close together in the stream.
 *
 * This is arithmetic on a plan's axes alone: it samples nothing and accesses no memory. */
#ifndef FASTKAIMING_GRID_H
#define FASTKAIMING_GRID_H

#include <stddef.h>
#include <stdint.h>

#include "sample.h"
#include "pages.h"

/* The capacity of the staging buffer, which fits in the first-level cache. */
enum { FK_STAGING_BLOCKS = 1024, FK_STAGING_ROWS = FK_STAGING_BLOCKS };

typedef struct {
    fk_axis row_axes[FK_MAX_AXES]; /* the last one varies fastest */
    int row_axis_count;
    fk_axis column; /* its step is below the number of elements of a block, or it has a single element */
    uint64_t rows;
    int column_major; /* whether elements lie closer together from row to row than from column to column */
    int direct;       /* whether the kernel can store the elements of a row directly in memory */

    /* The grid is divided into work units, which threads take one after another. A work unit begins at each column for
     * which column + column_phase is a multiple of unit_columns, and likewise for rows. Work units that are not
     * `direct` are sampled in parts that fit in the staging buffer, of staging_rows rows and staging_columns columns.
     * If a part has several rows, the kernel gets a list of its blocks; a part of one row consists of whole tiles of
     * consecutive blocks. */
    uint64_t unit_rows, unit_columns, row_phase, column_phase, units_across, work_units;
    uint64_t staging_rows, staging_columns;
} fk_grid;

/* Rows [row, row_end) and columns [column, column_end). */
typedef struct { uint64_t row, row_end, column, column_end; } fk_region;

/* A row, with the index and the address of its column 0. */
typedef struct {
    const fk_grid *grid;
    uint64_t at[FK_MAX_AXES];
    uint64_t index;
    char *out;
} fk_row;

/* The limits of a work unit's size in bytes of memory. The maximum is the size of a huge page. */
enum { FK_MIN_WORK_UNIT_BYTES = 1 << 18, FK_MAX_WORK_UNIT_BYTES = 1 << 21 };

/* Compute the grid of a plan. `work_unit_bytes` is the largest number of bytes that the elements of one work unit
 * may take: a power of 2 within the limits above. */
void fk_grid_of(const fk_plan *plan, uint64_t work_unit_bytes, fk_grid *grid);

fk_region fk_grid_work_unit(const fk_grid *grid, uint64_t unit);

/* Return the region of all elements. The grid must have elements. */
fk_region fk_grid_whole(const fk_grid *grid);

/* Return the memory from the first to the last element of a region if at least half of it belongs to these elements,
 * otherwise an empty span. If the region begins or ends within an axis of rows, the span contains all rows of that
 * axis. */
fk_span fk_grid_span(const fk_grid *grid, const fk_plan *plan, const fk_region *region);

fk_row fk_grid_row(const fk_grid *grid, const fk_plan *plan, uint64_t row);
void fk_next_row(fk_row *row);

#endif
