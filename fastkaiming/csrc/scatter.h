/* batch.h - what does not go straight to memory is drawn into the first-level cache, and put in its place. */
#ifndef FASTKAIMING_BATCH_H
#define FASTKAIMING_BATCH_H

#include "sample.h"
#include "grid.h"

enum { FK_BATCH_BYTES = FK_BATCH_BLOCKS * FK_BLOCK_BYTES };

/* A batch under way. Too large for the stack of a thread that its creator gave a small one. */
typedef struct {
    const fk_grid *grid;
    const fk_draw *draw;
    uint64_t columns;
    size_t rows;
    char *out[FK_BATCH_ROWS];         /* where a row's first element of the batch belongs */
    uint32_t drawn_at[FK_BATCH_ROWS]; /* how many elements were drawn before it */
    uint32_t low[FK_BATCH_BLOCKS];
    _Alignas(FK_LINE_BYTES) char drawn[FK_BATCH_BYTES];
} fk_batch;

/* Fill a box of the plan's grid. What `b` holds before and after means nothing. */
void fk_fill_batches(const fk_plan *plan, const fk_grid *grid, const fk_draw *draw, const fk_box *box, fk_batch *b);

#endif
