/* fill.h - the interface of the C core: fk_fill takes plans and returns a status.
 *
 * The core raises no exceptions, prints nothing and never exits. It does not check its arguments: the caller passes
 * valid ones. */
#ifndef FASTKAIMING_FILL_H
#define FASTKAIMING_FILL_H

#include <stddef.h>
#include <stdint.h>

#include "threads/threads.h"

#define FK_STREAM_VERSION 1

typedef enum {
    FK_OK = 0,
    FK_CANCELLED,       /* the watcher returned a value other than 0; a part of the buffer is written */
    FK_ISA_UNKNOWN,     /* no kernels of that name were compiled in */
    FK_ISA_UNSUPPORTED, /* compiled in, but this CPU or this operating system cannot run them */
    FK_NO_MEMORY,
    FK_FAULT, /* some of the memory could not be written; a part of the buffer is written */
} fk_status;

/* The distribution to sample, and the precision of the arithmetic. Each operation has a kernel. */
typedef enum {
    FK_WORDS_U32 = 0,
    FK_UNIFORM_F32,
    FK_UNIFORM_F64,
    FK_NORMAL_F32,
    FK_NORMAL_F64,
    FK_CONSTANT_F32, /* every element has the bits of `center`; also used to measure how fast memory can be written */
    FK_CONSTANT_F64,
    FK_TRUNCATED_F32, /* a normal distribution truncated to bounds that are symmetric about its mean */
    FK_TRUNCATED_F64, /* a normal distribution truncated to any bounds */
    FK_OPERATIONS
} fk_operation;

/* How values are stored. The choice never affects the values. */
typedef enum {
    FK_STORE_AUTO = 0, /* streaming stores for fills larger than the caches, if the CPU is faster with them */
    FK_STORE_PLAIN,
    FK_STORE_STREAMING
} fk_store;

/* The parameters of a distribution in the working precision of the operation. A double holds float32 values exactly. */
typedef struct {
    double scale;  /* normal, truncated: std; uniform: (high - low) / 2 */
    double center; /* normal, truncated: mean; uniform: (low + high) / 2; constant: the value */
    double low;    /* uniform, truncated: the smallest value that may be stored */
    double high;   /* uniform, truncated: the largest such value; for a uniform, it is below the upper bound */

    /* Truncated normals only: Phi and the tail probability as linear functions of the word, computed by _normal_cdf.py.
     */
    double slope; /* the probability of one word; in single precision, slope and intercept are three times as large */
    double intercept;       /* Phi - 1/2 at the middle word */
    double lower_slope;     /* the slope of the tail probability below the middle word */
    double lower_intercept; /* the tail probability of word 0 */
    double upper_slope;     /* the same two above the middle word, as functions of the distance from the last word */
    double upper_intercept;
} fk_params;

/* The format to which an element is rounded before it is stored, to nearest, ties to even. FK_FLOAT32 is for
 * FK_TRUNCATED_F64 only. The narrower formats take values of single precision; values of FK_TRUNCATED_F64 are first
 * rounded to float32. No value may round to more than the largest finite number of the format. */
typedef enum {
    FK_UNROUNDED = 0,
    FK_FLOAT32,
    FK_FLOAT16,
    FK_BFLOAT16,
    FK_FLOAT8_E4M3FN,
    FK_FLOAT8_E5M2,
    FK_FORMATS,
} fk_format;

enum { FK_MAX_AXES = 64 };

/* One axis of the array to fill. */
typedef struct {
    uint64_t size;
    int64_t stride; /* bytes in memory from one element to the next */
    uint64_t step;  /* the same distance in the row-major index of the whole tensor */
} fk_axis;

/* A fill: which elements of which stream are stored at which addresses. Element (i, j, ...) of the array has the index
 * first + i axes[0].step + j axes[1].step + ... and lies at out + i axes[0].stride + ... */
typedef struct {
    void *out;           /* of any alignment */
    const fk_axis *axes; /* outermost first; each step exceeds the largest index offset within the axes after it */
    int axis_count;      /* 0 (a single element) to FK_MAX_AXES */
    uint64_t first;      /* the index of the array's first element; all indices are below 2^64 */
    uint64_t key;        /* the Philox key, which key.h derives from a seed */
    uint64_t stream;     /* the upper half of the Philox counter */
    fk_operation operation;
    fk_params params;
    fk_format format;
    int byte_swapped; /* whether elements are stored in the byte order opposite to this machine's */
    fk_store store;
} fk_plan;

/* Fill the arrays of all plans on at most `threads` threads, including the calling one. `watch` may be NULL; it
 * receives the number of elements done. Returns FK_OK, FK_CANCELLED, FK_FAULT or FK_NO_MEMORY. If it
 * returns FK_NO_MEMORY, nothing is written. */
fk_status fk_fill(const fk_plan *plans, size_t count, int threads, fk_watch *watch, void *context);

/* Select by name the kernels of all later fills. NULL selects the fastest that this machine can run. */
fk_status fk_select_isa(const char *name);

/* Return the name of the selected kernels: "scalar", "avx2", "avx512", "avx512ifma" or "neon". */
const char *fk_selected_isa(void);

/* Return the name of the i-th set of kernels that this machine can run, fastest first, or NULL past the last. */
const char *fk_available_isa(int i);

/* Return whether the values of an operation can be stored in a format. */
int fk_can_round(fk_operation operation, fk_format format);

/* The bytes of one element in the precision of the operation, and in the format in which it is stored. */
size_t fk_sampled_bytes(fk_operation operation);
size_t fk_stored_bytes(fk_operation operation, fk_format format);

/* Return whether the selected kernels have streaming stores. If not, FK_STORE_STREAMING means FK_STORE_PLAIN. */
int fk_has_streaming_stores(void);

/* The largest number of 4-byte elements in a work unit. Tests choose array sizes around it. */
size_t fk_max_work_unit_elements(void);

#endif
