/* grid.h - the geometry of a fill: any array, as rows of elements that follow one another in the stream.
 *
 * Pure arithmetic on a plan's axes; knows nothing of random numbers and touches no memory.
 */
#ifndef FASTKAIMING_GRID_H
#define FASTKAIMING_GRID_H

#include <stddef.h>
#include <stdint.h>

#include "sample.h"
#include "pages.h"

/* What the first-level cache holds of a fill that does not go straight to memory. */
enum { FK_BATCH_BLOCKS = 1024, FK_BATCH_ROWS = FK_BATCH_BLOCKS };

typedef struct {
    fk_axis row[FK_MAX_AXES]; /* the last one varies fastest */
    int row_axes;
    fk_axis column; /* of a step so short that a block holds more than one of its elements, or of a single element */
    uint64_t rows;
    int across_rows; /* is memory denser from row to row than from column to column? */
    int direct;      /* do the elements of a row lie in memory as the kernel draws them? */

    /* The grid is cut into cells, the work units that threads take: between columns where column + column_phase is a
     * multiple of cell_columns, and likewise between rows. A cell that is not direct is cut into batches, what is drawn
     * at once. A batch of several rows lists its blocks, a batch of one row takes whole tiles of consecutive ones. */
    uint64_t cell_rows, cell_columns, row_phase, column_phase, cells_across, cells;
    uint64_t batch_rows, batch_columns;
} fk_grid;

/* Rows [row, row_end) and columns [column, column_end). */
typedef struct { uint64_t row, row_end, column, column_end; } fk_box;

/* A row, and the index and the address of its column 0. */
typedef struct {
    const fk_grid *grid;
    uint64_t at[FK_MAX_AXES];
    uint64_t index;
    char *out;
} fk_row;

/* The least and the greatest size of a cell, in bytes of memory. The greatest is that of a huge page. */
enum { FK_LEAST_CELL_BYTES = 1 << 18, FK_MOST_CELL_BYTES = 1 << 21 };

/* `cell_bytes`, a power of 2 from the least to the greatest, is what a cell has at most of the memory of elements. */
void fk_grid_of(const fk_plan *plan, uint64_t cell_bytes, fk_grid *grid);

fk_box fk_grid_cell(const fk_grid *grid, uint64_t cell);

/* All of the grid, which has elements. */
fk_box fk_grid_whole(const fk_grid *grid);

/* The memory from a box's first element to its last, where elements are at least half of it; an empty span elsewhere.
 * Of a box that begins or ends within an axis of rows, the span has all rows of that axis. */
fk_span fk_grid_span(const fk_grid *grid, const fk_plan *plan, const fk_box *box);

fk_row fk_grid_row(const fk_grid *grid, const fk_plan *plan, uint64_t row);
void fk_next_row(fk_row *row);

#endif
