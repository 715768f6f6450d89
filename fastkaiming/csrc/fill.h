/* fill.h - the one header that Cython sees: a plan goes in, a status comes out.
 *
 * The C core never raises, prints or exits, and checks nothing: its arguments arrive valid.
 */
#ifndef FASTKAIMING_FILL_H
#define FASTKAIMING_FILL_H

#include <stddef.h>
#include <stdint.h>

#include "threads.h"

#define FK_STREAM_VERSION 1

typedef enum {
    FK_OK = 0,
    FK_CANCELLED,       /* the watcher asked to stop; part of the buffer is written */
    FK_ISA_UNKNOWN,     /* no kernel table of that name was compiled in */
    FK_ISA_UNSUPPORTED, /* compiled in, but this CPU or this operating system cannot run it */
} fk_status;

/* What is drawn and how it is stored: one kernel each. */
typedef enum {
    FK_WORDS_U32 = 0,
    FK_UNIFORM_F32,
    FK_UNIFORM_F64,
    FK_NORMAL_F32,
    FK_NORMAL_F64,
    FK_CONSTANT_F32, /* the pattern `center` everywhere: the memory's own speed limit */
    FK_CONSTANT_F64,
    FK_TRUNCATED_F32,      /* normal between bounds symmetric about the mean, in single precision throughout */
    FK_TRUNCATED_WIDE_F32, /* between any bounds, by way of double precision */
    FK_TRUNCATED_F64,
    FK_OPERATIONS
} fk_operation;

/* How finished cache lines reach memory. Never shows in the bits. */
typedef enum {
    FK_STORE_AUTO = 0, /* streaming for fills that no cache would hold */
    FK_STORE_PLAIN,
    FK_STORE_STREAMING
} fk_store;

/* The numbers of a distribution, in the working precision of the operation (float32 values are exact in a double). */
typedef struct {
    double scale;  /* normal, truncated: std; uniform: (high - low) / 2 */
    double center; /* normal, truncated: mean; uniform: (low + high) / 2; constant: the value */
    double low;    /* uniform, truncated: no value leaves [low, high] */
    double high;

    /* Truncated alone: Phi, and the tail probability, as linear functions of the word. fastkaiming/quantiles.py */
    double slope;        /* the probability of one word */
    double middle;       /* Phi - 1/2 of the middle word */
    double lower_slope;  /* of the tail probability, in the lower half of the words */
    double lower_anchor; /* the tail probability of word 0 */
    double upper_slope;  /* likewise down from the last word */
    double upper_anchor;
} fk_params;

typedef struct {
    void *out;         /* aligned to its element */
    uint64_t first;    /* row-major index of out[0] in the global tensor */
    uint64_t count;    /* elements; first + count does not pass 2^64 */
    uint64_t seed;     /* the Philox key */
    uint64_t stream;   /* the upper half of the Philox counter */
    fk_operation operation;
    fk_params params;
    fk_store store;
    int threads;       /* at most so many, the caller included; at least 1 */
    fk_watch *watch;   /* or NULL; is told of elements */
    void *context;     /* of the watcher */
} fk_plan;

/* Fill plan->out on the selected instruction set. Returns FK_OK or FK_CANCELLED. */
fk_status fk_fill(const fk_plan *plan);

/* Choose the kernels of every later fill by name; NULL chooses the widest that this machine can run. */
fk_status fk_select_isa(const char *name);

/* The name carried by the selected kernels themselves: "scalar", "avx2", "avx512" or "neon". */
const char *fk_selected_isa(void);

/* The i-th kernel table compiled in that this machine can run, widest first; NULL past the last. */
const char *fk_available_isa(int i);

/* Bytes of one element as the operation stores it. */
size_t fk_element_bytes(fk_operation operation);

/* Can the selected kernels store past the caches? Where not, FK_STORE_STREAMING is FK_STORE_PLAIN. */
int fk_streams(void);

/* Elements of 4 bytes in a chunk, the unit that threads take; tests put their cuts around it. */
size_t fk_chunk_elements(void);

#endif
