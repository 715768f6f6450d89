/* pages.h - prepares newly allocated memory for writing. */
#ifndef FASTKAIMING_PAGES_H
#define FASTKAIMING_PAGES_H

#include <stdint.h>

/* The addresses [begin, end). */
typedef struct { uintptr_t begin, end; } fk_span;

typedef enum {
    FK_PAGES_PRESENT, /* the memory was touched before, or its state is unknown, as on systems other than Linux */
    FK_PAGES_NEW,     /* some pages did not exist before; the system has just zeroed them, so they are in the cache */
    FK_PAGES_FAULT,   /* some pages do not exist and cannot be created: a store there would raise SIGBUS */
} fk_pages;

/* Map the pages of a span that do not exist yet, with one call instead of a page fault for each page. */
fk_pages fk_populate(fk_span span);

/* Request huge pages for a span that has no pages yet, so that Linux maps 2 MiB per fault instead of 4 KiB. Systems
 * without huge pages ignore the request. */
void fk_advise_huge_pages(fk_span span);

#endif
