/* fill.h - the one header that Cython sees: a plan goes in, a status comes out.
 *
 * The C core never raises, prints or exits, and checks nothing: its arguments arrive valid.
 */
#ifndef FASTKAIMING_FILL_H
#define FASTKAIMING_FILL_H

#include <stddef.h>
#include <stdint.h>

#include "threads/threads.h"

#define FK_STREAM_VERSION 1

typedef enum {
    FK_OK = 0,
    FK_CANCELLED,       /* the watcher asked to stop; part of the buffer is written */
    FK_ISA_UNKNOWN,     /* no kernel table of that name was compiled in */
    FK_ISA_UNSUPPORTED, /* compiled in, but this CPU or this operating system cannot run it */
    FK_NO_MEMORY,
    FK_FAULT, /* the system could not give the memory of some elements; part of the buffer is written */
} fk_status;

/* What is drawn, in which precision: one kernel each. */
typedef enum {
    FK_WORDS_U32 = 0,
    FK_UNIFORM_F32,
    FK_UNIFORM_F64,
    FK_NORMAL_F32,
    FK_NORMAL_F64,
    FK_CONSTANT_F32, /* the pattern `center` everywhere: the memory's own speed limit */
    FK_CONSTANT_F64,
    FK_TRUNCATED_F32, /* a normal distribution between bounds that are symmetric about its mean */
    FK_TRUNCATED_F64, /* between any bounds */
    FK_OPERATIONS
} fk_operation;

/* How finished cache lines reach memory. Never shows in the bits. */
typedef enum {
    FK_STORE_AUTO = 0, /* streaming for fills that no cache would hold, where that is faster */
    FK_STORE_PLAIN,
    FK_STORE_STREAMING
} fk_store;

/* The numbers of a distribution, in the working precision of the operation (float32 values are exact in a double). */
typedef struct {
    double scale;  /* normal, truncated: std; uniform: (high - low) / 2 */
    double center; /* normal, truncated: mean; uniform: (low + high) / 2; constant: the value */
    double low;    /* uniform, truncated: the least number that may be stored */
    double high;   /* uniform, truncated: the greatest; of a uniform it is below the upper bound */

    /* Truncated normals only: Phi, and the tail probability, as linear functions of the word, from _normal_cdf.py. */
    double slope;        /* the probability of one word; in single precision three times that, and so the anchor */
    double anchor;       /* Phi - 1/2 of the middle word */
    double lower_slope;  /* of the tail probability, below the middle word */
    double lower_anchor; /* the tail probability of word 0 */
    double upper_slope;  /* likewise down from the last word */
    double upper_anchor;
} fk_params;

/* What an element is rounded to on its way to memory, to nearest, ties to even. FK_FLOAT32 is for FK_TRUNCATED_F64. The
 * narrower formats take the values of operations in single precision, and those of FK_TRUNCATED_F64 once they are
 * rounded to float32; none of them may round to more than the format's greatest number. */
typedef enum {
    FK_AS_DRAWN = 0,
    FK_FLOAT32,
    FK_FLOAT16,
    FK_BFLOAT16,
    FK_FLOAT8_E4M3FN,
    FK_FLOAT8_E5M2,
    FK_FORMATS,
} fk_format;

enum { FK_MAX_AXES = 64 };

/* An axis of the array that is filled. */
typedef struct {
    uint64_t size;
    int64_t stride; /* bytes of memory from one element to the next */
    uint64_t step;  /* the same in the row-major index of the global tensor */
} fk_axis;

/* Which elements of which stream go where: what makes a fill, whatever the array looks like. Element (i, j, ...) of the
 * array has the index first + i axes[0].step + j axes[1].step + ... and lies at out + i axes[0].stride + ... */
typedef struct {
    void *out;           /* of any alignment */
    const fk_axis *axes; /* outermost first: a step is longer than the axes behind it are in all */
    int axis_count;      /* from 0, for a single element, to FK_MAX_AXES */
    uint64_t first;      /* the index of the array's first element; no index passes 2^64 */
    uint64_t key;        /* of Philox; key.h makes it of a seed */
    uint64_t stream;     /* the upper half of the Philox counter */
    fk_operation operation;
    fk_params params;
    fk_format format;
    int swapped; /* are elements stored in the byte order that is not this machine's? */
    fk_store store;
} fk_plan;

/* Fill the arrays of all plans, side by side on at most `threads` threads, the caller included. `watch`, or NULL, is
 * told of elements. Returns FK_OK, FK_CANCELLED, FK_FAULT, or FK_NO_MEMORY before anything is written. */
fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context);

/* Choose the kernels of every later fill by name; NULL chooses the fastest that this machine can run. */
fk_status fk_select_isa(const char *name);

/* The name carried by the selected kernels themselves: "scalar", "avx2", "avx512", "avx512ifma" or "neon". */
const char *fk_selected_isa(void);

/* The i-th kernel table compiled in that this machine can run, fastest first; NULL past the last. */
const char *fk_available_isa(int i);

/* Is there a store of this operation's values in that format? */
int fk_can_round(fk_operation operation, fk_format format);

/* Bytes of one element as the operation draws it, and as the format stores it. */
size_t fk_drawn_bytes(fk_operation operation);
size_t fk_stored_bytes(fk_operation operation, fk_format format);

/* Can the selected kernels store past the caches? Where not, FK_STORE_STREAMING is FK_STORE_PLAIN. */
int fk_streams(void);

/* Elements of 4 bytes that a thread takes at a time, at the most; tests put their cuts around it. */
size_t fk_chunk_elements(void);

#endif
