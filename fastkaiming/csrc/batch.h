/* batch.h - what does not go straight to memory is drawn into the first-level cache, rounded, and put in its place. */
#ifndef FASTKAIMING_BATCH_H
#define FASTKAIMING_BATCH_H

#include "draw.h"
#include "grid.h"

/* Fill a box of the plan's grid. */
void fk_fill_batches(const fk_plan *plan, const fk_grid *grid, const fk_draw *draw, const fk_box *box);

#endif
