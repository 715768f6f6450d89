/* scatter.h - samples into a staging buffer in the cache, and scatters the elements to strided or byte-swapped memory.
 */
#ifndef FASTKAIMING_SCATTER_H
#define FASTKAIMING_SCATTER_H

#include "sample.h"
#include "grid.h"

enum { FK_STAGING_BYTES = FK_STAGING_BLOCKS * FK_BLOCK_BYTES };

/* The state of one staging pass. It is too large for a small thread stack. */
typedef struct {
    const fk_grid *grid;
    const fk_sampler *sampler;
    uint64_t columns;
    size_t rows;
    char *out[FK_STAGING_ROWS];           /* the address of the row's first staged element */
    uint32_t sampled_at[FK_STAGING_ROWS]; /* the number of sampled elements before that element */
    uint32_t low[FK_STAGING_BLOCKS];
    _Alignas(FK_LINE_BYTES) char sampled[FK_STAGING_BYTES];
} fk_staging;

/* Fill a region of the plan's grid. `s` is working memory; its contents on entry do not matter. */
void fk_fill_staged(const fk_plan *plan, const fk_grid *grid, const fk_sampler *sampler, const fk_region *region,
                    fk_staging *s);

#endif
