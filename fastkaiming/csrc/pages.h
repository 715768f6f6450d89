/* pages.h - what a fill asks of the operating system about the memory that it is about to write. */
#ifndef FASTKAIMING_PAGES_H
#define FASTKAIMING_PAGES_H

#include <stdint.h>

/* The addresses [begin, end). */
typedef struct { uintptr_t begin, end; } fk_span;

typedef enum {
    FK_PAGES_PRESENT, /* the memory was touched before, or nothing is known of it, as on systems other than Linux */
    FK_PAGES_NEW,     /* some of it had no page until now, and the system has just zeroed that, in the cache */
    FK_PAGES_FAULT,   /* some of it has no page and cannot get one: a store there would raise SIGBUS */
} fk_pages;

/* Give the memory of a span pages, where it has none, in one call instead of a page fault for each. */
fk_pages fk_populate(fk_span span);

/* Ask for huge pages under the memory of a span, if that has no pages yet: Linux then maps 2 MiB at a fault, not 4 KiB.
 * A system without huge pages ignores it. */
void fk_advise_huge_pages(fk_span span);

#endif
